"""What a running job uses: speed, memory, and the GPU where there is one. Read rarely, so that it costs nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from taomagic.errors import TaoError
from taomagic.launcher import records
from taomagic.launcher.job import Job
from taomagic.launcher.progress import Snapshot
from taomagic.project.paths import PathMap, read_pairs

#: Seconds between two looks at memory and GPU, and the time over which the speed is averaged.
LOOK_S, SPEED_S = 5.0, 20.0
_SPEC_FLAGS = ("-e", "--experiment_spec", "--experiment_spec_file")
_BATCH = re.compile(r"\bbatch_size_per_gpu\s*:\s*(\d{1,6})")

Reading = tuple[str, str, str]


class UsageMeter:
    """Reads what a job uses, in a thread of its own while it runs.

    Parameters
    ----------
    job
        The job.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._batch: int | None = None
        self._steps: deque[tuple[float, float]] = deque(maxlen=400)
        self._measured: list[Reading] = []
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def read(self, snapshot: Snapshot) -> list[Reading]:
        """Return ``(name, value, note)`` of what is known now."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._look, name=f"usage of {self._job.id}", daemon=True)
            self._thread.start()
        return [*self._speed(snapshot), *self._measured]

    def close(self) -> None:
        """End the thread."""
        self._ended.set()

    def _speed(self, snapshot: Snapshot) -> list[Reading]:
        """Return the training steps of the last seconds as images per second, or as steps where no batch is known."""
        if snapshot.epoch is None or snapshot.activity or not snapshot.steps or snapshot.step is None:
            return []
        if "images_per_second" in snapshot.metrics:  # the command tells it itself
            return []
        done = (snapshot.epoch - 1) * snapshot.steps + snapshot.step
        now = time.monotonic()
        if not self._steps or done > self._steps[-1][1]:
            self._steps.append((now, float(done)))
        while len(self._steps) > 2 and now - self._steps[0][0] > SPEED_S:
            self._steps.popleft()
        (began, first), (ended, last) = self._steps[0], self._steps[-1]
        if ended - began < 0.5:
            return []
        rate = (last - first) / (ended - began)
        batch = self._batch_size()
        if batch:
            return [("images per second", f"{rate * batch:.3g}", f"batches of {batch}")]
        return [("steps per second", f"{rate:.3g}", "")]

    def _batch_size(self) -> int:
        """Return the batch size that the experiment file says; 0 where it can't be read."""
        if self._batch is None:
            self._batch = 0
            args = self._job.command.args
            given = [args[i + 1] for i, word in enumerate(args[:-1]) if word in _SPEC_FLAGS]
            try:
                text = self._on_host(given[-1]).read_text("utf-8", "replace") if given else ""
            except (OSError, TaoError):
                text = ""
            found = _BATCH.search(text)
            self._batch = int(found[1]) if found else 0
        return self._batch

    def _on_host(self, path: str) -> Path:
        return PathMap(read_pairs(self._job.directory / "mounts.json")).to_host(path)

    def _look(self) -> None:
        nvidia = shutil.which("nvidia-smi")
        while not self._ended.wait(0 if not self._measured else LOOK_S):
            readings = [*self._memory(), *(gpu(nvidia) if nvidia else [])]
            if readings:
                self._measured = readings
            elif self._ended.wait(LOOK_S):
                return

    def _memory(self) -> list[Reading]:
        process = records.read_json(self._job.directory / "process.json") or {}
        engine, container = process.get("engine"), process.get("container")
        used = 0
        if isinstance(engine, int):
            used = memory_of_tree(engine)
        elif isinstance(container, str):
            record = records.read_json(self._job.directory / "job.json") or {}
            used = memory_of_container(record.get("endpoint"), container)
        return [("memory", gigabytes(used), "")] if used else []


def memory_of_tree(pid: int) -> int:
    """Return the resident bytes of a process and its children; 0 where it is gone."""
    import psutil

    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    total = 0
    for process in family:
        try:
            total += int(process.memory_info().rss)
        except psutil.Error:
            continue
    return total


def memory_of_container(endpoint: Any, container: str) -> int:
    """Return the bytes that a container uses, without the files that it has read; 0 where the engine doesn't tell.

    The same figure as in ``docker stats``: usage less ``inactive_file`` (cgroup v2; ``total_inactive_file`` in v1).
    """
    from taomagic.launcher.containers.api import Engine, EngineProblem, quote
    from taomagic.launcher.containers.endpoint import Endpoint

    try:
        query: dict[str, Any] = {"stream": "false", "one-shot": "true"}
        told = Engine(Endpoint(**endpoint)).get(f"/containers/{quote(container)}/stats", **query)
        memory = told["memory_stats"]
        cache = memory.get("stats", {})
        used = memory["usage"] - cache.get("inactive_file", cache.get("total_inactive_file", 0))
    except (EngineProblem, OSError, KeyError, TypeError, AttributeError):
        return 0
    return max(0, int(used))


def gigabytes(size: int) -> str:
    """Return a size as people say it: ``640 MB``, ``2.1 GB``."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def gpu(program: str | Path) -> list[Reading]:
    """Return how busy the GPUs are, as ``nvidia-smi`` tells it; nothing where it fails."""
    query = [
        str(program),
        "--query-gpu=utilization.gpu,memory.used,memory.total",
        "--format=csv,noheader,nounits",
    ]
    try:
        told = subprocess.run(query, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return read_gpus(told.splitlines())


def read_gpus(rows: Sequence[str]) -> list[Reading]:
    """Return one reading a GPU from lines such as ``35, 2048, 16384`` (percent, MiB, MiB)."""
    readings: list[Reading] = []
    for index, row in enumerate(rows):
        fields = [field.strip() for field in row.split(",")]
        if len(fields) != 3 or not all(field.isdigit() for field in fields):
            continue
        busy, used, total = map(int, fields)
        name = "GPU" if len(rows) == 1 else f"GPU {index}"
        readings.append((name, f"{busy} %", f"{gigabytes(used << 20)} of {gigabytes(total << 20)}"))
    return readings
