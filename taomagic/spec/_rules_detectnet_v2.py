"""The ranges of DetectNet_v2's fields, by name; those of NVIDIA's validator and of its constructors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from taomagic.spec.rules import Rule, above, at_least, half_open_interval, one_of
from taomagic.spec.validate import ARCHITECTURES as SSD_ARCHITECTURES

__all__ = ["INFERENCE_RULES", "RULES"]

#: What NVIDIA's validator knows: SSD's but the last one.
ARCHITECTURES: Final = tuple(name for name in SSD_ARCHITECTURES if name != "efficientnet_b1")


def _share(example: str) -> Rule:
    return Rule(">= 0 and <= 1", lambda value: 0 <= value <= 1, example)


def _radius(example: str) -> Rule:
    return Rule("> 0 and <= 1", lambda value: 0 < value <= 1, example, required=True)


def _size(example: str) -> Rule:
    return Rule(
        "> 0 and a multiple of 16", lambda value: value > 0 and value % 16 == 0, example, required=True
    )


#: Shared with `inference`.
_CLUSTERING: Final[Mapping[str, Rule]] = {
    "coverage_threshold": _share("0.005"),
    "minimum_bounding_box_height": at_least(0, "20"),
    "dbscan_eps": _share("0.2"),
    "dbscan_min_samples": _share("0.05"),
    "nms_iou_threshold": _share("0.3"),
    "nms_confidence_threshold": _share("0.1"),
}

#: Field name -> rule. proto3's unset is a 0 to NVIDIA's checker, so a field that must be above 0 must be written.
RULES: Final[Mapping[str, Rule]] = {
    **_CLUSTERING,
    "dbscan_confidence_threshold": _share("0.9"),
    # dataset_config
    "source_weight": at_least(0, "1.0"),
    # augmentation_config
    "output_image_width": _size("1248"),
    "output_image_height": _size("384"),
    "output_image_channel": one_of((0, 1, 3), "3"),
    "min_bbox_width": at_least(0, "1.0"),
    "min_bbox_height": at_least(0, "1.0"),
    "scale_width": at_least(0, "0.0"),
    "scale_height": at_least(0, "0.0"),
    "hflip_probability": _share("0.5"),
    "vflip_probability": _share("0.0"),
    "zoom_min": above(0, "1.0", required=True),
    "zoom_max": above(0, "1.0", required=True),
    "translate_max_x": at_least(0, "8.0"),
    "translate_max_y": at_least(0, "8.0"),
    "rotate_rad_max": at_least(0, "0.0"),
    "rotate_probability": _share("1.0"),
    "color_shift_stddev": at_least(0, "0.0"),
    "hue_rotation_max": Rule(">= 0 and <= 360", lambda value: 0 <= value <= 360, "25.0"),
    "saturation_shift_max": _share("0.2"),
    "contrast_scale_max": at_least(0, "0.1"),
    "contrast_center": _share("0.5"),
    # model_config
    "arch": one_of(ARCHITECTURES, '"resnet"', required=True),
    "num_layers": at_least(0, "18"),
    "dropout_rate": half_open_interval("0.0"),
    "scale": above(0, "35.0", required=True),
    "offset": at_least(0, "0.5"),
    "width_multiplier": Rule("> 0 and <= 4", lambda value: 0 < value <= 4, "0.25"),
    # evaluation_config
    "validation_period_during_training": above(0, "10", required=True),
    "first_validation_epoch": above(0, "30", required=True),
    "minimum_height": at_least(0, "20"),
    "minimum_width": at_least(0, "10"),
    "maximum_height": above(0, "9999", required=True),
    "maximum_width": above(0, "9999", required=True),
    # cost_function_config
    "class_weight": above(0, "1.0", required=True),
    "coverage_foreground_weight": Rule("> 0 and < 1", lambda value: 0 < value < 1, "0.05", required=True),
    "initial_weight": at_least(0, "1.0"),
    "weight_target": at_least(0, "1.0"),
    "max_objective_weight": at_least(0, "0.9999"),
    "min_objective_weight": at_least(0, "0.0001"),
    # training_config
    "batch_size_per_gpu": above(0, "4", required=True),
    "num_epochs": above(0, "120", required=True),
    "min_learning_rate": above(0, "5e-7", required=True),
    "max_learning_rate": above(0, "5e-5", required=True),
    "soft_start": half_open_interval("0.1"),
    "annealing": half_open_interval("0.7"),
    "annealing_epochs": above(0, "10", required=True),
    "patience_steps": above(0, "5", required=True),
    "weight": at_least(0, "3e-9"),
    "epsilon": above(0, "1e-8", required=True),
    "beta1": Rule("> 0 and < 1", lambda value: 0 < value < 1, "0.9", required=True),
    "beta2": Rule("> 0 and < 1", lambda value: 0 < value < 1, "0.999", required=True),
    "initial_exponent": above(0, "20.0", required=True),
    "increment": above(0, "0.005", required=True),
    "decrement": above(0, "1.0", required=True),
    # bbox_rasterizer_config
    "cov_center_x": _share("0.5"),
    "cov_center_y": _share("0.5"),
    "cov_radius_x": _radius("0.4"),
    "cov_radius_y": _radius("0.4"),
    "bbox_min_radius": above(0, "1.0", required=True),
    "deadzone_radius": _share("0.4"),
    # loss_mask_label_filter
    "mask_multiplier": at_least(0, "0.0"),
}

INFERENCE_RULES: Final[Mapping[str, Rule]] = {
    **_CLUSTERING,
    # A sum of coverages, so it may be above 1.
    "dbscan_confidence_threshold": at_least(0, "0.9"),
    "batch_size": above(0, "16", required=True),
    "image_height": above(0, "384", required=True),
    "image_width": above(0, "1248", required=True),
    "image_channels": one_of((1, 3), "3", required=True),
    "confidence_model": one_of(("aggregate_cov", "mean_cov"), '"aggregate_cov"'),
    **{name: Rule(">= 0 and <= 255", lambda value: 0 <= value <= 255, "255") for name in ("R", "G", "B")},
    "overlay_linewidth": Rule(">= 0 and <= 100", lambda value: 0 <= value <= 100, "2"),
    "n_batches": at_least(0, "10"),
}
