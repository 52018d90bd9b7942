"""Rounding to 8-bit integers and back, as a device with integer arithmetic does it, with a gradient to train through.

A *scale* ``s`` belongs to a tensor: the largest magnitude that has to survive. The grid is symmetric, ``k · s / 127``
for the integers ``k`` from −128 to 127; what lies beyond is moved to its ends. Rounding has no useful gradient, so it
is taken for the identity (Bengio et al., 2013), except beyond the ends, where the output no longer follows the input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

#: The integers of a signed 8-bit grid.
QUANT_MIN, QUANT_MAX = -128, 127
#: A tensor of zeros would have a scale of zero, and a step of zero can't be divided by.
SMALLEST_SCALE = 1e-12


def largest_magnitude(x: Tensor) -> Tensor:
    """Return the largest absolute value of a tensor as a scalar tensor, zero for an empty one; makes no copy."""
    if x.numel() == 0:
        return x.new_zeros(())
    if x.is_cuda:
        low, high = torch.aminmax(x)  # one pass
    else:
        low, high = x.amin(), x.amax()  # PyTorch 2.13's aminmax is three times as slow as both of these
    return torch.maximum(high, -low)


def fake_quantize(x: Tensor, scale: Tensor) -> Tensor:
    """Round a tensor to the grid of a scale.

    Parameters
    ----------
    x
        float32, any shape.
    scale
        The largest magnitude that survives; a scalar tensor on the same device, positive.

    Returns
    -------
    Tensor
        ``x`` on the grid. Its gradient is handed on to ``x`` where ``x`` rounds to a point of the grid, and is zero
        where ``x`` lies beyond the grid's ends.
    """
    step = scale.clamp(min=SMALLEST_SCALE) / QUANT_MAX
    if x.is_cuda:
        # One kernel, and the step never leaves the GPU.
        zero = torch.zeros((), dtype=torch.int32, device=x.device)
        return torch.fake_quantize_per_tensor_affine(x, step, zero, QUANT_MIN, QUANT_MAX)
    rounded: Tensor = _RoundOnCpu.apply(x, float(step))  # type: ignore[no-untyped-call]
    return rounded


def fake_quantize_weight(weight: Tensor) -> Tensor:
    """Round a weight to the grid of its own largest magnitude, as it is now; nothing lies beyond that grid."""
    return fake_quantize(weight, largest_magnitude(weight.detach()))


class _RoundOnCpu(torch.autograd.Function):
    """On CPUs PyTorch's own operator goes value by value, and takes 12 × as long as four vectorised passes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.step = step
        return torch.mul(x, 1 / step).clamp_(QUANT_MIN, QUANT_MAX).round_().mul_(step)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        # Half a step more: what rounds to an end of the grid is still on it.
        low, high = (QUANT_MIN - 0.5) * ctx.step, (QUANT_MAX + 0.5) * ctx.step
        # Into the memory layout of x, which the gradient may have lost on its way; batch normalisation is slow else.
        result = torch.empty_like(x)
        return torch.ops.aten.hardtanh_backward(gradient, x, low, high, grad_input=result), None
