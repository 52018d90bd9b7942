"""What a program in a container prints, and nothing else: the view of `tao TASK run PROGRAM`.

Another program may read it. It reads no meaning out of the log, so it needs none of what that takes to load.
"""

from __future__ import annotations

import codecs
import time
from typing import TextIO

from taomagic.launcher.job import Job, JobState
from taomagic.view.waiting import Stopping, on_sigint

#: Seconds between two looks, at first and later.
EAGER_S, POLL_S = 0.01, 0.1
_BLOCK = 1 << 16


def copy(job: Job, stream: TextIO) -> JobState:
    """Copy a job's output as it comes, until the job has ended.

    Parameters
    ----------
    job
        A running or an ended job.
    stream
        Where to.

    Returns
    -------
    JobState
        How it ended. An interrupt asks the program to stop, a second one kills it.
    """
    stopping = Stopping(job)
    began = time.monotonic()
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    offset = 0
    with on_sigint(lambda: _interrupt(stopping)):
        while True:
            state = job.state  # asked before reading: what is read afterwards is then complete
            stopping.repeat_early(state)
            if job.log_path.exists():
                with job.log_path.open("rb") as log:
                    log.seek(offset)
                    while block := log.read(_BLOCK):
                        offset += len(block)
                        stream.write(decoder.decode(block))
                stream.flush()
            if state.finished:
                stream.write(decoder.decode(b"", final=True))
                stream.flush()
                return state
            time.sleep(EAGER_S if time.monotonic() - began < 1.0 else POLL_S)


def _interrupt(stopping: Stopping) -> None:
    stopping.ask("interrupt")
