"""`deploy detectnet_v2 evaluate` and `inference`, with an engine that sees white rectangles."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from taomagic.engine.detectnet_v2 import deploy_evaluate, deploy_inference
from taomagic.errors import DataProblem
from taomagic.project.paths import PathMap

from .conftest import ROOT
from .test_grid_commands import SPECS, Square
from .test_grid_loading import experiment_text

INFERENCE = "detectnet_v2_inference_kitti_etlt.txt"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Specs and images, and engines that are replaced."""
    for module in (deploy_evaluate, deploy_inference):
        monkeypatch.setattr(module, "open_exported", lambda *_, **__: None)
        monkeypatch.setattr(module, "ExportedPredictor", lambda *_: Square())
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    (folder / "spec.txt").write_text(experiment_text())
    text = (SPECS / INFERENCE).read_text()
    (folder / "inference.txt").write_text(
        text.replace("image_width: 1248", "image_width: 96").replace("image_height: 384", "image_height: 64")
    )
    (folder / "model.trt").write_bytes(b"engine")
    return folder


def add(folder: Path, name: str, *, occluded: int = 0, seen: bool = True, rows: int = 1) -> None:
    """Add an image with a car, or with one that can't be seen."""
    picture = np.zeros((192, 192, 3), np.uint8)
    if seen:
        picture[60:150, 40:120] = 255
    cv2.imwrite(str(folder / f"images/{name}.png"), picture)
    row = f"Car 0.00 {occluded} 0.00 40 60 120 150 0 0 0 0 0 0 0\n"
    (folder / f"labels/{name}.txt").write_text(row * rows)


@pytest.fixture
def run(folder: Path) -> Callable[..., dict[str, float]]:
    def evaluate(batch_size: int = 1) -> dict[str, float]:
        args = argparse.Namespace(
            model=f"{ROOT}/model.trt",
            spec=f"{ROOT}/spec.txt",
            image_dir=f"{ROOT}/images",
            label_dir=f"{ROOT}/labels",
            batch_size=batch_size,
            results_dir=f"{ROOT}/results",
            key="",
            gpu_index=None,
        )
        deploy_evaluate.run(args, PathMap([(str(folder), ROOT)]))
        results: dict[str, float] = json.loads((folder / "results/results.json").read_text())
        return results

    return evaluate


def test_the_score_is_the_eleven_point_measure(
    folder: Path, run: Callable[..., dict[str, float]], capsys: pytest.CaptureFixture[str]
) -> None:
    add(folder, "a")
    add(folder, "b", seen=False)
    # Half of the cars are found: at the recalls 0, 0.1, ... 0.5 the precision is 1.
    assert run() == {
        "AP_car": pytest.approx(6 / 11),
        "AP_cyclist": 0.0,
        "AP_pedestrian": 0.0,
        "mAP": pytest.approx(2 / 11),
    }
    assert "car           AP    0.545\n" in capsys.readouterr().out
    record = json.loads((folder / "results/status.json").read_text().splitlines()[-1])
    assert record["status"] == "SUCCESS"
    assert record["kpi"]["mAP"] == pytest.approx(2 / 11)


def test_an_occluded_object_need_not_be_found(folder: Path, run: Callable[..., dict[str, float]]) -> None:
    add(folder, "a")
    add(folder, "b", seen=False, occluded=1)
    assert run()["AP_car"] == 1.0
    add(folder, "b", seen=False, occluded=0)
    assert run()["AP_car"] < 0.6


def test_images_beyond_the_full_batches_are_left_out(
    folder: Path, run: Callable[..., dict[str, float]]
) -> None:
    add(folder, "a")
    add(folder, "b")
    add(folder, "c", seen=False)
    assert run(2)["AP_car"] == 1.0, "only the first two count"
    with pytest.raises(DataProblem, match="3 images don't fill a batch of 4"):
        run(4)


@pytest.mark.parametrize(("threshold", "count"), [("2.0", 1), ("2.1", 0)])
def test_a_confidence_of_just_the_threshold_is_enough(folder: Path, threshold: str, count: int) -> None:
    add(folder, "a")
    path = folder / "inference.txt"
    path.write_text(
        path.read_text().replace("confidence_threshold: 0.9", f"confidence_threshold: {threshold}")
    )
    args = argparse.Namespace(
        model=f"{ROOT}/model.trt",
        spec=f"{ROOT}/inference.txt",
        image_dir=f"{ROOT}/images",
        batch_size=1,
        results_dir=f"{ROOT}/results",
        key="",
        gpu_index=None,
    )
    deploy_inference.run(args, PathMap([(str(folder), ROOT)]))
    rows = (folder / "results/labels/a.txt").read_text().splitlines()
    assert len(rows) == count
    assert (folder / "results/images_annotated/a.png").is_file()
    if rows:
        # Pillow's bilinear filter makes edges grey: the fake sees half of a pixel more or less.
        assert np.allclose([float(side) for side in rows[0].split()[4:8]], [40, 60, 120, 150], atol=3)
