"""Runs an engine of TensorRT. The GPU's memory comes from CUDA's own library, so nothing but NumPy is needed beside it.

Lies in the folder beside ``run.py``. Takes TensorRT 7 to 10: from 8.5 on tensors have names, before they had numbers.
Python 3.6 or newer.
"""

import ctypes
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorrt as trt

if TYPE_CHECKING:
    import numpy.typing as npt

    Images = npt.NDArray[np.float32]
    Outputs = dict[str, npt.NDArray[Any]]

_LIBRARIES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so.10.2")
_FOLDERS = ("", "/usr/local/cuda/lib64")
_TO_DEVICE, _TO_HOST = 1, 2  # cudaMemcpyKind


class Engine:
    """An engine, with one image (or one full batch) at a time.

    Parameters
    ----------
    path
        The file that trtexec wrote on this machine.
    """

    def __init__(self, path: str) -> None:
        logger = trt.Logger(trt.Logger.WARNING)
        trt.init_libnvinfer_plugins(logger, "")
        self._runtime = trt.Runtime(logger)  # has to live as long as its engine
        with open(path, "rb") as file:  # noqa: PTH123
            self._engine = self._runtime.deserialize_cuda_engine(file.read())
        if self._engine is None:
            raise SystemExit(
                f"TensorRT {trt.__version__} can't load {path}: build it on this machine, see README.md"
            )
        self._context = self._engine.create_execution_context()
        self._cuda = _cuda()
        self._buffers = {}  # type: dict[str, tuple[ctypes.c_void_p, int]]

    def run(self, images: "Images") -> "Outputs":
        """Return the outputs by name for images [N, C, H, W] float32."""
        return (self._run_named if hasattr(self._engine, "num_io_tensors") else self._run_numbered)(images)

    def _run_named(self, images: "Images") -> "Outputs":
        engine, context = self._engine, self._context
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        images = np.ascontiguousarray(images, trt.nptype(engine.get_tensor_dtype(inputs[0])))
        context.set_input_shape(inputs[0], images.shape)
        context.set_tensor_address(inputs[0], self._upload(inputs[0], images))
        results = {}  # type: Outputs
        for name in (name for name in names if name not in inputs):
            kind = trt.nptype(engine.get_tensor_dtype(name))
            results[name] = np.empty(tuple(context.get_tensor_shape(name)), kind)
            context.set_tensor_address(name, self._memory(name, results[name].nbytes))
        self._require(context.execute_async_v3(0))
        return self._download(results)

    def _run_numbered(self, images: "Images") -> "Outputs":
        engine, context = self._engine, self._context
        pointers = [0] * engine.num_bindings
        results = {}  # type: Outputs
        taken = next(index for index in range(engine.num_bindings) if engine.binding_is_input(index))
        images = np.ascontiguousarray(images, trt.nptype(engine.get_binding_dtype(taken)))
        context.set_binding_shape(taken, images.shape)
        pointers[taken] = self._upload(engine.get_binding_name(taken), images)
        for index in (index for index in range(engine.num_bindings) if index != taken):
            name, kind = engine.get_binding_name(index), trt.nptype(engine.get_binding_dtype(index))
            results[name] = np.empty(tuple(context.get_binding_shape(index)), kind)
            pointers[index] = self._memory(name, results[name].nbytes)
        self._require(context.execute_v2(pointers))
        return self._download(results)

    def _memory(self, name: str, size: int) -> int:
        """Return GPU memory for a tensor; it stays for the next image."""
        if name not in self._buffers or self._buffers[name][1] < size:
            if name in self._buffers:
                self._check(self._cuda.cudaFree(self._buffers[name][0]))
            pointer = ctypes.c_void_p()
            self._check(self._cuda.cudaMalloc(ctypes.byref(pointer), ctypes.c_size_t(size)))
            self._buffers[name] = pointer, size
        return int(self._buffers[name][0].value or 0)

    def _upload(self, name: str, values: "npt.NDArray[Any]") -> int:
        memory = self._memory(name, values.nbytes)
        self._check(self._cuda.cudaMemcpy(memory, values.ctypes.data, values.nbytes, _TO_DEVICE))
        return memory

    def _download(self, results: "Outputs") -> "Outputs":
        self._check(self._cuda.cudaDeviceSynchronize())
        for name, values in results.items():
            memory = self._memory(name, values.nbytes)
            self._check(self._cuda.cudaMemcpy(values.ctypes.data, memory, values.nbytes, _TO_HOST))
        return results

    @staticmethod
    def _check(error: int) -> None:
        if error:
            raise SystemExit(
                f"CUDA error {error}: is the GPU's memory full? `tegrastats` or `nvidia-smi` tells"
            )

    @staticmethod
    def _require(ran: bool) -> None:
        if not ran:
            raise SystemExit("TensorRT couldn't run the engine; its own messages are above")


def _cuda() -> ctypes.CDLL:
    for folder in _FOLDERS:
        for name in _LIBRARIES:
            try:
                cuda = ctypes.CDLL(os.path.join(folder, name))  # noqa: PTH118
            except OSError:
                continue
            cuda.cudaMemcpy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
            return cuda
    raise SystemExit("CUDA's libcudart.so isn't here: add its folder to LD_LIBRARY_PATH")
