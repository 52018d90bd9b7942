"""Matching: which anchor has to predict which object (Liu et al., 2016, section 2.2, "Matching strategy")."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from taomagic.engine.boxes import encode, pairwise_iou

#: Class target of an anchor that is neither clearly an object nor clearly background; it takes no part in the loss.
NEUTRAL = -1
BACKGROUND = 0


@dataclass(frozen=True)
class Targets:
    """What the network should have said.

    Attributes
    ----------
    classes
        [N, A] int64: a class id for matched anchors, :data:`BACKGROUND`, or :data:`NEUTRAL`.
    offsets
        [N, A, 4] float32 encoded boxes; zero where nothing is matched.
    """

    classes: Tensor
    offsets: Tensor


def bipartite_match(iou: Tensor, valid: Tensor) -> Tensor:
    """Give every object an anchor of its own: again and again the best pair left, whose object and anchor then retire.

    Parameters
    ----------
    iou
        [N, M, A] overlap of object and anchor; the columns of the anchors that were given away are zeroed in place.
    valid
        [N, M] bool: which rows are objects, not padding.

    Returns
    -------
    Tensor
        [N, M] int64 index of the anchor; -1 for padding and for objects that overlap no free anchor.
    """
    batch, objects, _ = iou.shape
    rows = torch.arange(batch, device=iou.device)
    best_iou, best_anchor = iou.max(dim=2)
    best_iou = best_iou.masked_fill(~valid, 0.0)
    matched = torch.full((batch, objects), -1, dtype=torch.int64, device=iou.device)
    for _ in range(objects):
        value, row = best_iou.max(dim=1)
        anchor = best_anchor[rows, row]
        found = value > 0
        matched[rows[found], row[found]] = anchor[found]
        best_iou[rows, row] = 0.0
        iou[rows[found], :, anchor[found]] = 0.0
        # Only an object whose favourite was just given away has to look again; a second look at all is cheap to skip.
        if bool(((best_anchor == anchor[:, None]) & (best_iou > 0)).any()):
            again, best_anchor = iou.max(dim=2)
            best_iou = torch.where(best_iou > 0, again, best_iou)
    return matched


def match(
    anchors: Tensor,
    boxes: Tensor,
    labels: Tensor,
    variances: Tensor,
    *,
    pos_iou_thresh: float,
    neg_iou_thresh: float,
) -> Targets:
    """Assign objects to anchors for a whole batch.

    First every object takes its best anchor (:func:`bipartite_match`), then every anchor left takes its best object if
    they overlap by ``pos_iou_thresh`` or more. Of the rest, those with ``neg_iou_thresh`` or more become neutral, the
    others background.

    Parameters
    ----------
    anchors
        [A, 4] corners as shares of the image.
    boxes
        [N, M, 4] corners as shares of the image; padding rows are ignored.
    labels
        [N, M] int64 class ids from 1; 0 marks padding.
    variances
        [4] divisors of the encoding.
    pos_iou_thresh, neg_iou_thresh
        Overlap limits of ``ssd_config``.
    """
    batch, objects = labels.shape
    count = anchors.shape[0]
    classes = torch.zeros(batch, count, dtype=torch.int64, device=boxes.device)
    if objects == 0:
        return Targets(classes, torch.zeros(batch, count, 4, device=boxes.device))
    valid = labels > 0
    iou = pairwise_iou(boxes, anchors).masked_fill_(~valid[:, :, None], 0.0)
    own_anchor = bipartite_match(iou, valid)
    best_iou, best_object = iou.max(dim=1)  # [N, A]; zero for the anchors given away

    owner = torch.where(best_iou >= pos_iou_thresh, best_object, NEUTRAL)
    has_own = own_anchor >= 0
    image, row = has_own.nonzero(as_tuple=True)
    owner[image, own_anchor[image, row]] = row

    positive = owner >= 0
    taken = owner.clamp(min=0)
    classes = torch.where(positive, labels.gather(1, taken), classes)
    classes = torch.where(~positive & (best_iou >= neg_iou_thresh), NEUTRAL, classes)

    offsets = torch.zeros(batch, count, 4, dtype=boxes.dtype, device=boxes.device)
    image, anchor = positive.nonzero(as_tuple=True)
    offsets[image, anchor] = encode(boxes[image, taken[image, anchor]], anchors[anchor], variances)
    return Targets(classes, offsets)
