"""The jobs under the server's root folder, kept ready so that asking for them every two seconds costs little.

Reading a long log takes seconds, so a thread of its own does that: an answer holds what is known by then, and says
whether more will come.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.launcher import records
from taomagic.launcher.job import Job, JobState
from taomagic.launcher.progress import Snapshot
from taomagic.server.places import JOB_ID, Root

#: Finished jobs that are listed.
RECENT = 30
#: Seconds that an answer waits for logs to be read.
PATIENCE_S = 0.5
#: States that no job leaves. A lost container may be found again, so it isn't among them.
_FINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED})
#: What half a record, or a stranger's file, leads to.
_NO_JOB = (EnvironmentProblem, OSError, ValueError, KeyError, TypeError)


class _Entry:
    """One job, and what has been read of it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.state = job.state
        self.snapshot: Snapshot | None = None
        self.reading: Future[None] | None = None
        self.stopping: Future[None] | None = None

    @property
    def complete(self) -> bool:
        """Whether all that there will ever be has been read."""
        return self.snapshot is not None and self.snapshot.state in _FINAL

    @property
    def caught_up(self) -> bool:
        """Whether the last reading tells about the state that the job is in; one that failed won't tell more."""
        if self.reading is None or not self.reading.done():
            return False
        return self.snapshot is None or self.snapshot.state.finished == self.state.finished

    @property
    def stop_problem(self) -> str:
        """Why the last attempt to stop the job failed, or nothing."""
        if self.stopping is None or not self.stopping.done():
            return ""
        problem = self.stopping.exception()
        return "" if problem is None else getattr(problem, "message", "") or str(problem)

    def look(self) -> None:
        """Bring the state up to date; what can't be read just now leaves it as it was."""
        if self.state not in _FINAL:
            with contextlib.suppress(*_NO_JOB):
                self.state = self.job.state

    def read(self) -> None:
        """Read what is new in the log."""
        self.snapshot = self.job.snapshot()


class JobShelf:
    """Finds jobs, tells about them, and stops them.

    Parameters
    ----------
    root
        Where jobs may lie.
    environ
        Names the folder with the list of projects that have jobs.
    """

    def __init__(self, root: Root, environ: Mapping[str, str] | None = None) -> None:
        self._root = root
        self._environ = os.environ if environ is None else environ
        self._lock = threading.Lock()
        self._entries: dict[Path, _Entry] = {}
        self._reader = ThreadPoolExecutor(1, "taomagic-read")
        self._stopper = ThreadPoolExecutor(4, "taomagic-stop")

    def close(self) -> None:
        """End the threads; a stop that is under way is finished."""
        self._reader.shutdown(wait=False, cancel_futures=True)
        self._stopper.shutdown(wait=True)

    def listing(self) -> dict[str, Any]:
        """Return the running jobs and the latest finished ones, newest first.

        Returns
        -------
        dict
            ``jobs``; ``older``: the number of finished jobs left out; ``complete``: whether all logs have been read.
        """
        entries = self._look()
        running = [entry for entry in entries if not entry.state.finished]
        finished = [entry for entry in entries if entry.state.finished]
        shown = running + finished[:RECENT]
        self._read(shown)
        jobs = []
        for entry in shown:
            with contextlib.suppress(*_NO_JOB):  # one bad record must not hide the others
                jobs.append(self._summary(entry))
        return {
            "jobs": jobs,
            "older": max(0, len(finished) - RECENT),
            "complete": all(entry.caught_up for entry in shown),
        }

    def details(self, job_id: str) -> dict[str, Any]:
        """Return all that is known about a job.

        Raises
        ------
        UsageProblem
            There is no such job.
        """
        entry = self._find(job_id)
        self._read([entry])
        now = entry.snapshot
        told: dict[str, Any] = {
            "metrics": {},
            "per_class_ap": {},
            "artefacts": [],
            "problem": "",
            "hints": [],
            "notes": [],
        }
        if now is not None:
            told = {
                # Those of single classes have a table of their own.
                "metrics": _finite(
                    {name: value for name, value in now.metrics.items() if not name.startswith("AP_")}
                ),
                "per_class_ap": _finite(now.per_class_ap),
                "artefacts": [
                    {
                        "name": artefact.host.name,
                        "path": self._root.contents_path(artefact.host),
                        "container": artefact.container,
                    }
                    for artefact in now.artefacts
                ],
                "problem": entry.job.result().reason if now.state.finished else now.cause,
                "hints": list(now.hints),
                "notes": list(now.notes),
            }
        return {**self._summary(entry), "exit_code": entry.job.exit_code, **told}

    def log(self, job_id: str) -> tuple[Path, bool]:
        """Return a job's log file, and whether it is whole; errors as for :meth:`details`."""
        entry = self._find(job_id)
        return entry.job.log_path, entry.state.finished

    def stop(self, job_id: str) -> dict[str, Any]:
        """Begin to stop a job, and return at once; errors as for :meth:`details`.

        It is asked politely and, where that doesn't help, killed after ten seconds. A job that has ended, or is being
        stopped, is left as it is.
        """
        entry = self._find(job_id)
        with self._lock:
            busy = entry.stopping is not None and not entry.stopping.done()
            if not busy and not entry.state.finished:
                entry.stopping = self._stopper.submit(_stop, entry.job)
        return self._summary(entry)

    def _look(self) -> list[_Entry]:
        """Return the jobs there are, newest first."""
        # A project's path as its jobs know it: theirs names the job in the list of processes.
        projects = [self._root.folder, *records.remembered_projects(self._environ)]
        found: dict[Path, _Entry] = {}
        with self._lock:
            for folder in self._root.job_folders(projects):
                entry = self._entries.get(folder)
                if entry is None:
                    with contextlib.suppress(*_NO_JOB):
                        entry = _Entry(Job(folder))
                if entry is not None:
                    entry.look()
                    found[folder] = entry
            self._entries = found
        # A copied project brings the records of the original along: the same id, but nobody who runs it.
        by_id: dict[str, _Entry] = {}
        for entry in found.values():
            other = by_id.get(entry.job.id)
            if other is None or _at_home(entry.job) > _at_home(other.job):
                by_id[entry.job.id] = entry
        return sorted(by_id.values(), key=lambda entry: entry.job.started, reverse=True)

    def _find(self, job_id: str) -> _Entry:
        if JOB_ID.fullmatch(job_id):
            for entry in self._look():
                if entry.job.id == job_id:
                    return entry
        raise UsageProblem(f'There is no job "{job_id}".', hint="It may have been cleared away.")

    def _read(self, entries: list[_Entry]) -> None:
        """Have the logs read, and wait a little."""
        with self._lock:
            for entry in entries:
                if not entry.complete and (entry.reading is None or entry.reading.done()):
                    entry.reading = self._reader.submit(entry.read)
            waiting = [entry.reading for entry in entries if entry.reading is not None]
        wait(waiting, PATIENCE_S)

    def _summary(self, entry: _Entry) -> dict[str, Any]:
        job, now = entry.job, entry.snapshot
        running = not entry.state.finished
        return {
            "id": job.id,
            "label": job.command.label,
            "command": job.shown,
            "backend": job.backend,
            # Where the record lies, not what it says: a project may have been moved since.
            "project": self._root.contents_path(job.directory.parents[2]),
            "state": str(entry.state),
            "stopping": running and entry.stopping is not None and not entry.stopping.done(),
            "stop_problem": entry.stop_problem if running else "",
            # Reckoned here, because the clock of the page may be another one.
            "age": max(0.0, time.time() - job.started.timestamp()),
            "seconds": job.seconds,
            "fraction": now.fraction if now else None,
            "epoch": now.epoch if now else None,
            "epochs": now.epochs if now else None,
            "activity": now.activity if now and running else "",
            "eta_s": now.eta_s if now and running else None,
            "map": _finite(now.metrics).get("mAP") if now else None,
        }


def _stop(job: Job) -> None:
    job.stop()


def _at_home(job: Job) -> bool:
    return job.directory.parents[2] == job.project


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Return the values as JSON can hold them."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
