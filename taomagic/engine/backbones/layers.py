"""Layers shared by the backbones and the SSD expansion, with the conventions of TAO's Keras templates."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Keras' BatchNormalization settings in TAO; PyTorch's momentum is one minus Keras'.
BN_EPSILON = 1e-3
BN_MOMENTUM = 0.01
#: Channels are rounded to multiples of this when a width multiplier scales them: what SIMD units and pruning like.
CHANNEL_STEP = 8


class Widths:
    """Output channels of every convolution.

    A pruned network differs from its original only in these numbers, so a table of them is all that a checkpoint needs
    to rebuild its modules.

    Parameters
    ----------
    multiplier
        Scales the default number of channels (1.0 = NVIDIA's network).
    table
        Exact channels by layer name, e.g. ``{"block_1a_conv_1": 40}``; wins over the multiplier.
    """

    def __init__(self, multiplier: float = 1.0, table: Mapping[str, int] | None = None) -> None:
        self.multiplier = multiplier
        self.table = dict(table or {})

    def __call__(self, layer: str, default: int) -> int:
        """Return the output channels of ``layer``, whose full width is ``default``."""
        if layer in self.table:
            return self.table[layer]
        if self.multiplier == 1.0:
            return default
        scaled = round(default * self.multiplier / CHANNEL_STEP) * CHANNEL_STEP
        return max(min(CHANNEL_STEP, default), scaled)


def conv(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """Return a convolution with TAO's symmetric "same" padding and Glorot-uniform weights."""
    layer = nn.Conv2d(
        in_channels, out_channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=bias
    )
    nn.init.xavier_uniform_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def depthwise(channels: int, kernel: int, *, stride: int = 1) -> nn.Conv2d:
    """Return a convolution with one filter for each channel, without bias."""
    return conv(channels, channels, kernel, stride=stride, groups=channels)


def pointwise(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a 1×1 convolution that may have a stride.

    The backward pass of a *strided* 1×1 convolution on channels-last tensors writes beyond its buffer in the oneDNN
    of PyTorch 2.13 (x86; 8 channels of 32×80 crash at once). Taking every ``stride``-th pixel first is the same
    sum without that code. Only in training: elsewhere nothing is wrong, and an export keeps the plain convolution.
    """
    step = int(layer.stride[0])
    if layer.training and step > 1:
        return F.conv2d(x[:, :, ::step, ::step], layer.weight, layer.bias)
    return layer(x)  # type: ignore[no-any-return]


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch normalisation with Keras' epsilon and momentum."""
    return nn.BatchNorm2d(channels, eps=BN_EPSILON, momentum=BN_MOMENTUM)


def truncated_normal(weight: Tensor, deviation: float) -> None:
    """Fill ``weight`` in place with a normal distribution of that deviation, truncated at two, as Keras does."""
    # Truncation at ±2 shrinks the deviation to 0.8796 of itself; Keras divides by that to make up for it.
    drawn = deviation / 0.87962566103423978
    with torch.no_grad():
        nn.init.trunc_normal_(weight, std=drawn, a=-2 * drawn, b=2 * drawn)


def he_normal(weight: Tensor) -> None:
    """Fill ``weight`` in place as Keras' ``he_normal`` does (He et al., 2015)."""
    truncated_normal(weight, (2.0 / weight[0].numel()) ** 0.5)
