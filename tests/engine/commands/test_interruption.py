"""Killed, stopped, out of space: what is left, and what the same command does then."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator

import pytest
import torch

from taomagic.engine.signals import Stopped
from taomagic.engine.ssd import weights
from taomagic.engine.storage.model_file import load_model
from tests.engine.commands.conftest import KEY, ROOT, Project
from tests.engine.training.test_trackers import WandBDouble


def final_weights(project: Project, results: str) -> dict[str, torch.Tensor]:
    return load_model(project.path(project.weights(results, 4)), KEY).weights


def state(project: Project, results: str) -> str:
    return json.loads((project.folder / results / "training_run.json").read_text())["state"]


def reached(project: Project, results: str, epoch: int):
    """Return a condition: the record of the run says that this epoch is complete."""

    def condition() -> bool:
        try:
            return json.loads((project.folder / results / "training_run.json").read_text())["epoch"] >= epoch
        except FileNotFoundError:
            return False

    return condition


def wait_for(condition, process, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "the training did not come that far"
        time.sleep(0.005)


@pytest.fixture
def command(project: Project):
    spec = project.spec("long.txt", replace={"num_epochs: 3": "num_epochs: 4"})

    def words(results: str) -> list[str]:
        return ["ssd", "train", "-e", spec, "-r", f"{ROOT}/{results}", "-k", KEY]

    return words


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute with one thread, as the processes that are started here: sums depend on their number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_killed_training_resumes_and_ends_with_the_same_weights_bit_for_bit(project: Project, command):
    straight = project.run(*command("straight"))
    assert straight.code == 0, straight.output

    # Killed again and again: in the first epoch, right after a checkpoint, and a moment after one.
    for epoch, delay in ((0, 0.3), (1, 0.0), (2, 0.15)):
        process = project.start(*command("killed"))
        if epoch == 0:
            wait_for((project.folder / "killed/training_run.json").exists, process)
        else:
            wait_for(project.path(project.weights("killed", epoch)).exists, process)
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
    last = project.run(*command("killed"))
    assert last.code == 0, last.output
    assert "Resuming from epoch" in last.output

    expected = final_weights(project, "straight")
    for name, tensor in final_weights(project, "killed").items():
        assert torch.equal(tensor, expected[name]), name
    logs = [
        (project.folder / r / "ssd_training_log_resnet10.csv").read_text() for r in ("straight", "killed")
    ]
    assert logs[0] == logs[1]
    # Nothing half-written stays behind.
    assert not [p for p in (project.folder / "killed").rglob("*") if ".tmp" in p.name or ".partial" in p.name]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_training_says_so_and_resumes(project: Project, command, signum, code):
    process = project.start(*command("stopped"))
    wait_for(reached(project, "stopped", 1), process)
    process.send_signal(signum)
    output, _ = process.communicate()
    assert process.returncode == code
    assert output.splitlines()[-1] == "Execution status: FAIL"
    assert "Traceback" not in output
    assert state(project, "stopped") == "interrupted"
    outcome = project.run(*command("stopped"))
    assert outcome.code == 0, outcome.output
    assert "Resuming from epoch" in outcome.output


def test_a_comment_does_not_prevent_a_resume_but_a_changed_spec_and_no_resume_start_afresh(
    project: Project, command, monkeypatch
):
    save = weights.save

    def stops_in_epoch_2(path, model, key, *, epoch=0, optimizer=None):
        if epoch == 2:
            raise Stopped(signal.SIGTERM)
        save(path, model, key, epoch=epoch, optimizer=optimizer)

    monkeypatch.setattr(weights, "save", stops_in_epoch_2)
    assert project.run(*command("stopped")).code == 143
    monkeypatch.setattr(weights, "save", save)
    for copy in ("commented", "afresh", "changed"):
        shutil.copytree(project.folder / "stopped", project.folder / copy)

    fresh = project.run(*command("afresh"), "--no-resume")
    assert fresh.code == 0, fresh.output
    assert "Resuming" not in fresh.output

    spec = project.folder / "specs/long.txt"
    spec.write_text("# a thought\n" + spec.read_text())
    assert "Resuming from epoch 1" in project.run(*command("commented")).output

    spec.write_text(spec.read_text().replace("max_learning_rate: 1e-2", "max_learning_rate: 2e-2"))
    changed = project.run(*command("changed"))
    assert changed.code == 0, changed.output
    assert "its spec differed; starting afresh" in changed.output


def test_a_full_disk_keeps_the_checkpoints_and_the_same_command_goes_on(
    project: Project, command, monkeypatch
):
    save = weights.save

    def fails_at_epoch_3(path, model, key, *, epoch=0, optimizer=None):
        if epoch == 3:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save(path, model, key, epoch=epoch, optimizer=optimizer)

    monkeypatch.setattr(weights, "save", fails_at_epoch_3)
    outcome = project.run(*command("full"))
    assert outcome.code == 1
    assert "the disk is full" in outcome.output
    assert project.path(project.weights("full", 2)).exists()
    monkeypatch.setattr(weights, "save", save)
    outcome = project.run(*command("full"))
    assert outcome.code == 0, outcome.output
    assert "Resuming from epoch 2" in outcome.output


@pytest.mark.parametrize("lacking", ["pip install wandb", "Run `wandb login`"])
def test_a_run_without_a_tracker_s_package_or_account_leaves_a_finished_one_where_it_is(
    project: Project, monkeypatch, lacking: str
):
    wandb = WandBDouble()
    wandb.failing["init"] = wandb.errors.UsageError("api_key not configured")
    monkeypatch.setitem(sys.modules, "wandb", None if "pip" in lacking else wandb)
    finished = project.path(project.weights("kept", 3))
    finished.parent.mkdir(parents=True)
    finished.write_bytes(b"weights")
    tracked = "num_epochs: 3 visualizer { enabled: true wandb_config { enabled: true } }"
    spec = project.spec(replace={"num_epochs: 3": tracked})
    outcome = project.train("kept", spec=spec)
    assert outcome.code == 1
    assert lacking in outcome.output
    assert finished.read_bytes() == b"weights"


def test_a_failed_run_does_not_cost_a_finished_one(project: Project, command, monkeypatch):
    assert project.run(*command("kept")).code == 0
    finished = project.path(project.weights("kept", 4)).read_bytes()

    # A spec that is wrong is refused before anything is touched.
    broken = project.spec("broken.txt", replace={"num_epochs: 3": "num_epochs: 0"})
    assert project.run("ssd", "train", "-e", broken, "-r", f"{ROOT}/kept", "-k", KEY).code == 1
    assert project.path(project.weights("kept", 4)).read_bytes() == finished

    # One that fails on the way leaves the finished weights aside; one that finishes replaces them.
    def fails(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(weights, "save", fails)
    assert project.run(*command("kept")).code == 1
    aside = project.folder / "kept/previous_run/weights/ssd_resnet10_epoch_004.tlt"
    assert aside.read_bytes() == finished
    monkeypatch.undo()
    monkeypatch.setenv("LAUNCHER_MOUNTS", str(project.folder.parent / "mounts.json"))
    assert project.run(*command("kept")).code == 0
    assert not aside.exists()
