"""The scales of a quantisation-aware network, by the names of the tensors of its ONNX model.

An exported model is a float32 one. What the network learned about the ranges of its activations goes into a file beside
it, ``{"tensor_scales": {tensor: scale}}``, from which a device's compiler takes them in place of a calibration. So that
each scale finds its tensor, the quantisers leave marks in the exported graph. They are taken out of it again, and the
tensors they marked get the names of their layers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from taomagic.engine.quantization import ActivationQuantizer, without_quantization
from taomagic.engine.quantization.placement import SUFFIX
from taomagic.engine.storage.atomic import atomic_write

#: The operator that marks a tensor. No runtime knows it; it never leaves this module.
_DOMAIN, _OPERATOR = "taomagic", "Scale"


def mark_quantizers(model: nn.Module) -> None:
    """Turn a quantisation-aware network, in place, into a float32 one whose export is marked.

    :func:`take_scales` has to be applied to the exported model.
    """
    without_quantization(model, _Mark)


def take_scales(model: onnx.ModelProto) -> dict[str, float]:
    """Take the marks out of an exported model, in place, and name the marked tensors after their layers.

    Returns
    -------
    dict of str to float
        By tensor, the largest magnitude that has to survive, in the order of the network.
    """
    graph = model.graph
    scales: dict[str, float] = {}
    renamed = {value.name: value.name for value in graph.input}
    behind_marks: dict[str, str] = {}
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = behind_marks.get(name, name)
        if node.domain == _DOMAIN:
            (source,) = node.input
            behind_marks[node.output[0]] = source
            values = {
                attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute
            }
            scales[renamed.setdefault(source, values["layer"].decode())] = values["scale"]
    kept = [node for node in graph.node if node.domain != _DOMAIN]
    for node in kept:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
    del graph.node[:]
    graph.node.extend(kept)
    if behind_marks:
        del graph.value_info[:]  # shapes by name; readers infer them
    imports = [entry for entry in model.opset_import if entry.domain != _DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend(imports)
    return scales


def write_scales(path: Path, scales: Mapping[str, float]) -> None:
    """Write ``--cal_json_file``, completely or not at all.

    Raises
    ------
    EnvironmentProblem
        The disk is full or the folder can't be written.
    """
    text = json.dumps({"tensor_scales": dict(scales)}, indent=4)
    with atomic_write(path) as file:
        file.write(text.encode())


class _Mark(nn.Module):
    """Does nothing, and leaves a mark with its layer and scale in an exported graph."""

    def __init__(self, name: str, quantizer: ActivationQuantizer) -> None:
        super().__init__()
        self.layer = name.removesuffix(SUFFIX)
        self.scale = float(quantizer.scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``x``."""
        marked: Tensor = _MarkFunction.apply(x, self.layer, self.scale)  # type: ignore[no-untyped-call]
        return marked


class _MarkFunction(torch.autograd.Function):
    """The operator of the mark: for PyTorch the identity, for the exporter a node."""

    @staticmethod
    def forward(_ctx: Any, x: Tensor, _layer: str, _scale: float) -> Tensor:
        return x.clone()  # an activation may work in place, and not on a view

    @staticmethod
    def symbolic(graph: Any, x: Any, layer: str, scale: float) -> Any:
        return graph.op(f"{_DOMAIN}::{_OPERATOR}", x, layer_s=layer, scale_f=scale).setType(x.type())
