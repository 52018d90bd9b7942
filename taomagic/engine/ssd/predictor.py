"""Models as functions from images to detections, whatever runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from taomagic.engine.device import Device
from taomagic.engine.ssd.model import SSD, parameter_count
from taomagic.engine.ssd.postprocess import Detections, detect
from taomagic.engine.ssd.weights import model_from_file
from taomagic.spec.ssd import NMSSettings


class Predictor(Protocol):
    """Anything that finds objects."""

    #: Channels, height and width of the input.
    input_shape: tuple[int, int, int]
    #: Names of the classes with the ids 1, 2, …
    classes: tuple[str, ...]
    #: For the log: ``"TAO model"``, ``"ONNX model"``.
    kind: str
    #: Number of weights.
    parameters: int

    def predict(self, images: Tensor) -> list[Detections]:
        """Find objects in preprocessed images [N, C, H, W] float32."""
        ...


class TorchPredictor:
    """A network of ours.

    Parameters
    ----------
    model
        Put into evaluation mode while it predicts, and back into the mode it had.
    device
        Where it runs.
    nms
        Post-processing of the spec.
    """

    kind = "TAO model"

    def __init__(self, model: SSD, device: Device, nms: NMSSettings) -> None:
        self.model = model
        self.device = device
        self.nms = nms
        self.input_shape = model.architecture.input_shape
        self.classes = model.architecture.classes
        self.parameters = parameter_count(model)
        self._variances = torch.tensor(model.architecture.anchors.variances, device=device.torch_device)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return class scores and box offsets before any post-processing."""
        images = images.to(self.device.torch_device).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), self.device.autocast():
            scores, offsets = self.model(images)
        return scores, offsets

    def select(self, scores: Tensor, offsets: Tensor) -> list[Detections]:
        """Post-process what :meth:`raw` returned."""
        _, height, width = self.input_shape
        return detect(scores, offsets, self.model.anchors, self._variances, (height, width), self.nms)

    def predict(self, images: Tensor) -> list[Detections]:
        """Find objects in preprocessed images [N, C, H, W] float32."""
        return self.select(*self.raw(images))


def load_predictor(path: Path, key: str, device: Device, nms: NMSSettings, *, shown_as: str) -> Predictor:
    """Open a model: ``.tlt`` and ``.hdf5`` run in PyTorch, ``.onnx`` and ``.etlt`` in ONNX Runtime.

    An exported model carries its own post-processing settings; they were taken from the spec of the export.
    """
    if path.suffix in {".onnx", ".etlt"}:
        from taomagic.engine.export.runtime import OnnxPredictor

        return OnnxPredictor(path, key)
    model, _ = model_from_file(path, key, shown_as=shown_as)
    device.place(model).eval()
    return TorchPredictor(model, device, nms)
