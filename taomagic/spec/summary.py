"""An experiment as it will run, for people to read before the first step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Final

from taomagic.spec.parse import parse_spec
from taomagic.spec.settings import DataSource, SSDExperiment
from taomagic.spec.ssd_pb2 import Experiment

__all__ = ["EXTENSION_MARK", "summarize"]

#: Stands behind fields that only taomagic knows.
EXTENSION_MARK: Final = "taomagic's extension, unknown to NVIDIA's containers"

_DEFAULT_MARK: Final = "default"
_WIDTH: Final = 34

_BLOCKS: Final[Mapping[str, str]] = {
    "model": "ssd_config",
    "training": "training_config",
    "evaluation": "eval_config",
    "nms": "nms_config",
    "augmentation": "augmentation_config",
    "dataset": "dataset_config",
}

# Settings whose place in the file differs from their name.
_PLACES: Final[Mapping[str, str]] = {
    "training_config.min_learning_rate": "learning_rate.soft_start_annealing_schedule.min_learning_rate",
    "training_config.max_learning_rate": "learning_rate.soft_start_annealing_schedule.max_learning_rate",
    "training_config.soft_start": "learning_rate.soft_start_annealing_schedule.soft_start",
    "training_config.annealing": "learning_rate.soft_start_annealing_schedule.annealing",
    "training_config.regularizer_weight": "regularizer.weight",
    "eval_config.validation_period": "validation_period_during_training",
    "dataset_config.class_mapping": "target_class_mapping",
    "dataset_config.classes": "target_class_mapping",
    "dataset_config.include_difficult": "include_difficult_in_training",
}

# The file may have these under another name.
_OTHER_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "ssd_config.aspect_ratios": ("aspect_ratios_global",),
    "ssd_config.scales": ("min_scale",),
    "nms_config.clustering_iou_threshold": ("cluster_iou_threshold",),
    "training_config.load_model": ("resume_model_path", "pretrain_model_path", "pruned_model_path"),
}


def summarize(experiment: SSDExperiment) -> str:
    """Return all settings of an experiment, one a line, with marks on defaults and extensions.

    Parameters
    ----------
    experiment
        As read by :func:`taomagic.spec.ssd.read_experiment`.

    Returns
    -------
    str
        Lines like ``  num_epochs                        80``; the notes come last.
    """
    spec = parse_spec(experiment.text, Experiment, name=experiment.path)
    lines = [f"Experiment {experiment.path}", _line("random_seed", str(experiment.random_seed), ())]
    for attribute, block in _BLOCKS.items():
        settings = getattr(experiment, attribute)
        if settings is None:
            continue
        lines.append(block)
        for field in fields(settings):
            value = getattr(settings, field.name)
            place = f"{block}.{_PLACES.get(f'{block}.{field.name}', field.name)}"
            names = (place, *(f"{block}.{name}" for name in _OTHER_NAMES.get(f"{block}.{field.name}", ())))
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


def _shown(name: str, value: Any) -> Iterator[str]:
    """Yield one value on one or, for lists of lists, several lines."""
    if value is None:
        yield "automatic" if name in ("steps", "offsets", "image_mean", "n_workers") else "none"
    elif isinstance(value, bool):
        yield str(value).lower()
    elif isinstance(value, float):
        yield f"{value:g}"
    elif isinstance(value, Mapping):
        yield from (f"{source} -> {target}" for source, target in sorted(value.items()))
    elif isinstance(value, DataSource):
        yield value.tfrecords_path or f"{value.image_directory_path} with {value.label_directory_path}"
    elif isinstance(value, tuple) and value and isinstance(value[0], (tuple, DataSource)):
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
        if value is None or value == ():
            continue
        text = next(_shown(name, value))
        shown.append(f"{name} ({text})" if is_dataclass(value) else f"{name} {text}")
    return ", ".join(shown)
