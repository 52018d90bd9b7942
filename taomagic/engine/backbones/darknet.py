"""DarkNet as TAO builds it for detection (Redmon and Farhadi, 2017 and 2018, with NVIDIA's changes).

For SSD, ReLU in place of the leaky one (the layers still are called ``…_lrelu``). Batch normalisation, no bias. There
are two taps, at stride 8 and 16, and the last map has stride 32.

For DetectNet_v2, whose coverage maps have stride 16, the last block doesn't halve the map, and the ReLU is the leaky
one. TAO's code leaves that halving in, so that a training with this network fails there.
"""

from __future__ import annotations

from torch import Tensor, nn

from taomagic.engine.backbones.base import LayeredBackbone
from taomagic.engine.backbones.layers import Widths, conv

#: Channels of the widest layers of the five blocks.
BLOCK_CHANNELS = (64, 128, 256, 512, 1024)
#: Convolutions in each block of DarkNet-19: 3×3, and every second one 1×1 with half the channels.
CONVOLUTIONS_19 = (1, 3, 3, 5, 5)
#: Residual pairs of a 1×1 and a 3×3 convolution in each block of DarkNet-53.
PAIRS_53 = (1, 2, 8, 8, 4)
#: Slope of the leaky ReLU below 0.
LEAK = 0.1
#: The block in front of which the map isn't halved where stride 16 is wanted.
LAST_BLOCK = 5
#: The blocks whose outputs are the taps.
TAP_BLOCKS = (3, 4)


class _DarkNet(LayeredBackbone):
    """The parts that both have in common. Ids of ``freeze_blocks``: 0 is ``conv1``, 1 to 5 are the blocks."""

    def __init__(self, *, stride16: bool) -> None:
        super().__init__()
        self._stride16 = stride16

    def _halved(self, block: int) -> bool:
        """Return whether a block works on a map half as large as the one before."""
        return not (self._stride16 and block == LAST_BLOCK)

    def _add(
        self,
        name: str,
        in_channels: int,
        filters: int,
        kernel: int,
        widths: Widths,
        *,
        block: int,
        stride: int = 1,
    ) -> int:
        relu = nn.LeakyReLU(LEAK, inplace=True) if self._stride16 else nn.ReLU(inplace=True)
        return self.add_unit(
            name,
            conv(in_channels, widths(name, filters), kernel, stride=stride),
            block=block,
            norm=f"{name}_bn",
            activation=(f"{name}_lrelu", relu),
        )


class DarkNet19(_DarkNet):
    """DarkNet-19: plain blocks with poolings of 2×2 between them, which drop an odd row or column.

    Parameters
    ----------
    in_channels
        1 or 3.
    widths
        Output channels by layer name (``conv1``, ``b1_conv1``, …).
    stride16
        DetectNet_v2's variant.
    """

    def __init__(self, in_channels: int, widths: Widths, *, stride16: bool = False) -> None:
        super().__init__(stride16=stride16)
        channels = self._add("conv1", in_channels, 32, 3, widths, block=0)
        taps = []
        for block, count in enumerate(CONVOLUTIONS_19, start=1):
            if self._halved(block):
                self.add_module(f"maxpool_{block}", nn.MaxPool2d(2, 2))
            wide = BLOCK_CHANNELS[block - 1]
            for i in range(1, count + 1):
                filters, kernel = (wide, 3) if i % 2 else (wide // 2, 1)
                channels = self._add(f"b{block}_conv{i}", channels, filters, kernel, widths, block=block)
            if block in TAP_BLOCKS:
                taps.append(channels)
        self.tap_channels = tuple(taps)
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map an image [N, C, H, W] to the taps (strides 8 and 16) and the last map (stride 32, or 16)."""
        x = self.unit("conv1", x)
        taps = []
        for block, count in enumerate(CONVOLUTIONS_19, start=1):
            if self._halved(block):
                x = self.get_submodule(f"maxpool_{block}")(x)
            for i in range(1, count + 1):
                x = self.unit(f"b{block}_conv{i}", x)
            if block in TAP_BLOCKS:
                taps.append(x)
        return *taps, x


class DarkNet53(_DarkNet):
    """DarkNet-53: residual blocks, each behind a convolution of stride 2.

    Parameters
    ----------
    in_channels
        1 or 3.
    widths
        Output channels by layer name (``conv1``, ``conv2``, ``b1_conv1_1``, …).
    stride16
        DetectNet_v2's variant.
    """

    def __init__(self, in_channels: int, widths: Widths, *, stride16: bool = False) -> None:
        super().__init__(stride16=stride16)
        channels = self._add("conv1", in_channels, 32, 3, widths, block=0)
        taps = []
        for block, pairs in enumerate(PAIRS_53, start=1):
            wide = BLOCK_CHANNELS[block - 1]
            stride = 2 if self._halved(block) else 1
            channels = self._add(f"conv{block + 1}", channels, wide, 3, widths, block=block, stride=stride)
            for i in range(1, pairs + 1):
                narrow = self._add(f"b{block}_conv{i}_1", channels, wide // 2, 1, widths, block=block)
                self._add(f"b{block}_conv{i}_2", narrow, wide, 3, widths, block=block)
            if block in TAP_BLOCKS:
                taps.append(channels)
        self.tap_channels = tuple(taps)
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map an image [N, C, H, W] to the taps (strides 8 and 16) and the last map (stride 32, or 16)."""
        x = self.unit("conv1", x)
        taps = []
        for block, pairs in enumerate(PAIRS_53, start=1):
            x = self.unit(f"conv{block + 1}", x)
            for i in range(1, pairs + 1):
                x = x + self.unit(f"b{block}_conv{i}_2", self.unit(f"b{block}_conv{i}_1", x))
            if block in TAP_BLOCKS:
                taps.append(x)
        return *taps, x
