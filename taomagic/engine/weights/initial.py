"""``python -m taomagic.engine.weights.initial ARCH LAYERS WIDTH FILE``: a backbone before training.

For runs of notebooks offline: where NVIDIA's pretrained file is wanted, this has its layers, and random values. Half of
the filters are zero, as trainings with an L1 penalty leave them, since pruning would find nothing among random ones.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from taomagic.engine.detectnet_v2 import weights
from taomagic.engine.detectnet_v2.model import Architecture, DetectNet
from taomagic.errors import TaoError

#: The file has an input size, which no backbone depends on.
_INPUT = (3, 384, 1248)


def write_initial(path: Path, arch: str, layers: int, width: float = 1.0, *, seed: int = 0) -> None:
    """Write a backbone with random weights, as a ``.hdf5`` that trainings of all networks here can begin with.

    Parameters
    ----------
    path
        Ends in ``.hdf5``; written in one step.
    arch, layers
        E.g. ``"resnet"`` and 18; 0 layers where there is one size.
    width
        ``width_multiplier``.
    seed
        The same one gives the same weights.

    Raises
    ------
    TaoError
        There is no such backbone, or the file can't be written.
    """
    torch.manual_seed(seed)
    wanted = Architecture(arch, layers, width, _INPUT, ("object",), True, True, 35.0, 0.5)
    net = DetectNet(wanted)
    silence(net.backbone)
    weights.save(path, net, "")


def silence(backbone: nn.Module) -> None:
    """Set the second half of the filters of each layer to zero, in the batch normalisation behind it as well.

    Behind a ReLU no gradient reaches them, so that they stay zero however long the network is trained.
    """
    with torch.no_grad():
        for module in backbone.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                for values in (module.weight, module.bias):
                    if values is not None:
                        values[len(values) // 2 :] = 0


def main(words: Sequence[str]) -> int:
    """Carry out the command; return the exit code."""
    arch, layers, width, path = words
    try:
        write_initial(Path(path), arch, int(layers), float(width))
    except (TaoError, KeyError, ValueError) as problem:
        print(f"There are no weights for {arch} {layers}: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
