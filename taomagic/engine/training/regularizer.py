"""L1 and L2 penalties on the weights of convolutions, applied to the gradients directly.

Putting the penalty into the loss would make autograd walk over every weight; its gradient is known, so it is added.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Kind = Literal["NO_REG", "L1", "L2"]


class Regularizer:
    """The penalty ``weight · Σ|k|`` (L1) or ``weight · Σk²`` (L2) over the kernels of a model.

    Batch normalisation is spared, and so are depthwise kernels, which Keras regularises by another argument that TAO
    leaves unset.

    Parameters
    ----------
    kind, weight
        As in the spec's ``regularizer``.
    model
        Whose convolutions are regularised; frozen kernels have no gradient and stay as they are.
    biases
        Whether their biases are regularised too: TAO's DetectNet_v2 asks Keras for it, its SSD doesn't.
    """

    def __init__(self, kind: Kind, weight: float, model: nn.Module, *, biases: bool = False) -> None:
        self.kind = kind
        self.weight = weight
        convolutions = [
            m
            for m in model.modules()
            if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)
            and not (m.groups > 1 and m.groups == m.in_channels)
        ]
        self.kernels: list[Tensor] = [m.weight for m in convolutions]
        if biases:
            self.kernels += [m.bias for m in convolutions if m.bias is not None]

    @torch.no_grad()
    def penalty(self) -> Tensor | float:
        """Return the value to add to the loss that is shown."""
        if self.kind == "NO_REG":
            return 0.0
        norms = torch.stack(torch._foreach_norm(self.kernels, 1 if self.kind == "L1" else 2))
        return self.weight * (norms.sum() if self.kind == "L1" else norms.square().sum())

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add the penalty's gradient to that of the loss."""
        if self.kind == "NO_REG":
            return
        pairs = [(k, k.grad) for k in self.kernels if k.grad is not None]
        if not pairs:
            return
        trained, gradients = [k for k, _ in pairs], [g for _, g in pairs]
        if self.kind == "L1":
            torch._foreach_add_(gradients, torch._foreach_sign(trained), alpha=self.weight)
        else:
            torch._foreach_add_(gradients, trained, alpha=2 * self.weight)
