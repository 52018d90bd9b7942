"""TensorRT, where it is installed with a GPU: whether it is there, and how its plans say what they are.

:mod:`.tensorrt_build` builds plans, :mod:`.tensorrt_run` runs them. Both use the Python API from release 8.5 on, with
PyTorch for the GPU's memory and streams, so no CUDA package is needed beside it. A plan keeps the name of its network;
ours is the JSON text of :class:`EngineHeader`, by which a plan that was built here says what it is, and is still a plan
that every other program of NVIDIA's can read.

What is called, and where it is documented: NVIDIA's TensorRT Python API reference for 8.6 and 10, and the source of
the bindings (github.com/NVIDIA/TensorRT, ``python/src``):

- ``infer/pyCore.cpp``: Logger, Builder, IBuilderConfig (flags, memory pools, profiles, DLA), IOptimizationProfile,
  Runtime, ICudaEngine and IExecutionContext with named tensors (8.5; numbered bindings went with 10);
- ``infer/pyGraph.cpp``: INetworkDefinition and ILayer (``precision`` until 10);
- ``infer/pyInt8.cpp``: IInt8EntropyCalibrator2 and its four callbacks (until 10);
- ``parsers/pyOnnx.cpp``: OnnxParser; ``infer/pyPlugin.cpp``: init_libnvinfer_plugins.

Release 11 is strongly typed: the guide "Migrating from TensorRT 10.x to 11.x" lists FP16, INT8, calibrators and
constraints on precision as removed. The types are then the model's (:mod:`.tensorrt_build`).
"""

from __future__ import annotations

import base64
import importlib
import logging
import zlib
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Final

from taomagic.engine.converter.engine_file import EngineHeader
from taomagic.errors import EnvironmentProblem

logger = logging.getLogger(__name__)

#: The first release with named tensors in its Python API.
_FIRST: Final = (8, 5)
#: What TensorRT keeps of a network's name, in bytes, without the zero at the end.
_LONGEST_NAME: Final = 4095
#: In front of a header that is too long for that as plain JSON.
_PACKED: Final = "taomagic:"


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


def imported() -> Any:
    """Return the module ``tensorrt``.

    Raises
    ------
    EnvironmentProblem
        It is too old.
    """
    trt = importlib.import_module("tensorrt")
    release = tuple(int(part) for part in trt.__version__.split(".")[:2])
    if release < _FIRST:
        raise EnvironmentProblem(
            f"TensorRT {trt.__version__} is too old; {'.'.join(map(str, _FIRST))} or newer is needed",
            hint="Update it, or use --runtime onnxruntime.",
        )
    return trt


def number_of(trt: Any) -> int:
    """Return the release as calibration caches write it: 8.5.3 is 8503, and 10.3.0 is 100300."""
    major, minor, patch = (int(part) for part in trt.__version__.split(".")[:3])
    return major * (10000 if major >= 10 else 1000) + minor * 100 + patch


def network_name(header: EngineHeader, shown_as: str) -> str:
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


def header_in(name: str) -> EngineHeader:
    """Read what :func:`network_name` wrote."""
    if name.startswith(_PACKED):
        return EngineHeader.from_json(zlib.decompress(base64.b64decode(name.removeprefix(_PACKED))))
    return EngineHeader.from_json(name)
