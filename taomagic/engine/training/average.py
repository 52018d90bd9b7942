"""``model_ema``: an exponential moving average of the weights, which is what gets validated and saved.

The average of the last steps' weights is steadier than the last ones (Polyak and Juditsky, 1992). Its decay warms up as
TensorFlow's ``ExponentialMovingAverage`` does, ``(1 + n) / (10 + n)`` after ``n`` steps, so that the random weights of
the beginning are soon forgotten, and ends at 0.9998, about the last 5,000 steps. The statistics of batch normalisation
are averaged as well.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

#: Where the decay ends.
LARGEST_DECAY = 0.9998


def decay_after(steps: int) -> float:
    """Return the share of the old average that the step number ``steps`` (from 0) keeps."""
    return min(LARGEST_DECAY, (1 + steps) / (10 + steps))


class WeightAverage:
    """The moving average of a network's weights.

    Parameters
    ----------
    model
        The network in training; its weights of now are the first average.

    Attributes
    ----------
    model
        The network with the averaged weights.
    steps
        Number of updates so far.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model)
        self.steps = 0
        self._pairs = list(zip(_tensors(self.model), _tensors(model), strict=True))

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        floating = [pair for pair in self._pairs if pair[0].is_floating_point()]
        averaged, current = [a for a, _ in floating], [c for _, c in floating]
        torch._foreach_lerp_(averaged, current, 1.0 - decay_after(self.steps))
        self.steps += 1

    def restore(self, weights: Mapping[str, Tensor], steps: int) -> None:
        """Go on with a stored average."""
        self.model.load_state_dict(dict(weights), strict=False)
        self.steps = steps


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*(p.detach() for p in model.parameters()), *model.buffers()]
