"""Models as functions of images, whatever runs them: what is the same for all networks."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from taomagic.engine.device import Device
from taomagic.engine.inference.models import ExportedModel
from taomagic.engine.weights.kind import Detector
from taomagic.engine.weights.state import parameter_count

N = TypeVar("N", bound=Detector)


class Predictor(Protocol):
    """Anything that says what is in images."""

    #: Channels, height and width of the input.
    input_shape: tuple[int, int, int]
    #: In the order of the network's.
    classes: tuple[str, ...]
    #: For the log: ``"TAO model"``, ``"ONNX model"``, ``"INT8 engine"``.
    kind: str
    #: For the log: where it runs.
    place: str
    #: Number of weights.
    parameters: int

    def share(self, callers: int, /) -> int:
        """Prepare for calls by so many threads at once; return how many may, at least 1."""
        ...


class NetworkPredictor(Generic[N]):
    """A network of ours.

    Parameters
    ----------
    model
        In evaluation mode, and on that device; neither is changed here.
    device
        Where it runs.
    """

    kind = "TAO model"

    def __init__(self, model: N, device: Device) -> None:
        self.model = model
        self.device = device
        self.place = device.describe()
        self.input_shape = model.architecture.input_shape
        self.classes = model.architecture.classes
        self.parameters = parameter_count(model)

    def share(self, callers: int, /) -> int:
        """Return how many threads may call at once: on a GPU one, which keeps it busy."""
        return 1 if self.device.is_cuda else callers

    def outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return what the network says about preprocessed images [N, C, H, W]: tensors on the device."""
        images = images.to(self.device.torch_device).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), self.device.autocast():
            return tuple(self.model(images))


class ExportedPredictor:
    """An exported model, or an engine.

    Parameters
    ----------
    model
        Opened.
    """

    def __init__(self, model: ExportedModel) -> None:
        self.model = model
        self.kind, self.place = model.kind, model.place
        self.input_shape, self.classes, self.parameters = model.input_shape, model.classes, model.parameters

    def share(self, callers: int, /) -> int:
        """Prepare for calls by so many threads at once; return how many may."""
        return self.model.runner.share(callers)


def announcement(predictor: Predictor, batch_size: int) -> str:
    """Return the line that says what predicts, and where; exported models run on the CPU beside any GPU."""
    return f"Using the {predictor.kind} for inference on {predictor.place}, batch size {batch_size}"
