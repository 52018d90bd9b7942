"""The process that watches over a container: copies its log, reads how it ended, removes it.

::

    kernel ──starts──> watcher (own session) ──API──> engine ──> container
                          └──> log.txt, position.json, process.json, exit.json

It forks away from its starter as the supervisor of the embedded engine does, and leaves the same files, so that a job
is a job wherever it runs. It may die without harm: the container goes on, and whoever looks at the job next starts
another watcher, which continues the log where it ends, without a lost or a doubled line; see
:class:`~taomagic.launcher.containers.position.Position`.

SIGTERM or SIGINT sends the container its stop signal; the second one, or SIGUSR1, kills it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

from taomagic.launcher.containers.api import Engine, EngineProblem
from taomagic.launcher.containers.endpoint import Endpoint
from taomagic.launcher.containers.frames import FrameReader
from taomagic.launcher.containers.position import NEVER, Position, unix_time
from taomagic.launcher.detached import Log, detach, write_json

#: Seconds between two notes of how far the log has been copied.
NOTE_S = 2.0
#: Longest wait, in seconds, before an engine that is away is looked for again.
PATIENCE_S = 2.0
#: Seconds for which the removal of an ended container is tried.
REMOVE_S = 60.0
#: Seconds for which a container whose starter went away may still be in the making.
CREATE_S = 10.0
#: Exit codes of a command that isn't there or can't be executed, as a shell gives them.
NOT_FOUND, NOT_EXECUTABLE = 127, 126
_SHELL_CODES = {NOT_FOUND, NOT_EXECUTABLE}


class Watch:
    """One container, from its start to its removal.

    Parameters
    ----------
    directory
        The job's folder.
    engine
        Where the container is.
    container
        Its name or id.
    keys
        What is masked in the log.
    """

    def __init__(self, directory: Path, engine: Engine, container: str, keys: Sequence[str]) -> None:
        self._directory, self._engine, self._container = directory, engine, container
        self._position = Position()
        noted = _read_json(directory / "position.json") or {}
        size, self._skip_entries, skip_bytes = _size(directory / "log.txt"), 0, 0
        if size:
            self._position = Position(str(noted.get("since", NEVER)), 0)
            self._skip_entries = int(noted.get("entries", 0))
            skip_bytes = max(0, size - int(noted.get("offset", 0)))
        self._log = Log(directory / "log.txt", keys, skip=skip_bytes)
        self._stop_signal = "SIGTERM"
        self._wish = ""
        self._complained = False
        self._noted_at = time.monotonic()
        #: Whether the engine was away for a while.
        self.away = False
        #: Whether somebody wanted the end.
        self.stopped = (directory / "stopped").exists()

    def install_handlers(self, stop_signal: str) -> None:
        """Pass signals on: the first politely, the second deadly."""
        self._stop_signal = stop_signal or "SIGTERM"
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_kill)

    def _on_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._send("SIGKILL" if self.stopped else self._stop_signal)

    def _on_kill(self, _number: int, _frame: FrameType | None) -> None:
        self._send("SIGKILL")

    def _send(self, name: str) -> None:
        self.stopped = True
        self._wish = name
        with contextlib.suppress(OSError):
            (self._directory / "stopped").touch()
        self._pass_on()

    def _pass_on(self) -> None:
        """Send what is wished for; where that can't be done now it is tried again later."""
        if self._wish:
            with contextlib.suppress(EngineProblem):
                self._engine.post(f"/containers/{self._container}/kill", signal=self._wish, timeout=10.0)
                self._wish = ""

    def until_end(self) -> dict[str, Any] | None:
        """Copy the log until the container has ended.

        Returns
        -------
        dict or None
            Its ``State`` as the engine tells it; ``None`` where the container is gone.
        """
        pause = 0.01
        while True:
            try:
                self._pass_on()
                # Not every break of the stream is the end: the engine may have been restarted.
                pause = 0.01 if self._copy() else min(PATIENCE_S, pause * 2)
                state: dict[str, Any] = self._engine.get(f"/containers/{self._container}/json")["State"]
                if state.get("Status") in {"exited", "dead"}:
                    # A followed log may be closed before all of it has come; read to its end, it is complete.
                    self._copy(follow=False)
                    self._log.flush()
                    return state
            except EngineProblem as problem:
                if problem.status == 404:
                    self._log.flush()
                    return None
                self.away |= problem.unreachable
                pause = min(PATIENCE_S, pause * 2)
            time.sleep(pause)

    def _copy(self, *, follow: bool = True) -> bool:
        """Copy what the log holds beyond our position, and follow it until it ends or breaks off.

        Returns
        -------
        bool
            Whether there was anything new.
        """
        skip = self._skip_entries
        position = self._position = Position(self._position.since)
        query: dict[str, Any] = {"follow": follow, "stdout": True, "stderr": True, "timestamps": True}
        if position.since != NEVER:
            query["since"] = unix_time(position.since)
        reader = FrameReader()
        new = False
        try:
            for block in self._engine.stream("GET", f"/containers/{self._container}/logs", **query):
                parts = []
                for _, entry in reader.feed(block):
                    stamp, _, text = entry.partition(b" ")
                    position.count(stamp.decode("ascii", "replace"))
                    if skip:
                        skip -= 1
                    else:
                        parts.append(text)
                if parts:
                    new = True
                    self._log.write(b"".join(parts))
                if time.monotonic() - self._noted_at >= NOTE_S and not skip and not self._log.held:
                    self._note()
        except EngineProblem as problem:
            if problem.unreachable or problem.status == 404:
                raise
            self._complain(str(problem))
        finally:
            # What has been copied must not be copied again when the stream is taken up anew.
            self._skip_entries = position.entries + skip
        return new

    def _complain(self, words: str) -> None:
        """Say in the log, once, that the engine doesn't give it to us."""
        if not self._complained:
            self._complained = True
            self._log.write(f"[taomagic] The container's output can't be read: {words}\n".encode())

    def _note(self) -> None:
        self._noted_at = time.monotonic()
        if self._log.skipping:
            return
        self._position.advance()
        content = {
            "offset": _size(self._directory / "log.txt"),
            "since": self._position.since,
            "entries": self._position.entries,
        }
        with contextlib.suppress(OSError):
            write_json(self._directory / "position.json", content)

    def write_end(self, state: dict[str, Any] | None, reserve: Path) -> None:
        """Write how it ended."""
        code = None if state is None else int(state["ExitCode"])
        finished = time.time()
        if state is not None and (self.away or self._log.skipped):
            with contextlib.suppress(ValueError):
                finished = min(finished, float(unix_time(state.get("FinishedAt", ""))))
        write_json(
            self._directory / "exit.json",
            {
                "exit_code": code,
                "signal": None,
                "finished": finished,
                "stopped": self.stopped,
                "status": self._log.status(),
                "lost_bytes": self._log.lost,
                "removed": state is None,
                "oom_killed": bool(state and state.get("OOMKilled")),
                "engine_error": (str(state.get("Error", "")) or self._no_program(code)) if state else "",
                "engine_away": self.away,
            },
            reserve,
        )

    def _no_program(self, code: int | None) -> str:
        """Return how the container's init says that there is no such program; without one the engine says it."""
        lines = self._log.end.decode("utf-8", "replace").splitlines() if code in _SHELL_CODES else []
        return next(
            (line for line in reversed(lines) if line.startswith("[FATAL tini") and "exec" in line), ""
        )

    def remove(self) -> None:
        """Remove the container; one that stays behind costs only disk."""
        deadline = time.monotonic() + REMOVE_S
        while time.monotonic() < deadline:
            try:
                self._engine.delete(f"/containers/{self._container}", force=True, v=True)
            except EngineProblem as problem:
                if problem.status in {404, 409}:  # gone, or going
                    return
                time.sleep(PATIENCE_S)
            else:
                return


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def run(directory: Path, request: dict[str, Any], starter: IO[bytes] | None, ready: int) -> None:
    """Watch over a job's container.

    Parameters
    ----------
    directory
        The job's folder.
    request
        ``endpoint`` (arguments of :class:`Endpoint`), ``container`` (its name), ``keys``, ``stop_signal``.
    starter
        Tells in one line, as soon as that is known, how the start went: an empty text where the container runs, else
        the engine's words for an image that doesn't hold the command. ``None`` for a container that ran before.
    ready
        A pipe: ``ok``, or why nothing is watched.
    """
    engine = Engine(Endpoint(**request["endpoint"]))
    name = str(request["container"])
    reserve = directory / ".reserve"
    try:
        reserve.write_bytes(b"\0" * 8192)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        watch = Watch(directory, engine, name, [str(key) for key in request.get("keys") or ()])
        watch.install_handlers(str(request.get("stop_signal") or ""))
        write_json(directory / "process.json", {"supervisor": os.getpid(), "container": name})
    except OSError as error:
        os.write(ready, f"{error.strerror}: {error.filename or directory}".encode())
        return
    os.write(ready, b"ok")
    os.close(ready)
    refused = _how_it_started(starter, engine, name) if starter else ""
    if refused is None:
        # Nothing was started, so there is no job.
        import shutil

        shutil.rmtree(directory, ignore_errors=True)
        return
    state: dict[str, Any] | None
    if refused:
        # That is how the command ended, as in a shell, and not a failure to start it.
        code = NOT_EXECUTABLE if "permission denied" in refused.lower() else NOT_FOUND
        state = {"ExitCode": code, "Error": refused}
    else:
        state = watch.until_end()
    with contextlib.suppress(
        FileNotFoundError
    ):  # who deletes the record of a running job doesn't want its container
        watch.write_end(state, reserve)
    reserve.unlink(missing_ok=True)
    watch.remove()


def _how_it_started(starter: IO[bytes], engine: Engine, name: str) -> str | None:
    """Wait for the starter's word; ``None``: there is nothing to watch."""
    try:
        return str(json.loads(starter.readline()))
    except ValueError:  # it went away without a word
        return "" if _was_started(engine, name) else None


def _was_started(engine: Engine, name: str) -> bool:
    """Tell whether a container was started by one who went away; one that was only created is removed."""
    deadline = time.monotonic() + CREATE_S
    while time.monotonic() < deadline:
        try:
            if engine.get(f"/containers/{name}/json")["State"]["Status"] != "created":
                return True
            engine.delete(f"/containers/{name}", force=True, v=True)
        except EngineProblem as problem:
            if problem.unreachable:
                return True  # it may be; that is found out when the engine answers again
            time.sleep(0.2)  # not there yet, or just going
        else:
            return False
    return False


def main() -> int:
    """Read the request from stdin, fork away, watch; tell the starter through the exit code whether that goes well."""
    directory = Path(sys.argv[1]).absolute()
    starter = os.fdopen(os.dup(0), "rb", buffering=0)
    line = starter.readline()
    if not line:
        return 1  # started ahead of time, and not needed
    request = json.loads(line)
    return detach(lambda ready: _run_alone(directory, request, starter, ready))


def _run_alone(directory: Path, request: dict[str, Any], starter: IO[bytes], ready: int) -> None:
    """Watch, unless somebody does already: two watchers would write each line twice."""
    import fcntl

    lock = os.open(directory / "watcher.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.write(ready, b"ok")
        return
    except OSError:
        pass  # a file system without locks: starting two at the same time is unlikely enough
    try:
        run(directory, request, starter if request.get("new") else None, ready)
    except Exception:
        # Nobody sees our stderr. Whoever looks for the job next starts another watcher.
        import traceback

        (directory / "watcher.txt").write_text(traceback.format_exc(), encoding="utf-8")
        raise
