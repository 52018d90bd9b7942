"""Backbones with torchvision's weights compute what torchvision's networks compute, on the same images."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from taomagic.engine.backbones import Widths, build_backbone
from taomagic.engine.backbones.torchvision_names import recognise
from taomagic.engine.backbones.torchvision_weights import Preprocessing, norms_behind, take
from taomagic.engine.ssd.model import EXPANSIONS
from tests.engine.ssd import torchvision_nets as nets

IMAGENET = torch.tensor([0.485, 0.456, 0.406]) * 255, torch.tensor([0.229, 0.224, 0.225]) * 255
HALF = torch.full((3,), 127.5), torch.full((3,), 127.5)
CAFFE = (103.939, 116.779, 123.68)

NETWORKS = {
    "resnet18": (("resnet", 18), lambda: nets.ResNet(18), IMAGENET),
    "resnet50": (("resnet", 50), lambda: nets.ResNet(50), IMAGENET),
    "vgg16": (("vgg", 16), lambda: nets.VGG(16, norm=False), IMAGENET),
    "vgg16_bn": (("vgg", 16), lambda: nets.VGG(16, norm=True), IMAGENET),
    "mobilenet_v2": (("mobilenet_v2", 0), nets.MobileNetV2, IMAGENET),
    "mobilenet_v2, names of before 0.4": (("mobilenet_v2", 0), lambda: nets.MobileNetV2(old=True), IMAGENET),
    "squeezenet1_0": (("squeezenet", 0), lambda: nets.SqueezeNet("1.0"), IMAGENET),
    "googlenet": (("googlenet", 0), nets.GoogLeNet, HALF),
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def image(seed: int = 0, side: int = 48) -> Tensor:
    """Return a smooth picture [1, 3, side, side]: red, green and blue from 0 to 255."""
    small = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(seed)) * 255
    return nn.functional.interpolate(small, size=(side, side), mode="bilinear")


def ours(picture: Tensor, mean: tuple[float, ...]) -> Tensor:
    """Return the picture as SSD's networks get it: blue, green, red minus the mean."""
    return picture.flip(1) - torch.tensor(mean).view(1, 3, 1, 1)


def theirs(picture: Tensor, statistics: tuple[Tensor, Tensor]) -> Tensor:
    """Return the picture as torchvision's networks get it."""
    mean, std = (values.view(1, 3, 1, 1) for values in statistics)
    return (picture - mean) / std


def backbone_with(state: dict[str, Tensor], of: tuple[str, int], mean: tuple[float, ...], channels: int = 3):
    with torch.device("meta"):
        backbone = build_backbone(*of, (channels, 64, 64), Widths())
    backbone.to_empty(device="cpu")
    network = recognise(state)
    assert network is not None
    assert network.backbone == of
    taken = take(backbone, network, state, Preprocessing(mean))
    backbone.load_state_dict(taken.tensors, strict=False)
    return backbone.eval(), taken


def assert_same(got: Tensor, wanted: Tensor) -> None:
    assert got.shape == wanted.shape
    assert float(wanted.abs().max()) > 1e-3  # a comparison of zeros would tell nothing
    torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_a_backbone_gives_the_output_of_the_network_whose_weights_it_took(name: str):
    of, build, statistics = NETWORKS[name]
    network = nets.with_random_numbers(build)
    # The same mean on both sides, so that the zeros beyond the borders mean the same as well.
    mean = tuple(statistics[0].flip(0).tolist())
    backbone, taken = backbone_with(network.state_dict(), of, mean)
    picture = image()
    assert_same(backbone(ours(picture, mean))[-1], network(theirs(picture, statistics)))
    assert taken.misfits == ()
    own = {n for n in backbone.state_dict() if not n.endswith("num_batches_tracked")}
    assert set(taken.tensors) == own
    compared = {n for n in network.state_dict() if not n.endswith("num_batches_tracked")}
    # What lies behind the backbone's last layer: classifiers, and of MobileNetV2 a block.
    ignored = ("fc.", "classifier.", "aux1.", *(("features.14.",) if name.startswith("mobilenet") else ()))
    assert taken.used == sum(not n.startswith(ignored) for n in compared)


@pytest.mark.parametrize(
    ("of", "build"),
    [
        (("resnet", 34), lambda: nets.ResNet(34)),
        (("resnet", 101), lambda: nets.ResNet(101)),
        (("vgg", 19), lambda: nets.VGG(19, norm=False)),
        (("vgg", 19), lambda: nets.VGG(19, norm=True)),
    ],
)
def test_larger_networks_of_the_same_kind_are_taken_whole(
    of: tuple[str, int], build: Callable[[], nn.Module]
):
    with torch.device("meta"):  # shapes are enough, and these have many millions of weights
        shapes = {name: tensor.shape for name, tensor in build().state_dict().items()}
        backbone = build_backbone(*of, (3, 64, 64), Widths())
    state = {name: torch.tensor(0.0).expand(shape) for name, shape in shapes.items()}
    network = recognise(state)
    assert network.backbone == of
    taken = take(backbone, network, state, Preprocessing(CAFFE))
    assert taken.misfits == ()
    assert set(taken.tensors) == {n for n in backbone.state_dict() if not n.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name", ["resnet18", "vgg16", "squeezenet1_0", "googlenet"])
@torch.no_grad()
def test_another_image_mean_is_made_up_for(name: str):
    of, build, statistics = NETWORKS[name]
    network = nets.with_random_numbers(build)
    picture = image(1)
    first = recognise(network.state_dict()).units[0]
    layers = dict(network.named_modules())
    wanted = layers[first.theirs](theirs(picture, statistics))
    if first.norm:
        wanted = layers[first.norm](wanted)
    for mean in (CAFFE, (0.0, 0.0, 0.0)):
        backbone, _ = backbone_with(network.state_dict(), of, mean)
        got = backbone.get_submodule(first.ours)(ours(picture, mean))
        norm = norms_behind(backbone).get(first.ours)
        if norm is not None:
            got = backbone.get_submodule(norm)(got)
        # Not at the borders: the zeros beyond them are another colour.
        assert_same(got[:, :, 4:-4, 4:-4], wanted[:, :, 4:-4, 4:-4])


@pytest.mark.parametrize("name", ["mobilenet_v2", "squeezenet1_0"])
@torch.no_grad()
def test_a_backbone_for_grey_images_sees_a_colour_image_without_colours(name: str):
    of, build, statistics = NETWORKS[name]
    network = nets.with_random_numbers(build)
    level = image(2, side=160)[:, :1]
    backbone, _ = backbone_with(network.state_dict(), of, (117.3786,), channels=1)
    got = backbone(level - 117.3786)[-1]
    wanted = network(theirs(level.expand(1, 3, -1, -1), statistics))
    # What lies beyond the borders is another colour with each mean, so the middle is compared, and not too sharply.
    difference = (got - wanted)[:, :, 1:-1, 1:-1].abs().mean()
    assert float(difference) < 0.02 * float(wanted.abs().mean())


@torch.no_grad()
def test_in_training_mode_a_taken_layer_still_gives_the_original_output():
    """Statistics of a batch undo the scale of the first convolution as well as stored ones do."""
    network = nets.with_random_numbers(nets.MobileNetV2).train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_var.fill_(1.0)  # so that gamma isn't changed for epsilon's sake
    mean = tuple(IMAGENET[0].flip(0).tolist())
    backbone, _ = backbone_with(network.state_dict(), ("mobilenet_v2", 0), mean)
    backbone.train()
    picture = torch.cat([image(3), image(4)])
    got = backbone.bn_conv1(backbone.conv1(ours(picture, mean)))
    wanted = network.features[0][1](network.features[0][0](theirs(picture, IMAGENET)))
    torch.testing.assert_close(got, wanted, rtol=0.02, atol=0.02)


def test_the_first_convolution_keeps_the_size_of_its_weights_where_a_normalisation_follows():
    network = nets.with_random_numbers(lambda: nets.ResNet(18))
    backbone, _ = backbone_with(network.state_dict(), ("resnet", 18), CAFFE)
    ratio = float((backbone.conv1.weight.norm() / network.conv1.weight.norm()).detach())
    assert ratio == pytest.approx(1.0, abs=0.02)


def test_of_squeezenet_1_1_everything_but_the_first_two_convolutions_fits():
    network = nets.with_random_numbers(lambda: nets.SqueezeNet("1.1"))
    backbone, taken = backbone_with(network.state_dict(), ("squeezenet", 0), CAFFE)
    assert [misfit[0] for misfit in taken.misfits] == ["conv1", "fire2_squeeze_conv"]
    assert torch.equal(backbone.fire9_expand_conv3x3.weight, network.features[12].expand3x3.weight)
    assert "fire2_squeeze_conv.bias" not in taken.tensors  # it belongs to weights that don't fit


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "backbone.body."])
def test_names_may_have_anything_before_them(prefix: str):
    network = nets.with_random_numbers(nets.MobileNetV2)
    state = {f"{prefix}{name}": tensor for name, tensor in network.state_dict().items()}
    state["head.weight"] = torch.zeros(3, 3)
    _, taken = backbone_with(state, ("mobilenet_v2", 0), CAFFE)
    assert taken.misfits == ()
    assert recognise(state).prefix == prefix


@given(
    missing=st.sets(st.sampled_from(sorted(nets.SqueezeNet("1.0").state_dict())), max_size=6),
    cut=st.sampled_from([None, "features.5.squeeze.weight", "features.5.squeeze.bias"]),
)
@settings(max_examples=25, deadline=None)
def test_a_convolution_is_taken_whole_or_not_at_all(missing: set[str], cut: str | None):
    state = dict(nets.with_random_numbers(lambda: nets.SqueezeNet("1.0")).state_dict())
    for name in missing:
        del state[name]
    if cut in state:
        state[cut] = state[cut][:-1]
    network = recognise(state)
    if network is None or network.title != "SqueezeNet 1.0":
        assert "features.3.squeeze.weight" in missing
        return
    with torch.device("meta"):
        backbone = build_backbone("squeezenet", 0, (3, 64, 64), Widths())
    taken = take(backbone, network, state, Preprocessing(CAFFE))
    shapes = {name: tensor.shape for name, tensor in backbone.state_dict().items()}
    assert all(tensor.shape == shapes[name] for name, tensor in taken.tensors.items())
    damaged = {name.rpartition(".")[0] for name in missing | ({cut} if cut else set())}
    misfits = {unit.theirs for unit in network.units if unit.ours in {m[0] for m in taken.misfits}}
    assert misfits == damaged
    assert len(taken.tensors) == 2 * (len(network.units) - len(misfits)) == taken.used


@pytest.mark.parametrize(("arch", "nlayers"), sorted(EXPANSIONS))
def test_every_normalisation_is_known_by_the_convolution_before_it(arch: str, nlayers: int):
    widths = Widths(0.25)
    backbone = build_backbone(arch, nlayers, (3, 64, 64), widths)
    pairs = norms_behind(backbone)
    norms = {path for path, layer in backbone.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    assert set(pairs.values()) == norms
    for conv, norm in pairs.items():
        assert backbone.get_submodule(conv).out_channels == backbone.get_submodule(norm).num_features
        assert conv.split(".")[:-1] == norm.split(".")[:-1]


@pytest.mark.parametrize(
    ("names", "title"),
    [
        (["features.1.0.block.0.0.weight"], "EfficientNet"),
        (["features.conv0.weight"], "DenseNet"),
        (["layer1.0.conv1.weight", "layer2.0.conv1.weight"], "ResNet with 1+1+0+0 blocks"),
        (["features.0.weight", "features.3.weight"], "2 convolutions in a row"),
    ],
)
def test_networks_without_a_backbone_here_are_named(names: list[str], title: str):
    network = recognise({name: torch.zeros(64, 3, 3, 3) for name in names})
    assert network is not None
    assert network.backbone is None
    assert title in network.title


def test_names_of_no_network_are_not_taken_for_one():
    assert recognise({"encoder.weight": torch.zeros(2, 2), "layer1.weight": torch.zeros(2)}) is None
