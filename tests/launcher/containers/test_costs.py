"""What a container costs beside `docker run`, and its log's reader in memory; figures: benchmarks/containers.py."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from taomagic.launcher import records
from taomagic.launcher.command import parse_command
from taomagic.launcher.context import Context
from taomagic.launcher.launch import launch

from .images import Docker

#: Twice what is measured on a quiet machine; the target, 1.3, is the benchmark's business.
LIMIT = 2.0


@pytest.fixture
def environ(clean_docker: Docker, replayer_image: str, tmp_path: Path) -> dict[str, str]:
    environ = {**clean_docker.environ, "HOME": str(tmp_path), "TAOMAGIC_IMAGE": replayer_image}
    environ["PYTHONPATH"] = str(Path(__file__).parents[3])
    for name in ("LAUNCHER_MOUNTS", "LOCAL_PROJECT_DIR", "PYTHONDONTWRITEBYTECODE", "XDG_STATE_HOME"):
        environ.pop(name, None)
    return environ


def seconds(argv: list[str], environ: dict[str, str], folder: Path) -> float:
    began = time.perf_counter()
    done = subprocess.run(argv, env=environ, cwd=folder, capture_output=True, text=True, check=True)
    assert done.stdout == "hi\n"
    return time.perf_counter() - began


def test_short_command_costs_little_more_than_docker_run(
    environ: dict[str, str], replayer_image: str, tmp_path: Path
) -> None:
    ours = [sys.executable, "-m", "taomagic", "--backend", "docker", "ssd", "run", "echo", "hi"]
    plain = ["docker", "run", "--rm", replayer_image, "echo", "hi"]
    for argv in (ours, plain):
        seconds(argv, environ, tmp_path)  # fills caches
    best = float("inf")
    for _ in range(4):  # other work on the machine may spoil a round
        pairs = [seconds(ours, environ, tmp_path) / seconds(plain, environ, tmp_path) for _ in range(5)]
        best = min(best, statistics.median(pairs))
        if best < LIMIT:
            return
    pytest.fail(f"`tao … run echo hi` takes {best:.2f} times as long as `docker run`")


def test_watcher_stays_small_at_ten_thousand_lines_a_second(environ: dict[str, str], tmp_path: Path) -> None:
    context = Context.current(environ, tmp_path)
    words = ["ssd", "run", "ssd", "replay.lines=80000", "replay.rate=10000"]
    job, _ = launch(parse_command(words), context, backend="docker")
    process = records.read_json(job.directory / "process.json")
    assert process is not None
    watcher = psutil.Process(int(process["supervisor"]))
    sizes = []
    while not job.state.finished:
        try:
            sizes.append(watcher.memory_info().rss / 1e6)
        except psutil.Error:
            break
        time.sleep(0.2)
    assert job.wait(30).exit_code == 0
    assert max(sizes) - sizes[len(sizes) // 10] < 10
    lines = job.log_path.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("line")] == [f"line {n}" for n in range(80_000)]
