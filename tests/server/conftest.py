from __future__ import annotations

import http.client
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from taomagic.launcher.command import Command
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job
from taomagic.launcher.runners.process import ProcessRunner
from taomagic.project.mounts import MountMap
from taomagic.project.paths import CONTAINER_ROOT
from tests.jupyter_process import free_port, jupyter

FAKE_ENGINE = Path(__file__).parents[1] / "launcher/fake_engine.py"
TOKEN = "a-token-for-tests"
#: Not the root, so that a forgotten base URL shows, as behind a hub.
BASE = "/user/lin/"


@dataclass
class Answer:
    status: int
    body: Any
    headers: http.client.HTTPMessage


@dataclass
class Server:
    """A Jupyter server with our extension."""

    port: int
    root: Path
    cookies: dict[str, str] = field(default_factory=dict)

    def ask(
        self,
        path: str,
        method: str = "GET",
        body: object = None,
        headers: dict[str, str] | None = None,
        *,
        token: str | None = TOKEN,
    ) -> Answer:
        sent = dict(headers or {})
        if token:
            sent["Authorization"] = f"token {token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        url = BASE + path
        connection.request(method, url, None if body is None else json.dumps(body), sent)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        parsed = json.loads(text) if "json" in answer.headers.get("Content-Type", "") else text
        return Answer(answer.status, parsed, answer.headers)


@contextmanager
def running_server(root: Path, home: Path, *options: str, **environ: str) -> Iterator[Server]:
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")}
    env |= {
        name: str(home / name.lower())
        for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    }
    env |= {"HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path), **environ}
    env.pop("XDG_STATE_HOME", None)
    with jupyter(
        "jupyter_server",
        "--ServerApp.jpserver_extensions=taomagic.server=True",
        *options,
        port=port,
        root=root,
        base=BASE,
        token=TOKEN,
        log=home / "server.log",
        env=env,
    ):
        yield Server(port, root)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def root(home: Path) -> Path:
    """The folder that the server shows."""
    folder = home / "work 课程"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def server(root: Path, home: Path) -> Iterator[Server]:
    with running_server(root, home) as server:
        yield server


Start = Callable[..., Job]


@pytest.fixture
def start(root: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start the fake engine in a project, by default one under the root; every job is killed at the end."""
    monkeypatch.setenv("HOME", str(home))
    for name in ("XDG_STATE_HOME", "LAUNCHER_MOUNTS", "LOCAL_PROJECT_DIR", "TAOMAGIC_KEY", "KEY"):
        monkeypatch.delenv(name, raising=False)
    started: list[Job] = []

    def starting(scenario: str, *args: str, key: str = "", project: Path | None = None) -> Job:
        folder = project or root / "my project"
        folder.mkdir(parents=True, exist_ok=True)
        context = Context(folder, folder, dict(os.environ), MountMap(((str(folder), CONTAINER_ROOT),)))
        runner = ProcessRunner([sys.executable, "-u", str(FAKE_ENGINE), scenario])
        words = (*args, *(("-k", key) if key else ()))
        job = runner.start(Command("run", "model", "ssd", "train", words), context)
        started.append(job)
        return job

    yield starting
    for job in started:
        if job.directory.exists() and not job.state.finished:
            job.kill()
