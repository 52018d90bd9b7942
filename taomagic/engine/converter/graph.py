"""What has to be known about an ONNX model, and done to it, before it becomes an engine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError, EncodeError
from onnx import TensorProto, external_data_helper

from taomagic.engine.converter.runtime import image_input
from taomagic.errors import EnvironmentProblem, ModelFileProblem, UsageProblem

#: Operators with weights that are multiplied: what eight bits make faster.
MULTIPLYING = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
#: Operators behind one of those that belong to it.
ACTIVATIONS = frozenset(
    {"Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "Tanh", "BatchNormalization"}
)
#: Those of them that a runtime computes together with what is in front, so that nothing is stored in between.
FUSED = frozenset({"Relu", "Clip"})
#: Their results are never negative.
_POSITIVE = frozenset({"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Exp", "Abs"})
#: Their results are as negative as what goes in.
_PASSING = frozenset(
    {"MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Identity", "Dropout", "Add", "Resize"}
)


def load(model: bytes, *, shown_as: str = "") -> onnx.ModelProto:
    """Parse a serialised model.

    Raises
    ------
    ModelFileProblem
        It isn't one.
    """
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(model)
    except DecodeError:
        raise ModelFileProblem(
            "this isn't an ONNX model, or it is damaged", where=shown_as, hint="Export it again."
        ) from None
    if not proto.graph.node:
        raise ModelFileProblem("the ONNX model is empty", where=shown_as, hint="Export it again.")
    return proto


def with_weights(model: bytes, folder: Path, *, shown_as: str = "") -> bytes:
    """Return a serialised model with the weights that it keeps in a file beside it, as PyTorch's exporter writes them.

    Parameters
    ----------
    model
        The serialised model; returned as it is where it has its weights itself.
    folder
        Where it lies.
    shown_as
        The file, for messages.

    Raises
    ------
    ModelFileProblem
        That file is missing, or is too short.
    """
    if b"location" not in model:  # the key under which such a weight names its file
        return model
    proto = load(model, shown_as=shown_as)
    places = {
        entry.value
        for tensor in proto.graph.initializer
        if external_data_helper.uses_external_data(tensor)
        for entry in tensor.external_data
        if entry.key == "location"
    }
    if not places:
        return model
    try:
        external_data_helper.load_external_data_for_model(proto, str(folder))
        return bytes(proto.SerializeToString())
    except (OSError, ValueError, EncodeError, onnx.checker.ValidationError) as error:
        raise ModelFileProblem(
            f"the weights of this model are in {', '.join(sorted(places))}, which can't be read",
            where=shown_as,
            hint="Copy that file into the folder of the model, or export the model into one file "
            "(torch.onnx.export: external_data=False).",
        ) from error


def inputs_of(model: onnx.ModelProto) -> dict[str, list[int | str | None]]:
    """Return the shape of each input that isn't a weight; a size may be a number, a name, or ``None``."""
    weights = {tensor.name for tensor in model.graph.initializer}
    shapes: dict[str, list[int | str | None]] = {}
    for value in model.graph.input:
        if value.name not in weights:
            dims = value.type.tensor_type.shape.dim
            shapes[value.name] = [dim.dim_value or dim.dim_param or None for dim in dims]
    return shapes


def set_input_shape(
    model: onnx.ModelProto, shape: Sequence[int] | None, *, name: str = "", shown_as: str = ""
) -> tuple[str, tuple[int, ...]]:
    """Give the input its channels, height and width.

    Parameters
    ----------
    model
        Changed in place where these sizes were open.
    shape
        ``-d``; ``None``: those of the model.
    name
        The input; by default the first one of four dimensions.
    shown_as
        The file, for messages.

    Returns
    -------
    tuple of str, tuple of int
        The input's name, and its channels, height and width.

    Raises
    ------
    UsageProblem
        The model has others, or none and they aren't given.
    ModelFileProblem
        It has no such input.
    """
    inputs = inputs_of(model)
    name = name or image_input({each: list(sizes) for each, sizes in inputs.items()}, shown_as)
    if name not in inputs:
        raise UsageProblem(
            f"the model has no input {name}", where=shown_as, hint=f"Its inputs: {', '.join(inputs)}."
        )
    current = inputs[name][1:]
    if shape is None:
        if any(not isinstance(size, int) for size in current):
            shown = ",".join(str(size) if isinstance(size, int) else "?" for size in current)
            raise UsageProblem(
                f"the model doesn't say how large its images are ({name}: {shown})",
                where=shown_as,
                hint="Give channels, height and width: converter -d 3,416,416.",
            )
        return name, tuple(size for size in current if isinstance(size, int))
    differs = len(shape) != len(current) or any(
        isinstance(size, int) and size != mine for size, mine in zip(current, shape, strict=True)
    )
    if differs:
        shown = ",".join(str(size) if isinstance(size, int) else "?" for size in current)
        raise UsageProblem(
            f"-d is {','.join(map(str, shape))}, and the model's input {name} is {shown}",
            where=shown_as,
            hint=f"Give -d {shown}, or leave it out." if "?" not in shown else "Give what fits it.",
        )
    if any(not isinstance(size, int) for size in current):
        value = next(value for value in model.graph.input if value.name == name)
        for dim, size in zip(list(value.type.tensor_type.shape.dim)[1:], shape, strict=True):
            dim.dim_value = size
        del model.graph.value_info[:]  # shapes that were computed without these sizes
    return name, tuple(shape)


def fixed_batch(model: onnx.ModelProto, name: str) -> int | None:
    """Return the batch size that a model was exported with; ``None``: any."""
    size = inputs_of(model)[name][0]
    return size if isinstance(size, int) else None


def optimised(model: onnx.ModelProto, *, portable: bool = True, shown_as: str = "") -> onnx.ModelProto:
    """Return a model with constants folded, batch normalisation taken into weights, and no superfluous nodes.

    Parameters
    ----------
    model
        Not changed.
    portable
        Use the standard's operators only. Otherwise also those that ONNX Runtime has of its own, for any processor.
    shown_as
        The file, for messages.

    Raises
    ------
    ModelFileProblem
        ONNX Runtime can't load it.
    EnvironmentProblem
        The disk with the temporary files is full.
    """
    options = ort.SessionOptions()
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_BASIC if portable else levels.ORT_ENABLE_EXTENDED
    options.log_severity_level = 4
    with tempfile.TemporaryDirectory(prefix="taomagic-") as folder:
        target = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(target)
        try:
            ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            text = (str(error).splitlines() or [type(error).__name__])[0]
            if "serialization failed" in text:
                raise EnvironmentProblem(
                    f"the optimised model can't be written into {folder}",
                    where=shown_as,
                    hint="Free some space there, or name another folder for temporary files with TMPDIR.",
                ) from error
            plugin = "is not a registered function/op" in text or "No Op registered" in text
            raise ModelFileProblem(
                f"ONNX Runtime can't load the model: {text}",
                where=shown_as,
                hint="It has operators that only TensorRT's plugins know; export it for ONNX Runtime."
                if plugin
                else "Export it again; the file may be damaged.",
            ) from error
        result = onnx.load(target)
    # ONNX Runtime writes the metadata of the model, but not its name and version.
    result.producer_name, result.producer_version = model.producer_name, model.producer_version
    return result


def name_nodes(model: onnx.ModelProto) -> None:
    """Give each node a name of its own; ONNX doesn't ask for one, and nodes are chosen by it."""
    seen: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{number}"
        seen.add(node.name)


def multiplying_nodes(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the nodes whose weights, constants, are multiplied with activations."""
    constants = {tensor.name for tensor in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type in MULTIPLYING and len(node.input) > 1 and node.input[1] in constants
    ]


def body(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """Return the network without its post-processing: all that leads to a multiplication, and what activates it."""
    consumers = consumers_of(model.graph.node)
    producers = {name: node for node in model.graph.node for name in node.output}
    inside: set[str] = set()
    waiting = multiplying_nodes(model)
    while waiting:
        node = waiting.pop()
        if node.output[0] not in inside:
            inside.add(node.output[0])
            waiting += [producers[name] for name in node.input if name in producers]
    for node in multiplying_nodes(model):
        behind = _only(consumers.get(node.output[0], []))
        while behind is not None and behind.op_type in ACTIVATIONS:
            inside.add(behind.output[0])
            behind = _only(consumers.get(behind.output[0], []))
    return [node for node in model.graph.node if node.output[0] in inside]


def heads(model: onnx.ModelProto) -> set[str]:
    """Return the names of the multiplying nodes that no other one comes behind: what says class and box."""
    nodes = multiplying_nodes(model)
    producers = {name: node for node in model.graph.node for name in node.output}
    followed: set[str] = set()
    seen: set[str] = set()
    waiting = [producers[name] for node in nodes for name in node.input if name in producers]
    while waiting:
        node = waiting.pop()
        if node.output[0] not in seen:
            seen.add(node.output[0])
            followed.add(node.name)
            waiting += [producers[name] for name in node.input if name in producers]
    return {node.name for node in nodes} - followed


def tensors_to_calibrate(model: onnx.ModelProto) -> list[str]:
    """Return the tensors whose ranges an int8 engine needs: the input, and every result that a runtime stores.

    What lies between a convolution and its activation isn't stored: runtimes compute both at once.
    """
    consumers = consumers_of(model.graph.node)
    floats = _float_tensors(model)
    names = [value.name for value in model.graph.input if value.name in floats]
    for node in body(model):
        for name in node.output:
            behind = _only(consumers.get(name, []))
            joins = node.op_type in MULTIPLYING or node.op_type == "Add"
            fused = joins and behind is not None and behind.op_type in FUSED
            if name in floats and not fused:
                names.append(name)
    return names


def never_negative(model: onnx.ModelProto) -> set[str]:
    """Return the tensors that have no negative values, whatever the input: they need no sign."""
    found: set[str] = set()
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        positive = node.op_type in _POSITIVE
        if node.op_type == "Clip":
            low = constants.get(node.input[1]) if len(node.input) > 1 else None
            positive = low is not None and float(onnx.numpy_helper.to_array(low)) >= 0
            positive = positive or any(a.name == "min" and a.f >= 0 for a in node.attribute)
        if node.op_type in _PASSING:
            values = [name for name in node.input if name] if node.op_type != "Resize" else node.input[:1]
            positive = all(name in found for name in values)
        if positive:
            found.update(node.output)
    return found


def consumers_of(nodes: Iterable[onnx.NodeProto]) -> dict[str, list[onnx.NodeProto]]:
    """Return the nodes that read each tensor."""
    table: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            table.setdefault(name, []).append(node)
    return table


def _only(nodes: list[onnx.NodeProto]) -> onnx.NodeProto | None:
    return nodes[0] if len(nodes) == 1 else None


def _float_tensors(model: onnx.ModelProto) -> set[str]:
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except onnx.shape_inference.InferenceError:
        inferred = model
    values = (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output)
    weights = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name
        for value in values
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name not in weights
    }
