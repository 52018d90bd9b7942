"""``TAO_DOCKER_DISABLE=1``: the task's own program on this machine, as inside NVIDIA's containers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from taomagic.launcher.command import parse_command
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job, JobState
from taomagic.launcher.launch import launch

KEY = "s3cr3t-of-the-class"


@pytest.fixture
def context(tmp_path: Path) -> Context:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("ssd", "yolo_v4"):
        program = programs / name
        program.write_text(f'#!/bin/sh\nprintf "{name} [%s]\\n" "$@"\nexit 3\n', encoding="utf-8")
        program.chmod(0o755)
    environ = {
        **os.environ,
        "HOME": str(tmp_path),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "TAO_DOCKER_DISABLE": "1",
    }
    return Context.current(environ, tmp_path)


def run(context: Context, *words: str) -> Job:
    job, _ = launch(parse_command(list(words)), context)
    job.wait(20)
    return job


def test_program_of_the_tasks_name_gets_the_words_as_typed(context: Context) -> None:
    job = run(context, "yolo_v4", "--gpus", "1", "train", "-e", "a b", "$HOME")
    assert job.exit_code == 3
    assert job.state is JobState.FAILED
    lines = job.log_path.read_text(encoding="utf-8").splitlines()
    assert lines == [f"yolo_v4 [{word}]" for word in ("--gpus", "1", "train", "-e", "a b", "$HOME")]


def test_it_is_preferred_to_the_embedded_engine(context: Context) -> None:
    assert (
        run(context, "ssd", "train", "-e", "x").log_path.read_text(encoding="utf-8").startswith("ssd [train]")
    )


def test_run_runs_any_program(context: Context) -> None:
    assert run(context, "ssd", "run", "sh", "-c", "exit 9").exit_code == 9


def test_every_key_of_several_reaches_the_program_and_no_record(context: Context) -> None:
    line = f"printf '%s\\n' -k '{KEY}2' NGC_API_KEY='{KEY} 3' >keys; cat keys"
    job = run(context, "ssd", "run", "sh", "-c", line)
    assert job.exit_code == 0
    for file in job.directory.iterdir():
        assert KEY not in file.read_text(encoding="utf-8", errors="replace"), file.name
    assert (context.cwd / "keys").read_text() == f"-k\n{KEY}2\nNGC_API_KEY={KEY} 3\n"
    assert job.log_path.read_text(encoding="utf-8") == "-k\n********\nNGC_API_KEY=********\n"


def test_key_reaches_the_program_and_no_record(context: Context) -> None:
    job = run(context, "ssd", "train", "-k", KEY, "-e", "x")
    for file in job.directory.iterdir():
        assert KEY not in file.read_text(encoding="utf-8", errors="replace"), file.name
    # It had the key: what it printed of it was masked in the log.
    assert "ssd [********]" in job.log_path.read_text(encoding="utf-8").splitlines()
    assert "ssd [-k]" in job.log_path.read_text(encoding="utf-8").splitlines()
