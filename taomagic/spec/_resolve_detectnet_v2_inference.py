"""From the text of DetectNet_v2's inference file to :class:`~taomagic.spec.settings_detectnet_v2.InferenceSettings`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal, cast

from taomagic.spec import detectnet_v2_pb2
from taomagic.spec._resolve_detectnet_v2_boxes import clustering
from taomagic.spec._rules_detectnet_v2 import INFERENCE_RULES
from taomagic.spec._without_effect import CLUSTERING_WITHOUT_EFFECT, without_effect
from taomagic.spec.parse import SpecFile, read_spec
from taomagic.spec.settings_detectnet_v2 import BboxHandlerSettings, InferenceSettings
from taomagic.spec.validate import broken, check_ranges, missing

_Spec = SpecFile[detectnet_v2_pb2.Inference]

_RED: Final = (255, 0, 0)
_HANDLERS: Final = "bbox_handler_config.classwise_bbox_handler_config"

_BUILT: Final = "engines are built by gen_trt_engine or converter"
#: Fields that the embedded engine has no use for.
_WITHOUT_EFFECT: Final[Mapping[str, str]] = {
    "TensorRTConfig.caffemodel": "parser: ETLT reads etlt_model",
    "TensorRTConfig.prototxt": "parser: ETLT reads etlt_model",
    "TensorRTConfig.uff_model": "parser: ETLT reads etlt_model",
    "TensorRTConfig.save_engine": _BUILT,
    "TensorRTConfig.calibrator_config": _BUILT,
    **CLUSTERING_WITHOUT_EFFECT,
}


def resolve_inference(path: Path, *, shown_as: str | None = None) -> InferenceSettings:
    """Read, check and resolve a file; see :func:`taomagic.spec.detectnet_v2.read_inference`."""
    spec = read_spec(path, detectnet_v2_pb2.Inference, shown_as=shown_as)
    for block in ("inferencer_config", "bbox_handler_config"):
        if not spec.message.HasField(block):
            raise missing(spec, block, hint=f"An inference file needs the block {block} {{ … }}.")
    check_ranges(spec, INFERENCE_RULES)
    config, boxes = spec.message.inferencer_config, spec.message.bbox_handler_config
    classes = tuple(name.lower() for name in config.target_classes)
    if not classes:
        hint = 'For example target_classes: "car"; one line a class, in the order of training.'
        raise missing(spec, "inferencer_config.target_classes", hint=hint)
    notes = without_effect(spec.message, _WITHOUT_EFFECT)
    if boxes.HasField("wandb_config") and boxes.wandb_config.enabled:
        notes.append("bbox_handler_config.wandb_config has no effect; pictures stay in the results folder")
    for name in ("input_nodes", "output_nodes"):
        if getattr(config, name):
            notes.append(f"inferencer_config.{name} has no effect; the model's own names are used")
    wanted = tuple(name.lower() for name in boxes.postproc_classes) or classes
    unknown = [name for name in wanted if name not in classes]
    if unknown:
        allowed = f"one of {', '.join(classes)}"
        raise broken(spec, "bbox_handler_config.postproc_classes", unknown[0], allowed)
    engine = config.tensorrt_config
    data_type = detectnet_v2_pb2.TensorRTConfig.BackendDataType.Name(engine.backend_data_type)
    _refuse_old_parsers(spec)
    return InferenceSettings(
        path=spec.path,
        text=spec.text,
        classes=classes,
        model=config.tlt_config.model or None,
        engine=engine.trt_engine or None,
        etlt_model=engine.etlt_model or None,
        data_type=cast(Literal["FP32", "FP16", "INT8"], data_type),
        batch_size=config.batch_size,
        image_height=config.image_height,
        image_width=config.image_width,
        image_channels=config.image_channels,
        gpu_index=config.gpu_index,
        stride=config.stride or 16,
        kitti_dump=boxes.kitti_dump,
        overlay=not boxes.disable_overlay,
        overlay_linewidth=boxes.overlay_linewidth or 1,
        handlers={name: _handler(spec, name) for name in wanted},
        notes=tuple(notes),
    )


def _refuse_old_parsers(spec: _Spec) -> None:
    engine = spec.message.inferencer_config.tensorrt_config
    if engine.parser == detectnet_v2_pb2.TensorRTConfig.ETLT:
        return
    name = detectnet_v2_pb2.TensorRTConfig.Parser.Name(engine.parser)
    raise spec.problem(
        f"parser {name} is not supported: TensorRT itself has dropped it",
        field="inferencer_config.tensorrt_config.parser",
        hint="Use parser: ETLT with etlt_model, or name an engine in trt_engine.",
    )


def _handler(spec: _Spec, name: str) -> BboxHandlerSettings:
    """Return what happens to the boxes of a class; a class without an entry takes that of ``default``."""
    entries = {
        key.lower(): value
        for key, value in sorted(spec.message.bbox_handler_config.classwise_bbox_handler_config.items())
    }
    entry: Any = entries.get(name, entries.get("default"))
    if entry is None:
        hint = f"Add an entry with the key {name!r}, or one with the key 'default'."
        raise spec.problem(f"{_HANDLERS} has no entry for the class {name!r}", field=_HANDLERS, hint=hint)
    color = entry.bbox_color
    return BboxHandlerSettings(
        clustering=clustering(entry.clustering_config),
        confidence_model=cast(
            Literal["aggregate_cov", "mean_cov"], entry.confidence_model or "aggregate_cov"
        ),
        output_name=entry.output_map if name in entries and entry.output_map else name,
        color=(color.R, color.G, color.B) if entry.HasField("bbox_color") else _RED,
    )
