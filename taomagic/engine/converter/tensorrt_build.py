"""Build a plan of TensorRT from an exported model; the calls are those of :mod:`.tensorrt`.

Until release 10 the builder is allowed a precision, gets the ranges by a calibrator, and chooses what is fastest.
Release 11 builds every layer in the type that the model gives it, so there a model in 16 bits is made for ``fp16``, and
one with QuantizeLinear and DequantizeLinear for ``int8``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taomagic.engine.converter.build import Precision, Source, fitting_profile
from taomagic.engine.converter.calibration_cache import cache_text
from taomagic.engine.converter.engine_file import TENSORRT, EngineHeader, versions
from taomagic.engine.converter.half import in_half
from taomagic.engine.converter.quantization import quantize
from taomagic.engine.converter.runtime import Profile
from taomagic.engine.converter.tensorrt import imported, network_name, number_of
from taomagic.engine.storage.atomic import atomic_write
from taomagic.errors import ModelFileProblem, UsageProblem

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What only TensorRT takes.

    Attributes
    ----------
    workspace_bytes
        Memory that its algorithms may use.
    strict
        Compute every layer that multiplies in the precision asked for, where TensorRT has a way to do it, though
        another one be faster.
    dla_core
        DLA core of a Jetson for what it can compute; -1: none.
    gpu_index
        The GPU.
    """

    workspace_bytes: int = 2 * 2**30
    strict: bool = False
    dla_core: int = -1
    gpu_index: int = 0


def write_plan(
    path: Path,
    source: Source,
    precision: Precision,
    profile: Profile,
    ranges: Mapping[str, float] | None,
    options: Options,
) -> EngineHeader:
    """Build a plan and write it, completely or not at all.

    Parameters
    ----------
    path
        The destination.
    source
        The model.
    precision
        ``fp16`` and ``int8`` allow TensorRT these; it takes what is fastest.
    profile
        Batch sizes.
    ranges
        For ``int8``: largest magnitude by tensor.
    options
        TensorRT's own.

    Returns
    -------
    EngineHeader
        What the plan says about itself.

    Raises
    ------
    ModelFileProblem
        TensorRT can't parse the model, or finds no way to compute it.
    UsageProblem
        A DLA is asked for in float32.
    EnvironmentProblem
        TensorRT is too old; the disk is full or the folder can't be written.
    """
    import torch

    trt = imported()
    torch.cuda.set_device(options.gpu_index)
    profile = fitting_profile(source, profile)
    typed = not hasattr(trt.BuilderFlag, "INT8")  # the model says what computes in which type
    model = _typed(source, precision, ranges) if typed else source.model.SerializeToString()
    log = trt.Logger(trt.Logger.WARNING)
    trt.init_libnvinfer_plugins(log, "")
    builder = trt.Builder(log)
    network = builder.create_network(_explicit_batch(trt))
    parser = trt.OnnxParser(network, log)
    if not parser.parse(model):
        errors = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise ModelFileProblem(
            f"TensorRT can't parse the model: {errors or 'no reason is given'}",
            where=source.shown_as,
            hint="Export it with another --target_opset, or build for the processor: --runtime onnxruntime.",
        )
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if not typed and precision != "fp32":
        config.set_flag(getattr(trt.BuilderFlag, precision.upper()))
    if options.strict and precision != "fp32":
        _constrain(trt, config, network, precision, ranges or {}, typed=typed)
    if options.dla_core >= 0:
        _use_dla(trt, config, precision, options.dla_core)
    calibrates = precision == "int8" and not typed
    if source.fixed_batch is None:
        shapes = builder.create_optimization_profile()
        sizes = ((count, *source.input_shape) for count in profile)
        shapes.set_shape(source.input_name, *sizes)
        config.add_optimization_profile(shapes)
        if calibrates:
            config.set_calibration_profile(shapes)
    if calibrates:
        # The configuration doesn't keep it alive in every release.
        calibrator = _calibrator(trt, cache_text(ranges or {}, version=number_of(trt)).encode(), profile)
        config.int8_calibrator = calibrator
    header = EngineHeader(
        runtime=TENSORRT,
        precision=precision,
        input_name=source.input_name,
        input_shape=source.input_shape,
        batch=profile,
        outputs=tuple(network.get_output(index).name for index in range(network.num_outputs)),
        fingerprint=source.fingerprint,
        versions=versions(tensorrt=trt.__version__, cuda=str(torch.version.cuda)),
        model=source.metadata,
        notes={"gpu": torch.cuda.get_device_name(options.gpu_index)},
    )
    network.name = network_name(header, source.shown_as)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ModelFileProblem(
            "TensorRT found no way to build the engine; its own messages are above",
            where=source.shown_as,
            hint="Give it more memory with --max_workspace_size, or a smaller --max_batch_size.",
        )
    with atomic_write(path) as file:
        file.write(bytes(plan))
    return header


def _explicit_batch(trt: Any) -> int:
    """Return the flags of a network with a batch dimension: from release 10 on there is no other kind."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    return 0 if flag is None else 1 << int(flag)


def _typed(source: Source, precision: Precision, ranges: Mapping[str, float] | None) -> bytes:
    """Return a model whose tensors have the types that a precision asks for."""
    if precision == "fp32":
        return source.model.SerializeToString()
    if precision == "fp16":
        return in_half(source.simplified).SerializeToString()
    quantized = quantize(
        source.simplified, ranges or {}, weight_bits=8, symmetric=True, shown_as=source.shown_as
    )
    return quantized.model.SerializeToString()


def _constrain(
    trt: Any, config: Any, network: Any, precision: Precision, ranges: Mapping[str, float], *, typed: bool
) -> None:
    """Bind the layers that multiply to a precision: alone, the flag has no effect.

    What TAO's tools call strict was BuilderFlag.STRICT_TYPES, for which newer releases have three flags. The one for
    precision is PREFER_PRECISION_CONSTRAINTS: a layer that has no such kernel is computed otherwise, with a warning,
    where OBEY_PRECISION_CONSTRAINTS would end the build.
    """
    if typed:
        logger.info(
            "--strict_type_constraints changes nothing: TensorRT %s always keeps the types of the model.",
            trt.__version__,
        )
        return
    kinds = [trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION, trt.LayerType.MATRIX_MULTIPLY]
    kind = {"fp16": trt.DataType.HALF, "int8": trt.DataType.INT8}[precision]
    count = 0
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        # Without a range, eight bits have no scale.
        if layer.type in kinds and (precision == "fp16" or layer.get_input(0).name in ranges):
            layer.precision = kind
            count += 1
    config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)
    logger.info("--strict_type_constraints: %d layers are bound to %s.", count, precision)


def _use_dla(trt: Any, config: Any, precision: Precision, core: int) -> None:
    """Compute on a core of the DLA what it can, and the rest on the GPU."""
    if precision == "fp32":
        raise UsageProblem("a DLA computes in fp16 or int8 only", hint="Add -t fp16, or drop -u.")
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _calibrator(trt: Any, cache: bytes, profile: Profile) -> Any:
    """Return what hands TensorRT finished ranges in the form of a cache; no images go through it."""

    class Calibrator(trt.IInt8EntropyCalibrator2):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)

        def get_batch_size(self) -> int:
            return profile.opt

        def get_batch(self, _names: list[str]) -> None:
            return None

        def read_calibration_cache(self) -> bytes:
            return cache

        def write_calibration_cache(self, _cache: bytes) -> None:
            return None

    return Calibrator()
