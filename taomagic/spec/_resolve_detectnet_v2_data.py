"""The blocks of DetectNet_v2's file that are about data: sources, augmentation, and the mask of the loss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, Literal, cast

from taomagic.spec import detectnet_v2_pb2
from taomagic.spec._resolve_dataset import class_mapping
from taomagic.spec.parse import SpecFile
from taomagic.spec.settings_detectnet_v2 import (
    DetectNetAugmentationSettings,
    DetectNetDatasetSettings,
    DetectNetSource,
    LabelFilterSettings,
    LossMaskSettings,
    Purpose,
)
from taomagic.spec.validate import as_written, broken, missing, number

_Spec = SpecFile[detectnet_v2_pb2.Experiment]


def resolve_augmentation(spec: _Spec, notes: list[str]) -> DetectNetAugmentationSettings:
    """Return the network's input and the changes of the training images; notes are appended."""
    config = spec.message.augmentation_config
    size, spatial, color = config.preprocessing, config.spatial_augmentation, config.color_augmentation
    field = "augmentation_config.preprocessing"
    for low, high in (("crop_left", "crop_right"), ("crop_top", "crop_bottom")):
        if getattr(size, low) > getattr(size, high):
            raise broken(spec, f"{field}.{low}", getattr(size, low), f"<= {high} ({getattr(size, high)})")
    crop = (size.crop_left, size.crop_top, size.crop_right, size.crop_bottom)
    if any(crop):
        wide, high_ = size.crop_right - size.crop_left, size.crop_bottom - size.crop_top
        if (wide, high_) != (size.output_image_width, size.output_image_height):
            allowed = f"a crop of the output size, {size.output_image_width}×{size.output_image_height}"
            raise broken(spec, f"{field}.crop_right", f"{wide}×{high_}", allowed)
    zoom = number(spatial, "zoom_min", 1.0), number(spatial, "zoom_max", 1.0)
    if zoom[0] > zoom[1]:
        name = "augmentation_config.spatial_augmentation.zoom_min"
        raise broken(spec, name, zoom[0], f"<= zoom_max ({zoom[1]:g})")
    if bool(size.scale_width) != bool(size.scale_height):
        absent = "scale_height" if size.scale_width else "scale_width"
        raise missing(
            spec, f"{field}.{absent}", hint="scale_width and scale_height belong together, in pixels."
        )
    of_mode = _of_mode(spec, notes)
    return DetectNetAugmentationSettings(
        output_width=size.output_image_width,
        output_height=size.output_image_height,
        output_channel=size.output_image_channel or 3,
        crop=crop if any(crop) else None,
        min_bbox_width=of_mode["min_bbox_width"],
        min_bbox_height=of_mode["min_bbox_height"],
        scale_width=number(size, "scale_width"),
        scale_height=number(size, "scale_height"),
        enable_auto_resize=size.enable_auto_resize,
        hflip_probability=number(spatial, "hflip_probability"),
        vflip_probability=of_mode["vflip_probability"],
        zoom_min=zoom[0],
        zoom_max=zoom[1],
        translate_max_x=number(spatial, "translate_max_x"),
        translate_max_y=number(spatial, "translate_max_y"),
        rotate_max=of_mode["rotate_rad_max"],
        rotate_probability=number(spatial, "rotate_probability") or 1.0,
        color_shift_stddev=number(color, "color_shift_stddev"),
        hue_rotation_max=number(color, "hue_rotation_max"),
        saturation_shift_max=number(color, "saturation_shift_max"),
        contrast_scale_max=number(color, "contrast_scale_max"),
        contrast_center=number(color, "contrast_center"),
    )


def _of_mode(spec: _Spec, notes: list[str]) -> dict[str, float]:
    """Return the fields that NVIDIA's loaders treat differently, as that of ``dataloader_mode`` does.

    Its usual loader leaves out boxes below one pixel only, never flips upside down, and takes the angle for degrees.
    """
    config = spec.message.augmentation_config
    size, spatial = config.preprocessing, config.spatial_augmentation
    mode = detectnet_v2_pb2.DatasetConfig.DataloaderMode.Name(spec.message.dataset_config.dataloader_mode)
    values = {
        "min_bbox_width": number(size, "min_bbox_width"),
        "min_bbox_height": number(size, "min_bbox_height"),
        "vflip_probability": number(spatial, "vflip_probability"),
        "rotate_rad_max": number(spatial, "rotate_rad_max"),
    }
    if mode == "DEFAULT":
        values["rotate_rad_max"] = math.degrees(values["rotate_rad_max"])
        return values
    if mode == "LEGACY":
        notes.append("dataset_config.dataloader_mode: LEGACY loads as MULTISOURCE does")
    for block, name, without in (
        ("preprocessing", "min_bbox_width", 1.0),
        ("preprocessing", "min_bbox_height", 1.0),
        ("spatial_augmentation", "vflip_probability", 0.0),
    ):
        if values[name] > without:
            notes.append(
                f"augmentation_config.{block}.{name} has no effect with dataloader_mode: {mode}, as in NVIDIA's "
                "containers; DEFAULT honours it"
            )
        values[name] = min(values[name], without)
    if values["rotate_rad_max"]:
        notes.append(
            "augmentation_config.spatial_augmentation.rotate_rad_max is taken for degrees with dataloader_mode: "
            f"{mode}, as in NVIDIA's containers; DEFAULT takes it for radians"
        )
    return values


def resolve_dataset(
    spec: _Spec, purpose: Purpose, classes: tuple[str, ...], notes: list[str]
) -> DetectNetDatasetSettings:
    """Return the data's settings; what the purpose needs must be there. Notes are appended."""
    config = spec.message.dataset_config
    mapping = class_mapping(spec, "dataset_config.target_class_mapping", config.target_class_mapping)
    if not mapping:
        hint = 'For example target_class_mapping { key: "car" value: "car" }'
        raise missing(spec, "dataset_config.target_class_mapping", hint=hint)
    without = [name for name in classes if name not in mapping.values()]
    if without:
        hint = f"Map a class of the labels to it: target_class_mapping {{ key: … value: {without[0]!r} }}"
        raise spec.problem(
            f"no class of the labels becomes {without[0]!r}",
            field="dataset_config.target_class_mapping",
            hint=hint,
        )
    unused = sorted(set(mapping.values()) - set(classes))
    if unused:
        notes.append(f"objects of {', '.join(unused)} are left out: cost_function_config doesn't have them")
    # Flags name the images that a network is judged by.
    sources = () if purpose == "judge" else config.data_sources
    if not sources and purpose != "judge":
        hint = "Add data_sources { tfrecords_path: … image_directory_path: … }."
        raise missing(spec, "dataset_config.data_sources", hint=hint)
    split = config.WhichOneof("dataset_split_type")
    if split is None and purpose == "evaluate":
        hint = (
            "Add validation_fold: 0 (the fold that dataset_convert keeps apart), or validation_data_source."
        )
        raise missing(spec, "dataset_config.validation_fold", hint=hint)
    modes = detectnet_v2_pb2.DatasetConfig
    if config.HasField("sampling_mode") and len(sources) == 1:
        notes.append("dataset_config.sampling_mode has no effect with one data source")
    field = "dataset_config.validation_data_source"
    return DetectNetDatasetSettings(
        data_sources=tuple(
            _source(spec, f"dataset_config.data_sources[{index}]", source)
            for index, source in enumerate(sources)
        ),
        image_extension=config.image_extension.removeprefix(".") or "png",
        class_mapping=mapping,
        validation_fold=config.validation_fold if split == "validation_fold" else None,
        validation_source=_source(spec, field, config.validation_data_source)
        if split == "validation_data_source" and purpose != "judge"
        else None,
        sampling_mode=cast(
            Literal["USER_DEFINED", "PROPORTIONAL", "UNIFORM"], modes.SamplingMode.Name(config.sampling_mode)
        ),
    )


def _source(spec: _Spec, field: str, source: detectnet_v2_pb2.DataSource) -> DetectNetSource:
    for name, example in (
        ("tfrecords_path", "/workspace/tao-experiments/data/tfrecords/kitti_trainval/*"),
        ("image_directory_path", "/workspace/tao-experiments/data/training"),
    ):
        if not getattr(source, name):
            raise missing(spec, f"{field}.{name}", hint=f'For example {name}: "{example}"')
    weight = number(source, "source_weight") or 1.0
    return DetectNetSource(source.tfrecords_path, source.image_directory_path, weight)


_FILTERS: Final[Mapping[str, Literal["dimensions", "crop", "source_class"]]] = {
    "bbox_dimensions_label_filter": "dimensions",
    "bbox_crop_label_filter": "crop",
    "source_class_label_filter": "source_class",
}


def resolve_loss_mask(spec: _Spec, classes: tuple[str, ...]) -> LossMaskSettings:
    """Return which objects change the weight of the loss."""
    config = spec.message.loss_mask_label_filter
    filters = []
    for index, entry in enumerate(config.objective_label_filter_configs):
        field = f"loss_mask_label_filter.objective_label_filter_configs[{index}]"
        chosen = entry.label_filter.WhichOneof("label_filter_params")
        if chosen is None:
            hint = f"One of {', '.join(_FILTERS)}."
            raise missing(spec, f"{field}.label_filter", hint=hint)
        for name in entry.target_class_names:
            if name.lower() not in classes:
                raise broken(spec, f"{field}.target_class_names", name, f"one of {', '.join(classes)}")
        for name in entry.objective_names:
            if name not in ("cov", "bbox"):
                raise broken(spec, f"{field}.objective_names", name, "one of cov, bbox")
        parameters = getattr(entry.label_filter, chosen)
        sources = getattr(parameters, "source_class_names", ())
        filters.append(
            LabelFilterSettings(
                kind=_FILTERS[chosen],
                limits={
                    descriptor.name: as_written(value)
                    for descriptor, value in parameters.ListFields()
                    if not descriptor.is_repeated
                },
                source_classes=tuple(name.lower() for name in sources),
                target_classes=tuple(name.lower() for name in entry.target_class_names),
                objectives=tuple(entry.objective_names),
            )
        )
    return LossMaskSettings(tuple(filters), number(config, "mask_multiplier"), config.preserve_ground_truth)
