"""One epoch of training; the same for every network."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from taomagic.engine.data.loading import Batch
from taomagic.engine.training.not_finite import NotFiniteLoss, raise_not_finite
from taomagic.engine.training.optimizer import set_learning_rate
from taomagic.engine.training.report import EpochResult, StepResult
from taomagic.engine.training.step import Step

__all__ = ["NotFiniteLoss", "train_epoch"]

logger = logging.getLogger(__name__)

#: Steps between two looks at the loss on a GPU: each look waits until all that was asked of it is done.
STEPS_BETWEEN_LOOKS = 10


class _Ledger:
    """Losses that were computed, but not looked at yet."""

    def __init__(self, step: Step, steps: int, on_step: Callable[[StepResult], None] | None) -> None:
        self.total, self.images, self.steps, self.skipped = 0.0, 0, 0, 0
        self._step, self._steps = step, steps
        self._on_step = on_step
        self._waiting: list[tuple[Batch, float]] = []
        self._values: list[Tensor] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def mean(self) -> float:
        """The mean loss of the steps that counted."""
        return self.total / max(1, self.steps - self.skipped)

    def add(self, batch: Batch, learning_rate: float, values: Tensor) -> None:
        if batch.images.is_cuda:
            # Names and boxes are what a message needs; the pictures of several batches would fill the GPU.
            batch = replace(batch, images=batch.images.new_empty(0))
        self._waiting.append((batch, learning_rate))
        self._values.append(values)

    def look(self, names: Sequence[str]) -> None:
        """Read what waits; raise for the first loss that isn't finite, unless float16 just overflowed."""
        if not self._waiting:
            return
        for (batch, learning_rate), row in zip(
            self._waiting, torch.stack(self._values).tolist(), strict=True
        ):
            if not math.isfinite(row[0]):
                self.skipped += 1
                if not self._step.may_overflow() or self.skipped == self._steps:
                    named = dict(zip(names, row, strict=True))
                    raise_not_finite(batch, named, step=self.steps, learning_rate=learning_rate)
                self.steps += 1
                logger.warning("Step %d: a value is too large for float16; the step is skipped.", self.steps)
                continue
            self._step.overflows = 0
            self.total += row[0]
            self.images += batch.global_size
            self.steps += 1
            if self._on_step is not None:
                self._on_step(StepResult(self.steps - 1, row[0], self.mean, learning_rate))
        self._waiting.clear()
        self._values.clear()


def train_epoch(
    batches: Iterator[Batch],
    steps: int,
    step: Step,
    *,
    learning_rate_at: Callable[[int], float],
    on_step: Callable[[StepResult], None] | None = None,
) -> EpochResult:
    """Train for one epoch.

    Parameters
    ----------
    batches
        At least ``steps`` batches.
    steps
        Number of optimiser steps.
    step
        What a step does.
    learning_rate_at
        Learning rate of step ``i`` of this epoch.
    on_step
        Called for each step; on a GPU some steps later.

    Raises
    ------
    NotFiniteLoss
        Names the images of the batch and what part of the loss it was. In float16, whose values may overflow in one
        batch and not in the next, only when that goes on and on.
    """
    # A CPU has computed the loss when it is at hand, and a loss that isn't finite then never reaches the weights.
    patience = STEPS_BETWEEN_LOOKS if step.device.is_cuda else 1
    start = time.monotonic()
    ledger = _Ledger(step, steps, on_step)
    learning_rate = 0.0
    for index, batch in zip(range(steps), batches, strict=False):
        learning_rate = learning_rate_at(index)
        set_learning_rate(step.optimizer, learning_rate)
        loss, names, values = step.forward(batch)
        ledger.add(batch, learning_rate, values)
        if patience == 1:
            ledger.look(names)
        step.update(loss)
        if len(ledger) >= patience or index == steps - 1:
            ledger.look(names)
    return EpochResult(ledger.mean, learning_rate, time.monotonic() - start, ledger.images)
