"""A double of TensorRT's Python API (8.5 to 11) that records what is called, with the API's own names.

What isn't in the API isn't here, so a misspelt name fails as it would with TensorRT itself. Names and signatures were
compared with NVIDIA's API reference of 8.6 and 10 and with the source of the bindings (github.com/NVIDIA/TensorRT,
python/src/infer/pyCore.cpp, pyGraph.cpp, pyInt8.cpp and python/src/parsers/pyOnnx.cpp); what release 11 lacks, with the
guide "Migrating from TensorRT 10.x to 11.x". How TensorRT behaves is not doubled.
"""

from __future__ import annotations

import enum
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx

from taomagic.engine.converter.runtime import OnnxEngine


class _Flag(enum.IntEnum):
    FP16 = 0
    INT8 = 1
    GPU_FALLBACK = 3
    OBEY_PRECISION_CONSTRAINTS = 9
    PREFER_PRECISION_CONSTRAINTS = 10


class _TypedFlag(enum.IntEnum):
    """Release 11's."""

    GPU_FALLBACK = 1


class _DataType(enum.Enum):
    FLOAT = 0
    HALF = 1
    INT8 = 2


class _LayerType(enum.Enum):
    CONVOLUTION = 0
    ACTIVATION = 2
    DECONVOLUTION = 8
    SHUFFLE = 15
    MATRIX_MULTIPLY = 19


#: Layers that the parser makes of operators; of all others something that doesn't multiply.
_LAYERS = {
    "Conv": _LayerType.CONVOLUTION,
    "ConvTranspose": _LayerType.DECONVOLUTION,
    "MatMul": _LayerType.MATRIX_MULTIPLY,
    "Relu": _LayerType.ACTIVATION,
}


class _Mode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


def module(*, version: str = "10.3.0", parses: bool = True, builds: bool = True) -> Any:
    """Return a module like ``tensorrt``; ``.calls`` has what was done to it."""
    trt: Any = ModuleType("tensorrt")
    trt.__version__ = version
    calls: dict[str, Any] = {"flags": [], "profiles": [], "precisions": [], "calibration_profile": None}
    trt.calls = calls

    class Logger:
        WARNING = 2

        def __init__(self, severity: int) -> None:
            assert severity == self.WARNING

    typed = int(version.split(".", maxsplit=1)[0]) >= 11

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        EXPLICIT_BATCH = 0
        STRONGLY_TYPED = 1

    class ILayer:
        def __init__(self, node: onnx.NodeProto) -> None:
            self.name = node.name
            self.type = _LAYERS.get(node.op_type, _LayerType.SHUFFLE)
            self._inputs = list(node.input)

        def get_input(self, index: int) -> Any:
            return SimpleNamespace(name=self._inputs[index])

        @property
        def precision(self) -> _DataType:
            return _DataType.FLOAT

        @precision.setter
        def precision(self, value: _DataType) -> None:
            assert not typed
            calls["precisions"].append((self.name, value.name))

    class INetworkDefinition:
        def __init__(self) -> None:
            self.name = ""
            self.model = b""

        @property
        def num_outputs(self) -> int:
            return len(onnx.load_from_string(self.model).graph.output)

        @property
        def num_layers(self) -> int:
            return len(onnx.load_from_string(self.model).graph.node)

        def get_layer(self, index: int) -> ILayer:
            return ILayer(onnx.load_from_string(self.model).graph.node[index])

        def get_output(self, index: int) -> Any:
            return SimpleNamespace(name=onnx.load_from_string(self.model).graph.output[index].name)

    class OnnxParser:
        num_errors = 0 if parses else 1

        def __init__(self, network: INetworkDefinition, logger: Logger) -> None:
            self._network = network

        def parse(self, model: bytes) -> bool:
            assert isinstance(model, bytes)
            self._network.model = model
            return parses

        def get_error(self, index: int) -> str:
            return f"In node {index} (importNode): UNSUPPORTED_NODE"

    class IOptimizationProfile:
        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002 - the API's names
            calls["profiles"].append((input, tuple(min), tuple(opt), tuple(max)))

    class IBuilderConfig:
        def __init__(self) -> None:
            self._calibrator: Any = None
            self.default_device_type: Any = None
            self.DLA_core = -1

        @property
        def int8_calibrator(self) -> Any:
            return self._calibrator

        @int8_calibrator.setter
        def int8_calibrator(self, calibrator: Any) -> None:
            assert not typed
            self._calibrator = calibrator

        def set_calibration_profile(self, profile: IOptimizationProfile) -> bool:
            assert not typed
            calls["calibration_profile"] = profile
            return True

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            calls["workspace"] = (pool, pool_size)

        def set_flag(self, flag: _Flag | _TypedFlag) -> None:
            calls["flags"].append(flag.name)

        def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
            return 0

    class Builder:
        def __init__(self, logger: Logger) -> None:
            pass

        def create_network(self, flags: int = 0) -> INetworkDefinition:
            calls["network_flags"] = flags
            return INetworkDefinition()

        def create_builder_config(self) -> IBuilderConfig:
            return IBuilderConfig()

        def create_optimization_profile(self) -> IOptimizationProfile:
            return IOptimizationProfile()

        def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> Any:
            calls["config"], calls["network"] = config, network
            name = network.name.encode()
            return b"ftrt" + len(name).to_bytes(4, "big") + name + network.model if builds else None

    class IExecutionContext:
        def __init__(self, engine: ICudaEngine) -> None:
            self._engine = engine
            self._shapes: dict[str, tuple[int, ...]] = {}
            self._memory: dict[str, int] = {}

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self._shapes[name] = shape
            return True

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self._memory[name] = memory
            return True

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            images = np.zeros(next(iter(self._shapes.values())), np.float32)
            return tuple(self._engine.onnx.run(images)[name].shape)

        def execute_async_v3(self, stream_handle: int) -> bool:
            import ctypes

            ((name, shape),) = self._shapes.items()
            count = int(np.prod(shape))
            images = np.ctypeslib.as_array((ctypes.c_float * count).from_address(self._memory[name])).reshape(
                shape
            )
            for output, values in self._engine.onnx.run(images.copy()).items():
                ctypes.memmove(self._memory[output], np.ascontiguousarray(values).ctypes.data, values.nbytes)
            return True

    class ICudaEngine:
        def __init__(self, plan: bytes) -> None:
            length = int.from_bytes(plan[4:8], "big")
            self.name = plan[8 : 8 + length].decode()
            self.onnx = OnnxEngine(plan[8 + length :], {}, profile=None)
            self._names = [self.onnx.input_name, *self.onnx.outputs]

        @property
        def num_io_tensors(self) -> int:
            return len(self._names)

        def get_tensor_name(self, index: int) -> str:
            return self._names[index]

        def get_tensor_mode(self, name: str) -> _Mode:
            return _Mode.INPUT if name == self.onnx.input_name else _Mode.OUTPUT

        def get_tensor_dtype(self, name: str) -> Any:
            return SimpleNamespace(name="FLOAT")

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            fixed = self.onnx.profile
            count = -1 if fixed is None else fixed.max
            return (count, 3, 16, 16) if name == self.onnx.input_name else (count, 8)

        def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
            assert self.onnx.profile is None, "built without a profile"
            return [(1, 3, 16, 16), (2, 3, 16, 16), (4, 3, 16, 16)]

        def create_execution_context(self) -> IExecutionContext:
            return IExecutionContext(self)

    class Runtime:
        def __init__(self, logger: Logger) -> None:
            pass

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
            return ICudaEngine(serialized_engine) if builds else None

    class IInt8EntropyCalibrator2:
        def __init__(self) -> None:
            pass

    trt.Logger, trt.Builder, trt.OnnxParser, trt.Runtime = Logger, Builder, OnnxParser, Runtime
    trt.NetworkDefinitionCreationFlag = NetworkDefinitionCreationFlag
    trt.BuilderFlag, trt.TensorIOMode = _TypedFlag if typed else _Flag, _Mode
    trt.DataType, trt.LayerType = _DataType, _LayerType
    trt.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    trt.DeviceType = SimpleNamespace(GPU="gpu", DLA="dla")
    trt.init_libnvinfer_plugins = lambda logger, namespace: True
    if not typed:
        trt.IInt8EntropyCalibrator2 = IInt8EntropyCalibrator2
    return trt
