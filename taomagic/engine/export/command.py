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
from taomagic.engine.export.deepstream import DeepStreamModel, write_deepstream_files
from taomagic.engine.export.onnx import Description, Exported, require_opset
from taomagic.engine.export.tensor_scales import write_scales
from taomagic.engine.status import StatusLog
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
    """

    model: nn.Module
    architecture: Description
    export: Callable[[int, int | None], Exported]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    deepstream: DeepStreamModel


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
    _refuse_calibration(args)
    require_opset(args.target_opset)
    target = _target(args, paths)
    status = StatusLog(paths.to_host(args.results_dir) if args.results_dir else None)
    plan = prepare(args, paths)
    scales_file = _scales_file(args, paths, plan.architecture)
    status.write("STARTED", f"Starting {title} export.")
    if args.onnx_route is not None:
        logger.info("--onnx_route %s: taomagic writes ONNX itself, the same on every route.", args.onnx_route)
    exported = plan.export(args.target_opset, args.static_batch_size if args.static_batch_size > 0 else None)
    target.parent.mkdir(parents=True, exist_ok=True)
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
        for path in write_deepstream_files(target, plan.deepstream, key=args.key):
            say(f"Saved: {paths.to_container(path)}")
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
    target = paths.to_host(args.output)
    if target.is_dir():
        raise UsageProblem(
            "-o is a folder, and must be a file to write",
            where=args.output,
            hint=f"Add a name to it, such as model{suffix}.",
        )
    return target if target.suffix in EXPORT_SUFFIXES else target.with_name(target.name + suffix)


def _scales_file(args: argparse.Namespace, paths: PathMap, architecture: Description) -> Path | None:
    """Return where the tensor scales go; warn where a network has some, and they aren't written."""
    if args.cal_json_file and not architecture.quantized:
        raise UsageProblem(
            "--cal_json_file: this model wasn't trained with enable_qat, so it has no tensor scales to write",
            where=args.model,
            hint="Leave --cal_json_file out, or export a model from a training with enable_qat: true.",
        )
    if architecture.quantized and not args.cal_json_file:
        logger.warning(
            "This model was trained with enable_qat, and without --cal_json_file its tensor scales are lost: "
            "what is exported here can run in floating point only."
        )
    if not args.cal_json_file:
        return None
    path = paths.to_host(args.cal_json_file)
    if path.is_dir():
        raise UsageProblem(
            "--cal_json_file is a folder, and must be a file to write",
            where=args.cal_json_file,
            hint="Add a name to it, such as cal.json.",
        )
    return path


def _refuse_calibration(args: argparse.Namespace) -> None:
    """Say no to what export can't do yet, rather than write a file that lacks it."""
    asked = {
        "--data_type": args.data_type not in {None, "fp32"},
        "--engine_file": bool(args.engine_file),
    }
    for flag, given in asked.items():
        if given:
            raise UsageProblem(
                f"{flag}: the embedded engine exports float32 models without calibration",
                where=f"{args.task} export",
                hint=f"Leave {flag} out; the .onnx or .etlt can be calibrated later.",
            )
