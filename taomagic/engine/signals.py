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


#: The signal that asked this process to stop.
_asked: int | None = None


def install_handlers() -> None:
    """Turn the first SIGINT or SIGTERM into :class:`Stopped`, the second into an immediate end."""
    global _asked  # noqa: PLW0603 - signals belong to the process
    _asked = None

    def handle(signum: int, _frame: FrameType | None) -> None:
        global _asked  # noqa: PLW0603
        if _asked is not None:
            os._exit(128 + signum)
        _asked = signum
        raise Stopped(signum)

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)


def end_with(code: int) -> None:
    """Let a signal from now on do no more than hasten the end: all is done and said, and Python is clearing up.

    Parameters
    ----------
    code
        The exit code that the process ends with, signal or not.
    """

    def handle(_signum: int, _frame: FrameType | None) -> None:
        os._exit(code)

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)


def asked_to_stop() -> Stopped | None:
    """Return what the process was asked, where code in between has made another error of it.

    Modules written in C do so: a signal during their import becomes an ``ImportError``.
    """
    return Stopped(_asked) if _asked is not None else None
