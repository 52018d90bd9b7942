"""What the numbers that the network gives mean, whoever computed them: PyTorch, ONNX Runtime or an engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from taomagic.engine.detectnet_v2.targets import STRIDE, decode_boxes


class Described(Protocol):
    """An architecture, as far as its outputs are concerned."""

    @property
    def classes(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def input_shape(self) -> tuple[int, int, int]: ...  # noqa: D102
    @property
    def bbox_scale(self) -> float: ...  # noqa: D102
    @property
    def bbox_offset(self) -> float: ...  # noqa: D102


@dataclass(frozen=True)
class Layout:
    """The maps of a network.

    Attributes
    ----------
    classes
        In the order of the channels.
    input_shape
        Channels, height and width of the input.
    bbox_scale, bbox_offset
        ``objective_set.bbox``, in pixels.
    """

    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    bbox_scale: float
    bbox_offset: float

    @classmethod
    def of(cls, architecture: Described) -> Layout:
        """Return the layout of a network's outputs."""
        return cls(
            architecture.classes, architecture.input_shape, architecture.bbox_scale, architecture.bbox_offset
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input, in pixels."""
        return self.input_shape[1:]

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of the maps, in cells."""
        height, width = self.size
        return height // STRIDE, width // STRIDE

    def by_class(self, boxes: Tensor) -> Tensor:
        """Return the boxes [N, 4 · classes, H, W] as [N, classes, 4, H, W]."""
        return boxes.unflatten(1, (len(self.classes), 4))  # type: ignore[no-any-return]

    def corners(self, boxes: Tensor) -> Tensor:
        """Return the corners [N, classes, H, W, 4] in pixels of the boxes [N, 4 · classes, H, W]."""
        return decode_boxes(self.by_class(boxes), self.size, scale=self.bbox_scale, offset=self.bbox_offset)
