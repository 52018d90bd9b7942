"""From a network in PyTorch to a checked ONNX model: what all networks share.

A network says what its input and outputs are called, what is added behind it (SSD: the suppression) and what a reader
has to know about it. Here it is traced, its marks of quantisation are taken out, and the result is described and
checked.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import onnx
import torch
from torch import nn
from torch.jit._trace import TracerWarning

from taomagic import __version__
from taomagic.engine.export.tensor_scales import mark_quantizers, take_scales
from taomagic.engine.weights.state import parameter_count
from taomagic.errors import UsageProblem

#: SSD's tail needs 12; PyTorch's TorchScript exporter, ten times as fast as the newer one, ends at 20.
OPSETS = range(12, 21)


class Description(Protocol):
    """What every network's ``Architecture`` has."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, without a background."""
        ...

    @property
    def quantized(self) -> bool:
        """Whether the network is quantisation-aware."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Return plain data with the task's name, from which the network can be built."""
        ...


class Exported(NamedTuple):
    """A serialised ONNX model, and the scales of its tensors by name if the network is quantisation-aware."""

    model: bytes
    tensor_scales: dict[str, float]


def export_network(
    model: nn.Module,
    architecture: Description,
    *,
    input_name: str,
    output_names: Sequence[str],
    metadata: Mapping[str, Any],
    opset: int,
    batch_size: int | None,
    wrap: Callable[[Any], nn.Module] | None = None,
    append: Callable[[onnx.ModelProto], None] | None = None,
) -> Exported:
    """Return a network as a serialised ONNX model, and the scales of its tensors.

    A quantisation-aware network is exported in float32: kernels as they were trained, and no quantisers.

    Parameters
    ----------
    model
        The network. It isn't changed.
    architecture
        Its description.
    input_name, output_names
        What the tensors of the traced network are called.
    metadata
        What a reader has to know beside what every network says (task, classes, input, weights, fingerprint); JSON
        data. The values lie in the model as JSON text.
    opset
        ONNX operator set, one of :data:`OPSETS`.
    batch_size
        Fixed batch size; ``None``: any.
    wrap
        Gives the module to trace from a copy of the network; by default that copy itself.
    append
        Adds operators behind the traced network, in place.

    Raises
    ------
    UsageProblem
        The operator set isn't one of those.
    """
    require_opset(opset)
    twin = copy.deepcopy(model).cpu().eval()
    if architecture.quantized:
        mark_quantizers(twin)
    traced = twin if wrap is None else wrap(twin).eval()
    exported = _trace(traced, architecture.input_shape, input_name, output_names, opset, batch_size)
    _drop_aliases(exported.graph)
    scales = take_scales(exported)
    if append is not None:
        append(exported)
    exported.producer_name = "taomagic"
    exported.producer_version = __version__
    values = {**_common_metadata(model, architecture), **metadata}
    onnx.helper.set_model_props(exported, {name: json.dumps(value) for name, value in values.items()})
    onnx.checker.check_model(exported, full_check=True)
    return Exported(bytes(exported.SerializeToString()), scales)


def require_opset(opset: int) -> None:
    """Refuse an operator set that can't be written.

    Raises
    ------
    UsageProblem
        It is too old or too new.
    """
    if opset not in OPSETS:
        raise UsageProblem(
            f"--target_opset is {opset}, and must be {OPSETS[0]} to {OPSETS[-1]}",
            hint="Leave it out, or use 17, which every current runtime has.",
        )


def fingerprint(model: nn.Module, architecture: Description) -> str:
    """Return the SHA-256 of the architecture and the weights: the same for the same network, whatever the file."""
    digest = hashlib.sha256(json.dumps(architecture.to_json(), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _trace(
    network: nn.Module,
    input_shape: tuple[int, int, int],
    input_name: str,
    output_names: Sequence[str],
    opset: int,
    batch_size: int | None,
) -> onnx.ModelProto:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter calls itself legacy. The newer one takes 10 s where this takes one, and needs two packages more.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", TracerWarning)
        warnings.filterwarnings("ignore", "Constant folding")  # of a padding, which the runtime folds itself
        torch.onnx.export(
            network,
            (torch.zeros(batch_size or 1, *input_shape),),
            buffer,  # type: ignore[arg-type]  # a file object is taken, as the exporter's own documentation says
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_axes=None if batch_size else {name: {0: "N"} for name in (input_name, *output_names)},
            opset_version=opset,
            dynamo=False,
        )
    return onnx.load_from_string(buffer.getvalue())


def _drop_aliases(graph: onnx.GraphProto) -> None:
    """Let equal weights (biases of zero, mostly) be used as they are.

    PyTorch's exporter writes them once and hands them on through ``Identity`` nodes, behind which TensorRT's parser and
    the calibration no longer see a constant.
    """
    stored = {tensor.name for tensor in graph.initializer}
    source: dict[str, str] = {}
    kept = []
    for node in graph.node:
        if node.op_type == "Identity" and source.get(node.input[0], node.input[0]) in stored:
            source[node.output[0]] = source.get(node.input[0], node.input[0])
        else:
            kept.append(node)
    for node in kept:
        node.input[:] = [source.get(name, name) for name in node.input]
    del graph.node[:]
    graph.node.extend(kept)


def _common_metadata(model: nn.Module, architecture: Description) -> dict[str, Any]:
    return {
        "task": architecture.to_json()["task"],
        "taomagic": __version__,
        "classes": architecture.classes,
        "input_shape": architecture.input_shape,
        "parameters": parameter_count(model),
        "fingerprint": fingerprint(model, architecture),
    }
