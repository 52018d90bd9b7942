"""What is said about weights that were, or were not, taken from a file."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping

import torch
from torch import Tensor

from taomagic.engine.backbones.base import keras_name
from taomagic.engine.quantization.placement import QUANTIZERS
from taomagic.engine.weights.state import BACKBONE, shortened
from taomagic.errors import ModelFileProblem

logger = logging.getLogger(__name__)


def report_random(own: Iterable[str], fitting: Collection[str]) -> None:
    """Say which layers begin with random values. Only in the backbone that may be a mistake."""
    # Scales of activations aren't random, the first batch decides them; nor are biases, which begin with zeros.
    missing = [
        name
        for name in own
        if name not in fitting and not name.startswith(f"{QUANTIZERS}.") and not name.endswith(".bias")
    ]
    backbone = layers_of(name for name in missing if name.startswith(BACKBONE))
    behind = layers_of(name for name in missing if not name.startswith(BACKBONE))
    if backbone:
        logger.warning(
            "These layers of the backbone start with random values, because the file has none of their name and "
            "shape: %s",
            shortened(backbone),
        )
    if behind:
        logger.info("These layers behind the backbone start with random values: %s", shortened(behind))


def layers_of(names: Iterable[str]) -> list[str]:
    """Return the Keras names of the layers that tensors belong to, each once."""
    return list(dict.fromkeys(keras_name(name.rpartition(".")[0]) for name in names))


def require_numbers(weights: Mapping[str, Tensor], where: str) -> None:
    """Check that weights are finite.

    Raises
    ------
    ModelFileProblem
        They aren't all.
    """
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelFileProblem(
                f"the file holds values that are no numbers (nan or inf), in the layer "
                f"{keras_name(name.rpartition('.')[0])}",
                where=where,
                hint="Its training went wrong before it was saved: use an earlier epoch, or copy it again.",
            )
