"""``key check``: what a file is, and whether a key opens it."""

from __future__ import annotations

from pathlib import Path

import pytest

from taomagic.engine.cli import main
from taomagic.engine.key.check import report
from taomagic.engine.storage import nvidia_codec
from taomagic.engine.storage.container import write_container
from taomagic.engine.storage.header import Kind
from taomagic.errors import ModelFileProblem

from .nvidia_double import nvidia_package  # noqa: F401 - a fixture

KEY = "nvidia_tlt"
ONNX = b"\x08\x08\x12\x07pytorch" + bytes(50)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "model.tlt"
    write_container(path, Kind.CHECKPOINT, KEY, bytes(2_500_000))
    return path


def test_the_right_key_opens_a_file_and_reads_it_whole(path: Path) -> None:
    assert report(path, KEY) == [
        "It is a model checkpoint (.tlt), encrypted by taomagic, 2,500,000 bytes.",
        "The key opens it, and it is whole.",
    ]


def test_without_a_key_the_kind_is_told(path: Path) -> None:
    write_container(path, Kind.ONNX, KEY, b"")
    first, second = report(path, "")
    assert "exported ONNX model (.etlt)" in first
    assert "-k KEY" in second
    assert report(path, KEY)[1] == "The key opens it, and it is whole."


def test_another_key_a_cut_and_a_damaged_file_are_three_errors(path: Path) -> None:
    whole = path.read_bytes()
    with pytest.raises(ModelFileProblem, match="key is not the one"):
        report(path, "tlt_encode")
    path.write_bytes(whole[:-1])
    with pytest.raises(ModelFileProblem, match="cut short"):
        report(path, KEY)
    path.write_bytes(whole[:-40_000] + b"\1" + whole[-39_999:])
    with pytest.raises(ModelFileProblem, match="damaged in the"):
        report(path, KEY)


@pytest.mark.parametrize(
    ("content", "named"),
    [(b"\x89HDF\r\n\x1a\n", "HDF5"), (ONNX, "ONNX"), (b"PK\x03\x04", "ZIP"), (b"ftrt plan", "engine")],
)
def test_plain_files_need_no_key(tmp_path: Path, content: bytes, named: str) -> None:
    (tmp_path / "model").write_bytes(content)
    (line,) = report(tmp_path / "model", KEY)
    assert named in line
    assert "needs no key" in line


@pytest.mark.parametrize(
    ("content", "named"), [(b"", "empty"), (b"<!DOCTYPE html>", "web page"), (b"\xf1\x02", "format")]
)
def test_what_is_no_model_is_told(tmp_path: Path, content: bytes, named: str) -> None:
    (tmp_path / "model.etlt").write_bytes(content)
    with pytest.raises(ModelFileProblem, match=named) as caught:
        report(tmp_path / "model.etlt", KEY)
    assert caught.value.hint


@pytest.mark.usefixtures("package")
def test_nvidias_encryption_is_tried_where_its_package_is_installed(tmp_path: Path) -> None:
    path = tmp_path / "model.etlt"
    nvidia_codec.write_etlt(path, ONNX, KEY)
    assert report(path, KEY)[0] == "It is an exported ONNX model (.etlt) in NVIDIA's encryption."
    assert "may be" in report(path, "")[0]
    with pytest.raises(ModelFileProblem, match="key is another one"):
        report(path, "another")


def test_the_command_says_it_with_the_path_as_written(path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("LAUNCHER_MOUNTS", str(path.parent / "mounts.json"))
    (path.parent / "mounts.json").write_text(
        f'{{"Mounts": [{{"source": "{path.parent}", "destination": "/workspace/tao-experiments"}}]}}'
    )
    name = "/workspace/tao-experiments/model.tlt"
    assert main(["key", "check", name, "-k", KEY]) == 0
    assert "The key opens it" in capsys.readouterr().out
    assert main(["key", "check", name, "-k", "x"]) == 1
    assert f"ERROR: {name}: the key is not the one" in capsys.readouterr().out
