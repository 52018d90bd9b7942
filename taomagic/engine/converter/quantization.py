"""An ONNX model in eight bits, from the ranges of its tensors.

The placement is ONNX Runtime's (`onnxruntime.quantization`): QuantizeLinear and DequantizeLinear around each operator
that computes in eight bits, which the runtime then fuses into it. What stays in float32: the post-processing; the
heads, whose few channels decide about classes and boxes; the first convolution, whose three input channels fill no
vector (measured: 8.3 ms in int8, 3.5 ms in float32 for the 7 × 7 one of a ResNet at 300 × 300); what has no range.

**Activations** are bytes without sign where a tensor has no negative values, so all 255 steps are used behind a ReLU,
and else with the zero in the middle. Both are fast on x86 only with weights that have a sign.

**Weights** have a scale for each output channel. On x86 without VNNI, pairs of products are added in 16 bits, which
eight-bit weights overflow; there they get seven. Exact arithmetic with eight bits costs more than float32 there.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import onnx

from taomagic.engine.converter import graph
from taomagic.engine.converter.processor import multiplies_bytes
from taomagic.errors import DataProblem, ModelFileProblem

#: Operators that ONNX Runtime computes in eight bits, and that pass eight bits on.
_QUANTIZABLE = ("Conv", "Gemm", "MatMul", "Add", "Relu", "Clip", "LeakyRelu", "MaxPool", "Concat")
#: Scales for each channel came with this operator set.
_OPSET = 13
_NEW_OPSET = 17
#: A convolution of fewer input channels doesn't fill a vector.
_FEW_CHANNELS = 4


class Quantized(NamedTuple):
    """A model in eight bits."""

    model: onnx.ModelProto
    layers: int  #: of those that multiply, in eight bits
    of: int  #: that there are
    weight_bits: int


def quantize(
    model: onnx.ModelProto,
    ranges: Mapping[str, float],
    *,
    weight_bits: int | None = None,
    symmetric: bool = False,
    shown_as: str = "",
) -> Quantized:
    """Return a model with its layers in eight bits.

    Parameters
    ----------
    model
        In float32; see :func:`graph.optimised`. Not changed.
    ranges
        Largest magnitude by tensor, from a calibration or a quantisation-aware training.
    weight_bits
        8, or 7 where products of 8 overflow; by default what suits this processor.
    symmetric
        All activations with sign, as TensorRT wants it.
    shown_as
        Where the ranges come from, for messages.

    Raises
    ------
    DataProblem
        None of the layers has the ranges it needs.
    ModelFileProblem
        The operator set is too old and can't be converted.
    """
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import save_and_reload_model_with_shape_infer

    bits = weight_bits or (8 if multiplies_bytes() else 7)
    source = _recent(model, shown_as)
    graph.name_nodes(source)
    layers = graph.multiplying_nodes(source)
    # A network that has nothing but what had better stay in float32 gets what was asked for all the same.
    nodes = _nodes_in_bytes(source, ranges) or _nodes_in_bytes(source, ranges, sparing=False)
    chosen = sum(node.name in nodes for node in layers)
    if not chosen:
        names = graph.tensors_to_calibrate(source)
        raise DataProblem(
            f"none of the model's {len(layers)} layers has the scales it needs",
            where=shown_as,
            hint=f"The scales belong to another model. This one's tensors: {', '.join(names[:4])}, …. Calibrate it "
            "with images: --cal_image_dir or --cal_data_file.",
        )
    positive = graph.never_negative(source) if not symmetric else set()
    table = {
        name: TensorData(lowest=np.float32(0 if name in positive else -limit), highest=np.float32(limit))
        for name, limit in _with_fused(source, ranges).items()
    }
    with _silent():
        quantizer = QDQQuantizer(
            save_and_reload_model_with_shape_infer(source),
            per_channel=True,
            reduce_range=bits == 7,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, table),
            nodes_to_quantize=sorted(nodes),
            nodes_to_exclude=[],
            op_types_to_quantize=list(_QUANTIZABLE),
            extra_options={"ActivationSymmetric": symmetric},
        )
        quantizer.quantize_model()
    result: onnx.ModelProto = quantizer.model.model
    del result.metadata_props[:]
    result.metadata_props.extend(model.metadata_props)
    return Quantized(result, chosen, len(layers), bits)


def _nodes_in_bytes(model: onnx.ModelProto, ranges: Mapping[str, float], *, sparing: bool = True) -> set[str]:
    """Return the names of the nodes that compute in eight bits; ``sparing`` leaves out heads and the first one."""
    known = set(_with_fused(model, ranges))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    heads = graph.heads(model) if sparing else set()
    nodes: set[str] = set()
    for node in graph.body(model):
        activations = [name for name in node.input if name and name not in constants]
        if node.op_type not in _QUANTIZABLE or not {*activations, node.output[0]} <= known:
            continue
        weights = constants.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type in graph.MULTIPLYING and (weights is None or node.name in heads):
            continue
        stem = node.op_type == "Conv" and weights is not None and weights.dims[1] < _FEW_CHANNELS
        if sparing and stem and not _is_depthwise(node):
            continue
        nodes.add(node.name)
    return _without_stranded(model, nodes)


def _without_stranded(model: onnx.ModelProto, nodes: set[str]) -> set[str]:
    """Leave out activations and sums that no layer in eight bits is in front of: they would only be converted twice."""
    producers = {name: node for node in model.graph.node for name in node.output}
    kept = {node.name for node in graph.multiplying_nodes(model) if node.name in nodes}
    for node in model.graph.node:  # in the order of computation
        sources = [producers[name] for name in node.input if name in producers]
        if node.name in nodes and any(source.name in kept for source in sources):
            kept.add(node.name)
    return kept


def _with_fused(model: onnx.ModelProto, ranges: Mapping[str, float]) -> dict[str, float]:
    """Add the ranges of tensors that are never stored: those between a layer and its activation are the latter's."""
    consumers = graph.consumers_of(model.graph.node)
    found = dict(ranges)
    for node in model.graph.node:
        readers = consumers.get(node.output[0], [])
        if len(readers) == 1 and readers[0].op_type in graph.FUSED and readers[0].output[0] in ranges:
            found.setdefault(node.output[0], ranges[readers[0].output[0]])
    return found


def _is_depthwise(node: onnx.NodeProto) -> bool:
    return any(attribute.name == "group" and attribute.i > 1 for attribute in node.attribute)


def _recent(model: onnx.ModelProto, shown_as: str) -> onnx.ModelProto:
    """Return a copy with an operator set that has scales for each channel."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    opset = next((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), 0)
    if opset >= _OPSET:
        return copy
    try:
        converted = onnx.version_converter.convert_version(copy, _NEW_OPSET)
    except Exception as error:  # the converter raises RuntimeError and errors of its own
        raise ModelFileProblem(
            f"int8 needs operator set {_OPSET} or newer; this model has {opset}, which can't be converted: "
            f"{str(error).splitlines()[0]}",
            where=shown_as,
            hint=f"Export it with --target_opset {_NEW_OPSET}.",
        ) from error
    converted.metadata_props.extend(model.metadata_props)
    return converted


@contextmanager
def _silent() -> Iterator[None]:
    """Keep ONNX Runtime's hints on its own preprocessing, which has been done here, out of the log."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
