"""The MultiBox loss with hard-negative mining over the whole batch (Liu et al., 2016, equation 1 and section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from taomagic.engine.ssd.targets import BACKGROUND, Targets

#: Keras clips probabilities here before the logarithm: -ln(1e-15).
MAX_CLASS_LOSS = 34.538776394910684


@dataclass(frozen=True)
class LossParts:
    """The two parts of the loss, each already divided by the number of positives."""

    classification: Tensor
    localisation: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised, without the regulariser."""
        return self.classification + self.localisation

    def named(self) -> dict[str, Tensor]:
        """Return the parts by name."""
        return {"classification": self.classification, "localisation": self.localisation}


def multibox_loss(
    scores: Tensor,
    offsets: Tensor,
    targets: Targets,
    *,
    alpha: float = 1.0,
    neg_pos_ratio: float = 3.0,
) -> LossParts:
    """Compare predictions with targets.

    The negatives that count are the ``neg_pos_ratio`` × positives with the highest loss in the *batch*, not in each
    image: an image without objects still teaches what background looks like.

    Parameters
    ----------
    scores
        [N, A, C] class scores before the softmax.
    offsets
        [N, A, 4] predicted box offsets.
    targets
        From :func:`taomagic.engine.ssd.targets.match`.
    alpha
        Weight of the box part.
    neg_pos_ratio
        Negatives for each positive.
    """
    flat_scores = scores.float().flatten(0, 1)
    flat_classes = targets.classes.flatten()
    positive = (flat_classes > BACKGROUND).nonzero().squeeze(1)
    negative = (flat_classes == BACKGROUND).nonzero().squeeze(1)
    positives = max(1, positive.numel())

    log_normaliser = torch.logsumexp(flat_scores, dim=1)
    positive_loss = log_normaliser[positive] - flat_scores[positive, flat_classes[positive]]
    negative_loss = log_normaliser[negative] - flat_scores[negative, BACKGROUND]
    keep = min(int(neg_pos_ratio * positive.numel()), negative.numel())
    # A loss of zero can't be mined; the sum is the same with or without it, so no need to count the non-zero ones.
    hardest = negative_loss.topk(keep, sorted=False).values if keep else negative_loss[:0]
    classification = positive_loss.clamp(max=MAX_CLASS_LOSS).sum() + hardest.clamp(max=MAX_CLASS_LOSS).sum()

    predicted = offsets.float().flatten(0, 1)[positive]
    wanted = targets.offsets.flatten(0, 1)[positive]
    localisation = F.smooth_l1_loss(predicted, wanted, reduction="sum")
    return LossParts(classification / positives, alpha * localisation / positives)
