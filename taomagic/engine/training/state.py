"""What a checkpoint keeps beside the weights, so that the next step is the very one an uninterrupted run would make.

It is the optimiser's ``state_dict()``. Where a loss scaler or an average of the weights takes part, their state lies
beside it under :data:`EXTRA`; the weights of such a checkpoint are then the averaged ones, and those in training are
part of the state. So does what the network itself remembers (:meth:`Network.state`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from taomagic.engine.training.average import WeightAverage
from taomagic.engine.training.optimizer import restore_optimizer

#: Key of all that isn't the optimiser's.
EXTRA = "taomagic"


def collect(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    average: WeightAverage | None,
    of_network: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the state of a training as tensors and plain values."""
    state: dict[str, Any] = dict(optimizer.state_dict())
    extra: dict[str, Any] = {}
    if scaler.is_enabled():
        extra["scaler"] = scaler.state_dict()
    if average is not None:
        extra["weights"] = {name: tensor.detach() for name, tensor in model.state_dict().items()}
        extra["averaged_steps"] = average.steps
    if of_network:
        extra["network"] = dict(of_network)
    return {**state, EXTRA: extra} if extra else state


def of_network(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what the network itself has put into a state."""
    found: Mapping[str, Any] = state.get(EXTRA, {}).get("network", {})
    return found


def restore(
    state: Mapping[str, Any],
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    average: WeightAverage | None,
) -> None:
    """Put a training into the state that :func:`collect` returned; ``model`` has the weights of the checkpoint.

    A checkpoint may come from a training with other settings (``--initial_epoch`` with a changed spec): what it doesn't
    have begins anew.
    """
    extra = state.get(EXTRA, {})
    restore_optimizer(optimizer, {key: value for key, value in state.items() if key != EXTRA})
    if scaler.is_enabled() and "scaler" in extra:
        scaler.load_state_dict(extra["scaler"])
    if "weights" not in extra:
        return
    if average is not None:
        average.restore(model.state_dict(), extra["averaged_steps"])
    model.load_state_dict(extra["weights"], strict=False)
