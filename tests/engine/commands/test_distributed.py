"""``ssd train`` in two processes on a CPU: the result of one, one error whoever fails, and nobody left behind."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time

import psutil
import pytest
import torch

from taomagic.engine.storage.model_file import load_model
from tests.engine.commands.conftest import KEY, ROOT, Project

#: One process with the batch and the learning rates that two processes have together.
GENTLE = "min_learning_rate: 1e-5 max_learning_rate: 1e-4"
TOGETHER = "min_learning_rate: 2e-5 max_learning_rate: 2e-4"


def rows_of(project: Project, results: str) -> list[dict[str, float]]:
    with (project.folder / results / "ssd_training_log_resnet10.csv").open() as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]


def spec_of(project: Project, name: str, batch: int, rates: str, epochs: int = 2, **more: str) -> str:
    return project.spec(
        name,
        replace={
            "batch_size_per_gpu: 5": f"batch_size_per_gpu: {batch}",
            "min_learning_rate: 1e-4 max_learning_rate: 1e-2": rates,
            "num_epochs: 3": f"num_epochs: {epochs}",
            "validation_period_during_training: 2 batch_size: 4": "validation_period_during_training: 1 batch_size: 2",
            **more,
        },
    )


def words(results: str, spec: str, *more: str) -> list[str]:
    return ["ssd", "train", "-e", spec, "-r", f"{ROOT}/{results}", "-k", KEY, *more]


def members_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def wait_for(condition, process: subprocess.Popen[str], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, "the training did not come that far"
        time.sleep(0.01)


def epoch_of(project: Project, results: str) -> int:
    try:
        return json.loads((project.folder / results / "training_run.json").read_text())["epoch"]
    except FileNotFoundError:
        return 0


def test_two_processes_give_what_one_with_their_whole_batch_gives(project: Project):
    one = spec_of(project, "one.txt", 8, TOGETHER)
    assert project.train("one", spec=one).code == 0
    two = project.start(*words("two", spec_of(project, "two.txt", 4, GENTLE), "--gpus", "2"))
    output, _ = two.communicate()
    assert two.returncode == 0, output
    assert "Training on 2 processes" in output
    # Only one of them prints.
    assert output.count("Epoch 1/2") == output.count("Execution status: PASS") == 1
    assert output.splitlines()[-1] == "Execution status: PASS"
    for ours, theirs in zip(rows_of(project, "two"), rows_of(project, "one"), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-3)
    expected = load_model(project.path(project.weights("one", 2)), KEY).weights
    for name, tensor in load_model(project.path(project.weights("two", 2)), KEY).weights.items():
        assert torch.allclose(tensor, expected[name], rtol=1e-2, atol=1e-3), name
    messages = [
        json.loads(line)["message"] for line in (project.folder / "two/status.json").read_text().splitlines()
    ]
    assert messages.count("Training loop in progress") == 2


def test_a_process_that_is_killed_ends_all_with_one_error_and_the_next_start_resumes(project: Project):
    spec = spec_of(project, "long.txt", 3, GENTLE, epochs=40)
    process = project.start(*words("killed", spec, "-np", "2"))
    wait_for(lambda: epoch_of(project, "killed") >= 1, process)
    members = members_of(process)
    ranks = {int(member.environ()["RANK"]): member for member in members if "RANK" in member.environ()}
    ranks[1].send_signal(signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.count("ERROR:") == 1
    assert "ERROR: process 2 of 2 was ended by SIGKILL" in output
    assert output.splitlines()[-1] == "Execution status: FAIL"
    assert "Traceback" not in output
    assert not psutil.wait_procs(members, timeout=10)[1]
    record = json.loads((project.folder / "killed/training_run.json").read_text())
    assert record["state"] == "interrupted"

    again = project.start(*words("killed", spec, "-np", "2"))
    wait_for(lambda: epoch_of(project, "killed") > record["epoch"], again)
    members = members_of(again)
    again.send_signal(signal.SIGINT)
    output, _ = again.communicate(timeout=60)
    assert again.returncode == 130
    assert f"Resuming from epoch {record['epoch']}" in output
    assert output.count("Stopped by SIGINT.") == 1
    assert "Traceback" not in output
    assert not psutil.wait_procs(members, timeout=10)[1]
    assert json.loads((project.folder / "killed/training_run.json").read_text())["state"] == "interrupted"


def test_nobody_outlives_a_launcher_that_is_killed(project: Project):
    spec = spec_of(project, "long.txt", 3, GENTLE, epochs=40)
    process = project.start(*words("orphans", spec, "--gpus", "2"))
    wait_for((project.folder / "orphans/training_run.json").exists, process)
    members = members_of(process)
    assert len(members) >= 2
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not psutil.wait_procs(members, timeout=10)[1]
