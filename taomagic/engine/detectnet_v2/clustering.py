"""From cells to objects: many cells speak of the same box, and clustering makes one of them.

Source: section 5.6 of the reference. DBSCAN is Ester et al. (KDD 1996), with the coverage of a cell as its weight and
1 - IoU as the distance of two boxes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from taomagic.spec.settings_detectnet_v2 import ClusteringSettings

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Confidence = Literal["aggregate_cov", "mean_cov"]

#: What NVIDIA's code takes where a file doesn't say it.
DEFAULT_NMS_IOU = 0.3
DEFAULT_NMS_CONFIDENCE = 0.1
#: Boxes that are compared with all others at once.
_ROWS = 32
#: Label of what belongs to no cluster.
NOISE = -1


@dataclass(frozen=True)
class Detections:
    """Objects of one class in one image, most confident first.

    Attributes
    ----------
    boxes
        [D, 4] float32 corners in pixels of the network's input.
    confidence
        [D] float32; with ``aggregate_cov`` a sum, which may be above 1.
    """

    boxes: FloatArray
    confidence: FloatArray


def cluster(
    coverage: FloatArray,
    boxes: FloatArray,
    settings: ClusteringSettings,
    *,
    confidence: Confidence = "aggregate_cov",
    at_threshold: bool = True,
) -> Detections:
    """Return the objects that the cells of one class speak of.

    Parameters
    ----------
    coverage
        [H, W] between 0 and 1.
    boxes
        [H, W, 4] corners in pixels.
    settings
        ``clustering_config`` of the class.
    confidence
        Of DBSCAN's clusters: the sum of the coverage of their cells, or its mean.
    at_threshold
        Whether a confidence that equals ``dbscan_confidence_threshold`` is enough: in ``evaluate`` and in the commands
        of ``tao deploy`` it is, in ``inference`` it isn't.
    """
    chosen = coverage > settings.coverage_threshold
    weights = coverage[chosen].astype(np.float32)
    candidates = boxes[chosen].astype(np.float32)
    if settings.algorithm == "NMS":
        found = _suppress(candidates, weights, settings)
    else:
        found = _dbscan_objects(candidates, weights, settings, confidence, at_threshold=at_threshold)
    tall = found.boxes[:, 3] - found.boxes[:, 1] > settings.minimum_bounding_box_height
    order = np.argsort(-found.confidence[tall], kind="stable")
    return Detections(found.boxes[tall][order], found.confidence[tall][order])


def _dbscan_objects(
    boxes: FloatArray,
    weights: FloatArray,
    settings: ClusteringSettings,
    confidence: Confidence,
    *,
    at_threshold: bool,
) -> Detections:
    """Return one box for each cluster; with HYBRID, those of its members that non-maximum suppression leaves."""
    labels = dbscan(
        boxes, weights, eps=settings.dbscan_eps, min_samples=max(int(settings.dbscan_min_samples), 1)
    )
    count = int(labels.max(initial=NOISE)) + 1
    if settings.algorithm == "HYBRID":
        members = [_suppress(boxes[labels == i], weights[labels == i], settings) for i in range(count)]
        return Detections(
            np.concatenate([np.zeros((0, 4), np.float32), *(one.boxes for one in members)]),
            np.concatenate([np.zeros(0, np.float32), *(one.confidence for one in members)]),
        )
    kept = labels != NOISE
    labels, boxes, weights = labels[kept], boxes[kept], weights[kept]
    sums = np.bincount(labels, weights, minlength=count)
    sides = [np.bincount(labels, weights * boxes[:, side], minlength=count) for side in range(4)]
    means = (np.stack(sides, axis=1) / sums.clip(min=1e-12)[:, None]).astype(np.float32)
    cells = np.bincount(labels, minlength=count).clip(min=1)
    scores = (sums / cells if confidence == "mean_cov" else sums).astype(np.float32)
    threshold = np.float32(settings.dbscan_confidence_threshold)
    sure = scores >= threshold if at_threshold else scores > threshold
    return Detections(means[sure], scores[sure])


def dbscan(boxes: FloatArray, weights: FloatArray, *, eps: float, min_samples: float) -> IntArray:
    """Group boxes that overlap.

    A box is a *core* if the boxes at a distance (1 - IoU) of at most ``eps``, itself among them, weigh
    ``min_samples`` or more. Cores that are neighbours share a cluster; a box that isn't one joins the first cluster
    that has a core beside it.

    Parameters
    ----------
    boxes
        [n, 4] float32 corners.
    weights
        [n] float32.
    eps, min_samples
        As above.

    Returns
    -------
    numpy.ndarray
        [n] int64 clusters from 0, in the order of their first cores; :data:`NOISE` for what belongs to none.
    """
    if len(boxes) == 0:
        return np.zeros(0, np.int64)
    # Sorted by their left sides, the boxes that a box can overlap stand together.
    order = np.argsort(boxes[:, 0], kind="stable")
    near = _overlap_at_least(boxes[order], 1.0 - eps)
    # Sums of float32 differ by their order; a box that weighs just enough must not depend on that.
    core = near.view(np.uint8).astype(np.float32) @ weights[order] >= min_samples * (1 - 1e-6)
    labels = np.full(len(boxes), NOISE, np.int64)
    place = np.argsort(order)
    cluster = 0
    for first in place[core[place]]:
        if labels[first] != NOISE:
            continue
        frontier = np.array([first])
        while len(frontier):
            labels[frontier] = cluster
            reached = near[frontier].any(axis=0) & (labels == NOISE)
            labels[reached & ~core] = cluster
            frontier = np.flatnonzero(reached & core)
        cluster += 1
    return labels[place]


def _overlap_at_least(boxes: FloatArray, least: float) -> BoolArray:
    """Return [n, n]: whether the IoU of two boxes, sorted by their left sides, is at least this; with itself always."""
    count = len(boxes)
    x1, y1, x2, y2 = (np.ascontiguousarray(side) for side in boxes.T)
    area = (x2 - x1) * (y2 - y1)
    # shared / (sum - shared) >= least, without the division.
    share = np.float32(least / (1.0 + least) * (1 - 1e-6))
    result = np.zeros((count, count), np.bool_)
    # Some rows at a time, in place: the buffers stay in the cache, which is worth more than anything else here.
    for start in range(0, count, _ROWS):
        end = min(start + _ROWS, count)
        # Those further left were compared before, those that begin further right can't overlap.
        stop = max(end, int(np.searchsorted(x1, x2[start:end].max(), side="right")))
        rows, others = slice(start, end), slice(start, stop)
        shared = np.minimum(x2[rows, None], x2[others])
        shared -= np.maximum(x1[rows, None], x1[others])
        np.maximum(shared, 0, out=shared)
        height = np.minimum(y2[rows, None], y2[others])
        height -= np.maximum(y1[rows, None], y1[others])
        np.maximum(height, 0, out=height)
        shared *= height
        wanted = np.add(area[rows, None], area[others], out=height)
        wanted *= share
        # Boxes without an area overlap nothing.
        np.maximum(wanted, np.finfo(np.float32).tiny, out=wanted)
        result[rows, others] = shared >= wanted
        result[others, rows] |= result[rows, others].T
    np.fill_diagonal(result, val=True)
    return result


def _suppress(boxes: FloatArray, scores: FloatArray, settings: ClusteringSettings) -> Detections:
    """Return the boxes that greedy non-maximum suppression leaves; areas are counted in whole pixels, ends included."""
    least = (
        DEFAULT_NMS_CONFIDENCE
        if settings.nms_confidence_threshold is None
        else settings.nms_confidence_threshold
    )
    limit = DEFAULT_NMS_IOU if settings.nms_iou_threshold is None else settings.nms_iou_threshold
    sure = scores > least
    boxes, scores = boxes[sure], scores[sure]
    order = np.argsort(-scores, kind="stable")
    boxes, scores = boxes[order], scores[order]
    area = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
    alive = np.ones(len(boxes), np.bool_)
    kept = []
    for best in range(len(boxes)):
        if not alive[best]:
            continue
        kept.append(best)
        low = np.maximum(boxes[best, :2], boxes[:, :2])
        high = np.minimum(boxes[best, 2:], boxes[:, 2:])
        shared = np.maximum(high - low + 1, 0).prod(axis=1)
        alive &= shared / (area[best] + area - shared) <= limit
    return Detections(boxes[kept], scores[kept])
