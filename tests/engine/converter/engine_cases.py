"""Small ONNX models for the tests of engines, made without PyTorch."""

from __future__ import annotations

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def convolutional(
    batch: int | str = "N",
    *,
    channels: int = 3,
    size: int | str = 16,
    width: int = 8,
    layers: int = 2,
    metadata: dict[str, object] | None = None,
    input_name: str = "Input",
) -> bytes:
    """Return images -> convolutions with ReLU -> ``features``, and their mean ``score`` [N, width]."""
    random = np.random.default_rng(3)
    nodes, weights = [], []
    name, depth = input_name, channels
    for index in range(layers):
        kernel = random.normal(0, 1 / np.sqrt(9 * depth), (width, depth, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"kernel_{index}"))
        weights.append(
            numpy_helper.from_array(random.normal(0, 0.1, width).astype(np.float32), f"bias_{index}")
        )
        nodes.append(
            helper.make_node(
                "Conv",
                [name, f"kernel_{index}", f"bias_{index}"],
                [f"conv_{index}"],
                f"conv_{index}",
                pads=[1] * 4,
            )
        )
        last = index == layers - 1
        name, depth = ("features" if last else f"relu_{index}"), width
        nodes.append(helper.make_node("Relu", [f"conv_{index}"], [name], f"relu_{index}"))
    nodes.append(helper.make_node("GlobalAveragePool", [name], ["pooled"], "pool"))
    nodes.append(helper.make_node("Flatten", ["pooled"], ["score"], "flatten"))
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, [batch, channels, size, size])],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, width, size, size]),
            helper.make_tensor_value_info("score", TensorProto.FLOAT, [batch, width]),
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {name: json.dumps(value) for name, value in (metadata or {}).items()})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def images(count: int, *, channels: int = 3, size: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, channels, size, size)).astype(np.float32)
