"""Detections over a validation set, and what TAO prints about them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from taomagic.engine.detectnet_v2.average_precision import evaluate as average_precisions
from taomagic.engine.detectnet_v2.clustering import Detections, cluster
from taomagic.engine.detectnet_v2.loading import ValidationData
from taomagic.engine.detectnet_v2.model import DetectNet
from taomagic.engine.detectnet_v2.objective import GridObjective
from taomagic.engine.detectnet_v2.targets import decode_boxes
from taomagic.engine.device import Device
from taomagic.engine.training.distributed import gathered, world
from taomagic.spec.settings_detectnet_v2 import ClusteringSettings, DetectNetEvaluationSettings

#: Set to 1, evaluation uses the two confidence thresholds as NVIDIA's TF1 code does: DBSCAN's for NMS and NMS' for
#: DBSCAN. Its builder passes them in the wrong order, so that NVIDIA's own specs are evaluated with a threshold of 0.
SWAP_VARIABLE = "TAOMAGIC_SWAP_CONFIDENCE_THRESHOLDS"


@dataclass(frozen=True)
class GridEvaluation:
    """What a validation gave.

    Attributes
    ----------
    average_precision
        By class, 0..1.
    cost
        Mean loss without the regulariser.
    milliseconds
        Median time of the network and the clustering for one image.
    """

    average_precision: Mapping[str, float]
    cost: float
    milliseconds: float

    @property
    def mean(self) -> float:
        """Mean over the classes."""
        return float(np.mean(list(self.average_precision.values()))) if self.average_precision else 0.0


class GridPredictor:
    """A network and its clustering, as a function from images to detections.

    Parameters
    ----------
    model
        On its device; put into evaluation mode.
    device
        Where it runs.
    clustering
        By class.
    """

    def __init__(
        self, model: DetectNet, device: Device, clustering: Mapping[str, ClusteringSettings]
    ) -> None:
        self.model = model.eval()
        self._device = device
        self._clustering = clustering

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return coverage [N, C, H, W] and boxes [N, 4 · C, H, W] for images [N, C, H, W]."""
        images = images.to(self._device.torch_device).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), self._device.autocast():
            coverage, boxes = self.model(images)
        return coverage.float(), boxes.float()

    def select(self, coverage: Tensor, boxes: Tensor) -> list[dict[str, Detections]]:
        """Return, for each image, the detections by class."""
        architecture = self.model.architecture
        _, height, width = architecture.input_shape
        corners = decode_boxes(
            self.model.by_class(boxes),
            (height, width),
            scale=architecture.bbox_scale,
            offset=architecture.bbox_offset,
        )
        cells, pixels = coverage.cpu().numpy(), corners.cpu().numpy()
        return [
            {
                name: cluster(cells[image, channel], pixels[image, channel], self._clustering[name])
                for channel, name in enumerate(architecture.classes)
            }
            for image in range(len(cells))
        ]


def for_evaluation(clustering: Mapping[str, ClusteringSettings]) -> dict[str, ClusteringSettings]:
    """Return the clustering of an evaluation; with :data:`SWAP_VARIABLE` set, that of NVIDIA's."""
    if os.environ.get(SWAP_VARIABLE) not in {"1", "true"}:
        return dict(clustering)
    return {
        name: replace(
            one,
            dbscan_confidence_threshold=one.nms_confidence_threshold or 0.0,
            nms_confidence_threshold=one.dbscan_confidence_threshold,
        )
        for name, one in clustering.items()
    }


def evaluate_model(
    predictor: GridPredictor,
    data: ValidationData,
    settings: DetectNetEvaluationSettings,
    objective: GridObjective,
    batch_size: int,
) -> GridEvaluation:
    """Score a network; where several processes train, all of them share the work."""
    here = world()
    classes = predictor.model.architecture.classes
    rows = []
    for batch in data.batches(batch_size, rank=here.rank, world_size=here.size):
        start = time.perf_counter()
        coverage, boxes = predictor.raw(batch.images)
        found = predictor.select(coverage, boxes)
        seconds = (time.perf_counter() - start) / max(1, len(batch))
        cost = float(objective(coverage, boxes, batch=batch).total)
        truths = [
            {name: corners[labels == channel].numpy() for channel, name in enumerate(classes, 1)}
            for corners, labels in zip(batch.boxes, batch.labels, strict=True)
        ]
        rows.append((len(batch), cost, seconds, truths, found))
    rows = [row for some in gathered(rows) for row in some]
    truths_of_all = [truth for *_, truths, _ in rows for truth in truths]
    found_of_all = [found for *_, some in rows for found in some]
    return GridEvaluation(
        average_precisions(
            {name: [truth[name] for truth in truths_of_all] for name in classes},
            {name: [found[name] for found in found_of_all] for name in classes},
            settings,
        ),
        cost=float(np.average([row[1] for row in rows], weights=[row[0] for row in rows])),
        milliseconds=1000 * statistics.median(row[2] for row in rows),
    )


def table(average_precision: Mapping[str, float]) -> list[str]:
    """Return NVIDIA's table of average precisions in per cent, in the order of the alphabet."""
    title = "average precision (in %)"
    # NVIDIA's comes from a library that makes a column two wider than its title.
    width = max([len("class name") + 2, *map(len, average_precision)])
    lines = [f"{'class name':<{width}}    {title}", f"{'-' * width}  {'-' * (len(title) + 2)}"]
    for name in sorted(average_precision):
        lines.append(f"{name:<{width}}  {100 * average_precision[name]:>{len(title) + 2}.4f}")
    return lines
