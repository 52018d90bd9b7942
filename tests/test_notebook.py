"""The sample notebooks, from the first to the last cell, in a kernel of their own.

To be quick, they have few images and short epochs, and all commands but the first training and evaluation run in the
kernel: to load PyTorch once more for each of them takes longer than all the rest.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from taomagic.samples import copy_notebook


@dataclass(frozen=True)
class Expected:
    """What a notebook leaves.

    ``files`` are in the project folder; ``models`` are the rows of the closing table; ``pictures`` are drawn in cells.
    """

    files: tuple[str, ...]
    models: tuple[str, ...]
    pictures: int


EXPECTED = {
    "ssd": Expected(
        files=(
            "specs/ssd_train_resnet10_sample.txt",
            "data/training/image_2/000059.jpg",
            "data/ssd/tfrecords/kitti_train-fold-000-of-002-shard-00000-of-00004",
            "ssd/experiment_dir_unpruned/weights/ssd_resnet10_epoch_020.tlt",
            "ssd/experiment_dir_pruned/ssd_resnet10_pruned.tlt",
            "ssd/experiment_dir_retrain/weights/ssd_resnet10_epoch_010.tlt",
            "ssd/inference_retrained/labels/000000.txt",
            "ssd/inference_pruned/images_annotated/000000.jpg",
            "ssd/export/ssd_sample.onnx",
            "ssd/export/nvinfer_config.txt",
            ".tao_mounts.json",
        ),
        models=("unpruned", "pruned", "retrained", "exported (ONNX)"),
        pictures=4,
    ),
    "detectnet_v2": Expected(
        files=(
            "specs/detectnet_v2_train_resnet10_sample.txt",
            "data/training/image_2/000059.jpg",
            "data/tfrecords/kitti_trainval/kitti_trainval-fold-001-of-002-shard-00003-of-00004",
            "detectnet_v2/show_targets/images",
            "detectnet_v2/show_coverage/images",
            "detectnet_v2/experiment_dir_unpruned/weights/resnet10_detector.tlt",
            "detectnet_v2/experiment_dir_pruned/resnet10_nopool_bn_detectnet_v2_pruned.tlt",
            "detectnet_v2/experiment_dir_retrain/weights/resnet10_detector_pruned.tlt",
            "detectnet_v2/tlt_infer_testing/labels/000000.txt",
            "detectnet_v2/tlt_infer_pruned/images_annotated/000007.jpg",
            "detectnet_v2/experiment_dir_retrain_qat/weights/resnet10_detector_pruned_qat.tlt",
            "detectnet_v2/experiment_dir_final/resnet10_detector.onnx",
            "detectnet_v2/experiment_dir_final/nvinfer_config.txt",
            "detectnet_v2/experiment_dir_final/calibration.tensor",
            "detectnet_v2/experiment_dir_final/calibration.bin",
            "detectnet_v2/experiment_dir_final/calibration_qat.json",
            "detectnet_v2/experiment_dir_final/resnet10_detector.trt.int8",
            "detectnet_v2/experiment_dir_final/resnet10_detector_qat.trt.int8",
            "detectnet_v2/compare/comparison.png",
            ".tao_mounts.json",
        ),
        models=(
            "unpruned",
            "pruned",
            "retrained",
            "INT8 engine",
            "retrained with QAT",
            "INT8 engine with QAT",
        ),
        pictures=6,
    ),
}


def shortened(source: str) -> str:
    """Return a cell that does the same sooner."""
    if source.startswith("%%tao") and "-o unpruned" not in source:
        return source.replace("%%tao", "%%tao --in-process", 1)
    if source.startswith("%tao samples create"):
        for option, count in {"--count": 60, "--val": 8, "--testing": 2}.items():
            source = re.sub(rf"{option} [1-9]\d*", f"{option} {count}", source)
    return source


@pytest.fixture(scope="module", params=EXPECTED)
def net(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def executed(net: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nbformat.NotebookNode]:
    folder = tmp_path_factory.mktemp("notebook")
    home = folder / "home"
    project = folder / "my project" / net  # a blank in the path: people have them
    home.mkdir()
    copy_notebook(net, project)
    notebook = nbformat.read(project / f"{net}.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = shortened(cell.source)
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


def test_every_artefact_of_the_pipeline_is_there(net, executed):
    project, _ = executed
    for wanted in EXPECTED[net].files:
        assert (project / wanted).exists(), wanted


def test_the_closing_table_compares_the_models(net, executed):
    _, notebook = executed
    tables = [
        text
        for cell in notebook.cells
        if cell.cell_type == "code" and (text := text_of(cell)).startswith("model ")
    ]
    rows = tables[-1].splitlines()
    assert tuple(row.split("  ")[0].strip() for row in rows[2:]) == EXPECTED[net].models
    assert "–" not in tables[-1], "every figure must be measured"


def test_pictures_are_drawn_and_the_notebook_stays_small(net, executed):
    _, notebook = executed
    pictures = [
        o
        for c in notebook.cells
        if c.cell_type == "code"
        for o in c.outputs
        if "image/png" in o.get("data", {})
    ]
    assert len(pictures) == EXPECTED[net].pictures
    without_pictures = json.loads(nbformat.writes(notebook))
    for cell in without_pictures["cells"]:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/png", None)
    assert len(json.dumps(without_pictures)) < 400_000


def test_the_key_is_nowhere_in_the_saved_notebook_but_in_the_cells(net, executed):
    _, notebook = executed
    outputs = json.dumps([cell.outputs for cell in notebook.cells if cell.cell_type == "code"])
    assert {"ssd": "nvidia_tlt", "detectnet_v2": "tlt_encode"}[net] not in outputs
