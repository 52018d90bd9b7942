"""SSD as an ONNX model that does everything from the preprocessed image to the detections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from taomagic.engine.boxes import decode
from taomagic.engine.data.images import CAFFE_MEAN, GREY_MEAN, mean_of
from taomagic.engine.export.detections import COUNTS, DETECTIONS, EFFICIENT_OUTPUTS
from taomagic.engine.export.nms import append_nms
from taomagic.engine.export.nms_plugins import (
    Suppression,
    append_efficient_nms_trt,
    append_nms_dynamic_trt,
)
from taomagic.engine.export.onnx import Exported, export_network
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.spec.settings import SSDExperiment

INPUT = "Input"
#: What comes out of each way of suppression.
OUTPUTS: dict[Suppression, tuple[str, ...]] = {
    "onnx": (DETECTIONS, COUNTS),
    "nms_dynamic_trt": (DETECTIONS, COUNTS),
    "efficient_nms_trt": EFFICIENT_OUTPUTS,
}
_SCORES, _BOXES = "scores", "boxes"


def export_onnx(
    model: SSD,
    experiment: SSDExperiment,
    *,
    opset: int = 17,
    batch_size: int | None = None,
    suppression: Suppression = "onnx",
) -> bytes:
    """Return a network with its post-processing as a serialised ONNX model; see :func:`export_with_scales`."""
    exported = export_with_scales(
        model, experiment, opset=opset, batch_size=batch_size, suppression=suppression
    )
    return exported.model


def export_with_scales(
    model: SSD,
    experiment: SSDExperiment,
    *,
    opset: int = 17,
    batch_size: int | None = None,
    suppression: Suppression = "onnx",
) -> Exported:
    """Return a network with its post-processing as a serialised ONNX model, and the scales of its tensors.

    The input ``Input`` is [N, C, H, W] float32: blue, green, red minus the mean (or grey minus the mean), in grey
    levels. The outputs are ``NMS`` [N, 1, top_k, 7] float32, rows of image, class (from 1), confidence, x1, y1, x2,
    y2 in shares of the image, best first, zero where there is nothing; and ``NMS_1`` [N, 1, 1, 1] int32, the number
    of detections. The model's metadata name classes, mean, colour order and thresholds.

    With TensorRT's plugins in place of standard operators, only TensorRT runs the model; their outputs are described
    in :mod:`taomagic.engine.export.nms_plugins`.

    Parameters
    ----------
    model
        The network. It isn't changed.
    experiment
        Gives ``nms_config``, and the mean of ``augmentation_config``.
    opset
        ONNX operator set, 12 to 20.
    batch_size
        Fixed batch size; ``None``: any.
    suppression
        What suppresses overlapping boxes.

    Raises
    ------
    UsageProblem
        The operator set isn't one of those.
    """
    return export_network(
        model,
        model.architecture,
        input_name=INPUT,
        output_names=(_SCORES, _BOXES),
        metadata=_metadata(model, experiment, suppression),
        opset=opset,
        batch_size=batch_size,
        wrap=lambda twin: _Head(twin, suppression),
        append=_tail(model, experiment, suppression),
    )


class _Head(nn.Module):
    """The network, with probabilities and boxes as the suppression wants them.

    Standard operators: [N, classes, A] without the background, and corners; ``EfficientNMS_TRT``: [N, A, classes] with
    it, and corners; ``NMSDynamic_TRT``: the same with the encoded boxes.
    """

    def __init__(self, model: SSD, suppression: Suppression) -> None:
        super().__init__()
        self.model = model
        self.suppression = suppression
        self.register_buffer("variances", torch.tensor(model.architecture.anchors.variances))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities, and boxes [N, A, 4]."""
        scores, offsets = self.model(images)
        probabilities = torch.softmax(scores, dim=-1)
        if self.suppression == "nms_dynamic_trt":
            return probabilities, offsets
        if self.suppression == "onnx":
            probabilities = probabilities[..., 1:].transpose(1, 2)
        variances = self.variances
        assert isinstance(variances, Tensor)
        return probabilities, decode(offsets, self.model.anchors, variances)


def _tail(
    model: SSD, experiment: SSDExperiment, suppression: Suppression
) -> Callable[[onnx.ModelProto], None]:
    """Return what adds the suppression to an exported model."""
    settings = experiment.nms
    assert settings is not None  # validation demands it for an export

    def append(exported: onnx.ModelProto) -> None:
        if suppression == "onnx":
            append_nms(
                exported,
                scores=_SCORES,
                boxes=_BOXES,
                classes=model.num_classes - 1,
                anchors=len(model.anchors),
                settings=settings,
            )
        elif suppression == "nms_dynamic_trt":
            append_nms_dynamic_trt(
                exported,
                probabilities=_SCORES,
                offsets=_BOXES,
                anchors=model.anchors.detach().cpu().numpy(),
                variances=model.architecture.anchors.variances,
                classes=model.num_classes,
                settings=settings,
            )
        else:
            append_efficient_nms_trt(exported, probabilities=_SCORES, boxes=_BOXES, settings=settings)

    return append


def input_mean(architecture: Architecture, experiment: SSDExperiment) -> tuple[float, ...]:
    """Return what is subtracted from an image before the exported model sees it: (b, g, r) or (level,).

    It is the mean that ``inference`` uses. A spec for an export may do without ``augmentation_config``.
    """
    if experiment.augmentation is not None:
        return mean_of(experiment.augmentation)
    return GREY_MEAN if architecture.input_shape[0] == 1 else CAFFE_MEAN


def _metadata(model: SSD, experiment: SSDExperiment, suppression: Suppression) -> dict[str, Any]:
    """Return what a reader needs to feed the model and to understand its answers."""
    assert experiment.nms is not None
    return {
        "mean": input_mean(model.architecture, experiment),
        "input_scale": 1.0,
        "channel_order": "grey" if model.architecture.input_shape[0] == 1 else "BGR",
        "confidence_threshold": experiment.nms.confidence_threshold,
        "clustering_iou_threshold": experiment.nms.clustering_iou_threshold,
        "top_k": experiment.nms.top_k,
        "nms": suppression,
    }
