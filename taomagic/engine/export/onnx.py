"""SSD as an ONNX model that does everything from the preprocessed image to the detections."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import warnings
from typing import NamedTuple

import onnx
import torch
from torch import Tensor, nn
from torch.jit._trace import TracerWarning

from taomagic import __version__
from taomagic.engine.boxes import decode
from taomagic.engine.data.images import CAFFE_MEAN, GREY_MEAN, mean_of
from taomagic.engine.export.nms import append_nms
from taomagic.engine.export.tensor_scales import mark_quantizers, take_scales
from taomagic.engine.ssd.model import SSD, Architecture, parameter_count
from taomagic.errors import UsageProblem
from taomagic.spec.settings import SSDExperiment

INPUT = "Input"
#: The tail needs 12; PyTorch's TorchScript exporter, ten times as fast as the newer one, ends at 20.
OPSETS = range(12, 21)
_SCORES, _BOXES = "scores", "boxes"


class Exported(NamedTuple):
    """A serialised ONNX model, and the scales of its tensors by name if the network is quantisation-aware."""

    model: bytes
    tensor_scales: dict[str, float]


def export_onnx(
    model: SSD, experiment: SSDExperiment, *, opset: int = 17, batch_size: int | None = None
) -> bytes:
    """Return a network with its post-processing as a serialised ONNX model; see :func:`export_with_scales`."""
    return export_with_scales(model, experiment, opset=opset, batch_size=batch_size).model


def export_with_scales(
    model: SSD, experiment: SSDExperiment, *, opset: int = 17, batch_size: int | None = None
) -> Exported:
    """Return a network with its post-processing as a serialised ONNX model, and the scales of its tensors.

    The input ``Input`` is [N, C, H, W] float32: blue, green, red minus the mean (or grey minus the mean), in grey
    levels. The outputs are ``NMS`` [N, 1, top_k, 7] float32, rows of image, class (from 1), confidence, x1, y1, x2,
    y2 in shares of the image, best first, zero where there is nothing; and ``NMS_1`` [N, 1, 1, 1] int32, the number
    of detections. The model's metadata name classes, mean, colour order and thresholds.

    A quantisation-aware network is exported in float32: kernels as they were trained, and no quantisers.

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

    Raises
    ------
    UsageProblem
        The operator set isn't one of those.
    """
    if opset not in OPSETS:
        raise UsageProblem(
            f"--target_opset is {opset}, and must be {OPSETS[0]} to {OPSETS[-1]}",
            hint="Leave it out, or use 17, which every current runtime has.",
        )
    assert experiment.nms is not None  # validation demands it for an export
    twin = copy.deepcopy(model).cpu()
    if model.architecture.quantized:
        mark_quantizers(twin)
    exported = _trace(_Decoded(twin).eval(), model.architecture.input_shape, opset, batch_size)
    scales = take_scales(exported)
    append_nms(
        exported,
        scores=_SCORES,
        boxes=_BOXES,
        classes=model.num_classes - 1,
        anchors=len(model.anchors),
        settings=experiment.nms,
    )
    exported.producer_name = "taomagic"
    exported.producer_version = __version__
    onnx.helper.set_model_props(exported, _metadata(model, experiment))
    onnx.checker.check_model(exported, full_check=True)
    return Exported(bytes(exported.SerializeToString()), scales)


class _Decoded(nn.Module):
    """The network, with probabilities and boxes as the suppression wants them."""

    def __init__(self, model: SSD) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("variances", torch.tensor(model.architecture.anchors.variances))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities [N, classes, A] without the background, and corners [N, A, 4]."""
        scores, offsets = self.model(images)
        probabilities = torch.softmax(scores, dim=-1)[..., 1:].transpose(1, 2)
        variances = self.variances
        assert isinstance(variances, Tensor)
        return probabilities, decode(offsets, self.model.anchors, variances)


def _trace(
    network: nn.Module, input_shape: tuple[int, int, int], opset: int, batch_size: int | None
) -> onnx.ModelProto:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The exporter calls itself legacy. The newer one takes 10 s where this takes one, and needs two packages more.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", TracerWarning)
        warnings.filterwarnings("ignore", "Constant folding")  # of a padding, which the runtime folds itself
        torch.onnx.export(
            network,
            (torch.zeros(batch_size or 1, *input_shape),),
            buffer,  # type: ignore[arg-type]  # a file object is taken, as the exporter's own documentation says
            input_names=[INPUT],
            output_names=[_SCORES, _BOXES],
            dynamic_axes=None if batch_size else {name: {0: "N"} for name in (INPUT, _SCORES, _BOXES)},
            opset_version=opset,
            dynamo=False,
        )
    return onnx.load_from_string(buffer.getvalue())


def input_mean(architecture: Architecture, experiment: SSDExperiment) -> tuple[float, ...]:
    """Return what is subtracted from an image before the exported model sees it: (b, g, r) or (level,).

    It is the mean that ``inference`` uses. A spec for an export may do without ``augmentation_config``.
    """
    if experiment.augmentation is not None:
        return mean_of(experiment.augmentation)
    return GREY_MEAN if architecture.input_shape[0] == 1 else CAFFE_MEAN


def _metadata(model: SSD, experiment: SSDExperiment) -> dict[str, str]:
    """Return what a reader needs to feed the model and to understand its answers; all values are JSON."""
    assert experiment.nms is not None
    values = {
        "task": "ssd",
        "taomagic": __version__,
        "classes": model.architecture.classes,
        "input_shape": model.architecture.input_shape,
        "parameters": parameter_count(model),
        "mean": input_mean(model.architecture, experiment),
        "channel_order": "grey" if model.architecture.input_shape[0] == 1 else "BGR",
        "confidence_threshold": experiment.nms.confidence_threshold,
        "clustering_iou_threshold": experiment.nms.clustering_iou_threshold,
        "top_k": experiment.nms.top_k,
        "fingerprint": _fingerprint(model),
    }
    return {name: json.dumps(value) for name, value in values.items()}


def _fingerprint(model: SSD) -> str:
    """Return the SHA-256 of the architecture and the weights: the same for the same network, whatever the file."""
    digest = hashlib.sha256(json.dumps(model.architecture.to_json(), sort_keys=True).encode())
    for name, tensor in sorted(model.state_dict().items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
