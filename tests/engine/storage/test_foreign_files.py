"""Files from elsewhere: told apart by their first bytes, read without running code, and never a bare traceback."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from taomagic.engine.storage.foreign import FIRST_BYTES, Form, describe, describe_foreign, form_of
from taomagic.engine.storage.hdf5 import read_hdf5
from taomagic.engine.storage.torch_file import read_state_dict
from taomagic.errors import ModelFileProblem


def torch_bytes(content: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def hdf5_bytes() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = np.array([b"conv1", b"bn_conv1"])
        for layer, arrays in {
            "conv1": {"kernel:0": (3, 3, 3, 4)},
            "bn_conv1": {"gamma:0": (4,), "beta:0": (4,)},
        }.items():
            inner = group.create_group(layer)
            inner.attrs["weight_names"] = np.array([f"{layer}/{name}" for name in arrays], dtype="S")
            for name, shape in arrays.items():
                inner[f"{layer}/{name}"] = np.ones(shape, "f4")
        layers = [{"name": name, "config": {}} for name in ("conv1", "bn_conv1")]
        file.attrs["model_config"] = json.dumps({"config": {"layers": layers}}).encode()
    return buffer.getvalue()


STATE = {"features.0.weight": torch.ones(4, 3, 3, 3), "features.0.bias": torch.zeros(4)}
CONTENTS = {
    Form.HDF5: hdf5_bytes(),
    Form.ZIP: torch_bytes(STATE),
    Form.TORCH: torch_bytes(STATE, _use_new_zipfile_serialization=False),
    Form.SAFETENSORS: safetensors.torch.save(STATE),
}


@pytest.mark.parametrize("form", CONTENTS)
def test_a_file_is_known_by_its_first_bytes(form: Form):
    assert form_of(CONTENTS[form][:FIRST_BYTES]) is form
    assert describe_foreign(CONTENTS[form][:FIRST_BYTES]) == describe(form)


@pytest.mark.parametrize(
    ("head", "form"),
    [
        (b"", Form.EMPTY),
        (b"  \n<!DOCTYPE html>", Form.WEB_PAGE),
        (b"<html>", Form.WEB_PAGE),
        (b"\x1f\x8b\x08\x00", Form.GZIP),
        (b"\x08\x08\x12\x07pytorch", Form.ONNX),
        (pickle.dumps({"a": 1}), Form.TORCH),
        (b"\x89TAOM\r\n\x1a", Form.CONTAINER),
        (b"version https://git-lfs.github.com/spec/v1", Form.LFS_POINTER),
        (b"{'a': 1}", Form.UNKNOWN),
    ],
)
def test_what_is_no_model_is_known_too(head: bytes, form: Form):
    assert form_of(head) is form


@given(st.binary(max_size=FIRST_BYTES))
def test_every_beginning_has_a_description_and_a_hint(head: bytes):
    what, hint = describe_foreign(head)
    assert what.startswith("it ")
    assert hint.endswith(".")


def problem_of(path: Path) -> ModelFileProblem | None:
    """Read the file as what it says it is; return why not, and let any other exception through."""
    try:
        (read_hdf5 if path.read_bytes()[:4] == b"\x89HDF" else read_state_dict)(path)
    except ModelFileProblem as problem:
        return problem
    return None


@pytest.mark.parametrize("form", CONTENTS)
@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_damaged_bytes_are_refused_or_read_but_never_a_traceback(
    tmp_path_factory, form: Form, data: st.DataObject
):
    content = bytearray(CONTENTS[form])
    for _ in range(data.draw(st.integers(1, 4))):
        # Most of a file are its numbers, which may be anything; damage hurts where the names and sizes are.
        place = data.draw(st.integers(8, min(len(content), 3000) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / f"damaged-{form.name}"
    path.write_bytes(content)
    problem = problem_of(path)
    assert problem is None or (problem.hint and problem.where == str(path) and len(problem.message) < 400)


@pytest.mark.parametrize("form", CONTENTS)
@given(share=st.floats(0, 0.999))
@settings(max_examples=20, deadline=None)
def test_a_file_that_ends_too_early_is_refused(tmp_path_factory, form: Form, share: float):
    content = CONTENTS[form]
    path = tmp_path_factory.getbasetemp() / f"cut-{form.name}"
    path.write_bytes(content[: int(len(content) * share)])
    problem = problem_of(path)
    assert problem is not None
    assert problem.hint
    assert problem.where == str(path)


# --- PyTorch's files -------------------------------------------------------------------------------------------------


class Trap:
    """Says when it is unpickled."""

    sprung = False

    def __reduce__(self):
        return _spring, ()


def _spring() -> None:
    Trap.sprung = True


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("content", [Trap(), {"state_dict": dict(STATE), "hook": Trap()}])
def test_code_in_a_file_is_never_run(tmp_path: Path, content: object, old: bool):
    path = tmp_path / "trap.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(ModelFileProblem, match="_spring, and reading it would run code") as caught:
        read_state_dict(path)
    assert not Trap.sprung
    assert "model.state_dict()" in caught.value.hint


def test_values_that_are_no_plain_tensors_are_left_out(tmp_path: Path):
    path = tmp_path / "net.pth"
    odd = {
        "sparse": torch.eye(3).to_sparse(),
        "quantized": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        "complex": torch.ones(2, dtype=torch.complex64),
        "meta": torch.empty(2, device="meta"),
        "number": 3,
        5: torch.ones(2),
    }
    torch.save({**odd, **STATE}, path)
    assert read_state_dict(path).keys() == STATE.keys()
    torch.save(odd, path)
    with pytest.raises(ModelFileProblem, match="a dictionary of sparse, quantized"):
        read_state_dict(path)


def test_arguments_beside_the_weights_do_no_harm(tmp_path: Path):
    import argparse

    path = tmp_path / "net.pth"
    torch.save({"model": nn.Linear(2, 2).state_dict(), "args": argparse.Namespace(lr=0.1)}, path)
    assert read_state_dict(path).keys() == {"weight", "bias"}


# --- Keras' files ----------------------------------------------------------------------------------------------------


def keras_file(path: Path, weights: dict[str, np.ndarray], config: object = None) -> Path:
    """Write a file whose only layer is called ``net``; ``weights`` by their names below it."""
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = np.array([b"net"])
        inner = group.create_group("net")
        inner.attrs["weight_names"] = np.array(list(weights), dtype="S")
        for name, array in weights.items():
            inner[name] = array
        if config is not None:
            file.attrs["model_config"] = json.dumps(config)
    return path


def test_a_nested_model_with_one_layer_is_known_by_its_description(tmp_path: Path):
    inner = {"class_name": "Model", "config": {"name": "net", "layers": [{"name": "conv1", "config": {}}]}}
    config = {"class_name": "Sequential", "config": [inner]}
    weights = {"conv1_2/kernel:0": np.zeros((1, 1, 2, 3), "f4")}
    assert list(read_hdf5(keras_file(tmp_path / "a.hdf5", weights, config)).weights) == ["conv1.weight"]
    # Without one, the layer of the file is what it belongs to.
    assert list(read_hdf5(keras_file(tmp_path / "b.hdf5", weights)).weights) == ["net.weight"]


def test_names_without_a_number_behind_them_are_read_as_well(tmp_path: Path):
    weights = {"net/kernel": np.zeros((1, 5, 2, 3), "f4"), "net/bias": np.zeros(3, "f4")}
    read = read_hdf5(keras_file(tmp_path / "a.hdf5", weights)).weights
    assert {name: tuple(tensor.shape) for name, tensor in read.items()} == {
        "net.weight": (3, 2, 1, 5),
        "net.bias": (3,),
    }


def test_a_file_in_the_layout_of_keras_3_says_how_to_save_it(tmp_path: Path):
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_group("layers/conv2d/vars")["0"] = np.zeros((3, 3, 3, 8), "f4")
    with pytest.raises(ModelFileProblem, match="Keras 3") as caught:
        read_hdf5(tmp_path / "a.hdf5")
    assert "model.save" in caught.value.hint


def test_an_array_that_lies_elsewhere_or_holds_no_numbers_is_refused(tmp_path: Path):
    path = tmp_path / "a.hdf5"
    (tmp_path / "secret").write_bytes(bytes(400))
    for kind in ("external", "text", "group", "huge"):
        keras_file(path, {"net/gamma:0": np.zeros(100, "f4")})
        with h5py.File(path, "r+") as file:
            inner = file["model_weights/net/net"]
            del inner["gamma:0"]
            if kind == "external":
                outside = [(str(tmp_path / "secret"), 0, 400)]
                inner.create_dataset("gamma:0", (100,), "f4", external=outside)
            elif kind == "text":
                inner["gamma:0"] = "a text"
            elif kind == "group":
                inner.create_group("gamma:0")
            else:
                inner.create_dataset("gamma:0", (1 << 40,), "f4", chunks=(1024,))
        with pytest.raises(ModelFileProblem, match="cut short or damaged"):
            read_hdf5(path)
