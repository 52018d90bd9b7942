"""Job records: the folders under ``<project>/.tao/jobs``, read and written so that nobody ever sees half a file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from taomagic.errors import EnvironmentProblem


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; ``None`` where there is no such file, or no object in it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_record(directory: Path) -> dict[str, Any]:
    """Return a job's record.

    Raises
    ------
    EnvironmentProblem
        There is none, or it isn't one of ours.
    """
    record = read_json(directory / "job.json")
    needed = {"id", "project", "backend", "command", "shown", "started", "engine_argv"}
    if record is None or not needed <= record.keys():
        raise EnvironmentProblem(
            f"There is no job record in {directory}.", hint="`tao list` shows the jobs that there are."
        )
    return record


class StatusFile:
    """Reads the learning rates from a ``status.json`` (JSON lines) that grows.

    Parameters
    ----------
    path
        On the host.
    offset
        Its size in bytes when the job started; earlier records belong to earlier jobs.
    """

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset

    def read_rates(self) -> Iterator[tuple[float, float]]:
        """Yield ``(epoch, learning rate)`` of the whole lines written since the last call."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._offset:
                    self._offset = 0  # the command began a new file
                file.seek(self._offset)
                text = file.read()
        except OSError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            if b"learning_rate" not in line:
                continue
            try:
                record = json.loads(line)
                epoch, rate = float(record["epoch"]), float(record["graphical"]["learning_rate"])
            except (ValueError, KeyError, TypeError):
                continue
            if math.isfinite(epoch) and math.isfinite(rate):
                yield epoch, rate
