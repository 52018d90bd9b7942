"""Build an engine for ONNX Runtime from an exported model."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from taomagic.engine.converter import graph
from taomagic.engine.converter.engine_file import ONNX_RUNTIME, EngineHeader, fingerprint_of, versions
from taomagic.engine.converter.quantization import quantize
from taomagic.engine.converter.runtime import Profile, parse_metadata
from taomagic.errors import UsageProblem

logger = logging.getLogger(__name__)

Precision = Literal["fp32", "fp16", "int8"]
PRECISIONS: Final = ("fp32", "fp16", "int8")
#: Weights of fewer numbers stay as they are: biases and constants, which take no space and matter most.
_LARGE: Final = 1024
_LARGEST_HALF: Final = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Source:
    """An exported model that is ready to be built.

    Attributes
    ----------
    model
        As it was exported, with its input's shape.
    input_name, input_shape
        The input for images, and its channels, height and width.
    fixed_batch
        The batch size that it was exported with; ``None``: any.
    metadata
        What it says about itself.
    fingerprint
        Names the network.
    shown_as
        The file, for messages.
    """

    model: onnx.ModelProto
    input_name: str
    input_shape: tuple[int, ...]
    fixed_batch: int | None
    metadata: dict[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    shown_as: str = ""

    @cached_property
    def simplified(self) -> onnx.ModelProto:
        """The model without superfluous nodes.

        Raises
        ------
        ModelFileProblem
            ONNX Runtime can't load it.
        """
        return graph.optimised(self.model, shown_as=self.shown_as)


def prepare(
    content: bytes, *, input_shape: tuple[int, ...] | None = None, input_name: str = "", shown_as: str = ""
) -> Source:
    """Read an exported model, ours or one from elsewhere.

    Parameters
    ----------
    content
        The serialised ONNX model.
    input_shape
        Channels, height and width, where the model leaves them open; otherwise they have to agree.
    input_name
        The input for images, where the first one of four dimensions isn't it.
    shown_as
        The file, for messages.

    Raises
    ------
    ModelFileProblem
        It isn't an ONNX model, or has no input for images.
    UsageProblem
        The shapes don't agree, or the model has none and none is given.
    """
    proto = graph.load(content, shown_as=shown_as)
    name, shape = graph.set_input_shape(proto, input_shape, name=input_name, shown_as=shown_as)
    metadata = parse_metadata({entry.key: entry.value for entry in proto.metadata_props})
    return Source(
        model=proto,
        input_name=name,
        input_shape=shape,
        fixed_batch=graph.fixed_batch(proto, name),
        metadata=metadata,
        fingerprint=fingerprint_of(content, metadata),
        shown_as=shown_as,
    )


def fitting_profile(source: Source, wanted: Profile) -> Profile:
    """Return the batch sizes of an engine, as wanted or as a model of a fixed batch size dictates them.

    Raises
    ------
    UsageProblem
        They aren't in order, or the model was exported with another batch size.
    """
    if not wanted.min <= wanted.opt <= wanted.max:
        raise UsageProblem(
            f"the batch sizes are {wanted.min} (min), {wanted.opt} (opt) and {wanted.max} (max), and must not decrease",
            hint="Give --min_batch_size ≤ --opt_batch_size ≤ --max_batch_size.",
        )
    fixed = source.fixed_batch
    if fixed is None:
        return wanted
    if (
        wanted not in {Profile(1, 1, 1), Profile(fixed, fixed, fixed)}
        and not wanted.min <= fixed <= wanted.max
    ):
        raise UsageProblem(
            f"the model was exported with the fixed batch size {fixed}, and {wanted.max} is asked for",
            where=source.shown_as,
            hint=f"Ask for {fixed}, or export it without --static_batch_size.",
        )
    if wanted != Profile(fixed, fixed, fixed):
        logger.info("The model was exported with the fixed batch size %d; the engine has it, too.", fixed)
    return Profile(fixed, fixed, fixed)


def build(
    source: Source,
    precision: Precision,
    profile: Profile,
    ranges: Mapping[str, float] | None = None,
    *,
    origin: str = "",
) -> tuple[EngineHeader, bytes]:
    """Build an engine for ONNX Runtime.

    ``fp32``: simplified and fused. ``fp16``: the weights are rounded to 16 bits and stored so, half the size; the
    processor computes in float32 all the same, so it is no faster than ``fp32``. ``int8``: see :mod:`.quantization`.

    Parameters
    ----------
    source
        The model.
    precision
        Of the engine.
    profile
        Batch sizes.
    ranges
        For ``int8``: largest magnitude by tensor.
    origin
        Where these come from, for messages.

    Returns
    -------
    tuple of EngineHeader, bytes
        To be written with :func:`write_engine`.

    Raises
    ------
    DataProblem
        The ranges aren't those of this model.
    ModelFileProblem
        The model can't be built.
    """
    profile = fitting_profile(source, profile)
    notes: dict[str, Any] = {"processor": platform.machine()}
    model = source.simplified
    if precision == "int8":
        quantized = quantize(model, ranges or {}, shown_as=origin or source.shown_as)
        model = quantized.model
        notes |= {
            "layers_in_int8": quantized.layers,
            "layers": quantized.of,
            "weight_bits": quantized.weight_bits,
        }
        logger.info(
            "%d of %d layers compute in int8, with weights of %d bits.",
            quantized.layers,
            quantized.of,
            quantized.weight_bits,
        )
    model = graph.optimised(model, portable=False, shown_as=source.shown_as)
    if precision == "fp16":
        count, kept = _store_in_half(model)
        notes |= {"weights_in_fp16": count}
        logger.info(
            "%d weights are stored in float16%s. This processor computes in float32, so the engine is half as large "
            "and no faster.",
            count,
            f" ({kept} have values beyond its range and stay in float32)" if kept else "",
        )
    payload = model.SerializeToString()
    header = EngineHeader(
        runtime=ONNX_RUNTIME,
        precision=precision,
        input_name=source.input_name,
        input_shape=source.input_shape,
        batch=profile,
        outputs=tuple(output.name for output in model.graph.output),
        fingerprint=source.fingerprint,
        versions=versions(onnxruntime=ort.__version__, onnx=onnx.__version__),
        model=source.metadata,
        notes=notes,
    )
    return header, payload


def _store_in_half(model: onnx.ModelProto) -> tuple[int, int]:
    """Round large weights to float16, in place, and cast them back, which the runtime does once on loading.

    Returns
    -------
    tuple of int, int
        How many tensors are stored so, and how many can't be.
    """
    casts, count, kept = [], 0, 0
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < _LARGE:
            continue
        values = numpy_helper.to_array(tensor)
        if np.abs(values).max() > _LARGEST_HALF:
            kept += 1
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}/fp16"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}/cast", to=TensorProto.FLOAT))
        count += 1
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    return count, kept
