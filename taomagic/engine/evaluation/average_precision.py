"""Average precision as TAO's SSD computes it (Pascal VOC, with one overlap threshold).

``SAMPLE`` is the 11-point measure of VOC 2007: the mean, over the recalls 0, 0.1, … 1, of the best precision at that
recall or more. ``INTEGRATE`` is VOC 2010's: the area under the monotone envelope of the curve. Which detection counts
as right is told in :mod:`taomagic.engine.evaluation.matching`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from taomagic.engine.evaluation.matching import ImageDetections, ImageTruth, match_detections

FloatArray = npt.NDArray[np.float64]
Mode = Literal["SAMPLE", "INTEGRATE"]
#: Divided, and not added up: 3 · 0.1 is above the recall of three objects in ten.
_LEVELS = np.arange(11) / 10


@dataclass(frozen=True)
class ClassResult:
    """The result for one class.

    Attributes
    ----------
    average_precision
        0..1; 0 where the truth holds no object of the class.
    precision, recall
        The curve, one point for each detection in descending score; those that took a difficult object aren't in it.
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
    if not len(precision):
        return 0.0
    best_from = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    # Recall never falls, so the points at a recall of t or more are all those from the first one on.
    return float(np.mean(best_from[np.searchsorted(recall, _LEVELS)]))


def integrated_average_precision(precision: FloatArray, recall: FloatArray) -> float:
    """Return the area under the monotone envelope of a curve given in descending score."""
    envelope = np.maximum.accumulate(np.concatenate([precision, [0.0]])[::-1])[::-1]
    steps = np.diff(np.concatenate([[0.0], recall, [1.0]]))
    return float(np.sum(steps * envelope))


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
    matches = match_detections(truths, detections, len(class_names), iou_threshold)
    results = {}
    for label, name in enumerate(class_names, start=1):
        hits, objects = matches.hits[matches.labels == label], int(matches.objects[label])
        true_positives = np.cumsum(hits)
        precision = true_positives / np.arange(1, len(hits) + 1)
        recall = true_positives / max(1, objects)
        value = measure(precision, recall) if objects else 0.0
        results[name] = ClassResult(value, precision, recall, objects)
    return Evaluation(results)
