"""An experiment as it will run, for people to read before the first step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Final

from google.protobuf.message import Message

from taomagic.spec import detectnet_v2_pb2, ssd_pb2
from taomagic.spec.parse import parse_spec
from taomagic.spec.settings import DataSource, SSDExperiment
from taomagic.spec.settings_detectnet_v2 import DetectNetExperiment, DetectNetSource

__all__ = ["EXTENSION_MARK", "summarize"]

#: Stands behind fields that only taomagic knows.
EXTENSION_MARK: Final = "taomagic's extension, unknown to NVIDIA's containers"

_DEFAULT_MARK: Final = "default"
_WIDTH: Final = 34
#: Settings that the engine chooses where the file doesn't say.
_AUTOMATIC: Final = ("steps", "offsets", "image_mean", "n_workers", "scalar_logging_frequency")


@dataclass(frozen=True)
class _Form:
    """How a network's experiment file looks.

    Attributes
    ----------
    message
        Its root.
    blocks
        The settings' attributes, in the order to show them -> the blocks of the file.
    places
        Where in the file a setting stands, where that differs from its name.
    other_names
        Other names that the file may have for a setting.
    """

    message: type[Message]
    blocks: Mapping[str, str]
    places: Mapping[str, str]
    other_names: Mapping[str, tuple[str, ...]]


_SSD: Final = _Form(
    ssd_pb2.Experiment,
    {
        "model": "ssd_config",
        "training": "training_config",
        "evaluation": "eval_config",
        "nms": "nms_config",
        "augmentation": "augmentation_config",
        "dataset": "dataset_config",
    },
    {
        "training_config.min_learning_rate": "learning_rate.soft_start_annealing_schedule.min_learning_rate",
        "training_config.max_learning_rate": "learning_rate.soft_start_annealing_schedule.max_learning_rate",
        "training_config.soft_start": "learning_rate.soft_start_annealing_schedule.soft_start",
        "training_config.annealing": "learning_rate.soft_start_annealing_schedule.annealing",
        "training_config.regularizer_weight": "regularizer.weight",
        "eval_config.validation_period": "validation_period_during_training",
        "dataset_config.class_mapping": "target_class_mapping",
        "dataset_config.classes": "target_class_mapping",
        "dataset_config.include_difficult": "include_difficult_in_training",
    },
    {
        "ssd_config.aspect_ratios": ("aspect_ratios_global",),
        "ssd_config.scales": ("min_scale",),
        "nms_config.clustering_iou_threshold": ("cluster_iou_threshold",),
        "training_config.load_model": ("resume_model_path", "pretrain_model_path", "pruned_model_path"),
    },
)


def _below(block: str, **parts: str) -> dict[str, str]:
    """Return where settings stand that the file has in blocks of a block."""
    return {f"{block}.{name}": f"{part}.{name}" for part, names in parts.items() for name in names.split()}


_DETECTNET: Final = _Form(
    detectnet_v2_pb2.Experiment,
    {
        "model": "model_config",
        "training": "training_config",
        "evaluation": "evaluation_config",
        "clustering": "postprocessing_config",
        "cost": "cost_function_config",
        "rasterizer": "bbox_rasterizer_config",
        "augmentation": "augmentation_config",
        "dataset": "dataset_config",
        "loss_mask": "loss_mask_label_filter",
    },
    {
        "model_config.bbox_scale": "objective_set.bbox.scale",
        "model_config.bbox_offset": "objective_set.bbox.offset",
        "model_config.float16": "training_precision",
        "training_config.schedule": "learning_rate",
        "training_config.regularizer_weight": "regularizer.weight",
        "evaluation_config.validation_period": "validation_period_during_training",
        "evaluation_config.overlaps": "minimum_detection_ground_truth_overlap",
        "evaluation_config.boxes": "evaluation_box_config",
        "cost_function_config.classes": "target_classes",
        "bbox_rasterizer_config.classes": "target_class_config",
        "augmentation_config.output_width": "preprocessing.output_image_width",
        "augmentation_config.output_height": "preprocessing.output_image_height",
        "augmentation_config.output_channel": "preprocessing.output_image_channel",
        "augmentation_config.crop": "preprocessing.crop_right",
        "augmentation_config.rotate_max": "spatial_augmentation.rotate_rad_max",
        **_below(
            "augmentation_config",
            preprocessing="min_bbox_width min_bbox_height scale_width scale_height enable_auto_resize",
            spatial_augmentation="hflip_probability vflip_probability zoom_min zoom_max translate_max_x "
            "translate_max_y rotate_probability",
            color_augmentation="color_shift_stddev hue_rotation_max saturation_shift_max contrast_scale_max "
            "contrast_center",
        ),
        "dataset_config.class_mapping": "target_class_mapping",
        "dataset_config.validation_source": "validation_data_source",
        "loss_mask_label_filter.filters": "objective_label_filter_configs",
    },
    {},
)


def summarize(experiment: SSDExperiment | DetectNetExperiment) -> str:
    """Return all settings of an experiment, one a line, with marks on defaults and extensions.

    Parameters
    ----------
    experiment
        As read by :func:`taomagic.spec.ssd.read_experiment` or :func:`taomagic.spec.detectnet_v2.read_experiment`.

    Returns
    -------
    str
        Lines like ``  num_epochs                        80``; the notes come last.
    """
    form = _SSD if isinstance(experiment, SSDExperiment) else _DETECTNET
    spec = parse_spec(experiment.text, form.message, name=experiment.path)
    lines = [f"Experiment {experiment.path}", _line("random_seed", str(experiment.random_seed), ())]
    for attribute, block in form.blocks.items():
        settings = getattr(experiment, attribute)
        if settings is None:
            continue
        lines.append(block)
        if isinstance(settings, Mapping):  # by class
            lines += [_line(name, next(_shown(name, value)), ()) for name, value in settings.items()]
            continue
        for field in fields(settings):
            value = getattr(settings, field.name)
            place = f"{block}.{form.places.get(f'{block}.{field.name}', field.name)}"
            names = (
                place,
                *(f"{block}.{name}" for name in form.other_names.get(f"{block}.{field.name}", ())),
            )
            written = any(spec.line_of(name) is not None for name in names)
            marks = [] if written or value in (None, (), {}) else [_DEFAULT_MARK]
            if field.name == "width_multiplier":
                if not written:
                    continue
                marks.append(EXTENSION_MARK)
            shown = list(_shown(field.name, value))
            lines.append(_line(field.name, shown[0], marks))
            lines += [" " * (_WIDTH + 2) + more for more in shown[1:]]
    if experiment.notes:
        lines += ["notes", *(f"  {note}" for note in experiment.notes)]
    return "\n".join(lines)


def _line(name: str, value: str, marks: Sequence[str]) -> str:
    mark = f"   [{', '.join(marks)}]" if marks else ""
    return f"  {name:<{_WIDTH}}{value}{mark}"


def _shown(name: str, value: Any) -> Iterator[str]:  # noqa: PLR0912 - one branch for each kind of value
    """Yield one value on one or, for lists of lists, several lines."""
    if value is None:
        yield "automatic" if name in _AUTOMATIC else "none"
    elif isinstance(value, bool):
        yield str(value).lower()
    elif isinstance(value, float):
        yield f"{value:g}"
    elif isinstance(value, Mapping) and all(isinstance(each, str) for each in value.values()):
        yield from (f"{source} -> {target}" for source, target in sorted(value.items()))
    elif isinstance(value, Mapping):
        shown = {key: next(_shown(key, each)) for key, each in value.items()}
        if any(is_dataclass(each) for each in value.values()):
            yield from (f"{key}: {text}" for key, text in shown.items())
        else:
            yield ", ".join(f"{key} {text}" for key, text in shown.items()) or "none"
    elif isinstance(value, DataSource):
        yield value.tfrecords_path or f"{value.image_directory_path} with {value.label_directory_path}"
    elif isinstance(value, DetectNetSource):
        weight = "" if value.weight == 1 else f", weight {value.weight:g}"
        yield f"{value.tfrecords_path} with {value.image_directory_path}{weight}"
    elif isinstance(value, tuple) and value and (isinstance(value[0], tuple) or is_dataclass(value[0])):
        for item in value:
            yield from _shown(name, item)
    elif isinstance(value, tuple):
        yield ", ".join(next(_shown(name, item)) for item in value) or "none"
    elif name == "optimizer":
        yield f"{value.name} ({_parameters(value.parameters)})"
    elif is_dataclass(value):
        yield _parameters({field.name: getattr(value, field.name) for field in fields(value)})
    else:
        yield str(value)


def _parameters(values: Mapping[str, Any]) -> str:
    """Return the names and values that are set, on one line; blocks in it stand in parentheses."""
    shown = []
    for name, value in values.items():
        if value is None or value in ((), {}):
            continue
        text = next(_shown(name, value))
        grouped = is_dataclass(value) or isinstance(value, Mapping)
        shown.append(f"{name} ({text})" if grouped else f"{name} {text}")
    return ", ".join(shown)
