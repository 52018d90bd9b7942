from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taomagic.launcher.command import Command
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job
from taomagic.launcher.runners.process import ProcessRunner
from taomagic.project.mounts import MountMap
from taomagic.project.paths import CONTAINER_ROOT

FAKE_ENGINE = Path(__file__).with_name("fake_engine.py")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder with a blank and a Chinese name, in a home of its own."""
    home = tmp_path / "home"
    folder = home / "my 项目"
    folder.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for name in (
        "XDG_STATE_HOME",
        "LAUNCHER_MOUNTS",
        "LOCAL_PROJECT_DIR",
        "TAOMAGIC_KEY",
        "TAOMAGIC_BACKEND",
        "KEY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def context(project: Path) -> Context:
    return Context(project, project, dict(os.environ), MountMap(((str(project), CONTAINER_ROOT),)))


@pytest.fixture
def start(context: Context) -> Iterator[Callable[..., Job]]:
    """Start the fake engine with a scenario; every job is killed at the end."""
    started: list[Job] = []

    def starting(scenario: str, *args: str, key: str = "") -> Job:
        runner = ProcessRunner([sys.executable, "-u", str(FAKE_ENGINE), scenario])
        words = (*args, *(("-k", key) if key else ()))
        job = runner.start(Command("run", "model", "ssd", "train", words), context)
        started.append(job)
        return job

    yield starting
    for job in started:
        if job.directory.exists() and not job.state.finished:
            job.kill()
