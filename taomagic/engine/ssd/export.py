"""``ssd export``: a checkpoint as an ONNX model with its post-processing inside."""

from __future__ import annotations

import argparse
import logging

from taomagic.engine.export.command import Plan
from taomagic.engine.export.command import run as run_export
from taomagic.engine.export.deepstream import DeepStreamModel
from taomagic.engine.export.nms import COUNTS, DETECTIONS
from taomagic.engine.ssd import weights
from taomagic.engine.ssd.model import Architecture
from taomagic.engine.ssd.onnx_export import INPUT, export_with_scales, input_mean
from taomagic.errors import UsageProblem
from taomagic.project.paths import PathMap
from taomagic.spec.settings import SSDExperiment
from taomagic.spec.ssd import read_experiment

logger = logging.getLogger(__name__)


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``ssd export``."""
    run_export(args, paths, title="SSD", prepare=_prepare)


def _prepare(args: argparse.Namespace, paths: PathMap) -> Plan:
    """Read spec and model."""
    if not args.spec:
        raise UsageProblem(
            "export needs the spec, because the post-processing in the exported model comes from its nms_config",
            where="ssd export",
            hint="Add -e with the spec that the model was trained with.",
        )
    experiment = read_experiment(paths.to_host(args.spec), purpose="export", shown_as=args.spec)
    assert experiment.nms is not None
    if experiment.nms.infer_nms_score_bits:
        logger.warning(
            "infer_nms_score_bits is for TensorRT's plugin; the standard operators used here have no such bits."
        )
    model, _ = weights.model_from_file(paths.to_host(args.model), args.key, shown_as=args.model)
    return Plan(
        model=model,
        architecture=model.architecture,
        export=lambda opset, batch_size: export_with_scales(
            model, experiment, opset=opset, batch_size=batch_size
        ),
        inputs=(INPUT,),
        outputs=(DETECTIONS, COUNTS),
        deepstream=deepstream_model(model.architecture, experiment),
    )


def deepstream_model(architecture: Architecture, experiment: SSDExperiment) -> DeepStreamModel:
    """Return what DeepStream has to know about an exported SSD."""
    return DeepStreamModel(
        input_shape=architecture.input_shape,
        scale=1.0,
        mean=input_mean(architecture, experiment),
        colours="grey" if architecture.input_shape[0] == 1 else "BGR",
        labels=("background", *architecture.classes),
        outputs=(DETECTIONS, COUNTS),
        notes=(
            "The rows of NMS are read by the parser of NVIDIA's deepstream_tao_apps:",
            "parse-bbox-func-name=NvDsInferParseCustomNMSTLT",
            "custom-lib-path=/path/to/libnvds_infercustomparser_tao.so",
        ),
    )
