"""SSD's notebooks in the manner of NVIDIA's, unmodified, run headless with sample data: every file there, of its kind.

Each release's runs as a whole; 1.2.0 has the same code as 1.3.0. 1.3.0 trains its first network for all 80 epochs, the
others take few. `benchmarks/nvidia_notebooks.py` runs all of them with NVIDIA's own sizes.
"""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from taomagic.cli import tao

from . import artefact_checks as check
from .fixtures import ssd_colab, ssd_notebooks

NETWORK, CLASSES, SIZE, KEY = "ssd", ("car", "cyclist", "pedestrian"), (64, 64), "nvidia_tlt"
#: As NVIDIA's, but for little images and a thin network: seconds in place of hours.
SMALLER = {
    r"output_width: \d+": f"output_width: {SIZE[0]}",
    r"output_height: \d+": f"output_height: {SIZE[1]}",
    r"batch_size_per_gpu: \d+": "batch_size_per_gpu: 4",
    r"nlayers: 18": "nlayers: 18\n  width_multiplier: 0.125",
    r"n_workers: 8": "n_workers: 1",
}
FEW = {
    r"num_epochs: \d+": "num_epochs: 2",
    r"validation_period_during_training: 10": "validation_period_during_training: 2",
}
_FOLDERS = ("LOCAL_PROJECT_DIR", "EXPERIMENT_DIR", "DATA_DIR", "COLAB_NOTEBOOKS_PATH", "SPECS_DIR")


def write(
    root: Path, version: str, sources: tuple[str, ...], changes: dict[str, str], only: str = ""
) -> Path:
    """Put a notebook, its specs and its helpers where a person has them; ``changes`` are for specs with that name."""
    folder = root / ssd_notebooks.FOLDER[version]
    (folder / "specs").mkdir(parents=True)
    for name, spec in ssd_notebooks.specs(version).items():
        for pattern, smaller in (SMALLER | (changes if only in name else {})).items():
            spec = re.sub(pattern, smaller, spec)  # noqa: PLW2901 - one change after another
        (folder / "specs" / name).write_text(spec)
    for name, text in ssd_notebooks.helpers(version).items():
        (folder / name).write_text(text)
    cells = [
        text.strip("\n").replace("3,300,300", "3,64,64").replace("[80, 30]", "[4, 2]") for text in sources
    ]
    path = folder / "ssd.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(text) for text in cells]), path)
    return path


def run(path: Path, home: Path) -> str:
    """Run a notebook as a person does who wants to see it work, and return its outputs."""
    home.mkdir(exist_ok=True)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        for name in (
            *_FOLDERS,
            "LAUNCHER_MOUNTS",
            "KEY",
            "NOTEBOOK_ROOT",
            "IPYTHONDIR",
            "TAO_DOCKER_DISABLE",
        ):
            patch.delenv(name, raising=False)
        patch.setattr("builtins.print", lambda *words, **_: said.append(" ".join(map(str, words))))
        code = tao(["notebook", "run", str(path), "--quick", "--sample-data", "--in-process"])
    assert code == 0, "\n".join(said)
    notebook = json.loads(path.with_name("ssd.executed.ipynb").read_text())
    assert any(f"of {len(notebook['cells'])} cells went well, 0 failed" in line for line in said)
    return json.dumps([cell["outputs"] for cell in notebook["cells"]])


ARCHIVES = ("data_object_image_2.zip", "data_object_label_2.zip")
MODEL = "pretrained_resnet18/pretrained_object_detection_vresnet18/resnet_18.hdf5"


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The notebook of TAO 5, run as a whole: its project, and what it printed."""
    project = tmp_path_factory.mktemp("five") / "project"
    sources = tuple(text.replace("EPOCH=080", "EPOCH=002") for text in ssd_notebooks.cells("5.x"))
    # What the second way, with quantisation-aware training, overwrites.
    at = next(number for number, text in enumerate(sources) if "train_resnet18_kitti_qat" in text)
    keep = "!mkdir old && cp -r ssd/* old"
    told = run(write(project, "5.x", (*sources[:at], keep, *sources[at:]), FEW), project.parent / "home")
    yield project, told
    shutil.rmtree(project.parent)


def give(source: Path, target: Path, *names: str) -> None:
    """Put files where a notebook wants them, as a person does who has them."""
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / name, target / name)


@pytest.mark.slow
def test_ssd_of_tao_3(five: tuple[Path, str], tmp_path: Path) -> None:
    project = tmp_path / "project"
    give(five[0] / "data", project / "data", *ARCHIVES)
    give(five[0] / "ssd", project / "ssd", MODEL)
    # Its retraining takes the same code.
    sources = list(ssd_notebooks.cells("1.3.0"))
    last = max(number for number, text in enumerate(sources) if "EPOCH=080" in text)
    sources[last] = sources[last].replace("EPOCH=080", "EPOCH=002")
    told = run(write(project, "1.3.0", tuple(sources), FEW, "_retrain_"), tmp_path / "home")
    assert "stand-in for an archive" not in told
    assert "Image archive is there." in told
    assert "resnet_18.hdf5 is there already and stays as it is" in told
    assert "[stand-in for python3.6]" in told
    assert KEY not in told.replace(f"KEY={KEY}", ""), "the key is nobody's business"
    assert len(list((project / "data/val/image").iterdir())) == 12
    assert len(list((project / "data/training/image_2").iterdir())) == 108
    check_data(project / "data/tfrecords", 108)

    results = project / "ssd"
    check_training(results / "experiment_dir_unpruned", ".tlt", KEY, epochs=80, period=10)
    check_training(results / "experiment_dir_retrain", ".tlt", KEY, epochs=2, period=2)
    check.weights(results / "experiment_dir_pruned/ssd_resnet18_pruned.tlt", NETWORK, KEY)
    check_predictions(
        results / "ssd_infer_images", results / "ssd_infer_labels", project / "data/test_samples"
    )
    check.exported(results / "export/ssd_resnet18_epoch_002.etlt", NETWORK, SIZE, KEY)
    check.engine(results / "export/trt.engine", NETWORK, SIZE, "fp32", 16)


@pytest.mark.slow
def test_ssd_of_tao_4(five: tuple[Path, str], tmp_path: Path) -> None:
    project = tmp_path / "project"
    give(five[0] / "data", project / "data", *ARCHIVES)
    give(five[0] / "ssd", project / "ssd", MODEL)
    sources = [text.replace("EPOCH=080", "EPOCH=002") for text in ssd_notebooks.cells("4.0")]
    # What the second way, with quantisation-aware training, overwrites.
    at = next(number for number, text in enumerate(sources) if "train_resnet18_kitti_qat" in text)
    keep = "!mkdir old && cp -r ssd/export ssd/ssd_infer_* old"
    told = run(write(project, "4.0", (*sources[:at], keep, *sources[at:]), FEW), tmp_path / "home")
    assert KEY not in told.replace(f"KEY={KEY}", ""), "the key is nobody's business"

    old, results, images = project / "old", project / "ssd", project / "data/test_samples"
    for training in ("experiment_dir_unpruned", "experiment_dir_retrain"):
        check_training(results / training, ".tlt", KEY, epochs=2, period=2)
    check.weights(results / "experiment_dir_pruned/ssd_resnet18_pruned.tlt", NETWORK, KEY)
    for kept in (old, results):
        found = kept / "ssd_infer_images"
        check_predictions(found / "images_annotated", found / "labels", images)
        check.exported(kept / "export/ssd_resnet18_epoch_002.etlt", NETWORK, SIZE, KEY)
        check.nvinfer_config(
            kept / "export/nvinfer_config.txt", "ssd_resnet18_epoch_002.etlt", SIZE, ("background", *CLASSES)
        )
    check_calibrated(old / "export")
    check.tensor_scales(results / "export/cal.json")
    check.engine(results / "export/trt.int8.qat.engine", NETWORK, SIZE, "int8", 16)


@pytest.mark.slow
def test_ssd_of_tao_5(five: tuple[Path, str]) -> None:
    project, told = five
    assert "/data/tlt-experiments isn't here" in told
    assert "RANDOM weights" in told
    assert "Image archive is there." in told
    assert told.count("[stand-in for an archive that you place yourself]") == 2
    split = project / "data/kitti_split"
    for part, count in (("training", 108), ("val", 12)):
        assert (
            len(list((split / part / "image").iterdir()))
            == len(list((split / part / "label").iterdir()))
            == count
        )
    assert len(list((project / "data/training/image_2").iterdir())) == 120, "copied, not moved"
    check_data(project / "data/ssd/tfrecords", 108)

    images = project / "data/test_samples"
    for results in (project / "old", project / "ssd"):
        for training in ("experiment_dir_unpruned", "experiment_dir_retrain"):
            check_training(results / training, ".hdf5", "", epochs=2, period=2)
        check.weights(results / "experiment_dir_pruned/ssd_resnet18_pruned.hdf5", NETWORK)
        check_predictions(results / "images_annotated", results / "labels", images)
        check_predictions(
            results / "ssd_infer_images/images_annotated", results / "ssd_infer_images/labels", images
        )
    final = project / "old/export"
    check.exported(final / "ssd_resnet18_epoch_002.onnx", NETWORK, SIZE)
    check_calibrated(final)
    final = project / "ssd/export"
    check.exported(final / "ssd_resnet18_epoch_002.onnx", NETWORK, SIZE)
    check.tensor_scales(final / "cal.json")
    check.engine(final / "trt.int8.qat.engine", NETWORK, SIZE, "int8", 16)
    check.nvinfer_config(
        final / "nvinfer_config.txt", "ssd_resnet18_epoch_002.onnx", SIZE, ("background", *CLASSES)
    )


#: Ten epochs, as NVIDIA has them.
OFTEN = {r"validation_period_during_training: 10": "validation_period_during_training: 5"}


@pytest.mark.slow
def test_ssd_of_the_edition_for_colab(five: tuple[Path, str], tmp_path: Path) -> None:
    root = tmp_path / "nvidia-tao"
    path = write(root, "colab-5.0", ssd_notebooks.cells("colab-5.0"), OFTEN)
    folder = path.parent
    give(five[0] / "ssd", folder / "results/ssd", MODEL)
    told = run(path, tmp_path / "home")
    assert f"/home_duplicate/someone/colab_notebooks isn't here; {root} takes its place" in told
    assert "TensorRT isn't needed" in told
    check_nothing_was_installed(root, told)
    data, results = folder / "content/drive/MyDrive/synthetic_data", folder / "results/ssd"
    check_data(data / "tfrecords", 120)
    for training in ("experiment_dir_unpruned", "experiment_dir_retrain"):
        check_training(results / training, ".hdf5", "", epochs=10, period=5, classes=ssd_colab.CLASSES)
    found = results / "ssd_infer_images"
    check_predictions(found / "images_annotated", found / "labels", data / "test_samples", ssd_colab.CLASSES)
    labels = [file.read_text().splitlines() for file in (data / "train/labels").iterdir()]
    names = {line.split()[0] for lines in labels for line in lines}
    assert set(ssd_colab.CLASSES) <= names <= {*ssd_colab.CLASSES, "DontCare"}


@pytest.mark.slow
def test_ssd_of_the_older_edition_for_colab(five: tuple[Path, str], tmp_path: Path) -> None:
    # No repository around it.
    (tmp_path / "project").mkdir()
    path = (
        write(tmp_path, "colab-4.0", ssd_notebooks.cells("colab-4.0"), OFTEN).parent.rename(
            tmp_path / "project" / "alone"
        )
        / "ssd.ipynb"
    )
    folder = path.parent
    data, results = folder / "content/drive/MyDrive/kitti_data", folder / "results/ssd"
    give(five[0] / "data", data, *ARCHIVES)
    give(five[0] / "ssd", results, MODEL)
    told = run(path, tmp_path / "home")
    check_nothing_was_installed(tmp_path, told)
    check_data(data / "tfrecords", 108)
    assert len(list((data / "val/image").iterdir())) == 12
    assert "TAO_DATA_PATH" not in (folder / "specs/ssd_train_resnet18_kitti.txt").read_text()
    for training in ("experiment_dir_unpruned", "experiment_dir_retrain"):
        check_training(results / training, ".tlt", KEY, epochs=10, period=5)


def check_nothing_was_installed(root: Path, told: str) -> None:
    assert "setup_env_desktop.sh isn't needed" in told
    assert not list(root.rglob("set_up_was_run"))


def check_data(folder: Path, records: int) -> None:
    """The records of a conversion without a fold to validate with, and an index beside each."""
    found = sorted(folder.glob("kitti_train-fold-000-of-*-shard-*"))
    assert len(found) == 10, [path.name for path in found]
    indexes = [folder / f"idx-{path.name}" for path in found]
    assert sum(len(index.read_text().splitlines()) for index in indexes) == records


def check_training(
    folder: Path, suffix: str, key: str, *, epochs: int, period: int,
    classes: tuple[str, ...] = CLASSES,
) -> None:  # fmt: skip
    """A model for each epoch, the last of which loads, and a log with an accuracy where one was measured."""
    names = [f"ssd_resnet18_epoch_{epoch:03d}{suffix}" for epoch in range(1, epochs + 1)]
    assert sorted(file.name for file in (folder / "weights").glob(f"*{suffix}")) == names
    check.weights(folder / "weights" / names[epochs - 1], NETWORK, key)
    check.status(folder / "status.json")
    with (folder / "ssd_training_log_resnet18.csv").open() as file:
        rows = list(csv.DictReader(file))
    measured = [f"AP_{name}" for name in sorted(classes)]
    assert list(rows[0]) == ["epoch", *measured, "loss", "lr", "mAP", "validation_loss"]
    assert [int(row["epoch"]) for row in rows] == list(range(1, epochs + 1))
    for number, row in enumerate(rows, start=1):
        assert math.isfinite(float(row["loss"]))
        for name in (*measured, "mAP", "validation_loss"):
            assert math.isnan(float(row[name])) == bool(number % period), (number, name)


def check_predictions(pictures: Path, labels: Path, images: Path, classes: tuple[str, ...] = CLASSES) -> None:
    check.annotated(pictures, images)
    check.label_files(labels, len(list(images.iterdir())), classes)


def check_calibrated(final: Path) -> None:
    """The int8 engine that took the fp32 one's place, and what it was calibrated with: all twelve test images."""
    check.engine(final / "trt.engine", NETWORK, SIZE, "int8", 16)
    check.calibration_cache(final / "cal.bin")
    check.tensor_file(final / "cal.tensorfile", SIZE, 1, 12)


def test_every_release_has_a_notebook() -> None:
    assert len(ssd_notebooks.cells("5.x")) == 57, "as many as NVIDIA's"
    assert ssd_notebooks.cells("1.2.0") == ssd_notebooks.cells("1.3.0")
    for version in ssd_notebooks.VERSIONS:
        text = "\n".join(ssd_notebooks.cells(version))
        for file in set(re.findall(r"SPECS_DIR/(ssd_[\w]+\.txt)", text)):
            assert file in ssd_notebooks.specs(version), (version, file)
        for file in re.findall(r"python3(?:\.6)? (?:\S+/)?(\w+\.py)", text):
            assert file in ssd_notebooks.helpers(version), (version, file)


def test_an_archive_that_is_there_stays(tmp_path: Path) -> None:
    """A person's own archive, and a line for one that nothing can stand in for."""
    project = tmp_path / "project"
    (project / "data").mkdir(parents=True)
    with zipfile.ZipFile(project / "data/data_object_image_2.zip", "w") as file:
        file.writestr("training/image_2/mine.png", "mine")
    before = (project / "data/data_object_image_2.zip").read_bytes()
    path = project / "ssd.ipynb"
    lines = "%env D=data\n!unzip -uo $D/data_object_image_2.zip -d $D\n![ -f data/unknown.zip ] || echo none"
    nbformat.write(new_notebook(cells=[new_code_cell(lines)]), path)
    told = run(path, tmp_path / "home")
    assert "stand-in for an archive" not in told
    assert "none" in told
    assert (project / "data/training/image_2/mine.png").read_text() == "mine"
    assert (project / "data/data_object_image_2.zip").read_bytes() == before
    shutil.rmtree(project)
