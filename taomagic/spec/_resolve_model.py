"""From ``ssd_config`` to :class:`~taomagic.spec.settings.SSDModelSettings`."""

from __future__ import annotations

from typing import Any, Final, cast

from taomagic.spec._backbones import BACKBONES, frozen_blocks
from taomagic.spec.arithmetic import Nested, Number, evaluate
from taomagic.spec.parse import SpecFile
from taomagic.spec.settings import SSDModelSettings
from taomagic.spec.ssd_pb2 import Experiment
from taomagic.spec.validate import PREFIX, as_written, broken, missing

#: Feature maps that SSD predicts from.
FEATURE_MAPS: Final = 6

_BLOCK: Final = "ssd_config"


def resolve_model(spec: SpecFile[Experiment], notes: list[str]) -> SSDModelSettings:
    """Return the model's settings. Ranges of single numbers have been checked; notes for the reader are appended."""
    config = spec.message.ssd_config
    nlayers = _nlayers(spec, notes)
    variances = _numbers(spec, "variances", 4)
    if variances is None:
        raise missing(spec, f"{_BLOCK}.variances", hint='For example variances: "[0.1, 0.1, 0.2, 0.2]"')
    _check_each(spec, "variances", variances)
    for name in ("alpha", "neg_pos_ratio", "pos_iou_thresh", "neg_iou_thresh"):
        if config.HasField(name) and getattr(config, name) == 0:
            notes.append(f"{_BLOCK}.{name}: 0 means the default, as in NVIDIA's containers")
    if config.HasField("mean_color"):
        notes.append(f"{_BLOCK}.mean_color has no effect; image_mean in augmentation_config has")
    if config.freeze_bn and config.arch == "squeezenet":
        notes.append(f"{_BLOCK}.freeze_bn has no effect: squeezenet has no batch normalisation")
    width_multiplier = as_written(config.width_multiplier) if config.HasField("width_multiplier") else 1.0
    if config.HasField("width_multiplier"):
        notes.append(
            f"{_BLOCK}.width_multiplier is taomagic's extension: NVIDIA's containers reject this file"
        )
    return SSDModelSettings(
        arch=config.arch,
        nlayers=nlayers,
        width_multiplier=width_multiplier,
        aspect_ratios=_aspect_ratios(spec, notes),
        scales=_scales(spec, notes),
        two_boxes_for_ar1=config.two_boxes_for_ar1,
        clip_boxes=config.clip_boxes,
        variances=cast(tuple[float, float, float, float], variances),
        steps=_steps(spec),
        offsets=_offsets(spec),
        pred_num_channels=config.pred_num_channels,
        alpha=as_written(config.alpha) or 1.0,
        neg_pos_ratio=as_written(config.neg_pos_ratio) or 3.0,
        pos_iou_thresh=as_written(config.pos_iou_thresh) or 0.5,
        neg_iou_thresh=as_written(config.neg_iou_thresh) or 0.5,
        freeze_blocks=frozen_blocks(spec, f"{_BLOCK}.freeze_blocks", config.arch, config.freeze_blocks),
        freeze_bn=config.freeze_bn,
    )


def _nlayers(spec: SpecFile[Experiment], notes: list[str]) -> int:
    """Return the number of layers, 0 for architectures of one size.

    The document: ``nlayers`` belongs to resnet, vgg and darknet, and is to be left out for all others.
    """
    config = spec.message.ssd_config
    arch = config.arch
    if arch not in BACKBONES:
        raise spec.problem(
            f'arch "{arch}" is not supported: NVIDIA\'s SSD has the name, but no network for it',
            field=f"{_BLOCK}.arch",
            hint=f"Use one of {', '.join(BACKBONES)}.",
        )
    field, valid = f"{_BLOCK}.nlayers", BACKBONES[arch].nlayers
    if not valid:
        if config.HasField("nlayers"):
            notes.append(f"{field} has no effect: {arch} has one size")
        return 0
    if not config.HasField("nlayers"):
        raise missing(spec, field, hint=f"For {arch}: nlayers: {' or '.join(map(str, valid))}.")
    if config.nlayers not in valid:
        raise broken(spec, field, config.nlayers, f"one of {', '.join(map(str, valid))} for {arch}")
    return config.nlayers


def _aspect_ratios(spec: SpecFile[Experiment], notes: list[str]) -> tuple[tuple[float, ...], ...]:
    per_map = _value(spec, "aspect_ratios")
    one_list = _value(spec, "aspect_ratios_global")
    if per_map is None and one_list is None:
        hint = 'For example aspect_ratios_global: "[1.0, 2.0, 0.5, 3.0, 1.0/3.0]"'
        raise missing(spec, f"{_BLOCK}.aspect_ratios or {_BLOCK}.aspect_ratios_global", hint=hint)
    if per_map is None:
        return (_ratios(spec, "aspect_ratios_global", one_list),) * FEATURE_MAPS
    if one_list is not None:
        notes.append(f"{_BLOCK}.aspect_ratios_global has no effect beside aspect_ratios")
    items = _items(spec, "aspect_ratios", per_map, FEATURE_MAPS, "one list for each of the 6 feature maps")
    return tuple(_ratios(spec, "aspect_ratios", item) for item in items)


def _ratios(spec: SpecFile[Experiment], name: str, value: Nested | None) -> tuple[float, ...]:
    if not isinstance(value, (list, tuple)) or not value or not all(map(_is_number, value)):
        what = "six lists" if name == "aspect_ratios" else "a list"
        hint = (
            'For the same ratios on every map use aspect_ratios_global: "[1.0, 2.0, 0.5]".'
            if name == "aspect_ratios"
            else 'For example "[1.0, 2.0, 0.5]".'
        )
        raise broken(spec, f"{_BLOCK}.{name}", _text(spec, name), f"{what} of at least one number", hint=hint)
    ratios = tuple(float(item) for item in value)
    _check_each(spec, name, ratios)
    return ratios


def _scales(spec: SpecFile[Experiment], notes: list[str]) -> tuple[float, ...]:
    config = spec.message.ssd_config
    count = FEATURE_MAPS + 1
    scales = _numbers(spec, "scales", count)
    has_range = config.HasField("min_scale") and config.HasField("max_scale")
    if scales is None and not has_range:
        hint = 'For example scales: "[0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05]"'
        raise missing(spec, f"{_BLOCK}.scales, or both min_scale and max_scale,", hint=hint)
    if scales is not None:
        if config.HasField("min_scale") or config.HasField("max_scale"):
            notes.append(f"{_BLOCK}.min_scale and max_scale have no effect beside scales")
        field = "scales"
    else:
        low, high = as_written(config.min_scale), as_written(config.max_scale)
        field = "max_scale"
        if not low > 0:
            raise broken(spec, f"{_BLOCK}.min_scale", low, "> 0")
        if high < low:
            raise broken(spec, f"{_BLOCK}.max_scale", high, f">= min_scale ({low:g})")
        scales = tuple(low + (high - low) * index / FEATURE_MAPS for index in range(count))
    _check_each(spec, field, scales)
    for scale in scales[:-1]:
        if scale > 1:
            hint = "Scales are fractions of the shorter image side; only the last one may be larger than 1."
            raise broken(spec, f"{_BLOCK}.{field}", scale, "<= 1 except for the last", hint=hint)
    return scales


def _steps(spec: SpecFile[Experiment]) -> tuple[tuple[float, float], ...] | None:
    value = _value(spec, "steps")
    if value is None:
        return None
    steps = []
    for item in _items(spec, "steps", value, FEATURE_MAPS, "one step for each of the 6 feature maps"):
        pair = (item, item) if _is_number(item) else item
        if not isinstance(pair, (list, tuple)) or len(pair) != 2 or not all(map(_is_number, pair)):
            hint = 'For example "[8, 16, 32, 64, (100, 100), 300]".'
            allowed = "six numbers of pixels, or pairs (vertical, horizontal)"
            raise broken(spec, f"{_BLOCK}.steps", _text(spec, "steps"), allowed, hint=hint)
        height, width = float(cast(Number, pair[0])), float(cast(Number, pair[1]))
        _check_each(spec, "steps", (height, width))
        steps.append((height, width))
    return tuple(steps)


def _offsets(spec: SpecFile[Experiment]) -> tuple[float, ...] | None:
    offsets = _numbers(spec, "offsets", FEATURE_MAPS)
    for offset in offsets or ():
        if not 0 < offset < 1:
            raise broken(spec, f"{_BLOCK}.offsets", offset, "> 0 and < 1 for each map")
    return offsets


def _numbers(spec: SpecFile[Experiment], name: str, count: int) -> tuple[float, ...] | None:
    """Return a field that holds a flat list, or None if it is unset."""
    value = _value(spec, name)
    if value is None:
        return None
    items = _items(spec, name, value, count, "numbers")
    if not all(map(_is_number, items)):
        raise broken(spec, f"{_BLOCK}.{name}", _text(spec, name), f"a flat list of {count} numbers")
    return tuple(float(cast(Number, item)) for item in items)


def _items(spec: SpecFile[Experiment], name: str, value: Nested, count: int, what: str) -> list[Nested]:
    if not isinstance(value, (list, tuple)):
        raise broken(spec, f"{_BLOCK}.{name}", _text(spec, name), f"a list of length {count}: {what}")
    if len(value) != count:
        field = f"{_BLOCK}.{name}"
        message = f"{PREFIX}The length of {name} should be {count}, but {field} has {len(value)}: {_text(spec, name)}"
        raise spec.problem(message, field=field, hint=f"{count} are needed: {what}.")
    return list(value)


def _check_each(spec: SpecFile[Experiment], name: str, numbers: tuple[float, ...]) -> None:
    for number in numbers:
        if not number > 0:
            raise broken(spec, f"{_BLOCK}.{name}", number, "> 0 in every place")


def _value(spec: SpecFile[Experiment], name: str) -> Nested | None:
    text = _text(spec, name)
    if text.strip() in ("", "None"):
        return None
    field = f"{_BLOCK}.{name}"
    value = evaluate(text, path=spec.path, line=spec.line_of(field))
    return _to_floats(value, spec, field)


def _to_floats(value: Nested, spec: SpecFile[Experiment], field: str) -> Nested:
    """Return the value with integers as floats. A product of integers can be too large for one."""
    if isinstance(value, (list, tuple)):
        return [_to_floats(item, spec, field) for item in value]
    try:
        return float(cast(Number, value))
    except OverflowError:
        raise broken(spec, field, _text(spec, field.rpartition(".")[2]), "made of smaller numbers") from None


def _text(spec: SpecFile[Experiment], name: str) -> str:
    return cast(str, getattr(spec.message.ssd_config, name))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float))
