from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from taomagic.engine.storage.model_file import (
    ModelFile,
    file_fingerprint,
    load_model,
    read_onnx,
    save_model,
    write_onnx,
)
from taomagic.errors import ModelFileProblem

KEY = "tlt_encode"


class Small(nn.Module):
    """A backbone and a head, with every kind of tensor that a checkpoint meets."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict(
            {
                "conv1": nn.Conv2d(1, 4, 3, bias=False),
                "bn_conv1": nn.BatchNorm2d(4),
                "conv_dw_1": nn.Conv2d(4, 4, 3, groups=4, bias=False),
            }
        )
        self.heads = nn.ModuleDict({"ssd_conf_0": nn.Conv2d(4, 6, 3)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.backbone["bn_conv1"](self.backbone["conv1"](x))
        return self.heads["ssd_conf_0"](self.backbone["conv_dw_1"](x))


def trained(
    optimizer_class: type[torch.optim.Optimizer], **settings: object
) -> tuple[Small, torch.optim.Optimizer]:
    torch.manual_seed(3)
    model = Small().to(memory_format=torch.channels_last)
    optimizer = optimizer_class(model.parameters(), lr=0.01, **settings)
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.randn(2, 1, 9, 9)).square().sum().backward()
        optimizer.step()
    return model, optimizer


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return (
            isinstance(b, torch.Tensor)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and bool(torch.equal(a, b))
        )
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("suffix", [".tlt", ".hdf5"])
@pytest.mark.parametrize(
    ("optimizer_class", "settings"),
    [
        (torch.optim.SGD, {"momentum": 0.9}),
        (torch.optim.Adam, {"amsgrad": True}),
        (torch.optim.RMSprop, {"centered": True}),
    ],
)
def test_weights_and_optimizer_come_back_bit_for_bit(tmp_path, suffix, optimizer_class, settings):
    model, optimizer = trained(optimizer_class, **settings)
    saved = ModelFile(
        architecture={
            "task": "ssd",
            "arch": "resnet",
            "input_shape": [3, 160, 480],
            "channels": {"conv1": 40},
        },
        weights=model.state_dict(),
        epoch=7,
        optimizer=optimizer.state_dict(),
        extra={"seed": 42, "metrics": {"mAP": 0.1 + 0.2, "AP_auto": None}, "classes": ["车", "car"]},
    )
    path = tmp_path / f"model{suffix}"
    save_model(path, saved, KEY)
    loaded = load_model(path, KEY)
    assert loaded.architecture == saved.architecture
    assert (loaded.epoch, loaded.extra) == (7, saved.extra)
    assert same(dict(saved.weights), loaded.weights)
    assert same(saved.optimizer, loaded.optimizer)


@pytest.mark.parametrize("suffix", [".tlt", ".hdf5"])
def test_training_goes_on_from_a_file_exactly_as_without_it(tmp_path, suffix):
    model, optimizer = trained(torch.optim.SGD, momentum=0.9)
    path = tmp_path / f"model{suffix}"
    save_model(path, ModelFile({"task": "ssd"}, model.state_dict(), 2, optimizer.state_dict()), KEY)
    loaded = load_model(path, KEY)
    resumed = Small().to(memory_format=torch.channels_last)
    resumed.load_state_dict(loaded.weights)
    resumed_optimizer = torch.optim.SGD(resumed.parameters(), lr=0.5, momentum=0.1)
    resumed_optimizer.load_state_dict(loaded.optimizer)
    for net, opt in ((model, optimizer), (resumed, resumed_optimizer)):
        torch.manual_seed(5)
        opt.zero_grad()
        net(torch.randn(2, 1, 9, 9)).square().sum().backward()
        opt.step()
    assert same(dict(model.state_dict()), dict(resumed.state_dict()))


def test_momentum_keeps_its_layout_in_memory(tmp_path):
    model, optimizer = trained(torch.optim.SGD, momentum=0.9)
    path = tmp_path / "model.tlt"
    save_model(path, ModelFile({}, model.state_dict(), 2, optimizer.state_dict()), KEY)
    momenta = [state["momentum_buffer"] for state in load_model(path, KEY).optimizer["state"].values()]
    originals = [state["momentum_buffer"] for state in optimizer.state_dict()["state"].values()]
    for momentum, original in zip(momenta, originals, strict=True):
        for layout in (torch.contiguous_format, torch.channels_last):
            if original.dim() == 4:
                assert momentum.is_contiguous(memory_format=layout) == original.is_contiguous(
                    memory_format=layout
                )


def test_a_plain_file_has_the_layout_of_keras(tmp_path):
    model, _ = trained(torch.optim.SGD)
    path = tmp_path / "model.hdf5"
    save_model(path, ModelFile({}, model.state_dict()))
    with h5py.File(path) as file:
        group = file["model_weights"]
        assert [name.decode() for name in group.attrs["layer_names"]] == [
            "conv1",
            "bn_conv1",
            "conv_dw_1",
            "ssd_conf_0",
        ]
        assert [n.decode() for n in group["bn_conv1"].attrs["weight_names"]] == [
            "bn_conv1/gamma:0", "bn_conv1/beta:0", "bn_conv1/moving_mean:0", "bn_conv1/moving_variance:0",
        ]  # fmt: skip
        head = group["ssd_conf_0/ssd_conf_0/kernel:0"][()]
        assert head.shape == (3, 3, 4, 6)
        weight = model.heads["ssd_conf_0"].weight.detach().numpy()
        assert head[2, 1, 3, 5] == weight[5, 3, 2, 1]
        # A grey-scale image gives a first kernel with one input, which is not a depthwise one.
        assert group["conv1/conv1/kernel:0"].shape == (3, 3, 1, 4)
        assert group["conv_dw_1/conv_dw_1/depthwise_kernel:0"].shape == (3, 3, 4, 1)


def keras_file(path, *, root: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    arrays = {
        "conv1/kernel:0": rng.normal(size=(7, 7, 3, 8)).astype("f4"),
        "conv1/bias:0": rng.normal(size=8).astype("f4"),
        "bn_conv1/gamma:0": rng.normal(size=8).astype("f4"),
        "bn_conv1/moving_variance:0": rng.normal(size=8).astype("f4"),
        "conv_dw_1/depthwise_kernel:0": rng.normal(size=(3, 3, 8, 1)).astype("f4"),
        "dense/kernel:0": rng.normal(size=(8, 5)).astype("f4"),
    }
    with h5py.File(path, "w") as file:
        group = file.require_group(root)
        layers = list(dict.fromkeys(name.split("/")[0] for name in arrays))
        # Keras splits long lists of layers over numbered attributes.
        group.attrs["layer_names0"] = np.array([*layers[:2], "input_1"], dtype="S")
        group.attrs["layer_names1"] = np.array(layers[2:], dtype="S")
        group.create_group("input_1").attrs["weight_names"] = np.array([], dtype="S1")
        for layer in layers:
            names = [name for name in arrays if name.startswith(f"{layer}/")]
            group.require_group(layer).attrs["weight_names"] = np.array(names, dtype="S")
            for name in names:
                group[layer][name] = arrays[name]
    return arrays


@pytest.mark.parametrize("root", ["model_weights", "/"])
def test_a_keras_file_from_elsewhere_is_read_by_layer_name(tmp_path, root):
    path = tmp_path / "resnet_18.hdf5"
    arrays = keras_file(path, root=root)
    loaded = load_model(path)
    assert loaded.architecture is None
    assert loaded.weights["conv1.weight"].shape == (8, 3, 7, 7)
    assert loaded.weights["conv1.weight"][5, 2, 1, 6] == arrays["conv1/kernel:0"][1, 6, 2, 5]
    assert loaded.weights["conv_dw_1.weight"].shape == (8, 1, 3, 3)
    assert loaded.weights["dense.weight"].shape == (5, 8)
    assert set(loaded.weights) >= {"conv1.bias", "bn_conv1.weight", "bn_conv1.running_var"}


def test_the_layers_of_a_nested_keras_model_are_told_apart(tmp_path):
    path = tmp_path / "nested.hdf5"
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = np.array(["model_1"], dtype="S")
        inner = group.create_group("model_1")
        inner.attrs["weight_names"] = np.array(["conv1/kernel:0", "conv2/kernel:0"], dtype="S")
        inner["conv1/kernel:0"] = np.zeros((3, 3, 3, 8), "f4")
        inner["conv2/kernel:0"] = np.zeros((3, 3, 8, 4), "f4")
    assert set(load_model(path).weights) == {"conv1.weight", "conv2.weight"}


def test_a_long_description_fits_into_a_plain_file(tmp_path):
    path = tmp_path / "model.hdf5"
    extra = {"history": [{"epoch": i, "loss": i / 7} for i in range(20_000)]}
    save_model(path, ModelFile({}, {}, extra=extra))
    assert load_model(path).extra == extra


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("model.h5", "Rename"),
        ("model.pth", ".tlt"),
        ("model", ".hdf5"),
        ("model.onnx", "Checkpoints are .tlt"),
    ],
)
def test_other_suffixes_are_refused_with_the_valid_ones(tmp_path, name, advice):
    with pytest.raises(ModelFileProblem, match=r"\.tlt or \.hdf5") as caught:
        save_model(tmp_path / name, ModelFile({}, {}), KEY)
    assert advice in caught.value.hint
    with pytest.raises(ModelFileProblem):
        load_model(tmp_path / name, KEY)


def test_a_renamed_container_is_recognised_in_a_plain_file(tmp_path):
    save_model(tmp_path / "model.tlt", ModelFile({}, {"backbone.conv1.bias": torch.zeros(3)}), KEY)
    (tmp_path / "model.tlt").rename(tmp_path / "model.hdf5")
    with pytest.raises(ModelFileProblem, match="encrypted by taomagic") as caught:
        load_model(tmp_path / "model.hdf5")
    assert ".tlt" in caught.value.hint


def test_a_cut_hdf5_file_is_a_clear_error(tmp_path):
    path = tmp_path / "model.hdf5"
    save_model(path, ModelFile({}, {"backbone.conv1.weight": torch.zeros(64, 64, 3, 3)}))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(ModelFileProblem, match="cut short or damaged"):
        load_model(path)


def test_objects_are_refused_so_that_loading_can_never_run_code(tmp_path):
    with pytest.raises(TypeError, match="can't hold"):
        save_model(tmp_path / "model.tlt", ModelFile({}, {}, optimizer={"hook": print}), KEY)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_a_newer_version_says_so(tmp_path):
    path = tmp_path / "model.hdf5"
    save_model(path, ModelFile({}, {}))
    with h5py.File(path, "r+") as file:
        description = json.loads(file.attrs["taomagic"][0])
        file.attrs["taomagic"] = np.array([json.dumps({**description, "format": 99}).encode()])
    with pytest.raises(ModelFileProblem, match="newer version") as caught:
        load_model(path)
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize("suffix", [".etlt", ".onnx"])
def test_an_exported_model_comes_back(tmp_path, suffix):
    model = b"\x08\x08\x12\x07pytorch" + bytes(1000)
    path = tmp_path / f"model{suffix}"
    write_onnx(path, model, KEY)
    assert read_onnx(path, KEY) == model
    assert (path.read_bytes() == model) is (suffix == ".onnx")


def test_something_else_is_not_taken_for_an_onnx_model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(ModelFileProblem, match="HDF5"):
        read_onnx(path)


def test_a_fingerprint_is_the_sha256_of_the_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert file_fingerprint(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
