"""Ctrl-C, and other signals that ask for an end, while a notebook is executed: the kernel's cell ends, then the run."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from types import FrameType
from typing import Any

#: What a person, a terminal that closes, or a machine that goes down sends.
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
#: The kernel is interrupted, and interrupted again (which kills a command that takes its time), and then killed.
_STEPS = (signal.SIGINT, signal.SIGINT, getattr(signal, "SIGKILL", signal.SIGTERM))
#: Seconds before the next step, where nobody presses Ctrl-C again.
GRACE_S = 15.0


class Interrupts:
    """Hears signals from the beginning of a run to its end.

    A context manager. The kernel is in a session of its own, so that the terminal doesn't reach it: what it gets, it
    gets from here. Outside the main thread, where Python hears no signals, nothing happens.

    Attributes
    ----------
    number
        The first signal that came; 0 while none has.
    """

    def __init__(self) -> None:
        self.number = 0
        self._steps = 0
        self._kernel: int | None = None
        self._over = False
        self._timer: threading.Timer | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)):
                self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        for number, before in self._before.items():
            signal.signal(number, before)

    def pass_on(self, kernel: int | None) -> None:
        """Send what comes from now on to a kernel, the process with this id."""
        self._kernel = kernel
        if self.number and kernel is not None:
            self._next()

    def release(self) -> None:
        """Send nothing any more: the kernel is gone, and what is left to do takes no time."""
        self._kernel, self._over = None, True
        if self._timer is not None:
            self._timer.cancel()

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        self.number = self.number or number
        if self._kernel is not None:
            self._next()
        elif not self._over:
            raise KeyboardInterrupt

    def _next(self) -> None:
        step = _STEPS[min(self._steps, len(_STEPS) - 1)]
        self._steps += 1
        if self._timer is not None:
            self._timer.cancel()
        kernel = self._kernel
        if kernel is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # Its group: the programs of a `%%bash` cell are interrupted, too.
            os.killpg(os.getpgid(kernel), step)
        if self._steps < len(_STEPS):
            self._timer = threading.Timer(GRACE_S, self._next)
            self._timer.daemon = True
            self._timer.start()
