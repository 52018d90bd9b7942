"""What ``pretrained_model_file`` gives a DetectNet_v2: our own files, SSD's, Keras', PyTorch's; and what is refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from taomagic.engine.backbones.base import keras_name
from taomagic.engine.detectnet_v2 import weights
from taomagic.engine.detectnet_v2.model import Architecture, DetectNet
from taomagic.engine.ssd import weights as ssd_weights
from taomagic.engine.storage import container
from taomagic.engine.weights.state import portable_state
from taomagic.errors import ModelFileProblem
from taomagic.spec.detectnet_v2 import read_experiment
from taomagic.spec.settings_detectnet_v2 import DetectNetExperiment
from tests.engine.keras_files import keras_layers, write_keras
from tests.engine.pruning.nets import ssd
from tests.engine.ssd import torchvision_nets as nets

KEY = "a key"
ROOT = Path(__file__).parents[3]
SPEC = (ROOT / "specs/detectnet_v2/detectnet_v2_train_resnet18_kitti.txt").read_text()
SMALL = {
    "output_image_width: 1248": "output_image_width: 96",
    "output_image_height: 384": "output_image_height: 64",
    "num_layers: 18": "num_layers: 10\n  width_multiplier: 0.125",
}


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    monkeypatch.setattr(container, "SCRYPT_COST", (10, 1, 1))
    caplog.set_level(logging.INFO)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Start:
    """Begins trainings in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def experiment(self, model: str = "", *, qat: bool = False, **changes: str) -> DetectNetExperiment:
        """Return NVIDIA's experiment at toy scale, with more lines in its model_config, and other values."""
        text = SPEC
        for old, new in (SMALL | changes).items():
            assert old in text, old
            text = text.replace(old, new)
        text = text.replace('arch: "resnet"', f'arch: "resnet"\n  {model}')
        if qat:
            text = text.replace("checkpoint_interval: 10", "checkpoint_interval: 10\n  enable_qat: true")
        path = self.folder / "spec.txt"
        path.write_text(text)
        return read_experiment(path, purpose="train")

    def model(self, experiment: DetectNetExperiment | None = None, **changes: object) -> DetectNet:
        """Return the spec's network with random numbers everywhere."""
        architecture = Architecture.from_experiment(experiment or self.experiment())
        return drawn(DetectNet(replace(architecture, **changes)))

    def __call__(self, name: str, experiment: DetectNetExperiment | None = None, key: str = KEY) -> DetectNet:
        shown = f"/workspace/{name}"
        return weights.starting_model(experiment or self.experiment(), self.folder / name, key, shown)

    def refused(self, name: str, experiment: DetectNetExperiment | None = None) -> ModelFileProblem:
        """Return the error, and check that it is complete."""
        with pytest.raises(ModelFileProblem) as caught:
            self(name, experiment)
        assert caught.value.where == f"/workspace/{name}"
        assert caught.value.hint
        assert "\n" not in caught.value.message
        return caught.value


def drawn(model: DetectNet) -> DetectNet:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in portable_state(model).items():
            values = torch.rand(tensor.shape, generator=generator)
            model.state_dict()[name].copy_(values if name.endswith("running_var") else values - 0.5)
    return model


def assert_taken(model: nn.Module, source: dict[str, Tensor], *, only: str = "") -> None:
    state = portable_state(model)
    names = [name for name in state if name.startswith(only)]
    assert names
    for name in names:
        assert torch.equal(state[name], source[name]), name


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    return Start(tmp_path)


# --- the backbone alone ----------------------------------------------------------------------------------------------


def test_without_load_graph_the_backbone_is_taken_by_name_and_the_heads_are_random(start: Start, caplog):
    source = start.model(classes=("cat",))
    weights.save(start.folder / "model.tlt", source, KEY)
    model = start("model.tlt")
    assert_taken(model, portable_state(source), only="backbone.")
    assert model.architecture.classes == ("car", "cyclist", "pedestrian")
    said = lines(caplog)
    assert "Layer conv1 weights set from pre-trained model." in said
    assert "Layer block_4a_bn_shortcut weights set from pre-trained model." in said
    assert not any("skipped" in line for line in said)
    assert any(
        "behind the backbone start with random values: output_bbox, output_cov" in line for line in said
    )


def test_layers_of_other_shapes_are_skipped_and_said_so(start: Start, caplog):
    source = start.model(channels={"block_4a_conv_1": 24})
    weights.save(start.folder / "pruned.tlt", source, KEY)
    model = start("pruned.tlt")
    said = lines(caplog)
    for layer in ("block_4a_conv_1", "block_4a_bn_1", "block_4a_conv_2"):
        assert f"Layer {layer} weights skipped from pre-trained model." in said
    assert "Layer block_4a_conv_shortcut weights set from pre-trained model." in said
    assert any("load_graph: true takes its network as it is" in line for line in said)
    assert model.architecture.channels == {}
    assert "block_4a_conv_1" not in model.pretrained_layers
    start.refused("pruned.tlt", start.experiment(**{"width_multiplier: 0.125": "width_multiplier: 0.5"}))


def test_an_ssd_gives_its_backbone(start: Start, caplog):
    source = ssd("resnet", 10)
    ssd_weights.save(start.folder / "ssd.tlt", source, KEY)
    model = start("ssd.tlt", start.experiment(**{"width_multiplier: 0.125": "width_multiplier: 0.25"}))
    state, theirs = portable_state(model), portable_state(source)
    taken = [n for n in state if n.startswith("backbone.block") and n in theirs]
    assert len(taken) > 50
    assert all(torch.equal(state[name], theirs[name]) for name in taken)
    biases = [n for n in state if n.startswith("backbone.") and n not in theirs]
    assert biases
    assert all(name.endswith("bias") and not state[name].any() for name in biases)
    assert not any("skipped" in line or "layers of the backbone start" in line for line in lines(caplog))
    error = start.refused("ssd.tlt", start.experiment(**{"num_layers: 10": "num_layers: 18"}))
    assert "weights of resnet 10, and the spec builds resnet 18" in error.message
    assert "num_layers in the spec's model_config" in error.hint


@pytest.mark.parametrize("arch", ["resnet", "squeezenet"])
@torch.no_grad()
def test_what_an_ssd_learned_from_levels_holds_for_red_green_blue_from_0_to_1(start: Start, arch: str):
    source = ssd(arch, 10 if arch == "resnet" else 0)
    ssd_weights.save(start.folder / "ssd.tlt", source, KEY)
    experiment = start.experiment(**{"width_multiplier: 0.125": "width_multiplier: 0.25"})
    assert experiment.model is not None
    if arch == "squeezenet":
        experiment = replace(experiment, model=replace(experiment.model, arch=arch, num_layers=0))
    model = start("ssd.tlt", experiment).eval()
    picture = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(3))
    levels = picture.flip(1) * 255 - torch.tensor((103.939, 116.779, 123.68)).view(1, 3, 1, 1)
    got, wanted = model.backbone.conv1(picture), source.backbone.conv1(levels)
    if arch == "resnet":
        got, wanted = model.backbone.bn_conv1(got), source.backbone.bn_conv1(wanted)
        assert torch.equal(model.backbone.conv1.weight.flip(1), source.backbone.conv1.weight)
    inner = (..., slice(4, -4), slice(4, -4))
    torch.testing.assert_close(got[inner], wanted[inner], rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))


def test_a_keras_backbone_is_taken_with_its_biases(start: Start):
    source = start.model()
    write_keras(start.folder / "resnet.hdf5", keras_layers(source, backbone_only=True), form="tf2")
    assert_taken(start("resnet.hdf5"), portable_state(source), only="backbone.")


@pytest.mark.parametrize(("network", "channels"), [("resnet18", 3), ("squeezenet", 3), ("squeezenet", 1)])
@torch.no_grad()
def test_torchvisions_weights_see_the_same_picture_in_red_green_blue_from_0_to_1(
    start: Start, network: str, channels: int
):
    theirs = nets.with_random_numbers(
        lambda: nets.ResNet(18) if network == "resnet18" else nets.SqueezeNet("1.0")
    )
    torch.save(theirs.state_dict(), start.folder / "net.pth")
    changes = (
        {'"resnet"': '"squeezenet"'} if network == "squeezenet" else {"num_layers: 10": "num_layers: 18"}
    )
    changes |= {"width_multiplier: 0.125": "", "output_image_channel: 3": f"output_image_channel: {channels}"}
    level = torch.rand(1, channels, 8, 12, generator=torch.Generator().manual_seed(3))
    picture = nn.functional.interpolate(level, size=(96, 128), mode="bilinear")
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    for norm in ("use_batch_norm: true", "use_batch_norm: false"):
        changed = {old: new for old, new in changes.items() if old != '"resnet"'} | {
            "use_batch_norm: true": norm
        }
        experiment = start.experiment(**changed)
        if network == "squeezenet":
            assert experiment.model is not None
            experiment = replace(experiment, model=replace(experiment.model, arch="squeezenet", num_layers=0))
        model = start("net.pth", experiment).eval()
        first = model.backbone.conv1(picture)
        if "true" in norm and network == "resnet18":
            first = model.backbone.bn_conv1(first)
        original = theirs.conv1 if network == "resnet18" else theirs.features[0]
        expected = original((picture.expand(1, 3, -1, -1) - mean) / std)
        if network == "resnet18":
            expected = theirs.bn1(expected)
        inner = (..., slice(4, -4), slice(4, -4))
        torch.testing.assert_close(first[inner], expected[inner], rtol=1e-3, atol=1e-3)
        # And behind the first layer, from the same input.
        inside = torch.rand(1, 64, 24, 32)
        if network == "resnet18":
            got = model.backbone.block_2b(model.backbone.block_2a(inside))
            torch.testing.assert_close(got, theirs.layer2(inside), rtol=1e-3, atol=1e-3)
            assert "block_2b_conv_shortcut" not in {keras_name(p) for p, _ in model.named_modules()}


# --- load_graph ------------------------------------------------------------------------------------------------------


def test_load_graph_takes_the_whole_network_with_its_channels(start: Start, caplog):
    source = start.model(channels={"conv1": 5, "block_4a_conv_2": 24}, all_projections=True, bbox_scale=10.0)
    weights.save(start.folder / "pruned.tlt", source, KEY, epoch=9)
    model = start("pruned.tlt", start.experiment("load_graph: true"))
    assert_taken(model, portable_state(source))
    assert model.architecture == replace(source.architecture, bbox_scale=35.0)
    assert any("is pruned: its channels are used" in line for line in lines(caplog))
    assert model.backbone.conv1.out_channels == 5


def test_load_graph_uses_the_files_architecture_and_not_the_specs(start: Start, caplog):
    source = start.model(width_multiplier=0.25)
    weights.save(start.folder / "wide.tlt", source, KEY)
    model = start("wide.tlt", start.experiment("load_graph: true", **{"num_layers: 10": "num_layers: 18"}))
    assert_taken(model, portable_state(source))
    assert (model.architecture.nlayers, model.architecture.width_multiplier) == (10, 0.25)
    assert any("the resnet 10 of /workspace/wide.tlt is used" in line for line in lines(caplog))


def test_load_graph_wants_the_specs_classes_and_images(start: Start, caplog):
    source = start.model(classes=("cat",))
    weights.save(start.folder / "cat.tlt", source, KEY)
    error = start.refused("cat.tlt", start.experiment("load_graph: true"))
    assert "has the classes cat, and the spec has car, cyclist, pedestrian" in error.message
    model = start("cat.tlt", start.experiment("load_graph: true allow_loaded_model_modification: true"))
    assert_taken(model, portable_state(source), only="backbone.")
    assert model.heads["output_cov"].out_channels == 3
    assert any("output_bbox, output_cov" in line for line in lines(caplog))

    weights.save(start.folder / "large.tlt", start.model(input_shape=(3, 64, 128)), KEY)
    error = start.refused("large.tlt", start.experiment("load_graph: true"))
    assert (
        "takes images of 128×64×3 (width, height, channels), and the spec makes them 96×64×3" in error.message
    )


@pytest.mark.parametrize("kind", ["ssd", "keras", "torchvision"])
def test_missing_heads_are_an_error_unless_they_may_be_added(start: Start, kind: str):
    source = start.model()
    if kind == "ssd":
        source = ssd("resnet", 10, size=(64, 96))
        ssd_weights.save(start.folder / "file.tlt", source, KEY)
    elif kind == "keras":
        write_keras(start.folder / "file.tlt", keras_layers(source, backbone_only=True))
    else:
        full = {"width_multiplier: 0.125": "", "num_layers: 10": "num_layers: 18"}
        state = nets.with_random_numbers(lambda: nets.ResNet(18)).state_dict()
        torch.save(state, start.folder / "file.tlt")
    changes = full if kind == "torchvision" else {}
    error = start.refused("file.tlt", start.experiment("load_graph: true", **changes))
    assert "no output_cov and output_bbox" in error.message
    assert "allow_loaded_model_modification" in error.hint
    allowed = "load_graph: true allow_loaded_model_modification: true"
    model = start("file.tlt", start.experiment(allowed, **changes))
    assert model.heads["output_cov"].out_channels == 3
    if kind == "ssd":
        assert model.architecture.all_projections
        assert model.architecture.width_multiplier == 0.25
    if kind != "torchvision":
        state = portable_state(source)
        taken = {n: t for n, t in portable_state(model).items() if n in state and "backbone.block" in n}
        assert all(torch.equal(tensor, state[name]) for name, tensor in taken.items())


def test_a_pruned_keras_model_is_rebuilt_from_what_its_layers_show(start: Start):
    source = start.model(channels={"conv1": 5, "block_4a_conv_2": 24}, all_projections=True)
    path = start.folder / "pruned.hdf5"
    experiment = start.experiment("load_graph: true")
    write_keras(path, keras_layers(source), input_shape=(3, 64, 96))
    model = start("pruned.hdf5", experiment)
    assert_taken(model, portable_state(source))
    assert model.architecture.channels["conv1"] == 5

    plain = start.model(use_batch_norm=False)
    write_keras(path, keras_layers(plain))
    assert_taken(start("pruned.hdf5", experiment), portable_state(plain))

    write_keras(path, keras_layers(source), input_shape=(3, 384, 1248))
    assert "takes images of 1248×384×3" in start.refused("pruned.hdf5", experiment).message
    write_keras(path, keras_layers(source), input_shape=(64, 128, 3))
    assert "takes images of 128×64×3" in start.refused("pruned.hdf5", experiment).message
    write_keras(path, keras_layers(source), input_shape=(None, None, 3))
    start("pruned.hdf5", experiment)

    deeper = start.model(nlayers=18)
    write_keras(path, keras_layers(deeper))
    error = start.refused("pruned.hdf5", experiment)
    assert "layers that resnet 10 doesn't have (block_1b_bn_1" in error.message

    other = start.model(classes=("cat",))
    write_keras(path, keras_layers(other))
    assert "differ in their classes" in start.refused("pruned.hdf5", experiment).message
    changed = start("pruned.hdf5", start.experiment("load_graph: true allow_loaded_model_modification: true"))
    assert_taken(changed, portable_state(other), only="backbone.")


# --- quantisation ----------------------------------------------------------------------------------------------------


def test_a_pruned_float_model_starts_a_quantised_training_and_not_the_other_way_round(start: Start, caplog):
    source = start.model(channels={"conv1": 5})
    weights.save(start.folder / "pruned.tlt", source, KEY)
    model = start("pruned.tlt", start.experiment("load_graph: true", qat=True))
    assert model.architecture.quantized
    assert_taken(model, portable_state(source), only="backbone.")
    assert_taken(model, portable_state(source), only="heads.")
    weights.save(start.folder / "qat.tlt", model, KEY)

    error = start.refused("qat.tlt", start.experiment("load_graph: true", qat=True))
    assert "has been trained with it already" in error.message
    again = start("qat.tlt", start.experiment("load_graph: true"))
    assert again.architecture.quantized
    assert any("its network stays quantisation-aware" in line for line in lines(caplog))
    assert not start("qat.tlt").architecture.quantized, "its weights alone are as good as any"


def test_mobilenets_are_left_in_float_where_they_are_built_from_the_spec(start: Start, caplog):
    experiment = start.experiment(qat=True)
    assert experiment.model is not None
    scratch = replace(experiment, model=replace(experiment.model, arch="mobilenet_v2", num_layers=0))
    model = weights.starting_model(scratch, None, KEY, "")
    assert not model.architecture.quantized
    assert any("enable_qat has no effect on mobilenet_v2" in line for line in lines(caplog))
    weights.save(start.folder / "model.tlt", model, KEY)
    retrain = replace(scratch, model=replace(scratch.model, load_graph=True))
    assert start("model.tlt", retrain).architecture.quantized


# --- freezing --------------------------------------------------------------------------------------------------------


def trained(model: DetectNet) -> set[str]:
    """Return the layers that have something to learn."""
    return {
        keras_name(path)
        for path, layer in model.named_modules()
        if any(p.requires_grad for p in layer.parameters(recurse=False))
    }


def test_what_was_loaded_is_frozen_and_stays_so_behind_a_pause(start: Start):
    layers = keras_layers(start.model(), backbone_only=True)
    for name in ("block_4a_conv_2", "block_4a_bn_2"):
        del layers[name]
    write_keras(start.folder / "part.hdf5", layers)
    settings = start.experiment("freeze_pretrained_layers: true").model
    assert settings is not None
    first = start("part.hdf5")
    weights.save(start.folder / "epoch.tlt", first, KEY, epoch=1)
    paused, _ = weights.model_from_file(start.folder / "epoch.tlt", KEY)
    for model in (first, paused):
        weights.freeze(model, settings)
        assert trained(model) == {"block_4a_conv_2", "block_4a_bn_2", "output_bbox", "output_cov"}
        weights.to_training_mode(model, settings)
        norms = {keras_name(p): m.training for p, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)}
        assert [name for name, training in norms.items() if training] == ["block_4a_bn_2"]
        assert model.training


def test_blocks_and_batch_normalisation_are_frozen_by_themselves(start: Start):
    write_keras(start.folder / "all.hdf5", keras_layers(start.model(), backbone_only=True))
    settings = start.experiment("freeze_blocks: 0 freeze_blocks: 4 freeze_bn: true").model
    assert settings is not None
    model = start("all.hdf5")
    weights.freeze(model, settings)
    frozen = trained(start.model()) - trained(model)
    assert frozen == {"conv1", "block_4a_conv_1", "block_4a_conv_2", "block_4a_conv_shortcut"}
    weights.to_training_mode(model, settings)
    assert not any(m.training for m in model.modules() if isinstance(m, nn.BatchNorm2d))


def test_a_damaged_description_is_one_clear_error(start: Start):
    model = start.model()
    for damage in ({"arch": "resnet", "nlayers": 17}, {"classes": None}, {"input_shape": [3]}):
        broken = {**model.architecture.to_json(), **damage}
        file = weights.files.ModelFile(architecture=broken, weights=portable_state(model))
        weights.files.save_model(start.folder / "m.hdf5", file)
        with pytest.raises(ModelFileProblem, match="damaged") as caught:
            weights.model_from_file(start.folder / "m.hdf5", "", shown_as="shown")
        assert caught.value.where == "shown"


def test_values_that_are_no_numbers_are_refused(start: Start):
    layers = keras_layers(start.model(), backbone_only=True)
    layers["block_3a_conv_2"]["kernel"] = np.full_like(layers["block_3a_conv_2"]["kernel"], np.nan)
    write_keras(start.folder / "nan.hdf5", layers)
    assert "block_3a_conv_2" in start.refused("nan.hdf5").message


def test_load_graph_takes_a_state_dict_of_ours_whole_or_not_at_all(start: Start):
    source = start.model()
    torch.save(source.state_dict(), start.folder / "ours.pth")
    assert_taken(start("ours.pth", start.experiment("load_graph: true")), portable_state(source))
    torch.save(start.model(channels={"conv1": 5}).state_dict(), start.folder / "ours.pth")
    error = start.refused("ours.pth", start.experiment("load_graph: true"))
    assert "weights don't fit the network" in error.message
