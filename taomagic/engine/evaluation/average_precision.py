"""Average precision as TAO's SSD computes it (Pascal VOC, with one overlap threshold).

``SAMPLE`` is the 11-point measure of VOC 2007: the mean, over the recalls 0, 0.1, … 1, of the best precision at that
recall or more. ``INTEGRATE`` is VOC 2010's: the area under the monotone envelope of the curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from taomagic.engine.boxes import iou_matrix

FloatArray = npt.NDArray[np.float64]
Mode = Literal["SAMPLE", "INTEGRATE"]


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
    """What a model found in one image: boxes [D, 4], scores [D], labels [D]."""

    boxes: FloatArray
    scores: FloatArray
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassResult:
    """The result for one class.

    Attributes
    ----------
    average_precision
        0..1; 0 where the truth holds no object of the class.
    precision, recall
        The curve, one point for each detection in descending score.
    objects
        Number of objects that should be found (without difficult ones).
    """

    average_precision: float
    precision: FloatArray
    recall: FloatArray
    objects: int


@dataclass(frozen=True)
class Evaluation:
    """Results by class name, in the order of the class ids."""

    classes: Mapping[str, ClassResult]

    @property
    def mean_average_precision(self) -> float:
        """Mean over all classes, absent ones counted as zero, as the original does."""
        return float(np.mean([c.average_precision for c in self.classes.values()])) if self.classes else 0.0


def sampled_average_precision(precision: FloatArray, recall: FloatArray) -> float:
    """Return the 11-point measure of a curve given in descending score."""
    best = [precision[recall >= t].max(initial=0.0) for t in np.linspace(0.0, 1.0, 11)]
    return float(np.mean(best))


def integrated_average_precision(precision: FloatArray, recall: FloatArray) -> float:
    """Return the area under the monotone envelope of a curve given in descending score."""
    envelope = np.maximum.accumulate(np.concatenate([precision, [0.0]])[::-1])[::-1]
    steps = np.diff(np.concatenate([[0.0], recall, [1.0]]))
    return float(np.sum(steps * envelope))


def _match_class(
    truths: Sequence[ImageTruth], detections: Sequence[ImageDetections], label: int, iou_threshold: float
) -> tuple[FloatArray, npt.NDArray[np.bool_], int]:
    """Return scores and true-positive marks of all detections that count, and the number of objects to find."""
    scores: list[float] = []
    hits: list[bool] = []
    objects = 0
    for truth, found in zip(truths, detections, strict=True):
        wanted = truth.labels == label
        boxes, difficult = truth.boxes[wanted], truth.difficult[wanted]
        objects += int(np.count_nonzero(~difficult))
        mine = found.labels == label
        order = np.argsort(-found.scores[mine], kind="stable")
        free = np.ones(len(boxes), dtype=bool)
        overlaps = iou_matrix(found.boxes[mine][order], boxes)
        for row, score in zip(overlaps, found.scores[mine][order], strict=True):
            # Only objects that no better detection took are compared, so a second detection of an object is a miss.
            overlap = np.where(free, row, 0.0) if len(boxes) else np.zeros(1)
            best = int(overlap.argmax())
            hit = bool(len(boxes)) and overlap[best] >= iou_threshold
            if hit and difficult[best]:
                continue  # neither right nor wrong, however often it is found (VOC)
            if hit:
                free[best] = False
            scores.append(float(score))
            hits.append(hit)
    return np.asarray(scores, dtype=np.float64), np.asarray(hits, dtype=bool), objects


def evaluate_detections(
    truths: Sequence[ImageTruth],
    detections: Sequence[ImageDetections],
    class_names: Sequence[str],
    *,
    iou_threshold: float,
    mode: Mode,
) -> Evaluation:
    """Score detections against the truth.

    Parameters
    ----------
    truths, detections
        One entry for each image, in the same order and unit.
    class_names
        Names of the classes with the ids 1, 2, …
    iou_threshold
        Overlap from which on a detection counts as a hit (``matching_iou_threshold``).
    mode
        ``"SAMPLE"`` or ``"INTEGRATE"``.
    """
    measure = sampled_average_precision if mode == "SAMPLE" else integrated_average_precision
    results = {}
    for label, name in enumerate(class_names, start=1):
        scores, hits, objects = _match_class(truths, detections, label, iou_threshold)
        hits = hits[np.argsort(-scores, kind="stable")]
        true_positives = np.cumsum(hits)
        precision = true_positives / np.arange(1, len(hits) + 1)
        recall = true_positives / max(1, objects)
        value = measure(precision, recall) if objects else 0.0
        results[name] = ClassResult(value, precision, recall, objects)
    return Evaluation(results)
