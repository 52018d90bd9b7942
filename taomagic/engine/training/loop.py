"""One epoch of training, and early stopping; the same for every network."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from taomagic.engine.console import TrainingBar
from taomagic.engine.data.loading import Batch
from taomagic.engine.training.optimizer import set_learning_rate
from taomagic.engine.training.regularizer import Regularizer
from taomagic.errors import StageFailed


class NotFiniteLoss(StageFailed):
    """The loss became NaN or infinite; going on can't mend it."""


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave: mean loss (with the regulariser), last learning rate, wall-clock seconds, images trained."""

    loss: float
    learning_rate: float
    seconds: float
    images: int


def train_epoch(
    batches: Iterator[Batch],
    steps: int,
    *,
    loss_of: Callable[[Batch], Tensor],
    optimizer: torch.optim.Optimizer,
    regularizer: Regularizer,
    learning_rate_at: Callable[[int], float],
    on_step: Callable[[int, float, float], None] | None = None,
) -> EpochResult:
    """Train for one epoch.

    Parameters
    ----------
    batches
        At least ``steps`` batches.
    steps
        Number of optimiser steps.
    loss_of
        Forward pass and loss of one batch, without the regulariser; a scalar with gradients.
    optimizer, regularizer
        As built from the spec.
    learning_rate_at
        Learning rate of step ``i`` of this epoch.
    on_step
        Called after each step with its index, loss and learning rate (for TensorBoard).

    Raises
    ------
    NotFiniteLoss
        Names the images of the batch.
    """
    bar = TrainingBar(steps)
    start = time.monotonic()
    total, images, learning_rate = 0.0, 0, 0.0
    for step, batch in zip(range(steps), batches, strict=False):
        learning_rate = learning_rate_at(step)
        set_learning_rate(optimizer, learning_rate)
        loss = loss_of(batch)
        value = float(loss.detach() + regularizer.penalty())
        if not math.isfinite(value):
            shown = ", ".join(batch.names[:8]) + (", …" if len(batch.names) > 8 else "")
            raise NotFiniteLoss(
                f"the loss became {value} in step {step + 1} at learning rate {learning_rate:.3g}; batch: {shown}",
                hint="Lower max_learning_rate, lengthen soft_start, or look at the labels of these images.",
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        regularizer.add_gradients()
        optimizer.step()
        total += value
        images += len(batch.names)
        bar.update(step + 1, total / (step + 1))
        if on_step is not None:
            on_step(step, value, learning_rate)
    mean = total / max(1, steps)
    bar.close(mean)
    return EpochResult(mean, learning_rate, time.monotonic() - start, images)


def should_stop_early(values: Sequence[float], *, patience: int, min_delta: float) -> bool:
    """Apply Keras' EarlyStopping (mode ``min``) to the monitored values so far, one an epoch.

    A value counts as better if it is lower than the best by more than ``min_delta``; after ``patience`` epochs without
    a better one, training stops.
    """
    best, waited = math.inf, 0
    for value in values:
        if value + min_delta < best:
            best, waited = value, 0
        else:
            waited += 1
            if waited >= max(1, patience):
                return True
    return False
