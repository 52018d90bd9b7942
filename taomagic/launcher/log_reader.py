"""Reading a job's log and status file, as they grow, into events and a snapshot.

Apart from :mod:`taomagic.launcher.job`, because it takes 40 ms to load, and not everyone who has a job reads its log.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from taomagic.launcher import hints, records
from taomagic.launcher.event_reader import EventReader
from taomagic.launcher.events import Event
from taomagic.launcher.left_files import left_files
from taomagic.launcher.progress import Progress, Snapshot
from taomagic.launcher.states import JobState

if TYPE_CHECKING:
    from taomagic.launcher.job import Job

#: Bytes of the log that are parsed between two looks at the clock.
BLOCK = 1 << 18


class LogReader:
    """Reads a job's log and status file forward, once; with ``back``, only so many bytes before the log's end."""

    def __init__(self, job: Job, back: int | None = None) -> None:
        self._job = job
        self._events = EventReader()
        # Relative paths begin where the command was given; in a container, nobody knows where.
        paths, base = job.paths, Path(str(job.record.get("cwd") or "") if job.backend == "process" else "")
        self._progress = Progress(lambda path: base / paths.to_host(path))
        self._offset = 0
        if back is not None:
            with contextlib.suppress(OSError):
                self._offset = max(0, job.log_path.stat().st_size - back)
        # DetectNet_v2 prints its learning rates, and counts epochs from 0 in this file.
        status = job.record.get("status_file") if job.command.task != "detectnet_v2" else None
        self._status = (
            records.StatusFile(Path(status), int(job.record.get("status_offset", 0))) if status else None
        )

    def read_all(self) -> Iterator[list[Event]]:
        """Yield the events of what has been written since the last call, block by block."""
        try:
            log = self._job.log_path.open("rb")
        except FileNotFoundError:
            return
        with log:
            # As far as it is now: a log may grow faster than it is read.
            end = log.seek(0, os.SEEK_END)
            log.seek(self._offset)
            while self._offset < end and (block := log.read(min(BLOCK, end - self._offset))):
                self._offset += len(block)
                yield self._take(self._events.feed(block))
        if self._status is not None:
            for epoch, rate in self._status.read_rates():
                self._progress.measure_rate(epoch, rate)

    def close(self) -> list[Event]:
        """Return the events of a last line without its end."""
        return self._take(self._events.close())

    def _take(self, events: Iterator[Event]) -> list[Event]:
        now = time.monotonic()
        taken = list(events)
        for event in taken:
            self._progress.add(event, now)
        return taken

    def _guesses(self, exit_code: int | None) -> tuple[str, ...]:
        in_container = self._job.backend == "docker"
        return hints.guess(exit_code, self._progress.recent_text(), container=in_container)

    def snapshot(self, *, final: bool = False) -> Snapshot:
        """Return the job as far as it has been read; only a ``final`` one may say that it has ended."""
        job = self._job
        state, exit_code = job.state, job.exit_code
        if state.finished and not final:
            state, exit_code = JobState.RUNNING, None
        if state.finished:
            self._progress.find(left_files(job))
        guesses: tuple[str, ...] = ()
        cause = ""
        if state in {JobState.FAILED, JobState.LOST}:
            cause, hint = job.explain_end()
            guesses = (hint,) if hint else self._guesses(exit_code)
        return self._progress.snapshot(
            state=state,
            command=job.shown,
            job_id=job.id,
            label=job.command.label,
            exit_code=exit_code,
            elapsed_s=job.seconds,
            log_path=job.log_path,
            hints=guesses,
            cause=cause,
        )
