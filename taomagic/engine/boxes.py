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


def iou_with_one(box: FloatArray, boxes: FloatArray) -> FloatArray:
    """Return the intersection over union of one box [4] with boxes [N, 4] as [N]."""
    width = np.minimum(box[2], boxes[:, 2]) - np.maximum(box[0], boxes[:, 0])
    height = np.minimum(box[3], boxes[:, 3]) - np.maximum(box[1], boxes[:, 1])
    intersection = np.clip(width, 0, None) * np.clip(height, 0, None)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    union = (box[2] - box[0]) * (box[3] - box[1]) + areas - intersection
    result: FloatArray = intersection / np.maximum(union, 1e-12)
    return result


def nms(boxes: FloatArray, scores: FloatArray, iou_threshold: float, limit: int) -> npt.NDArray[np.intp]:
    """Greedy non-maximum suppression.

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
    kept: list[int] = []
    while order.size and len(kept) < limit:
        best, order = order[0], order[1:]
        kept.append(int(best))
        order = order[iou_with_one(boxes[best], boxes[order]) <= iou_threshold]
    return np.asarray(kept, dtype=np.intp)
