from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from taomagic.engine.backbones.base import keras_name
from taomagic.engine.pruning.prune import prune
from taomagic.engine.ssd.anchors import AnchorSettings
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.weights.state import parameter_count

HEADS = [f"ssd_{kind}_{level}" for kind in ("conf", "loc") for level in range(6)]


def network(nlayers: int) -> SSD:
    torch.manual_seed(1)
    anchors = AnchorSettings(
        aspect_ratios=((1.0, 2.0, 0.5),) * 6,
        scales=(0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95),
        two_boxes_for_ar1=True,
        clip_boxes=False,
        variances=(0.1, 0.1, 0.2, 0.2),
    )
    model = SSD(Architecture("resnet", nlayers, 0.25, (3, 96, 128), ("car", "person"), anchors))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 4 and "heads" not in name:
            parameter.data *= 10 ** torch.empty(parameter.shape[0], 1, 1, 1).uniform_(-2, 0)
    return model.eval()


@pytest.mark.parametrize("nlayers", [10, 18])
def test_a_pruned_ssd_is_rebuilt_from_its_table_of_widths(nlayers):
    model = network(nlayers)
    report = prune(model, threshold=0.3, granularity=4, min_filters=4, excluded=HEADS, layer_name=keras_name)
    small = SSD(replace(model.architecture, channels=report.channels))
    small.load_state_dict(report.state_dict, strict=True)
    assert parameter_count(model) == report.parameters_before
    assert parameter_count(small) == report.parameters_after
    assert report.ratio < 0.5
    scores, offsets = small.eval()(torch.randn(2, 3, 96, 128))
    assert scores.shape == (2, len(small.anchors), 3)
    assert offsets.shape == (2, len(small.anchors), 4)
    widths = {layer.name: layer.kept for layer in report.layers}
    assert widths["block_1a_conv_2"] == widths["block_1a_conv_shortcut"]


def test_pruning_twice_goes_on_from_the_pruned_widths():
    model = network(10)
    settings = {"granularity": 4, "min_filters": 4, "excluded": HEADS, "layer_name": keras_name}
    first = prune(model, threshold=0.2, **settings)
    small = SSD(replace(model.architecture, channels=first.channels))
    small.load_state_dict(first.state_dict)
    second = prune(small, threshold=0.6, **settings)
    smaller = SSD(replace(model.architecture, channels={**first.channels, **second.channels}))
    smaller.load_state_dict(second.state_dict, strict=True)
    assert parameter_count(smaller) < parameter_count(small)


def test_a_threshold_of_zero_gives_the_same_outputs():
    model = network(18)
    report = prune(model, threshold=0.0, excluded=HEADS, layer_name=keras_name)
    same = SSD(replace(model.architecture, channels=report.channels))
    same.load_state_dict(report.state_dict, strict=True)
    x = torch.randn(1, 3, 96, 128)
    assert all(torch.equal(a, b) for a, b in zip(same.eval()(x), model(x), strict=True))
