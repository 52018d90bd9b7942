"""Run an exported model with ONNX Runtime."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from torch import Tensor

from taomagic.engine.export.nms import COUNTS, DETECTIONS
from taomagic.engine.export.onnx import INPUT
from taomagic.engine.ssd.postprocess import Detections
from taomagic.engine.storage.model_file import read_onnx
from taomagic.errors import ModelFileProblem


class OnnxPredictor:
    """An exported SSD. Its post-processing, with the thresholds of the export, is part of the model.

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
    input_shape
        Channels, height and width of the input.
    classes
        Names of the classes with the ids 1, 2, …
    mean
        What is to be subtracted from an image: (b, g, r) or (level,).
    parameters
        Number of weights of the network.

    Raises
    ------
    ModelFileProblem
        The file can't be read, isn't an ONNX model, or isn't one that ``ssd export`` made.
    """

    kind = "ONNX model"

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
        metadata = self._session.get_modelmeta().custom_metadata_map
        try:
            values: dict[str, Any] = {name: json.loads(text) for name, text in metadata.items()}
            channels, height, width = values["input_shape"]
            self.classes: tuple[str, ...] = tuple(values["classes"])
            self.mean: tuple[float, ...] = tuple(values["mean"])
            self.parameters = int(values["parameters"])
        except (KeyError, ValueError, TypeError) as error:
            raise ModelFileProblem(
                "this ONNX model wasn't made by `ssd export`: it doesn't say which classes and input it has",
                hint="Export the checkpoint with `tao ssd export`.",
                where=str(path),
            ) from error
        self.input_shape: tuple[int, int, int] = (channels, height, width)
        self.metadata = values
        batch = self._session.get_inputs()[0].shape[0]
        self._fixed_batch: int | None = batch if isinstance(batch, int) else None

    def run(self, images: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Return the model's own outputs.

        Parameters
        ----------
        images
            [N, C, H, W] float32, preprocessed; any N, also where the model has a fixed batch size.

        Returns
        -------
        tuple of numpy.ndarray
            ``NMS`` [N, 1, top_k, 7] float32 and ``NMS_1`` [N, 1, 1, 1] int32.
        """
        count = len(images)
        size = self._fixed_batch or count
        if count % size:  # a model of a fixed batch size gets empty images beside the last ones
            padding = np.zeros((size - count % size, *images.shape[1:]), dtype=np.float32)
            images = np.concatenate([images, padding])
        parts = [
            self._session.run([DETECTIONS, COUNTS], {INPUT: np.ascontiguousarray(images[i : i + size])})
            for i in range(0, len(images), size)
        ]
        detections, counts = (np.concatenate(outputs)[:count] for outputs in zip(*parts, strict=True))
        return detections, counts

    def predict(self, images: Tensor | npt.NDArray[np.float32]) -> list[Detections]:
        """Find objects in preprocessed images [N, C, H, W] float32; the boxes are in pixels of the input."""
        array = images.cpu().numpy() if isinstance(images, Tensor) else images
        detections, counts = self.run(array)
        _, height, width = self.input_shape
        scale = np.array([width, height, width, height], dtype=np.float32)
        found = []
        for rows, count in zip(detections[:, 0], counts.reshape(-1), strict=True):
            valid = rows[:count]
            found.append(Detections(valid[:, 3:] * scale, valid[:, 2], valid[:, 1].astype(np.int64)))
        return found


def _usable_cores() -> int:
    """Return how many cores this process may use; ONNX Runtime itself would count all of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
