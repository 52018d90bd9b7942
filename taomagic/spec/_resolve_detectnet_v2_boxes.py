"""From boxes to coverage maps and back: the blocks of DetectNet_v2's rasteriser and of its clustering."""

from __future__ import annotations

from typing import Literal, cast

from taomagic.spec import detectnet_v2_pb2
from taomagic.spec._by_class import by_class
from taomagic.spec.parse import SpecFile
from taomagic.spec.settings_detectnet_v2 import (
    ClassRasterizerSettings,
    ClusteringSettings,
    RasterizerSettings,
)
from taomagic.spec.validate import missing, number

_Spec = SpecFile[detectnet_v2_pb2.Experiment]


def resolve_clustering(spec: _Spec, classes: tuple[str, ...]) -> dict[str, ClusteringSettings]:
    """Return the clustering of every class."""
    field = "postprocessing_config.target_class_config"
    found = by_class(spec, field, spec.message.postprocessing_config.target_class_config, classes)
    for full, entry in found.values():
        if not entry.HasField("clustering_config"):
            raise missing(
                spec, f"{full}.clustering_config", hint="Every class says how its cells become boxes."
            )
        algorithm = detectnet_v2_pb2.ClusteringConfig.ClusteringAlgorithm
        if entry.clustering_config.clustering_algorithm == algorithm.HYBRID:
            raise spec.problem(
                "clustering_algorithm HYBRID is for inference files only",
                field=f"{full}.clustering_config.clustering_algorithm",
                hint="Use DBSCAN or NMS here.",
            )
    return {name: clustering(found[name][1].clustering_config) for name in classes}


def clustering(config: detectnet_v2_pb2.ClusteringConfig) -> ClusteringSettings:
    """Return a class's clustering with its defaults."""
    name = detectnet_v2_pb2.ClusteringConfig.ClusteringAlgorithm.Name(config.clustering_algorithm)
    return ClusteringSettings(
        algorithm=cast(Literal["DBSCAN", "NMS", "HYBRID"], name),
        coverage_threshold=number(config, "coverage_threshold"),
        minimum_bounding_box_height=config.minimum_bounding_box_height,
        dbscan_eps=number(config, "dbscan_eps"),
        dbscan_min_samples=number(config, "dbscan_min_samples"),
        dbscan_confidence_threshold=number(config, "dbscan_confidence_threshold"),
        nms_iou_threshold=_written(config, "nms_iou_threshold"),
        nms_confidence_threshold=_written(config, "nms_confidence_threshold"),
    )


def _written(config: detectnet_v2_pb2.ClusteringConfig, name: str) -> float | None:
    return number(config, name) if config.HasField(name) else None


def resolve_rasterizer(spec: _Spec, classes: tuple[str, ...]) -> RasterizerSettings:
    """Return how boxes become coverage."""
    config = spec.message.bbox_rasterizer_config
    found = by_class(spec, "bbox_rasterizer_config.target_class_config", config.target_class_config, classes)
    names = ("cov_center_x", "cov_center_y", "cov_radius_x", "cov_radius_y", "bbox_min_radius")
    settings = {
        name: ClassRasterizerSettings(**{part: number(found[name][1], part) for part in names})
        for name in classes
    }
    return RasterizerSettings(settings, number(config, "deadzone_radius"))
