"""What ``-m`` starts a training from: our own files, Keras files of NVIDIA's layout, PyTorch's, and what it refuses."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from taomagic.engine.backbones.base import keras_name
from taomagic.engine.ssd import weights
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.storage import container
from taomagic.engine.storage.model_file import load_model
from taomagic.engine.weights.initial import write_initial
from taomagic.engine.weights.state import portable_state
from taomagic.errors import ModelFileProblem
from taomagic.spec.ssd import read_experiment
from tests.engine.keras_files import keras_layers, write_keras
from tests.engine.ssd import torchvision_nets as nets

KEY = "a key"
CLASSES = ("car", "cyclist", "pedestrian")
SPEC = """
ssd_config {{
  aspect_ratios_global: "[1.0, 2.0]"
  scales: "[0.16, 0.3, 0.5, 0.7, 0.9, 1.0, 1.05]"
  two_boxes_for_ar1: true
  variances: "[0.1, 0.1, 0.2, 0.2]"
  {network}
}}
training_config {{
  batch_size_per_gpu: 5
  num_epochs: 3
  learning_rate {{ soft_start_annealing_schedule {{
    min_learning_rate: 1e-4 max_learning_rate: 1e-2 soft_start: 0.2 annealing: 0.7 }} }}
  regularizer {{ type: L1 weight: 3e-6 }}
}}
eval_config {{ validation_period_during_training: 2 batch_size: 4 matching_iou_threshold: 0.5 }}
nms_config {{ confidence_threshold: 0.01 clustering_iou_threshold: 0.6 top_k: 50 }}
augmentation_config {{ output_width: 64 output_height: 64 output_channel: {channels} }}
dataset_config {{
  data_sources {{ tfrecords_path: "/data/train*" }}
  target_class_mapping {{ key: "car" value: "car" }}
  target_class_mapping {{ key: "pedestrian" value: "pedestrian" }}
  target_class_mapping {{ key: "cyclist" value: "cyclist" }}
}}
"""
RESNET = 'arch: "resnet" nlayers: 10 width_multiplier: 0.125'


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    monkeypatch.setattr(container, "SCRYPT_COST", (10, 1, 1))
    caplog.set_level(logging.INFO)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Start:
    """Begins trainings of a spec in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def experiment(self, network: str = RESNET, channels: int = 3):
        path = self.folder / "spec.txt"
        path.write_text(SPEC.format(network=network, channels=channels))
        return read_experiment(path, purpose="train")

    def model(self, network: str = RESNET, channels: int = 3, classes=CLASSES) -> SSD:
        """Return the spec's network with random numbers everywhere."""
        model = SSD(Architecture.from_experiment(self.experiment(network, channels), classes))
        generator = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if tensor.is_floating_point():
                    drawn = torch.rand(tensor.shape, generator=generator)
                    tensor.copy_(drawn if name.endswith("running_var") else drawn - 0.5)
        return model

    def __call__(
        self, name: str, network: str = RESNET, channels: int = 3, classes=CLASSES, key: str = KEY
    ) -> SSD:
        experiment = self.experiment(network, channels)
        return weights.starting_model(experiment, classes, self.folder / name, key, f"/workspace/{name}")

    def refused(self, name: str, *arguments: object, **more: object) -> ModelFileProblem:
        """Return the error, and check that it is complete."""
        with pytest.raises(ModelFileProblem) as caught:
            self(name, *arguments, **more)
        assert caught.value.where == f"/workspace/{name}"
        assert caught.value.hint
        assert "\n" not in caught.value.message
        return caught.value


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return Start(tmp_path)


def assert_taken(model: SSD, source: dict[str, Tensor], *, only: str = "") -> None:
    state = portable_state(model)
    names = [name for name in state if name.startswith(only)]
    assert names
    for name in names:
        assert torch.equal(state[name], source[name]), name


# --- our own files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.tlt", "model.hdf5"])
def test_a_checkpoint_of_ours_starts_a_training_whatever_its_name(start: Start, name: str, caplog):
    source = start.model()
    weights.save(start.folder / name, source, KEY, epoch=3)
    (start.folder / name).rename(start.folder / "renamed.h5")
    model = start("renamed.h5")
    assert_taken(model, portable_state(source))
    assert "random" not in caplog.text
    count = len(portable_state(source))
    assert f"Took {count} of {count} tensors" in caplog.text


def test_new_classes_get_new_heads_and_the_rest_is_taken(start: Start, caplog):
    weights.save(start.folder / "model.tlt", start.model(classes=("cat",)), KEY)
    model = start("model.tlt")
    assert_taken(model, portable_state(start.model(classes=("cat",))), only="backbone.")
    assert_taken(model, portable_state(start.model(classes=("cat",))), only="expansion.")
    assert "behind the backbone start with random values: ssd_conf_0" in caplog.text
    assert "layers of the backbone start" not in caplog.text


def test_the_backbone_of_a_detectnet_starts_an_ssd(start: Start):
    """As in TAO, which goes by layer names; and so is the stand-in for NVIDIA's weights."""
    write_initial(start.folder / "resnet_10.hdf5", "resnet", 10, 0.125)
    model = start("resnet_10.hdf5")
    source = load_model(start.folder / "resnet_10.hdf5", "").weights
    taken = portable_state(model)
    kernels = {
        name: tensor for name, tensor in source.items() if name.startswith("backbone.") and tensor.dim() == 4
    }
    assert [n for n, tensor in kernels.items() if not torch.equal(tensor, taken[n])] == [
        "backbone.conv1.weight"
    ]
    assert torch.equal(taken["backbone.conv1.weight"], source["backbone.conv1.weight"].flip(1))
    assert start.refused("resnet_10.hdf5", RESNET.replace("10", "18")).message.endswith("builds resnet 18")
    assert "width_multiplier" in (start.refused("resnet_10.hdf5", RESNET.replace("0.125", "0.25")).hint or "")


def test_a_file_of_another_width_brings_its_channels(start: Start, caplog):
    source = start.model(RESNET.replace("0.125", "0.25"))
    weights.save(start.folder / "model.hdf5", source, "")
    model = start("model.hdf5")
    assert model.architecture.width_multiplier == 0.25
    assert_taken(model, portable_state(source))
    assert "width_multiplier 0.25" in caplog.text
    error = start.refused("model.hdf5", classes=("cat",))
    assert "width" in error.message
    assert "0.25" in error.hint


@pytest.mark.parametrize("suffix", [".tlt", ".hdf5"])
def test_weights_of_another_architecture_are_refused(start: Start, suffix: str):
    weights.save(start.folder / f"m{suffix}", start.model('arch: "squeezenet" width_multiplier: 0.25'), KEY)
    error = start.refused(f"m{suffix}")
    assert "squeezenet" in error.message
    assert "resnet 10" in error.message
    weights.save(
        start.folder / f"n{suffix}", start.model('arch: "resnet" nlayers: 50 width_multiplier: 0.125'), KEY
    )
    assert "resnet 50" in start.refused(f"n{suffix}").message


def test_a_wrong_key_is_called_one(start: Start):
    weights.save(start.folder / "model.tlt", start.model(), KEY)
    assert "key is not the one" in start.refused("model.tlt", key="other").message
    assert "key is empty" in start.refused("model.tlt", key="").message


@pytest.mark.parametrize("damage", ["no task", "arch", "anchors", "text"])
def test_a_damaged_description_is_one_clear_error(start: Start, damage: str):
    weights.save(start.folder / "m.hdf5", start.model(), "")
    with h5py.File(start.folder / "m.hdf5", "r+") as file:
        described = json.loads(b"".join(file.attrs["taomagic"]))
        if damage == "no task":
            del described["architecture"]["task"]
        elif damage == "text":
            described["architecture"] = "resnet"
        else:
            described["architecture"][damage] = None
        file.attrs["taomagic"] = np.array([json.dumps(described).encode()])
    start.refused("m.hdf5")
    with pytest.raises(ModelFileProblem):
        weights.model_from_file(start.folder / "m.hdf5", "")


# --- Keras files -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["model", "weights", "nested", "tf2"])
@pytest.mark.parametrize(
    "network",
    [RESNET, 'arch: "mobilenet_v2" width_multiplier: 0.125', 'arch: "squeezenet" width_multiplier: 0.125'],
)
def test_a_pretrained_backbone_in_keras_layout_is_taken_by_layer_name(
    start: Start, network: str, form: str, caplog
):
    source = start.model(network)
    layers = {**keras_layers(source, backbone_only=True), "predictions": {"kernel": np.zeros((8, 5), "f4")}}
    write_keras(start.folder / "resnet_18.hdf5", layers, form=form)
    model = start("resnet_18.hdf5", network)
    assert_taken(model, portable_state(source), only="backbone.")
    assert "layers of the backbone start" not in caplog.text
    assert "behind the backbone start with random values: ssd_expand" in caplog.text


def test_layers_that_a_keras_file_lacks_are_reported_and_stay_random(start: Start, caplog):
    source = start.model()
    layers = keras_layers(source, backbone_only=True)
    del layers["block_3a_conv_1"], layers["block_3a_bn_1"]
    write_keras(start.folder / "resnet_10.hdf5", layers)
    model = start("resnet_10.hdf5")
    missing = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(missing) == 1
    assert missing[0].getMessage().endswith("block_3a_conv_1, block_3a_bn_1")
    assert torch.equal(model.backbone.block_4a.conv_1.weight, source.backbone.block_4a.conv_1.weight)
    assert not torch.equal(model.backbone.block_3a.conv_1.weight, source.backbone.block_3a.conv_1.weight)


@torch.no_grad()
def test_a_bias_that_only_the_file_has_is_folded_into_the_normalisation(start: Start):
    source = start.model()
    layers = keras_layers(source, backbone_only=True)
    bias = np.linspace(-1, 1, source.backbone.conv1.out_channels, dtype="f4")
    layers["conv1"]["bias"] = bias
    write_keras(start.folder / "resnet_10.hdf5", layers)
    model = start("resnet_10.hdf5").eval()
    images = torch.rand(1, 3, 64, 64)
    source.eval()
    got = model.backbone.bn_conv1(model.backbone.conv1(images))
    wanted = source.backbone.bn_conv1(source.backbone.conv1(images) + torch.from_numpy(bias)[:, None, None])
    torch.testing.assert_close(got, wanted)


@torch.no_grad()
def test_a_colour_file_starts_a_grey_network_and_the_other_way_round(start: Start, caplog):
    source = start.model()
    write_keras(start.folder / "colour.hdf5", keras_layers(source, backbone_only=True))
    grey = start("colour.hdf5", channels=1)
    level = torch.rand(1, 1, 64, 64)
    torch.testing.assert_close(grey.backbone.conv1(level), source.backbone.conv1(level.expand(-1, 3, -1, -1)))
    assert_taken(grey, portable_state(source), only="backbone.block_1a.")

    weights.save(start.folder / "grey.tlt", grey, KEY)
    colour = start("grey.tlt")
    image = torch.rand(1, 3, 64, 64)
    shares = torch.tensor([0.114, 0.587, 0.299]).view(1, 3, 1, 1)
    wanted = grey.backbone.conv1((image * shares).sum(dim=1, keepdim=True))
    torch.testing.assert_close(colour.backbone.conv1(image), wanted)
    assert "summed up for grey" in caplog.text
    assert "spread over blue" in caplog.text


def pruned(model: SSD, **channels: int) -> SSD:
    return SSD(replace(model.architecture, channels=channels))


@pytest.mark.parametrize("backbone_only", [True, False])
def test_a_pruned_keras_file_brings_its_own_channels(start: Start, backbone_only: bool, caplog):
    cut = {"conv1": 5, "block_2a_conv_1": 7, "block_4a_conv_2": 24}
    more = {} if backbone_only else {"ssd_expand_block_2_conv_0": 3, "ssd_expand_block_3_conv_1": 11}
    source = pruned(start.model(), **cut, **more)
    write_keras(start.folder / "pruned.hdf5", keras_layers(source, backbone_only=backbone_only))
    model = start("pruned.hdf5")
    assert model.architecture.channels == {**cut, **more, "block_4a_conv_shortcut": 24}  # it follows conv_2
    assert_taken(model, portable_state(source), only="backbone." if backbone_only else "")
    assert "is pruned: its channels are used" in caplog.text


def test_a_full_width_file_for_a_narrow_spec_is_a_network_of_its_own_channels(start: Start):
    source = start.model('arch: "mobilenet_v2" width_multiplier: 0.5')
    write_keras(start.folder / "wide.hdf5", keras_layers(source, backbone_only=True))
    model = start("wide.hdf5", 'arch: "mobilenet_v2" width_multiplier: 0.125')
    assert_taken(model, portable_state(source), only="backbone.")


def test_a_pruned_keras_file_that_cannot_be_rebuilt_is_one_clear_error(start: Start):
    layers = keras_layers(pruned(start.model(), block_2a_conv_1=7))
    without = {name: arrays for name, arrays in layers.items() if name != "block_3a_conv_1"}
    write_keras(start.folder / "a.hdf5", without)
    assert "lacks layers" in (error := start.refused("a.hdf5")).message
    assert "block_3a_conv_1" in error.message

    uneven = {name: dict(arrays) for name, arrays in layers.items()}
    uneven["block_2a_conv_shortcut"]["kernel"] = uneven["block_2a_conv_shortcut"]["kernel"][..., :-2]
    write_keras(start.folder / "b.hdf5", uneven)
    error = start.refused("b.hdf5")
    assert "can't be built again" in error.message
    assert "block_2a_conv_shortcut" in error.message

    write_keras(start.folder / "c.hdf5", layers)
    error = start.refused("c.hdf5", classes=("cat",))
    assert "differ in their classes" in error.message


@pytest.mark.parametrize(
    ("network", "found"),
    [
        ('arch: "vgg" nlayers: 16 width_multiplier: 0.125', "vgg"),
        ('arch: "mobilenet_v1" width_multiplier: 0.125', "mobilenet_v1"),
        ('arch: "darknet" nlayers: 19 width_multiplier: 0.125', "darknet"),
        ('arch: "darknet" nlayers: 53 width_multiplier: 0.125', "darknet"),
        ('arch: "googlenet" width_multiplier: 0.125', "googlenet"),
        ('arch: "efficientnet_b0" width_multiplier: 0.125', "efficientnet_b0"),
        ('arch: "mobilenet_v2" width_multiplier: 0.125', "mobilenet_v2"),
        ('arch: "squeezenet" width_multiplier: 0.125', "squeezenet"),
    ],
)
def test_a_keras_file_of_another_architecture_is_recognised(start: Start, network: str, found: str):
    with torch.device("meta"):  # names are enough
        theirs, ours = (
            SSD(Architecture.from_experiment(start.experiment(n), CLASSES)) for n in (network, RESNET)
        )
    for name, model in (("theirs.hdf5", theirs), ("ours.hdf5", ours)):
        paths = [keras_name(path) for path, _ in model.backbone.named_modules(prefix="backbone")]
        write_keras(
            start.folder / name, {path: {"kernel": np.zeros((1, 1, 1, 1), "f4")} for path in paths if path}
        )
    error = start.refused("theirs.hdf5")
    assert f"weights of {found}, and the spec builds resnet 10" in error.message
    assert "nlayers" in error.hint
    assert f"weights of resnet, and the spec builds {found}" in start.refused("ours.hdf5", network).message


def test_a_deeper_resnet_with_other_kernels_is_another_architecture(start: Start):
    source = start.model('arch: "resnet" nlayers: 50 width_multiplier: 0.125')
    write_keras(start.folder / "resnet_50.hdf5", keras_layers(source, backbone_only=True))
    error = start.refused("resnet_50.hdf5")
    assert "kernels of 1×1 in this file, and of 3×3" in error.message


def test_a_keras_file_in_which_nothing_matches_is_refused(start: Start):
    write_keras(start.folder / "other.hdf5", {"dense_1": {"kernel": np.zeros((3, 4), "f4")}})
    assert "no weight in this file fits" in start.refused("other.hdf5").message


def test_values_that_are_no_numbers_are_refused(start: Start):
    layers = keras_layers(start.model(), backbone_only=True)
    layers["block_3a_conv_2"]["kernel"] = np.full_like(layers["block_3a_conv_2"]["kernel"], np.nan)
    write_keras(start.folder / "nan.hdf5", layers)
    assert "block_3a_conv_2" in start.refused("nan.hdf5").message


# --- PyTorch files ---------------------------------------------------------------------------------------------------

SQUEEZENET = 'arch: "squeezenet"'


def torchvision_state(seed: int = 0) -> dict[str, Tensor]:
    return nets.with_random_numbers(lambda: nets.SqueezeNet("1.0"), seed).state_dict()


def save_with_torch(path: Path, content: object) -> None:
    torch.save(content, path)


@pytest.mark.parametrize("form", ["pth", "before 1.6", "safetensors", "wrapped", "twice", "half"])
def test_a_state_dict_is_taken_from_every_form_that_programs_write(start: Start, form: str, caplog):
    state = torchvision_state()
    path = start.folder / ("net.safetensors" if form == "safetensors" else "net.pth")
    if form == "safetensors":
        safetensors.torch.save_file(state, path)
    elif form == "before 1.6":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    elif form == "wrapped":
        save_with_torch(
            path, {"epoch": 3, "state_dict": {f"module.{n}": t for n, t in state.items()}, "optimizer": {}}
        )
    elif form == "twice":
        save_with_torch(path, {"model": {"state_dict": state}, "args": None})
    elif form == "half":
        save_with_torch(path, {name: tensor.half() for name, tensor in state.items()})
    else:
        save_with_torch(path, state)
    model = start(path.name, SQUEEZENET)
    got = model.backbone.fire9_expand_conv3x3.weight
    torch.testing.assert_close(got, state["features.12.expand3x3.weight"], rtol=1e-3, atol=1e-3)
    assert "Took 50 of 50 tensors" in caplog.text
    assert "50 of the backbone's 50" in caplog.text
    assert "SqueezeNet 1.0 in torchvision's layout" in caplog.text


def test_a_part_that_does_not_fit_is_named(start: Start, caplog):
    state = nets.with_random_numbers(lambda: nets.SqueezeNet("1.1")).state_dict()
    save_with_torch(start.folder / "net.pth", state)
    start("net.pth", SQUEEZENET)
    assert "Took 46 of 50 tensors" in caplog.text
    warning = next(record for record in caplog.records if record.levelno == logging.WARNING)
    assert warning.getMessage().endswith(": conv1, fire2_squeeze_conv")


def test_the_image_mean_of_the_spec_goes_into_the_first_convolution(start: Start):
    save_with_torch(start.folder / "net.pth", torchvision_state())
    biases = [start("net.pth", SQUEEZENET, channels=channels).backbone.conv1.bias for channels in (1, 3)]
    assert not torch.allclose(*biases)


def test_a_state_dict_of_our_own_names_is_taken_by_name(start: Start):
    source = start.model()
    save_with_torch(start.folder / "ours.pth", source.state_dict())
    assert_taken(start("ours.pth"), portable_state(source))
    error = start.refused("ours.pth", RESNET.replace("0.125", "0.25"))
    assert "other shapes" in error.message


@pytest.mark.parametrize(
    ("build", "network", "message", "hint"),
    [
        (lambda: nets.ResNet(34), 'arch: "resnet" nlayers: 18', "ResNet-34", "nlayers"),
        (lambda: nets.ResNet(18), 'arch: "resnet" nlayers: 10', "ResNet-18", "nlayers"),
        (nets.MobileNetV2, 'arch: "mobilenet_v1"', "MobileNetV2", "arch"),
        (lambda: nets.VGG(16, norm=True), 'arch: "vgg" nlayers: 19', "VGG-16 with batch", "nlayers"),
        (nets.MobileNetV2, 'arch: "mobilenet_v2" width_multiplier: 0.5', "only", "width_multiplier (0.5)"),
    ],
)
def test_weights_of_another_network_of_torchvision_are_refused(start: Start, build, network, message, hint):
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in build().state_dict().items()}
    save_with_torch(
        start.folder / "net.pth", {name: torch.tensor(0.5).expand(shape) for name, shape in shapes.items()}
    )
    error = start.refused("net.pth", network)
    assert message in error.message
    assert hint in error.hint


def test_an_unknown_network_is_refused_with_what_is_taken(start: Start):
    save_with_torch(start.folder / "net.pth", {"encoder.a.weight": torch.zeros(2, 2)})
    error = start.refused("net.pth")
    assert "encoder.a.weight" in error.message
    assert "MobileNetV2" in error.hint


class Pickled(nn.Module):
    """A module that somebody saves whole."""


@pytest.mark.parametrize(
    ("write", "message", "hint"),
    [
        (lambda path: torch.save(Pickled(), path), "Pickled", "state_dict()"),
        (
            lambda path: torch.jit.save(torch.jit.script(nn.Conv2d(1, 1, 1)), path),
            "TorchScript",
            "state_dict()",
        ),
        (lambda path: torch.save([torch.zeros(2)], path), "but a list", "state_dict()"),
        (lambda path: torch.save({"epoch": 3}, path), "a dictionary of epoch", "state_dict()"),
        (lambda path: path.write_bytes(b"<!DOCTYPE html><html>"), "web page", "download"),
        (lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "LFS", "git lfs"),
        (lambda path: path.write_bytes(b"\x1f\x8b\x08" + bytes(40)), "gzip", "Unpack"),
        (lambda path: path.write_bytes(b""), "empty", "again"),
        (lambda path: path.write_bytes(b"\xff" * 100), "NVIDIA", ".hdf5"),
        (lambda path: path.write_bytes(b"PK\x03\x04" + bytes(200)), "cut short or damaged", "again"),
        (
            lambda path: path.write_bytes((90).to_bytes(8, "little") + b'{"a"' + bytes(99)),
            "cut short",
            "again",
        ),
    ],
)
@pytest.mark.parametrize("name", ["weights.pth", "resnet_18.hdf5"])
def test_what_is_no_file_of_weights_is_called_what_it_is(start: Start, name, write, message, hint):
    write(start.folder / name)
    error = start.refused(name)
    assert message in error.message
    assert hint in error.hint


def test_a_missing_file_and_a_folder_are_named(start: Start):
    assert "no such model file" in start.refused("none.pth").message
    (start.folder / "folder.hdf5").mkdir()
    assert "can't be opened" in start.refused("folder.hdf5").message


@pytest.mark.parametrize("form", ["pth", "safetensors", "keras"])
def test_a_truncated_file_is_one_clear_error_wherever_it_ends(start: Start, form: str):
    buffer = io.BytesIO()
    if form == "keras":
        write_keras(start.folder / "whole", keras_layers(start.model(), backbone_only=True))
        content = (start.folder / "whole").read_bytes()
    elif form == "pth":
        torch.save({"features.3.squeeze.weight": torch.rand(16, 96, 1, 1)}, buffer)
        content = buffer.getvalue()
    else:
        content = safetensors.torch.save({"features.3.squeeze.weight": torch.rand(16, 96, 1, 1)})
    for share in (0.001, 0.01, 0.1, 0.3, 0.6, 0.9, 0.999):
        (start.folder / "cut").write_bytes(content[: int(len(content) * share)])
        start.refused("cut")


# --- commands that need a whole SSD ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet_18.hdf5", "net.pth", "net.safetensors", "net.pt"])
def test_evaluate_and_its_like_ask_for_a_whole_ssd(start: Start, name: str):
    path = start.folder / name
    if name.endswith(".hdf5"):
        write_keras(path, keras_layers(start.model()))
    elif name.endswith(".safetensors"):
        safetensors.torch.save_file(torchvision_state(), path)
    else:
        save_with_torch(path, torchvision_state())
    with pytest.raises(ModelFileProblem, match="a whole SSD that taomagic trained is needed") as caught:
        weights.model_from_file(path, KEY, shown_as=f"/workspace/{name}")
    assert caught.value.where == f"/workspace/{name}"
    assert "train -m" in caught.value.hint
