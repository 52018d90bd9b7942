"""Specs and notebooks are handed out without ever overwriting a person's work."""

from __future__ import annotations

from pathlib import Path

import pytest

from taomagic.errors import UsageProblem
from taomagic.samples import copy_notebook, copy_specs, files, notebook_nets, read_notebook


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a package folder with specs and a notebook, as in an installed wheel."""
    package = tmp_path / "package"
    for name, text in {
        "specs/ssd/train.txt": "kitti",
        "specs/ssd/retrain.txt": "kitti again",
        "specs/ssd/sample/train.txt": "sample",
        "notebooks/ssd/ssd.ipynb": "{}",
    }.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(text)
    monkeypatch.setattr(files, "_PACKAGE", package)
    return package


def test_each_scale_has_its_own_files(shipped: Path, tmp_path: Path) -> None:
    report = copy_specs("ssd", tmp_path / "a")
    assert [path.name for path in report.created] == ["train.txt"]
    assert (tmp_path / "a/train.txt").read_text() == "sample"
    report = copy_specs("ssd", tmp_path / "b", "kitti")
    assert [path.name for path in report.created] == ["retrain.txt", "train.txt"]


def test_a_changed_file_is_kept_and_reported(shipped: Path, tmp_path: Path) -> None:
    target = tmp_path / "specs"
    copy_specs("ssd", target, "kitti")
    (target / "train.txt").write_text("mine")
    report = copy_specs("ssd", target, "kitti")
    assert report.kept == (target / "train.txt",)
    assert report.same == (target / "retrain.txt",)
    assert report.created == ()
    assert (target / "train.txt").read_text() == "mine"
    assert "changed by you" in report.summary()


def test_the_notebook_is_copied(shipped: Path, tmp_path: Path) -> None:
    assert copy_notebook("ssd", tmp_path / "nb").created == (tmp_path / "nb/ssd.ipynb",)


def test_the_shipped_notebooks_are_listed_and_read(shipped: Path) -> None:
    (shipped / "notebooks/ssd/notes.ipynb").write_text("not a network's")
    assert notebook_nets() == ("ssd",)
    assert read_notebook("ssd") == "{}"
    with pytest.raises(UsageProblem, match="yolo"):
        read_notebook("yolo")


def test_a_source_checkout_uses_the_folders_beside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "checkout/taomagic/samples"
    package.mkdir(parents=True)
    (tmp_path / "checkout/specs/ssd").mkdir(parents=True)
    (tmp_path / "checkout/specs/ssd/train.txt").write_text("kitti")
    monkeypatch.setattr(files, "_PACKAGE", package)
    assert copy_specs("ssd", tmp_path / "specs", "kitti").created


def test_an_unknown_network_or_scale_names_the_choices(shipped: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="yolo") as caught:
        copy_specs("yolo", tmp_path)
    assert "ssd" in caught.value.hint
    with pytest.raises(UsageProblem, match="huge"):
        copy_specs("ssd", tmp_path, "huge")  # type: ignore[arg-type]
    with pytest.raises(UsageProblem):
        copy_notebook("yolo", tmp_path)
