"""``gen_trt_engine`` of every network: an engine from an exported model."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from taomagic.engine.console import duration, say
from taomagic.engine.converter import tensorrt, tensorrt_build
from taomagic.engine.converter.build import Source, build, prepare
from taomagic.engine.converter.engine_file import read_exported, write_engine
from taomagic.engine.converter.ranges import find_ranges
from taomagic.engine.converter.runtime import Profile
from taomagic.engine.device import choose_device
from taomagic.engine.status import StatusLog
from taomagic.errors import ModelFileProblem, UsageProblem
from taomagic.project.paths import PathMap

logger = logging.getLogger(__name__)

_INT8_ONLY = ("cal_image_dir", "cal_data_file", "cal_cache_file", "cal_json_file")


def run(
    args: argparse.Namespace,
    paths: PathMap,
    *,
    task: str,
    title: str,
    image_folders: Callable[[argparse.Namespace, PathMap], Sequence[str]],
) -> None:
    """Carry out ``gen_trt_engine``.

    Parameters
    ----------
    args
        The parsed command.
    paths
        Container paths to host paths.
    task, title
        The network, for files and in messages.
    image_folders
        Reads the spec, and returns the folders of images in it, as written.
    """
    check_precision(args)
    profile = wanted_profile(args)
    folders = image_folders(args, paths)
    source = prepare(
        read_exported(paths.to_host(args.model), args.key, shown_as=args.model), shown_as=args.model
    )
    stored = source.metadata.get("task", task)
    if stored != task:
        raise ModelFileProblem(
            f"this is a model of {stored}, not of {task}",
            where=args.model,
            hint=f"Use tao deploy {stored} gen_trt_engine, or tao converter, which takes every model.",
        )
    target = _target(args, paths)
    status = StatusLog(paths.to_host(args.results_dir))
    status.write("STARTED", f"Starting {title} gen_trt_engine.")
    size = make_engine(args, paths, source, profile, target, folders)
    status.write("SUCCESS", "Gen_trt_engine finished successfully.", payload={"size": size})


def check_precision(args: argparse.Namespace) -> None:
    """Refuse what doesn't go together with the precision, and say what has no effect in it."""
    if args.data_type == "int8":
        return
    if args.cal_json_file:
        raise UsageProblem(
            f"--cal_json_file has the scales for int8, and --data_type is {args.data_type}",
            where=f"{args.task} {args.subtask}".strip(),
            hint="Add --data_type int8 (converter: -t int8), or leave --cal_json_file out.",
        )
    for name in _INT8_ONLY:
        if getattr(args, name):
            logger.warning("--%s is not used: it belongs to int8, and this is %s.", name, args.data_type)


def make_engine(
    args: argparse.Namespace,
    paths: PathMap,
    source: Source,
    profile: Profile,
    target: Path,
    folders: Sequence[str] = (),
    *,
    scales: Mapping[str, float] | None = None,
) -> float:
    """Calibrate where that is needed, build, and write an engine.

    Parameters
    ----------
    args
        ``data_type``, ``runtime``, ``max_workspace_size``, ``strict_type_constraints``, the calibration's, and
        perhaps ``dla_core`` and ``gpu_index``.
    paths
        Container paths to host paths.
    source
        The model.
    profile
        Batch sizes.
    target
        The engine, on this machine.
    folders
        Image folders of the spec, as written.
    scales
        Of a quantisation-aware training, where they are at hand.

    Returns
    -------
    float
        Size of the engine in MiB.
    """
    start = time.monotonic()
    _check_files(args, paths, target)
    for_tensorrt = tensorrt.wanted(args.runtime)
    ranges, origin = None, ""
    if args.data_type == "int8":
        ranges, origin = find_ranges(args, paths, source, folders, scales=scales)
    if for_tensorrt:
        options = tensorrt_build.Options(
            workspace_bytes=args.max_workspace_size,
            strict=args.strict_type_constraints,
            dla_core=getattr(args, "dla_core", -1),
            gpu_index=choose_device(args.gpu_index).torch_device.index or 0,
        )
        header = tensorrt_build.write_plan(target, source, args.data_type, profile, ranges, options)
    else:
        _tell_unused(args)
        header, payload = build(source, args.data_type, profile, ranges, origin=origin)
        write_engine(target, header, payload)
    size = target.stat().st_size / 2**20
    logger.info(
        "Built an engine for %s in %s: %s, input %s × %s, batch size %d to %d, outputs %s, %.1f MB.",
        "TensorRT" if for_tensorrt else "ONNX Runtime",
        duration(time.monotonic() - start),
        args.data_type,
        header.input_name,
        " × ".join(map(str, header.input_shape)),
        header.batch.min,
        header.batch.max,
        ", ".join(header.outputs),
        size,
    )
    say(f"Saved: {paths.to_container(target)}")
    return size


def _check_files(args: argparse.Namespace, paths: PathMap, target: Path) -> None:
    """Refuse an engine with the name of a file of its calibration, which it would replace."""
    if args.data_type != "int8":
        return
    for name in ("cal_cache_file", "cal_data_file", "cal_json_file"):
        given = getattr(args, name)
        if given and paths.to_host(given).resolve() == target.resolve():
            raise UsageProblem(
                f"the engine would replace the file of --{name}",
                where=given,
                hint="Give the engine another name.",
            )


def _tell_unused(args: argparse.Namespace) -> None:
    """Say which flags are for TensorRT only."""
    why = "it is for TensorRT, and this engine is for ONNX Runtime"
    if args.strict_type_constraints:
        logger.warning("--strict_type_constraints is not used: %s.", why)
    if getattr(args, "dla_core", -1) >= 0:
        logger.warning("-u %d is not used: %s.", args.dla_core, why)


def wanted_profile(args: argparse.Namespace) -> Profile:
    """Return the batch sizes that a command asks for; those that it doesn't name follow the ones that it does.

    Raises
    ------
    UsageProblem
        They aren't in order.
    """
    least = args.min_batch_size or 1
    usual = args.opt_batch_size or min(least, args.max_batch_size or least)
    profile = Profile(least, usual, args.max_batch_size or max(least, usual))
    if profile.min <= profile.opt <= profile.max:
        return profile
    raise UsageProblem(
        f"--min_batch_size {profile.min}, --opt_batch_size {profile.opt} and --max_batch_size {profile.max} "
        "must not decrease in this order",
        where=f"{args.task} {args.subtask}",
        hint="For example: --min_batch_size 1 --opt_batch_size 4 --max_batch_size 8.",
    )


def _target(args: argparse.Namespace, paths: PathMap) -> Path:
    """Return where the engine goes: ``--engine_file``, or in the results folder with the model's name."""
    if not args.engine_file:
        return paths.to_host(args.results_dir) / f"{Path(args.model).stem}.{args.data_type}.engine"
    target = paths.to_host(args.engine_file)
    if target.is_dir():
        raise UsageProblem(
            "--engine_file is a folder, and must be a file to write",
            where=args.engine_file,
            hint="Add a name to it, such as model.engine.",
        )
    if target.resolve() == paths.to_host(args.model).resolve():
        raise UsageProblem(
            "the engine would replace the model that it is built from",
            where=args.engine_file,
            hint="Give another name with --engine_file.",
        )
    return target
