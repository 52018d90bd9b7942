"""The whole way of a command on an engine that isn't behind this machine's socket: TCP, TLS, SSH, a context."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from taomagic.errors import EnvironmentProblem
from taomagic.launcher import processes, records
from taomagic.launcher.command import parse_command
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job, JobState
from taomagic.launcher.launch import launch
from taomagic.project.mounts import MountMap

from .forwarding import FAKE_SSH, Forwarder, make_certificates, server_context, write_context
from .images import Docker

WAYS = ("tcp", "tls", "context", "ssh")


@pytest.fixture(params=WAYS)
def environ(
    request: pytest.FixtureRequest, clean_docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """An environment in which the engine is reached in one of these ways."""
    if not clean_docker.host.startswith("unix://"):
        pytest.skip("the engine isn't behind a socket of this machine")
    path = clean_docker.host.removeprefix("unix://")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    home = tmp_path / "home"
    home.mkdir()
    variables = {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home), "DOCKER_CONFIG": str(home)}
    if request.param == "ssh":
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "ssh").write_text(FAKE_SSH, encoding="utf-8")
        (folder / "ssh").chmod(0o755)
        ways = {"SSH_RECORD": str(tmp_path / "words"), "SSH_TARGET": f"unix://{path}"}
        ways["PATH"] = f"{folder}:{os.environ['PATH']}"
        for name, value in ways.items():
            monkeypatch.setenv(name, value)
        yield {**variables, **ways, "DOCKER_HOST": "ssh://ada@gpu.example"}
        return
    make_certificates(tmp_path / "certificates")
    secured = None if request.param == "tcp" else server_context(tmp_path / "certificates" / "server")
    forwarder = Forwarder(path, secured)
    host = f"tcp://127.0.0.1:{forwarder.port}"
    if request.param == "tcp":
        variables["DOCKER_HOST"] = host
    elif request.param == "tls":
        variables |= {"DOCKER_HOST": host, "DOCKER_TLS_VERIFY": "1"}
        variables["DOCKER_CERT_PATH"] = str(tmp_path / "certificates" / "client")
    else:
        tls = write_context(home, "lab", host)
        tls.parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "certificates" / "client").rename(tls)
        variables["DOCKER_CONTEXT"] = "lab"
    yield variables
    forwarder.close()


@pytest.fixture
def start(environ: dict[str, str], replayer_image: str, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    started: list[Job] = []

    def begin(*words: str, mounts: MountMap | None = None) -> Job:
        context = Context(
            tmp_path, tmp_path, {**environ, "TAOMAGIC_IMAGE": replayer_image}, mounts or MountMap()
        )
        job, _ = launch(parse_command(["ssd", *words]), context, backend="docker")
        started.append(job)
        return job

    yield begin
    for job in started:
        if not job.state.finished:
            job.kill()


def test_a_remote_job_runs_and_its_log_is_here(start: Callable[..., Job]) -> None:
    job = start("run", "sh", "-c", "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exit 3")
    result = job.wait(60)
    assert (result.state, result.exit_code) == (JobState.FAILED, 3)
    assert job.log_path.read_text(encoding="utf-8").splitlines() == [f"line {i}" for i in range(2000)]


def test_a_remote_job_is_stopped(start: Callable[..., Job]) -> None:
    job = start(
        "run", "sh", "-c", "trap 'echo told; exit 143' TERM INT; echo ready; while :; do sleep 0.1; done"
    )
    deadline = time.monotonic() + 30
    while "ready" not in "".join(job.tail()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert job.stop() is JobState.STOPPED
    assert job.tail() == ["ready", "told"]


def test_a_remote_log_goes_on_after_its_watcher_was_killed(start: Callable[..., Job]) -> None:
    job = start("run", "sh", "-c", "i=0; while [ $i -lt 30 ]; do echo line $i; sleep 0.1; i=$((i+1)); done")
    deadline = time.monotonic() + 30
    while len(job.tail()) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    process = records.read_json(job.directory / "process.json")
    assert process is not None
    os.kill(int(process["supervisor"]), signal.SIGKILL)
    while processes.is_supervisor(int(process["supervisor"]), job.directory):
        time.sleep(0.02)
    assert job.wait(60).ok
    assert job.log_path.read_text(encoding="utf-8").splitlines() == [f"line {i}" for i in range(30)]


def test_a_port_where_nobody_answers_is_told(replayer_image: str, tmp_path: Path) -> None:
    environ = {**os.environ, "DOCKER_HOST": "tcp://127.0.0.1:1", "TAOMAGIC_IMAGE": replayer_image}
    context = Context(tmp_path, tmp_path, environ, MountMap())
    with pytest.raises(EnvironmentProblem, match="can't be reached") as caught:
        launch(parse_command(["ssd", "run", "true"]), context, backend="docker")
    assert caught.value.where == "tcp://127.0.0.1:1"
