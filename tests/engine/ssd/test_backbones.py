"""Every backbone: shapes and weights against tables worked out by hand, names, freezing, training, pruning."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from taomagic.engine.backbones import Widths, build_backbone
from taomagic.engine.backbones.base import keras_name
from taomagic.engine.pruning.prune import prune
from taomagic.engine.ssd.anchors import AnchorSettings
from taomagic.engine.ssd.model import EXPANSIONS, SSD, Architecture
from taomagic.engine.ssd.weights import freeze
from taomagic.engine.weights.state import parameter_count
from taomagic.spec._backbones import BACKBONES

#: The SSD document's sample: 4, 6, 6, 6, 4 and 4 anchors a cell with the second box for ratio 1.
THREE, FIVE = (1.0, 2.0, 0.5), (1.0, 2.0, 0.5, 3.0, 1 / 3)
ANCHORS = AnchorSettings(
    (THREE, FIVE, FIVE, FIVE, THREE, THREE), (0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05), two_boxes_for_ar1=True,
    clip_boxes=False, variances=(0.1, 0.1, 0.2, 0.2),
)  # fmt: skip
CLASSES = ("car", "cyclist", "pedestrian")
HEADS = [f"ssd_{kind}_{level}" for kind in ("conf", "loc") for level in range(6)]

ALL = sorted(EXPANSIONS)
#: One of each family: what differs only in the number of equal blocks needn't be exported twice.
FAMILIES = [
    ("resnet", 34), ("resnet", 50), ("vgg", 16), ("darknet", 19), ("darknet", 53), ("googlenet", 0),
    ("mobilenet_v1", 0), ("mobilenet_v2", 0), ("squeezenet", 0), ("efficientnet_b0", 0),
]  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    """These networks are too small for more, and threads that wait for each other take most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def architecture(arch, nlayers, width=0.125, shape=(3, 64, 96)):
    return Architecture(arch, nlayers, width, shape, CLASSES, ANCHORS)


def on_paper(arch, nlayers, shape=(3, 300, 300)):
    """Return the full network without memory for its weights."""
    with torch.device("meta"):
        return SSD(architecture(arch, nlayers, 1.0, shape))


def lively(model):
    """Give the batch normalisation statistics of what it will see, as a training would."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(4, *model.architecture.input_shape))
    return model.eval()


def unit(kernel, inputs, outputs):
    """Weights of a convolution without bias and of its batch normalisation (scale, shift, mean, variance)."""
    return kernel * kernel * inputs * outputs + 4 * outputs


def basic(inputs, outputs):
    return unit(3, inputs, outputs) + unit(3, outputs, outputs) + unit(1, inputs, outputs)


def bottleneck(inputs, channels):
    wide = 4 * channels
    return (
        unit(1, inputs, channels)
        + unit(3, channels, channels)
        + unit(1, channels, wide)
        + unit(1, inputs, wide)
    )


def pair(channels):
    return unit(1, channels, channels // 2) + unit(3, channels // 2, channels)


def separable(inputs, outputs):
    return 9 * inputs + 4 * inputs + unit(1, inputs, outputs)


def inverted(inputs, outputs, *, residual=False):
    expanded = 6 * inputs
    block = unit(1, inputs, expanded) + separable(expanded, outputs)
    return block + (inputs * outputs if residual else 0)


def inception(inputs, one, reduce3, three, reduce5, five, pooled):
    return (
        unit(1, inputs, one) + unit(1, inputs, reduce3) + unit(3, reduce3, three) + unit(1, inputs, reduce5)
        + unit(5, reduce5, five) + unit(1, inputs, pooled)
    )  # fmt: skip


RESNET_50 = (
    unit(7, 3, 64) + bottleneck(64, 64) + 2 * bottleneck(256, 64) + bottleneck(256, 128) + 3 * bottleneck(512, 128)
    + bottleneck(512, 256) + 5 * bottleneck(1024, 256) + bottleneck(1024, 512) + 2 * bottleneck(2048, 512)
)  # fmt: skip
#: Weights of the backbones for three channels, as Keras counts them.
WEIGHTS = {
    ("resnet", 34): unit(7, 3, 64) + 3 * basic(64, 64) + basic(64, 128) + 3 * basic(128, 128) + basic(128, 256)
    + 5 * basic(256, 256) + basic(256, 512) + 2 * basic(512, 512),
    ("resnet", 50): RESNET_50,
    ("resnet", 101): RESNET_50 + 17 * bottleneck(1024, 256),
    # VGG's 14,714,688 published weights have 4,224 biases; batch normalisation has four numbers for each instead.
    ("vgg", 16): 14_714_688 + 3 * 4_224,
    ("vgg", 19): 20_024_384 + 3 * 5_504,
    ("darknet", 19): unit(3, 3, 32) + unit(3, 32, 64) + unit(3, 64, 128) + pair(128) + unit(3, 128, 256) + pair(256)
    + unit(3, 256, 512) + 2 * pair(512) + unit(3, 512, 1024) + 2 * pair(1024),
    # The published number of the body of YOLOv3.
    ("darknet", 53): 40_620_640,
    ("googlenet", 0): unit(7, 3, 64) + unit(1, 64, 64) + unit(3, 64, 192)
    + inception(192, 64, 96, 128, 16, 32, 32) + inception(256, 128, 128, 192, 32, 96, 64)
    + inception(480, 192, 96, 208, 16, 48, 64) + inception(512, 160, 112, 224, 24, 64, 64)
    + inception(512, 128, 128, 256, 24, 64, 64) + inception(512, 112, 144, 288, 32, 64, 64)
    + inception(528, 256, 160, 320, 32, 128, 128) + inception(832, 256, 160, 320, 32, 128, 128)
    + inception(832, 384, 192, 384, 48, 128, 128),
    ("mobilenet_v1", 0): unit(3, 3, 32) + separable(32, 64) + separable(64, 128) + separable(128, 128)
    + separable(128, 256) + separable(256, 256) + separable(256, 512) + 5 * separable(512, 512),
    ("mobilenet_v2", 0): unit(3, 3, 32) + separable(32, 16) + inverted(16, 24) + inverted(24, 24, residual=True)
    + inverted(24, 32) + 2 * inverted(32, 32, residual=True) + inverted(32, 64)
    + 3 * inverted(64, 64, residual=True) + inverted(64, 96) + 2 * inverted(96, 96, residual=True),
    # The published 1,248,424 without the classifier's 512·1000 weights and 1000 biases.
    ("squeezenet", 0): 1_248_424 - 513_000,
    # Keras' own network has 4,049,571 without its classifier, with 7 numbers that normalise its input.
    ("efficientnet_b0", 0): 4_049_571 - 7,
}  # fmt: skip

#: Channels of the taps and of the last map.
CHANNELS = {
    ("resnet", 34): ((128,), 512), ("resnet", 50): ((512,), 2048), ("resnet", 101): ((512,), 2048),
    ("vgg", 16): ((512,), 512), ("vgg", 19): ((512,), 512),
    ("darknet", 19): ((256, 512), 1024), ("darknet", 53): ((256, 512), 1024),
    ("googlenet", 0): ((480,), 1024), ("mobilenet_v1", 0): ((256,), 512), ("mobilenet_v2", 0): ((192,), 96),
    ("squeezenet", 0): ((512,), 512), ("efficientnet_b0", 0): ((240, 672), 1280),
}  # fmt: skip

#: (1×1, 3×3) channels of the expansion, as the network's taps leave room for.
LARGE = ((512, 512), (256, 512), (128, 256), (128, 256), (128, 256))
MEDIUM = ((256, 256), (128, 256), (64, 128), (64, 128), (64, 128))
SMALL = ((64, 128),) * 4
EXPANDED = {
    ("resnet", 34): MEDIUM, ("resnet", 50): LARGE, ("resnet", 101): LARGE, ("vgg", 16): LARGE, ("vgg", 19): LARGE,
    ("darknet", 19): MEDIUM[:4], ("darknet", 53): LARGE[:4], ("googlenet", 0): LARGE, ("mobilenet_v1", 0): SMALL,
    ("mobilenet_v2", 0): SMALL, ("squeezenet", 0): SMALL, ("efficientnet_b0", 0): LARGE[:4],
}  # fmt: skip


@pytest.mark.parametrize(("arch", "nlayers"), sorted(WEIGHTS))
def test_taps_and_weights_are_those_of_the_table(arch, nlayers):
    model = on_paper(arch, nlayers)
    taps, last = CHANNELS[arch, nlayers]
    assert (model.backbone.tap_channels, model.backbone.out_channels) == (taps, last)
    assert parameter_count(model.backbone) == WEIGHTS[arch, nlayers]
    weights, maps = WEIGHTS[arch, nlayers], [*taps]
    if EXPANDED[arch, nlayers] is SMALL:
        maps.append(last)
    channels = last
    for narrow, wide in EXPANDED[arch, nlayers]:
        weights += channels * narrow + narrow + unit(3, narrow, wide)
        channels = wide
        maps.append(wide)
    for depth, boxes in zip(maps, (4, 6, 6, 6, 4, 4), strict=True):
        outputs = boxes * (len(CLASSES) + 1) + boxes * 4
        weights += 9 * depth * outputs + outputs
    assert parameter_count(model) == weights


@pytest.mark.parametrize(("arch", "nlayers"), ALL)
def test_maps_and_anchors_are_those_of_the_reference(arch, nlayers):
    drops_odd_rows = (arch, nlayers) in {("darknet", 19), ("googlenet", 0)}  # poolings of 2×2
    model = on_paper(arch, nlayers)
    sizes = [37, 18, 9, 5, 3, 2] if drops_odd_rows else [38, 19, 10, 5, 3, 2]
    assert model.feature_sizes == [(n, n) for n in sizes]
    # 38²·4 + 19²·6 + 10²·6 + 5²·6 + 3²·4 + 2²·4, and with 37, 18 and 9.
    assert len(model.anchors) == (8108 if drops_odd_rows else 8744)
    wide = on_paper(arch, nlayers, (1, 256, 512))
    assert wide.feature_sizes == [(32, 64), (16, 32), (8, 16), (4, 8), (2, 4), (1, 2)]


@pytest.mark.parametrize(("arch", "nlayers"), FAMILIES)
@pytest.mark.parametrize("shape", [(1, 33, 33), (3, 34, 97)])
def test_any_size_and_grey_images_give_a_prediction_for_each_anchor(arch, nlayers, shape):
    model = SSD(architecture(arch, nlayers, shape=shape)).eval()
    with torch.no_grad():
        scores, offsets = model(torch.randn(2, *shape))
    assert scores.shape == (2, len(model.anchors), 4)
    assert offsets.shape == (2, len(model.anchors), 4)


NAMES = {
    (
        "resnet",
        50,
    ): "conv1 bn_conv1 block_1a_conv_3 block_1a_bn_3 block_3f_conv_shortcut block_3f_bn_shortcut",
    ("vgg", 19): "block_1a_conv_1 block_1b_bn_1 block_5d_conv_1",
    ("darknet", 19): "conv1 conv1_bn b1_conv1 b5_conv5 b5_conv5_bn",
    ("darknet", 53): "conv1 conv6 b1_conv1_1 b3_conv8_2 b3_conv8_2_bn",
    ("googlenet", 0): "conv1 bn_conv1 conv2_reduce bn_conv2_reduce inception_3a_1x1 inception_3a_1x1_bn "
    "inception_4e_5x5_reduce inception_5b_pool_proj",
    ("mobilenet_v1", 0): "conv1 conv1_bn conv_dw_1 conv_dw_1_bn conv_pw_11 conv_pw_11_bn",
    ("mobilenet_v2", 0): "conv1 bn_conv1 expanded_conv_depthwise expanded_conv_project_bn block_1_expand "
    "block_12_depthwise_bn block_12_project block_2_projected_inputs",
    ("squeezenet", 0): "conv1 fire2_squeeze_conv fire9_expand_conv1x1 fire9_expand_conv3x3",
    ("efficientnet_b0", 0): "stem_conv stem_bn block1a_dwconv block1a_bn block1a_se_reduce block1a_se_expand "
    "block2a_expand_conv block2a_expand_bn block7a_project_conv block7a_project_bn top_conv top_bn",
}


@pytest.mark.parametrize(("arch", "nlayers"), sorted(NAMES))
def test_layers_have_the_names_of_taos_keras_models(arch, nlayers):
    layers = [
        keras_name(path)
        for path, module in on_paper(arch, nlayers).named_modules()
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d)
    ]
    assert set(NAMES[arch, nlayers].split()) <= set(layers)
    assert len(set(layers)) == len(layers)


@pytest.mark.parametrize(("arch", "nlayers"), ALL)
def test_the_spec_knows_the_blocks_of_the_network(arch, nlayers):
    first, last, _ = BACKBONES[arch].blocks
    backbone = on_paper(arch, nlayers).backbone
    assert list(backbone.blocks()) == list(range(first, last + 1))
    frozen = [m for modules in backbone.blocks().values() for module in modules for m in module.modules()]
    assert {m for m in frozen if isinstance(m, nn.Conv2d)} == {
        m for m in backbone.modules() if isinstance(m, nn.Conv2d)
    }


@pytest.mark.parametrize(("arch", "nlayers"), FAMILIES)
def test_frozen_blocks_get_no_gradients_and_frozen_statistics_stay(arch, nlayers):
    model = SSD(architecture(arch, nlayers, shape=(3, 40, 40))).train()
    freeze(model, (1, 2), batch_norm=True)
    statistics = {n: b.clone() for n, b in model.backbone.named_buffers()}
    sum(part.sum() for part in model(torch.randn(2, 3, 40, 40))).backward()
    blocks = {
        block: [m for module in modules for m in module.modules() if isinstance(m, nn.Conv2d)]
        for block, modules in model.backbone.blocks().items()
    }
    for block, layers in blocks.items():
        assert layers
        assert all((layer.weight.grad is None) == (block in (1, 2)) for layer in layers)
    norms = [m for m in model.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(norm.weight.grad is not None for norm in norms)
    assert all(torch.equal(b, statistics[n]) for n, b in model.backbone.named_buffers())
    assert bool(norms) == (arch != "squeezenet")


def test_a_width_multiplier_never_widens_what_is_narrow_anyhow():
    narrow = build_backbone("efficientnet_b0", 0, (3, 64, 64), Widths(0.25))
    assert narrow.get_submodule("block2a_se_reduce").out_channels == 4
    assert narrow.get_submodule("block7a_project_conv").out_channels == 80


#: oneDNN corrupts the memory in the backward pass of some strided convolutions, see `pointwise`.
STEPS = """
import torch
from tests.engine.ssd.test_backbones import FAMILIES, SSD, architecture
torch.set_num_threads(1)
for arch, nlayers in FAMILIES:
    shape = (3, 48, 144)
    model = SSD(architecture(arch, nlayers, shape=shape)).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    for images in (5, 2):
        x = torch.randn(images, *shape).contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        sum(part.square().mean() for part in model(x)).backward()
        optimizer.step()
    assert all(p.grad is not None and p.isfinite().all() for p in model.parameters()), arch
"""


def test_training_steps_in_channels_last_memory_run():
    done = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@torch.no_grad()
def silence(model, channels):
    """Make the first filters of every layer but the heads give zero, whatever they see."""
    for path, module in model.named_modules():
        if keras_name(path) in HEADS or not isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            continue
        module.weight[:channels] = 0
        if module.bias is not None:
            module.bias[:channels] = 0


@pytest.mark.parametrize(("arch", "nlayers"), FAMILIES)
def test_cutting_filters_that_give_zero_changes_nothing(arch, nlayers):
    torch.manual_seed(1)
    model = lively(SSD(architecture(arch, nlayers, shape=(3, 50, 65))))
    silence(model, 2)
    report = prune(model, threshold=0.0, granularity=1, min_filters=1, excluded=HEADS, layer_name=keras_name)
    assert {layer.total - layer.kept for layer in report.layers if layer.name not in HEADS} == {2}
    small = SSD(replace(model.architecture, channels=report.channels))
    small.load_state_dict(report.state_dict, strict=True)
    assert parameter_count(small) == report.parameters_after < parameter_count(model)
    x = torch.randn(2, 3, 50, 65)
    with torch.no_grad():
        for cut, whole in zip(small.eval()(x), model(x), strict=True):
            torch.testing.assert_close(cut, whole, atol=1e-4, rtol=1e-4)
