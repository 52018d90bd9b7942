"""Average precision as DetectNet_v2 computes it, with an overlap threshold and size limits for each class.

Source: section 5.7 of the reference. It differs from SSD's: coordinates are whole pixels and areas count their ends, a
detection is compared with the *one* object that it overlaps most, taken or not, and objects outside the size limits
don't exist.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt

from taomagic.engine.detectnet_v2.clustering import Detections
from taomagic.engine.evaluation.average_precision import ClassResult, sampled_average_precision
from taomagic.spec.settings_detectnet_v2 import BoxFilterSettings

Array = npt.NDArray[np.float64]
Mode = Literal["SAMPLE", "INTEGRATE"]


def average_precision(precision: Array, recall: Array, mode: Mode) -> float:
    """Return the measure of a curve in descending confidence; 0 for an empty one.

    ``SAMPLE`` is the mean, over the recalls 0, 0.1, … 1, of the best precision at that recall or more. ``INTEGRATE`` is
    the area under the best precisions between the first recall and the last; what lies before the first doesn't count.
    """
    if len(precision) == 0:
        return 0.0
    if mode == "SAMPLE":
        return sampled_average_precision(precision, recall)
    levels, first = np.unique(recall, return_index=True)
    area = 0.0
    for i in range(len(levels) - 1):
        area += (levels[i + 1] - levels[i]) * float(precision[first[i] : -1].max(initial=0.0))
    return area


def class_result(
    images: Iterable[tuple[npt.NDArray[np.floating], Detections]],
    limits: BoxFilterSettings,
    *,
    overlap: float,
    mode: Mode,
) -> ClassResult:
    """Return the average precision of one class, and its curve.

    Parameters
    ----------
    images
        For each image, [M, 4] boxes of the objects of the class, in pixels of the network's input, and what was found
        of the class.
    limits
        ``evaluation_box_config``: boxes of other sizes are left out, on both sides.
    overlap
        ``minimum_detection_ground_truth_overlap``: least IoU of a hit.
    mode
        ``average_precision_mode``.
    """
    confidences: list[npt.NDArray[np.floating]] = [np.zeros(0)]
    hits: list[npt.NDArray[np.bool_]] = [np.zeros(0, np.bool_)]
    objects = 0
    for truth, found in images:
        wanted = np.rint(truth[_fits(truth, limits)])
        fits = _fits(found.boxes, limits)
        order = np.argsort(-found.confidence[fits], kind="stable")
        boxes = np.rint(found.boxes[fits][order])
        objects += len(wanted)
        confidences.append(found.confidence[fits][order])
        hits.append(_hits(boxes, wanted, overlap))
    scores = np.concatenate(confidences)
    hit = np.concatenate(hits)[np.argsort(-scores, kind="stable")]
    true_positives = np.cumsum(hit)
    precision, recall = true_positives / np.arange(1, len(hit) + 1), true_positives / max(1, objects)
    value = average_precision(precision, recall, mode) if objects else 0.0
    return ClassResult(value, precision, recall, objects)


def _fits(boxes: npt.NDArray[np.floating], limits: BoxFilterSettings) -> npt.NDArray[np.bool_]:
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    fits = (width >= limits.minimum_width) & (width <= limits.maximum_width)
    fits &= (height >= limits.minimum_height) & (height <= limits.maximum_height)
    return np.asarray(fits, np.bool_)


def _hits(
    boxes: npt.NDArray[np.floating], truth: npt.NDArray[np.floating], overlap: float
) -> npt.NDArray[np.bool_]:
    """Return which detections of one image, best first, are the first to hit the object that they overlap most."""
    hit = np.zeros(len(boxes), np.bool_)
    if len(boxes) == 0 or len(truth) == 0:
        return hit
    low = np.maximum(boxes[:, None, :2], truth[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], truth[None, :, 2:])
    shared = np.maximum(high - low + 1, 0).prod(axis=2)
    area, area_truth = ((b[:, 2:] - b[:, :2] + 1).prod(axis=1) for b in (boxes, truth))
    iou = shared / (area[:, None] + area_truth - shared)
    best = iou.argmax(axis=1)
    good = np.flatnonzero(iou[np.arange(len(boxes)), best] >= overlap)
    # The first of those that chose the same object has it.
    _, first = np.unique(best[good], return_index=True)
    hit[good[first]] = True
    return hit
