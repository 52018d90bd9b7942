"""An ONNX model whose network computes in 16 bits."""

from __future__ import annotations

import onnx

from taomagic.engine.converter import graph


def in_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with its network in float16; inputs, outputs and post-processing stay in float32.

    The conversion is ONNX Runtime's. Corners of boxes need more than the eleven bits that float16 has for a number, so
    what comes behind the heads isn't touched.

    Parameters
    ----------
    model
        In float32; see :func:`graph.optimised`. Not changed.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph.name_nodes(copy)
    inside = {node.name for node in graph.body(copy)}
    outside = [node.name for node in copy.graph.node if node.name not in inside]
    return convert_float_to_float16(copy, keep_io_types=True, node_block_list=outside)  # type: ignore[no-any-return]
