"""The optimiser that the spec asks for; TAO's SSD uses SGD with momentum 0.9 where it asks for none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from taomagic.spec.ssd import OptimizerSettings


def build_optimizer(settings: OptimizerSettings, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimiser over the parameters that are trained.

    Its learning rate is set before every step by the schedule. The parameters of ``settings`` are those of
    the spec: ``momentum`` and ``nesterov`` for SGD; ``beta1``, ``beta2``, ``epsilon``, ``amsgrad`` for Adam;
    ``rho``, ``momentum``, ``epsilon``, ``centered`` for RMSprop.
    """
    trained = [p for p in parameters if p.requires_grad]
    p = settings.parameters
    if settings.name == "adam":
        betas = (float(p["beta1"]), float(p["beta2"]))
        # foreach: all tensors in a few calls; the per-tensor loop costs more than the arithmetic on small networks.
        return torch.optim.Adam(
            trained, lr=0.0, betas=betas, eps=float(p["epsilon"]), amsgrad=bool(p["amsgrad"]), foreach=True
        )
    if settings.name == "rmsprop":
        return torch.optim.RMSprop(
            trained,
            lr=0.0,
            alpha=float(p["rho"]),
            eps=float(p["epsilon"]),
            momentum=float(p["momentum"]),
            centered=bool(p["centered"]),
            foreach=True,
        )
    return torch.optim.SGD(
        trained, lr=0.0, momentum=float(p["momentum"]), nesterov=bool(p["nesterov"]), foreach=True
    )


def restore_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a stored optimiser state so that the next step is the very one an uninterrupted run would make.

    A stored tensor has lost its memory layout (channels last), and arithmetic on another layout takes another path
    through the processor, with other rounding. So each tensor gets the layout of its parameter again.
    """
    optimizer.load_state_dict(dict(state))
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            values = optimizer.state.get(parameter, {})
            for name, value in values.items():
                if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                    values[name] = torch.empty_like(parameter).copy_(value)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Set the rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
