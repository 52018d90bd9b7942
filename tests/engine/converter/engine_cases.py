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


def yolo() -> bytes:
    """Return a small YOLOv3 as its exporters write it: any batch and size, two scales, no word about itself.

    Convolutions without bias, batch normalisation, leaky ReLU and a residual; the deep map is doubled in size by
    ``Resize`` with scales and joined with the flat one. Outputs are the raw maps of the two scales.
    """
    random = np.random.default_rng(5)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def constant(name: str, values: np.ndarray) -> str:
        weights.append(numpy_helper.from_array(values.astype(np.float32), name))
        return name

    def convolution(
        source: str, name: str, depth: int, width: int, *, kernel: int = 3, stride: int = 1
    ) -> str:
        values = random.normal(0, 1 / np.sqrt(kernel * kernel * depth), (width, depth, kernel, kernel))
        inputs = [source, constant(f"{name}_weight", values)]
        more = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": [kernel // 2] * 4}
        nodes.append(helper.make_node("Conv", inputs, [f"{name}_conv"], **more))
        norm = [constant(f"{name}_{part}", value) for part, value in (
            ("scale", random.uniform(0.8, 1.2, width)), ("shift", random.normal(0, 0.1, width)),
            ("mean", np.zeros(width)), ("variance", np.ones(width)),
        )]  # fmt: skip
        nodes.append(helper.make_node("BatchNormalization", [f"{name}_conv", *norm], [f"{name}_norm"]))
        nodes.append(helper.make_node("LeakyRelu", [f"{name}_norm"], [name], alpha=0.1))
        return name

    def head(source: str, name: str, depth: int) -> None:
        kernel = constant(f"{name}_weight", random.normal(0, 1 / np.sqrt(depth), (21, depth, 1, 1)))
        nodes.append(
            helper.make_node("Conv", [source, kernel, constant(f"{name}_bias", np.zeros(21))], [name])
        )

    flat = convolution(convolution("000_net", "one", 3, 8, stride=2), "two", 8, 16, stride=2)
    nodes.append(
        helper.make_node(
            "Add", [flat, convolution(convolution(flat, "a", 16, 8, kernel=1), "b", 8, 16)], ["sum"]
        )
    )
    deep = convolution("sum", "deep", 16, 32, stride=2)
    head(deep, "082_convolutional", 32)
    narrow = convolution(deep, "narrow", 32, 16, kernel=1)
    region, scales = constant("region", np.zeros(8)), constant("scales", np.array([1, 1, 2, 2]))
    more = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    nodes.append(helper.make_node("Resize", [narrow, region, scales], ["large"], **more))
    nodes.append(helper.make_node("Concat", ["large", "sum"], ["joined"], axis=1))
    head(convolution("joined", "last", 32, 16), "094_convolutional", 16)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "YOLOv3",
        [value("000_net", TensorProto.FLOAT, [None, 3, None, None])],
        [
            value(name, TensorProto.FLOAT, [None, 21, None, None])
            for name in ("082_convolutional", "094_convolutional")
        ],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def images(count: int, *, channels: int = 3, size: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (count, channels, size, size)).astype(np.float32)
