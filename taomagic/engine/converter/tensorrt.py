"""TensorRT, where it is installed with a GPU: the one module that imports it.

Its Python API from release 8.5 on. PyTorch provides the GPU's memory and streams, so no CUDA package is needed beside
it. A plan keeps the name of its network; ours is the JSON text of :class:`EngineHeader`, by which a plan that was built
here says what it is, and is still a plan that every other program of NVIDIA's can read.
"""

from __future__ import annotations

import base64
import importlib
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from taomagic.engine.converter.build import Precision, Source, fitting_profile
from taomagic.engine.converter.calibration_cache import cache_text
from taomagic.engine.converter.engine_file import TENSORRT, EngineHeader, versions
from taomagic.engine.converter.quantization import quantize
from taomagic.engine.converter.runtime import Profile, Tensors, check_images, run_in_parts
from taomagic.engine.storage.atomic import atomic_write
from taomagic.errors import EnvironmentProblem, ModelFileProblem, UsageProblem

logger = logging.getLogger(__name__)

#: The first release with named tensors in its Python API.
_FIRST: Final = (8, 5)
#: What TensorRT keeps of a network's name, in bytes, without the zero at the end.
_LONGEST_NAME: Final = 4095
#: In front of a header that is too long for that as plain JSON.
_PACKED: Final = "taomagic:"
#: ``trt.DataType`` by its name -> NumPy's and PyTorch's.
_TYPES: Final = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT8": np.int8,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "UINT8": np.uint8,
}


@dataclass(frozen=True)
class Options:
    """What only TensorRT takes.

    Attributes
    ----------
    workspace_bytes
        Memory that its algorithms may use.
    strict
        Compute every layer in the precision asked for.
    dla_core
        DLA core of a Jetson for what it can compute; -1: none.
    gpu_index
        The GPU.
    """

    workspace_bytes: int = 2 * 2**30
    strict: bool = False
    dla_core: int = -1
    gpu_index: int = 0


def missing() -> str:
    """Return what TensorRT's engines need and isn't here; empty where nothing is missing."""
    if find_spec("tensorrt") is None:
        return "TensorRT isn't installed here"
    import torch

    if not torch.cuda.is_available():
        return "no GPU can be used here"
    return ""


def wanted(runtime: str) -> bool:
    """Tell whether an engine is to be built for TensorRT: ``auto`` takes it where it is.

    Raises
    ------
    EnvironmentProblem
        It is asked for, and it or a GPU isn't here.
    """
    if runtime == "onnxruntime":
        return False
    lacking = missing()
    if runtime == "tensorrt" and lacking:
        raise EnvironmentProblem(
            f"--runtime tensorrt: {lacking}",
            hint="Leave it out for an engine that ONNX Runtime runs on the processor, or build it where the GPU is.",
        )
    return not lacking


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
        This release can't build what is asked for.
    EnvironmentProblem
        TensorRT is too old; the disk is full or the folder can't be written.
    """
    import torch

    trt = _import()
    torch.cuda.set_device(options.gpu_index)
    profile = fitting_profile(source, profile)
    model, explicit = _model_for(trt, source, precision, ranges)
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
    _set_precision(trt, config, precision, options, explicit=explicit)
    if source.fixed_batch is None:
        shapes = builder.create_optimization_profile()
        sizes = ((count, *source.input_shape) for count in profile)
        shapes.set_shape(source.input_name, *sizes)
        config.add_optimization_profile(shapes)
    if precision == "int8" and not explicit:
        config.int8_calibrator = _calibrator(
            trt, cache_text(ranges or {}, version=_number(trt)).encode(), profile
        )
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
    network.name = _network_name(header, source.shown_as)
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


class TensorRTEngine:
    """A plan of TensorRT, ours or one from elsewhere.

    Parameters
    ----------
    content
        The plan.
    shown_as
        The file, for messages.

    Raises
    ------
    EnvironmentProblem
        TensorRT or a GPU isn't here.
    ModelFileProblem
        The plan is of another release of TensorRT or of another GPU, or takes no images.
    """

    def __init__(self, content: bytes, *, shown_as: str = "") -> None:
        lacking = missing()
        if lacking:
            raise EnvironmentProblem(
                f"this is a plan of TensorRT, and {lacking}",
                where=shown_as,
                hint="Build an engine for this machine from the exported model with gen_trt_engine.",
            )
        import torch

        # The engine and its memory are on one GPU, whichever is the current one later.
        self._gpu = torch.cuda.current_device()
        trt = _import()
        log = trt.Logger(trt.Logger.WARNING)
        trt.init_libnvinfer_plugins(log, "")
        self._engine = trt.Runtime(log).deserialize_cuda_engine(content)
        if self._engine is None:
            raise ModelFileProblem(
                f"TensorRT {trt.__version__} can't load this plan",
                where=shown_as,
                hint="A plan belongs to the release of TensorRT and the kind of GPU that it was built with. Build it "
                "again here from the exported model.",
            )
        self._context = self._engine.create_execution_context()
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        is_input = {name: self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
        self.outputs = tuple(name for name in names if not is_input[name])
        self._inputs = [name for name in names if is_input[name]]
        header = self._header(shown_as)
        self.input_name = header.input_name
        self.profile: Profile | None = header.batch
        self.metadata: dict[str, Any] = header.metadata()
        self.kind = f"{header.precision.upper()} engine" if header.model else "TensorRT engine"
        self.place = f"{header.notes.get('gpu') or 'GPU'}, TensorRT {trt.__version__}"
        self._shape: tuple[int | None, ...] = header.input_shape
        self._shown_as = shown_as

    def run(
        self, images: npt.NDArray[np.float32], others: Mapping[str, npt.NDArray[Any]] | None = None
    ) -> Tensors:
        """Return the outputs by name; see :meth:`Engine.run`."""
        check_images(images, self._shape, self._shown_as)
        further = dict(others or {})
        if lacking := [name for name in self._inputs if name != self.input_name and name not in further]:
            raise UsageProblem(
                f"the engine wants more than images: {', '.join(lacking)}",
                where=self._shown_as,
                hint="Only models with images as their one input run in evaluate and inference.",
            )
        return run_in_parts(images, further, self.profile, self._run_once, self._shown_as)

    def _run_once(self, images: npt.NDArray[np.float32], others: Mapping[str, npt.NDArray[Any]]) -> Tensors:
        import torch

        torch.cuda.set_device(self._gpu)
        kept = []  # the GPU reads and writes these until the stream is done
        for name, values in {self.input_name: images, **others}.items():
            kind = self._engine.get_tensor_dtype(name).name
            tensor = torch.from_numpy(np.ascontiguousarray(values, _TYPES[kind])).cuda()
            kept.append(tensor)
            self._context.set_input_shape(name, tuple(tensor.shape))
            self._context.set_tensor_address(name, tensor.data_ptr())
        results = {}
        for name in self.outputs:
            kind = np.dtype(_TYPES[self._engine.get_tensor_dtype(name).name])
            shape = tuple(self._context.get_tensor_shape(name))
            results[name] = torch.from_numpy(np.empty(shape, kind)).cuda()
            self._context.set_tensor_address(name, results[name].data_ptr())
        stream = torch.cuda.current_stream()
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise ModelFileProblem(
                "TensorRT couldn't run the engine; its own messages are above",
                where=self._shown_as,
                hint="Build it again here from the exported model.",
            )
        stream.synchronize()
        return {name: tensor.cpu().numpy() for name, tensor in results.items()}

    def _header(self, shown_as: str) -> EngineHeader:
        """Return what the plan says about itself; of one from elsewhere, what can be seen."""
        name = next((each for each in self._inputs if len(self._engine.get_tensor_shape(each)) == 4), "")
        if not name:
            raise ModelFileProblem(
                "the engine has no input of four dimensions for images",
                where=shown_as,
                hint="Engines that take images as [N, C, H, W] can be used.",
            )
        whole = tuple(self._engine.get_tensor_shape(name))
        # An engine of a fixed shape was built without a profile.
        sizes = [whole] * 3 if min(whole) > 0 else self._engine.get_tensor_profile_shape(name, 0)
        shape, batch = tuple(sizes[0])[1:], Profile(*(int(next(iter(size))) for size in sizes))
        try:
            return replace(_header_in(self._engine.name), outputs=self.outputs)
        except (ValueError, KeyError, TypeError, zlib.error):
            return EngineHeader(TENSORRT, "unknown", name, shape, batch, self.outputs, "", {})


def open_plan(path: Path, *, shown_as: str) -> TensorRTEngine:
    """Open a plan of TensorRT; see :class:`TensorRTEngine`."""
    return TensorRTEngine(path.read_bytes(), shown_as=shown_as)


def _import() -> Any:
    trt = importlib.import_module("tensorrt")
    release = tuple(int(part) for part in trt.__version__.split(".")[:2])
    if release < _FIRST:
        raise EnvironmentProblem(
            f"TensorRT {trt.__version__} is too old; {'.'.join(map(str, _FIRST))} or newer is needed",
            hint="Update it, or use --runtime onnxruntime.",
        )
    return trt


def _number(trt: Any) -> int:
    """Return the release as calibration caches write it: 8.5.3 is 8503, and 10.3.0 is 100300."""
    major, minor, patch = (int(part) for part in trt.__version__.split(".")[:3])
    return major * (10000 if major >= 10 else 1000) + minor * 100 + patch


def _network_name(header: EngineHeader, shown_as: str) -> str:
    """Return a header as the name of a network: JSON, packed where there are many classes."""
    for name in (header.to_json(), _packed(header)):
        if len(name.encode()) <= _LONGEST_NAME:
            return name
    logger.warning(
        "What %s says about itself is too long for a plan of TensorRT, which doesn't keep it.", shown_as
    )
    return _packed(replace(header, model={}))


def _packed(header: EngineHeader) -> str:
    return _PACKED + base64.b64encode(zlib.compress(header.to_json().encode(), 9)).decode()


def _header_in(name: str) -> EngineHeader:
    """Read what :func:`_network_name` wrote."""
    if name.startswith(_PACKED):
        return EngineHeader.from_json(zlib.decompress(base64.b64decode(name.removeprefix(_PACKED))))
    return EngineHeader.from_json(name)


def _explicit_batch(trt: Any) -> int:
    """Return the flags of a network with a batch dimension: from release 10 on there is no other kind."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    return 0 if flag is None else 1 << int(flag)


def _model_for(
    trt: Any, source: Source, precision: Precision, ranges: Mapping[str, float] | None
) -> tuple[bytes, bool]:
    """Return the model to parse, and whether it says itself what computes in eight bits.

    Releases without calibrators want it so.
    """
    if precision == "int8" and not hasattr(trt, "IInt8EntropyCalibrator2"):
        quantized = quantize(
            source.simplified, ranges or {}, weight_bits=8, symmetric=True, shown_as=source.shown_as
        )
        return quantized.model.SerializeToString(), True
    return source.model.SerializeToString(), False


def _set_precision(trt: Any, config: Any, precision: Precision, options: Options, *, explicit: bool) -> None:
    """Allow the layers a precision."""
    flags = trt.BuilderFlag
    needed = {"fp32": (), "fp16": ("FP16",), "int8": () if explicit else ("INT8",)}[precision]
    for name in needed:
        if not hasattr(flags, name):
            raise UsageProblem(
                f"TensorRT {trt.__version__} takes the precision from the model, and this one is in float32",
                hint="Build fp32 or int8 with it, or use an older release of TensorRT.",
            )
        config.set_flag(getattr(flags, name))
    if options.strict and precision != "fp32":
        strict = getattr(flags, "OBEY_PRECISION_CONSTRAINTS", None)
        if strict is None:
            logger.warning(
                "--strict_type_constraints is not used: this release of TensorRT has no such flag."
            )
        else:
            config.set_flag(strict)
    if options.dla_core >= 0:
        if precision == "fp32":
            raise UsageProblem("a DLA computes in fp16 or int8 only", hint="Add -t fp16, or drop -u.")
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = options.dla_core
        config.set_flag(flags.GPU_FALLBACK)


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
