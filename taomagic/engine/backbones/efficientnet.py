"""EfficientNet-B0 as TAO builds it (Tan and Le, 2019).

Inverted residual blocks with squeeze-and-excitation and SiLU ("swish") activations; stride 32. A layer with stride 2
pads an even side at its end only, as TensorFlow does.

One thing of NVIDIA's training is left out: its residual blocks are skipped at random there. With that, a training
that is resumed would not give the weights of one without a pause.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn

from taomagic.engine.backbones.base import LayeredBackbone
from taomagic.engine.backbones.layers import Widths, truncated_normal


class Stage(NamedTuple):
    """Equal blocks behind each other; only the first has the stride."""

    kernel: int
    repeats: int
    channels: int
    expansion: int
    stride: int


STAGES = (
    Stage(3, 1, 16, 1, 1),
    Stage(3, 2, 24, 6, 2),
    Stage(5, 2, 40, 6, 2),
    Stage(3, 3, 80, 6, 2),
    Stage(5, 3, 112, 6, 1),
    Stage(5, 4, 192, 6, 2),
    Stage(3, 1, 320, 6, 1),
)
#: Index of the last stage with a stride.
LAST_HALVING = 5
STEM_CHANNELS = 32
TOP_CHANNELS = 1280
#: Share of a block's input channels that its squeeze keeps.
SQUEEZE = 0.25
#: The blocks whose expanded inputs are the taps: strides 8 and 16.
TAPS = ("block4a", "block6a")

Size = tuple[int, int]


class EfficientNetB0(LayeredBackbone):
    """EfficientNet-B0 without its classifier.

    Ids of ``freeze_blocks``: 0 is the stem, 1 to 7 are the stages, 8 is the last convolution.

    Parameters
    ----------
    in_channels
        1 or 3.
    size
        Height and width of the images, which decide on the padding.
    widths
        Output channels by layer name (``stem_conv``, ``block1a_project_conv``, …); depthwise convolutions and the
        excitation follow the layer whose channels they scale.
    stride16
        Whether the last stage that halves the map doesn't, so that the last map has stride 16.
    """

    def __init__(self, in_channels: int, size: Size, widths: Widths, *, stride16: bool = False) -> None:
        super().__init__()
        self._strides = [stage.stride for stage in STAGES]
        if stride16:
            self._strides[LAST_HALVING] = 1
        channels = widths("stem_conv", STEM_CHANNELS)
        layer, size = self._strided("stem_conv", nn.Conv2d(in_channels, channels, 3, 2, bias=False), size)
        self._add("stem_conv", layer, 0, norm="stem_bn", activation="stem_activation")
        full = STEM_CHANNELS
        taps: list[int] = []
        for number, stage in enumerate(STAGES, start=1):
            for i in range(stage.repeats):
                name = f"block{number}{chr(ord('a') + i)}"
                stride = self._strides[number - 1] if i == 0 else 1
                channels, size = self._add_block(
                    name, number, stage, stride, channels, full, size, widths, taps
                )
                full = stage.channels
        self.tap_channels = tuple(taps)
        top = nn.Conv2d(channels, widths("top_conv", TOP_CHANNELS), 1, bias=False)
        self.out_channels = self._add(
            "top_conv", top, len(STAGES) + 1, norm="top_bn", activation="top_activation"
        )

    def _add(
        self, name: str, layer: nn.Conv2d, block: int, *, norm: str | None, activation: str | None
    ) -> int:
        fan_out = layer.kernel_size[0] * layer.kernel_size[1] * layer.out_channels // layer.groups
        truncated_normal(layer.weight, math.sqrt(2.0 / fan_out))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        act = (activation, nn.SiLU(inplace=True)) if activation is not None else None
        return self.add_unit(name, layer, block=block, norm=norm, activation=act)

    def _strided(self, name: str, layer: nn.Conv2d, size: Size) -> tuple[nn.Conv2d, Size]:
        """Give a convolution of stride 2 its padding; return it with the size of its output."""
        before = [layer.kernel_size[0] // 2 - (1 - side % 2) for side in size]
        after = layer.kernel_size[0] // 2
        self.add_module(f"{name}_pad", nn.ZeroPad2d((before[1], after, before[0], after)))
        return layer, (-(-size[0] // 2), -(-size[1] // 2))

    def _add_block(
        self,
        name: str,
        number: int,
        stage: Stage,
        stride: int,
        in_channels: int,
        full_in: int,
        size: Size,
        widths: Widths,
        taps: list[int],
    ) -> tuple[int, Size]:
        """Add an inverted residual block; return the channels and the size of its output."""
        channels = in_channels
        if stage.expansion > 1:
            expand = f"{name}_expand_conv"
            layer = nn.Conv2d(channels, widths(expand, stage.expansion * full_in), 1, bias=False)
            channels = self._add(
                expand, layer, number, norm=f"{name}_expand_bn", activation=f"{name}_expand_activation"
            )
            if name in TAPS:
                taps.append(channels)
        layer = nn.Conv2d(channels, channels, stage.kernel, stride, groups=channels, bias=False)
        if stride == 2:
            layer, size = self._strided(f"{name}_dwconv", layer, size)
        else:
            layer.padding = (stage.kernel // 2, stage.kernel // 2)
        self._add(f"{name}_dwconv", layer, number, norm=f"{name}_bn", activation=f"{name}_activation")
        reduce = f"{name}_se_reduce"
        squeezed = widths(reduce, max(1, int(full_in * SQUEEZE)))
        self.add_module(f"{name}_se_squeeze", nn.AdaptiveAvgPool2d(1))
        self._add(
            reduce, nn.Conv2d(channels, squeezed, 1), number, norm=None, activation=f"{name}_se_activation"
        )
        self._add(f"{name}_se_expand", nn.Conv2d(squeezed, channels, 1), number, norm=None, activation=None)
        self.add_module(f"{name}_se_sigmoid", nn.Sigmoid())
        project = f"{name}_project_conv"
        layer = nn.Conv2d(channels, widths(project, stage.channels), 1, bias=False)
        return self._add(project, layer, number, norm=f"{name}_project_bn", activation=None), size

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map an image [N, C, H, W] to the taps (strides 8 and 16) and the last map (stride 32, or 16)."""
        x = self.unit("stem_conv", self.get_submodule("stem_conv_pad")(x))
        taps = []
        for number, stage in enumerate(STAGES, start=1):
            for i in range(stage.repeats):
                name = f"block{number}{chr(ord('a') + i)}"
                y = self.unit(f"{name}_expand_conv", x) if stage.expansion > 1 else x
                if name in TAPS:
                    taps.append(y)
                if i == 0 and self._strides[number - 1] == 2:
                    y = self.get_submodule(f"{name}_dwconv_pad")(y)
                y = self._excite(name, self.unit(f"{name}_dwconv", y))
                y = self.unit(f"{name}_project_conv", y)
                x = x + y if i > 0 else y
        return *taps, self.unit("top_conv", x)

    def _excite(self, name: str, x: Tensor) -> Tensor:
        """Scale each channel by what the means of all channels say (squeeze and excitation)."""
        means = self.get_submodule(f"{name}_se_squeeze")(x)
        scale = self.unit(f"{name}_se_expand", self.unit(f"{name}_se_reduce", means))
        return x * self.get_submodule(f"{name}_se_sigmoid")(scale)  # type: ignore[no-any-return]
