"""The layers of a quantisation-aware network."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taomagic.engine.quantization.fake_quantize import fake_quantize, fake_quantize_weight, largest_magnitude
from taomagic.engine.training.distributed import max_over_ranks

Convolution = nn.Conv2d | nn.ConvTranspose2d
Kind = TypeVar("Kind", nn.Conv2d, nn.ConvTranspose2d)

#: How much of an activation's scale stays when a new batch is seen.
SCALE_MOMENTUM = 0.999
#: The scale of an activation that hasn't been seen yet: the end of a ReLU6.
FIRST_SCALE = 6.0


class ActivationQuantizer(nn.Module):
    """Rounds a tensor to 8 bits, on a grid that follows the magnitudes it has seen in training.

    The scale is a moving average of each batch's largest magnitude. As in TensorFlow, whose ``assign_moving_average``
    TAO uses, the average is corrected for its start: after the first batch it is that batch's magnitude. (Images reach
    ±150. An average that crept up from 6 would cut them off for a thousand steps.)

    Outside training the scale stands still.

    Attributes
    ----------
    scale
        Buffer, scalar float32: the largest magnitude that survives.
    seen
        Buffer, scalar float32: the sum of the weights that batches have in the average, ``1 − 0.999ⁿ`` after ``n``.
    shared
        Whether the batch is spread over several processes, which then ask each other.
    """

    scale: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.shared = False
        self.register_buffer("scale", torch.tensor(FIRST_SCALE))
        self.register_buffer("seen", torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x`` rounded; in float32 inside, also in mixed precision."""
        values = x.float()
        if self.training:
            self._observe(values.detach())
        return fake_quantize(values, self.scale).to(x.dtype)

    def restart(self) -> None:
        """Let the next batch decide the scale, whatever has been seen."""
        self.seen.zero_()

    def _observe(self, x: Tensor) -> None:
        """Take the largest magnitude of a batch into the scale."""
        magnitude = largest_magnitude(x)
        if self.shared:
            magnitude = max_over_ranks(magnitude)
        self.seen.mul_(SCALE_MOMENTUM).add_(1 - SCALE_MOMENTUM)
        # With this weight for the newest, b/(1 − 0.999ⁿ) with b ← 0.999 b + 0.001 m takes a single variable.
        self.scale.lerp_(magnitude, (1 - SCALE_MOMENTUM) / self.seen)


class QuantizedConv2d(nn.Conv2d):
    """A convolution, depthwise ones included, whose kernel is rounded to 8 bits in each forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve [N, in, H, W] with the rounded kernel."""
        weight = fake_quantize_weight(self.weight)
        if self.training and self.kernel_size == (1, 1) and max(self.stride) > 1 and self.padding == (0, 0):
            # PyTorch's own strided 1×1 backward is broken; see `pointwise` in engine/backbones/layers.py.
            x = x[:, :, :: self.stride[0], :: self.stride[1]]
            return F.conv2d(x, weight, self.bias, groups=self.groups)
        return self._conv_forward(x, weight, self.bias)  # type: ignore[no-any-return]


class QuantizedConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution whose kernel is rounded to 8 bits in each forward pass."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve [N, in, H, W] with the rounded kernel."""
        assert isinstance(self.padding, tuple)  # the class takes no words for it
        output_padding = self._output_padding(
            x, output_size, list(self.stride), list(self.padding), list(self.kernel_size), 2, list(self.dilation)
        )  # fmt: skip
        weight = fake_quantize_weight(self.weight)
        return F.conv_transpose2d(
            x, weight, self.bias, self.stride, self.padding, output_padding, self.groups, self.dilation
        )


def converted(layer: Convolution, kind: type[Kind]) -> Kind:
    """Return a convolution of another class with the settings of ``layer``, which shares its parameters."""
    names = (
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "groups",
        "padding_mode",
    )
    settings: dict[str, Any] = {name: getattr(layer, name) for name in names}
    if isinstance(layer, nn.ConvTranspose2d):
        settings["output_padding"] = layer.output_padding
    new = kind(**settings, bias=layer.bias is not None, device="meta")
    new.weight, new.bias = layer.weight, layer.bias
    return new
