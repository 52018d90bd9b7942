"""What a training writes, averages, repeats to the bit, starts from, and says when its loss is no number."""

from __future__ import annotations

import json
from typing import Any

import psutil
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import taomagic.engine.ssd.objective as objective_module
from taomagic.engine.device import DETERMINISTIC_VARIABLE, prefer
from taomagic.engine.signals import Stopped
from taomagic.engine.ssd.loss import LossParts
from taomagic.engine.storage.model_file import ModelFile, load_model
from taomagic.engine.training.run import TrainingRun
from taomagic.errors import DataProblem
from tests.engine.commands.conftest import KEY, ROOT, Project


def checkpoint(project: Project, results: str, epoch: int = 3) -> ModelFile:
    return load_model(project.path(project.weights(results, epoch)), KEY)


def with_lines(project: Project, name: str, *lines: str, **replaced: str) -> str:
    """Write the spec with lines added to ``training_config``."""
    return project.spec(
        name,
        replace={"  regularizer {": "".join(f"  {line}\n" for line in lines) + "  regularizer {", **replaced},
    )


def test_tensorboard_has_scalars_images_with_boxes_and_histograms_under_tao_s_names(project: Project):
    spec = with_lines(project, "tb.txt", "visualizer { enabled: true num_images: 2 weight_histograms: true }")
    outcome = project.train("tb", spec=spec)
    assert outcome.code == 0, outcome.output
    events = EventAccumulator(
        str(project.folder / "tb/events"), size_guidance={"images": 0, "scalars": 0, "histograms": 0}
    )
    events.Reload()
    tags = events.Tags()
    per_epoch = {"AP_car", "AP_cyclist", "AP_pedestrian", "mAP", "validation_loss"}
    assert set(tags["scalars"]) == {"loss", "lr", *per_epoch}
    steps = [event.step for event in events.Scalars("loss")]
    assert steps == list(range(9))  # 12 images in batches of 5, three epochs
    assert [event.step for event in events.Scalars("mAP")] == [2, 3]
    rows = json.loads((project.folder / "tb/training_run.json").read_text())["history"]
    losses = [event.value for event in events.Scalars("loss")]
    assert sum(losses[3:6]) / 3 == pytest.approx(rows[1]["loss"], rel=1e-5)
    assert events.Scalars("lr")[5].value == pytest.approx(rows[1]["lr"], rel=1e-5)
    assert set(tags["images"]) == {"batch_imgs/0", "batch_imgs/1"}
    image = events.Images("batch_imgs/0")
    assert [shot.step for shot in image] == [1, 2, 3]
    assert (image[0].width, image[0].height) == (144, 48)
    assert "backbone.conv1.weight" in tags["histograms"]
    assert [histogram.step for histogram in events.Histograms("backbone.conv1.weight")] == [1, 2, 3]


def test_a_loss_that_is_no_number_names_part_images_and_boxes_and_spares_the_checkpoints(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    original, calls = objective_module.multibox_loss, []

    def spoilt(*args, **kwargs):
        parts = original(*args, **kwargs)
        calls.append(parts)
        # Two steps to estimate the time, three an epoch: this is the second epoch's first.
        return (
            LossParts(parts.classification, parts.localisation * float("nan")) if len(calls) == 6 else parts
        )

    monkeypatch.setattr(objective_module, "multibox_loss", spoilt)
    outcome = project.train("nan")
    assert outcome.code == 1
    line = next(line for line in outcome.output.splitlines() if line.startswith("ERROR:"))
    assert "the loss became nan in step 1 at learning rate" in line
    assert "localisation nan" in line
    assert "classification nan" not in line
    names = line.rpartition("batch: ")[2].split(", ")
    assert len(names) == 5
    for name in names:
        boxes = [row for row in outcome.output.splitlines() if f"  {name}: " in row]
        assert len(boxes) == 1
        assert "class " in boxes[0] or "no boxes" in boxes[0]
    record = json.loads((project.folder / "nan/training_run.json").read_text())
    assert (record["state"], record["epoch"]) == ("failed", 1)
    assert project.path(project.weights("nan", 1)).exists()
    assert not project.path(project.weights("nan", 2)).exists()


def test_a_stopped_training_with_an_average_ends_as_an_undisturbed_one(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    spec = with_lines(project, "ema.txt", "model_ema: true")
    assert project.train("straight", spec=spec).code == 0
    original = TrainingRun._train_epoch

    def stop_in_the_third(self, model, step, epoch, *rest):
        if epoch == 3:
            raise Stopped(15)
        return original(self, model, step, epoch, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "_train_epoch", stop_in_the_third)
        assert project.train("stopped", spec=spec).code == 143
    resumed = project.train("stopped", spec=spec)
    assert "Resuming from epoch 2" in resumed.output
    ours, theirs = checkpoint(project, "stopped"), checkpoint(project, "straight")
    for name, tensor in theirs.weights.items():
        assert torch.equal(tensor, ours.weights[name]), name
    # What is saved is the average, and what goes on is something else.
    assert theirs.optimizer is not None
    trained = theirs.optimizer["taomagic"]["weights"]
    assert not torch.equal(trained["backbone.conv1.weight"], theirs.weights["backbone.conv1.weight"])


def test_two_deterministic_trainings_have_equal_weights(project: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(DETERMINISTIC_VARIABLE, "1")
    try:
        outcomes = [project.train(results) for results in ("first", "second")]
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        prefer(deterministic=False)
    assert [outcome.code for outcome in outcomes] == [0, 0]
    assert "every operation is deterministic" in outcomes[0].output
    expected = checkpoint(project, "second").weights
    for name, tensor in checkpoint(project, "first").weights.items():
        assert torch.equal(tensor, expected[name]), name


def test_the_spec_s_resume_model_path_continues_a_training_and_its_pretrain_model_path_begins_one(
    project: Project,
):
    assert project.train("run").code == 0
    two = project.weights("run", 2)
    resumed = project.train("resumed", spec=with_lines(project, "r.txt", f'resume_model_path: "{two}"'))
    assert resumed.code == 0, resumed.output
    assert "Epoch 3/3" in resumed.output
    assert "Epoch 2/3" not in resumed.output
    expected = checkpoint(project, "run").weights
    for name, tensor in checkpoint(project, "resumed").weights.items():
        assert torch.equal(tensor, expected[name]), name

    begun = project.train("begun", spec=with_lines(project, "p.txt", f'pretrain_model_path: "{two}"'))
    assert begun.code == 0, begun.output
    assert "Epoch 1/3" in begun.output
    assert f"from {two}" in begun.output

    # A flag goes before the spec.
    missing = with_lines(project, "m.txt", f'pretrain_model_path: "{ROOT}/nowhere.tlt"')
    assert project.train("flag", "-m", two, spec=missing).code == 0
    assert project.train("none", spec=missing).code == 1


def test_mixed_precision_without_hardware_for_it_is_said_and_changes_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("taomagic.engine.device.cpu_has_bfloat16", lambda: False)
    assert project.train("plain").code == 0
    outcome = project.train("amp", "--use_amp")
    assert outcome.code == 0
    assert "training in float32" in outcome.output
    expected = checkpoint(project, "plain").weights
    for name, tensor in checkpoint(project, "amp").weights.items():
        assert torch.equal(tensor, expected[name]), name


def test_a_failed_training_leaves_no_process_even_where_somebody_still_looks_at_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    kept: list[Any] = []

    def fail(run: TrainingRun) -> None:
        kept.append(run)  # as a traceback in a notebook does
        next(run.images.epoch(1, 4))
        kept.extend(p for p in psutil.Process().children() if "engine.data.worker" in " ".join(p.cmdline()))
        raise DataProblem("no more")

    monkeypatch.setattr(TrainingRun, "run", fail)
    outcome = project.train("failed", "--use_multiprocessing")
    assert outcome.code == 1
    assert "no more" in outcome.output
    _, *workers = kept
    assert workers
    assert not any(worker.is_running() for worker in workers)
