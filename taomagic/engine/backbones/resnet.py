"""ResNet as TAO builds it for detection (He et al., 2016, with NVIDIA's changes).

No pooling after the stem, strides 2, 2, 2, 1 in the four stages (so the last map has stride 16), the stride on a
block's first convolution, and a 1×1 projection with batch normalisation on *every* shortcut, or, in DetectNet_v2 unless
``all_projections`` is set, on the first one of each stage. Convolutions have no bias.
"""

from __future__ import annotations

from torch import Tensor, nn

from taomagic.engine.backbones.base import Backbone
from taomagic.engine.backbones.layers import Widths, batch_norm, conv, pointwise

#: Blocks in each of the four stages.
BLOCKS = {
    10: (1, 1, 1, 1),
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
}
#: Numbers of layers whose blocks are bottlenecks: 1×1, 3×3 and a 1×1 that widens fourfold.
BOTTLENECKS = (50, 101, 152, 200)
STAGE_CHANNELS = (64, 128, 256, 512)
STAGE_STRIDES = (2, 2, 2, 1)
#: The stage whose output is the tap: stride 8, the map for small objects.
TAP_STAGE = 2


def block_name(stage: int, index: int) -> str:
    """Return TAO's name of a block: ``block_1a``, ``block_1b``, …; behind ``z`` come ``aa``, ``ab``, …."""
    letters = f"a{chr(ord('a') + index - 26)}" if index >= 26 else chr(ord("a") + index)
    return f"block_{stage}{letters}"


class BasicBlock(nn.Module):
    """Two 3×3 convolutions beside a 1×1 projection, added up.

    Parameters
    ----------
    name
        TAO's name of the block, e.g. ``"block_1a"``.
    in_channels, channels
        Channels of the input, and of the output at full width.
    stride
        Stride of the first convolution and of the projection.
    widths
        Output channels by layer name.
    projection
        Whether the shortcut has its convolution; without, the input must have the shape of the output.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        channels: int,
        stride: int,
        widths: Widths,
        *,
        projection: bool = True,
    ) -> None:
        super().__init__()
        inner = widths(f"{name}_conv_1", channels)
        outer = widths(f"{name}_conv_2", channels)
        self.conv_1 = conv(in_channels, inner, 3, stride=stride)
        self.bn_1 = batch_norm(inner)
        self.relu_1 = nn.ReLU(inplace=True)
        self.conv_2 = conv(inner, outer, 3)
        self.bn_2 = batch_norm(outer)
        self.projects = projection
        if projection:
            self.conv_shortcut = conv(in_channels, outer, 1, stride=stride)
            self.bn_shortcut = batch_norm(outer)
        self.relu = nn.ReLU(inplace=True)
        self.out_channels = outer

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in, H, W] to [N, out, H/stride, W/stride]."""
        y = self.relu_1(self.bn_1(self.conv_1(x)))
        y = self.bn_2(self.conv_2(y))
        shortcut = self.bn_shortcut(pointwise(self.conv_shortcut, x)) if self.projects else x
        return self.relu(y + shortcut)  # type: ignore[no-any-return]


class BottleneckBlock(nn.Module):
    """A 1×1 convolution that narrows, a 3×3 one and a 1×1 one that widens, beside a 1×1 projection.

    Parameters
    ----------
    name
        TAO's name of the block, e.g. ``"block_1a"``.
    in_channels, channels
        Channels of the input, and inside the bottleneck at full width; four times as many come out.
    stride
        Stride of the first convolution and of the projection.
    widths
        Output channels by layer name.
    projection
        Whether the shortcut has its convolution; without, the input must have the shape of the output.
    """

    def __init__(
        self,
        name: str,
        in_channels: int,
        channels: int,
        stride: int,
        widths: Widths,
        *,
        projection: bool = True,
    ) -> None:
        super().__init__()
        first = widths(f"{name}_conv_1", channels)
        second = widths(f"{name}_conv_2", channels)
        outer = widths(f"{name}_conv_3", 4 * channels)
        self.conv_1 = conv(in_channels, first, 1, stride=stride)
        self.bn_1 = batch_norm(first)
        self.relu_1 = nn.ReLU(inplace=True)
        self.conv_2 = conv(first, second, 3)
        self.bn_2 = batch_norm(second)
        self.relu_2 = nn.ReLU(inplace=True)
        self.conv_3 = conv(second, outer, 1)
        self.bn_3 = batch_norm(outer)
        self.projects = projection
        if projection:
            self.conv_shortcut = conv(in_channels, outer, 1, stride=stride)
            self.bn_shortcut = batch_norm(outer)
        self.relu = nn.ReLU(inplace=True)
        self.out_channels = outer

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in, H, W] to [N, out, H/stride, W/stride]."""
        y = self.relu_1(self.bn_1(pointwise(self.conv_1, x)))
        y = self.relu_2(self.bn_2(self.conv_2(y)))
        y = self.bn_3(self.conv_3(y))
        shortcut = self.bn_shortcut(pointwise(self.conv_shortcut, x)) if self.projects else x
        return self.relu(y + shortcut)  # type: ignore[no-any-return]


class ResNet(Backbone):
    """ResNet-10, 18, 34, 50, 101, 152 or 200 without its classifier.

    Parameters
    ----------
    nlayers
        10, 18, 34, 50, 101, 152 or 200.
    in_channels
        1 or 3.
    widths
        Output channels by layer name (``conv1``, ``block_1a_conv_1``, …).
    all_projections
        Whether every shortcut has a projection, or the first one of each stage.
    """

    def __init__(
        self, nlayers: int, in_channels: int, widths: Widths, *, all_projections: bool = True
    ) -> None:
        super().__init__()
        channels = widths("conv1", 64)
        self.conv1 = conv(in_channels, channels, 7, stride=2)
        self.bn_conv1 = batch_norm(channels)
        self.relu_1 = nn.ReLU(inplace=True)
        self.block_names: list[list[str]] = []
        kind = BottleneckBlock if nlayers in BOTTLENECKS else BasicBlock
        for stage, count in enumerate(BLOCKS[nlayers], start=1):
            names = [block_name(stage, i) for i in range(count)]
            for i, name in enumerate(names):
                stride = STAGE_STRIDES[stage - 1] if i == 0 else 1
                projection = all_projections or i == 0
                block = kind(name, channels, STAGE_CHANNELS[stage - 1], stride, widths, projection=projection)
                self.add_module(name, block)
                channels = block.out_channels
            self.block_names.append(names)
            if stage == TAP_STAGE:
                self.tap_channels = (channels,)
        self.out_channels = channels

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map an image [N, C, H, W] to the tap (stride 8) and the last map (stride 16)."""
        x = self.relu_1(self.bn_conv1(self.conv1(x)))
        tap = x
        for stage, names in enumerate(self.block_names, start=1):
            for name in names:
                x = self.get_submodule(name)(x)
            if stage == TAP_STAGE:
                tap = x
        return tap, x

    def blocks(self) -> dict[int, list[nn.Module]]:
        """Return the modules of each id of ``freeze_blocks``: 0 is ``conv1``, 1 to 4 are the stages.

        NVIDIA's tables end at 3, because in Faster R-CNN the fourth stage lies behind the pooling of regions. The ids
        mean the same here, and 4 is the last stage.
        """
        stages = {
            i: [self.get_submodule(n) for n in names] for i, names in enumerate(self.block_names, start=1)
        }
        return {0: [self.conv1], **stages}
