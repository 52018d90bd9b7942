"""Feature extractors with TAO's layer names, strides and paddings.

Every backbone returns its *taps*, one or two early maps for small objects, and its last map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from taomagic.engine.backbones.base import Backbone
from taomagic.engine.backbones.darknet import DarkNet19, DarkNet53
from taomagic.engine.backbones.efficientnet import EfficientNetB0
from taomagic.engine.backbones.googlenet import GoogLeNet
from taomagic.engine.backbones.layers import Widths
from taomagic.engine.backbones.mobilenet import MobileNetV1, MobileNetV2
from taomagic.engine.backbones.resnet import BLOCKS, ResNet
from taomagic.engine.backbones.squeezenet import SqueezeNet
from taomagic.engine.backbones.vgg import REPEATS, VGG

__all__ = ["Backbone", "Widths", "build_backbone"]

#: By architecture and number of layers; 0 where there is one size. EfficientNet wants the size of the images besides.
_BUILDERS: Final[Mapping[tuple[str, int], Callable[[int, Widths], Backbone]]] = {
    **{("resnet", nlayers): partial(ResNet, nlayers) for nlayers in BLOCKS},
    **{("vgg", nlayers): partial(VGG, nlayers) for nlayers in REPEATS},
    ("darknet", 19): DarkNet19,
    ("darknet", 53): DarkNet53,
    ("googlenet", 0): GoogLeNet,
    ("mobilenet_v1", 0): MobileNetV1,
    ("mobilenet_v2", 0): MobileNetV2,
    ("squeezenet", 0): SqueezeNet,
}


def build_backbone(
    arch: str,
    nlayers: int,
    input_shape: tuple[int, int, int],
    widths: Widths,
    *,
    all_projections: bool = True,
    stride16: bool = False,
) -> Backbone:
    """Return the feature extractor ``arch`` with ``nlayers`` layers.

    Parameters
    ----------
    arch, nlayers
        As in the spec, e.g. ``"resnet"`` and ``18``; 0 for architectures of one size.
    input_shape
        Channels (1 or 3), height and width of the images.
    widths
        Output channels of every convolution, by layer name.
    all_projections
        ResNet's; see there.
    stride16
        Leave out the last halving of EfficientNet and DarkNet, whose last map has stride 32 otherwise. The others'
        always has 16.

    Raises
    ------
    ValueError
        For an architecture that this engine does not have; the spec's validation refuses it earlier, with its line.
    """
    channels, height, width = input_shape
    if (arch, nlayers) == ("efficientnet_b0", 0):
        return EfficientNetB0(channels, (height, width), widths, stride16=stride16)
    if (arch, nlayers) not in _BUILDERS:
        raise ValueError(f"no backbone {arch!r} with {nlayers} layers")
    if arch == "resnet":
        return ResNet(nlayers, channels, widths, all_projections=all_projections)
    if arch == "darknet":
        return (DarkNet19 if nlayers == 19 else DarkNet53)(channels, widths, stride16=stride16)
    return _BUILDERS[arch, nlayers](channels, widths)
