"""Which detections found an object: all images and classes of a validation set at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from taomagic.engine.boxes import paired_iou

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.intp]
Scalar = TypeVar("Scalar", bound=np.generic)

#: Pairs of a detection and an object that are compared at once: a few arrays of this length stay in the cache.
_BLOCK_PAIRS = 1 << 15


@dataclass(frozen=True)
class ImageTruth:
    """The objects of one image.

    Attributes
    ----------
    boxes
        [M, 4] corners.
    labels
        [M] class ids from 1.
    difficult
        [M] bool: objects that need not be found.
    """

    boxes: FloatArray
    labels: npt.NDArray[np.int64]
    difficult: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ImageDetections:
    """What a model found in one image: boxes [D, 4], scores [D], labels [D] (class ids from 1)."""

    boxes: FloatArray
    scores: FloatArray
    labels: npt.NDArray[np.int64]


def on_whole_pixels(
    boxes: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    labels: npt.NDArray[np.int64],
    size: tuple[int, int],
) -> ImageDetections:
    """Return detections as TAO compares them: rounded to whole pixels inside an image of (height, width)."""
    height, width = size
    limit = np.array([width, height, width, height], dtype=np.float64)
    rounded = np.clip(np.rint(boxes.astype(np.float64)), 0, limit)
    return ImageDetections(rounded, scores.astype(np.float64), labels)


@dataclass(frozen=True)
class Matches:
    """What became of every detection, best first; equal scores in the order of the images.

    Attributes
    ----------
    scores, labels
        [D] confidence and class id of the detections that count.
    hits
        [D] bool: whether it found an object. Detections that took a difficult object are not in the list.
    objects
        By class id, how many objects should be found (without difficult ones); index 0 is unused.
    """

    scores: FloatArray
    labels: npt.NDArray[np.int64]
    hits: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.int64]


def match_detections(
    truths: Sequence[ImageTruth], detections: Sequence[ImageDetections], classes: int, iou_threshold: float
) -> Matches:
    """Give objects to detections, as TAO does.

    In each image, the detections of a class take objects of the class in the order of their scores: each the one that
    it overlaps most of those that no better detection has taken, if by ``iou_threshold`` or more. A detection that
    takes a difficult object counts neither as right nor as wrong; the object is taken all the same, and a second
    detection of it is wrong. (The Pascal VOC tools forgive any number, and let a second detection compete for an
    object that is taken; in TAO it goes to the next best.)

    Parameters
    ----------
    truths, detections
        One entry for each image, in the same order and unit.
    classes
        Number of classes; ids go from 1 to ``classes``.
    iou_threshold
        Above 0.

    Raises
    ------
    ValueError
        The two lists have different lengths.
    """
    if len(truths) != len(detections):
        raise ValueError(f"{len(truths)} images have objects listed, {len(detections)} have detections")
    scores = _joined([d.scores for d in detections], np.float64)
    found_labels = _joined([d.labels for d in detections], np.int64)
    labels = _joined([t.labels for t in truths], np.int64)
    difficult = _joined([t.difficult for t in truths], np.bool_)
    # Only a detection and an object of the same group, the objects of one class in one image, can meet.
    ids = classes + 1
    group = _image_index([d.scores for d in detections]) * ids + found_labels
    truth_group = _image_index([t.labels for t in truths]) * ids + labels

    detection, truth, overlap = _pairs_above(
        _joined([d.boxes for d in detections], np.float64).reshape(-1, 4),
        group,
        _joined([t.boxes for t in truths], np.float64).reshape(-1, 4),
        truth_group,
        iou_threshold,
    )
    order = np.argsort(-scores, kind="stable")
    place = np.empty(len(order), dtype=np.intp)
    place[order] = np.arange(len(order))
    taken = _take_in_turn(detection, truth, overlap, place, group)

    hit = taken >= 0
    ignored = np.zeros(len(scores), dtype=bool)
    ignored[hit] = difficult[taken[hit]]
    counted = order[~ignored[order]]
    objects = np.bincount(labels[~difficult], minlength=ids)
    return Matches(scores[counted], found_labels[counted], hit[counted], objects)


def _take_in_turn(
    detection: IndexArray, truth: IndexArray, overlap: FloatArray, place: IndexArray, group: IndexArray
) -> IndexArray:
    """Let detections take objects, and return for each the index of its object, or -1.

    The first three describe the pairs that overlap enough, those of a detection together. Each round takes the next
    best detection of *every* group; these can't compete with each other. So there are as many rounds as the fullest
    group has detections near an object, and not as many steps as there are detections.
    """
    taken = np.full(len(place), -1, dtype=np.intp)
    if not len(detection):
        return taken
    turn = np.zeros(len(place), dtype=np.intp)
    near = detection[_starts(detection)]
    near = near[np.lexsort((place[near], group[near]))]
    turn[near] = _count_up(np.diff(_starts(group[near]), append=len(near)))

    # The pairs of a round, and in it of a detection, lie together, the greatest overlap first, then the first object.
    order = np.lexsort((truth, -overlap, detection, turn[detection]))
    detection, truth = detection[order], truth[order]
    free = np.ones(int(truth.max()) + 1, dtype=bool)
    ends = np.cumsum(np.bincount(turn[detection]))
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        left = start + np.flatnonzero(free[truth[start:end]])
        if len(left):
            chosen = left[_starts(detection[left])]
            taken[detection[chosen]] = truth[chosen]
            free[truth[chosen]] = False
    return taken


def _pairs_above(
    boxes: FloatArray,
    group: IndexArray,
    truth_boxes: FloatArray,
    truth_group: IndexArray,
    iou_threshold: float,
) -> tuple[IndexArray, IndexArray, FloatArray]:
    """Return detection, object and overlap of the pairs of a group that overlap by the threshold or more."""
    by_group = np.argsort(truth_group, kind="stable")
    size = int(max(group.max(initial=-1), truth_group.max(initial=-1))) + 1
    count = np.bincount(truth_group, minlength=size)
    first = np.cumsum(count) - count
    detections, truths, overlaps = [], [], []
    for block in _blocks(np.flatnonzero(count[group]), count[group]):
        many = count[group[block]]
        detection = np.repeat(block, many)
        truth = by_group[np.repeat(first[group[block]], many) + _count_up(many)]
        overlap = paired_iou(boxes.take(detection, axis=0), truth_boxes.take(truth, axis=0))
        enough = overlap >= iou_threshold
        detections.append(detection[enough])
        truths.append(truth[enough])
        overlaps.append(overlap[enough])
    return _joined(detections, np.intp), _joined(truths, np.intp), _joined(overlaps, np.float64)


def _blocks(detections: IndexArray, pairs_of: IndexArray) -> Iterator[IndexArray]:
    """Cut a list of detections where about ``_BLOCK_PAIRS`` pairs are together."""
    done = np.cumsum(pairs_of[detections])
    total = int(done[-1]) if len(done) else 0
    cuts = np.searchsorted(done, np.arange(_BLOCK_PAIRS, total, _BLOCK_PAIRS))
    yield from (block for block in np.split(detections, cuts) if len(block))


def _starts(values: npt.NDArray[np.integer]) -> IndexArray:
    """Return where in a list a run of equal values begins."""
    return np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))


def _count_up(counts: npt.NDArray[np.integer]) -> IndexArray:
    """Return 0, 1, … count - 1 for each of the counts, one after the other."""
    ends = np.cumsum(counts)
    place: IndexArray = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - counts, counts)
    return place


def _image_index(parts: Sequence[npt.NDArray[Any]]) -> IndexArray:
    """Return for each row of all parts the number of its part."""
    return np.repeat(np.arange(len(parts)), [len(part) for part in parts])


def _joined(parts: Sequence[npt.NDArray[Any]], dtype: type[Scalar]) -> npt.NDArray[Scalar]:
    """Concatenate arrays, of which there may be none."""
    return np.concatenate(parts).astype(dtype, copy=False) if parts else np.empty(0, dtype)
