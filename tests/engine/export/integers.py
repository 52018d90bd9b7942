"""Integer arithmetic put back into an exported model, by the scales of its tensors."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper


def insert_integers(graph: onnx.GraphProto, scales: dict[str, float]) -> None:
    """Put QuantizeLinear and DequantizeLinear behind each tensor that has a scale."""
    produced = {name for node in graph.node for name in node.output} | {value.name for value in graph.input}
    assert produced.issuperset(scales), sorted(set(scales) - produced)
    zero = numpy_helper.from_array(np.int8(0), "zero_point")
    graph.initializer.append(zero)
    nodes = []
    rounded = {name: f"{name}/rounded" for name in scales}
    for name, scale in scales.items():
        graph.initializer.append(numpy_helper.from_array(np.float32(scale / 127), f"{name}/step"))
        parameters = [f"{name}/step", zero.name]
        nodes.append(
            (
                name,
                [
                    helper.make_node("QuantizeLinear", [name, *parameters], [f"{name}/integers"]),
                    helper.make_node("DequantizeLinear", [f"{name}/integers", *parameters], [rounded[name]]),
                ],
            )
        )
    pairs = dict(nodes)
    ordered = [node for name in pairs if name in {v.name for v in graph.input} for node in pairs[name]]
    for node in graph.node:
        node.input[:] = [rounded.get(name, name) for name in node.input]
        ordered.append(node)
        for name in node.output:
            ordered += pairs.get(name, [])
    del graph.node[:]
    graph.node.extend(ordered)
