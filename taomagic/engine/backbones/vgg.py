"""VGG as TAO builds it for detection (Simonyan and Zisserman, 2015, with NVIDIA's changes).

No pooling: the first convolution of the blocks 2 to 5 has stride 2 instead. Batch normalisation behind every
convolution, and no bias.
"""

from __future__ import annotations

from torch import Tensor, nn

from taomagic.engine.backbones.base import LayeredBackbone
from taomagic.engine.backbones.layers import Widths, conv

#: Convolutions in each of the five blocks.
REPEATS = {16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
BLOCK_CHANNELS = (64, 128, 256, 512, 512)
#: The block whose output is the tap: stride 8.
TAP_BLOCK = 4


class VGG(LayeredBackbone):
    """VGG-16 or 19 without its classifier.

    Ids of ``freeze_blocks`` are the blocks, 1 to 5.

    Parameters
    ----------
    nlayers
        16 or 19.
    in_channels
        1 or 3.
    widths
        Output channels by layer name (``block_1a_conv_1``, …).
    """

    def __init__(self, nlayers: int, in_channels: int, widths: Widths) -> None:
        super().__init__()
        self.repeats = REPEATS[nlayers]
        channels = in_channels
        for block, repeat in enumerate(self.repeats, start=1):
            for i in range(repeat):
                prefix = _prefix(block, i)
                name = f"{prefix}_conv_1"
                stride = 2 if i == 0 and block > 1 else 1
                channels = self.add_unit(
                    name,
                    conv(channels, widths(name, BLOCK_CHANNELS[block - 1]), 3, stride=stride),
                    block=block,
                    norm=f"{prefix}_bn_1",
                    activation=(f"{prefix}_relu", nn.ReLU(inplace=True)),
                )
            if block == TAP_BLOCK:
                self.tap_channels = (channels,)
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map an image [N, C, H, W] to the tap (stride 8) and the last map (stride 16)."""
        tap = x
        for block, repeat in enumerate(self.repeats, start=1):
            for i in range(repeat):
                x = self.unit(f"{_prefix(block, i)}_conv_1", x)
            if block == TAP_BLOCK:
                tap = x
        return tap, x


def _prefix(block: int, index: int) -> str:
    return f"block_{block}{chr(ord('a') + index)}"
