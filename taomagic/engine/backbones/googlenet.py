"""GoogLeNet as TAO builds it for detection (Szegedy et al., 2015, with NVIDIA's changes).

Poolings of 2×2, which drop an odd row or column, and none in front of the last two inception blocks, so the last map
has stride 16. Batch normalisation behind every convolution, no bias.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from taomagic.engine.backbones.base import LayeredBackbone
from taomagic.engine.backbones.layers import Widths, conv

#: Channels of 1×1, 3×3 reduce, 3×3, 5×5 reduce, 5×5 and the projection of the pool, in the inception blocks.
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}
#: The inception block whose output is the tap (stride 8), and that a pooling follows.
TAP = "3b"


class GoogLeNet(LayeredBackbone):
    """GoogLeNet without its classifiers.

    Ids of ``freeze_blocks``: 0 are the three convolutions of the stem, 1 to 9 the inception blocks 3a to 5b. NVIDIA's
    tables end at 7, because in Faster R-CNN the last two lie behind the pooling of regions. The ids mean the same here.

    Parameters
    ----------
    in_channels
        1 or 3.
    widths
        Output channels by layer name (``conv1``, ``inception_3a_1x1``, …).
    """

    def __init__(self, in_channels: int, widths: Widths) -> None:
        super().__init__()
        self.pool1, self.pool2, self.pool3 = (nn.MaxPool2d(2, 2) for _ in range(3))
        channels = in_channels
        for name, filters, kernel, stride in (
            ("conv1", 64, 7, 2),
            ("conv2_reduce", 64, 1, 1),
            ("conv2", 192, 3, 1),
        ):
            channels = self.add_unit(
                name,
                conv(channels, widths(name, filters), kernel, stride=stride),
                block=0,
                norm=f"bn_{name}",
                activation=(f"{name}_relu", nn.ReLU(inplace=True)),
            )
        for block, index in enumerate(INCEPTIONS, start=1):
            channels = self._add_inception(index, channels, widths, block)
            if index == TAP:
                self.tap_channels = (channels,)
        self.out_channels = channels

    def _add_inception(self, index: str, in_channels: int, widths: Widths, block: int) -> int:
        """Add an inception block; return the channels of its output."""
        one, reduce3, three, reduce5, five, pooled = INCEPTIONS[index]

        def add(part: str, inputs: int, filters: int, kernel: int) -> int:
            name = f"inception_{index}_{part}"
            return self.add_unit(
                name,
                conv(inputs, widths(name, filters), kernel),
                block=block,
                norm=f"{name}_bn",
                activation=(f"{name}_relu", nn.ReLU(inplace=True)),
            )

        # NVIDIA pads with zeros. Behind a ReLU that is the same as leaving the border out.
        self.add_module(f"inception_{index}_pool", nn.MaxPool2d(3, 1, padding=1))
        return (
            add("1x1", in_channels, one, 1)
            + add("3x3", add("3x3_reduce", in_channels, reduce3, 1), three, 3)
            + add("5x5", add("5x5_reduce", in_channels, reduce5, 1), five, 5)
            + add("pool_proj", in_channels, pooled, 1)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map an image [N, C, H, W] to the tap (stride 8) and the last map (stride 16)."""
        x = self.pool1(self.unit("conv1", x))
        x = tap = self.pool2(self.unit("conv2", self.unit("conv2_reduce", x)))
        for index in INCEPTIONS:
            x = self._inception(f"inception_{index}", x)
            if index == TAP:
                tap = x
                x = self.pool3(x)
        return tap, x

    def _inception(self, name: str, x: Tensor) -> Tensor:
        branches = [
            self.unit(f"{name}_1x1", x),
            self.unit(f"{name}_3x3", self.unit(f"{name}_3x3_reduce", x)),
            self.unit(f"{name}_5x5", self.unit(f"{name}_5x5_reduce", x)),
            self.unit(f"{name}_pool_proj", self.get_submodule(f"{name}_pool")(x)),
        ]
        return torch.cat(branches, dim=1)
