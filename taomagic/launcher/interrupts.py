"""Interrupts (Ctrl-C, the notebook's ■) outside the time in which a view passes them on to a job."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from taomagic.errors import StageInterrupted


@contextmanager
def interrupts_heard() -> Iterator[None]:
    """Let an interrupt end what is done inside.

    While a cell is awaited, the kernel's own handler only makes a note for its event loop, which doesn't run meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before if before is not None else signal.default_int_handler)


@contextmanager
def interrupts_told(where: str) -> Iterator[None]:
    """Turn an interrupt that no job has taken into an error without a traceback of our code.

    Raises
    ------
    StageInterrupted
        In place of KeyboardInterrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise StageInterrupted("interrupted.", where=where, hint="%tao list shows what runs.") from None
