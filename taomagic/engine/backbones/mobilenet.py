"""MobileNet V1 and V2 as TAO builds them for detection (Howard et al., 2017; Sandler et al., 2018; NVIDIA's changes).

Both end at stride 16, use ReLU, and have no bias. In V2, a residual input passes a 1×1 projection of its own.

NVIDIA's V2 has a batch normalisation that forgets more slowly (0.999 instead of 0.99). After 500 steps, 60 % of its
statistics would still be the initial ones, and a short training could not be validated; so it is 0.99 here as well.
"""

from __future__ import annotations

from torch import Tensor, nn

from taomagic.engine.backbones.base import LayeredBackbone
from taomagic.engine.backbones.layers import Widths, conv, depthwise

#: Output channels and stride of the blocks of V1, 1 to 11.
V1_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1),
)  # fmt: skip
#: The block of V1 whose output is the tap: stride 8.
V1_TAP = 5

#: Output channels and stride of the blocks of V2, 0 to 12.
V2_BLOCKS = (
    (16, 1), (24, 2), (24, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1), (64, 1), (64, 1), (96, 1), (96, 1), (96, 1),
)  # fmt: skip
#: The block of V2 whose expanded input is the tap: still stride 8.
V2_TAP = 6
V2_EXPANSION = 6


class MobileNetV1(LayeredBackbone):
    """MobileNet V1 without its last two blocks and its classifier.

    Ids of ``freeze_blocks``: 0 is ``conv1``, 1 to 11 are the blocks.

    Parameters
    ----------
    in_channels
        1 or 3.
    widths
        Output channels by layer name (``conv1``, ``conv_pw_1``, …); a depthwise convolution follows its input.
    """

    def __init__(self, in_channels: int, widths: Widths) -> None:
        super().__init__()
        channels = self.add_unit(
            "conv1",
            conv(in_channels, widths("conv1", 32), 3, stride=2),
            block=0,
            norm="conv1_bn",
            activation=("conv_block_relu", nn.ReLU(inplace=True)),
        )
        for block, (filters, stride) in enumerate(V1_BLOCKS, start=1):
            self.add_unit(
                f"conv_dw_{block}",
                depthwise(channels, 3, stride=stride),
                block=block,
                norm=f"conv_dw_{block}_bn",
                activation=(f"conv_dw_{block}_relu", nn.ReLU(inplace=True)),
            )
            name = f"conv_pw_{block}"
            channels = self.add_unit(
                name,
                conv(channels, widths(name, filters), 1),
                block=block,
                norm=f"{name}_bn",
                activation=(f"conv_pw_relu_{block}", nn.ReLU(inplace=True)),
            )
            if block == V1_TAP:
                self.tap_channels = (channels,)
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map an image [N, C, H, W] to the tap (stride 8) and the last map (stride 16)."""
        x = tap = self.unit("conv1", x)
        for block in range(1, len(V1_BLOCKS) + 1):
            x = self.unit(f"conv_pw_{block}", self.unit(f"conv_dw_{block}", x))
            if block == V1_TAP:
                tap = x
        return tap, x


class MobileNetV2(LayeredBackbone):
    """MobileNet V2 without its last four blocks and its classifier.

    Ids of ``freeze_blocks``: 0 is ``conv1``, 1 to 13 are the blocks, which Keras counts from 0.

    Parameters
    ----------
    in_channels
        1 or 3.
    widths
        Output channels by layer name (``conv1``, ``block_1_expand``, ``block_1_project``, …); a depthwise convolution
        follows its input, and the projection of a residual input follows the block's output.
    """

    def __init__(self, in_channels: int, widths: Widths) -> None:
        super().__init__()
        channels = self.add_unit(
            "conv1",
            conv(in_channels, widths("conv1", 32), 3, stride=2),
            block=0,
            norm="bn_conv1",
            activation=("re_lu_0", nn.ReLU(inplace=True)),
        )
        for block in range(len(V2_BLOCKS)):
            channels = self._add_block(block, channels, widths)
        self.out_channels = channels

    def _add_block(self, block: int, in_channels: int, widths: Widths) -> int:
        """Add an inverted residual block; return the channels of its output."""
        prefix, frozen_as = v2_prefix(block), block + 1
        filters, stride = V2_BLOCKS[block]
        channels = in_channels
        if block > 0:
            name = f"{prefix}_expand"
            expanded = V2_EXPANSION * V2_BLOCKS[block - 1][0]
            channels = self.add_unit(
                name,
                conv(channels, widths(name, expanded), 1),
                block=frozen_as,
                norm=f"{name}_bn",
                activation=(f"re_lu_{block + 1}", nn.ReLU(inplace=True)),
            )
            if block == V2_TAP:
                self.tap_channels = (channels,)
        self.add_unit(
            f"{prefix}_depthwise",
            depthwise(channels, 3, stride=stride),
            block=frozen_as,
            norm=f"{prefix}_depthwise_bn",
            activation=(f"{prefix}_relu", nn.ReLU(inplace=True)),
        )
        name = f"{prefix}_project"
        out_channels = self.add_unit(
            name, conv(channels, widths(name, filters), 1), block=frozen_as, norm=f"{name}_bn"
        )
        if v2_is_residual(block):
            self.add_unit(f"{prefix}_projected_inputs", conv(in_channels, out_channels, 1), block=frozen_as)
        return out_channels

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map an image [N, C, H, W] to the tap (stride 8) and the last map (stride 16)."""
        x = tap = self.unit("conv1", x)
        for block in range(len(V2_BLOCKS)):
            prefix = v2_prefix(block)
            y = self.unit(f"{prefix}_expand", x) if block > 0 else x
            if block == V2_TAP:
                tap = y
            y = self.unit(f"{prefix}_project", self.unit(f"{prefix}_depthwise", y))
            x = self.unit(f"{prefix}_projected_inputs", x) + y if v2_is_residual(block) else y
        return tap, x


def v2_prefix(block: int) -> str:
    """Return what the names of a block's layers begin with."""
    return f"block_{block}" if block > 0 else "expanded_conv"


def v2_is_residual(block: int) -> bool:
    """Return whether a block adds its input to its output."""
    filters, stride = V2_BLOCKS[block]
    return block > 0 and stride == 1 and filters == V2_BLOCKS[block - 1][0]
