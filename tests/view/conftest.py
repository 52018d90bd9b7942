"""Snapshots made the way jobs make them: from the text that the engine prints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from taomagic.launcher import records
from taomagic.launcher.command import parse_command
from taomagic.launcher.context import Context
from taomagic.launcher.event_reader import EventReader
from taomagic.launcher.job import Job, Update
from taomagic.launcher.progress import Progress, Snapshot
from taomagic.launcher.runners.base import command_record, status_file
from taomagic.launcher.states import JobState
from taomagic.project.mounts import MountMap

ROOT = "/workspace/tao-experiments"
RESULTS = f"{ROOT}/ssd/experiment_dir_unpruned"
COMMAND = f"tao ssd train -e {ROOT}/ssd/specs/ssd_train_resnet18_kitti.txt -r {RESULTS} -k ********"


def training_log(
    epochs: int, *, total: int | None = None, steps: int = 25, validation_period: int = 1
) -> str:
    """What the engine prints for a training."""
    total = total or epochs
    out = [
        "2026-11-21 09:00:00,123 [TAO Toolkit] [INFO] taomagic.engine.ssd.train 42: Building model\n",
        "Estimated time: 3 min 10 s (2 CPU threads)\n",
    ]
    for epoch in range(1, epochs + 1):
        out.append(f"Epoch {epoch}/{total}\n")
        for step in range(4, steps + 1, 3):
            loss = 1.2 + 7 * math.exp(-(epoch - 1 + step / steps) / 2.5)
            done = step == steps
            time = "- 9s 351ms/step" if done else f"- ETA: {steps - step}s"
            out.append(f"{step}/{steps} [======>.....] {time} - loss: {loss:.4f}" + ("\n" if done else "\r"))
        out.append(
            f"Epoch {epoch:05d}: saving model to {RESULTS}/weights/ssd_resnet18_epoch_{epoch:03d}.tlt\n"
        )
        if epoch % validation_period == 0:
            quality = 0.88 * (1 - math.exp(-epoch / 2.2))
            out += [
                "Producing predictions:  40%|████      | 4/10 [00:01<00:02]\r",
                "Producing predictions: 100%|██████████| 10/10 [00:03<00:00]\n",
                "Start to calculate AP for each class\n",
                "*" * 31 + "\n",
                f"car           AP    {quality + 0.03:.5f}\n",
                f"cyclist       AP    {quality - 0.02:.5f}\n",
                f"pedestrian    AP    {quality - 0.05:.5f}\n",
                f"              mAP   {quality:.5f}\n",
                "*" * 31 + "\n",
                f"Validation loss: {1.5 + 6 * math.exp(-epoch / 2.5) + 0.02 * epoch:.5f}\n",
            ]
    return "".join(out)


FAILURE = (
    "ERROR: specs/ssd_train.txt:14: unknown field `batch_size` in TrainingConfig.\n"
    "HINT: Did you mean `batch_size_per_gpu`?\n"
    "Execution status: FAIL\n"
)


def snapshot_of(
    text: str,
    state: JobState = JobState.RUNNING,
    *,
    command: str = COMMAND,
    exit_code: int | None = None,
    elapsed_s: float = 192.0,
) -> Snapshot:
    """The snapshot that a log leads to."""
    return updates_of(text, state, command=command, exit_code=exit_code, elapsed_s=elapsed_s)[-1].snapshot


def updates_of(
    text: str,
    state: JobState = JobState.RUNNING,
    *,
    command: str = COMMAND,
    exit_code: int | None = None,
    elapsed_s: float = 192.0,
    block: int = 0,
) -> list[Update]:
    """The updates that a log leads to, read in blocks of so many bytes (0: at once)."""
    reader = EventReader()
    progress = Progress(lambda path: Path(path.replace(ROOT, "/home/ada/tao")))
    data = text.encode()
    size = block or max(len(data), 1)
    updates = []
    for start in range(0, max(len(data), 1), size):
        last = start + size >= len(data)
        new = list(reader.feed(data[start : start + size])) + (list(reader.close()) if last else [])
        for event in new:
            progress.add(event)
        snapshot = progress.snapshot(
            state=state if last else JobState.RUNNING,
            command=command,
            job_id="3f2a9c81d0",
            label="ssd train",
            exit_code=exit_code if last else None,
            elapsed_s=elapsed_s,
            log_path=Path("/home/ada/tao/.tao/jobs/3f2a9c81d0/log.txt"),
        )
        updates.append(Update(tuple(new), snapshot))
    return updates


@pytest.fixture
def succeeded() -> Snapshot:
    return snapshot_of(training_log(8) + "Execution status: PASS\n", JobState.SUCCEEDED, exit_code=0)


@pytest.fixture
def failed() -> Snapshot:
    return snapshot_of(FAILURE, JobState.FAILED, exit_code=1, elapsed_s=1.2)


@pytest.fixture
def running() -> Snapshot:
    return snapshot_of(
        training_log(4, total=8) + "Epoch 5/8\n10/25 [====>....] - ETA: 6s - loss: 2.4\r", JobState.RUNNING
    )


@pytest.fixture(name="training_log")
def _training_log() -> Callable[..., str]:
    return training_log


@pytest.fixture(name="snapshot_of")
def _snapshot_of() -> Callable[..., Snapshot]:
    return snapshot_of


@pytest.fixture(name="updates_of")
def _updates_of() -> Callable[..., list[Update]]:
    return updates_of


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "项目"
    folder.mkdir()
    return folder


@pytest.fixture
def job(project: Path) -> Callable[..., Job]:
    """Put a finished job on record."""

    def make(
        words: str, log: str = "Execution status: PASS\n", *, backend: str = "process", code: int = 0
    ) -> Job:
        command = parse_command(words.split())
        context = Context(project, project, {}, MountMap(((str(project), ROOT),)))
        content = {
            "backend": backend,
            **command_record(command),
            "cwd": str(project),
            "engine_argv": [],
            **status_file(command, context),
        }
        directory = records.create(project, content, context.mounts)
        (directory / "log.txt").write_text(log, encoding="utf-8")
        records.write_json(directory / "exit.json", {"exit_code": code, "finished": time.time()})
        return Job(directory)

    return make
