"""The DetectNet_v2 network: a backbone of stride 16, and two 1×1 convolutions on its last map.

Module names are TAO's Keras layer names, as in SSD. The backbones are SSD's too, with what differs: convolutions have
biases, batch normalisation is optional, and a ResNet projects only the first shortcut of each stage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from taomagic.engine.backbones import Widths, build_backbone
from taomagic.engine.backbones.base import keras_name
from taomagic.engine.backbones.layers import conv
from taomagic.engine.detectnet_v2.targets import STRIDE
from taomagic.engine.quantization import quantize
from taomagic.engine.weights.kind import Detector
from taomagic.spec.settings_detectnet_v2 import DetectNetExperiment

_HALVES = frozenset({torch.float16, torch.bfloat16})
#: Architectures that are built without batch normalisation whatever the spec says, and those that always have it.
_WITHOUT_NORM = ("squeezenet",)
_WITH_NORM = ("mobilenet_v1", "mobilenet_v2", "efficientnet_b0")
#: Those that drop values of their last map in training.
_WITH_DROPOUT = ("mobilenet_v1",)
#: Those that TAO leaves in float where it builds them from a spec.
_NEVER_QUANTIZED = ("mobilenet_v1", "mobilenet_v2")


def left_in_float(experiment: DetectNetExperiment) -> bool:
    """Return whether the spec has ``enable_qat`` for a network that TAO doesn't quantise.

    TAO leaves MobileNets out where it builds them, and quantises those that ``load_graph`` brings.
    """
    model, training = experiment.model, experiment.training
    if model is None or training is None or model.load_graph:
        return False
    return training.enable_qat and model.arch in _NEVER_QUANTIZED


@dataclass(frozen=True)
class Architecture:
    """Everything that is needed to build the same network again; stored in every model file.

    Attributes
    ----------
    arch, nlayers, width_multiplier
        Backbone; 0 layers where there is one size.
    input_shape
        Channels, height, width of the input; height and width are multiples of 16.
    classes
        Names of the classes, in the order of the channels.
    use_batch_norm, all_projections
        ``model_config``.
    bbox_scale, bbox_offset
        ``objective_set``: what turns the network's numbers into pixels.
    channels
        Output channels by layer name, where they differ from the architecture's own (a pruned network).
    quantized
        Whether it is quantisation-aware (``enable_qat``).
    dropout_rate
        Of the last map, in training.
    """

    arch: str
    nlayers: int
    width_multiplier: float
    input_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    use_batch_norm: bool
    all_projections: bool
    bbox_scale: float
    bbox_offset: float
    channels: Mapping[str, int] = field(default_factory=dict)
    quantized: bool = False
    dropout_rate: float = 0.0

    @classmethod
    def from_experiment(cls, experiment: DetectNetExperiment) -> Architecture:
        """Take the architecture that a spec describes."""
        model, augmentation = experiment.model, experiment.augmentation
        assert model is not None  # validation demands both for every purpose that builds a network
        assert augmentation is not None
        return cls(
            arch=model.arch,
            nlayers=model.num_layers,
            width_multiplier=model.width_multiplier,
            input_shape=(augmentation.output_channel, augmentation.output_height, augmentation.output_width),
            classes=experiment.classes,
            use_batch_norm=model.use_batch_norm,
            all_projections=model.all_projections,
            bbox_scale=model.bbox_scale,
            bbox_offset=model.bbox_offset,
            quantized=experiment.training is not None
            and experiment.training.enable_qat
            and not left_in_float(experiment),
            dropout_rate=model.dropout_rate if model.arch in _WITH_DROPOUT else 0.0,
        )

    @property
    def name(self) -> str:
        """NVIDIA's name of the network, e.g. ``resnet18_nopool_bn_detectnet_v2``."""
        norm = "_bn" if self.use_batch_norm else ""
        return f"{self.arch}{self.nlayers or ''}_nopool{norm}_detectnet_v2"

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data, with the task's name."""
        return {"task": "detectnet_v2", **asdict(self)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Architecture:
        """Rebuild from what :meth:`to_json` gave."""
        fields = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        channels, height, width = fields["input_shape"]
        return cls(
            **fields
            | {
                "input_shape": (channels, height, width),
                "classes": tuple(fields["classes"]),
                "channels": dict(fields["channels"]),
            }
        )


def coverage_of(logits: Tensor) -> Tensor:
    """Return the coverage in float32: in mixed precision a half rounds 0.9998 to 1, where nothing is learned."""
    return torch.sigmoid(logits.float() if logits.dtype in _HALVES else logits)


fx.wrap("coverage_of")  # one node of a traced network; what its values are is seen when it runs


class DetectNet(Detector):
    """DetectNet_v2: for each cell and class, the coverage and the sides of a box.

    Parameters
    ----------
    architecture
        What to build.

    Attributes
    ----------
    grid
        Height and width of the maps, in cells.
    pretrained_layers
        Names of the layers whose weights came from ``pretrained_model_file``, for ``freeze_pretrained_layers``.
    """

    architecture: Architecture

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        widths = Widths(architecture.width_multiplier, architecture.channels)
        self.backbone = build_backbone(
            architecture.arch,
            architecture.nlayers,
            architecture.input_shape,
            widths,
            all_projections=architecture.all_projections,
            stride16=True,
        )
        self.pretrained_layers: frozenset[str] = frozenset()
        for layer in self.backbone.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is None:
                layer.bias = nn.Parameter(torch.zeros(layer.out_channels))
        normed = architecture.use_batch_norm or architecture.arch in _WITH_NORM
        if not normed or architecture.arch in _WITHOUT_NORM:
            _drop_norms(self.backbone)
        classes = len(architecture.classes)
        self.heads = nn.ModuleDict(
            {
                "output_bbox": conv(self.backbone.out_channels, 4 * classes, 1, bias=True),
                "output_cov": conv(self.backbone.out_channels, classes, 1, bias=True),
            }
        )
        self.dropout = nn.Dropout(architecture.dropout_rate) if architecture.dropout_rate else None
        _, height, width = architecture.input_shape
        self.grid = (height // STRIDE, width // STRIDE)
        self._quantized: Callable[..., tuple[Tensor, Tensor]] | None = None
        if architecture.quantized:
            self._quantized = quantize(
                self, heads=[f"heads.{name}" for name in self.heads], layer_name=keras_name
            )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predict for every cell.

        Parameters
        ----------
        images
            [N, C, H, W] float32 between 0 and 1, red first.

        Returns
        -------
        tuple of Tensor
            Coverage [N, classes, H/16, W/16] between 0 and 1, and boxes [N, 4 · classes, H/16, W/16]: for each class
            the distances to left, top, right and bottom side, in units of ``bbox_scale`` pixels.
        """
        if self._quantized is not None:
            return self._quantized(self, images)
        last = self.backbone(images)[-1]
        if self.dropout is not None:
            last = self.dropout(last)
        return coverage_of(self.heads["output_cov"](last)), self.heads["output_bbox"](last)

    def by_class(self, boxes: Tensor) -> Tensor:
        """Return the boxes [N, 4 · classes, H, W] as [N, classes, 4, H, W]."""
        return boxes.unflatten(1, (len(self.architecture.classes), 4))  # type: ignore[no-any-return]


def _drop_norms(module: nn.Module) -> None:
    """Take the batch normalisation out of a network; the names of the other layers stay."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.Identity())
        else:
            _drop_norms(child)
