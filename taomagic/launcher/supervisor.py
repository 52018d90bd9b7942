"""The process that owns a running engine: its log, its signals, its exit code. Started by ``runners/process.py``.

It forks away from whoever started it, so that no kernel, shell or notebook server takes it along when it goes, and runs
the command of the job's record. See :mod:`taomagic.launcher.detached` for what it shares with the one that watches over
a container.

::

    kernel ──starts──> supervisor (own session) ──starts──> engine (own process group)
                            │  <──────────── pipe ────────────┘
                            └──> log.txt, process.json, exit.json

SIGTERM or SIGINT asks the engine to stop; the second one, or SIGUSR1, kills its whole group.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from pathlib import Path
from subprocess import DEVNULL, PIPE, STDOUT, Popen
from types import FrameType

from taomagic.launcher.detached import Log, detach, write_json
from taomagic.launcher.keys import MASKED_VARIABLE, unmasked, without_quotes

#: Seconds after the engine's end during which output of its children is still waited for.
DRAIN_S = 1.0


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


def run(directory: Path, ready: int) -> None:
    """Run the job in ``directory``; report to the pipe ``ready`` that it runs, or why it doesn't."""
    record = json.loads((directory / "job.json").read_text(encoding="utf-8"))
    environ = dict(os.environ)
    reserve = directory / ".reserve"
    try:
        reserve.write_bytes(b"\0" * 8192)
        # What the record has stars for; the embedded engine's words have none, it takes its key from the environment.
        masked = json.loads(environ.pop(MASKED_VARIABLE, "[]"))
        log = Log(directory / "log.txt", [environ.get("TAOMAGIC_KEY", ""), *without_quotes(masked)])
        # In case a signal arrives before there is anything to pass it on to.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        engine = Engine(unmasked(record["engine_argv"], masked), record["cwd"], environ)
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
    return detach(lambda ready: run(directory, ready))
