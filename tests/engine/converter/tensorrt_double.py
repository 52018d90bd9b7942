"""A double of TensorRT's Python API (10.x) that records what is called, with the API's own names.

What isn't in the API isn't here, so a misspelt name fails as it would with TensorRT itself. Source: the API reference
of TensorRT 10, classes IBuilder, INetworkDefinition, OnnxParser, IBuilderConfig, IOptimizationProfile, Runtime,
ICudaEngine and IExecutionContext.
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
    OBEY_PRECISION_CONSTRAINTS = 12


class _Mode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


def module(
    *, calibrators: bool = True, version: str = "10.3.0", parses: bool = True, builds: bool = True
) -> Any:
    """Return a module like ``tensorrt``; ``.calls`` has what was done to it."""
    trt: Any = ModuleType("tensorrt")
    trt.__version__ = version
    calls: dict[str, Any] = {"flags": [], "profiles": []}
    trt.calls = calls

    class Logger:
        WARNING = 2

        def __init__(self, severity: int) -> None:
            assert severity == self.WARNING

    class NetworkDefinitionCreationFlag(enum.IntEnum):
        EXPLICIT_BATCH = 0
        STRONGLY_TYPED = 1

    class INetworkDefinition:
        def __init__(self) -> None:
            self.name = ""
            self.model = b""

        @property
        def num_outputs(self) -> int:
            return len(onnx.load_from_string(self.model).graph.output)

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
            self.int8_calibrator: Any = None
            self.default_device_type: Any = None
            self.DLA_core = -1

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            calls["workspace"] = (pool, pool_size)

        def set_flag(self, flag: _Flag) -> None:
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
    trt.BuilderFlag, trt.TensorIOMode = _Flag, _Mode
    trt.MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")
    trt.DeviceType = SimpleNamespace(GPU="gpu", DLA="dla")
    trt.init_libnvinfer_plugins = lambda logger, namespace: True
    if calibrators:
        trt.IInt8EntropyCalibrator2 = IInt8EntropyCalibrator2
    return trt
