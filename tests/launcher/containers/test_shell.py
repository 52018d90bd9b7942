"""`tao TASK` alone: a shell in the task's container."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.launcher.command import parse_command
from taomagic.launcher.containers.shell import open_shell
from taomagic.launcher.context import Context
from taomagic.launcher.launch import launch

from .images import Docker

IMAGE = "nvcr.io/nvidia/tao/tao-toolkit:5.0.0-tf1.15.5"


def test_task_alone_opens_a_shell_in_its_container(
    clean_docker: Docker, busybox_image: str, tag_as: Callable[[str, str], str], tmp_path: Path
) -> None:
    tag_as(busybox_image, IMAGE)
    with _shell(tmp_path, {**clean_docker.environ, "TAOMAGIC_RELEASE": "5.5.0"}) as (shell, terminal):
        _wait_for(terminal, b"# ")
        os.write(terminal, b"echo in-$((40+2)); exit 4\n")
        _wait_for(terminal, b"in-42")
        assert shell.wait(20) == 4
    assert not clean_docker("ps", "-aq", "--filter", f"label=taomagic.project={tmp_path}")


def test_shell_needs_containers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    context = Context.current({"HOME": str(tmp_path), "TAO_DOCKER_DISABLE": "1"}, tmp_path)
    with pytest.raises(EnvironmentProblem, match="TAO_DOCKER_DISABLE"):
        open_shell(parse_command(["ssd"]), context)


def test_shell_without_a_terminal_is_explained(tmp_path: Path) -> None:
    environ = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "taomagic", "ssd"],
        input="",
        capture_output=True,
        text=True,
        env={**environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr
    assert "run ls" in done.stderr


def test_shell_can_not_be_a_job(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="needs a terminal"):
        launch(parse_command(["ssd"]), Context.current({"HOME": str(tmp_path)}, tmp_path))


@contextmanager
def _shell(folder: Path, environ: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run ``tao ssd`` on a terminal; yield the process and our end of the terminal."""
    ours, theirs = pty.openpty()
    environ = {**environ, "HOME": str(folder), "PYTHONPATH": str(Path(__file__).parents[3])}
    environ.pop("LAUNCHER_MOUNTS", None)
    command = [sys.executable, "-m", "taomagic", "ssd"]
    shell = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environ, start_new_session=True
    )
    os.close(theirs)
    try:
        yield shell, ours
    finally:
        os.close(ours)
        shell.kill()
        shell.wait()


def _wait_for(terminal: int, text: bytes) -> None:
    """Read a terminal until it has shown a text."""
    seen = b""
    deadline = time.monotonic() + 30
    while text not in seen:
        assert time.monotonic() < deadline, seen
        try:
            seen += os.read(terminal, 4096)
        except OSError:  # its other end is closed
            time.sleep(0.1)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGHUP, 128 + signal.SIGHUP), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_shell_leaves_nothing_behind_when_its_terminal_is_closed_or_it_is_killed(
    clean_docker: Docker, busybox_image: str, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    of_this_test = f"taomagic.project={tmp_path}"
    try:
        with _shell(tmp_path, {**clean_docker.environ, "TAOMAGIC_IMAGE": busybox_image}) as (shell, terminal):
            _wait_for(terminal, b"# ")
            assert clean_docker.containers(of_this_test)
            shell.send_signal(number)
            assert shell.wait(20) == code
            deadline = time.monotonic() + 20
            while clean_docker.containers(of_this_test) and time.monotonic() < deadline:
                time.sleep(0.1)
            assert not clean_docker.containers(of_this_test)
    finally:
        if left := clean_docker.containers(of_this_test):
            clean_docker("rm", "-f", *left)
