"""A folder for half-finished files beside their final place; what a killed command left in one is cleared away."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def workshop(parent: Path, prefix: str) -> Iterator[Path]:
    """Give a new folder in ``parent``, and remove it at the end, with those of commands that were killed.

    The folder is locked as long as this process lives, which tells it from those that nobody works in any more.

    Parameters
    ----------
    parent
        An existing folder, on the disk on which the files are to stay.
    prefix
        How the folder's name begins.
    """
    for path in parent.glob(f"{prefix}*"):
        _remove_if_left(path)
    with (
        tempfile.TemporaryDirectory(dir=parent, prefix=prefix, ignore_cleanup_errors=True) as name,
        _locked(Path(name)),
    ):
        yield Path(name)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Try to lock a folder; says whether that worked. Without locks (some network disks) every folder seems in use."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(file)


def _remove_if_left(folder: Path) -> None:
    """Remove a folder that no process has locked."""
    # It may be somebody else's, or vanish while we look.
    with contextlib.suppress(OSError), _locked(folder) as ours:
        if ours:
            shutil.rmtree(folder, ignore_errors=True)
