"""Batch normalisation over the batch of all processes, so that N processes learn what one with all images would.

PyTorch's ``SyncBatchNorm`` runs on GPUs only. On CPUs :class:`SharedBatchNorm2d` does it with one exchange in each
direction, from the same kernels as ordinary batch normalisation and as fast.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taomagic.engine.training.distributed import stacked, sum_over_ranks


def share_batch_norm(model: nn.Module) -> nn.Module:
    """Return a network whose batch normalisation in training mode looks at the batches of all processes.

    Weights and statistics keep their names and stay the same tensors. Layers in evaluation mode (``freeze_bn``) need
    nobody else.
    """
    if any(parameter.is_cuda for parameter in model.parameters()):
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-any-return]
    for name, child in model.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(model, name, SharedBatchNorm2d.like(child))
        else:
            share_batch_norm(child)
    return model


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation with the statistics of all processes' images; a process may have none."""

    @classmethod
    def like(cls, layer: nn.BatchNorm2d) -> SharedBatchNorm2d:
        """Return one that has taken over a layer's weights, statistics and mode."""
        shared = cls(layer.num_features, layer.eps, layer.momentum)
        for name, parameter in layer.named_parameters():
            setattr(shared, name, parameter)
        for name, buffer in layer.named_buffers():
            setattr(shared, name, buffer)
        return shared.train(layer.training)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [N, C, H, W]."""
        if not self.training:
            return super().forward(x)
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        mean, variance, count = _global_statistics(x.detach())
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / max(1.0, count - 1.0)), self.momentum)
        y: Tensor = _Normalise.apply(x, self.weight, self.bias, mean, variance, count, self.eps)  # type: ignore[no-untyped-call]
        return y


def _global_statistics(x: Tensor) -> tuple[Tensor, Tensor, float]:
    """Return mean and (biased) variance of each channel over the images of all processes, and how many values it has.

    Each process' own mean and variance are joined (Chan, Golub and LeVeque, 1979), which doesn't cancel as a difference
    of squares would.
    """
    channels, values = x.shape[1], x.numel() // x.shape[1]
    own = torch.zeros(2 * channels + 1)
    if values:
        mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
        own = torch.cat([mean, variance, torch.tensor([float(values)])])
    everyone = stacked(own).double()
    means, variances, counts = everyone[:, :channels], everyone[:, channels:-1], everyone[:, -1:]
    count = counts.sum()
    mean = (means * counts).sum(0) / count
    variance = ((variances + (means - mean).square()) * counts).sum(0) / count
    return mean.float(), variance.float(), float(count)


class _Normalise(torch.autograd.Function):
    """y = (x - mean) / √(variance + ε) · weight + bias, where mean and variance depend on all processes' x."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        count: float,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.count, ctx.eps = count, eps
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors
        (gradient,) = gradients
        # Gradients of weight and bias: this process' sums of g · x̂ and of g.
        to_weight, to_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        if x.numel():  # the kernel divides by the number of values
            _, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
                gradient, x, weight, mean, variance, None, None, False, ctx.eps, [False, True, True]
            )
        sums = sum_over_ranks(torch.cat([to_weight, to_bias]))
        # dx = w/σ · (g - mean(g) - x̂ · mean(g · x̂)), with x̂ = (x - mean)/σ: a factor of g, one of x, and a constant.
        inverse = (variance + ctx.eps).rsqrt()
        scale = weight * inverse
        of_product, of_gradient = (sums / ctx.count).chunk(2)
        slope = -scale * inverse * of_product
        constant = -scale * of_gradient - slope * mean
        zero, one = torch.zeros_like(mean), torch.ones_like(mean)
        to_x = F.batch_norm(x, zero, one, slope, constant, False, 0.0, 0.0)
        to_x.addcmul_(gradient, scale[:, None, None])
        return to_x, to_weight, to_bias, None, None, None, None
