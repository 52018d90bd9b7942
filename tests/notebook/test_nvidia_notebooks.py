"""Notebooks in the manner of NVIDIA's, unmodified, run headless with sample data: no failing line, every file there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from taomagic.cli import tao

from .fixtures.detectnet_v2_5x import CELLS

SPECS = Path(__file__).parents[2] / "specs" / "detectnet_v2"
#: NVIDIA's specs take hours; the same files with little images and few epochs take seconds.
SMALLER = {
    r"(output_image_width|image_width): 1248": r"\1: 160",
    r"(output_image_height|image_height): 384": r"\1: 96",
    r"num_epochs: 120": "num_epochs: 2",
    r"validation_period_during_training: 10": "validation_period_during_training: 1",
    r"first_validation_epoch: 30": "first_validation_epoch: 2",
    r"num_layers: 18": "num_layers: 18\n  width_multiplier: 0.25",
    r"infrequent_logging_frequency: 5": "infrequent_logging_frequency: 1",
    r"\.tlt\"": '.hdf5"',
}


def small_specs(folder: Path) -> dict[str, str]:
    """Write the seven specs under NVIDIA's names, and return their texts."""
    folder.mkdir(parents=True)
    texts = {}
    for file in sorted(SPECS.glob("*.txt")):
        text = file.read_text()
        for pattern, smaller in SMALLER.items():
            text = re.sub(pattern, smaller, text)
        (folder / file.name).write_text(text)
        texts[file.name] = text
    return texts


@pytest.mark.slow
def test_detectnet_v2_of_tao_5(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".tao_mounts.json").write_text('{"Mounts": []}')
    monkeypatch.setenv("HOME", str(home))
    for name in ("LOCAL_PROJECT_DIR", "LAUNCHER_MOUNTS", "KEY", "NOTEBOOK_ROOT", "IPYTHONDIR"):
        monkeypatch.delenv(name, raising=False)
    project = tmp_path / "project"
    texts = small_specs(project / "specs")
    path = project / "detectnet_v2.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(text.strip("\n")) for text in CELLS]), path)
    code = tao(["notebook", "run", str(path), "--quick", "--sample-data", "--in-process"])
    out = capsys.readouterr().out
    assert code == 0, out
    assert f"{len(CELLS)} of {len(CELLS)} cells went well, 0 failed" in out

    results = project / "detectnet_v2"
    assert len(list((project / "data/tfrecords/kitti_trainval").glob("kitti_trainval-fold-*-of-00010"))) == 20
    for run, name in (
        ("experiment_dir_unpruned", "resnet18_detector"),
        ("experiment_dir_retrain", "resnet18_detector_pruned"),
        ("experiment_dir_retrain_qat", "resnet18_detector_pruned_qat"),
    ):
        assert (results / run / "weights" / f"{name}.hdf5").stat().st_size > 100_000
        assert "SUCCESS" in (results / run / "status.json").read_text()
    final = results / "experiment_dir_final"
    for name in ("resnet18_detector.onnx", "resnet18_detector.trt.int8", "resnet18_detector_qat.trt.int8"):
        assert (final / name).stat().st_size > 100_000
    assert {
        "nvinfer_config.txt",
        "labels.txt",
        "calibration.bin",
        "calibration_qat.json",
        "results.json",
    } <= {file.name for file in final.iterdir()}
    for folder in ("tlt_infer_testing", "etlt_infer_testing", "tlt_infer_testing_qat"):
        assert len(list((results / folder / "images_annotated").iterdir())) == 10
        assert len(list((results / folder / "labels").iterdir())) == 10
    for name, text in texts.items():
        assert (project / "specs" / name).read_text() == text, "a cell changes a spec and puts it back"

    assert (home / ".tao_mounts.json").read_text() == '{"Mounts": []}'
    notebook = json.loads((project / "detectnet_v2.executed.ipynb").read_text())
    told = json.dumps([cell["outputs"] for cell in notebook["cells"]])
    for stand_in in ("wget", "ngc", "pip3", "sha256sum"):
        assert f"[stand-in for {stand_in}]" in told
    assert "RANDOM weights" in told
    assert "images OK" in told
