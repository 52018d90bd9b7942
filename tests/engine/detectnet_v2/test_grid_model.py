"""The network: shapes, names, and what differs from SSD's backbones."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from taomagic.engine.backbones.base import keras_name
from taomagic.engine.detectnet_v2.model import Architecture, DetectNet
from taomagic.engine.pruning.prune import prune


def architecture(**changes: Any) -> Architecture:
    base = Architecture("resnet", 18, 0.125, (3, 64, 96), ("car", "cyclist"), True, False, 35.0, 0.5)
    return replace(base, **changes)


ARCHITECTURES = [
    ("resnet", 10),
    ("resnet", 18),
    ("resnet", 34),
    ("resnet", 50),
    ("resnet", 101),
    ("vgg", 16),
    ("vgg", 19),
    ("googlenet", 0),
    ("mobilenet_v1", 0),
    ("mobilenet_v2", 0),
    ("squeezenet", 0),
    ("darknet", 19),
    ("darknet", 53),
    ("efficientnet_b0", 0),
]


@pytest.mark.parametrize(("arch", "nlayers"), ARCHITECTURES)
def test_every_backbone_gives_maps_of_stride_16(arch: str, nlayers: int) -> None:
    model = DetectNet(architecture(arch=arch, nlayers=nlayers)).eval()
    coverage, boxes = model(torch.rand(2, 3, 64, 96))
    assert model.grid == (4, 6)
    assert coverage.shape == (2, 2, 4, 6)
    assert model.by_class(boxes).shape == (2, 2, 4, 4, 6)
    assert bool(((coverage > 0) & (coverage < 1)).all())


def test_convolutions_have_biases_and_only_the_first_shortcut_of_a_stage_projects() -> None:
    model = DetectNet(architecture())
    names = {keras_name(name) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}
    assert all(layer.bias is not None for layer in model.modules() if isinstance(layer, nn.Conv2d))
    assert {"block_1a_conv_shortcut", "block_4a_conv_shortcut"} <= names
    assert "block_1b_conv_shortcut" not in names
    assert {"conv1", "output_bbox", "output_cov"} <= names
    every = DetectNet(architecture(all_projections=True))
    assert "backbone.block_1b.conv_shortcut" in dict(every.named_modules())


def test_batch_normalisation_is_optional() -> None:
    without = DetectNet(architecture(use_batch_norm=False))
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in without.modules())
    assert any(isinstance(layer, nn.BatchNorm2d) for layer in DetectNet(architecture()).modules())


def test_a_description_survives_json() -> None:
    one = architecture(channels={"conv1": 8}, quantized=True)
    assert Architecture.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(("arch", "nlayers"), [("resnet", 18), ("mobilenet_v2", 0), ("googlenet", 0)])
def test_a_network_prunes_and_is_built_again_from_its_channels(arch: str, nlayers: int) -> None:
    torch.manual_seed(0)
    wide = architecture(arch=arch, nlayers=nlayers, width_multiplier=0.5)
    model = DetectNet(wide).eval()
    report = prune(
        model,
        threshold=0.9,
        granularity=2,
        min_filters=2,
        excluded=("output_bbox", "output_cov"),
        layer_name=keras_name,
    )
    smaller = DetectNet(replace(wide, channels=report.channels)).eval()
    smaller.load_state_dict(report.state_dict)
    assert report.ratio < 1
    assert smaller(torch.rand(1, 3, 64, 96))[0].shape == (1, 2, 4, 6)


def test_a_quantised_network_trains() -> None:
    model = DetectNet(architecture(quantized=True))
    coverage, boxes = model(torch.rand(2, 3, 64, 96))
    (coverage.sum() + boxes.sum()).backward()
    first = model.get_parameter("backbone.conv1.weight")
    assert first.grad is not None
    assert bool(first.grad.abs().sum() > 0)


@pytest.mark.parametrize("quantized", [False, True])
def test_coverage_is_exact_in_mixed_precision(quantized: bool) -> None:
    model = DetectNet(architecture(nlayers=10, quantized=quantized)).eval()
    with torch.no_grad():
        model.heads["output_cov"].weight.zero_()
        model.heads["output_cov"].bias.fill_(9.0)
    with torch.autocast("cpu", torch.bfloat16):
        coverage, _ = model(torch.zeros(1, *model.architecture.input_shape))
    assert coverage.dtype == torch.float32
    assert coverage.max() < 1, "a half has no number between 0.996 and 1"
    (1 - coverage).log().mean().backward()
    slope = model.heads["output_cov"].bias.grad
    assert slope is not None
    assert slope.abs().min() > 0.1
