"""``detectnet_v2 export``: a checkpoint as an ONNX model that gives coverage and boxes."""

from __future__ import annotations

import argparse

from taomagic.engine.detectnet_v2 import weights
from taomagic.engine.detectnet_v2.gen_trt_engine import image_folders
from taomagic.engine.detectnet_v2.model import Architecture
from taomagic.engine.detectnet_v2.onnx_export import INPUT, INPUT_SCALE, export_with_scales
from taomagic.engine.detectnet_v2.predictor import BOXES, COVERAGE
from taomagic.engine.export.command import Plan
from taomagic.engine.export.command import run as run_export
from taomagic.engine.export.deepstream import DeepStreamModel
from taomagic.errors import UsageProblem
from taomagic.project.paths import PathMap
from taomagic.spec.detectnet_v2 import DetectNetExperiment, read_experiment
from taomagic.spec.settings_detectnet_v2 import ClusteringSettings

#: ``cluster-mode`` of nvinfer.
_CLUSTER_MODES = {"DBSCAN": 1, "NMS": 2, "HYBRID": 3}
#: What nvinfer's own parser of such outputs takes for the scale and the offset of the boxes.
_NVINFER_SCALE, _NVINFER_OFFSET = 35.0, 0.5


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``detectnet_v2 export``."""
    run_export(args, paths, title="DetectNet_v2", prepare=_prepare)


def _prepare(args: argparse.Namespace, paths: PathMap) -> Plan:
    """Read the model, and the spec if there is one."""
    experiment = None
    if args.spec:
        experiment = read_experiment(paths.to_host(args.spec), purpose="export", shown_as=args.spec)
    model, _ = weights.model_from_file(paths.to_host(args.model), args.key, shown_as=args.model)
    if experiment is not None and set(experiment.classes) != set(model.architecture.classes):
        raise UsageProblem(
            f"the spec has the classes {', '.join(experiment.classes)}, and the model "
            f"{', '.join(model.architecture.classes)}",
            where=args.spec,
            hint="Give -e with the spec that the model was trained with, or leave -e out.",
        )
    return Plan(
        model=model,
        architecture=model.architecture,
        export=lambda opset, batch_size: export_with_scales(
            model, experiment, opset=opset, batch_size=batch_size
        ),
        inputs=(INPUT,),
        outputs=(BOXES, COVERAGE),
        deepstream=deepstream_model(model.architecture, experiment),
        image_folders=tuple(image_folders(args, paths)) if args.spec else (),
    )


def deepstream_model(architecture: Architecture, experiment: DetectNetExperiment | None) -> DeepStreamModel:
    """Return what DeepStream has to know about an exported DetectNet_v2."""
    clustering = {} if experiment is None else dict(experiment.clustering)
    channels = architecture.input_shape[0]
    algorithms = {each.algorithm for each in clustering.values()}
    # nvinfer clusters all classes in one way. Without a spec, or where it differs by class: TAO's usual way.
    mode = _CLUSTER_MODES[algorithms.pop() if len(algorithms) == 1 else "DBSCAN"]
    notes = ["nvinfer's own parser reads these outputs: there is no parse-bbox-func-name to set."]
    if (architecture.bbox_scale, architecture.bbox_offset) != (_NVINFER_SCALE, _NVINFER_OFFSET):
        notes += [
            f"It takes the scale of the boxes for {_NVINFER_SCALE:g} and their offset for {_NVINFER_OFFSET:g}. This "
            f"model has {architecture.bbox_scale:g} and {architecture.bbox_offset:g}:",
            "its boxes would be wrong there, and need a parser of your own (parse-bbox-func-name, custom-lib-path).",
        ]
    if clustering:
        notes.append("The spec's thresholds, for groups of their own behind [property]:")
        for number, name in enumerate(architecture.classes):
            if name in clustering:
                notes += [f"[class-attrs-{number}]", *_class_attributes(clustering[name])]
    return DeepStreamModel(
        input_shape=architecture.input_shape,
        scale=INPUT_SCALE,
        mean=(0.0,) * channels,
        colours="grey" if channels == 1 else "RGB",
        labels=architecture.classes,
        outputs=(BOXES, COVERAGE),
        settings=(f"cluster-mode={mode}",),
        notes=notes,
    )


def _class_attributes(clustering: ClusteringSettings) -> list[str]:
    """Return the lines of a class in nvinfer's words."""
    lines = [
        f"pre-cluster-threshold={clustering.coverage_threshold:g}",
        f"detected-min-h={clustering.minimum_bounding_box_height}",
    ]
    if clustering.algorithm in {"DBSCAN", "HYBRID"}:
        lines += [
            f"eps={clustering.dbscan_eps:g}",
            f"minBoxes={max(int(clustering.dbscan_min_samples), 1)}",
            f"dbscan-min-score={clustering.dbscan_confidence_threshold:g}",
        ]
    if clustering.algorithm in {"NMS", "HYBRID"} and clustering.nms_iou_threshold is not None:
        lines.append(f"nms-iou-threshold={clustering.nms_iou_threshold:g}")
    return lines
