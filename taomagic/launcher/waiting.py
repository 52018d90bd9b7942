"""Waiting for a job in an event loop."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

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
        # Drawn by IPython in place of a traceback. A class of our own would not be what asyncio's timeouts look for.
        cancelled._render_traceback_ = lambda: [  # type: ignore[attr-defined]
            f"Interrupted: no longer waiting for job {job.id}; the command goes on.",
            f"Hint: `await` it again, or `%tao stop {job.id}` ends it.",
        ]
        raise
    result.raise_for_state()
    return result


def _has_ended(job: Job) -> bool:
    return job.state.finished
