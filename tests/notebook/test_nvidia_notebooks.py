"""Notebooks in the manner of NVIDIA's, unmodified, run headless with sample data: no failing line, every file there.

Each release's runs as a whole; 1.2.0 has the same code as 1.3.0.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from taomagic.cli import tao

from . import artefact_checks as check
from .fixtures.detectnet_v2_notebooks import VERSIONS, cells, specs

NETWORK, CLASSES, SIZE, KEY = "detectnet_v2", ("car", "cyclist", "pedestrian"), (160, 96), "tlt_encode"
MODEL = "detectnet_v2/pretrained_resnet18/pretrained_detectnet_v2_vresnet18/resnet18.hdf5"
OTHER_MAP = '{"Mounts": []}'
#: NVIDIA's specs take hours; the same files with little images and few epochs take seconds.
SMALLER = {
    r"(output_image_width|image_width): 1248": rf"\1: {SIZE[0]}",
    r"(output_image_height|image_height): 384": rf"\1: {SIZE[1]}",
    r"num_epochs: 120": "num_epochs: 2",
    r"validation_period_during_training: 10": "validation_period_during_training: 1",
    r"first_validation_epoch: 30": "first_validation_epoch: 2",
    r"num_layers: 18": "num_layers: 18\n  width_multiplier: 0.25",
    r"infrequent_logging_frequency: 5": "infrequent_logging_frequency: 2",
    # A network that has learned nothing shall find something all the same.
    r"(minimum_bounding_box_height): 4": r"\1: 0",
    r"dbscan_confidence_threshold: 0.9": "dbscan_confidence_threshold: 0.0",
    r"dbscan_eps: 0.3": "dbscan_eps: 1.0",
}


def small_specs(folder: Path, version: str) -> dict[str, str]:
    """Write the seven specs under NVIDIA's names, and return their texts."""
    folder.mkdir(parents=True)
    texts = specs(version)
    for pattern, smaller in SMALLER.items():
        texts = {name: re.sub(pattern, smaller, text) for name, text in texts.items()}
    for name, text in texts.items():
        (folder / name).write_text(text)
    return texts


def run(project: Path, sources: tuple[str, ...]) -> str:
    """Run a notebook as a person does who wants to see it work, and return its outputs."""
    home = project.parent / "home"
    home.mkdir()
    (home / ".tao_mounts.json").write_text(OTHER_MAP)
    path = project / "detectnet_v2.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(text) for text in sources]), path)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        for name in ("LOCAL_PROJECT_DIR", "LAUNCHER_MOUNTS", "KEY", "NOTEBOOK_ROOT", "IPYTHONDIR"):
            patch.delenv(name, raising=False)
        patch.setattr("builtins.print", lambda *words, **_: said.append(" ".join(map(str, words))))
        code = tao(["notebook", "run", str(path), "--quick", "--sample-data", "--in-process"])
    assert code == 0, "\n".join(said)
    assert any(f"{len(sources)} of {len(sources)} cells went well, 0 failed" in line for line in said)
    assert (home / ".tao_mounts.json").read_text() == OTHER_MAP
    notebook = json.loads((project / "detectnet_v2.executed.ipynb").read_text())
    return json.dumps([cell["outputs"] for cell in notebook["cells"]])


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The notebook of TAO 5, run as a whole: its project, and what it printed."""
    project = tmp_path_factory.mktemp("five") / "project"
    texts = small_specs(project / "specs", "5.x")
    told = run(project, cells("5.x"))
    for name, text in texts.items():
        assert (project / "specs" / name).read_text() == text, "a cell changes a spec and puts it back"
    yield project, told
    shutil.rmtree(project.parent)


@pytest.mark.slow
def test_detectnet_v2_of_tao_5(five: tuple[Path, str]) -> None:
    project, told = five
    for stand_in in ("wget", "ngc", "pip3", "sha256sum"):
        assert f"[stand-in for {stand_in}]" in told
    assert "RANDOM weights" in told
    assert "images OK" in told
    check_data_and_trainings(project, ".hdf5", "")
    results = project / "detectnet_v2"
    check_predictions(results, project / "data/test_samples", "tlt", "etlt", "qat")
    check_models(results / "experiment_dir_final", ".onnx", "")
    check_deployed(results / "experiment_dir_final", ".onnx")
    check.metrics(results / "experiment_dir_retrain_qat/results.json", CLASSES)
    check.status(results / "experiment_dir_retrain_qat/status.json")


def start(five: Path, project: Path, version: str) -> dict[str, str]:
    """Make a project in which archives and weights are there already, and return its specs."""
    texts = small_specs(project / "specs", version)
    for name in ("data/data_object_image_2.zip", "data/data_object_label_2.zip", MODEL):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(five / name, project / name)
    return texts


@pytest.mark.slow
def test_detectnet_v2_of_tao_3(five: tuple[Path, str], tmp_path: Path) -> None:
    project = tmp_path / "project"
    texts = start(five[0], project, "1.3.0")
    told = run(project, cells("1.3.0", size=SIZE))
    assert "image archive already downloaded" in told
    assert "images OK" in told
    assert f"{Path(MODEL).name} is there already and stays as it is" in told
    assert KEY not in told.replace(f"KEY={KEY}", ""), "the key is nobody's business"
    for name, text in texts.items():
        assert (project / "specs" / name).read_text() == text, "a cell changes a spec and puts it back"
    check_data_and_trainings(project, ".tlt", KEY)
    results = project / "detectnet_v2"
    final = results / "experiment_dir_final"
    check_predictions(results, project / "data/testing/image_2", "tlt", "etlt", "qat")
    check_models(final, ".etlt", KEY)
    check.tensor_file(final / "calibration.tensor", SIZE, 10, 4)
    # What `export` built, for as many images as it was told, and what `tao converter` did.
    check.engine(final / "resnet18_detector.trt.int8", NETWORK, SIZE, "int8", 4)
    check.engine(final / "resnet18_detector.trt", NETWORK, SIZE, "int8", 64)


@pytest.mark.slow
def test_detectnet_v2_of_tao_4(five: tuple[Path, str], tmp_path: Path) -> None:
    project = tmp_path / "project"
    texts = start(five[0], project, "4.0")
    run(project, cells("4.0", size=SIZE))
    for name, text in texts.items():
        assert (project / "specs" / name).read_text() == text, "a cell changes a spec and puts it back"
    check_data_and_trainings(project, ".tlt", KEY)
    results = project / "detectnet_v2"
    check_predictions(results, project / "data/test_samples", "tlt", "etlt", "qat")
    check_models(results / "experiment_dir_final", ".etlt", KEY)
    check_deployed(results / "experiment_dir_final", ".etlt")
    # Without -r the results of `evaluate` lie beside the engine.
    check.metrics(results / "experiment_dir_final/results.json", CLASSES)
    check.status(results / "experiment_dir_final/status.json")


def check_data_and_trainings(project: Path, suffix: str, key: str) -> None:
    results = project / "detectnet_v2"
    check.training_labels(project / "data/training/label_2")
    check.tfrecords(
        project / "data/tfrecords/kitti_trainval", "kitti_trainval-fold-00[01]-of-002-shard-*", 20
    )
    for folder, name in (
        ("experiment_dir_unpruned/weights", "resnet18_detector"),
        ("experiment_dir_pruned", "resnet18_nopool_bn_detectnet_v2_pruned"),
        ("experiment_dir_retrain/weights", "resnet18_detector_pruned"),
        ("experiment_dir_retrain_qat/weights", "resnet18_detector_pruned_qat"),
    ):
        check.weights(results / folder / f"{name}{suffix}", NETWORK, key)
        if folder.endswith("weights"):
            check.status(results / folder / "../status.json")


def check_predictions(results: Path, images: Path, *kinds: str) -> None:
    names = {"tlt": "tlt_infer_testing", "etlt": "etlt_infer_testing", "qat": "tlt_infer_testing_qat"}
    for folder in (results / names[kind] for kind in kinds):
        check.annotated(folder / "images_annotated", images)
        assert check.label_files(folder / "labels", len(list(images.iterdir())), CLASSES), "nothing was found"


def check_models(final: Path, suffix: str, key: str) -> None:
    for name in ("resnet18_detector", "resnet18_detector_qat"):
        check.exported(final / f"{name}{suffix}", NETWORK, SIZE, key)
    check.calibration_cache(final / "calibration.bin")
    check.calibration_cache(final / "calibration_qat.bin")
    check.engine(final / "resnet18_detector_qat.trt.int8", NETWORK, SIZE, "int8", 64)


def check_deployed(final: Path, suffix: str) -> None:
    check.nvinfer_config(final / "nvinfer_config.txt", f"resnet18_detector_qat{suffix}", SIZE, CLASSES)
    check.tensor_scales(final / "calibration_qat.json")
    check.engine(final / "resnet18_detector.trt.int8", NETWORK, SIZE, "int8", 64)


def test_every_release_has_a_notebook() -> None:
    assert all(len(cells(version)) > 45 for version in VERSIONS)
    assert cells("3.21.08") == cells("1.2.0") == cells("1.3.0")
