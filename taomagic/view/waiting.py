"""Waiting for a job while a view shows it, and what an interrupt does meanwhile."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Literal, Protocol

from taomagic.errors import StageInterrupted
from taomagic.launcher.states import JobState

if TYPE_CHECKING:
    from taomagic.launcher.job import Job, Update
    from taomagic.launcher.progress import Snapshot
    from taomagic.launcher.result import Result

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


class Stopping:
    """Asks a job to stop at the first wish, and kills it at the second.

    Wishes come by two ways, an interrupt of the kernel and the panel's button. A click may take both, when the kernel
    answers too late: then it counts once.

    Parameters
    ----------
    job
        The job.
    clock
        Monotonic seconds.
    """

    #: Seconds within which a wish by the other way is the same wish.
    SAME_S = 2.0

    def __init__(self, job: Job, clock: Callable[[], float] = time.monotonic) -> None:
        self._job = job
        self._clock = clock
        self._last = (float("-inf"), "")
        self._early = False
        #: How often the job was asked.
        self.count = 0

    def ask(self, way: Literal["interrupt", "button"]) -> Literal["", "stop", "kill"]:
        """Take a wish, and return what was done about it; an empty text where nothing was."""
        now, (last, other) = self._clock(), self._last
        state = self._job.state
        if state.finished or (way != other and now - last < self.SAME_S):
            return ""
        self._last = (now, way)
        self.count += 1
        if self.count == 1:
            # There is nobody yet to pass it on to while the job starts.
            self._early = state is JobState.STARTING
            self._job.request_stop()
            return "stop"
        self._job.request_kill()  # without waiting: this may be a signal's handler
        return "kill"

    def repeat_early(self, state: JobState) -> None:
        """Ask again what was asked too early."""
        if self._early and state is JobState.RUNNING:
            self._early = False
            self._job.request_stop()


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
    watching = _Watching(job, view, stop_on_interrupt)
    try:
        with watching.interrupts():
            try:
                for update in job.updates():
                    watching.show(update)
            finally:
                # Inside: an interrupt that comes too late must not leave half a card.
                watching.close()
    except KeyboardInterrupt:
        raise _no_longer_watched(job) from None
    return watching.result()


async def watch_async(job: Job, view: View, *, stop_on_interrupt: bool = True) -> Result:
    """Do what :func:`watch` does, and let the kernel answer the page meanwhile: a stop button, a page that is reloaded.

    Parameters and exceptions are those of :func:`watch`. The log is read in a thread; the view is called in this one.
    """
    watching = _Watching(job, view, stop_on_interrupt)
    # A terminal has no use for them, and they take 50 ms to load.
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    loop = asyncio.get_running_loop()
    updates = job.updates()
    reader = ThreadPoolExecutor(1, thread_name_prefix=f"log of {job.id}")
    task = asyncio.current_task()
    try:
        # An exception in the midst of the event loop would end the kernel's; a cancelled task ends only the cell.
        with watching.interrupts(lambda: loop.call_soon_threadsafe(task.cancel) if task else None):
            while (update := await loop.run_in_executor(reader, next, updates, None)) is not None:
                watching.show(update)
    except (asyncio.CancelledError, KeyboardInterrupt):
        raise _no_longer_watched(job) from None
    finally:
        reader.shutdown(wait=False)
        watching.close()
    return watching.result()


class _Watching:
    """What both ways of waiting have in common."""

    def __init__(self, job: Job, view: View, stop_on_interrupt: bool) -> None:
        self._job, self._view = job, view
        self._snapshot: Snapshot | None = None
        # A view with a stop button of its own counts its wishes together with the interrupts.
        stopping = getattr(view, "stopping", None) or Stopping(job)
        self._interrupts = _Interrupts(stopping) if stop_on_interrupt else None

    @contextmanager
    def interrupts(self, give_up: Callable[[], object] | None = None) -> Iterator[None]:
        """Take interrupts inside the block, if they are to stop the job."""
        if self._interrupts is None:
            yield
            return
        self._interrupts.give_up = give_up
        with on_sigint(self._interrupts.take):
            yield

    def show(self, update: Update) -> None:
        self._snapshot = update.snapshot
        self._view.show(update)
        if self._interrupts:
            self._interrupts.tell(self._view, update.snapshot.state)

    def close(self) -> None:
        self._view.close(self._snapshot or self._job.snapshot())

    def result(self) -> Result:
        # The last update holds the final state: a long log needn't be read once more.
        last = self._snapshot if self._snapshot and self._snapshot.state.finished else None
        result = self._job.result(last)
        if self._interrupts and self._interrupts.count and result.ok:
            raise StageInterrupted(
                "interrupted, but the command had already ended well.", where=f"tao {result.label}"
            )
        return result


def _no_longer_watched(job: Job) -> StageInterrupted:
    return StageInterrupted(
        "no longer watched; the command goes on.",
        where=f"job {job.id}",
        hint=f"`tao attach {job.id}` shows it again, `tao stop {job.id}` ends it.",
    )


class _Interrupts:
    """Counts interrupts and passes them on to the job.

    A handler instead of ``KeyboardInterrupt``: an exception could strike between any two instructions of the view and
    lose lines, or leave half a message on the wire.
    """

    def __init__(self, stopping: Stopping) -> None:
        self._stopping = stopping
        self._wish = ""
        #: What the third interrupt does, in case the job can't be ended; by default it gets through to Python.
        self.give_up: Callable[[], object] | None = None
        self.count = 0

    def take(self) -> None:
        """Pass one interrupt on."""
        self.count += 1
        if self.count > 2:
            if self.give_up is None:
                raise KeyboardInterrupt
            self.give_up()
            return
        self._wish = self._stopping.ask("interrupt") or self._wish

    def tell(self, view: View, state: JobState) -> None:
        """Let the view say what an interrupt has done; repeat one that came too early."""
        self._stopping.repeat_early(state)
        if self._wish:
            view.notice(STOPPING if self._wish == "stop" else KILLED)
            self._wish = ""


@contextmanager
def on_sigint(action: Callable[[], None]) -> Iterator[None]:
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
