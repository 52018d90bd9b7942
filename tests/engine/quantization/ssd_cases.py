"""Small quantisation-aware SSDs, and their ONNX models with integer arithmetic put back in."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from taomagic.engine.boxes import decode
from taomagic.engine.quantization import QuantizedConv2d
from taomagic.engine.quantization.fake_quantize import fake_quantize_weight
from taomagic.engine.ssd.anchors import AnchorSettings
from taomagic.engine.ssd.model import SSD, Architecture
from tests.engine.export.integers import insert_integers

ANCHORS = AnchorSettings(
    ((1.0, 2.0, 0.5),) * 6, (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.05), two_boxes_for_ar1=True, clip_boxes=False,
    variances=(0.1, 0.1, 0.2, 0.2),
)  # fmt: skip


def network(arch: str = "resnet", nlayers: int = 10, *, width: float = 0.125, quantized: bool = True) -> SSD:
    """Return a network for two classes, on images of 3×64×64."""
    torch.manual_seed(11)
    return SSD(
        Architecture(arch, nlayers, width, (3, 64, 64), ("car", "person"), ANCHORS, quantized=quantized)
    )


def images(count: int = 4) -> Tensor:
    """Return images as the network gets them, in grey levels around zero."""
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(5)) * 60


def seen(model: SSD, batches: int = 2) -> SSD:
    """Let a network find its statistics and scales; return it for use."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.5
    with torch.no_grad():
        for _ in range(batches):
            model.train()(images())
    return model.eval()


def with_rounded_kernels(model: SSD) -> SSD:
    """Put the rounded kernels in the place of the trained ones, for which the network is the same."""
    for module in model.modules():
        if isinstance(module, QuantizedConv2d):
            module.weight.data = fake_quantize_weight(module.weight.data)
    return model


def predictions(model: SSD, x: Tensor) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return probabilities [N, classes, A] and corners [N, A, 4] of the network."""
    with torch.inference_mode():
        scores, offsets = model(x)
        boxes = decode(offsets, model.anchors, torch.tensor(model.architecture.anchors.variances))
    return torch.softmax(scores, -1)[..., 1:].transpose(1, 2).numpy(), boxes.numpy()


def onnx_predictions(
    model: bytes, x: Tensor, scales: dict[str, float] | None = None
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the same of an exported model; with ``scales``, its tensors are rounded to 8-bit integers on the way."""
    proto = onnx.load_from_string(model)
    del proto.graph.output[:]
    for name in ("scores", "boxes"):
        proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    if scales is not None:
        insert_integers(proto.graph, scales)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    probabilities, boxes = session.run(["scores", "boxes"], {"Input": x.numpy()})
    return probabilities, boxes
