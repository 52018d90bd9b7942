"""`deploy ssd evaluate` and `inference`, with an engine that finds the same box in every image."""

from __future__ import annotations

import argparse
import json

import cv2
import numpy as np
import pytest

from taomagic.engine.ssd import deploy_evaluate, deploy_inference
from taomagic.engine.ssd.postprocess import Detections
from taomagic.project.paths import PathMap

SPEC = """
ssd_config { aspect_ratios_global: "[1.0]" scales: "[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]"
             variances: "[0.1, 0.1, 0.2, 0.2]" arch: "resnet" nlayers: 10 }
eval_config { validation_period_during_training: 1 batch_size: 4 matching_iou_threshold: 0.5 }
nms_config { confidence_threshold: 0.01 clustering_iou_threshold: 0.6 top_k: 50 }
augmentation_config { output_width: 64 output_height: 48 output_channel: 3 }
dataset_config { target_class_mapping { key: "car" value: "car" } }
"""


class Engine:
    """Finds a car that reaches beyond the left side."""

    kind, place, parameters, mean = "FP32 engine", "here", 7, None
    input_shape = (3, 48, 64)
    classes = ("car",)

    def share(self, callers):
        return callers

    def predict(self, images):
        one = Detections(
            np.array([[-4.3, 6, 32.25, 24]], np.float32), np.array([0.75], np.float32), np.array([1])
        )
        return [one] * len(images)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for module in (deploy_evaluate, deploy_inference):
        monkeypatch.setattr(module, "open_exported_predictor", lambda *_: Engine())
    (tmp_path / "spec.txt").write_text(SPEC)
    (tmp_path / "m.engine").write_bytes(b"engine")
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    return tmp_path


def add(folder, name, occluded=0, box="0 12 64 48"):
    cv2.imwrite(str(folder / f"images/{name}.png"), np.zeros((96, 128, 3), np.uint8))
    (folder / f"labels/{name}.txt").write_text(f"Car 0 {occluded} 0 {box} 0 0 0 0 0 0 0\n")


def arguments(folder, **more):
    return argparse.Namespace(
        model=f"{folder}/m.engine",
        spec=f"{folder}/spec.txt",
        image_dir=f"{folder}/images",
        results_dir=f"{folder}/r",
        key="",
        gpu_index=None,
        **more,
    )


def test_the_score_is_that_of_the_specs_measure_over_full_batches(folder, capsys):
    add(folder, "a")
    add(folder, "b", box="0 60 64 90")  # not where the engine sees it
    add(folder, "c", box="0 60 64 90")
    args = arguments(folder, label_dir=f"{folder}/labels", batch_size=2)
    deploy_evaluate.run(args, PathMap())
    results = json.loads((folder / "r/results.json").read_text())
    assert results == {"AP_car": pytest.approx(6 / 11), "mAP": pytest.approx(6 / 11)}
    assert "car           AP    0.545\n" in capsys.readouterr().out
    assert '"SUCCESS"' in (folder / "r/status.json").read_text()


def test_boxes_are_on_whole_pixels_inside_the_image_with_three_decimals(folder):
    add(folder, "a")
    deploy_inference.run(arguments(folder, batch_size=1, threshold=0.75), PathMap())
    assert (folder / "r/labels/a.txt").read_text() == (
        "car 0.00 0 0.00 0.000 12.000 64.000 48.000" + " 0.00" * 7 + " 0.750\n"
    )
    assert (folder / "r/images_annotated/a.png").is_file()
    deploy_inference.run(arguments(folder, batch_size=1, threshold=0.76), PathMap())
    assert (folder / "r/labels/a.txt").read_text() == ""
