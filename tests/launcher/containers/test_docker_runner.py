"""Commands in containers, on a real engine: arguments, ends, logs, and what happens when somebody interferes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.launcher import processes, records
from taomagic.launcher.command import parse_command
from taomagic.launcher.containers.engine import connect, facts
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job, JobState
from taomagic.launcher.launch import launch
from taomagic.launcher.runners.docker import DockerRunner, container_name
from taomagic.project.mounts import MountMap

from .images import Daemon, Docker

KEY = "s3cr3t-of-the-class"
ROOT = Path(__file__).parents[3]
Start = Callable[..., Job]


class Image:
    entrypoint = None
    stop_signal = ""


def start_in(docker: Docker, project: Path, image: str, words: list[str], mounts: MountMap) -> Job:
    environ = {**os.environ, "DOCKER_HOST": docker.host, "XDG_STATE_HOME": str(project / ".state")}
    context = Context(project, project, environ, mounts)
    engine = connect(environ)
    command = parse_command(words)
    return DockerRunner(engine, facts(engine), Image(), image).start(command, context)  # type: ignore[arg-type]


@pytest.fixture
def start(clean_docker: Docker, replayer_image: str, tmp_path: Path) -> Start:
    """``start("ssd", "train", "replay.lines=3")`` runs that in the replaying image."""

    def begin(*words: str, mounts: MountMap | None = None, project: Path | None = None) -> Job:
        folder = project or tmp_path
        return start_in(clean_docker, folder, replayer_image, list(words), mounts or MountMap())

    return begin


def log_of(job: Job) -> list[str]:
    return job.log_path.read_text(encoding="utf-8").splitlines()


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it didn't happen"
        time.sleep(0.02)


def kill_watcher(job: Job) -> None:
    process = records.read_json(job.directory / "process.json")
    assert process is not None
    number = int(process["supervisor"])
    os.kill(number, signal.SIGKILL)
    until(lambda: not processes.is_supervisor(number, job.directory))


def test_arguments_arrive_as_typed(start: Start) -> None:
    words = [
        "-e",
        "/a b/c.txt",
        "$HOME",
        "a;b",
        "it's",
        'say "hi"',
        "`id`",
        "ünï 中文",
        "*",
        "",
        "\\n",
        "--x=$(id)",
    ]
    job = start("ssd", "train", "replay.show=args", *words)
    assert job.wait(30).ok
    printed = [line for line in log_of(job) if line.startswith(("task", "argument"))]
    assert printed == [
        "task [ssd]",
        *(f"argument [{word}]" for word in ("train", "replay.show=args", *words)),
    ]


WORDS = st.text(
    st.characters(exclude_characters="\0\r\n", exclude_categories=["Cs"]), min_size=1, max_size=20
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=st.lists(WORDS, max_size=6))
def test_any_words_arrive_as_typed(start: Start, words: list[str]) -> None:
    job = start("ssd", "run", "printf", r"[%s]\n", *words)
    assert job.wait(30).exit_code == 0
    assert job.log_path.read_text(encoding="utf-8") == ("".join(f"[{word}]\n" for word in words) or "[]\n")


def test_words_that_are_no_text_are_refused(tmp_path: Path) -> None:
    context = Context(tmp_path, tmp_path, dict(os.environ), MountMap())
    with pytest.raises(UsageProblem, match="isn't UTF-8 text"):
        launch(parse_command(["ssd", "run", "cat", os.fsdecode(b"a\xff")]), context, backend="docker")
    assert not records.job_folders(tmp_path)


@pytest.mark.parametrize(
    ("words", "code", "state"),
    [
        (("replay.exit=0",), 0, JobState.SUCCEEDED),
        (("replay.exit=1",), 1, JobState.FAILED),
        (("replay.exit=3", "replay.status=PASS"), 3, JobState.FAILED),
        (("replay.exit=0", "replay.status=FAIL"), 0, JobState.FAILED),
        (("replay.exit=255",), 255, JobState.FAILED),
    ],
)
def test_exit_code_is_the_commands_own_and_a_reported_failure_is_one(
    start: Start, words: tuple[str, ...], code: int, state: JobState
) -> None:
    result = start("ssd", "train", *words).wait(30)
    assert (result.exit_code, result.state) == (code, state)


def test_missing_program_ends_with_127_and_names_it(start: Start) -> None:
    result = start("ssd", "run", "no-such-program").wait(30)
    assert (result.state, result.exit_code) == (JobState.FAILED, 127)
    assert 'has no program "no-such-program"' in result.reason


def test_ended_container_is_removed_and_its_end_kept(start: Start, clean_docker: Docker) -> None:
    job = start("ssd", "train", "replay.exit=7")
    assert job.wait(30).exit_code == 7
    until(lambda: not clean_docker.exists(container_name(job.id)))
    assert Job(job.directory).exit_code == 7


def test_container_is_found_by_its_labels(start: Start, clean_docker: Docker, tmp_path: Path) -> None:
    job = start("ssd", "train", "replay.sleep=30")
    labels = clean_docker.inspect(container_name(job.id))["Config"]["Labels"]
    assert {name: value for name, value in labels.items() if name.startswith("taomagic.job")} == {
        "taomagic.job": job.id
    }
    assert labels["taomagic.project"] == str(tmp_path)
    job.kill()


def test_stop_acts_within_a_second_and_leaves_the_command_its_grace(start: Start) -> None:
    job = start("ssd", "train", "replay.lines=1", "replay.sleep=60", "replay.grace=1")
    until(lambda: "line 0" in log_of(job))
    began = time.monotonic()
    job.request_stop()
    until(lambda: any("Stopped by signal 15" in line for line in log_of(job)), 1.0)
    result = job.wait(10)
    assert time.monotonic() - began < 1.0 + 1.0 + 1.0  # to act, its grace, to end
    assert (result.state, result.exit_code) == (JobState.STOPPED, 143)


def test_command_that_ignores_signals_is_killed_after_the_grace(start: Start) -> None:
    job = start("ssd", "train", "replay.lines=1", "replay.signals=ignore", "replay.sleep=60")
    until(lambda: "line 0" in log_of(job))
    began = time.monotonic()
    assert job.stop(grace_s=1.0) is JobState.STOPPED
    assert time.monotonic() - began < 4.0


def test_both_streams_arrive_in_the_log(start: Start) -> None:
    job = start("ssd", "train", "replay.stdout=to_stdout", "replay.stderr=to_stderr")
    job.wait(30)
    assert {"to stdout", "to stderr"} <= set(log_of(job))


def test_long_lines_and_unfinished_ones_arrive_whole(start: Start) -> None:
    job = start("ssd", "run", "sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo; printf end")
    job.wait(30)
    assert job.log_path.read_bytes() == b"x" * 100_000 + b"\nend"


def test_key_is_in_no_record_no_label_and_no_log(start: Start, clean_docker: Docker) -> None:
    job = start("ssd", "train", "-k", KEY, "replay.show=args", "replay.sleep=2", f"replay.stdout={KEY}")
    until(lambda: "argument [train]" in log_of(job))
    inspected = clean_docker.inspect(container_name(job.id))
    assert KEY in inspected["Config"]["Cmd"]  # NVIDIA's tools take it nowhere else
    assert KEY not in json.dumps(inspected["Config"]["Labels"])
    assert KEY not in json.dumps(inspected["Config"]["Env"])
    job.wait(30)
    for file in job.directory.iterdir():
        assert KEY not in file.read_text(encoding="utf-8", errors="replace"), file.name
    assert KEY not in job.shown
    assert "argument [********]" in log_of(job)


def test_key_stays_masked_when_another_watcher_takes_over(start: Start) -> None:
    job = start("ssd", "train", "-k", KEY, "replay.lines=40", "replay.rate=20", f"replay.stdout={KEY}")
    until(lambda: "line 1" in log_of(job))
    kill_watcher(job)
    assert job.wait(30).ok
    assert KEY not in job.log_path.read_text(encoding="utf-8")
    assert log_of(job)[-2] == "line 39"


def test_every_form_of_a_key_stays_masked_when_another_watcher_takes_over(start: Start) -> None:
    job = start("dino", "run", "sh", "-c", f"sleep 2; echo for --key {KEY}; sleep 1")
    until(lambda: job.state is JobState.RUNNING)
    kill_watcher(job)
    assert job.wait(30).ok
    assert log_of(job) == ["for --key ********"]


def test_log_is_complete_when_the_watcher_is_killed_in_mid_run(start: Start) -> None:
    count = 120_000
    job = start("ssd", "train", f"replay.lines={count}", "replay.rate=40000", "replay.stderr_every=7")
    for number in range(3):
        until(lambda: job.log_path.stat().st_size > 300_000 * (number + 1))  # noqa: B023
        kill_watcher(job)
        until(lambda: Job(job.directory).state is JobState.RUNNING)
    assert job.wait(60).ok
    numbers = [int(line.split()[1]) for line in log_of(job) if line.startswith("line ")]
    assert len(numbers) == count
    assert sorted(numbers) == list(range(count))
    # The two streams are two pipes; in each of them the order is kept.
    assert [n for n in numbers if n % 7 == 0] == list(range(0, count, 7))
    assert [n for n in numbers if n % 7] == [n for n in range(count) if n % 7]


def test_log_survives_a_killed_kernel_in_mid_run(
    clean_docker: Docker, replayer_image: str, tmp_path: Path
) -> None:
    count = 200_000
    script = (
        "import sys; from pathlib import Path; from taomagic.project.mounts import MountMap\n"
        "from tests.launcher.containers.images import Docker\n"
        "from tests.launcher.containers.test_docker_runner import start_in\n"
        f"job = start_in(Docker({clean_docker.host!r}), Path({str(tmp_path)!r}), {replayer_image!r},"
        f" ['ssd', 'train', 'replay.lines={count}', 'replay.rate=60000'], MountMap())\n"
        "print(job.directory, flush=True)\n"
        "for update in job.updates(): pass\n"
    )
    kernel = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert kernel.stdout is not None
    job = Job(Path(kernel.stdout.readline().strip()))
    until(lambda: job.log_path.exists() and job.log_path.stat().st_size > 300_000)
    os.killpg(kernel.pid, signal.SIGKILL)
    kernel.wait()
    kernel.stdout.close()
    assert job.wait(60).ok
    assert [line for line in log_of(job) if line.startswith("line")] == [f"line {n}" for n in range(count)]


def test_job_whose_watchers_die_in_quick_succession_is_not_lost(start: Start) -> None:
    job = start("ssd", "run", "sh", "-c", "sleep 4; echo done")
    seen: list[JobState] = []
    following = threading.Thread(target=lambda: seen.extend(now.state for now in job.follow(0.05)))
    following.start()
    for _ in range(3):
        kill_watcher(job)
        time.sleep(0.5)
    following.join(30)
    assert JobState.LOST not in seen
    assert seen[-1] is JobState.SUCCEEDED
    assert log_of(job) == ["done"]


def test_two_watchers_never_write_one_log(start: Start) -> None:
    job = start("ssd", "train", "replay.lines=60", "replay.rate=20")
    until(lambda: "line 1" in log_of(job))
    kill_watcher(job)
    threads = [threading.Thread(target=lambda: Job(job.directory).state) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert job.wait(30).ok
    assert [line for line in log_of(job) if line.startswith("line")] == [f"line {n}" for n in range(60)]


def test_killed_container_is_a_failure_with_its_cause(start: Start, clean_docker: Docker) -> None:
    job = start("ssd", "train", "replay.lines=1", "replay.sleep=60")
    until(lambda: "line 0" in log_of(job))
    clean_docker("kill", container_name(job.id))
    result = job.wait(20)
    assert (result.state, result.exit_code) == (JobState.FAILED, 137)
    assert "killed" in result.reason
    assert result.hints


def test_want_of_memory_is_named(start: Start, clean_docker: Docker) -> None:
    job = start("ssd", "train", "replay.lines=1", "replay.sleep=1", "replay.memory=0")
    clean_docker("update", "--memory", "64m", "--memory-swap", "64m", container_name(job.id))
    result = job.wait(60)
    assert (result.state, result.exit_code) == (JobState.FAILED, 137)
    assert "memory ran out" in result.reason
    assert "batch_size" in result.hints[0]


def test_removed_image_does_not_disturb_a_running_command(
    clean_docker: Docker, replayer_image: str, tmp_path: Path
) -> None:
    clean_docker("tag", replayer_image, "taomagic-test/removed:1")
    words = ["ssd", "train", "replay.lines=1", "replay.sleep=2", "replay.exit=5"]
    job = start_in(clean_docker, tmp_path, "taomagic-test/removed:1", words, MountMap())
    until(lambda: "line 0" in log_of(job))
    clean_docker("rmi", "-f", "taomagic-test/removed:1")
    assert job.wait(20).exit_code == 5


def test_removed_container_is_a_failure_with_its_cause(start: Start, clean_docker: Docker) -> None:
    job = start("ssd", "train", "replay.lines=1", "replay.sleep=60")
    until(lambda: "line 0" in log_of(job))
    clean_docker("rm", "-f", container_name(job.id))
    result = job.wait(20)
    assert result.state is JobState.FAILED
    assert result.reason
    assert result.exit_code in {None, 137}


def test_deleted_record_does_not_keep_the_container(start: Start, clean_docker: Docker) -> None:
    job = start("ssd", "train", "replay.sleep=2")
    shutil.rmtree(job.directory)
    until(lambda: not clean_docker.exists(container_name(job.id)))


@pytest.mark.parametrize("step", ["create", "start"])
@pytest.mark.parametrize("done", [False, True])
def test_starter_that_is_killed_leaves_no_container_that_nobody_watches(
    clean_docker: Docker, replayer_image: str, tmp_path: Path, step: str, done: bool
) -> None:
    program = f"""
import os, sys
from pathlib import Path
from taomagic.launcher.containers import begin
from taomagic.project.mounts import MountMap
from tests.launcher.containers.images import Docker
from tests.launcher.containers.test_docker_runner import start_in
real = begin.{step}
def dying(*arguments):
    if {done}:
        real(*arguments)
    os.kill(os.getpid(), 9)
begin.{step} = dying
start_in(Docker({clean_docker.host!r}), Path({str(tmp_path)!r}), {replayer_image!r},
    ["ssd", "train", "replay.sleep=1"], MountMap())
"""
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False).returncode == -9
    until(lambda: not clean_docker.containers(f"taomagic.project={tmp_path}"))
    started = step == "start" and done
    until(lambda: len(records.job_folders(tmp_path)) == int(started))
    for folder in records.job_folders(tmp_path):
        assert Job(folder).wait(20).ok


def test_refused_container_leaves_no_job(clean_docker: Docker, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem):
        start_in(clean_docker, tmp_path, "taomagic-test/there-is-none:1", ["ssd", "train"], MountMap())
    assert not records.job_folders(tmp_path)


def test_many_jobs_at_once_each_see_their_own_files(
    clean_docker: Docker, replayer_image: str, tmp_path: Path
) -> None:
    jobs = []
    for number in range(12):
        project = tmp_path / f"project {number}"
        project.mkdir()
        (project / f"mine-{number}.txt").write_text("x", encoding="utf-8")
        mounts = MountMap(((str(project), "/workspace/tao-experiments"),))
        words = [
            "ssd",
            "train",
            "replay.show=files",
            "replay.files=/workspace/tao-experiments/*",
            "replay.sleep=1",
        ]
        jobs.append(start_in(clean_docker, project, replayer_image, words, mounts))
    assert all(job.wait(60).ok for job in jobs)
    for number, job in enumerate(jobs):
        seen = [line for line in log_of(job) if line.startswith("file")]
        assert seen == [f"file [/workspace/tao-experiments/mine-{number}.txt]"]


class TestEngineThatGoesAway:
    """On an engine of the test's own, which it may stop."""

    @pytest.fixture
    def daemon(self, own_daemon: Callable[..., Daemon]) -> Daemon:
        return own_daemon()

    def begin(self, daemon: Daemon, tmp_path: Path, *words: str) -> Job:
        from .images import make_replayer

        image = make_replayer(daemon.docker)
        return start_in(daemon.docker, tmp_path, image, list(words), MountMap())

    def test_stopped_engine_is_named_as_the_cause(self, daemon: Daemon, tmp_path: Path) -> None:
        job = self.begin(daemon, tmp_path, "ssd", "train", "replay.lines=1", "replay.sleep=60")
        until(lambda: "line 0" in log_of(job))
        daemon.stop()
        time.sleep(0.5)
        assert job.state is JobState.RUNNING  # nobody knows better yet
        daemon.start()
        result = job.wait(30)
        assert result.state in {JobState.FAILED, JobState.STOPPED}
        assert "engine was stopped or restarted" in result.reason
        assert result.hints

    def test_killed_engine_costs_no_line(self, daemon: Daemon, tmp_path: Path) -> None:
        job = self.begin(daemon, tmp_path, "ssd", "train", "replay.lines=20000", "replay.rate=4000")
        until(lambda: "line 5000" in log_of(job))
        daemon.kill()
        time.sleep(0.5)
        daemon.start()
        result = job.wait(60)
        printed = [line for line in log_of(job) if line.startswith("line")]
        assert printed == [f"line {n}" for n in range(len(printed))]
        assert result.ok or "engine was stopped or restarted" in result.reason
