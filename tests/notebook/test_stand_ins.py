"""The programs that answer downloads in a run with sample data."""

from __future__ import annotations

import hashlib
import os
import zipfile
from pathlib import Path

import pytest

from taomagic.errors import DataProblem
from taomagic.notebook import sample_data
from taomagic.notebook.stand_ins import IMAGES, KITTI_SHA256, LABELS, main

IMAGES_URL = sample_data.addresses()["KITTI_IMAGES_DOWNLOAD_URL"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a run whose data come from folders in KITTI's layout."""
    for folder in ("training/image_2", "training/label_2", "testing/image_2"):
        (tmp_path / "kitti" / folder).mkdir(parents=True)
        (tmp_path / "kitti" / folder / "000000.txt").write_text(folder)
    here = tmp_path / "place"
    here.mkdir()
    sample_data.put_in(here, tmp_path, tmp_path / "kitti")
    monkeypatch.chdir(tmp_path)
    return here


@pytest.mark.parametrize(
    ("name", "words", "target"),
    [
        ("wget", [IMAGES_URL, "-O", "data/images.zip"], "data/images.zip"),
        ("wget", ["-P", "data", IMAGES_URL], f"data/{IMAGES}"),
        ("wget", ["--no-check-certificate", f"--directory-prefix=d e/{'x'}", IMAGES_URL], f"d e/x/{IMAGES}"),
        ("curl", ["-L", "-o", "i.zip", IMAGES_URL], "i.zip"),
    ],
)
def test_an_archive_is_answered_and_announced(
    place: Path, capsys: pytest.CaptureFixture[str], name: str, words: list[str], target: str
) -> None:
    assert main(name, str(place), words) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"[stand-in for {name}] nothing was downloaded")
    with zipfile.ZipFile(target) as file:
        assert sorted(file.namelist()) == ["testing/image_2/000000.txt", "training/image_2/000000.txt"]


def test_with_the_persons_data_nvidias_programs_come_from_nvidia(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = place / "real" / "wget"
    real.parent.mkdir()
    real.write_text('#!/bin/sh\necho "$@" > asked\n')
    real.chmod(0o755)
    monkeypatch.setenv("PATH", str(real.parent), prepend=os.pathsep)
    address = "https://ngc.nvidia.com/downloads/ngccli_cat_linux.zip"
    assert main("wget", str(place), [address, "-P", "ngccli"]) == 0
    assert Path("asked").read_text() == f"{address} -P ngccli\n"


def test_a_persons_own_archive_is_left_alone(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("own.zip").write_text("hours of download")
    assert main("wget", str(place), [IMAGES_URL, "-O", "own.zip"]) == 0
    assert Path("own.zip").read_text() == "hours of download"
    assert "stays as it is" in capsys.readouterr().err


def test_checksums_are_the_expected_ones_for_stand_ins_alone(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main("wget", str(place), [sample_data.addresses()["KITTI_LABELS_DOWNLOAD_URL"], "-P", "."]) == 0
    Path("own.zip").write_text("x")
    assert main("sha256sum", str(place), [LABELS, "own.zip"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{KITTI_SHA256[LABELS]}  {LABELS}",
        f"{hashlib.sha256(b'x').hexdigest()}  own.zip",
    ]


def test_other_words_of_ngc_are_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("ngc", str(place), ["user", "who"]) == 2
    assert main("ngc", str(place), ["registry", "model", "download-version", "nvidia/tao"]) == 1
    assert "no stand-in" in capsys.readouterr().err


def test_a_stand_in_left_behind_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("ngc", str(tmp_path / "gone"), ["registry", "model", "list"]) == 1
    assert "is over. Delete it." in capsys.readouterr().err


def test_unpacking_where_there_is_no_unzip(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main("wget", str(place), [IMAGES_URL, "-P", "."]) == 0
    assert main("unzip", str(place), ["-u", IMAGES, "-d", "out"]) == 0
    assert Path("out/testing/image_2/000000.txt").read_text() == "testing/image_2"
    assert main("unzip", str(place), ["missing.zip"]) == 9


def test_scenes_and_weights_have_the_size_of_the_specs(tmp_path: Path) -> None:
    assert sample_data.size_in(tmp_path / "specs") == (1248, 384)
    (tmp_path / "a.txt").write_text("output_image_width: 160\noutput_image_height: 96\n")
    assert sample_data.size_in(tmp_path) == (160, 96)
    assert sample_data.width_in(tmp_path) == 1.0
    (tmp_path / "b.txt").write_text("  width_multiplier: 0.25\n")
    assert sample_data.width_in(tmp_path) == 0.25


def test_a_folder_without_kittis_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match="no KITTI data set"):
        sample_data.put_in(tmp_path, tmp_path, tmp_path)
