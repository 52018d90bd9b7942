"""Archives that the reader is to place: found in shell lines, put there in a run with stand-ins, never replaced."""

from __future__ import annotations

import json
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from taomagic.notebook import by_hand, launchers, sample_data, stand_ins
from taomagic.notebook.scene_archive import layout, members

from .fixtures import ssd_notebooks

ENVIRON = {"D": "/data", "F": "/data/scenes.zip"}
IMAGES, LABELS = "/data/data_object_image_2.zip", "/data/data_object_label_2.zip"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("if [ ! -f $D/a.zip ]; then echo missing; else echo there;fi", ["/data/a.zip"]),
        ('[ -e "${D}/a.tar.gz" ] || echo missing', ["/data/a.tar.gz"]),
        ("test -s $F && echo there", ["/data/scenes.zip"]),
        ("unzip -u -q $D/a.zip -d $D && unzip $D/b.zip", ["/data/a.zip", "/data/b.zip"]),
        ("unzip -u $D/data_object_*.zip -d $D", [IMAGES, LABELS]),
        ("tar -C $D -xzf $D/a.tgz", ["/data/a.tgz"]),
        ("tar xf $D/a.tar", ["/data/a.tar"]),
        ("if [ ! -f $D/a.zip ]; then wget $URL -O $D/a.zip; fi", []),
        ("unzip -u $UNSET/a.zip", []),
        ("rm $D/ngccli/*.zip", []),
        ("ls $D/a.zip", []),
        ("zip -r $D/a.zip $D", []),
    ],
)
def test_what_a_line_needs_is_found(line: str, found: list[str]) -> None:
    assert [str(path) for path in by_hand.needed(line, ENVIRON)] == found


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    """Folders in KITTI's layout, with a file each."""
    for folder in ("training/image_2", "training/label_2", "testing/image_2"):
        (tmp_path / "kitti" / folder).mkdir(parents=True)
        (tmp_path / "kitti" / folder / "000000.txt").write_text(folder)
    return tmp_path / "kitti"


def test_a_missing_archive_is_placed_and_told_and_others_stay(tmp_path: Path, kitti: Path) -> None:
    here, data = tmp_path / "run", tmp_path / "data"
    here.mkdir()
    data.mkdir()
    sample_data.put_in(here, tmp_path, kitti)
    (data / "data_object_label_2.zip").write_text("hours of download")
    said: list[str] = []
    line = (
        f"unzip {data}/data_object_image_2.zip; unzip {data}/data_object_label_2.zip; unzip {data}/other.zip"
    )
    for _ in range(2):
        by_hand.place(line, here, said.append)
    assert len(said) == 1
    assert said[0].startswith("[stand-in for an archive that you place yourself]")
    assert str(kitti) in said[0]
    with zipfile.ZipFile(data / "data_object_image_2.zip") as file:
        assert sorted(file.namelist()) == ["testing/image_2/000000.txt", "training/image_2/000000.txt"]
    assert (data / "data_object_label_2.zip").read_text() == "hours of download"
    assert {file.name for file in data.iterdir()} == {"data_object_image_2.zip", "data_object_label_2.zip"}
    by_hand.place(f"unzip {data}/nowhere/data_object_image_2.zip", here, said.append)
    assert len(said) == 1, "a folder that the notebook should have made isn't made for it"


def test_an_archive_in_the_persons_folder_is_taken_by_its_name(tmp_path: Path, kitti: Path) -> None:
    with zipfile.ZipFile(kitti / "scenes.zip", "w") as file:
        file.writestr("a", "b")
    sample_data.put_in(tmp_path, tmp_path, kitti)
    found = stand_ins.by_name(tmp_path, "scenes.zip")
    assert found is not None
    assert found[0] == kitti / "scenes.zip"
    assert stand_ins.by_name(tmp_path, "ngccli_cat_linux.zip") is None


def test_the_layout_is_that_of_the_specs() -> None:
    for version, folders in (
        ("5.x", {"training": ("kitti_split/training/image", "kitti_split/training/label")}),
        ("1.3.0", {"training": ("training/image_2", "training/label_2"), "testing": ("testing/image_2", "")}),
        ("colab-5.0", {"training": ("train/images", "train/labels"), "testing": ("test/images", "")}),
    ):
        cells = "\n".join(ssd_notebooks.cells(version))
        found = layout(ssd_notebooks.specs(version).values(), cells)
        assert folders.items() <= found["folders"].items(), version
        assert "val" in found["folders"]
    assert layout(["random_seed: 1"], "") == {}


def test_drawn_scenes_are_called_after_the_classes_of_the_specs(tmp_path: Path) -> None:
    specs = tmp_path / "specs"
    specs.mkdir()
    for name, text in ssd_notebooks.specs("colab-5.0").items():
        (specs / name).write_text(
            text.replace("width: 960", "width: 64").replace("height: 544", "height: 64")
        )
    here = tmp_path / "run"
    here.mkdir()
    sample_data.put_in(here, tmp_path, None, "!cp $DATA_DIR/test/images/000* $DATA_DIR/test_samples")
    config = json.loads((here / stand_ins.CONFIG).read_text())
    assert config["size"] == [64, 64]
    data = here / "mirror/scenes"
    for split in ("training", "val"):
        (data / split / "image_2").mkdir(parents=True)
        (data / split / "label_2").mkdir()
        (data / split / "image_2/000000.png").write_bytes(b"image")
        rest = "0 0 0 1 2 3 4 0 0 0 0 0 0 0"
        names = ("Car", "Car", "Car", "Pedestrian", "Cyclist", "DontCare")
        (data / split / "label_2/000000.txt").write_text("".join(f"{name} {rest}\n" for name in names))
    content = members(data, config["layout"]["folders"], config["layout"]["classes"])
    assert sorted(content) == [
        "train/images/000000.png", "train/labels/000000.txt", "val/images/000000.png", "val/labels/000000.txt",
    ]  # fmt: skip
    label = content["train/labels/000000.txt"]
    assert isinstance(label, bytes)
    named = [line.split() for line in label.decode().splitlines()]
    assert [row[0] for row in named] == ["cart", "forklift", "cart", "cone", "fire_extinguisher", "DontCare"]
    assert all(row[1:] == rest.split() for row in named)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("wget", ["--quiet", "https://example.invalid/a/scenes.tar.gz?x=1", "-P", "data"]),
        ("gdown", ["--id", "1AbC", "-O", "data/scenes.tar.gz"]),
        ("curl", ["-L", "https://example.invalid/download", "-o", "data/scenes.tar.gz"]),
    ],
)
def test_a_downloaded_data_set_is_answered_by_the_layout_of_the_specs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    program: str,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "specs").mkdir()
    for name, text in ssd_notebooks.specs("colab-5.0").items():
        (tmp_path / "specs" / name).write_text(text)
    sample_data.put_in(tmp_path, tmp_path, None, "")
    drawn = tmp_path / "mirror/scenes/training"
    for folder in ("image_2", "label_2"):
        (drawn / folder).mkdir(parents=True)
        (drawn / folder / "000000.txt").write_text("Car 0 0 0 1 2 3 4\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATA_DIR", "data/")
    assert stand_ins.main(program, str(tmp_path), words) == 0
    assert "nothing was downloaded" in capsys.readouterr().err
    with tarfile.open("data/scenes.tar.gz") as file:
        assert sorted(file.getnames()) == ["train/images/000000.txt", "train/labels/000000.txt"]
    Path("data/scenes.tar.gz").write_text("own")
    assert stand_ins.main(program, str(tmp_path), words) == 0
    assert Path("data/scenes.tar.gz").read_text() == "own"


def test_an_old_python_is_there_where_a_notebook_calls_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "python3.8").write_text("#!/bin/sh\n")
    (own / "python3.8").chmod(0o755)
    shims = tmp_path / "shims" / "bin"
    shims.mkdir(parents=True)
    (shims / "python3.6").write_text("#!/bin/sh\nexit 127\n")
    (shims / "python3.6").chmod(0o755)
    monkeypatch.setenv("PATH", f"{own}:{tmp_path}/shims/bin")
    programs = launchers.write(tmp_path / "programs")
    assert not (programs / "python3.8").exists()
    done = subprocess.run(
        [programs / "python3.6", "-c", "print(1)"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_programs_of_other_machines_are_answered(tmp_path: Path) -> None:
    programs = sample_data.put_in(tmp_path, tmp_path, None)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [str(programs / words[0]), *words[1:]]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    old = run("python3.6", "-c", "print(6 * 7)")
    assert (old.returncode, old.stdout) == (0, "42\n")
    assert "[stand-in for python3.6]" in old.stderr
    pip = run("python3", "-m", "pip", "install", "nowhere")
    assert (pip.returncode, pip.stdout) == (0, "")
    assert "nothing was done: pip install nowhere" in pip.stderr
    sudo = run("sudo", "mkdir", "-p", str(tmp_path / "made"))
    assert sudo.returncode == 0
    assert "with your own rights: mkdir" in sudo.stderr
    assert (tmp_path / "made").is_dir()
    assert run("sudo", "no-such-program").returncode == 127
