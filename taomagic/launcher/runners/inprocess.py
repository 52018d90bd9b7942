"""Runs the embedded engine in this very process, so that breakpoints, ``ipdb`` and ``%debug`` reach its frames.

Every other runner starts a process that outlives this one, and answers with a job at once. Here the command *is* this
process: it has ended when :meth:`InProcessRun.carry_out` returns, and an error comes out with its frames. It is on
record as any job, so that it is listed, followed and kept like one, and has a result with curves and files.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
from bdb import BdbQuit
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from taomagic.errors import StageInterrupted, TaoError
from taomagic.launcher import processes, records
from taomagic.launcher.command import Command
from taomagic.launcher.context import Context
from taomagic.launcher.detached import MASK, SHORTEST_KEY, Log
from taomagic.launcher.interrupts import interrupts_heard
from taomagic.launcher.job import Job
from taomagic.launcher.result import Result
from taomagic.launcher.runners.base import command_record, status_file

#: What a job's record calls this backend.
NAME = "in-process"


class InProcessRun:
    """One command that runs here, on record but not started yet.

    Parameters
    ----------
    command
        A command of the embedded engine, checked.
    context
        What it is started with.

    Attributes
    ----------
    job
        Its record.

    Raises
    ------
    UsageProblem
        The command needs processes of its own.
    EnvironmentProblem
        The job can't be recorded.
    """

    def __init__(self, command: Command, context: Context) -> None:
        self._words = list(command.without_key().words)
        # By name, since nothing outside the engine may depend on torch. This alone doesn't load it.
        self._engine = importlib.import_module("taomagic.engine.inside")
        self._engine.read_words(self._words)
        self._key = command.key() or context.environ.get("TAOMAGIC_KEY", "")
        self._context = context
        directory = records.create(
            context.project_dir,
            {
                "backend": NAME,
                **command_record(command),
                "cwd": str(context.cwd),
                "engine_argv": self._words,
                "where": f"process {os.getpid()}",
                "why": "",
                **status_file(command, context),
            },
            context.mounts,
        )
        records.write_json(directory / "process.json", processes.describe_own())
        records.remember_project(context.project_dir, context.environ)
        records.prune(context.project_dir)
        self.job = Job(directory)

    def carry_out(self) -> Result:
        """Run the command to its end; its output goes to this process' own, and to the job's log.

        Returns
        -------
        Result
            After a success.

        Raises
        ------
        StageInterrupted
            It was interrupted, or the debugger was quit; with the frames of the place.
        BaseException
            What the command raised, as it is.
        """
        release_last_failure()
        log = Log(self.job.log_path, [self._key])
        ended = {"exit_code": 1, "signal": None, "stopped": False}
        try:
            surroundings = _surroundings(self._context, self._environ())
            with interrupts_heard(), breakpoints_heard(), surroundings, self._copied(log):
                self._engine.run(self._words)
            ended["exit_code"] = 0
        except (KeyboardInterrupt, BdbQuit) as stop:
            ended |= {"exit_code": 130, "stopped": True}
            _note_end(log, stop)
            quitted = isinstance(stop, BdbQuit)
            raise StageInterrupted(
                "the debugger was quit." if quitted else "interrupted.",
                where=f"tao {self.job.command.label}",
                hint="The same command resumes a training after its last checkpoint; %debug looks at this place.",
            ).with_traceback(stop.__traceback__) from None
        except BaseException as error:
            _note_end(log, error)
            raise
        finally:
            log.flush()
            result = {"finished": time.time(), "status": log.status(), "lost_bytes": log.lost}
            log.close()
            records.write_json(self.job.directory / "exit.json", {**ended, **result})
        return self.job.result()

    def _environ(self) -> dict[str, str]:
        environ = dict(self._context.environ)
        if self._key:
            environ["TAOMAGIC_KEY"] = self._key
        environ["LAUNCHER_MOUNTS"] = str(self.job.directory / "mounts.json")
        environ["TAOMAGIC_STATUS_DIR"] = str(self.job.directory)
        return environ

    @contextmanager
    def _copied(self, log: Log) -> Iterator[None]:
        """Copy what is printed to the log, the key starred in both."""
        streams = sys.stdout, sys.stderr
        sys.stdout = _Copy(streams[0], log, self._key)
        sys.stderr = _Copy(streams[1], log, self._key)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams


class _Copy:
    """A text stream that also writes to a log. All else about it is the stream's: a debugger asks for a lot."""

    def __init__(self, stream: TextIO, log: Log, key: str) -> None:
        self._stream, self._log = stream, log
        self._key = key if len(key) >= SHORTEST_KEY else ""

    def write(self, text: str) -> int:
        shown = text.replace(self._key, MASK) if self._key else text
        self._log.write(text.encode("utf-8", "replace"))
        try:
            self._stream.write(shown)
        except UnicodeEncodeError:  # a terminal that can't show progress bars
            encoding = self._stream.encoding
            self._stream.write(shown.encode(encoding, "replace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def breakpoints_heard() -> Iterator[None]:
    """Let ``breakpoint()`` open a debugger.

    A kernel loads debugpy, for the debugger of the page, whose hook ignores every breakpoint unless that debugger is
    on (ipykernel's issue 897). Python's own hook opens pdb, which the kernel has made IPython's, or what
    ``PYTHONBREAKPOINT`` names. A hook that somebody else has set stays.
    """
    before = sys.breakpointhook
    debugpy = sys.modules.get("debugpy")
    is_debugpys = getattr(before, "__module__", "").partition(".")[0] == "debugpy"
    if debugpy is not None and is_debugpys and not debugpy.is_client_connected():
        sys.breakpointhook = sys.__breakpointhook__
    try:
        yield
    finally:
        sys.breakpointhook = before


@contextmanager
def _surroundings(context: Context, environ: Mapping[str, str]) -> Iterator[None]:
    """Give the command its folder and its variables, and this process its own back at the end."""
    before, folder = dict(os.environ), Path.cwd()
    _set_environ(environ)
    try:
        os.chdir(context.cwd)
        yield
    finally:
        _set_environ(before)
        os.chdir(folder)


def _set_environ(wanted: Mapping[str, str]) -> None:
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    # Only what differs: each assignment is a call of the C library, which other threads may be reading.
    os.environ.update({name: value for name, value in wanted.items() if os.environ.get(name) != value})


def _note_end(log: Log, error: BaseException) -> None:
    """Write to the log what the engine's own process prints when it fails; here the error itself is shown."""
    lines: list[str] = []
    if isinstance(error, TaoError):
        where = f"{error.where}: " if error.where else ""
        lines = [f"ERROR: {where}{error.message}", *([f"HINT: {error.hint}"] if error.hint else [])]
    elif isinstance(error, KeyboardInterrupt | BdbQuit):
        lines = ["Stopped by SIGINT."]
    else:
        text = f"ERROR: {type(error).__name__}: {error}"
        lines = ["".join(traceback.format_exception(error)).rstrip(), text]
    log.write("\n".join(["", *lines, "Execution status: FAIL", ""]).encode("utf-8", "replace"))


def release_last_failure() -> None:
    """Free what the last failed run of this kind left in its frames, a whole network as a rule.

    They are kept for ``%debug`` until then.
    """
    trace: TracebackType | None = getattr(sys, "last_traceback", None)
    while trace is not None and trace.tb_frame.f_code is not InProcessRun.carry_out.__code__:
        trace = trace.tb_next
    if trace is not None:
        traceback.clear_frames(trace)
        for frame, _ in traceback.walk_tb(trace):
            # Before Python 3.13 whoever drew the frame has left a copy of its variables there; this updates it.
            _ = frame.f_locals
