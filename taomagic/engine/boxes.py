"""Box arithmetic: the one place that knows intersections, the encoding of offsets, and non-maximum suppression.

Boxes are corners (x1, y1, x2, y2). Areas are (x2 - x1)·(y2 - y1), without the +1 of the Pascal VOC tools.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FloatArray = npt.NDArray[np.floating]


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection over union of every pair.

    Parameters
    ----------
    first
        [..., M, 4] boxes.
    second
        [A, 4] boxes in the same unit.

    Returns
    -------
    Tensor
        [..., M, A] in 0..1; 0 where the union is empty.
    """
    x1, y1, x2, y2 = (first[..., i, None] for i in range(4))
    # In-place steps on four [.., M, A] buffers: this is the largest array of a training step.
    width = torch.minimum(x2, second[:, 2]).sub_(torch.maximum(x1, second[:, 0])).clamp_(min=0)
    height = torch.minimum(y2, second[:, 3]).sub_(torch.maximum(y1, second[:, 1])).clamp_(min=0)
    intersection = width.mul_(height)
    area = ((x2 - x1) * (y2 - y1)) + (second[:, 2] - second[:, 0]) * (second[:, 3] - second[:, 1])
    return intersection.div_(area.sub_(intersection).clamp_(min=1e-12))


def encode(boxes: Tensor, anchors: Tensor, variances: Tensor) -> Tensor:
    """Express boxes as offsets from their anchors (Liu et al., 2016, equation 2, divided by the variances).

    Parameters
    ----------
    boxes, anchors
        [..., 4] corners of the same shape and unit; positive width and height.
    variances
        [4] divisors for centre x, centre y, log width, log height.

    Returns
    -------
    Tensor
        [..., 4] offsets (tx, ty, tw, th).
    """
    size = anchors[..., 2:] - anchors[..., :2]
    box_size = boxes[..., 2:] - boxes[..., :2]
    shift = ((boxes[..., :2] + boxes[..., 2:]) - (anchors[..., :2] + anchors[..., 2:])) / (2 * size)
    return torch.cat([shift, torch.log(box_size / size)], dim=-1) / variances


def decode(offsets: Tensor, anchors: Tensor, variances: Tensor) -> Tensor:
    """Undo :func:`encode`: offsets [..., 4] back to corners [..., 4]."""
    size = anchors[..., 2:] - anchors[..., :2]
    scaled = offsets * variances
    centre = (anchors[..., :2] + anchors[..., 2:]) / 2 + scaled[..., :2] * size
    half = torch.exp(scaled[..., 2:]) * size / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def paired_iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the intersection over union of boxes [..., 4] with boxes [..., 4] of a matching shape as [...].

    Boxes of a network that has diverged may be endless or no numbers; they overlap nothing.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        width = np.minimum(first[..., 2], second[..., 2]) - np.maximum(first[..., 0], second[..., 0])
        height = np.minimum(first[..., 3], second[..., 3]) - np.maximum(first[..., 1], second[..., 1])
        intersection = np.maximum(width, 0) * np.maximum(height, 0)
        areas = [(b[..., 2] - b[..., 0]) * (b[..., 3] - b[..., 1]) for b in (first, second)]
        union = areas[0] + areas[1] - intersection
        result: FloatArray = np.nan_to_num(intersection / np.maximum(union, 1e-12), copy=False)
    return result


def iou_matrix(first: FloatArray, second: FloatArray) -> FloatArray:
    """Return the intersection over union of every box [M, 4] with every box [N, 4] as [M, N]."""
    return paired_iou(first[:, None], second[None])


#: Candidates that are compared with each other at once: small enough for the cache, large enough to fill a usual limit.
_NMS_BLOCK = 256


def nms(boxes: FloatArray, scores: FloatArray, iou_threshold: float, limit: int) -> npt.NDArray[np.intp]:
    """Greedy non-maximum suppression.

    Candidates are taken in blocks of descending score. An untrained network offers thousands; the limit is reached
    within the first blocks, and the rest is never looked at.

    Parameters
    ----------
    boxes
        [N, 4] corners.
    scores
        [N] higher is better; equal scores keep their order.
    iou_threshold
        A box that overlaps a better one by more than this is dropped.
    limit
        Stop after so many boxes.

    Returns
    -------
    numpy.ndarray
        Indices of the boxes kept, best first.
    """
    order = np.argsort(-scores, kind="stable")
    kept = np.empty(0, dtype=np.intp)
    for start in range(0, len(order), _NMS_BLOCK):
        block = order[start : start + _NMS_BLOCK]
        if len(kept):
            block = block[~(iou_matrix(boxes[block], boxes[kept]) > iou_threshold).any(axis=1)]
        suppresses = np.triu(iou_matrix(boxes[block], boxes[block]) > iou_threshold, 1)
        alive = np.ones(len(block), dtype=bool)
        for i in np.flatnonzero(suppresses.any(axis=1)):
            if alive[i]:
                alive &= ~suppresses[i]
        kept = np.concatenate([kept, block[alive]])
        if len(kept) >= limit:
            return kept[:limit]
    return kept
