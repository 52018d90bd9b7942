"""What the engine prints: log lines in the launcher's format, Keras' and tqdm's progress lines.

Other people's notebooks and our own event parser read these lines, so their form is an interface.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

LOG_FORMAT = "%(asctime)s [TAO Toolkit] [%(levelname)s] %(name)s %(lineno)d: %(message)s"
#: A progress line is redrawn at most this often; a log of a day stays small, a person still sees it move.
REDRAW_INTERVAL_S = 0.5
_BAR_WIDTH = 30
_TQDM_WIDTH = 10


class _Tee:
    """A text stream that writes to two others (``--log_file`` beside the terminal)."""

    def __init__(self, first: IO[str], second: IO[str]) -> None:
        self._streams = (first, second)

    def write(self, text: str) -> int:
        for stream in self._streams:
            stream.write(text)
        return len(text)

    def flush(self) -> None:
        for stream in self._streams:
            stream.flush()

    def isatty(self) -> bool:
        return self._streams[0].isatty()

    def close_copy(self) -> None:
        """Close the second stream."""
        self._streams[1].close()


def open_console(log_file: Path | None = None, *, verbose: bool = False) -> None:
    """Send log lines to standard output and, where asked for, all output to ``log_file`` as well (appended)."""
    if log_file is not None:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        copy = log_file.open("a", encoding="utf-8")
        sys.stdout = _Tee(sys.stdout, copy)
        sys.stderr = _Tee(sys.stderr, copy)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter(LOG_FORMAT))
    logger = logging.getLogger("taomagic")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    logger.propagate = False


@contextmanager
def console_kept() -> Iterator[None]:
    """Put back, at the end, what :func:`open_console` changes in a process that isn't the engine's own."""
    logger = logging.getLogger("taomagic")
    streams = sys.stdout, sys.stderr
    handlers, level, propagates = list(logger.handlers), logger.level, logger.propagate
    try:
        yield
    finally:
        opened = sys.stdout
        sys.stdout, sys.stderr = streams
        if isinstance(opened, _Tee):
            opened.close_copy()
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagates


def say(text: str = "") -> None:
    """Print a plain line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


class _Line:
    """A line that is redrawn in place, not too often, and ended once."""

    def __init__(self) -> None:
        self._last_drawn = -REDRAW_INTERVAL_S

    def redraw(self, text: str) -> None:
        now = time.monotonic()
        if now - self._last_drawn >= REDRAW_INTERVAL_S:
            self._last_drawn = now
            sys.stdout.write(text + "\r")
            sys.stdout.flush()


class TrainingBar:
    """Keras' progress line of an epoch: ``12/25 [=====>....] - ETA: 4s - loss: 4.9549``.

    Parameters
    ----------
    total
        Number of steps.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._line = _Line()
        self._start = time.monotonic()

    def update(self, step: int, loss: float) -> None:
        """Show that ``step`` steps are done with the mean loss so far."""
        elapsed = time.monotonic() - self._start
        eta_s = elapsed / max(1, step) * (self._total - step)
        filled = _BAR_WIDTH * step // max(1, self._total)
        bar = ("=" * filled + ">" + "." * _BAR_WIDTH)[:_BAR_WIDTH]
        width = len(str(self._total))
        self._line.redraw(
            f"{step:>{width}}/{self._total} [{bar}] - ETA: {_keras_time(eta_s)} - loss: {loss:.4f}"
        )

    def close(self, loss: float) -> None:
        """Print the finished line."""
        elapsed = time.monotonic() - self._start
        per_step_ms = 1000 * elapsed / max(1, self._total)
        bar = "=" * _BAR_WIDTH
        say(
            f"{self._total}/{self._total} [{bar}] - {elapsed:.0f}s {per_step_ms:.0f}ms/step - loss: {loss:.4f}"
        )


def _keras_time(seconds: float) -> str:
    if seconds >= 3600:
        return f"{int(seconds // 3600)}:{int(seconds % 3600 // 60):02d}:{int(seconds % 60):02d}"
    if seconds >= 60:
        return f"{int(seconds // 60)}:{int(seconds % 60):02d}"
    return f"{seconds:.0f}s"


def progress(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Pass items on and draw tqdm's line: ``Producing predictions:  40%|████      | 4/10 [00:01<00:02]``."""
    line = _Line()
    start = time.monotonic()

    def text(done: int) -> str:
        elapsed = time.monotonic() - start
        left = elapsed / done * (total - done) if done else 0.0
        filled = "█" * (_TQDM_WIDTH * done // max(1, total))
        percent = 100 * done // max(1, total)
        clock = f"{_clock(elapsed)}<{_clock(left)}"
        return f"{description}: {percent:3d}%|{filled:<{_TQDM_WIDTH}}| {done}/{total} [{clock}]"

    done = 0
    for item in items:
        yield item
        done += 1
        line.redraw(text(done))
    say(text(done))


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60):02d}:{int(seconds % 60):02d}"


@contextmanager
def timed(module: str) -> Iterator[None]:
    """Print, at the end of a command that went well, how long it took: as NVIDIA's DetectNet_v2 does."""
    start = time.monotonic()
    yield
    taken = timedelta(microseconds=round(1e6 * (time.monotonic() - start)))
    text = str(taken) if taken.microseconds else f"{taken}.000000"
    say(f"Time taken to run {module}:main: {text}.")


def duration(seconds: float) -> str:
    """Return a duration as a person says it: ``45 s``, ``3 min 10 s``, ``31 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
