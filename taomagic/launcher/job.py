"""A job: one command that runs, ran, or was lost. The record on disk is the truth; this object only reads it.

::

    <project>/.tao/jobs/<id>/
        job.json       what was started, when, where from            (written before anything starts)
        mounts.json    the map it was started with
        process.json   who runs it: supervisor and engine            (written by the supervisor)
                       or the process that it runs in itself         (--in-process)
        log.txt        everything the command printed
        exit.json      how it ended                                  (written by the supervisor, last)

    STARTING -> RUNNING -> SUCCEEDED | FAILED | STOPPED
                   └─────> LOST      (the supervisor is gone, and no exit.json)

A job in a container has no engine process of its own: its watcher is the supervisor. Where that is gone, the container
may still run, and another watcher is started; only where that can't be done is such a job lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taomagic.errors import EnvironmentProblem
from taomagic.launcher import processes, records
from taomagic.launcher.command import Command
from taomagic.launcher.states import JobState
from taomagic.project.paths import PathMap, read_pairs

if TYPE_CHECKING:
    from taomagic.launcher.events import Event
    from taomagic.launcher.log_reader import LogReader
    from taomagic.launcher.progress import Snapshot
    from taomagic.launcher.result import Result

__all__ = ["Job", "JobState", "Update"]

#: Bytes at the end of a log that a glance reads; an epoch of a few hundred steps fits into them.
GLANCE = 1 << 17
#: Seconds between the record and the supervisor's first sign of life after which the job counts as lost.
START_LIMIT_S = 60.0
#: Seconds after the first look during which a job is looked at ten times as often.
EAGER_S = 1.0
#: Exit codes that mean "stopped by SIGINT or SIGTERM", as a shell reports them and as the kernel does.
STOPPED_CODES = frozenset({130, 143, -2, -15})


@dataclass(frozen=True)
class Update:
    """What is new since the last update, and the job as it is now."""

    events: tuple[Event, ...]
    snapshot: Snapshot


class Job:
    """One command on record.

    Parameters
    ----------
    directory
        ``<project>/.tao/jobs/<id>``.

    Raises
    ------
    EnvironmentProblem
        There is no readable record.
    """

    def __init__(self, directory: Path) -> None:
        record = records.read_record(directory)
        self.directory = directory
        self.id = str(record["id"])
        self.project = Path(record["project"])
        self.backend = str(record["backend"])
        self.command = _command(record["command"])
        #: The command as typed, the key masked.
        self.shown = str(record["shown"])
        #: Where it runs, for a person: ``embedded engine``, or the container's image.
        self.where = str(record.get("where") or "embedded engine")
        #: Why there, where nobody chose.
        self.why = str(record.get("why") or "")
        self.started = datetime.fromtimestamp(float(record["started"]), UTC)
        self.record = record
        self._next_try = 0.0
        self._is_watched = False
        # A handler of signals may ask for the state while the state is being found out.
        self._watching = threading.RLock()
        self._reader: LogReader | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Job {self.id} {self.command.label}: {self.state}>"

    @property
    def log_path(self) -> Path:
        """Everything the command printed."""
        return self.directory / "log.txt"

    @property
    def state(self) -> JobState:
        """Where the job is now, from its record and the processes alive."""
        ended = self._ended()
        if ended is not None:
            return _final_state(ended)
        process = records.read_json(self.directory / "process.json")
        if process is None:
            fresh = time.time() - self.started.timestamp() < START_LIMIT_S
            return JobState.STARTING if fresh else JobState.LOST
        if processes.is_alive(process, self.directory):
            return JobState.RUNNING
        # It may have ended between the two looks.
        ended = self._ended()
        if ended is not None:
            return _final_state(ended)
        return JobState.RUNNING if self._watch_again() else JobState.LOST

    def _watch_again(self) -> bool:
        """Have the container of a job whose watcher is gone watched again, at most once in two seconds."""
        if self.backend != "docker":
            return False
        with self._watching:
            if time.monotonic() >= self._next_try:
                self._next_try = time.monotonic() + 2.0
                self._is_watched = True  # as long as it isn't known
                from taomagic.launcher.runners.docker import watch_again

                self._is_watched = watch_again(self.directory, self.record)
            return self._is_watched

    @property
    def exit_code(self) -> int | None:
        """Exit code of the command, negative for a signal; ``None`` while it runs or where it is unknown."""
        ended = self._ended()
        return None if ended is None or ended["exit_code"] is None else int(ended["exit_code"])

    @property
    def seconds(self) -> float:
        """Seconds from start to end, or to now."""
        ended = self._ended()
        if ended is not None:
            end = float(ended["finished"])
        elif self.state.finished:
            end = self.log_path.stat().st_mtime if self.log_path.exists() else self.started.timestamp()
        else:
            end = time.time()
        return max(0.0, end - self.started.timestamp())

    def snapshot(self) -> Snapshot:
        """Return the job as it is now."""
        with self._lock:
            if self._reader is None:
                self._reader = self._new_reader()
            for _ in self._reader.read_all():
                pass
            return self._reader.snapshot(final=True)

    def glance(self) -> Snapshot:
        """Return the job as the end of its log tells it: enough for a list, and quick however long the log is."""
        reader = self._new_reader(back=GLANCE)
        for _ in reader.read_all():
            pass
        return reader.snapshot(final=True)

    def updates(self, poll_s: float = 0.1) -> Iterator[Update]:
        """Yield what is new, from the log's first line on, until the job has ended.

        Parameters
        ----------
        poll_s
            Shortest time between two updates.

        Yields
        ------
        Update
            At most one per ``poll_s`` while text arrives, one a second while none does; the last one holds
            the final state.
        """
        reader = self._new_reader()
        opened, quiet_since = time.monotonic(), float("-inf")
        while True:
            began = time.monotonic()
            finished = self.state.finished  # asked before reading: what is read afterwards is then complete
            new: list[Event] = []
            for block in reader.read_all():
                new += block
                # A replayed log may be long: show something every now and then.
                if time.monotonic() - began > poll_s:
                    yield Update(tuple(new), reader.snapshot())
                    new, began, quiet_since = [], time.monotonic(), time.monotonic()
            if finished:
                new += reader.close()
                yield Update(tuple(new), reader.snapshot(final=True))
                return
            if new or time.monotonic() - quiet_since >= 1.0:
                quiet_since = time.monotonic()
                yield Update(tuple(new), reader.snapshot())
            # A command of a second must not look like one of two: at the beginning, look more often.
            pause = poll_s if time.monotonic() - opened > EAGER_S else poll_s / 10
            time.sleep(max(0.0, pause - (time.monotonic() - began)))

    def follow(self, poll_s: float = 0.1) -> Iterator[Snapshot]:
        """Yield snapshots until the job has ended; see :meth:`updates`."""
        for update in self.updates(poll_s):
            yield update.snapshot

    def wait(self, timeout: float | None = None) -> Result:
        """Wait for the end.

        Parameters
        ----------
        timeout
            Seconds; ``None`` waits as long as it takes.

        Raises
        ------
        TimeoutError
            The job still runs after ``timeout``.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.state.finished:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"Job {self.id} still runs after {timeout} s.")
            time.sleep(0.05)
        return self.result()

    def __await__(self) -> Generator[Any, None, Result]:
        """Wait for the end in a cell: ``result = await job``, or several with ``await asyncio.gather(one, other)``.

        Other cells' work goes on meanwhile. Whoever stops waiting leaves the job running.

        Raises
        ------
        StageFailed
            The job failed or was stopped; see :meth:`Result.raise_for_state`.
        """
        from taomagic.launcher.waiting import until_end

        return until_end(self).__await__()

    def result(self, now: Snapshot | None = None) -> Result:
        """Return how the job stands, without waiting.

        Parameters
        ----------
        now
            The snapshot to tell it from, for those who have a current one; by default the log is read.
        """
        from taomagic.launcher.log_forms import without_noise
        from taomagic.launcher.result import Result

        now = now or self.snapshot()
        return Result(
            job_id=self.id,
            command=self.shown,
            label=self.command.label,
            state=now.state,
            exit_code=now.exit_code,
            seconds=now.elapsed_s,
            log_path=self.log_path,
            metrics=dict(now.metrics),
            per_class_ap=dict(now.per_class_ap),
            history=[dict(row) for row in now.history],
            artefacts=list(now.artefacts),
            cause=now.cause,
            hints=now.hints,
            tail=tuple(line for line in without_noise(now.lines) if line.strip())[-15:],
        )

    def request_stop(self) -> None:
        """Ask the command to stop, and return at once. A second request kills it."""
        self._signal("stop")

    def stop(self, grace_s: float = 10.0) -> JobState:
        """Stop the command: ask politely, kill it after ``grace_s`` seconds.

        Returns
        -------
        JobState
            The state afterwards; a job that had already ended is left as it is.
        """
        self.request_stop()
        if not self.ends_within(grace_s):
            self.kill()
        return self.state

    def request_kill(self) -> None:
        """End the command at once, and return without waiting for it."""
        self._signal("kill")

    def kill(self) -> JobState:
        """End the command at once, without giving it time to save anything, and wait for its end."""
        self.request_kill()
        self.ends_within(10.0)
        return self.state

    def tail(self, n: int = 20) -> list[str]:
        """Return the last ``n`` lines of the log, at most 200."""
        return list(self.snapshot().lines[-n:]) if n > 0 else []

    def _signal(self, wish: processes.Wish) -> None:
        if self.backend == "docker":
            _ = self.state  # asked first: it finds a new watcher for a container that has lost its own
        process = records.read_json(self.directory / "process.json")
        if process is not None and self._ended() is None:
            processes.send(wish, process, self.directory, list(self.record["engine_argv"]))

    def ends_within(self, seconds: float) -> bool:
        """Wait at most so many seconds for the end, and tell whether it came."""
        deadline = time.monotonic() + seconds
        while not self.state.finished:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _new_reader(self, back: int | None = None) -> LogReader:
        from taomagic.launcher.log_reader import LogReader

        return LogReader(self, back)

    def explain_end(self) -> tuple[str, str]:
        """Return cause and hint where what ended the command isn't in its log; else empty texts."""
        ended = self._ended()
        if ended is None or self.backend != "docker":
            return "", ""
        from taomagic.launcher.containers import endings

        return endings.explain(ended, self.where)

    def _ended(self) -> Mapping[str, Any] | None:
        return records.read_json(self.directory / "exit.json")

    @property
    def paths(self) -> PathMap:
        """The translation of the map that it was started with."""
        try:
            return PathMap(read_pairs(self.directory / "mounts.json"))
        except EnvironmentProblem:
            return PathMap()


def _final_state(ended: Mapping[str, Any]) -> JobState:
    if ended["exit_code"] is None:
        return JobState.STOPPED if ended.get("stopped") else JobState.FAILED
    code = int(ended["exit_code"])
    if code == 0:
        # NVIDIA's containers may end with 0 after a failure; what they say counts.
        return JobState.FAILED if ended.get("status") == "FAIL" else JobState.SUCCEEDED
    if ended.get("stopped"):
        return JobState.STOPPED
    # An engine that shuts down stops its containers; nobody wanted the end of this command.
    return JobState.STOPPED if code in STOPPED_CODES and not ended.get("engine_away") else JobState.FAILED


def _command(record: Mapping[str, Any]) -> Command:
    return Command(
        action=str(record["action"]),
        group=str(record["group"]),
        task=str(record["task"]),
        subtask=str(record["subtask"]),
        args=tuple(str(word) for word in record["args"]),
    )
