"""From cells to objects: many cells speak of the same box, and clustering makes one of them.

Source: section 5.6 of the reference. DBSCAN is Ester et al. (KDD 1996), with the coverage of a cell as its weight and
1 - IoU as the distance of two boxes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
#: Boxes that are compared with those before them at once.
_ROWS = 128
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
    near = list(_near(boxes[order], 1.0 - eps))
    core = _masses(near, weights[order]) >= min_samples * (1 - 1e-6)
    cores = np.flatnonzero(core)
    labels = np.full(len(boxes), NOISE, np.int64)
    if len(cores) == 0:
        return labels
    tree = _connected(near, core)[cores]
    # Clusters are counted in the order of their first cores, as they stand in the input.
    first = np.full(len(boxes), len(boxes), np.int64)
    np.minimum.at(first, tree, order[cores])
    found, number = np.unique(first[tree], return_inverse=True)
    # What is no core has a number that is none, for now.
    numbers = np.full(len(boxes), len(found), np.int64)
    numbers[cores] = number
    if len(cores) < len(boxes):
        numbers = _with_edges(near, core, numbers)
    labels[order] = np.where(numbers < len(found), numbers, NOISE)
    return labels


class _Block(NamedTuple):
    """Which of some boxes, in the order of their left sides, overlap one before them, or themselves, enough.

    ``hits`` [R, B] says it for the boxes ``rows``, R in a row, and those from ``first`` to the last of them.
    """

    rows: slice
    first: int
    hits: BoolArray

    @property
    def before(self) -> slice:
        """The boxes of the columns."""
        return slice(self.first, self.rows.stop)


def _masses(near: Sequence[_Block], weights: FloatArray) -> npt.NDArray[np.float32]:
    """Return what the neighbours of each box weigh, itself among them."""
    masses = -weights  # itself is counted twice
    for block in near:
        hits = block.hits.view(np.uint8).astype(np.float32)
        masses[block.rows] += hits @ weights[block.before]
        masses[block.before] += weights[block.rows] @ hits
    return masses


def _connected(near: Sequence[_Block], core: BoolArray) -> IntArray:
    """Return for each core the first core that it is connected with.

    Each one is hung below its first neighbour, and trees are joined where a neighbour is in another one, until there is
    none (Shiloach and Vishkin, 1982): a few passes over the blocks, however many parts there are.
    """
    parent = np.arange(len(core))
    if not core.all():
        near = [
            block._replace(hits=block.hits & core[block.before] & core[block.rows, None]) for block in near
        ]
    for block in near:
        lowest = block.first + block.hits.argmax(axis=1)
        parent[block.rows] = np.where(core[block.rows], lowest, parent[block.rows])
    # Small numbers: a pass takes a quarter of the time.
    small = np.uint16 if len(core) <= np.iinfo(np.uint16).max else np.uint32
    joined = True
    while joined:
        joined = False
        while not np.array_equal(parent, above := parent[parent]):
            parent = above
        tree = parent.astype(small)
        for block in near:
            apart = tree[block.rows, None] != tree[block.before]
            apart &= block.hits
            if len(pairs := np.flatnonzero(apart)):
                row, column = np.divmod(pairs, apart.shape[1])
                one, other = parent[row + block.rows.start], parent[column + block.first]
                # A higher number below a lower one, so that there is no circle. A root that another block has hung
                # somewhere else in this pass is no longer the root: what is lost here is found in the next pass.
                parent[np.maximum(one, other)] = np.minimum(one, other)
                joined = True
    return parent


def _with_edges(near: Sequence[_Block], core: BoolArray, numbers: IntArray) -> IntArray:
    """Return the numbers of the clusters, with the lowest beside it for each box that is no core."""
    result = numbers.copy()
    for block in near:
        rows, before = block.rows, block.before
        for edge in np.flatnonzero(~core[rows]):
            beside = numbers[before][block.hits[edge]]
            result[rows.start + edge] = beside.min(initial=result[rows.start + edge])
        for edge in np.flatnonzero(~core[before]):
            beside = numbers[rows][block.hits[:, edge]]
            result[before.start + edge] = beside.min(initial=result[before.start + edge])
    return result


def _near(boxes: FloatArray, least: float) -> Iterator[_Block]:
    """Yield, some rows at a time, whether the IoU of a box and one before it is at least this.

    The boxes are sorted by their left sides. A box overlaps itself, whatever its size.
    """
    count = len(boxes)
    x1, y1, x2, y2 = (np.ascontiguousarray(side) for side in boxes.T)
    area = (x2 - x1) * (y2 - y1)
    # shared / (sum - shared) >= least, without the division.
    part = area * np.float32(least / (1.0 + least) * (1 - 1e-6))
    # What two boxes share is no higher than either, so it is at least this part of the width of each: a box shares too
    # little with all that begin further right than here.
    reach = x1 + np.float32(1.0 - least + 1e-6) * (x2 - x1) + np.float32(1e-3)
    farthest = np.maximum.accumulate(reach)
    all_have_area = bool((area > 0).all())
    # The same memory for all blocks stays in the cache, which is worth more than anything else here.
    buffers = np.empty((3, min(_ROWS, count) * count), np.float32)
    lower = np.tri(min(_ROWS, count), dtype=np.bool_)
    for start in range(0, count, _ROWS):
        end = min(start + _ROWS, count)
        rows = slice(start, end)
        if least <= 0:  # then a distance of 1 is near as well, that of boxes which share nothing
            yield _Block(rows, 0, np.tri(end - start, end, start, dtype=np.bool_))
            continue
        first = int(np.searchsorted(farthest, x1[start]))
        before = slice(first, end)
        shape = end - start, end - first
        shared, height, top = (buffer[: shape[0] * shape[1]].reshape(shape) for buffer in buffers)
        np.minimum(x2[rows, None], x2[before], out=shared)
        shared -= x1[rows, None]  # the left side of what is shared: that of the later one
        np.maximum(shared, 0, out=shared)
        np.minimum(y2[rows, None], y2[before], out=height)
        height -= np.maximum(y1[rows, None], y1[before], out=top)
        shared *= height
        hits = shared >= np.add(part[rows, None], part[before], out=height)
        hits[:, start - first :] &= lower[: end - start, : end - start]
        if not all_have_area:
            hits &= (area[rows] > 0)[:, None]
            hits[np.arange(end - start), np.arange(start - first, end - first)] = True
        yield _Block(rows, first, hits)


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
