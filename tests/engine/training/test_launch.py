"""Which of several processes' errors is the one that is told, and how many processes a command asks for."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from taomagic.engine.training import launch, members
from taomagic.errors import UsageProblem


def failure(folder: Path, rank: int, exit_code: int = 1, **told: object) -> ProcessFailure:
    path = folder / f"{rank}.json"
    if told:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TORCHELASTIC_ERROR_FILE", str(path))
            members.report(**told)  # type: ignore[arg-type]
    return ProcessFailure(local_rank=rank, pid=1000 + rank, exitcode=exit_code, error_file=str(path))


def test_a_cause_goes_before_those_who_only_lost_the_others(tmp_path):
    lost = failure(tmp_path, 0, message="Connection closed by peer", lost_others=True)
    cause = failure(tmp_path, 1, message="the image is cut off", where="a.png", hint="replace it")
    error = launch._failure([lost, cause], 2)
    assert (error.message, error.where, error.hint) == (
        "process 2 of 2: the image is cut off",
        "a.png",
        "replace it",
    )


def test_what_all_found_wrong_is_told_as_one_process_would(tmp_path):
    both = [failure(tmp_path, rank, message="there are no images") for rank in (1, 0)]
    assert launch._failure(both, 2).message == "there are no images"


def test_a_killed_process_is_named_with_its_signal(tmp_path):
    lost = failure(tmp_path, 0, message="Connection closed by peer", lost_others=True)
    killed = failure(tmp_path, 1, exit_code=-signal.SIGKILL)
    assert "process 2 of 2 was ended by SIGKILL" in launch._failure([killed, lost], 2).message


def test_a_process_that_ended_without_a_word_is_named_with_its_code(tmp_path):
    assert (
        launch._failure([failure(tmp_path, 0, exit_code=3)], 2).message
        == "process 1 of 2: ended with exit code 3"
    )


@pytest.mark.parametrize(("gpus", "processes", "count"), [(1, -1, 1), (4, -1, 4), (1, 2, 2), (4, 1, 1)])
def test_processes_are_as_many_as_gpus_unless_told_otherwise(gpus, processes, count):
    assert launch.process_count(argparse.Namespace(gpus=gpus, num_processes=processes)) == count


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gpus": 3, "num_processes": -1, "gpu_index": None}, "3 processes need 3 GPUs; this machine has 2"),
        ({"gpus": 1, "num_processes": 2, "gpu_index": [1]}, "2 processes and 1 GPUs"),
    ],
)
def test_each_process_needs_a_gpu_of_its_own(monkeypatch, arguments, message):
    monkeypatch.setattr(launch, "has_cuda", lambda: True)
    monkeypatch.setattr(launch.torch.cuda, "device_count", lambda: 2)
    args = argparse.Namespace(**arguments)
    with pytest.raises(UsageProblem, match=message):
        launch._check_gpus(args, launch.process_count(args))


def test_threads_are_divided_and_every_process_knows_its_launcher(monkeypatch):
    monkeypatch.setattr(launch, "has_cuda", lambda: False)
    monkeypatch.setattr(launch.torch, "get_num_threads", lambda: 5)
    variables = launch._variables(1, 2, 1234)
    assert (variables["RANK"], variables["WORLD_SIZE"], variables["OMP_NUM_THREADS"]) == ("1", "2", "2")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert members.is_member()
    assert members.has_launcher()
    assert members.rank() == 1


def test_an_error_that_all_processes_find_is_told_once_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "taomagic.engine", "ssd", "train", "-e", str(tmp_path / "none.txt")]
    environment = {**os.environ, "LAUNCHER_MOUNTS": str(tmp_path / "no_mounts.json")}
    (tmp_path / "no_mounts.json").write_text('{"Mounts": []}')
    done = subprocess.run(
        [*command, "-r", str(tmp_path / "results"), "-k", "key", "--gpus", "2"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("ERROR:")] == [lines[0]]
    assert "none.txt" in lines[0]
    assert lines[-1] == "Execution status: FAIL"
    assert "Traceback" not in done.stdout + done.stderr
