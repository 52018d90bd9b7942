"""Models as functions from images to detections, whatever runs them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from taomagic.engine.device import Device
from taomagic.engine.export.detections import rows_of
from taomagic.engine.inference import predictor
from taomagic.engine.inference.models import ExportedModel, is_checkpoint, open_exported
from taomagic.engine.ssd.model import SSD
from taomagic.engine.ssd.postprocess import Detections, detect
from taomagic.engine.ssd.weights import model_from_file
from taomagic.errors import ModelFileProblem
from taomagic.spec.ssd import NMSSettings

logger = logging.getLogger(__name__)


class Predictor(predictor.Predictor, Protocol):
    """Anything that finds objects; the ids of their classes begin with 1."""

    @property
    def mean(self) -> tuple[float, ...] | None:
        """What an exported model says is subtracted from an image, (b, g, r) or (level,); ``None`` for others."""
        ...

    def predict(self, images: Tensor) -> list[Detections]:
        """Find objects in preprocessed images [N, C, H, W] float32."""
        ...


class TorchPredictor(predictor.NetworkPredictor[SSD]):
    """A network of ours.

    Parameters
    ----------
    model
        In evaluation mode, and on that device; neither is changed here.
    device
        Where it runs.
    nms
        Post-processing of the spec.
    """

    mean: tuple[float, ...] | None = None

    def __init__(self, model: SSD, device: Device, nms: NMSSettings) -> None:
        super().__init__(model, device)
        self.nms = nms
        self._variances = torch.tensor(model.architecture.anchors.variances, device=device.torch_device)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return class scores and box offsets before any post-processing."""
        scores, offsets = self.outputs(images)
        return scores, offsets

    def select(self, scores: Tensor, offsets: Tensor) -> list[Detections]:
        """Post-process what :meth:`raw` returned."""
        _, height, width = self.input_shape
        return detect(scores, offsets, self.model.anchors, self._variances, (height, width), self.nms)

    def predict(self, images: Tensor) -> list[Detections]:
        """Find objects in preprocessed images [N, C, H, W] float32."""
        return self.select(*self.raw(images))


class ExportedPredictor(predictor.ExportedPredictor):
    """An exported SSD, or an engine. Its post-processing, with the thresholds of the export, is part of the model.

    Parameters
    ----------
    model
        Opened.
    shown_as
        Its path as the person wrote it, for messages.

    Raises
    ------
    ModelFileProblem
        It doesn't say what is subtracted from images.
    """

    def __init__(self, model: ExportedModel, shown_as: str) -> None:
        super().__init__(model)
        try:
            self.mean: tuple[float, ...] | None = tuple(map(float, model.metadata["mean"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileProblem(
                f"this {model.kind} doesn't say what is subtracted from images",
                where=shown_as,
                hint="Export the checkpoint with `tao ssd export`.",
            ) from error

    def predict(self, images: Tensor) -> list[Detections]:
        """Find objects in preprocessed images [N, C, H, W] float32; the boxes are in pixels of the input."""
        outputs = self.model.runner.run(images.cpu().numpy())
        _, height, width = self.input_shape
        scale = np.array([width, height, width, height], dtype=np.float32)
        return [
            Detections(rows[:, 2:] * scale, rows[:, 1], rows[:, 0].astype(np.int64))
            for rows in rows_of(outputs)
        ]


def load_predictor(path: Path, key: str, device: Device, nms: NMSSettings, *, shown_as: str) -> Predictor:
    """Open a model: ``.tlt`` and ``.hdf5`` run in PyTorch, ``.onnx`` and ``.etlt`` in ONNX Runtime.

    An exported model carries its own post-processing settings, those of the spec at the export. Where the spec now says
    something else, a warning tells so.

    Parameters
    ----------
    path
        File on this machine.
    key
        For ``.tlt`` and ``.etlt``.
    device
        Where PyTorch runs it.
    nms
        ``nms_config``.
    shown_as
        Its path as the person wrote it, for messages.

    Raises
    ------
    ModelFileProblem
        It can't be read, or isn't an SSD of ours.
    """
    if not is_checkpoint(path, shown_as=shown_as):
        return open_exported_predictor(path, key, nms, shown_as)
    model, _ = model_from_file(path, key, shown_as=shown_as)
    device.place(model).eval()
    return TorchPredictor(model, device, nms)


def open_exported_predictor(path: Path, key: str, nms: NMSSettings, shown_as: str) -> ExportedPredictor:
    """Open an exported model or an engine, and compare its post-processing with the spec's."""
    model = open_exported(path, key, task="ssd", shown_as=shown_as)
    exported = ExportedPredictor(model, shown_as)
    names = ("confidence_threshold", "clustering_iou_threshold", "top_k")
    differing = [
        f"{name} {model.metadata[name]:g} (spec: {getattr(nms, name):g})"
        for name in names
        if name in model.metadata and model.metadata[name] != getattr(nms, name)
    ]
    if differing:
        logger.warning("%s has its own post-processing, of its export: %s.", shown_as, ", ".join(differing))
    return exported
