from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from taomagic.launcher import records
from taomagic.launcher.command import Command
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job
from taomagic.launcher.left_files import left_files
from taomagic.launcher.runners.base import command_record
from taomagic.project.paths import CONTAINER_ROOT as ROOT


def ended_job(context: Context, *args: str, task: str = "detectnet_v2", subtask: str = "train") -> Job:
    command = Command("run", "model", task, subtask, args)
    content = {
        **command_record(command), "engine_argv": [], "backend": "docker",
        "started": time.time() - 10, "cwd": str(context.cwd),
    }  # fmt: skip
    folder = records.create(context.project_dir, content, context.mounts)
    (folder / "exit.json").write_text(f'{{"exit_code": 0, "finished": {time.time()}}}')
    (folder / "log.txt").write_text("Execution status: PASS\n")
    return Job(folder)


def files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize("results", [f"{ROOT}/run", f"{ROOT}/run/", "run"])
def test_a_training_leaves_checkpoints_and_then_the_model(context: Context, results: str) -> None:
    job = ended_job(context, "-e", "spec.txt", "-r", results, "-n", "car_detector")
    files(
        context.project_dir / "run",
        "model.epoch-10.hdf5", "model.epoch-9.hdf5", "model.epoch-10.ckzip", "weights/car_detector.tlt",
        "weights/old.tlt", "experiment_spec.txt",
    )  # fmt: skip
    os.utime(context.project_dir / "run" / "weights" / "old.tlt", (1, 1))
    shown = results.rstrip("/")
    assert [(file.path, file.kind) for file in left_files(job)] == [
        (f"{shown}/model.epoch-9.hdf5", "hdf5"),
        (f"{shown}/model.epoch-10.hdf5", "hdf5"),
        (f"{shown}/weights/car_detector.tlt", "tlt"),
    ]
    assert [artefact.host.name for artefact in job.snapshot().artefacts][-1] == "car_detector.tlt"


def test_what_the_log_names_is_listed_once_and_last(context: Context) -> None:
    job = ended_job(context, "-r", f"{ROOT}/run")
    files(context.project_dir / "run", "model.epoch-1.tlt", "weights/model.tlt")
    (job.directory / "log.txt").write_text(f"Saved: {ROOT}/run/weights/model.tlt\n")
    assert [artefact.host.name for artefact in job.snapshot().artefacts] == ["model.epoch-1.tlt", "model.tlt"]


def test_other_commands_leave_the_file_that_their_flag_names(context: Context) -> None:
    files(context.project_dir, "pruned.tlt")
    job = ended_job(context, "-m", "a.tlt", "--output_file", f"{ROOT}/pruned.tlt", subtask="prune")
    assert [file.path for file in left_files(job)] == [f"{ROOT}/pruned.tlt"]
    assert left_files(ended_job(context, "-m", "a.tlt", "-o", f"{ROOT}/not_there.tlt", subtask="prune")) == []
    assert (
        left_files(ended_job(context, "-m", "a.tlt", "-o", f"{ROOT}/pruned.tlt", task="ssd", subtask="prune"))
        == []
    )
