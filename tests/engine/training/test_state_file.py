"""The file beside a model that holds what only a training needs."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

from taomagic.engine.training.state_file import read_state, write_state
from taomagic.errors import ModelFileProblem

STATE = {
    "state": {0: {"step": torch.tensor(3.0), "exp_avg": torch.arange(6.0).reshape(2, 3)}},
    "param_groups": [{"lr": 0.1, "betas": (0.9, 0.999), "foreach": True, "params": [0]}],
    "taomagic": {"network": {"objective_weights": {"car/cov": 0.25}}},
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.step-9.ckzip"
    write_state(path, STATE, step=9, epoch=3)
    return path


def test_a_state_comes_back_as_it_was(path: Path) -> None:
    found = read_state(path)
    assert found["param_groups"] == STATE["param_groups"]
    assert found["taomagic"] == STATE["taomagic"]
    assert torch.equal(found["state"][0]["exp_avg"], torch.arange(6.0).reshape(2, 3))
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["model.ckpt-9.json", "model.ckpt-9.safetensors"]
        assert archive.testzip() is None


@pytest.mark.parametrize("length", [0, 10, 400, -1, -60])
def test_a_cut_file_is_said_to_be_damaged(path: Path, length: int) -> None:
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ModelFileProblem, match="damaged") as caught:
        read_state(path)
    assert "Remove it" in caught.value.hint


def test_every_damaged_byte_of_a_tensor_is_noticed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    place = content.index(torch.arange(6.0).numpy().tobytes())
    content[place + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelFileProblem, match="damaged"):
        read_state(path)


def test_an_encrypted_member_is_said_to_be_damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    for mark, flags in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        content[content.index(mark) + flags] |= (
            1  # the bit that says so, in the directory and before the member
        )
    path.write_bytes(content)
    with pytest.raises(ModelFileProblem, match="damaged"):
        read_state(path)


def test_nvidias_state_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "model.step-9.ckzip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.ckpt-9.index", b"tensorflow")
    with pytest.raises(ModelFileProblem, match="holds no state of a training by taomagic") as caught:
        read_state(path)
    assert "pretrained_model_file" in caught.value.hint


def test_a_missing_file_is_a_problem_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ModelFileProblem) as caught:
        read_state(tmp_path / "model.step-9.ckzip")
    assert caught.value.where.endswith("model.step-9.ckzip")
