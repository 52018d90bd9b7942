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
        return _between(self.min_learning_rate, self.max_learning_rate, t)


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


@dataclass(frozen=True)
class AnnealingOnPlateau:
    """TAO's ``early_stopping_annealing_schedule``: learn fast until that no longer helps, then slower, then stop.

    The rate rises for some epochs and stays. When the validation cost hasn't fallen for ``patience`` epochs, it falls
    for ``annealing_epochs``, and the training ends; at the latest it ends with ``epochs``.

    Attributes
    ----------
    min_learning_rate, max_learning_rate
        Rate at both ends, and on the plateau.
    soft_start_epochs, annealing_epochs, patience
        In epochs.
    epochs, steps
        The most epochs, and steps an epoch.
    """

    min_learning_rate: float
    max_learning_rate: float
    soft_start_epochs: int
    annealing_epochs: int
    patience: int
    epochs: int
    steps: int

    def rate(self, step: int, history: Sequence[Row]) -> float:
        """Return the learning rate of a step."""
        done = step / self.steps
        t = min(1.0, done / self.soft_start_epochs) if self.soft_start_epochs else 1.0
        begun = self._annealing_from(history)
        if begun is not None and self.annealing_epochs:
            t = min(t, max(0.0, 1.0 - (done - begun) / self.annealing_epochs))
        return _between(self.min_learning_rate, self.max_learning_rate, t)

    def last_epoch(self, history: Sequence[Row]) -> int:
        """Return the last epoch."""
        begun = self._annealing_from(history)
        return self.epochs if begun is None else min(self.epochs, begun + self.annealing_epochs)

    def _annealing_from(self, history: Sequence[Row]) -> int | None:
        """Return the epoch after which the rate falls, ``None`` as long as it doesn't."""
        best, best_epoch = math.inf, 0
        for row in history:
            if "validation_loss" not in row:
                continue
            if row["validation_loss"] < best:
                best, best_epoch = row["validation_loss"], int(row["epoch"])
            elif row["epoch"] - best_epoch >= self.patience:
                return int(row["epoch"])
        return None


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


def _between(low: float, high: float, t: float) -> float:
    """Return the rate at ``t`` in 0..1 of the way from the lowest to the highest, straight in the logarithm."""
    start, end = math.log(low), math.log(high)
    return math.exp(start + t * (end - start))
