"""Every backbone of both networks, as ONNX and as engines of every precision, against the network in PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from torch import Tensor, nn

from taomagic.engine.boxes import decode
from taomagic.engine.converter.build import Precision, Source, build, prepare
from taomagic.engine.converter.calibration import calibrate
from taomagic.engine.converter.runtime import OnnxEngine, Profile
from taomagic.engine.detectnet_v2 import onnx_export as grid_export
from taomagic.engine.detectnet_v2.model import Architecture as GridArchitecture
from taomagic.engine.detectnet_v2.model import DetectNet
from taomagic.engine.detectnet_v2.predictor import BOXES, COVERAGE
from taomagic.engine.ssd.model import EXPANSIONS, SSD, Architecture
from taomagic.engine.ssd.onnx_export import export_onnx
from taomagic.spec.settings import NMSSettings
from tests.engine.export.export_cases import ANCHORS, experiment

Maps = dict[str, npt.NDArray[np.float32]]

#: Root mean square of the error, as a share of the standard deviation of the answers. Measured on a processor without
#: VNNI: up to 7e-6, 0.002 and 0.14.
BOUNDS: dict[Precision, float] = {"fp32": 5e-5, "fp16": 0.01, "int8": 0.25}
#: Swish and gates take eight bits badly without a training for them: up to 1.0 was measured, so for EfficientNet only
#: something like the right size of the answers is asked for. `compare` tells a person.
HARD = {("efficientnet_b0", "int8"): 1.5}
#: Smallest engines that have all that matters: several batches, and sizes that halve with a rest.
SHAPES = {"ssd": (1, 50, 65), "detectnet_v2": (3, 64, 96)}
#: One of each family and kind of block: what differs in the number of equal blocks needn't be built twice.
BACKBONES = (
    ("resnet", 10), ("resnet", 50), ("vgg", 16), ("darknet", 19), ("darknet", 53), ("googlenet", 0),
    ("mobilenet_v1", 0), ("mobilenet_v2", 0), ("squeezenet", 0), ("efficientnet_b0", 0),
)  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """These networks are too small for more, and threads that wait for each other take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Exported(NamedTuple):
    """A network as ONNX, images for it, and what it computes from them in PyTorch."""

    model: bytes
    images: npt.NDArray[np.float32]
    wanted: Maps


def settled(model: nn.Module, images: Tensor, *, by_channel: bool) -> None:
    """Scale each layer's answers to order one, as a training does.

    One number for a layer: normalised channel by channel, an untrained network of ReLUs blows up every rounding on its
    way, and would tell nothing of a precision. Swish, which lets negative values through, needs the channels' means.
    """

    def measure(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        assert module.running_mean is not None
        assert module.running_var is not None
        mean = inputs[0].mean((0, 2, 3)) if by_channel else torch.zeros(())
        module.running_mean.copy_(mean)
        module.running_var.fill_(float((inputs[0] - module.running_mean[:, None, None]).square().mean()))

    def rescale(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(module, nn.Conv2d)
        scale = 1 / output.std()
        module.weight.mul_(scale)
        if module.bias is not None:
            module.bias.mul_(scale)
        return output * scale

    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    hooks = [module.register_forward_pre_hook(measure) for module in norms]
    if not norms:  # SqueezeNet
        layers = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        hooks = [module.register_forward_hook(rescale) for module in layers]
    with torch.no_grad():
        model.eval()(images)
    for hook in hooks:
        hook.remove()


def exported(task: str, arch: str, layers: int) -> Exported:
    torch.manual_seed(layers + len(arch))
    shape = SHAPES[task]
    images = torch.randn(4, *shape)
    classes = ("car", "cyclist", "person")
    if task == "ssd":
        ssd = SSD(Architecture(arch, layers, 0.125, shape, classes, ANCHORS))
        settled(ssd, images, by_channel=arch == "efficientnet_b0")
        proto = onnx.load_from_string(export_onnx(ssd, experiment(NMSSettings(0.3, 0.5, 10, 0))))
        # Before the suppression, which turns differences of rounding into other boxes.
        for name in ("scores", "boxes"):
            proto.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        with torch.inference_mode():
            scores, offsets = ssd(images)
            probabilities = torch.softmax(scores, dim=-1)[..., 1:].transpose(1, 2)
            boxes = decode(offsets, ssd.anchors, torch.tensor(ANCHORS.variances))
        return Exported(
            proto.SerializeToString(),
            images.numpy(),
            {"scores": probabilities.numpy(), "boxes": boxes.numpy()},
        )
    grid = DetectNet(GridArchitecture(arch, layers, 0.125, shape, classes, True, False, 35.0, 0.5))
    settled(grid, images, by_channel=arch == "efficientnet_b0")
    with torch.inference_mode():
        coverage, sides = grid(images)
    wanted = {BOXES: sides.numpy(), COVERAGE: coverage.numpy()}
    return Exported(grid_export.export_with_scales(grid).model, images.numpy(), wanted)


def engine(source: Source, precision: Precision, ranges: dict[str, float]) -> OnnxEngine:
    header, payload = build(source, precision, Profile(1, 1, 3), ranges)
    return OnnxEngine(
        payload, header.metadata(), profile=header.batch, input_name=header.input_name, threads=1
    )


def test_the_matrix_has_every_family() -> None:
    assert {arch for arch, _ in BACKBONES} == {arch for arch, _ in EXPANSIONS}


@pytest.mark.parametrize(("arch", "layers"), BACKBONES)
@pytest.mark.parametrize("task", SHAPES)
def test_a_backbone_says_the_same_in_every_precision(task: str, arch: str, layers: int) -> None:
    case = exported(task, arch, layers)
    source = prepare(case.model)
    assert source.fixed_batch is None
    ranges = calibrate(source.simplified, [case.images], input_name=source.input_name)
    raw = OnnxEngine.of_model(case.model, threads=1).run(case.images)
    for name, wanted in case.wanted.items():
        np.testing.assert_allclose(raw[name], wanted, atol=1e-4)
    for precision, bound in BOUNDS.items():
        found = engine(source, precision, ranges).run(case.images)  # four images, three at most at once
        for name, wanted in case.wanted.items():
            assert wanted.std() > 0.001, "a constant would prove nothing"
            if precision == "fp32":
                np.testing.assert_allclose(found[name], wanted, atol=1e-4)
            error = float(np.sqrt(np.mean((found[name] - wanted) ** 2)) / wanted.std())
            assert error < HARD.get((arch, precision), bound), (
                f"{name} in {precision}: {error:.3g} of what the answers differ by"
            )
