"""Run an exported model with ONNX Runtime."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from taomagic.engine.storage.model_file import read_onnx
from taomagic.errors import ModelFileProblem


class OnnxModel:
    """An exported model of any network.

    Parameters
    ----------
    path
        ``….onnx`` or ``….etlt``.
    key
        For ``.etlt``.
    threads
        How many threads to use; by default the cores that this process may use.

    Attributes
    ----------
    metadata
        What the export wrote about the model; empty for a model from elsewhere.

    Raises
    ------
    ModelFileProblem
        The file can't be read, or isn't an ONNX model that runs.
    """

    def __init__(self, path: str | Path, key: str = "", *, threads: int | None = None) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads or _usable_cores()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        model = read_onnx(path, key)
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            raise ModelFileProblem(
                f"ONNX Runtime can't load the model: {str(error).splitlines()[0]}",
                hint="Export it again; the file may be damaged.",
                where=str(path),
            ) from error
        self.metadata = _readable(self._session.get_modelmeta().custom_metadata_map)
        first = self._session.get_inputs()[0]
        self._input = first.name
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._fixed_batch: int | None = (
            first.shape[0] if first.shape and isinstance(first.shape[0], int) else None
        )

    def run(self, images: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[Any]]:
        """Return the model's outputs by name.

        Parameters
        ----------
        images
            [N, C, H, W] float32, preprocessed; any N, also where the model has a fixed batch size.
        """
        count = len(images)
        size = self._fixed_batch or count
        if count % size:  # a model of a fixed batch size gets empty images beside the last ones
            padding = np.zeros((size - count % size, *images.shape[1:]), dtype=np.float32)
            images = np.concatenate([images, padding])
        parts = [
            self._session.run(self._outputs, {self._input: np.ascontiguousarray(images[i : i + size])})
            for i in range(0, len(images), size)
        ]
        joined = (np.concatenate(outputs)[:count] for outputs in zip(*parts, strict=True))
        return dict(zip(self._outputs, joined, strict=True))


def _readable(stored: dict[str, str]) -> dict[str, Any]:
    """Return the properties of a model that are JSON, as those of our exports are."""
    values: dict[str, Any] = {}
    for name, text in stored.items():
        try:
            values[name] = json.loads(text)
        except ValueError:
            continue
    return values


def _usable_cores() -> int:
    """Return how many cores this process may use; ONNX Runtime itself would count all of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
