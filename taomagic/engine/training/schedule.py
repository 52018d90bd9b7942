"""How fast a training learns, and when it ends: what is known beforehand, and what depends on how it goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from taomagic.engine.training.report import Row
from taomagic.spec.settings import EarlyStoppingSettings


class Schedule(Protocol):
    """Learning rates and the end of a training.

    Both are functions of what the epochs so far have given: a training that resumes needs no other memory of them.
    """

    def rate(self, step: int, history: Sequence[Row]) -> float:
        """Return the learning rate of a step, counted from the training's very first one."""
        ...

    def last_epoch(self, history: Sequence[Row]) -> int:
        """Return the epoch (1-based) that is the last one, as far as ``history`` tells."""
        ...


@dataclass(frozen=True)
class SoftStartAnnealing:
    """TAO's ``soft_start_annealing_schedule``.

    Attributes
    ----------
    min_learning_rate, max_learning_rate
        Rate at both ends, and on the plateau.
    soft_start, annealing
        Shares of the training at which the plateau begins and ends, in 0..1.
    """

    min_learning_rate: float
    max_learning_rate: float
    soft_start: float
    annealing: float

    def __call__(self, progress: float) -> float:
        """Return the learning rate at ``progress`` in 0..1 of the training."""
        if progress < self.soft_start:
            t = progress / self.soft_start
        elif progress > self.annealing:
            t = (1.0 - progress) / (1.0 - self.annealing)
        else:
            t = 1.0
        low, high = math.log(self.min_learning_rate), math.log(self.max_learning_rate)
        return math.exp(low + t * (high - low))


@dataclass(frozen=True)
class FixedLength:
    """A training of a number of epochs, which may end before.

    Attributes
    ----------
    curve
        The learning rate over the whole training.
    epochs, steps
        Number of epochs, and of steps an epoch.
    early_stopping
        When to end before.
    """

    curve: SoftStartAnnealing
    epochs: int
    steps: int
    early_stopping: EarlyStoppingSettings | None = None

    def rate(self, step: int, history: Sequence[Row]) -> float:  # noqa: ARG002 - others look at it
        """Return the learning rate of a step."""
        return self.curve(step / (self.epochs * self.steps))

    def last_epoch(self, history: Sequence[Row]) -> int:
        """Return the last epoch."""
        rule = self.early_stopping
        if rule is not None and history:
            values = [row[rule.monitor] for row in history if rule.monitor in row]
            if should_stop_early(values, patience=rule.patience, min_delta=rule.min_delta):
                return int(history[-1]["epoch"])
        return self.epochs


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
