"""The process that owns a running engine: its log, its signals, its exit code. Started by ``runners/process.py``.

``python -I -S supervisor.py JOB_DIRECTORY`` forks away from whoever started it, so that no kernel, shell or notebook
server takes it along when it goes, and runs the command of the job's record. Only the standard library is used, and
nothing of taomagic is imported: it must start in milliseconds and stay small for as long as the training lasts.

::

    kernel ──starts──> supervisor (own session) ──starts──> engine (own process group)
                            │  <──────────── pipe ────────────┘
                            └──> log.txt, process.json, exit.json

SIGTERM or SIGINT asks the engine to stop; the second one, or SIGUSR1, kills its whole group.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen
from types import FrameType
from typing import Any

#: Seconds after the engine's end during which output of its children is still waited for.
DRAIN_S = 1.0
#: Seconds for which a full disk is waited for before the result is given up.
FULL_DISK_S = 600.0
#: A key shorter than this isn't searched for in the output: it would hit ordinary words.
SHORTEST_KEY = 6
_FULL = {errno.ENOSPC, errno.EDQUOT}
_MASK = b"********"


class Log:
    """The log file. A full disk costs lines, never the training; what was lost is said as soon as there is room.

    Parameters
    ----------
    path
        The file, appended to.
    key
        The model key; it is replaced by stars wherever the command prints it.
    """

    def __init__(self, path: Path, key: bytes) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._key = key if len(key) >= SHORTEST_KEY else b""
        self._held = b""  # the end of what came, as long as it may be the beginning of the key
        self._lost = 0
        #: The last few kilobytes, to find the execution status in.
        self.end = b""
        #: Bytes lost in all.
        self.lost = 0

    def write(self, data: bytes) -> None:
        """Append output."""
        data = self._held + data
        self._held = b""
        if self._key:
            data = data.replace(self._key, _MASK)
            for length in range(min(len(self._key) - 1, len(data)), 0, -1):
                if data.endswith(self._key[:length]):
                    self._held, data = data[-length:], data[:-length]
                    break
        self._append(data)

    def flush(self) -> None:
        """Append what was held back."""
        held, self._held = self._held, b""
        self._append(held)

    def _append(self, data: bytes) -> None:
        if not data:
            return
        self.end = (self.end + data)[-8192:]
        if self._lost:
            data = b"\n[taomagic] %d bytes of output were lost: the disk was full.\n" % self._lost + data
        try:
            while data:
                data = data[os.write(self._file, data) :]
            self._lost = 0
        except OSError as error:
            if error.errno not in {*_FULL, errno.EIO}:
                raise
            self._lost += len(data)
            self.lost += len(data)

    def status(self) -> str | None:
        """Return what the last ``Execution status:`` line said."""
        line = self.end.rpartition(b"Execution status: ")[2] if b"Execution status: " in self.end else b""
        word = line[:4].decode("ascii", "replace")
        return word if word in {"PASS", "FAIL"} else None


class Engine:
    """The engine's process group."""

    def __init__(self, argv: list[str], cwd: str, environ: dict[str, str]) -> None:
        self.process: Popen[bytes] = Popen(
            argv, cwd=cwd, env=environ, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, process_group=0, bufsize=0
        )
        self.stopped = False
        self._killed = False

    def install_handlers(self) -> None:
        """Pass signals on: the first politely, the second deadly."""
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        signal.signal(signal.SIGUSR1, self._kill)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._send(signal.SIGKILL if self.stopped else signal.SIGINT)

    def _kill(self, _number: int, _frame: FrameType | None) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        # The group can't have gone to somebody else: its leader is reaped only after the handlers are off.
        if self.process.returncode is None:
            self.stopped = True
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)

    def follow(self, log: Log) -> None:
        """Copy the output to the log until the engine and its children are silent."""
        assert self.process.stdout is not None
        pipe = self.process.stdout.fileno()
        ended_at: float | None = None
        while True:
            ready, _, _ = select.select([pipe], [], [], 0.2)
            if ready:
                data = os.read(pipe, 1 << 16)
                if not data:
                    break
                log.write(data)
                continue
            if ended_at is None and self._has_ended():
                ended_at = time.monotonic()
            if ended_at is not None and time.monotonic() - ended_at > DRAIN_S:
                break  # a child that outlived the engine holds the pipe open
        log.flush()

    def _has_ended(self) -> bool:
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self.process.poll() is not None
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def finish(self) -> int:
        """Wait for the exit code, and end whatever the engine left running in its group."""
        # Closing the output isn't the end. The engine isn't reaped yet where that is possible, so that its number stays
        # ours while the group is cleaned up.
        while not self._has_ended():
            time.sleep(0.02)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        return self.process.wait()


def write_json(path: Path, content: dict[str, Any], reserve: Path | None = None) -> None:
    """Write a file in one step. On a full disk give up the reserve, then wait for room; without one, raise at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    deadline = time.monotonic() + FULL_DISK_S
    while True:
        try:
            temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            if reserve is None or error.errno not in _FULL or time.monotonic() > deadline:
                raise
            if reserve.exists():
                reserve.unlink()
            else:
                time.sleep(1.0)
        else:
            return


def run(directory: Path, ready: int) -> None:
    """Run the job in ``directory``; report to the pipe ``ready`` that it runs, or why it doesn't."""
    record = json.loads((directory / "job.json").read_text(encoding="utf-8"))
    environ = dict(os.environ)
    reserve = directory / ".reserve"
    try:
        reserve.write_bytes(b"\0" * 8192)
        log = Log(directory / "log.txt", environ.get("TAOMAGIC_KEY", "").encode())
        # In case a signal arrives before there is anything to pass it on to.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        engine = Engine(record["engine_argv"], record["cwd"], environ)
    except OSError as error:
        os.write(ready, f"{error.strerror}: {error.filename or directory}".encode())
        return
    engine.install_handlers()
    try:
        write_json(directory / "process.json", {"supervisor": os.getpid(), "engine": engine.process.pid})
    except OSError as error:
        # Nobody could ever find this job again: its starter has given up, or the disk is full.
        os.killpg(engine.process.pid, signal.SIGKILL)
        os.write(ready, f"{error.strerror}: {directory}".encode())
        return
    os.write(ready, b"ok")
    os.close(ready)
    engine.follow(log)
    code = engine.finish()
    write_json(
        directory / "exit.json",
        {
            "exit_code": code,
            "signal": signal.Signals(-code).name if code < 0 else None,
            "finished": time.time(),
            "stopped": engine.stopped,
            "status": log.status(),
            "lost_bytes": log.lost,
        },
        reserve,
    )
    reserve.unlink(missing_ok=True)


def main() -> int:
    """Fork away, run the job, and tell the starter through the exit code whether it runs."""
    directory = Path(sys.argv[1]).absolute()
    answer, ready = os.pipe()
    if os.fork():
        os.close(ready)
        said = b"".join(iter(lambda: os.read(answer, 4096), b""))
        if said != b"ok":
            sys.stderr.write(said.decode("utf-8", "replace") or "the supervisor ended at once")
        return 0 if said == b"ok" else 1
    os.close(answer)
    # Our starter's terminal and pipes must not keep it waiting, nor take us along.
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")  # so that no disk stays busy because of us
    run(directory, ready)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
