"""The SSD network: a backbone, an expansion to six feature maps, and two heads on each map.

Module names are TAO's Keras layer names (``block_1a_conv_1``, ``ssd_expand_block_1_conv_0``, ``ssd_conf_0``), see
:func:`keras_name`, so that weights can be exchanged by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from taomagic.engine.backbones import Widths, build_backbone
from taomagic.engine.backbones.base import keras_name
from taomagic.engine.backbones.layers import batch_norm, conv, he_normal
from taomagic.engine.quantization import quantize
from taomagic.engine.ssd.anchors import AnchorSettings, anchor_boxes
from taomagic.engine.weights.kind import Detector
from taomagic.spec.ssd import SSDExperiment

#: (1×1 channels, 3×3 channels) of the five expansion blocks; ``None``: the backbone's last map itself is block 0.
SMALL = (None, (64, 128), (64, 128), (64, 128), (64, 128))
MEDIUM = ((256, 256), (128, 256), (64, 128), (64, 128), (64, 128))
LARGE = ((512, 512), (256, 512), (128, 256), (128, 256), (128, 256))

#: By architecture and number of layers (0: there is one size). A backbone with two taps has one block less.
EXPANSIONS: dict[tuple[str, int], tuple[tuple[int, int] | None, ...]] = {
    ("resnet", 10): SMALL,
    ("resnet", 18): MEDIUM,
    ("resnet", 34): MEDIUM,
    ("resnet", 50): LARGE,
    ("resnet", 101): LARGE,
    ("vgg", 16): LARGE,
    ("vgg", 19): LARGE,
    ("darknet", 19): MEDIUM[:-1],
    ("darknet", 53): LARGE[:-1],
    ("googlenet", 0): LARGE,
    ("mobilenet_v1", 0): SMALL,
    ("mobilenet_v2", 0): SMALL,
    ("squeezenet", 0): SMALL,
    ("efficientnet_b0", 0): LARGE[:-1],
}

#: Standard deviation of the heads' first weights.
HEAD_STD = 0.01

#: Number of feature maps: one or two taps, and the expansion blocks.
LEVELS = 6


@dataclass(frozen=True)
class Architecture:
    """Everything that is needed to build the same network again; stored in every model file.

    Attributes
    ----------
    arch, nlayers, width_multiplier
        Backbone.
    input_shape
        Channels, height, width of the input.
    classes
        Names of the foreground classes; class ``i`` of the list has id ``i + 1``, 0 is background.
    anchors
        Anchor settings.
    channels
        Output channels by layer name, where they differ from the architecture's own (a pruned network).
    quantized
        Whether it is quantisation-aware (``enable_qat``).
    """

    arch: str
    nlayers: int
    width_multiplier: float
    input_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    anchors: AnchorSettings
    channels: Mapping[str, int] = field(default_factory=dict)
    quantized: bool = False

    @classmethod
    def from_experiment(cls, experiment: SSDExperiment, classes: tuple[str, ...]) -> Architecture:
        """Take the architecture that a spec describes."""
        model, augmentation = experiment.model, experiment.augmentation
        assert augmentation is not None  # validation demands it for every purpose that builds a network
        anchors = AnchorSettings(
            aspect_ratios=model.aspect_ratios,
            scales=model.scales,
            two_boxes_for_ar1=model.two_boxes_for_ar1,
            clip_boxes=model.clip_boxes,
            variances=model.variances,
            steps=model.steps,
            offsets=model.offsets,
        )
        shape = (augmentation.output_channel, augmentation.output_height, augmentation.output_width)
        quantized = experiment.training is not None and experiment.training.enable_qat
        return cls(
            model.arch, model.nlayers, model.width_multiplier, shape, classes, anchors, quantized=quantized
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data, with the task's name."""
        return {"task": "ssd", **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Architecture:
        """Rebuild from what :meth:`to_json` gave."""
        anchors = data["anchors"]
        steps, offsets = anchors["steps"], anchors["offsets"]
        variances = tuple(float(v) for v in anchors["variances"])
        return cls(
            arch=data["arch"],
            nlayers=data["nlayers"],
            width_multiplier=data["width_multiplier"],
            input_shape=tuple(data["input_shape"]),
            classes=tuple(data["classes"]),
            anchors=AnchorSettings(
                aspect_ratios=tuple(tuple(ratios) for ratios in anchors["aspect_ratios"]),
                scales=tuple(anchors["scales"]),
                two_boxes_for_ar1=anchors["two_boxes_for_ar1"],
                clip_boxes=anchors["clip_boxes"],
                variances=(variances[0], variances[1], variances[2], variances[3]),
                steps=None if steps is None else tuple((s[0], s[1]) for s in steps),
                offsets=None if offsets is None else tuple(offsets),
            ),
            channels=dict(data["channels"]),
            quantized=data.get("quantized", False),  # files of before there was such a thing
        )


class ExpansionBlock(nn.Module):
    """A 1×1 convolution that narrows and a 3×3 convolution that looks further (and halves the map)."""

    def __init__(
        self, name: str, in_channels: int, channels: tuple[int, int], stride: int, widths: Widths
    ) -> None:
        super().__init__()
        narrow = widths(f"{name}_conv_0", channels[0])
        wide = widths(f"{name}_conv_1", channels[1])
        self.conv_0 = conv(in_channels, narrow, 1, bias=True)
        self.relu_0 = nn.ReLU(inplace=True)
        self.conv_1 = conv(narrow, wide, 3, stride=stride)
        self.bn_1 = batch_norm(wide)
        self.relu_1 = nn.ReLU(inplace=True)
        he_normal(self.conv_0.weight)
        he_normal(self.conv_1.weight)
        self.out_channels = wide

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, in, H, W] to [N, out, H/stride, W/stride]."""
        return self.relu_1(self.bn_1(self.conv_1(self.relu_0(self.conv_0(x)))))  # type: ignore[no-any-return]


class SSD(Detector):
    """SSD: one or two taps and the expansion blocks make six maps, with two heads on each.

    Parameters
    ----------
    architecture
        What to build.

    Attributes
    ----------
    anchors
        [A, 4] float32 buffer: corners as shares of the image.
    feature_sizes
        Height and width of the six maps.
    """

    architecture: Architecture
    anchors: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        widths = Widths(architecture.width_multiplier, architecture.channels)
        channels, height, width = architecture.input_shape
        self.backbone = build_backbone(
            architecture.arch, architecture.nlayers, architecture.input_shape, widths
        )
        self.expansion = nn.ModuleDict()
        last = self.backbone.out_channels
        level_channels = [*self.backbone.tap_channels]
        for block, block_channels in enumerate(EXPANSIONS[architecture.arch, architecture.nlayers]):
            if block_channels is not None:
                name = f"ssd_expand_block_{block}"
                module = ExpansionBlock(name, last, block_channels, 1 if block == 0 else 2, widths)
                self.expansion[name] = module
                last = module.out_channels
            level_channels.append(last)
        self.expands_last_map = EXPANSIONS[architecture.arch, architecture.nlayers][0] is None
        self.heads = nn.ModuleDict()
        for level, in_channels in enumerate(level_channels):
            boxes = architecture.anchors.boxes_per_cell(level)
            for kind, outputs in (("conf", self.num_classes), ("loc", 4)):
                head = conv(in_channels, boxes * outputs, 3, bias=True)
                # Small first predictions: with TAO's He-normal heads the first epochs only undo huge ones (measured on
                # the sample scenes: 0.70 against 0.65 mAP after 12 epochs). As in Lin et al., 2017, section 4.1.
                nn.init.normal_(head.weight, std=HEAD_STD)
                self.heads[f"ssd_{kind}_{level}"] = head
        self.feature_sizes = self._measure_feature_sizes(channels, height, width)
        anchors = anchor_boxes(architecture.anchors, (height, width), self.feature_sizes)
        self.register_buffer("anchors", anchors, persistent=False)
        self._anchor_count = int(anchors.shape[0])
        self._quantized: Callable[..., tuple[Tensor, Tensor]] | None = None
        if architecture.quantized:
            heads = [f"heads.{name}" for name in self.heads]
            self._quantized = quantize(self, heads=heads, layer_name=keras_name)

    @property
    def num_classes(self) -> int:
        """Number of classes with the background."""
        return len(self.architecture.classes) + 1

    def feature_maps(self, images: Tensor) -> list[Tensor]:
        """Return the six maps [N, C, H, W] that the heads look at."""
        maps: list[Tensor]
        *maps, x = self.backbone(images)
        if self.expands_last_map:
            maps.append(x)
        for block in self.expansion.values():
            x = block(x)
            maps.append(x)
        return maps

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predict for every anchor.

        Parameters
        ----------
        images
            [N, C, H, W] float32, preprocessed (BGR minus the mean, or grey minus the mean).

        Returns
        -------
        tuple of Tensor
            Class scores before the softmax [N, A, classes + 1], and encoded box offsets [N, A, 4].
        """
        if self._quantized is not None:
            return self._quantized(self, images)
        confidences, locations = [], []
        for level, x in enumerate(self.feature_maps(images)):
            conf = self.heads[f"ssd_conf_{level}"](x)
            loc = self.heads[f"ssd_loc_{level}"](x)
            # NCHW -> NHWC first: the boxes of a cell, and their classes, must lie beside each other as in the anchors.
            confidences.append(conf.permute(0, 2, 3, 1).flatten(1))
            locations.append(loc.permute(0, 2, 3, 1).flatten(1))
        # Not -1: nothing can be inferred from no images, of which one of several processes may have so many.
        scores = torch.cat(confidences, dim=1).reshape(images.shape[0], self._anchor_count, self.num_classes)
        return scores, torch.cat(locations, dim=1).reshape(images.shape[0], self._anchor_count, 4)

    @torch.no_grad()
    def _measure_feature_sizes(self, channels: int, height: int, width: int) -> list[tuple[int, int]]:
        """Run one empty image through, so that no backbone has to repeat its own arithmetic of strides."""
        training = self.training
        self.eval()
        maps = self.feature_maps(torch.zeros(1, channels, height, width))
        self.train(training)
        return [(int(x.shape[2]), int(x.shape[3])) for x in maps]
