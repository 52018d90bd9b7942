"""The learning rate: a soft start, a plateau, an annealing; straight lines in the logarithm."""

from __future__ import annotations

import math
from dataclasses import dataclass


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
