"""Training on from a checkpoint in the same folder, and from a run that was ended at an awkward moment."""

from __future__ import annotations

import json

import pytest

from taomagic.engine.signals import Stopped
from taomagic.engine.training.run import TrainingRun
from tests.engine.commands.conftest import Project

LOG = "ssd_training_log_resnet10.csv"


def checkpoints(project: Project, results: str) -> list[str]:
    return sorted(path.name[-7:-4] for path in (project.folder / results / "weights").iterdir())


def record(project: Project, results: str) -> dict:
    return json.loads((project.folder / results / "training_run.json").read_text())


def test_more_epochs_in_the_same_folder_keep_the_checkpoints_that_led_there(project: Project):
    assert project.train("unpruned").code == 0
    longer = project.spec("longer.txt", replace={"num_epochs: 3": "num_epochs: 4"})
    start = project.weights("unpruned", 3)
    outcome = project.train("unpruned", "-m", start, "--initial_epoch", "4", spec=longer)
    assert outcome.code == 0, outcome.output
    assert checkpoints(project, "unpruned") == ["001", "002", "003", "004"]


def test_a_training_that_has_no_epoch_left_touches_nothing(project: Project):
    assert project.train("unpruned").code == 0
    before = record(project, "unpruned")
    outcome = project.train("unpruned", "-m", project.weights("unpruned", 3), "--initial_epoch", "4")
    assert outcome.code == 1
    assert "--initial_epoch 4 comes after the last epoch, 3" in outcome.output
    assert checkpoints(project, "unpruned") == ["001", "002", "003"]
    assert record(project, "unpruned") == before


def test_a_training_does_not_overwrite_the_weights_that_it_starts_from(project: Project):
    assert project.train("unpruned").code == 0
    outcome = project.train("unpruned", "-m", project.weights("unpruned", 3))
    assert outcome.code == 1
    assert "would overwrite the weights it starts from" in outcome.output
    assert checkpoints(project, "unpruned") == ["001", "002", "003"]


def test_missing_weights_are_a_problem_that_tells_their_name(project: Project):
    outcome = project.train("unpruned", "-m", project.weights("nowhere", 3))
    assert outcome.code == 1
    assert "ssd_resnet10_epoch_003.tlt" in outcome.output
    assert "HINT:" in outcome.output


@pytest.mark.parametrize("method", ["_validate", "_log_epoch"])
def test_a_run_stopped_after_its_last_checkpoint_still_gets_the_row_of_that_epoch(
    project: Project, monkeypatch: pytest.MonkeyPatch, method: str
):
    assert project.train("straight").code == 0
    original = getattr(TrainingRun, method)
    calls = []

    def stop_in_the_last_epoch(self, *args):
        calls.append(args)
        # Epochs 2 and 3 are validated; all three are logged.
        if len(calls) == (2 if method == "_validate" else 3):
            raise Stopped(15)
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, method, stop_in_the_last_epoch)
        assert project.train("stopped").code == 143
    assert record(project, "stopped")["state"] == "interrupted"
    outcome = project.train("stopped")
    assert outcome.code == 0, outcome.output
    assert "Resuming from epoch" in outcome.output
    logs = [(project.folder / results / LOG).read_text() for results in ("straight", "stopped")]
    assert logs[0] == logs[1]


def test_a_run_killed_when_it_had_stopped_early_does_not_train_on(project: Project):
    rule = 'early_stopping { monitor: "loss" min_delta: 100.0 patience: 1 }\n  regularizer'
    spec = project.spec("early.txt", replace={"regularizer": rule, "num_epochs: 3": "num_epochs: 5"})
    assert project.train("early", spec=spec).code == 0
    whole = record(project, "early")
    assert whole["epoch"] < 5
    path = project.folder / "early" / "training_run.json"
    path.write_text(json.dumps({**whole, "state": "running"}))
    outcome = project.train("early", spec=spec)
    assert outcome.code == 0, outcome.output
    assert record(project, "early") == whole


def test_a_quick_mode_that_is_no_number_is_named(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TAOMAGIC_STEPS_PER_EPOCH", "few")
    outcome = project.train("quick")
    assert outcome.code == 1
    assert "ERROR: TAOMAGIC_STEPS_PER_EPOCH: 'few' is not a number of steps" in outcome.output
    assert "Traceback" not in outcome.output
