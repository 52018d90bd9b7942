"""Models as functions from images to the network's maps, whatever runs them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from taomagic.engine.detectnet_v2.layout import Layout
from taomagic.engine.detectnet_v2.model import DetectNet
from taomagic.engine.detectnet_v2.weights import model_from_file
from taomagic.engine.device import Device
from taomagic.engine.inference import predictor
from taomagic.engine.inference.models import ExportedModel, is_checkpoint, open_exported
from taomagic.errors import ModelFileProblem

#: Names of an exported model's outputs, as NVIDIA's have them.
COVERAGE, BOXES = "output_cov/Sigmoid", "output_bbox/BiasAdd"


class Predictor(predictor.Predictor, Protocol):
    """Anything that gives a network's maps; the classes are in the order of their channels."""

    #: What the maps mean.
    layout: Layout

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return coverage [N, C, H, W] and boxes [N, 4 · C, H, W] for images [N, C, H, W], 0..1, red first."""
        ...


class TorchPredictor(predictor.NetworkPredictor[DetectNet]):
    """A network of ours.

    Parameters
    ----------
    model
        On its device; put into evaluation mode.
    device
        Where it runs.
    """

    def __init__(self, model: DetectNet, device: Device) -> None:
        super().__init__(model.eval(), device)
        self.layout = Layout.of(model.architecture)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return coverage and boxes, on the device."""
        coverage, boxes = self.outputs(images)
        return coverage.float(), boxes.float()


class ExportedPredictor(predictor.ExportedPredictor):
    """An exported model, or an engine.

    Parameters
    ----------
    model
        Opened.
    shown_as
        Its path as the person wrote it, for messages.

    Raises
    ------
    ModelFileProblem
        It doesn't say what its boxes mean.
    """

    def __init__(self, model: ExportedModel, shown_as: str) -> None:
        super().__init__(model)
        try:
            scale, offset = float(model.metadata["bbox_scale"]), float(model.metadata["bbox_offset"])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileProblem(
                f"this {model.kind} doesn't say what its boxes mean (bbox_scale, bbox_offset)",
                where=shown_as,
                hint="Export the checkpoint with `tao detectnet_v2 export`.",
            ) from error
        self.layout = Layout(model.classes, model.input_shape, scale, offset)

    def raw(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return coverage and boxes, on the CPU."""
        outputs = self.model.runner.run(images.cpu().contiguous().numpy())
        return torch.from_numpy(outputs[COVERAGE]).float(), torch.from_numpy(outputs[BOXES]).float()


def open_predictor(path: Path, key: str, device: Device, *, shown_as: str) -> Predictor:
    """Open a model: ``.tlt`` and ``.hdf5`` run in PyTorch, exported ones and engines in what they are made for.

    Parameters
    ----------
    path
        File on this machine.
    key
        For encrypted files.
    device
        Where PyTorch runs it.
    shown_as
        Its path as the person wrote it, for messages.

    Raises
    ------
    ModelFileProblem
        It can't be read, or isn't a DetectNet_v2 of ours.
    """
    if not is_checkpoint(path, shown_as=shown_as):
        return ExportedPredictor(open_exported(path, key, task="detectnet_v2", shown_as=shown_as), shown_as)
    model, _ = model_from_file(path, key, shown_as=shown_as)
    device.place(model)
    return TorchPredictor(model, device)
