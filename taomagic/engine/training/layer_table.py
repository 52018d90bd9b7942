"""The layers of a network as a table, in the form of Keras' ``summary()``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from taomagic.engine.backbones.base import keras_name

_COLUMNS = (44, 24, 12)
_TYPES = {
    nn.Conv2d: "Conv2D",
    nn.ConvTranspose2d: "Conv2DTranspose",
    nn.BatchNorm2d: "BatchNormalization",
    nn.Linear: "Dense",
}


def layer_table(model: nn.Module, input_shape: Sequence[int]) -> list[str]:
    """Return a line for each layer that has weights, with what comes out of it, and the sums.

    Parameters
    ----------
    model
        On the CPU; it sees one black image, and is in evaluation mode afterwards.
    input_shape
        Channels, height and width.
    """
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note(layer: nn.Module, _inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            shapes[layer] = tuple(output.shape[1:])

    layers = {
        path: layer for path, layer in model.named_modules() if any(True for _ in layer.parameters(False))
    }
    hooks = [layer.register_forward_hook(note) for layer in layers.values()]
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *input_shape))
    finally:
        for hook in hooks:
            hook.remove()
    width = sum(_COLUMNS)
    rows = [
        _row(
            f"{keras_name(path)} ({_type(layer)})",
            f"(None, {', '.join(map(str, shapes.get(layer, ())))})",
            str(_weights(layer)),
        )
        for path, layer in layers.items()
    ]
    total = sum(_weights(layer) for layer in layers.values())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return [
        "_" * width,
        _row("Layer (type)", "Output Shape", "Param #"),
        "=" * width,
        *rows,
        "=" * width,
        f"Total params: {total:,}",
        f"Trainable params: {trainable:,}",
        f"Non-trainable params: {total - trainable:,}",
        "_" * width,
    ]


def _row(*cells: str) -> str:
    return " ".join(f"{cell:<{width - 1}}" for cell, width in zip(cells, _COLUMNS, strict=True)).rstrip()


def _type(layer: nn.Module) -> str:
    if isinstance(layer, nn.Conv2d) and layer.groups > 1 and layer.groups == layer.in_channels:
        return "DepthwiseConv2D"
    return next((name for kind, name in _TYPES.items() if isinstance(layer, kind)), type(layer).__name__)


def _weights(layer: nn.Module) -> int:
    """Return the number of a layer's own weights, with the statistics of batch normalisation."""
    own = sum(p.numel() for p in layer.parameters(recurse=False))
    statistics = [b for name, b in layer.named_buffers(recurse=False) if name.startswith("running_")]
    return own + sum(b.numel() for b in statistics)
