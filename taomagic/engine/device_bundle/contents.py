"""What a device has to know about a model: the content of ``config.json``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from taomagic import __version__
from taomagic.engine.converter import engine_file
from taomagic.engine.converter.build import Source, prepare
from taomagic.engine.detectnet_v2 import onnx_export as detectnet_onnx
from taomagic.engine.detectnet_v2 import weights as detectnet_weights
from taomagic.engine.detectnet_v2.clustering import DEFAULT_NMS_CONFIDENCE, DEFAULT_NMS_IOU
from taomagic.engine.detectnet_v2.targets import STRIDE
from taomagic.engine.inference.models import is_checkpoint
from taomagic.engine.ssd import onnx_export as ssd_onnx
from taomagic.engine.ssd import weights as ssd_weights
from taomagic.engine.ssd.inference import COLOURS
from taomagic.engine.storage.model_file import load_model
from taomagic.errors import ModelFileProblem, SpecProblem, UsageProblem
from taomagic.project.paths import PathMap
from taomagic.spec import detectnet_v2 as detectnet_spec
from taomagic.spec import ssd as ssd_spec
from taomagic.spec.settings_detectnet_v2 import BboxHandlerSettings, ClusteringSettings

FORMAT = 1
#: Old enough for the parsers of TensorRT 7.2 and newer, and all that our models need.
OPSET = 13
#: Domains of the operators of TensorRT's plugins.
_ONLY_TENSORRT = "TRT"
#: Least confidence of SSD's objects, as `ssd inference` has it.
_SSD_THRESHOLD = 0.3
#: What DBSCAN's clusters are judged by where no inference file says ``mean_cov``.
_USUAL: Final = "aggregate_cov"


@dataclass(frozen=True)
class Contents:
    """What goes into a bundle.

    Attributes
    ----------
    config
        The content of ``config.json``.
    models
        ONNX models by file name.
    for_tensorrt
        Which of them TensorRT builds an engine of; empty: none.
    source
        The model that is described: its input and its batch size.
    notes
        What the person should know.
    """

    config: dict[str, Any]
    models: dict[str, bytes]
    for_tensorrt: str
    source: Source
    notes: tuple[str, ...] = field(default=())

    @property
    def labels(self) -> list[str]:
        """The lines of ``labels.txt``."""
        return [str(entry["label"]) for entry in self.config["objects"]]


def contents_of(args: argparse.Namespace, paths: PathMap) -> Contents:
    """Read a model of any kind, and say what goes into its bundle.

    Parameters
    ----------
    args
        ``model``, ``spec`` and ``key`` of the command.
    paths
        Container paths to host paths.

    Raises
    ------
    ModelFileProblem
        The model can't be read, or doesn't say what it is.
    SpecProblem, UsageProblem
        The spec is missing, wrong, or another model's.
    """
    path = paths.to_host(args.model)
    if is_checkpoint(path, shown_as=args.model):
        return _of_checkpoint(path, args, paths)
    metadata: dict[str, Any] = {}
    bytes_overflow = False
    if engine_file.is_engine(path):
        with path.open("rb") as file:
            if engine_file.is_plan(file.read(8)):
                raise UsageProblem(
                    "this is a plan of TensorRT, which runs on the kind of machine only that it was built on",
                    where=args.model,
                    hint="Give the checkpoint or the exported model (.onnx, .etlt); the device builds its own engine.",
                )
        header, content = engine_file.read_engine(path, shown_as=args.model)
        metadata = header.metadata()
        bytes_overflow = header.notes.get("weight_bits") == 8
    else:
        content = engine_file.read_exported(path, args.key, shown_as=args.model)
    source = prepare(content, shown_as=args.model)
    metadata = metadata or source.metadata
    domains = {node.domain for node in source.model.graph.node} - {"", "ai.onnx"}
    tensorrt = "model.onnx" if domains <= {_ONLY_TENSORRT} else ""
    config = _config(metadata, source, args, paths, bytes_overflow=bytes_overflow)
    config["only_tensorrt"] = domains == {_ONLY_TENSORRT}
    notes = []
    if config["network"] == "ssd" and args.spec:
        notes.append("-e is not used: an exported SSD has its thresholds and its mean inside.")
    if not tensorrt:
        notes.append("This engine runs in ONNX Runtime only. For TensorRT give the exported model.")
    return Contents(config, {"model.onnx": content}, tensorrt, source, tuple(notes))


def _of_checkpoint(path: Path, args: argparse.Namespace, paths: PathMap) -> Contents:
    """Export a checkpoint; an SSD a second time, with TensorRT's own suppression, for the releases before 8.5."""
    models: dict[str, bytes] = {}
    if _task_of(path, args) == "ssd":
        if not args.spec:
            raise _needs_spec("the post-processing inside the model comes from nms_config of the spec")
        experiment = ssd_spec.read_experiment(paths.to_host(args.spec), purpose="export", shown_as=args.spec)
        network, _ = ssd_weights.model_from_file(path, args.key, shown_as=args.model)
        models["model.onnx"] = ssd_onnx.export_onnx(network, experiment, opset=OPSET)
        models["model_tensorrt.onnx"] = ssd_onnx.export_onnx(
            network, experiment, opset=OPSET, suppression="efficient_nms_trt"
        )
        tensorrt = "model_tensorrt.onnx"
    else:
        grid, _ = detectnet_weights.model_from_file(path, args.key, shown_as=args.model)
        models["model.onnx"] = detectnet_onnx.export_with_scales(grid, opset=OPSET).model
        tensorrt = "model.onnx"
    source = prepare(models["model.onnx"], shown_as=args.model)
    config = _config(source.metadata, source, args, paths)
    return Contents(config, models, tensorrt, source)


def _task_of(path: Path, args: argparse.Namespace) -> str:
    """Return the network that a checkpoint holds."""
    try:
        architecture = load_model(path, args.key).architecture
    except ModelFileProblem as problem:
        if problem.where == str(path):
            problem.where = args.model
        raise
    task = str((architecture or {}).get("task", ""))
    if task not in {"ssd", "detectnet_v2"}:
        raise ModelFileProblem(
            "this file holds weights, but not the network of a detector",
            where=args.model,
            hint="Give a model that `ssd train` or `detectnet_v2 train` wrote, or an exported one.",
        )
    return task


def _config(
    metadata: Mapping[str, Any],
    source: Source,
    args: argparse.Namespace,
    paths: PathMap,
    *,
    bytes_overflow: bool = False,
) -> dict[str, Any]:
    """Return the content of ``config.json``."""
    try:
        task, classes = str(metadata["task"]), [str(name) for name in metadata["classes"]]
        channels, height, width = map(int, metadata["input_shape"])
        seen = {
            "name": source.input_name,
            "channels": channels,
            "height": height,
            "width": width,
            "batch": source.fixed_batch or 1,
            "colours": str(metadata["channel_order"]),
            "scale": float(metadata["input_scale"]),
            "mean": [float(level) for level in metadata["mean"]],
        }
        config = {
            "format": FORMAT,
            "written_by": f"taomagic {__version__}",
            "network": task,
            "fingerprint": str(metadata.get("fingerprint", "")),
            "model": "model.onnx",
            "only_tensorrt": False,
            "bytes_overflow": bytes_overflow,
            "input": seen,
        }
        if task == "ssd":
            objects = [
                {"label": name, "colour": list(COLOURS[number % len(COLOURS)])}
                for number, name in enumerate(classes, 1)
            ]
            return {**config, "threshold": _SSD_THRESHOLD, "objects": objects}
        bbox = {
            "scale": float(metadata["bbox_scale"]),
            "offset": float(metadata["bbox_offset"]),
            "stride": STRIDE,
        }
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileProblem(
            f"this model doesn't say what it is and what it sees ({error} is missing or wrong)",
            where=args.model,
            hint="Give a model that `ssd export` or `detectnet_v2 export` wrote, or a checkpoint.",
        ) from error
    objects = _grid_objects(classes, (channels, height, width), metadata.get("clustering"), args, paths)
    return {**config, "bbox": bbox, "threshold": 0.0, "objects": objects}


def _grid_objects(
    classes: list[str],
    shape: tuple[int, int, int],
    stored: Mapping[str, Mapping[str, Any]] | None,
    args: argparse.Namespace,
    paths: PathMap,
) -> list[dict[str, Any]]:
    """Return what is to be done with each class of DetectNet_v2: as the spec says, else as the export wrote it."""
    handlers: dict[str, BboxHandlerSettings]
    palette = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(classes, 1)}
    if args.spec:
        handlers = _handlers_of_spec(classes, shape, palette, args, paths)
    elif stored:
        handlers = {
            name: BboxHandlerSettings(ClusteringSettings(**values), _USUAL, name, palette[name])
            for name, values in stored.items()
        }
    else:
        raise _needs_spec("the model doesn't say how its cells become boxes")
    return [
        {
            "channel": classes.index(name),
            "label": handler.output_name,
            "colour": list(handler.color),
            "algorithm": handler.clustering.algorithm,
            "coverage_threshold": handler.clustering.coverage_threshold,
            "minimum_height": handler.clustering.minimum_bounding_box_height,
            "eps": handler.clustering.dbscan_eps,
            "min_samples": max(int(handler.clustering.dbscan_min_samples), 1),
            "confidence_threshold": handler.clustering.dbscan_confidence_threshold,
            "confidence_model": handler.confidence_model,
            "nms_iou": _or(handler.clustering.nms_iou_threshold, DEFAULT_NMS_IOU),
            "nms_confidence": _or(handler.clustering.nms_confidence_threshold, DEFAULT_NMS_CONFIDENCE),
        }
        for name, handler in handlers.items()
    ]


def _handlers_of_spec(
    classes: list[str],
    shape: tuple[int, int, int],
    palette: Mapping[str, tuple[int, int, int]],
    args: argparse.Namespace,
    paths: PathMap,
) -> dict[str, BboxHandlerSettings]:
    """Read the spec of the training, or an inference file."""
    path = paths.to_host(args.spec)
    if path.is_file() and "inferencer_config" in path.read_text(encoding="utf-8", errors="replace"):
        inference = detectnet_spec.read_inference(path, shown_as=args.spec)
        known, handlers = set(inference.classes), dict(inference.handlers)
        wanted = (inference.image_channels, inference.image_height, inference.image_width)
        if wanted != shape:
            raise SpecProblem(
                f"the model's input (channels, height, width) is {shape}, the inference file's {wanted}",
                path=args.spec,
                hint="Set image_channels, image_height and image_width to the model's.",
            )
    else:
        experiment = detectnet_spec.read_experiment(path, purpose="export", shown_as=args.spec)
        known = set(experiment.classes)
        handlers = {
            name: BboxHandlerSettings(each, _USUAL, name, palette.get(name, COLOURS[1]))
            for name, each in experiment.clustering.items()
        }
    if known != set(classes):
        raise SpecProblem(
            f"the spec has the classes {', '.join(sorted(known))}, and the model {', '.join(sorted(classes))}",
            path=args.spec,
            hint="Give -e with the spec that the model was trained with, or with its inference file.",
        )
    if not handlers:
        raise SpecProblem(
            "the spec doesn't say how cells become boxes: it has no postprocessing_config",
            path=args.spec,
            hint="Give the spec of the training, or an inference file with bbox_handler_config.",
        )
    return handlers


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _needs_spec(why: str) -> UsageProblem:
    return UsageProblem(
        f"a spec is needed: {why}",
        where="device bundle",
        hint="Add -e with the spec that the model was trained with.",
    )


def tensor_names(model: Source) -> set[str]:
    """Return the names of all tensors that a model computes or takes."""
    graph = model.model.graph
    return {entry.name for entry in graph.input} | {name for node in graph.node for name in node.output}
