"""``ssd export``: a checkpoint as an ONNX model with its post-processing inside."""

from __future__ import annotations

import argparse
import logging

from taomagic.engine.export.command import Plan
from taomagic.engine.export.command import run as run_export
from taomagic.engine.export.deepstream import DeepStreamModel
from taomagic.engine.export.nms_plugins import Suppression
from taomagic.engine.ssd import weights
from taomagic.engine.ssd.gen_trt_engine import image_folders
from taomagic.engine.ssd.model import Architecture
from taomagic.engine.ssd.onnx_export import INPUT, OUTPUTS, export_with_scales, input_mean
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
    suppression: Suppression = args.nms
    if experiment.nms.infer_nms_score_bits and suppression != "nms_dynamic_trt":
        logger.warning("infer_nms_score_bits has no effect: only --nms nms_dynamic_trt has such bits.")
    if suppression != "onnx":
        logger.info(
            "--nms %s: only TensorRT runs this model; ONNX Runtime has no such operator.", suppression
        )
    model, _ = weights.model_from_file(paths.to_host(args.model), args.key, shown_as=args.model)
    return Plan(
        model=model,
        architecture=model.architecture,
        export=lambda opset, batch_size: export_with_scales(
            model, experiment, opset=opset, batch_size=batch_size, suppression=suppression
        ),
        inputs=(INPUT,),
        outputs=OUTPUTS[suppression],
        deepstream=deepstream_model(model.architecture, experiment, suppression),
        image_folders=tuple(image_folders(args, paths)),
        only_tensorrt="" if suppression == "onnx" else f"--nms {suppression}",
    )


def deepstream_model(
    architecture: Architecture, experiment: SSDExperiment, suppression: Suppression = "onnx"
) -> DeepStreamModel:
    """Return what DeepStream has to know about an exported SSD."""
    notes: tuple[str, ...]
    if suppression == "efficient_nms_trt":
        notes = (
            "The outputs of EfficientNMS_TRT need a parser of your own (parse-bbox-func-name, custom-lib-path);",
            "the corners in detection_boxes are shares of the image.",
        )
    else:
        notes = (
            "The rows of NMS are read by the parser of NVIDIA's deepstream_tao_apps:",
            "parse-bbox-func-name=NvDsInferParseCustomNMSTLT",
            "custom-lib-path=/path/to/libnvds_infercustomparser_tao.so",
        )
    return DeepStreamModel(
        input_shape=architecture.input_shape,
        scale=1.0,
        mean=input_mean(architecture, experiment),
        colours="grey" if architecture.input_shape[0] == 1 else "BGR",
        labels=("background", *architecture.classes),
        outputs=OUTPUTS[suppression],
        # The boxes are suppressed in the model. nvinfer's default would group them again, and lose their confidences.
        settings=("cluster-mode=4",),
        notes=notes,
    )
