"""From images to a table: a network that says the right thing gets full marks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from taomagic.engine.detectnet_v2.class_table import class_table
from taomagic.engine.detectnet_v2.detector import Detector
from taomagic.engine.detectnet_v2.evaluation import (
    SWAP_VARIABLE,
    evaluate_model,
    for_evaluation,
)
from taomagic.engine.detectnet_v2.layout import Layout
from taomagic.engine.detectnet_v2.loading import GridBatch, ValidationData
from taomagic.engine.detectnet_v2.model import Architecture, DetectNet
from taomagic.engine.detectnet_v2.objective import GridObjective
from taomagic.engine.detectnet_v2.predictor import TorchPredictor
from taomagic.engine.device import choose_device
from taomagic.launcher.class_table import ClassTable
from taomagic.project.paths import PathMap
from taomagic.spec.detectnet_v2 import read_experiment
from taomagic.spec.settings_detectnet_v2 import DetectNetExperiment

from .test_grid_loading import experiment_text


@pytest.fixture
def experiment(tmp_path: Path, write: Callable[..., None]) -> DetectNetExperiment:
    write("set0-fold-001-of-002", {"a/0": [("car", 10.0, 10.0, 60.0, 50.0)]})
    rows = [("car", 10.0, 10.0, 60.0, 50.0), ("cyclist", 50.0, 2.0, 90.0, 62.0)]
    write("set0-fold-000-of-002", {f"v/{i}": rows for i in range(3)})
    path = tmp_path / "spec.txt"
    path.write_text(experiment_text().replace("num_layers: 18", "num_layers: 10\n  width_multiplier: 0.125"))
    return read_experiment(path, purpose="train")


class Oracle(nn.Module):
    """Answers with the targets of the batch that it is shown."""

    def __init__(self, model: DetectNet, objective: GridObjective, batches: list[GridBatch]) -> None:
        super().__init__()
        self.architecture = model.architecture
        self._answers = [objective.rasterizer(batch.boxes, batch.labels) for batch in batches]

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        targets = self._answers.pop(0)
        return targets.coverage, targets.boxes.flatten(1, 2)


def test_the_targets_themselves_find_every_object(experiment: DetectNetExperiment, paths: PathMap) -> None:
    model = DetectNet(Architecture.from_experiment(experiment))
    objective = GridObjective(Layout.of(model.architecture), experiment)
    data = ValidationData(experiment, paths)
    oracle = Oracle(model, objective, list(data.batches(2)))
    predictor = TorchPredictor(oracle, choose_device())  # type: ignore[arg-type]
    detector = Detector(predictor, for_evaluation(experiment.clustering))
    assert experiment.evaluation is not None
    result = evaluate_model(detector, data, experiment.evaluation, objective, 2)
    # INTEGRATE leaves out what lies before the first recall: of three objects, the first third.
    assert result.average_precision == {
        "car": pytest.approx(2 / 3),
        "cyclist": pytest.approx(2 / 3),
        "pedestrian": 0.0,
    }
    assert result.cost < 0.05
    assert result.milliseconds > 0


def test_the_loss_of_a_batch_is_the_sum_of_its_shares(
    experiment: DetectNetExperiment, paths: PathMap
) -> None:
    model = DetectNet(Architecture.from_experiment(experiment)).eval()
    objective = GridObjective(Layout.of(model.architecture), experiment)
    data = ValidationData(experiment, paths)
    (whole,) = data.batches(3)
    from taomagic.engine.detectnet_v2.loading import TrainingData

    training = TrainingData(experiment, paths)
    assert len(training) == 1
    with torch.no_grad():
        total = objective(*model(whole.images), batch=whole).total
        shares = []
        for part in data.batches(1):
            object.__setattr__(part, "global_size", 3)
            shares.append(objective(*model(part.images), batch=part).total)
    assert float(sum(shares)) == pytest.approx(float(total), rel=1e-5)


def test_a_network_that_is_not_trained_is_measured_all_the_same(
    experiment: DetectNetExperiment, paths: PathMap
) -> None:
    model = DetectNet(Architecture.from_experiment(experiment))
    detector = Detector(TorchPredictor(model, choose_device()), experiment.clustering)
    assert experiment.evaluation is not None
    result = evaluate_model(
        detector,
        ValidationData(experiment, paths),
        experiment.evaluation,
        GridObjective(Layout.of(model.architecture), experiment),
        2,
    )
    assert set(result.average_precision) == set(experiment.classes)
    assert result.cost > 0


def test_the_thresholds_are_those_of_the_spec_unless_nvidias_order_is_asked_for(
    experiment: DetectNetExperiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert for_evaluation(experiment.clustering)["car"].dbscan_confidence_threshold == 0.9
    monkeypatch.setenv(SWAP_VARIABLE, "1")
    swapped = for_evaluation(experiment.clustering)["car"]
    assert (swapped.dbscan_confidence_threshold, swapped.nms_confidence_threshold) == (0.0, 0.9)


def test_the_table_is_nvidias() -> None:
    assert class_table({"pedestrian": 0.67, "car": 0.827312345}, framed=False) == [
        "class name      average precision (in %)",
        "------------  --------------------------",
        "car                              82.7312",
        "pedestrian                       67.0000",
    ]


def test_the_table_of_release_5_has_a_frame_and_all_digits() -> None:
    lines = class_table({"person sitting": 0.0, "cyclist": float("nan"), "car": 0.82827}, framed=True)
    assert lines == [
        "+----------------+--------------------------+",
        "|   class name   | average precision (in %) |",
        "+----------------+--------------------------+",
        "|      car       |          82.827          |",
        "|    cyclist     |           nan            |",
        "| person sitting |           0.0            |",
        "+----------------+--------------------------+",
    ]


@pytest.mark.parametrize("framed", [False, True])
def test_the_launcher_reads_what_is_printed(framed: bool) -> None:
    scores = {"car": 0.7654321987, "person sitting": 1e-9, "cyclist": 1.0}
    reader = ClassTable()
    lines = ["Mean average_precision (in %): 1", "", *class_table(scores, framed=framed), "", "car  1.0"]
    rows = [row for line in lines if (row := reader.read(line)) is not None]
    assert dict(rows) == pytest.approx(scores, abs=1e-6)
