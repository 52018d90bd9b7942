"""Files in NVIDIA's encryption, with a double of the two public functions of NVIDIA's package."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch

from taomagic.engine.converter.engine_file import read_exported
from taomagic.engine.storage import nvidia_codec
from taomagic.engine.storage.hdf5 import Hdf5Content, write_hdf5
from taomagic.engine.storage.model_file import load_model, read_onnx
from taomagic.errors import EnvironmentProblem, ModelFileProblem

from .nvidia_double import Double, nvidia_package  # noqa: F401 - a fixture

KEY = "nvidia_tlt"


@pytest.fixture
def model() -> bytes:
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 3, 8, 8]) for name in "xy"
    ]
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:])
    opsets = [onnx.helper.make_opsetid("", 17)]
    content: bytes = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    return content


def test_an_etlt_has_nvidias_layout_and_comes_back(tmp_path: Path, package: Double, model: bytes) -> None:
    path = tmp_path / "model.etlt"
    nvidia_codec.write_etlt(path, model, KEY)
    content = path.read_bytes()
    assert struct.unpack("<i", content[:4]) == (0,), "no name of an input: ONNX"
    assert len(content) == 4 + len(model)
    assert content[4:] != model
    assert package.calls == ["encrypt"]
    assert read_onnx(path, KEY) == read_exported(path, KEY) == model


def test_a_wrong_key_is_seen_by_what_comes_out(tmp_path: Path, package: Double, model: bytes) -> None:
    path = tmp_path / "model.etlt"
    nvidia_codec.write_etlt(path, model, KEY)
    with pytest.raises(ModelFileProblem, match="isn't an ONNX model: the key is another one"):
        read_onnx(path, "nvidia_tao")
    with pytest.raises(ModelFileProblem, match="key is empty"):
        read_onnx(path, "")


def test_an_old_etlt_holds_uff(tmp_path: Path, package: Double) -> None:
    path = tmp_path / "model.etlt"
    path.write_bytes(struct.pack("<i", 7) + b"input_1" + bytes(range(100, 200)))
    with pytest.raises(ModelFileProblem, match="UFF"):
        read_onnx(path, KEY)
    path.write_bytes(struct.pack("<i", -5) + bytes(range(100, 200)))
    with pytest.raises(ModelFileProblem, match="neither taomagic's nor NVIDIA's"):
        read_onnx(path, KEY)


def encrypted(package: Double, content: bytes) -> bytes:
    target = io.BytesIO()
    package.encrypt_stream(io.BytesIO(content), target, KEY.encode(), rewind=False)
    return target.getvalue()


@pytest.mark.parametrize("by_content", [False, True])
def test_nvidias_tlt_gives_weights_by_layer_name(tmp_path: Path, package: Double, by_content: bool) -> None:
    plain = tmp_path / "model.hdf5"
    weights = {"backbone.conv1.weight": torch.ones(4, 3, 3, 3), "backbone.conv1.bias": torch.zeros(4)}
    write_hdf5(plain, Hdf5Content(weights, {}, None))
    import h5py

    with h5py.File(plain, "r+") as file:
        del file.attrs["taomagic"]  # what Keras writes has no such thing
    path = tmp_path / "model.tlt"
    path.write_bytes(encrypted(package, plain.read_bytes()))
    found = load_model(path, KEY, by_content=by_content)
    assert found.architecture is None
    assert torch.equal(found.weights["conv1.weight"], weights["backbone.conv1.weight"])
    with pytest.raises(ModelFileProblem, match="isn't an HDF5 file: the key is another one"):
        load_model(path, "another", by_content=by_content)


def test_our_own_files_never_go_through_it(
    tmp_path: Path, package: Double, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    from taomagic.engine.storage.model_file import write_onnx

    write_onnx(tmp_path / "ours.etlt", model, KEY)
    assert read_onnx(tmp_path / "ours.etlt", KEY) == model
    with pytest.raises(ModelFileProblem, match="key is not the one"):
        read_onnx(tmp_path / "ours.etlt", "another")
    (tmp_path / "page.etlt").write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(ModelFileProblem, match="web page"):
        read_onnx(tmp_path / "page.etlt", KEY)
    assert package.calls == []


READERS: dict[str, Callable[[Path], Any]] = {
    "model.etlt": lambda path: read_onnx(path, KEY),
    "model.tlt": lambda path: load_model(path, KEY),
}


@pytest.mark.parametrize("name", READERS)
def test_without_the_package_a_file_of_nvidias_is_told_what_it_needs(tmp_path: Path, name: str) -> None:
    assert not nvidia_codec.is_installed()
    path = tmp_path / name
    path.write_bytes(bytes(4) + b"\xf3\x91 something encrypted")
    with pytest.raises(ModelFileProblem, match="not a taomagic model file") as caught:
        READERS[name](path)
    assert "nvidia-eff-tao-encryption" in caught.value.hint
    with pytest.raises(EnvironmentProblem, match="isn't installed") as missing:
        nvidia_codec.write_etlt(tmp_path / "out.etlt", b"model", KEY)
    assert "pip install nvidia-eff-tao-encryption" in missing.value.hint
    assert not (tmp_path / "out.etlt").exists()


def test_a_package_that_does_not_run_here_is_told(
    tmp_path: Path, package: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "eff_tao_encryption.tao_codec")
    with pytest.raises(EnvironmentProblem, match="doesn't run here") as caught:
        nvidia_codec.write_etlt(tmp_path / "out.etlt", b"model", KEY)
    assert "--codec" in caught.value.hint
