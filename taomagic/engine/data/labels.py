"""The boxes of one image, and what happens to boxes alone.

Boxes are ``[n, 4]`` float32, x1, y1, x2, y2 in pixels: 0 is the left or upper edge of the first pixel.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Labels:
    """The boxes of one image.

    Attributes
    ----------
    boxes
        ``[n, 4]`` float32, x1, y1, x2, y2 in pixels.
    classes
        ``[n]`` int64, ids from 1.
    difficult
        ``[n]`` bool.
    """

    boxes: Boxes
    classes: NDArray[np.int64]
    difficult: NDArray[np.bool_]

    def keep(self, chosen: NDArray[np.bool_] | np.bool_) -> Labels:
        """Return the chosen boxes, in their order."""
        return Labels(self.boxes[chosen], self.classes[chosen], self.difficult[chosen])

    def moved(self, boxes: NDArray[np.floating]) -> Labels:
        """Return the same objects with other boxes."""
        return Labels(boxes.astype(np.float32, copy=False), self.classes, self.difficult)


def mirrored(boxes: Boxes, width: float) -> Boxes:
    """Return the boxes of an image of that width after it was mirrored left to right: x becomes ``width - x``."""
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def scaled_to_whole_pixels(boxes: Boxes, across: float, down: float) -> Boxes:
    """Return the boxes scaled, each coordinate rounded to a whole pixel (halves to the even one)."""
    # In float64: a product that is a half on paper must not be decided by float32's last bit.
    return np.rint(boxes.astype(np.float64) * (across, down, across, down)).astype(np.float32)


def tidy(labels: Labels, width: int, height: int) -> Labels:
    """Return the labels with boxes clipped to 0..dimension-1, without those that are empty then."""
    # Degenerate boxes go first: clipping could hide that corners are in the wrong order.
    labels = labels.keep((labels.boxes[:, 2:] > labels.boxes[:, :2]).all(axis=1))
    limits = np.array([width - 1, height - 1, width - 1, height - 1], np.float32)
    boxes = np.clip(labels.boxes, 0, limits)
    return labels.moved(boxes).keep((boxes[:, 2:] - boxes[:, :2] > 1e-3).all(axis=1))


def class_counts(identities: Iterable[NDArray[np.int64]], classes: Sequence[str]) -> dict[str, int]:
    """Return the number of objects per class, given the ids of each image's objects, from 1."""
    counts = np.zeros(len(classes) + 1, np.int64)
    for some in identities:
        counts += np.bincount(some, minlength=len(counts))
    return {name: int(counts[position]) for position, name in enumerate(classes, 1)}
