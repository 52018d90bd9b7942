"""Run plans of TensorRT; the calls are those of :mod:`.tensorrt`."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from taomagic.engine.converter import tensorrt
from taomagic.engine.converter.engine_file import TENSORRT, EngineHeader
from taomagic.engine.converter.runtime import Profile, Tensors, check_images, run_in_parts
from taomagic.errors import EnvironmentProblem, ModelFileProblem, UsageProblem

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
        lacking = tensorrt.missing()
        if lacking:
            raise EnvironmentProblem(
                f"this is a plan of TensorRT, and {lacking}",
                where=shown_as,
                hint="Build an engine for this machine from the exported model with gen_trt_engine.",
            )
        import torch

        # The engine and its memory are on one GPU, whichever is the current one later.
        self._gpu = torch.cuda.current_device()
        trt = tensorrt.imported()
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

    def share(self, _callers: int, /) -> int:
        """Return 1: what runs the plan is for one thread, and keeps the GPU busy."""
        return 1

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
            return replace(tensorrt.header_in(self._engine.name), outputs=self.outputs)
        except (ValueError, KeyError, TypeError, zlib.error):
            return EngineHeader(TENSORRT, "unknown", name, shape, batch, self.outputs, "", {})


def open_plan(path: Path, *, shown_as: str) -> TensorRTEngine:
    """Open a plan of TensorRT; see :class:`TensorRTEngine`."""
    return TensorRTEngine(path.read_bytes(), shown_as=shown_as)
