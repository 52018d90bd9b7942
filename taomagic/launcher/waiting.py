"""Waiting for a job in an event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from taomagic.errors import StageInterrupted

if TYPE_CHECKING:
    from taomagic.launcher.job import Job
    from taomagic.launcher.result import Result

#: Seconds between two looks. An interrupted cell is told of it at the next one.
POLL_S = 0.2


async def until_end(job: Job) -> Result:
    """Wait for a job's end without blocking the event loop, and return how it ended.

    Raises
    ------
    StageFailed
        It didn't end well.
    CancelledError
        Somebody stopped the waiting, an interrupted cell among them; the job goes on.
    """
    try:
        # Records are read in a thread: a disk may be slow, and the watcher of a container may have to be started again.
        while not await asyncio.to_thread(_has_ended, job):
            await asyncio.sleep(POLL_S)
        result = await asyncio.to_thread(job.result)
    except asyncio.CancelledError as cancelled:
        # Drawn by IPython in place of a traceback. asyncio's timeouts look for this very class, so none of our own.
        drawn = StageInterrupted(
            "no longer watched; the command goes on.",
            where=f"job {job.id}",
            hint=f"`tao attach {job.id}` shows it again, `tao stop {job.id}` ends it.",
        )
        cancelled._render_traceback_ = drawn._render_traceback_  # type: ignore[attr-defined]
        raise
    result.raise_for_state()
    return result


def _has_ended(job: Job) -> bool:
    return job.state.finished
