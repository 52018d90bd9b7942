from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from taomagic.errors import EnvironmentProblem, StageFailed, StageInterrupted
from taomagic.launcher import control, processes, records
from taomagic.launcher.command import Command
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job, JobState
from taomagic.launcher.runners.process import ProcessRunner
from taomagic.project.mounts import MountMap

from .conftest import FAKE_ENGINE

Start = Callable[..., Job]


def wait_for_text(job: Job, text: str, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while text not in job.log_path.read_text(encoding="utf-8", errors="replace"):
        assert time.monotonic() < deadline, f"{text!r} never came"
        time.sleep(0.02)


def engine_pid(job: Job) -> int:
    process = records.read_json(job.directory / "process.json")
    assert process is not None
    return int(process["engine"])


def test_success_gives_metrics_history_and_artefacts(start: Start, project: Path) -> None:
    result = start("train", "-r", "/workspace/tao-experiments/ssd").wait(20)
    assert result.state is JobState.SUCCEEDED
    assert result.exit_code == 0
    assert result.metrics["mAP"] == pytest.approx(0.7)
    assert result.per_class_ap == {"car": pytest.approx(0.8)}
    assert [row["epoch"] for row in result.history] == [1, 2, 3]
    assert result.history[-1]["validation_loss"] == pytest.approx(1.0)
    assert result.history[-1]["loss"] == pytest.approx(5 / 3, abs=1e-4)
    assert [artefact.kind for artefact in result.artefacts] == ["tlt"] * 3
    assert result.artefacts[0].host == project / "ssd" / "weights" / "ssd_resnet18_epoch_001.tlt"
    result.raise_for_state()


@pytest.mark.parametrize("code", [1, 3, 137])
def test_exit_code_is_the_engines(start: Start, code: int) -> None:
    result = start(f"exit:{code}").wait(20)
    assert (result.state, result.exit_code) == (JobState.FAILED, code)
    with pytest.raises(StageFailed) as caught:
        result.raise_for_state()
    assert caught.value.exit_code == code
    assert caught.value.message == "the spec is wrong"
    assert caught.value.hint == "mend it"
    assert caught.value.log_path is not None
    assert caught.value.log_path.exists()
    assert "Execution status: FAIL" in caught.value.tail


def test_status_fail_with_exit_code_0_is_a_failure(start: Start) -> None:
    result = start("exit:0").wait(20)
    assert (result.state, result.exit_code) == (JobState.FAILED, 0)


def test_killed_engine_names_the_signal_and_guesses_memory(start: Start) -> None:
    result = start(f"signal:{int(signal.SIGKILL)}").wait(20)
    assert (result.state, result.exit_code) == (JobState.FAILED, -9)
    assert "SIGKILL" in result.reason
    assert "memory" in result.hints[0]


def test_stop_is_polite_first(start: Start) -> None:
    job = start("polite")
    wait_for_text(job, "waiting")
    assert job.stop(grace_s=10) is JobState.STOPPED
    assert job.exit_code == 130
    with pytest.raises(StageInterrupted):
        job.result().raise_for_state()


def test_stop_kills_what_does_not_listen(start: Start) -> None:
    job = start("stubborn")
    wait_for_text(job, "waiting")
    began = time.monotonic()
    assert job.stop(grace_s=0.3) is JobState.STOPPED
    assert time.monotonic() - began < 5
    assert job.exit_code == -9


def test_second_stop_kills_at_once(start: Start) -> None:
    job = start("stubborn")
    wait_for_text(job, "waiting")
    job.request_stop()
    time.sleep(0.3)
    assert job.state is JobState.RUNNING
    job.request_stop()
    assert job.wait(5).state is JobState.STOPPED


def test_stop_of_an_ended_job_changes_nothing(start: Start) -> None:
    job = start("quiet:0")
    job.wait(10)
    assert job.stop() is JobState.SUCCEEDED


def test_children_of_the_engine_end_with_it(start: Start) -> None:
    job = start("child")
    assert job.wait(10).state is JobState.SUCCEEDED
    child = int(job.tail(5)[0].split()[1])
    deadline = time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_job_survives_kill_9_of_its_kernel_and_is_followed_without_losing_a_line(project: Path) -> None:
    program = f"""
import os, sys
from pathlib import Path
from taomagic.launcher.command import Command
from taomagic.launcher.context import Context
from taomagic.launcher.runners.process import ProcessRunner
runner = ProcessRunner([sys.executable, "-u", {str(FAKE_ENGINE)!r}, "count:400:0.005"])
job = runner.start(Command("run", "model", "ssd", "train"), Context.current(cwd=Path.cwd()))
print(job.id, flush=True)
for update in job.updates():
    pass
"""
    kernel = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert kernel.stdout is not None
    job_id = kernel.stdout.readline().strip()
    job = Job(records.jobs_folder(project) / job_id)
    wait_for_text(job, "line 20\n")
    os.kill(kernel.pid, signal.SIGKILL)
    kernel.wait()
    kernel.stdout.close()
    found = control.find_job(job_id[:6], Context.current())
    assert found.state is JobState.RUNNING
    lines = [
        event.text
        for update in found.updates()
        for event in update.events
        if getattr(event, "transient", None) is False
    ]
    assert lines == [*(f"line {number}" for number in range(400)), "Execution status: PASS"]
    assert found.state is JobState.SUCCEEDED


def test_many_jobs_run_at_once_each_with_its_own_log(start: Start, context: Context) -> None:
    jobs = [start(f"count:{20 + number}:0.01") for number in range(8)]
    assert {job.id for job in control.listed_jobs(context)} >= {job.id for job in jobs}
    for number, job in enumerate(jobs):
        assert job.wait(30).state is JobState.SUCCEEDED
        assert job.tail(200)[-2] == f"line {19 + number}"


def test_a_moved_project_still_lists_its_finished_jobs(
    start: Start, project: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    job = start("count:2:0.01")
    job.wait(30)
    moved = project.rename(tmp_path_factory.mktemp("elsewhere") / "moved")
    environ = {"HOME": str(moved), "DOCKER_HOST": os.environ["DOCKER_HOST"]}
    there = Context.current(cwd=moved, environ=environ, need_mounts=False)
    assert [each.id for each in control.listed_jobs(there)] == [job.id]


def test_key_is_in_no_file_and_no_command_line(start: Start, project: Path) -> None:
    key = "s3cret-Schlüssel"
    job = start("key", key=key)
    wait_for_text(job, "the key is")
    seen = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    assert any(str(FAKE_ENGINE) in words for words in seen)
    assert not any(key in words for words in seen)
    assert job.wait(10).state is JobState.SUCCEEDED
    assert "-k ********" in job.shown
    assert "the key is ********" in job.log_path.read_text(encoding="utf-8")
    assert "******** in two pieces" in job.log_path.read_text(encoding="utf-8")
    for path in (project / ".tao").rglob("*"):
        assert not path.is_file() or key.encode() not in path.read_bytes()


def test_engine_gets_folder_map_and_arguments_untouched(start: Start, project: Path) -> None:
    arguments = ("-e", "a b'c", "-r", "$HOME;{x}", "--note", "汉字")
    job = start("where", *arguments)
    job.wait(10)
    log = job.log_path.read_text(encoding="utf-8")
    assert f"cwd {project}" in log
    assert f"map {job.directory / 'mounts.json'}" in log
    assert f"args {['ssd', 'train', *arguments]!r}" in log


def test_missing_program_is_an_error_and_leaves_no_job(context: Context, project: Path) -> None:
    runner = ProcessRunner([str(project / "nothing")])
    with pytest.raises(EnvironmentProblem, match="No such file"):
        runner.start(Command("run", "model", "ssd", "train"), context)
    assert records.job_folders(project) == []


def test_project_that_cannot_be_written_is_an_error(context: Context, project: Path) -> None:
    (project / ".tao").write_text("in the way")
    with pytest.raises(EnvironmentProblem, match="can't be recorded"):
        ProcessRunner([sys.executable]).start(Command("run", "model", "ssd", "train"), context)


def test_dead_supervisor_means_lost_and_stop_still_ends_the_engine(start: Start) -> None:
    job = start("stubborn")
    wait_for_text(job, "waiting")
    process = records.read_json(job.directory / "process.json")
    assert process is not None
    os.kill(int(process["supervisor"]), signal.SIGKILL)
    deadline = time.monotonic() + 5
    while job.state is not JobState.LOST:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "left no result" in job.result().reason
    job.kill()
    deadline = time.monotonic() + 5
    while (
        psutil.pid_exists(engine_pid(job))
        and psutil.Process(engine_pid(job)).status() != psutil.STATUS_ZOMBIE
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_recycled_process_number_is_no_supervisor(start: Start) -> None:
    job = start("quiet:0")
    job.wait(10)
    assert not processes.is_supervisor(os.getpid(), job.directory)
    assert not processes.is_supervisor(2**22 - 1, job.directory)


def test_oldest_finished_records_are_pruned_and_running_ones_kept(start: Start, project: Path) -> None:
    running = start("polite")
    finished = [start("quiet:0") for _ in range(3)]
    for job in finished:
        job.wait(10)
    records.prune(project, keep=1)
    left = {folder.name for folder in records.job_folders(project)}
    assert running.id in left
    assert len(left) == 2


def test_updates_end_with_the_final_state_and_never_claim_it_before(start: Start) -> None:
    job = start("train")
    job.wait(20)
    snapshots = list(job.follow())
    assert snapshots[-1].state is JobState.SUCCEEDED
    assert all(not snapshot.state.finished for snapshot in snapshots[:-1])
    assert snapshots[-1].fraction == 1.0


def test_job_in_another_project_is_found_from_anywhere(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start("quiet:0")
    job.wait(10)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert control.find_job(job.id, Context.current()).project == job.project


def test_damaged_record_is_left_out_of_the_list(start: Start, context: Context, project: Path) -> None:
    job = start("quiet:0")
    job.wait(10)
    broken = records.jobs_folder(project) / "0123456789"
    broken.mkdir()
    (broken / "job.json").write_text('{"id": "0123456789"', encoding="utf-8")
    assert [found.id for found in control.all_jobs(context)] == [job.id]


def test_learning_rate_comes_from_status_json(context: Context, project: Path) -> None:
    folder = project / "out"
    folder.mkdir()
    status = folder / "status.json"
    status.write_text(json.dumps({"epoch": 1, "graphical": {"learning_rate": "9"}}) + "\n")
    command = Command("run", "model", "ssd", "train", ("-r", "/workspace/tao-experiments/out"))
    job = ProcessRunner([sys.executable, "-u", str(FAKE_ENGINE), "train"]).start(command, context)
    job.wait(20)
    with status.open("a") as file:
        file.write(
            json.dumps({"epoch": 2, "graphical": {"learning_rate": "0.02", "loss": "1"}}) + "\n{broken"
        )
    snapshot = job.snapshot()
    assert snapshot.series["lr"] == [(2.0, 0.02)]


def test_full_disk_costs_lines_but_not_the_training(tmp_path: Path) -> None:
    from taomagic.launcher.detached import Log

    log = Log(tmp_path / "log.txt", [])
    log.write(b"one\n")
    real = log._file
    log._file = os.open("/dev/full", os.O_WRONLY)
    log.write(b"two\n")
    os.close(log._file)
    log._file = real
    log.write(b"Execution status: PASS\n")
    text = (tmp_path / "log.txt").read_text()
    assert text.startswith("one\n")
    assert "4 bytes of output were lost: the disk was full" in text
    assert log.lost == 4
    assert log.status() == "PASS"
    os.close(real)


def test_interrupt_while_starting_leaves_nothing_running(
    context: Context, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = subprocess.run
    directories: list[Path] = []

    def run_then_interrupt(argv: list[str], **more: object) -> None:
        directories.append(Path(argv[-1]))
        real(argv, **more)  # type: ignore[call-overload]
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", run_then_interrupt)
    runner = ProcessRunner([sys.executable, "-u", str(FAKE_ENGINE), "stubborn"])
    with pytest.raises(KeyboardInterrupt):
        runner.start(Command("run", "model", "ssd", "train"), context)
    assert records.job_folders(project) == []
    deadline = time.monotonic() + 5
    while any(
        str(directories[0]) in (process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_supervisor_without_a_folder_to_write_to_starts_nothing(tmp_path: Path) -> None:
    from taomagic.launcher import detached

    (tmp_path / "job.json").write_text(
        json.dumps({"engine_argv": ["/bin/sleep", "60"], "cwd": str(tmp_path)})
    )
    (tmp_path / "process.json").mkdir()  # can't be replaced by a file
    argv = detached.start_argv("taomagic.launcher.supervisor", tmp_path)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 1
    assert "directory" in done.stderr.lower()
    assert not (tmp_path / "exit.json").exists()


def test_job_is_the_same_through_a_link_to_its_project(
    project: Path, tmp_path: Path, context: Context
) -> None:
    link = tmp_path / "link"
    link.symlink_to(project)
    job = ProcessRunner([sys.executable, "-u", str(FAKE_ENGINE), "polite"]).start(
        Command("run", "model", "ssd", "train"), replace(context, project_dir=link)
    )
    seen = Job(project / ".tao" / "jobs" / job.id)
    try:
        assert seen.state is JobState.RUNNING
        assert seen.kill() is JobState.STOPPED
    finally:
        job.kill()


def test_secrets_of_the_map_are_in_no_record(project: Path) -> None:
    envs = {"WANDB_API_KEY": "s3cr3t-77", "KEY": "s3cr3t-78", "HF_TOKEN": "s3cr3t-79", "MODE": "offline"}
    mounts = MountMap(((str(project), "/data"),), envs)
    text = (records.create(project, {}, mounts) / "mounts.json").read_text(encoding="utf-8")
    assert "s3cr3t" not in text
    assert "offline" in text
