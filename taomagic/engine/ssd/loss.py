"""The MultiBox loss with hard-negative mining over the whole batch (Liu et al., 2016, equation 1 and section 2.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from taomagic.engine.ssd.targets import BACKGROUND, Targets
from taomagic.engine.training.distributed import stacked, sum_over_ranks, world

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
    shared: bool = False,
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
        From :func:`taomagic.engine.ssd.targets.match`; on the CPU, or where the scores are.
    alpha
        Weight of the box part.
    neg_pos_ratio
        Negatives for each positive.
    shared
        Whether the batch is spread over all processes. Positives are then counted and negatives mined in all of it, and
        what comes back is this process' share: the shares of all processes add up to the loss of the whole batch.
    """
    device = scores.device
    flat_scores = scores.float().flatten(0, 1)
    flat_classes = targets.classes.flatten()
    # Counted where the targets are: on the CPU that doesn't wait for what a GPU is still to compute.
    positive = (flat_classes > BACKGROUND).nonzero().squeeze(1)
    negative = (flat_classes == BACKGROUND).nonzero().squeeze(1)
    counts = torch.tensor([positive.numel(), negative.numel()])
    if shared:
        counts = sum_over_ranks(counts.to(device))
    positives, negatives = counts.tolist()
    keep = min(int(neg_pos_ratio * positives), negatives)

    wanted_class = _to(flat_classes[positive], device)
    wanted_box = _to(targets.offsets.flatten(0, 1)[positive], device)
    positive, negative = _to(positive, device), _to(negative, device)
    log_normaliser = torch.logsumexp(flat_scores, dim=1)
    positive_loss = log_normaliser[positive] - flat_scores[positive, wanted_class]
    negative_loss = log_normaliser[negative] - flat_scores[negative, BACKGROUND]
    # A loss of zero can't be mined; the sum is the same with or without it, so no need to count the non-zero ones.
    hardest = negative_loss.topk(min(keep, negative_loss.numel()), sorted=shared).values
    if shared:
        hardest = _among_all(hardest, keep)
    classification = positive_loss.clamp(max=MAX_CLASS_LOSS).sum() + hardest.clamp(max=MAX_CLASS_LOSS).sum()

    predicted = offsets.float().flatten(0, 1)[positive]
    localisation = F.smooth_l1_loss(predicted, wanted_box, reduction="sum")
    return LossParts(classification / max(1, positives), alpha * localisation / max(1, positives))


def _among_all(losses: Tensor, keep: int) -> Tensor:
    """Return this process' losses that are among the ``keep`` highest of all processes, and zeros for the others.

    Parameters
    ----------
    losses
        [K] this process' highest losses, descending; K is at most ``keep``.
    keep
        The same on each process, and no more than there are losses in all.
    """
    if keep == 0:  # on every process: nobody waits for an exchange of nothing
        return losses
    offered = losses.new_full((keep,), -math.inf)
    offered[: len(losses)] = losses.detach()
    everyone = stacked(offered).flatten()
    # Stable, so that every process breaks a tie in the same way.
    order = everyone.argsort(descending=True, stable=True)[:keep]
    taken = (order // keep == world().rank).sum()
    among = torch.arange(len(losses), device=losses.device) < taken
    return torch.where(among, losses, 0.0)


def _to(values: Tensor, device: torch.device) -> Tensor:
    """Move a tensor without waiting for what a GPU is doing."""
    if values.device == device:
        return values
    return values.pin_memory().to(device, non_blocking=True)
