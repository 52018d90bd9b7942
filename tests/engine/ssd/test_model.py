"""The network itself: names, shapes, rebuilding, and training steps that leave the memory alone."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from taomagic.engine.backbones import Widths
from taomagic.engine.backbones.base import keras_name
from taomagic.engine.backbones.layers import conv, pointwise
from taomagic.engine.backbones.resnet import ResidualBlock, block_layers
from taomagic.engine.ssd.anchors import AnchorSettings
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.weights.state import parameter_count

ANCHORS = AnchorSettings(
    ((1.0, 2.0, 0.5),) * 6, (0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.05), two_boxes_for_ar1=True, clip_boxes=False,
    variances=(0.1, 0.1, 0.2, 0.2),
)  # fmt: skip


def architecture(nlayers=10, width=0.125, shape=(3, 64, 96)):
    return Architecture("resnet", nlayers, width, shape, ("car", "cyclist", "pedestrian"), ANCHORS)


@pytest.mark.parametrize("nlayers", [10, 18])
@pytest.mark.parametrize("shape", [(3, 33, 33), (1, 64, 96), (3, 160, 480)])
def test_there_is_one_prediction_for_each_anchor_at_any_size(nlayers, shape):
    model = SSD(architecture(nlayers, shape=shape)).eval()
    scores, offsets = model(torch.zeros(2, *shape))
    assert scores.shape == (2, len(model.anchors), 4)
    assert offsets.shape == (2, len(model.anchors), 4)


def test_layers_have_the_names_of_taos_keras_models():
    names = {
        keras_name(path)
        for path, m in SSD(architecture(18)).named_modules()
        if isinstance(m, torch.nn.Conv2d)
    }
    assert {"conv1", "block_1a_conv_1", "block_2b_conv_2", "block_4a_conv_shortcut"} <= names
    assert {"ssd_expand_block_0_conv_0", "ssd_expand_block_4_conv_1", "ssd_conf_0", "ssd_loc_5"} <= names


def test_an_architecture_survives_json_and_rebuilds_a_pruned_network():
    pruned = replace(architecture(), channels={"block_3a_conv_1": 24, "ssd_expand_block_1_conv_0": 16})
    again = Architecture.from_json(pruned.to_json())
    assert again == pruned
    assert SSD(again).backbone.get_submodule("block_3a.conv_1").out_channels == 24


def test_parameters_are_counted_as_keras_does_with_batch_norm_statistics():
    block = ResidualBlock("block_1a", 8, block_layers(18, 8), 2, Widths())
    convolutions = 8 * 8 * 9 + 8 * 8 * 9 + 8 * 8
    assert parameter_count(block) == convolutions + 3 * 4 * 8


def test_a_strided_pointwise_convolution_is_the_same_function_in_training_and_outside():
    layer = conv(16, 24, 1, stride=2, bias=True)
    x = torch.randn(3, 16, 9, 12)
    assert torch.allclose(pointwise(layer.train(), x), pointwise(layer.eval(), x), atol=1e-6)


#: Before the shortcut left oneDNN's strided 1×1 backward alone, this died of heap corruption within seconds.
STEPS = """
import sys, torch
from tests.engine.ssd.test_model import SSD, architecture
torch.set_num_threads(int(sys.argv[1]))
for shape in ((3, 48, 144), (3, 64, 160)):
    for _ in range(4):
        model = SSD(architecture(shape=shape)).to(memory_format=torch.channels_last).train()
        for images in (5, 2):
            x = torch.randn(images, *shape).contiguous(memory_format=torch.channels_last)
            sum(part.sum() for part in model(x)).backward()
"""


@pytest.mark.parametrize("threads", ["1", "2"])
def test_training_steps_in_channels_last_memory_do_not_corrupt_it(threads):
    done = subprocess.run([sys.executable, "-c", STEPS, threads], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
