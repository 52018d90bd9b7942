"""The rules that an experiment file must keep: ranges, required fields, and what the engine can't do yet.

Ranges are keyed by field name wherever the name occurs, as in NVIDIA's checker, and apply to the blocks
that a file has. Messages begin with NVIDIA's words (``Experiment Spec Setting Error:``), so that people
find them where they looked before, and go on with the field, its value, what is allowed, and an example.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from taomagic.errors import SpecProblem
from taomagic.spec.parse import SpecFile
from taomagic.spec.rules import Rule, above, at_least, half_open_interval, one_of, open_interval

__all__ = [
    "ALIASES",
    "ARCHITECTURES",
    "PREFIX",
    "RULES",
    "Rule",
    "as_written",
    "broken",
    "check_ranges",
    "fields_of",
    "missing",
    "number",
    "refuse_unsupported",
]

#: How NVIDIA's own messages about a value begin.
PREFIX: Final = "Experiment Spec Setting Error: "

#: What NVIDIA's SSD knows; the embedded engine has some of them.
ARCHITECTURES: Final = (
    "resnet",
    "vgg",
    "darknet",
    "mobilenet_v1",
    "mobilenet_v2",
    "squeezenet",
    "googlenet",
    "efficientnet_b0",
    "efficientnet_b1",
)

#: Second names of fields: the name in NVIDIA's documentation -> the name in NVIDIA's proto.
ALIASES: Final[Mapping[str, str]] = {
    "cluster_iou_threshold": "clustering_iou_threshold",
    "image_dir_names": "img_dir_names",
}


#: Field name -> rule. proto3's unset is a 0 to NVIDIA's checker, so a field that must be above 0 must be
#: written.
RULES: Final[Mapping[str, Rule]] = {
    "arch": one_of(ARCHITECTURES, '"resnet"', required=True),
    "pred_num_channels": one_of((0, 256, 512, 1024), "0"),
    "alpha": at_least(0, "1.0"),
    "neg_pos_ratio": at_least(0, "3.0"),
    "pos_iou_thresh": half_open_interval("0.5"),
    "neg_iou_thresh": half_open_interval("0.5"),
    "width_multiplier": Rule("> 0 and <= 4", lambda value: 0 < value <= 4, "0.25"),
    "batch_size_per_gpu": above(0, "16", required=True),
    "num_epochs": above(0, "80", required=True),
    "min_learning_rate": above(0, "5e-5", required=True),
    "max_learning_rate": above(0, "2e-2", required=True),
    "soft_start": open_interval("0.15", required=True),
    "annealing": open_interval("0.8", required=True),
    # Each one is a thread or a process; more than this is a slip of the finger that would stop the machine.
    "n_workers": Rule(">= 0 and <= 256", lambda value: 0 <= value <= 256, "4"),
    # Each batch that waits fills memory.
    "max_queue_size": Rule("<= 1000", lambda value: value <= 1000, "20"),
    "epsilon": above(0, "1e-7"),
    "beta1": half_open_interval("0.9"),
    "beta2": half_open_interval("0.999"),
    "rho": half_open_interval("0.9"),
    "momentum": half_open_interval("0.9"),
    "monitor": one_of(("loss", "validation_loss", "val_loss"), '"loss"'),
    "min_delta": at_least(0, "0.0"),
    # The scale is a 32-bit float, 2^exponent; a decrement of 0 would leave out every step after one overflow.
    "initial_exponent": Rule(">= 0 and <= 127", lambda value: 0 <= value <= 127, "20.0"),
    "increment": at_least(0, "0.005"),
    "decrement": above(0, "1.0"),
    "validation_period_during_training": above(0, "10", required=True),
    "batch_size": above(0, "16", required=True),
    "matching_iou_threshold": open_interval("0.5", required=True),
    "confidence_threshold": open_interval("0.01", required=True),
    "clustering_iou_threshold": open_interval("0.6", required=True),
    "cluster_iou_threshold": open_interval("0.6"),
    "top_k": above(0, "200", required=True),
    "output_width": above(32, "300", required=True),
    "output_height": above(32, "300", required=True),
    "output_channel": one_of((1, 3), "3", required=True),
    "random_crop_min_scale": Rule("> 0 and <= 1", lambda value: 0 < value <= 1, "0.3"),
    "random_crop_max_scale": Rule("> 0 and <= 1", lambda value: 0 < value <= 1, "1.0"),
    "random_crop_min_ar": above(0, "0.5"),
    "random_crop_max_ar": above(0, "2.0"),
    # At 100 an image is a speck of three pixels in 300; beyond that no memory holds what is around it.
    "zoom_out_min_scale": Rule(">= 1 and <= 100", lambda value: 1 <= value <= 100, "1.0"),
    "zoom_out_max_scale": Rule(">= 1 and <= 100", lambda value: 1 <= value <= 100, "4.0"),
    "brightness": at_least(0, "32"),
    "contrast": half_open_interval("0.5"),
    "saturation": half_open_interval("0.5"),
    "hue": at_least(0, "18"),
    "random_flip": half_open_interval("0.5"),
    # The names of the files have three digits and five; a number beyond them is a slip that would fill the disk.
    "num_partitions": Rule("<= 999", lambda value: value <= 999, "2"),
    "num_shards": Rule("<= 99999", lambda value: value <= 99999, "10"),
    # A rare image a thousand times is no longer a balance, and fills the disk.
    "num_duplicates": Rule("<= 1000", lambda value: value <= 1000, "2"),
    "val_split": Rule(">= 0 and < 100", lambda value: 0 <= value < 100, "20"),
}


def broken(spec: SpecFile[Any], field: str, value: object, allowed: str, *, hint: str = "") -> SpecProblem:
    """Return the problem of a value that is not allowed.

    Parameters
    ----------
    spec, field, value
        The file, the full name of the field, what it has.
    allowed
        The range, after "should be".
    hint
        What to do; a general word if empty.
    """
    name = field.rpartition(".")[2]
    shown = f'"{value}"' if isinstance(value, str) else value
    message = f"{PREFIX}{name} should be {allowed}, but {field} is {shown}"
    return spec.problem(message, field=field, hint=hint or f"Allowed: {name} {allowed}.")


def missing(spec: SpecFile[Any], field: str, *, hint: str = "") -> SpecProblem:
    """Return the problem of a field or block that must be there. It points at the block around it."""
    return spec.problem(f"{PREFIX}{field} should be set in experiment spec file.", field=field, hint=hint)


def as_written(value: float) -> float:
    """Return the shortest decimal that a 32-bit field stands for: 0.02, where protobuf gives 0.019999999552965164."""
    if not math.isfinite(value):
        return value
    for digits in range(6, 10):
        short = float(f"{value:.{digits}g}")
        if struct.pack("f", short) == struct.pack("f", value):
            return short
    return value


def number(message: Message, name: str, default: float = 0.0) -> float:
    """Return a float field as it was written, or the default where it wasn't."""
    return as_written(getattr(message, name)) if message.HasField(name) else default


def fields_of(message: Message, prefix: str = "") -> Iterator[tuple[str, FieldDescriptor, Any]]:
    """Yield every scalar that a message has, nested ones too, as full name, descriptor and value.

    Of maps, those to messages are entered; those to scalars are left out.
    """
    for descriptor, value in message.ListFields():
        if _is_map(descriptor):
            for full, entry in _entries(descriptor, value, prefix):
                yield from fields_of(entry, f"{full}.")
            continue
        for index, item in enumerate(value if descriptor.is_repeated else (value,)):
            full = (
                f"{prefix}{descriptor.name}[{index}]"
                if descriptor.is_repeated
                else f"{prefix}{descriptor.name}"
            )
            if descriptor.message_type is not None:
                yield from fields_of(item, f"{full}.")
            else:
                yield full, descriptor, item


def _is_map(descriptor: Any) -> bool:
    return descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry


def _entries(descriptor: Any, value: Any, prefix: str) -> Iterator[tuple[str, Message]]:
    """Yield full name and message of the entries of a map; nothing if its values are scalars."""
    if descriptor.message_type.fields_by_name["value"].message_type is not None:
        for key in sorted(value):
            yield f'{prefix}{descriptor.name}["{key}"]', value[key]


def check_ranges(spec: SpecFile[Any], rules: Mapping[str, Rule] = RULES) -> None:
    """Raise :class:`SpecProblem` for the first value that is not allowed or the first field that is missing.

    Parameters
    ----------
    spec
        The file.
    rules
        Of the network, by field name.
    """
    for field, descriptor, value in fields_of(spec.message):
        is_float = descriptor.cpp_type in (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
        shown = as_written(value) if is_float else value
        if is_float and not math.isfinite(value):
            raise broken(spec, field, shown, "a finite number")
        # proto3's enums are open: the parser takes any number.
        if descriptor.enum_type is not None and value not in descriptor.enum_type.values_by_number:
            names = ", ".join(entry.name for entry in descriptor.enum_type.values)
            raise broken(spec, field, value, f"one of {names}")
        rule = rules.get(descriptor.name)
        if rule is not None and not rule.test(shown):
            raise broken(
                spec, field, shown, rule.allowed, hint=f"For example {descriptor.name}: {rule.example}"
            )
    _check_required(spec, spec.message, "", rules)


def _check_required(spec: SpecFile[Any], message: Message, prefix: str, rules: Mapping[str, Rule]) -> None:
    present = {descriptor.name: value for descriptor, value in message.ListFields()}
    present |= {ALIASES[name]: value for name, value in present.items() if name in ALIASES}
    for descriptor in message.DESCRIPTOR.fields:
        name, rule = descriptor.name, rules.get(descriptor.name)
        if rule is not None and rule.required and name not in present:
            hint = f"It should be {rule.allowed}; for example {name}: {rule.example}"
            raise missing(spec, f"{prefix}{name}", hint=hint)
        if descriptor.message_type is None or name not in present:
            continue
        if _is_map(descriptor):
            inner = list(_entries(descriptor, present[name], prefix))
        elif descriptor.is_repeated:
            inner = [(f"{prefix}{name}[{index}]", item) for index, item in enumerate(present[name])]
        else:
            inner = [(f"{prefix}{name}", present[name])]
        for full, nested in inner:
            _check_required(spec, nested, f"{full}.", rules)


class _Unsupported(NamedTuple):
    """Something that NVIDIA's files may ask for and the embedded engine can't do."""

    field: str
    applies: Callable[[Any], bool]
    reason: str
    hint: str


_IN_A_CONTAINER: Final = "or run the command in NVIDIA's container"
_UNSUPPORTED: Final = (
    _Unsupported(
        "dssd_config",
        lambda _: True,
        "the embedded engine has SSD, not yet DSSD",
        f"Use ssd_config, {_IN_A_CONTAINER}.",
    ),
    _Unsupported(
        "ssd_config.pred_num_channels",
        lambda channels: channels in (256, 512, 1024),
        "it sizes the prediction module of DSSD, and the embedded engine has SSD, not yet DSSD",
        "Remove pred_num_channels or set it to 0, which is SSD as published.",
    ),
    _Unsupported(
        "training_config.learning_rate.soft_start_cosine_annealing_schedule",
        lambda _: True,
        "SSD trains with soft_start_annealing_schedule only, in NVIDIA's containers too",
        "Use soft_start_annealing_schedule { min_learning_rate max_learning_rate soft_start annealing }.",
    ),
)


def refuse_unsupported(spec: SpecFile[Any]) -> None:
    """Raise :class:`SpecProblem` with the reason where an experiment asks for what the engine can't do."""
    for entry in _UNSUPPORTED:
        found, value = _lookup(spec.message, entry.field)
        if found and entry.applies(value):
            name = entry.field.rpartition(".")[2]
            raise spec.problem(f"{name} is not supported: {entry.reason}", field=entry.field, hint=entry.hint)


def _lookup(message: Any, field: str) -> tuple[bool, Any]:
    """Return whether a nested singular field is set, and its value."""
    for name in field.split("."):
        if not message.HasField(name):
            return False, None
        message = getattr(message, name)
    return True, message
