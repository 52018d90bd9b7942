"""ResNet as TAO builds it for detection (He et al., 2016, with NVIDIA's changes).

No pooling after the stem, strides 2, 2, 2, 1 in the four stages (so the last map has stride 16), the stride on a
block's first convolution, and a 1×1 projection with batch normalisation on *every* shortcut, or, in DetectNet_v2 unless
``all_projections`` is set, on the first one of each stage. Convolutions have no bias.
"""

from __future__ import annotations

from collections.abc import Sequence

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


class ResidualBlock(nn.Module):
    """A few convolutions behind each other, beside a 1×1 projection or nothing, added up.

    Parameters
    ----------
    name
        TAO's name of the block, e.g. ``"block_1a"``.
    in_channels
        Channels of the input.
    layers
        Size of the kernel and channels at full width of each convolution.
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
        layers: Sequence[tuple[int, int]],
        stride: int,
        widths: Widths,
        *,
        projection: bool = True,
    ) -> None:
        super().__init__()
        self.depth = len(layers)
        channels = in_channels
        for number, (kernel, full) in enumerate(layers, start=1):
            filters = widths(f"{name}_conv_{number}", full)
            layer = conv(channels, filters, kernel, stride=stride if number == 1 else 1)
            self.add_module(f"conv_{number}", layer)
            self.add_module(f"bn_{number}", batch_norm(filters))
            if number < self.depth:
                self.add_module(f"relu_{number}", nn.ReLU(inplace=True))
            channels = filters
        self.projects = projection
        if projection:
            self.conv_shortcut = conv(in_channels, channels, 1, stride=stride)
            self.bn_shortcut = batch_norm(channels)
        self.relu = nn.ReLU(inplace=True)
        self.out_channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in, H, W] to [N, out, H/stride, W/stride]."""
        y = x
        for number in range(1, self.depth + 1):
            layer = self.get_submodule(f"conv_{number}")
            assert isinstance(layer, nn.Conv2d)
            y = pointwise(layer, y) if layer.kernel_size == (1, 1) else layer(y)
            y = self.get_submodule(f"bn_{number}")(y)
            if number < self.depth:
                y = self.get_submodule(f"relu_{number}")(y)
        shortcut = self.bn_shortcut(pointwise(self.conv_shortcut, x)) if self.projects else x
        return self.relu(y + shortcut)  # type: ignore[no-any-return]


def block_layers(nlayers: int, channels: int) -> tuple[tuple[int, int], ...]:
    """Return kernel and channels of the convolutions in a block: two of 3×3, or a bottleneck that widens fourfold."""
    if nlayers in BOTTLENECKS:
        return (1, channels), (3, channels), (1, 4 * channels)
    return (3, channels), (3, channels)


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
        for stage, count in enumerate(BLOCKS[nlayers], start=1):
            names = [block_name(stage, i) for i in range(count)]
            layers = block_layers(nlayers, STAGE_CHANNELS[stage - 1])
            for i, name in enumerate(names):
                stride = STAGE_STRIDES[stage - 1] if i == 0 else 1
                projection = all_projections or i == 0
                block = ResidualBlock(name, channels, layers, stride, widths, projection=projection)
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
