"""Non-maximum suppression as a tail of standard ONNX operators, so that an exported model runs anywhere.

It computes what :func:`taomagic.engine.ssd.postprocess.select_detections` does, in the form of NVIDIA's ``NMS`` node:
fixed numbers of rows, the unused ones zero.

``NonMaxSuppression`` returns a list of (image, class, box) triples for the whole batch. To get the best ones of each
image without a loop, their scores are scattered into a matrix of zeros with a row for each image; a ``TopK`` over the
rows gives the order, and the column says which class and box it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from taomagic.engine.export.detections import COUNTS, DETECTIONS, ROW
from taomagic.spec.settings import NMSSettings


def append_nms(
    model: onnx.ModelProto, *, scores: str, boxes: str, classes: int, anchors: int, settings: NMSSettings
) -> None:
    """Replace the outputs ``scores`` and ``boxes`` of a model by detections.

    Parameters
    ----------
    model
        Changed in place. Its operator set has to be 12 or newer.
    scores
        Name of the tensor [N, classes, anchors] float32 of probabilities, without the background.
    boxes
        Name of the tensor [N, anchors, 4] float32 of corners as shares of the image.
    classes, anchors
        Sizes of these tensors.
    settings
        ``nms_config``.
    """
    opset = next(entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"})
    tail = _Tail(opset)
    cells = classes * anchors
    rows = min(settings.top_k, cells)

    # [S, 3] (image, class, anchor). A score has to be more than the threshold, and suppression needs an overlap of
    # more than its threshold, as in our own post-processing. The operator wants y before x; the overlap is the same.
    selected = tail.add(
        "NonMaxSuppression",
        boxes,
        scores,
        tail.constant("nms_limit", [settings.top_k]),
        tail.constant("nms_iou", [settings.clustering_iou_threshold], np.float32),
        tail.constant("nms_confidence", [settings.confidence_threshold], np.float32),
    )
    image = tail.add("Gather", selected, tail.constant("first", [0]), axis=1)
    label = tail.add("Gather", selected, tail.constant("second", [1]), axis=1)
    anchor = tail.add("Gather", selected, tail.constant("third", [2]), axis=1)
    step = tail.constant("anchors", [anchors])
    column = tail.add("Add", tail.add("Mul", label, step), anchor)
    target = tail.add("Concat", image, column, axis=1)

    batch = tail.add("Gather", tail.add("Shape", scores), tail.constant("batch_axis", [0]), axis=0)
    zeros = tail.add(
        "ConstantOfShape",
        tail.add("Concat", batch, tail.constant("cells", [cells]), axis=0),
        value=helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
    )
    dense = tail.add("ScatterND", zeros, target, tail.add("GatherND", scores, selected))
    # Of equal scores the lower column comes first: the lower class, then the earlier anchor, as in a stable sort.
    confidence, best = tail.add_pair("TopK", dense, tail.constant("rows", [rows]), axis=1)

    anchor = tail.add("Mod", best, step)
    label = tail.add("Add", tail.add("Div", best, step), tail.constant("one", [1]))
    column_shape = tail.constant("as_column", [0, rows, 1])
    found = tail.add(
        "GatherND", boxes, tail.add("Reshape", anchor, column_shape), batch_dims=1
    )  # [N, rows, 4]
    confidence = tail.add("Reshape", confidence, column_shape)
    label = tail.cast(tail.add("Reshape", label, column_shape), TensorProto.FLOAT)
    numbers = tail.add(
        "Range",
        tail.constant("zero_scalar", 0),
        tail.add("Reshape", batch, tail.constant("scalar", np.zeros(0))),
        tail.constant("one_scalar", 1),
    )
    numbers = tail.add("Reshape", numbers, tail.constant("along_batch", [-1, 1, 1]))
    # Times one, to broadcast: an image's number stands in each of its rows.
    one = tail.constant("ones", np.ones((1, rows, 1)), np.float32)
    image_number = tail.add("Mul", tail.cast(numbers, TensorProto.FLOAT), one)

    valid = tail.cast(
        tail.add("Greater", confidence, tail.constant("nothing", [0.0], np.float32)), TensorProto.FLOAT
    )
    table = tail.add("Concat", image_number, label, confidence, found, axis=2)
    table = tail.add("Mul", table, valid)
    if rows < settings.top_k:
        missing = settings.top_k - rows
        table = tail.add("Pad", table, tail.constant("padding", [0, 0, 0, 0, missing, 0]))
    tail.add(
        "Reshape",
        table,
        tail.constant("detections_shape", [-1, 1, settings.top_k, ROW]),
        output=DETECTIONS,
    )
    count = tail.cast(tail.sum(valid, axis=1), TensorProto.INT32)
    tail.add("Reshape", count, tail.constant("counts_shape", [-1, 1, 1, 1]), output=COUNTS)

    graph = model.graph
    batch_size = graph.input[0].type.tensor_type.shape.dim[0]
    dimension: int | str = batch_size.dim_value or batch_size.dim_param or "N"
    graph.node.extend(tail.nodes)
    graph.initializer.extend(tail.constants.values())
    del graph.output[:]
    graph.output.append(
        helper.make_tensor_value_info(DETECTIONS, TensorProto.FLOAT, [dimension, 1, settings.top_k, ROW])
    )
    graph.output.append(helper.make_tensor_value_info(COUNTS, TensorProto.INT32, [dimension, 1, 1, 1]))


class _Tail:
    """Nodes and constants to be appended to a graph, with names of their own."""

    def __init__(self, opset: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._opset = opset

    def constant(self, name: str, values: Any, dtype: type[np.generic] = np.int64) -> str:
        """Return the name of a constant with these values."""
        full = f"nms/{name}"
        self.constants[full] = numpy_helper.from_array(np.asarray(values, dtype=dtype), full)
        return full

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        return self._append(operator, inputs, [output or self._name(operator)], attributes)[0]

    def add_pair(self, operator: str, *inputs: str, **attributes: Any) -> tuple[str, str]:
        """Append a node with two outputs."""
        name = self._name(operator)
        first, second = self._append(operator, inputs, [name, f"{name}/second"], attributes)
        return first, second

    def cast(self, name: str, dtype: int) -> str:
        """Append a change of the data type."""
        return self.add("Cast", name, to=dtype)

    def sum(self, name: str, axis: int) -> str:
        """Append a sum along ``axis``, which became an input of the operator in set 13."""
        if self._opset >= 13:
            return self.add("ReduceSum", name, self.constant(f"axis_{axis}", [axis]), keepdims=1)
        return self.add("ReduceSum", name, axes=[axis], keepdims=1)

    def _name(self, operator: str) -> str:
        return f"nms/{operator}_{len(self.nodes)}"

    def _append(self, operator: str, inputs: Sequence[str], outputs: list[str], attributes: Any) -> list[str]:
        name = f"{operator}_for_{outputs[0]}"
        self.nodes.append(helper.make_node(operator, list(inputs), outputs, name=name, **attributes))
        return outputs
