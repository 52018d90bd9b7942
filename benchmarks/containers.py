"""What running a command in a container costs beside `docker run`, and how the reader of its log holds out.

    python benchmarks/containers.py overhead      # pairs of `tao ssd run echo hi` and `docker run --rm IMAGE echo hi`
    python benchmarks/containers.py flood         # 10,000 lines a second for 60 seconds

Both need a Docker engine and `busybox` (Debian: busybox-static); the images are made here, nothing is pulled.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from taomagic.launcher import records
from taomagic.launcher.command import parse_command
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job
from taomagic.launcher.launch import launch
from tests.launcher.containers.images import find_engine, make_replayer

RATE, SECONDS = 10_000, 60


def overhead(pairs: int) -> None:
    docker = find_engine(os.environ)
    image = make_replayer(docker)
    with tempfile.TemporaryDirectory() as folder:
        environ = {**docker.environ, "HOME": folder, "TAOMAGIC_IMAGE": image}
        for name in ("LAUNCHER_MOUNTS", "LOCAL_PROJECT_DIR", "PYTHONDONTWRITEBYTECODE"):
            environ.pop(name, None)
        program = str(Path(sys.executable).with_name("tao"))
        ours = [program, "--backend", "docker", "ssd", "run", "echo", "hi"]
        plain = ["docker", "run", "--rm", image, "echo", "hi"]
        times = []
        for pair in range(-2, pairs):
            measured = [_seconds(argv, environ, folder) for argv in (ours, plain)]
            if pair >= 0:  # the first ones fill caches
                times.append(measured)
    ratios = sorted(ours / plain for ours, plain in times)
    print(f"tao … run echo hi          median {statistics.median(row[0] for row in times):.3f} s")
    print(f"docker run --rm … echo hi  median {statistics.median(row[1] for row in times):.3f} s")
    print(
        f"ratio of pairs             median {statistics.median(ratios):.2f}, {ratios[0]:.2f} to {ratios[-1]:.2f}"
    )


def _seconds(argv: list[str], environ: dict[str, str], folder: str) -> float:
    began = time.perf_counter()
    done = subprocess.run(argv, env=environ, cwd=folder, capture_output=True, text=True, check=True)
    taken = time.perf_counter() - began
    assert done.stdout == "hi\n", done
    return taken


def flood() -> None:
    docker = find_engine(os.environ)
    os.environ["TAOMAGIC_IMAGE"] = make_replayer(docker)
    os.environ["DOCKER_HOST"] = docker.host
    count = RATE * SECONDS
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = folder
        context = Context.current(cwd=Path(folder))
        words = ["ssd", "run", "ssd", f"replay.lines={count}", f"replay.rate={RATE}"]
        job, _ = launch(parse_command(words), context, backend="docker")
        sizes = _watch(job)
        lines = job.log_path.read_text(encoding="utf-8").splitlines()
        printed = [line for line in lines if line.startswith("line ")]
        assert printed == [f"line {number}" for number in range(count)], "lines are lost or doubled"
        taken = job.seconds
    for who, values in sizes.items():
        steady = values[len(values) // 10 :]
        print(
            f"{who:<28} {steady[0]:6.1f} MB at first, {max(steady):6.1f} MB at most: +{max(steady) - steady[0]:.1f} MB"
        )
    print(f"{count} lines in {taken:.0f} s, each once and in order in the log file")


def _watch(job: Job) -> dict[str, list[float]]:
    """Follow a job as a view does; return the memory of the watcher and of this process, second by second, in MB."""
    process = records.read_json(job.directory / "process.json")
    assert process is not None
    watched = {
        "watcher": psutil.Process(int(process["supervisor"])),
        "this process (the view's)": psutil.Process(),
    }
    sizes: dict[str, list[float]] = {name: [] for name in watched}
    ended = threading.Event()

    def measure() -> None:
        while not ended.wait(1.0):
            for name, each in watched.items():
                try:
                    sizes[name].append(each.memory_info().rss / 1e6)
                except psutil.Error:
                    return

    thread = threading.Thread(target=measure)
    thread.start()
    for _update in job.updates():
        pass
    ended.set()
    thread.join()
    return sizes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("overhead", "flood"))
    parser.add_argument("--pairs", type=int, default=15)
    given = parser.parse_args()
    overhead(given.pairs) if given.what == "overhead" else flood()
