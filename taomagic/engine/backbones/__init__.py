"""Feature extractors with TAO's layer names, strides and paddings.

Every backbone returns two maps: the *tap*, an early map for small objects, and its last map.
"""

from __future__ import annotations

from torch import nn

from taomagic.engine.backbones.layers import Widths
from taomagic.engine.backbones.resnet import ResNet

__all__ = ["Widths", "build_backbone"]


def build_backbone(arch: str, nlayers: int, in_channels: int, widths: Widths) -> nn.Module:
    """Return the feature extractor ``arch`` with ``nlayers`` layers.

    Parameters
    ----------
    arch, nlayers
        As in the spec, e.g. ``"resnet"`` and ``18``.
    in_channels
        1 (grey) or 3.
    widths
        Output channels of every convolution, by layer name.

    Raises
    ------
    ValueError
        For an architecture that this engine does not have; the spec's validation refuses it earlier, with its line.
    """
    if arch == "resnet":
        return ResNet(nlayers, in_channels, widths)
    raise ValueError(f"no backbone {arch!r} with {nlayers} layers")
