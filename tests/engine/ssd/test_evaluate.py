"""What evaluate says and writes besides the table, without a network."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from taomagic.engine.device import Device
from taomagic.engine.evaluation import report
from taomagic.engine.evaluation.average_precision import evaluate_detections
from taomagic.engine.evaluation.matching import ImageDetections, ImageTruth
from taomagic.engine.evaluation.report import explain, print_table
from taomagic.engine.ssd import evaluate, predictor
from taomagic.engine.ssd.evaluate import _save_pr_curve, check_against_spec
from taomagic.engine.ssd.evaluation import on_pixels
from taomagic.engine.ssd.postprocess import Detections
from taomagic.engine.ssd.predictor import load_predictor
from taomagic.errors import EnvironmentProblem, ModelFileProblem, TaoError
from taomagic.project.paths import PathMap
from taomagic.spec.arguments import parse_arguments
from taomagic.spec.settings import NMSSettings
from taomagic.spec.ssd import read_experiment

BOXES = np.array([[0.0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]])
TRUTH = ImageTruth(BOXES, np.array([1, 1, 2]), np.array([False, True, False]))
FOUND = ImageDetections(BOXES[[0, 2]], np.array([0.9, 0.8]), np.array([1, 2]))
CPU = Device(torch.device("cpu"))
LIMITS = NMSSettings(0.01, 0.6, 200, 0)


@pytest.fixture
def evaluation():
    return evaluate_detections([TRUTH], [FOUND], ["car", "cyclist", "tram"], iou_threshold=0.5, mode="SAMPLE")


@pytest.fixture
def logged(monkeypatch):
    """Return what is logged at INFO and above, as text."""
    lines = []

    class Keep(logging.Handler):
        def emit(self, record):
            lines.append(f"{record.levelname}: {record.getMessage()}")

    handler = Keep()
    for module in (evaluate, predictor, report):
        monkeypatch.setattr(module.logger, "level", logging.INFO)
        monkeypatch.setattr(module.logger, "handlers", [handler])
    return lines


@pytest.mark.parametrize(("digits", "shown"), [(3, "0.667"), (5, "0.66667")])
def test_the_table_has_taos_columns_and_the_digits_of_the_command(evaluation, capsys, digits, shown):
    print_table(evaluation, digits=digits)
    assert capsys.readouterr().out == (
        "*******************************\n"
        "car           AP    1.0\n"
        "cyclist       AP    1.0\n"
        "tram          AP    0.0\n"
        f"              mAP   {shown}\n"
        "*******************************\n"
    )


def test_boxes_are_rounded_to_pixels_inside_the_image_before_they_are_compared():
    found = Detections(
        np.array([[-3.2, 0.4, 47.5, 96.7], [0.5, 1.5, 2.5, 3.6]], np.float32),
        np.array([0.9, 0.8], np.float32),
        np.array([1, 2]),
    )
    pixels = on_pixels(found, (3, 96, 48))
    assert pixels.boxes.tolist() == [[0, 0, 48, 96], [0, 2, 2, 4]]  # halves to even, as NumPy rounds
    assert pixels.labels.tolist() == [1, 2]


def test_difficult_objects_and_absent_classes_are_explained(evaluation, logged):
    explain(evaluation, [TRUTH])
    assert logged == [
        "INFO: 1 of 3 validation objects are difficult (occlusion above 0): they need not be found.",
        "WARNING: No tram is there to be found in the validation data; its AP counts as 0.",
    ]


def test_the_curve_lies_beside_the_model_and_in_the_results_folder(evaluation, tmp_path, capsys):
    model, results = tmp_path / "model", tmp_path / "results"
    model.mkdir()
    _save_pr_curve(evaluation, model, results, PathMap())
    for folder in (results, model):
        assert (folder / "PR_curve.png").read_bytes()[:4] == b"\x89PNG"
    assert capsys.readouterr().out.count("Saved: ") == 2


def test_a_models_folder_that_may_not_be_written_costs_no_results(evaluation, tmp_path, monkeypatch, logged):
    write = evaluate.write_pr_curve

    def refuse(path, result):
        if path.parent.name == "model":
            raise EnvironmentProblem("the file can't be written", where=str(path))
        write(path, result)

    monkeypatch.setattr(evaluate, "write_pr_curve", refuse)
    _save_pr_curve(evaluation, tmp_path / "model", tmp_path / "results", PathMap())
    assert (tmp_path / "results/PR_curve.png").exists()
    assert logged == [f"WARNING: {tmp_path}/model/PR_curve.png: the file can't be written"]


def test_a_misspelt_model_is_named_as_written_and_makes_no_folder(tmp_path):
    model = str(tmp_path / "missing/model.tlt")
    args = parse_arguments("ssd", ["evaluate", "-e", str(tmp_path / "none"), "-m", model])
    with pytest.raises(TaoError, match="none"):
        evaluate.run(args, PathMap())
    assert not (tmp_path / "missing").exists()
    for name in ("model.tlt", "model.hdf5", "model.onnx", "model.etlt", "model.engine"):
        with pytest.raises(ModelFileProblem, match="no such model file") as problem:
            load_predictor(tmp_path / name, "k", CPU, LIMITS, shown_as=f"/container/{name}")
        assert problem.value.where == f"/container/{name}"


def test_a_file_of_another_kind_is_told_what_kinds_there_are(tmp_path):
    (tmp_path / "m.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelFileProblem, match=r"\.tlt, \.hdf5, \.onnx, \.etlt and engines") as problem:
        load_predictor(tmp_path / "m.pt", "", CPU, LIMITS, shown_as="m.pt")
    assert "train, prune or export" in problem.value.hint


class Exported:
    """What ONNX Runtime would say of a model."""

    kind, place = "ONNX model", "CPU, ONNX Runtime"

    def __init__(self, path, key, *, shown_as):
        self.metadata = {
            "task": "ssd",
            "input_shape": [3, 48, 64],
            "classes": ["car"],
            "parameters": 1,
            "mean": [1.0, 2.0, 3.0],
            "confidence_threshold": 0.3,
            "clustering_iou_threshold": 0.6,
            "top_k": 100,
        }


def test_an_exported_models_own_settings_are_compared_with_the_specs(tmp_path, monkeypatch, logged):
    monkeypatch.setattr("taomagic.engine.inference.models.open_engine", Exported)
    model = load_predictor(tmp_path / "m.onnx", "", CPU, LIMITS, shown_as="m.onnx")
    (tmp_path / "spec.txt").write_text(SPEC)
    experiment = read_experiment(tmp_path / "spec.txt", purpose="inference", shown_as="spec.txt")
    check_against_spec(model, experiment, "m.onnx")
    assert logged == [
        "WARNING: m.onnx has its own post-processing, of its export: "
        "confidence_threshold 0.3 (spec: 0.01), top_k 100 (spec: 200).",
        "WARNING: m.onnx was exported for images minus (1.0, 2.0, 3.0); "
        "the spec's mean (103.939, 116.779, 123.68) is used.",
    ]
    other = replace(experiment, augmentation=replace(experiment.augmentation, output_width=128))
    with pytest.raises(ModelFileProblem, match=r"\(3, 48, 64\) and the spec's \(3, 48, 128\) differ"):
        check_against_spec(model, other, "m.onnx")


SPEC = """
ssd_config { aspect_ratios_global: "[1.0]" scales: "[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]"
             variances: "[0.1, 0.1, 0.2, 0.2]" arch: "resnet" nlayers: 10 }
eval_config { validation_period_during_training: 1 batch_size: 2 matching_iou_threshold: 0.5 }
nms_config { confidence_threshold: 0.01 clustering_iou_threshold: 0.6 top_k: 200 }
augmentation_config { output_width: 64 output_height: 48 output_channel: 3 }
dataset_config { target_class_mapping { key: "car" value: "car" } }
"""
