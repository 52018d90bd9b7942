"""Waiting for a job while a view shows it, and what an interrupt does meanwhile."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from taomagic.errors import StageInterrupted
from taomagic.launcher.job import Job, Result, Update
from taomagic.launcher.progress import JobState, Snapshot

STOPPING = "Stopping: the command has been asked to end. Interrupt once more to kill it."
KILLED = "Killed."


class View(Protocol):
    """Something that shows a job while it runs and when it has ended."""

    def show(self, update: Update) -> None:
        """Take in what is new. Called at most ten times a second, and at least once a second."""

    def notice(self, text: str) -> None:
        """Show a sentence that comes from us, not from the command."""

    def close(self, snapshot: Snapshot) -> None:
        """Show the final state. Called once, whatever happened before."""


def watch(job: Job, view: View, *, stop_on_interrupt: bool = True) -> Result:
    """Show a job until it has ended, and return how it ended.

    Parameters
    ----------
    job
        A job that runs, or has ended: then its log is replayed.
    view
        What shows it. Its :meth:`View.close` is called in any case.
    stop_on_interrupt
        What an interrupt (Ctrl-C, the notebook's ■) does. ``True``: the first one asks the command to stop, the second
        one kills it. ``False``: it only ends the watching, and the job goes on.

    Raises
    ------
    StageInterrupted
        The watching was ended by an interrupt, or an interrupt came too late to stop the command. (A command that *was*
        stopped gives a result whose ``raise_for_state`` raises.)
    """
    interrupts = _Interrupts(job) if stop_on_interrupt else None
    snapshot = None
    try:
        with _on_sigint(interrupts.take) if interrupts else _nothing():
            for update in job.updates():
                snapshot = update.snapshot
                view.show(update)
                if interrupts:
                    interrupts.tell(view, snapshot.state)
    except KeyboardInterrupt:
        raise StageInterrupted(
            "no longer watched; the command goes on.",
            where=f"job {job.id}",
            hint=f"`tao attach {job.id}` shows it again, `tao stop {job.id}` ends it.",
        ) from None
    finally:
        view.close(snapshot or job.snapshot())
    result = job.result()
    if interrupts and interrupts.count and result.ok:
        raise StageInterrupted(
            "interrupted, but the command had already ended well.", where=f"tao {result.label}"
        )
    return result


class _Interrupts:
    """Counts interrupts and passes them on to the job.

    A handler instead of ``KeyboardInterrupt``: an exception could strike between any two instructions of the view and
    lose lines, or leave half a message on the wire.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._told = 0
        self._early = False
        self.count = 0

    def take(self) -> None:
        """Pass one interrupt on; the third one gets through to Python, in case the job can't be ended."""
        self.count += 1
        if self.count == 1:
            # There is nobody yet to pass it on to while the job starts.
            self._early = self._job.state is JobState.STARTING
            self._job.request_stop()
        elif self.count == 2:
            self._job.kill()
        else:
            raise KeyboardInterrupt

    def tell(self, view: View, state: JobState) -> None:
        """Let the view say what an interrupt has done; repeat one that came too early."""
        if self._early and state is JobState.RUNNING:
            self._early = False
            self._job.request_stop()
        if self._told < self.count:
            self._told = self.count
            view.notice(STOPPING if self.count == 1 else KILLED)


@contextmanager
def _on_sigint(action: Callable[[], None]) -> Iterator[None]:
    """Call ``action`` on each SIGINT inside the block; only the main thread can receive one."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(_signal: int, _frame: FrameType | None) -> None:
        action()

    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)


@contextmanager
def _nothing() -> Iterator[None]:
    yield
