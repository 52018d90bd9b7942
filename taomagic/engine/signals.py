"""Stopping: the first signal asks politely, the second ends the process at once."""

from __future__ import annotations

import os
import signal
from types import FrameType


class Stopped(BaseException):
    """The process was asked to stop; not an :class:`Exception`, so that no handler on the way takes it for a failure.

    Parameters
    ----------
    signum
        SIGINT or SIGTERM.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """What a shell reports for a process that a signal ended: 128 + its number."""
        return 128 + self.signum


def install_handlers() -> None:
    """Turn the first SIGINT or SIGTERM into :class:`Stopped`, the second into an immediate end."""
    asked = False

    def handle(signum: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + signum)
        asked = True
        raise Stopped(signum)

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)
