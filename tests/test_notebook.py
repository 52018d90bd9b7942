"""The sample notebook, from the first to the last cell, in a kernel of its own; epochs are shortened by quick mode."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from taomagic.samples import copy_notebook


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nbformat.NotebookNode]:
    folder = tmp_path_factory.mktemp("notebook")
    home = folder / "home"
    project = folder / "my project" / "ssd"  # a blank in the path: people have them
    home.mkdir()
    copy_notebook("ssd", project)
    notebook = nbformat.read(project / "ssd.ipynb", as_version=4)
    drop = {"LAUNCHER_MOUNTS", "KEY", "NUM_GPUS"}
    environment = {name: value for name, value in os.environ.items() if name not in drop}
    environment |= {"HOME": str(home), "IPYTHONDIR": str(home / "ipython"), "TAOMAGIC_STEPS_PER_EPOCH": "2"}
    client = NotebookClient(
        notebook, timeout=500, kernel_name="python3", resources={"metadata": {"path": str(project)}}
    )
    client.execute(env=environment)
    return project, notebook


def text_of(cell: nbformat.NotebookNode) -> str:
    parts = []
    for output in cell.outputs:
        parts.append(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(parts)


def test_every_artefact_of_the_pipeline_is_there(executed):
    project, _ = executed
    for wanted in (
        "specs/ssd_train_resnet10_sample.txt",
        "data/training/image_2/000399.jpg",
        "data/ssd/tfrecords/kitti_train-fold-000-of-002-shard-00000-of-00004",
        "ssd/experiment_dir_unpruned/weights/ssd_resnet10_epoch_020.tlt",
        "ssd/experiment_dir_pruned/ssd_resnet10_pruned.tlt",
        "ssd/experiment_dir_retrain/weights/ssd_resnet10_epoch_010.tlt",
        "ssd/inference_retrained/labels/000000.txt",
        "ssd/inference_pruned/images_annotated/000000.jpg",
        "ssd/export/ssd_sample.onnx",
        "ssd/export/nvinfer_config.txt",
        ".tao_mounts.json",
    ):
        assert (project / wanted).exists(), wanted


def test_the_closing_table_compares_the_four_models(executed):
    _, notebook = executed
    tables = [
        text
        for cell in notebook.cells
        if cell.cell_type == "code" and (text := text_of(cell)).startswith("model ")
    ]
    rows = tables[-1].splitlines()
    assert [row.split("  ")[0].strip() for row in rows[2:]] == [
        "unpruned",
        "pruned",
        "retrained",
        "exported (ONNX)",
    ]
    assert "–" not in tables[-1], "every figure must be measured"


def test_pictures_are_drawn_and_the_notebook_stays_small(executed):
    _, notebook = executed
    pictures = [
        o
        for c in notebook.cells
        if c.cell_type == "code"
        for o in c.outputs
        if "image/png" in o.get("data", {})
    ]
    assert len(pictures) == 4
    without_pictures = json.loads(nbformat.writes(notebook))
    for cell in without_pictures["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)
    assert len(json.dumps(without_pictures)) < 300_000


def test_the_key_is_nowhere_in_the_saved_notebook_but_in_the_cells(executed):
    _, notebook = executed
    outputs = json.dumps([cell.outputs for cell in notebook.cells if cell.cell_type == "code"])
    assert "nvidia_tlt" not in outputs
