"""What the code for weights has to know about a network: how it is built, and how its spec calls things."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from torch import nn

from taomagic.engine.backbones.base import Backbone
from taomagic.errors import ModelFileProblem


class Description(Protocol):
    """Everything that is needed to build a network again, as far as it is the same for all."""

    @property
    def arch(self) -> str:
        """Name of the backbone."""
        ...

    @property
    def nlayers(self) -> int:
        """Its number of layers; 0 where there is one size."""
        ...

    @property
    def width_multiplier(self) -> float:
        """Share of NVIDIA's channels."""
        ...

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        ...

    @property
    def channels(self) -> Mapping[str, int]:
        """Output channels by layer name, where they differ from the architecture's own (a pruned network)."""
        ...

    @property
    def quantized(self) -> bool:
        """Whether it is quantisation-aware."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data, with the task's name under ``task``."""
        ...


class Detector(nn.Module):
    """A network with a backbone, and heads behind it, which predict and go by their layers' names."""

    architecture: Description
    backbone: Backbone
    heads: nn.ModuleDict


A = TypeVar("A", bound=Description)
N = TypeVar("N", bound=Detector)


@dataclass(frozen=True)
class Kind(Generic[A, N]):
    """A kind of network.

    Attributes
    ----------
    task
        As on the command line and in the files: ``"ssd"``.
    title
        For people: ``"SSD"``.
    read
        Returns the architecture that JSON data of a file describe.
    build
        Builds it with random weights.
    block
        The message of the spec that describes the network: ``"ssd_config"``.
    layers_field
        Its field with the number of layers.
    other_file
        What to do to start from another file, as part of a sentence: ``"give -m another file"``.
    how_to_start
        How a training is started from a file, for a hint.
    head_settings
        What of the spec decides the shapes of its heads, as part of a sentence.
    red_first
        Whether the channels of its images are red, green, blue, and not the other way round.
    """

    task: str
    title: str
    read: Callable[[Mapping[str, Any]], A]
    build: Callable[[A], N]
    block: str
    layers_field: str
    other_file: str
    how_to_start: str
    head_settings: str
    red_first: bool

    def other_architecture(self, found: str, wanted: Description, where: str) -> ModelFileProblem:
        """Return the error for weights of another architecture than the spec's."""
        ours = f"{wanted.arch} {wanted.nlayers}" if wanted.nlayers else wanted.arch
        return ModelFileProblem(
            f"this file holds the weights of {found}, and the spec builds {ours}",
            where=where,
            hint=f"Set arch and {self.layers_field} in the spec's {self.block} to the file's network, or "
            f"{self.other_file}.",
        )
