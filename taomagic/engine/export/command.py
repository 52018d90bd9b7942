"""``export`` of every network: a checkpoint as an ONNX model, and the files that belong to it."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from taomagic.engine.console import say
from taomagic.engine.export.build_engine import build_engine, cache_of, check_wishes, is_wanted
from taomagic.engine.export.deepstream import DeepStreamModel, write_deepstream_files
from taomagic.engine.export.onnx import Description, Exported, require_opset
from taomagic.engine.export.tensor_scales import write_scales
from taomagic.engine.status import StatusLog
from taomagic.engine.storage import nvidia_codec
from taomagic.engine.storage.model_file import EXPORT_SUFFIXES, write_onnx
from taomagic.engine.weights.state import parameter_count
from taomagic.errors import UsageProblem
from taomagic.project.paths import PathMap

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """A network that is ready to be exported.

    Attributes
    ----------
    model, architecture
        The network and its description.
    export
        Makes the ONNX model from the operator set and the batch size (``None``: any).
    inputs, outputs
        Names of the exported model's tensors.
    deepstream
        What DeepStream has to know.
    image_folders
        Folders of the spec, as written, with whose images a calibration can be made.
    only_tensorrt
        The flag by which the model has operators that only TensorRT knows, if it has some.
    """

    model: nn.Module
    architecture: Description
    export: Callable[[int, int | None], Exported]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    deepstream: DeepStreamModel
    image_folders: tuple[str, ...] = ()
    only_tensorrt: str = ""


def run(
    args: argparse.Namespace,
    paths: PathMap,
    *,
    title: str,
    prepare: Callable[[argparse.Namespace, PathMap], Plan],
) -> None:
    """Carry out ``export``.

    Parameters
    ----------
    args
        The parsed command.
    paths
        Container paths to host paths.
    title
        The network's name in messages.
    prepare
        Reads what the command names, and says how this network is exported.
    """
    require_opset(args.target_opset)
    target = _target(args, paths)
    if args.codec == "nvidia":
        _check_codec(args, target)
    status = StatusLog(paths.to_host(args.results_dir) if args.results_dir else None)
    plan = prepare(args, paths)
    scales_file = _scales_file(args, paths, plan.architecture)
    _check_files(args, paths, target)
    check_wishes(
        args,
        paths,
        quantized=plan.architecture.quantized,
        folders=plan.image_folders,
        only_tensorrt=plan.only_tensorrt,
    )
    status.write("STARTED", f"Starting {title} export.")
    if args.onnx_route is not None:
        logger.info("--onnx_route %s: taomagic writes ONNX itself, the same on every route.", args.onnx_route)
    exported = plan.export(args.target_opset, args.static_batch_size if args.static_batch_size > 0 else None)
    target.parent.mkdir(parents=True, exist_ok=True)
    if args.codec == "nvidia":
        nvidia_codec.write_etlt(target, exported.model, args.key)
    else:
        write_onnx(target, exported.model, args.key)
    logger.info("Exported with input nodes %s and output nodes %s.", _list(plan.inputs), _list(plan.outputs))
    say(f"Saved: {paths.to_container(target)}")
    if scales_file is not None:
        write_scales(scales_file, exported.tensor_scales)
        logger.info(
            "The scales of %d tensors are in the file for the calibration.", len(exported.tensor_scales)
        )
        say(f"Saved: {paths.to_container(scales_file)}")
    if args.gen_ds_config:
        cache = cache_of(args, paths, target) if args.data_type == "int8" else None
        for path in write_deepstream_files(
            target, plan.deepstream, codec=args.codec, data_type=args.data_type, calibration=cache
        ):
            say(f"Saved: {paths.to_container(path)}")
    if is_wanted(args):
        build_engine(
            args,
            paths,
            exported.model,
            target=target,
            scales=exported.tensor_scales,
            folders=plan.image_folders,
        )
    size: dict[str, Any] = {
        "param_count": parameter_count(plan.model) / 1e6,
        "size": target.stat().st_size / 2**20,
    }
    status.write("SUCCESS", "Export finished successfully.", payload=size)


def _list(names: tuple[str, ...]) -> str:
    return str(list(names))


def _target(args: argparse.Namespace, paths: PathMap) -> Path:
    """Return where the export goes: ``-o``, or the model's name with ``.etlt`` (encrypted) or ``.onnx``."""
    suffix = ".etlt" if args.key else ".onnx"
    if not args.output:
        return paths.to_host(args.model).with_suffix(suffix)
    target = _file_to_write("-o", args.output, paths, example=f"model{suffix}")
    return target if target.suffix in EXPORT_SUFFIXES else target.with_name(target.name + suffix)


def _check_codec(args: argparse.Namespace, target: Path) -> None:
    """Refuse, before anything is computed, what can't be written in NVIDIA's encryption."""
    if target.suffix != ".etlt":
        raise UsageProblem(
            f"--codec nvidia is an encryption for .etlt files, and {target.name} is a plain one",
            where=args.output or args.model,
            hint="Give -o a name that ends in .etlt, and a key with -k; or leave --codec out.",
        )
    nvidia_codec.require_installed()


def _scales_file(args: argparse.Namespace, paths: PathMap, architecture: Description) -> Path | None:
    """Return where the tensor scales go; warn where a network has some, and they aren't written."""
    if args.cal_json_file and not architecture.quantized:
        raise UsageProblem(
            "--cal_json_file: this model wasn't trained with enable_qat, so it has no tensor scales to write",
            where=args.model,
            hint="Leave --cal_json_file out, or export a model from a training with enable_qat: true.",
        )
    if architecture.quantized and not args.cal_json_file and args.data_type != "int8":
        logger.warning(
            "This model was trained with enable_qat, and without --cal_json_file its tensor scales are lost: "
            "what is exported here can run in floating point only."
        )
    if not args.cal_json_file:
        return None
    return _file_to_write("--cal_json_file", args.cal_json_file, paths, example="cal.json")


def _check_files(args: argparse.Namespace, paths: PathMap, target: Path) -> None:
    """Refuse folders where files are written, and one name for two files."""
    taken = {paths.to_host(args.model).resolve(): "-m", target.resolve(): "-o"}
    for name, example in (
        ("cal_json_file", "cal.json"),
        ("cal_cache_file", "cal.bin"),
        ("engine_file", "model.engine"),
    ):
        if not getattr(args, name):
            continue
        path = _file_to_write(f"--{name}", getattr(args, name), paths, example=example).resolve()
        if path in taken:
            raise UsageProblem(
                f"{taken[path]} and --{name} name the same file",
                where=getattr(args, name),
                hint=f"Give --{name} another name, such as {example}.",
            )
        taken[path] = f"--{name}"


def _file_to_write(flag: str, name: str, paths: PathMap, *, example: str) -> Path:
    path = paths.to_host(name)
    if path.is_dir():
        raise UsageProblem(
            f"{flag} is a folder, and must be a file to write",
            where=name,
            hint=f"Add a name to it, such as {example}.",
        )
    return path
