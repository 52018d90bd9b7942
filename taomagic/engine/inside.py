"""A command of the engine inside a process that belongs to somebody else: a notebook's kernel, a debugger.

The engine usually has its process for itself, and sets random seeds, threads, streams and loggers as it likes. Here
all of that is put back at the end, however the end comes. Errors come out as they are, with the frames that a debugger
wants to look into.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import random
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from taomagic.engine.cli import execute, module_of, parse_words, write_failure
from taomagic.engine.console import console_kept, say
from taomagic.errors import TaoError, UsageProblem
from taomagic.project.paths import PathMap


class _Unshown(str):
    """A key that tracebacks, which show the values of variables, don't tell."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'********'"


def run(words: Sequence[str]) -> None:
    """Carry out one command in this process, and leave the process as it was.

    Parameters
    ----------
    words
        ``<task> <sub-task> …``; the key may be in ``TAOMAGIC_KEY``, the path of the mount map in ``LAUNCHER_MOUNTS``.

    Raises
    ------
    TaoError
        As the command says.
    BaseException
        Whatever else happens in it, with its traceback.
    """
    args = read_words(words)
    if getattr(args, "key", None):
        args.key = _Unshown(args.key)
    paths = PathMap.from_environment()
    # First, so that what is kept below is there, and that what a library sets when it is loaded stays.
    importlib.import_module(module_of(args.task, args.subtask))
    with process_kept():
        try:
            execute(args, paths)
        except BaseException as error:
            write_failure(args, paths, _told(error))
            raise
        say("Execution status: PASS")


def read_words(words: Sequence[str]) -> argparse.Namespace:
    """Parse a command that shall run in this process.

    Raises
    ------
    UsageProblem
        The command is wrong, or needs processes of its own.
    """
    args = parse_words(words)
    for flag, count in (("--gpus", args.gpus), ("--num_processes", args.num_processes)):
        if count > 1:
            raise UsageProblem(
                f"{flag} {count} starts processes of their own, and --in-process means this one",
                where=f"{args.task} {args.subtask}",
                hint=f"Drop {flag}, or drop --in-process.",
            )
    return args


def _told(error: BaseException) -> str:
    if isinstance(error, TaoError):
        return f"{error.where}: {error.message}" if error.where else error.message
    if isinstance(error, KeyboardInterrupt):
        return "Stopped by SIGINT"
    return f"{type(error).__name__}: {error}"


@contextmanager
def process_kept() -> Iterator[None]:
    """Put back, at the end, what the engine changes in its process; the memory it took is given back."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(console_kept())
        for undo in _undoings():
            stack.callback(undo)
        try:
            yield
        finally:
            _release_memory()


def _undoings() -> Iterator[Callable[[], Any]]:
    """Yield what puts back random numbers, threads, modes and signal handlers, one thing each."""
    state = random.getstate()
    yield lambda: random.setstate(state)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            yield _undo_signal(number)
    if "numpy" in sys.modules:
        import numpy as np

        numbers = np.random.get_state()
        yield lambda: np.random.set_state(numbers)
    if "cv2" in sys.modules:
        import cv2

        threads = cv2.getNumThreads()
        yield lambda: cv2.setNumThreads(threads)
    if "torch" in sys.modules:
        yield from _torch_undoings()


def _undo_signal(number: signal.Signals) -> Callable[[], Any]:
    before = signal.getsignal(number)

    def undo() -> None:
        # None: a handler that isn't Python's, which can't be set from here.
        if before is not None and signal.getsignal(number) is not before:
            signal.signal(number, before)

    return undo


def _torch_undoings() -> Iterator[Callable[[], Any]]:
    import torch

    state = torch.get_rng_state()
    yield lambda: torch.set_rng_state(state)
    if torch.cuda.is_initialized():
        states = torch.cuda.get_rng_state_all()
        yield lambda: torch.cuda.set_rng_state_all(states)
    threads = torch.get_num_threads()
    yield lambda: torch.set_num_threads(threads)
    deterministic = torch.get_deterministic_debug_mode()
    yield lambda: torch.set_deterministic_debug_mode(deterministic)
    gradients = torch.is_grad_enabled()
    yield lambda: torch.set_grad_enabled(gradients)
    for name in ("benchmark", "deterministic"):
        yield _undo_attribute(torch.backends.cudnn, name)


def _undo_attribute(owner: Any, name: str) -> Callable[[], Any]:
    before = getattr(owner, name)
    return lambda: setattr(owner, name, before)


def _release_memory() -> None:
    """Collect what refers to itself, and hand the GPU's cached blocks back."""
    gc.collect()
    if "torch" in sys.modules:
        import torch

        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
