"""What a spec can say about a backbone, whatever network it is in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from taomagic.spec.parse import SpecFile
from taomagic.spec.validate import as_written, broken


class Blocks(NamedTuple):
    """The ids of ``freeze_blocks``, which count from the input on."""

    first: int
    last: int
    meaning: str


class Backbone(NamedTuple):
    """What a spec can say about an architecture."""

    nlayers: tuple[int, ...]  #: empty: there is one size
    blocks: Blocks


#: The document's architectures, and efficientnet_b0, which NVIDIA's code has as well.
BACKBONES: Final[Mapping[str, Backbone]] = {
    "resnet": Backbone(
        (10, 18, 34, 50, 101), Blocks(0, 4, "0 is the first convolution, 1 to 4 are the stages.")
    ),
    "vgg": Backbone((16, 19), Blocks(1, 5, "1 to 5 are the blocks; there is no 0.")),
    "darknet": Backbone((19, 53), Blocks(0, 5, "0 is the first convolution, 1 to 5 are the blocks.")),
    "googlenet": Backbone((), Blocks(0, 9, "0 is the stem, 1 to 9 are the inception blocks 3a to 5b.")),
    "mobilenet_v1": Backbone((), Blocks(0, 11, "0 is the first convolution, 1 to 11 are the blocks.")),
    "mobilenet_v2": Backbone((), Blocks(0, 13, "0 is the first convolution, 1 to 13 are the blocks.")),
    "squeezenet": Backbone(
        (), Blocks(0, 8, "0 is the first convolution, 1 to 8 are the fire modules 2 to 9.")
    ),
    "efficientnet_b0": Backbone(
        (), Blocks(0, 8, "0 is the stem, 1 to 7 are the stages, 8 is the last convolution.")
    ),
}


def frozen_blocks(spec: SpecFile[Any], field: str, arch: str, blocks: Iterable[float]) -> tuple[int, ...]:
    """Return the ids of ``freeze_blocks``, each once, ascending.

    Parameters
    ----------
    spec
        The file.
    field
        Full name of the field in it.
    arch
        A name in :data:`BACKBONES`.
    blocks
        What the file has; floats in DetectNet_v2's.

    Raises
    ------
    SpecProblem
        The backbone has no such block.
    """
    first, last, meaning = BACKBONES[arch].blocks
    for index, block in enumerate(blocks):
        if block != int(block) or not first <= block <= last:
            shown = int(block) if block == int(block) else as_written(block)
            allowed = f"{first} to {last} for {arch}"
            raise broken(spec, f"{field}[{index}]", shown, allowed, hint=meaning)
    return tuple(sorted({int(block) for block in blocks}))
