"""DetectNet_v2 as an ONNX model: coverage and boxes of every cell. Clustering stays with who runs it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from taomagic.engine.detectnet_v2.model import DetectNet
from taomagic.engine.detectnet_v2.predictor import BOXES, COVERAGE
from taomagic.engine.detectnet_v2.targets import STRIDE
from taomagic.engine.export.onnx import Exported, export_network
from taomagic.spec.settings_detectnet_v2 import DetectNetExperiment

INPUT = "input_1"
#: The network sees levels between 0 and 1.
INPUT_SCALE = 1 / 255


def export_with_scales(
    model: DetectNet,
    experiment: DetectNetExperiment | None = None,
    *,
    opset: int = 17,
    batch_size: int | None = None,
) -> Exported:
    """Return a network as a serialised ONNX model, and the scales of its tensors.

    The input ``input_1`` is [N, C, H, W] float32 between 0 and 1, red first. The outputs are ``output_bbox/BiasAdd``
    [N, 4 · classes, H/16, W/16] and ``output_cov/Sigmoid`` [N, classes, H/16, W/16]. The model's metadata say what
    turns them into pixels: ``bbox_scale``, ``bbox_offset`` and ``stride``.

    Parameters
    ----------
    model
        The network. It isn't changed.
    experiment
        The spec; its clustering goes into the metadata, by class. ``None``: not.
    opset
        ONNX operator set, 12 to 20.
    batch_size
        Fixed batch size; ``None``: any.

    Raises
    ------
    UsageProblem
        The operator set isn't one of those.
    """
    return export_network(
        model,
        model.architecture,
        input_name=INPUT,
        output_names=(BOXES, COVERAGE),
        metadata=_metadata(model, experiment),
        opset=opset,
        batch_size=batch_size,
        wrap=_BoxesFirst,
    )


class _BoxesFirst(nn.Module):
    """The network with its outputs in the order of NVIDIA's."""

    def __init__(self, model: DetectNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return boxes and coverage of images [N, C, H, W]."""
        coverage, boxes = self.model(images)
        return boxes, coverage


def _metadata(model: DetectNet, experiment: DetectNetExperiment | None) -> dict[str, Any]:
    """Return what a reader needs to feed the model and to understand its answers."""
    architecture = model.architecture
    channels = architecture.input_shape[0]
    values: dict[str, Any] = {
        "mean": (0.0,) * channels,
        "input_scale": INPUT_SCALE,
        "channel_order": "grey" if channels == 1 else "RGB",
        "stride": STRIDE,
        "bbox_scale": architecture.bbox_scale,
        "bbox_offset": architecture.bbox_offset,
    }
    if experiment is not None and experiment.clustering:
        values["clustering"] = {name: asdict(each) for name, each in experiment.clustering.items()}
    return values
