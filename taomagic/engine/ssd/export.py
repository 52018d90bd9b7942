"""``ssd export``: a checkpoint as an ONNX model with its post-processing inside."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from taomagic.engine.console import say
from taomagic.engine.export.deepstream import write_deepstream_files
from taomagic.engine.export.onnx import export_with_scales
from taomagic.engine.export.tensor_scales import write_scales
from taomagic.engine.ssd import weights
from taomagic.engine.ssd.model import SSD, parameter_count
from taomagic.engine.status import StatusLog
from taomagic.engine.storage.model_file import write_onnx
from taomagic.errors import UsageProblem
from taomagic.project.paths import PathMap
from taomagic.spec.ssd import read_experiment

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``ssd export``."""
    _refuse_calibration(args)
    if not args.spec:
        raise UsageProblem(
            "export needs the spec, because the post-processing in the exported model comes from its nms_config",
            where="ssd export",
            hint="Add -e with the spec that the model was trained with.",
        )
    target = _target(args, paths)
    status = StatusLog(paths.to_host(args.results_dir) if args.results_dir else None)
    experiment = read_experiment(paths.to_host(args.spec), purpose="export", shown_as=args.spec)
    assert experiment.nms is not None
    model, _ = weights.model_from_file(paths.to_host(args.model), args.key, shown_as=args.model)
    scales_file = _scales_file(args, paths, model)
    status.write("STARTED", "Starting SSD export.")
    model.eval()
    batch_size = args.static_batch_size if args.static_batch_size > 0 else None
    exported = export_with_scales(model, experiment, opset=args.target_opset, batch_size=batch_size)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_onnx(target, exported.model, args.key)
    if experiment.nms.infer_nms_score_bits:
        logger.warning(
            "infer_nms_score_bits is for TensorRT's plugin; the standard operators used here have no such bits."
        )
    logger.info("Exported with input nodes ['Input'] and output nodes ['NMS', 'NMS_1'].")
    say(f"Saved: {paths.to_container(target)}")
    if scales_file is not None:
        write_scales(scales_file, exported.tensor_scales)
        logger.info(
            "The scales of %d tensors are in the file for the calibration.", len(exported.tensor_scales)
        )
        say(f"Saved: {paths.to_container(scales_file)}")
    if args.gen_ds_config:
        for path in write_deepstream_files(target, model.architecture, experiment, key=args.key):
            say(f"Saved: {paths.to_container(path)}")
    status.write(
        "SUCCESS",
        "Export finished successfully.",
        payload={"param_count": parameter_count(model) / 1e6, "size": target.stat().st_size / 2**20},
    )


def _target(args: argparse.Namespace, paths: PathMap) -> Path:
    """Return where the export goes: ``-o``, or the model's name with ``.etlt`` (encrypted) or ``.onnx``."""
    suffix = ".etlt" if args.key else ".onnx"
    if not args.output:
        return paths.to_host(args.model).with_suffix(suffix)
    target = paths.to_host(args.output)
    if target.suffix in {".etlt", ".onnx"}:
        return target
    return target.with_name(target.name + suffix)


def _scales_file(args: argparse.Namespace, paths: PathMap, model: SSD) -> Path | None:
    """Return where the tensor scales go; warn where a network has some, and they aren't written."""
    if args.cal_json_file and not model.architecture.quantized:
        raise UsageProblem(
            "--cal_json_file: this model wasn't trained with enable_qat, so it has no tensor scales to write",
            where=args.model,
            hint="Leave --cal_json_file out, or export a model from a training with enable_qat: true.",
        )
    if model.architecture.quantized and not args.cal_json_file:
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
                where="ssd export",
                hint=f"Leave {flag} out; the .onnx or .etlt can be calibrated later.",
            )
