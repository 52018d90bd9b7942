"""Write a file completely or not at all.

A training can be killed, and a disk can be full, at any moment. So a model file is first written beside its
destination, under a hidden name, and takes the final name only when every byte is on the disk. Readers see
the old file or the new one, never a half.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from taomagic.errors import EnvironmentProblem

#: How the hidden file of an unfinished write ends.
PARTIAL_SUFFIX = ".partial"

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
_NOT_A_FOLDER = frozenset({errno.EEXIST, errno.ENOTDIR})


@contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """Open ``path`` for writing so that it appears only when the block ends without an error.

    Parameters
    ----------
    path
        The destination. Its folder is created. An existing file is replaced in one step.

    Yields
    ------
    BinaryIO
        A seekable binary file, open for reading and writing, in the same folder as ``path``.

    Raises
    ------
    EnvironmentProblem
        The disk is full or the folder can't be written. Nothing is left behind, and a file that ``path``
        named before is untouched.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        # Not `tempfile`: its files are private to the user, and a model in a shared folder follows the umask.
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield file
                file.flush()
                os.fsync(file.fileno())
                partial.replace(path)
            _sync_folder(path.parent)
        except BaseException:
            with suppress(FileNotFoundError):
                partial.unlink()
            raise
    except OSError as error:
        raise _explain(error, path) from error


def _remove_abandoned(path: Path) -> None:
    """Delete what killed writers of ``path`` left; a living one holds the lock on its file."""
    prefix = f".{path.name}."
    for leftover in path.parent.iterdir():
        if not (leftover.name.startswith(prefix) and leftover.name.endswith(PARTIAL_SUFFIX)):
            continue
        with suppress(OSError), leftover.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut, where the file system knows how."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _explain(error: OSError, path: Path) -> Exception:
    """Turn the system's error into one that says what to do; leave unknown ones as they are."""
    if error.errno in _NO_SPACE:
        return EnvironmentProblem(
            f"no space left to write the file ({error.strerror})",
            hint="Free some space or choose another results folder, then run the same command again; "
            "files written before are intact.",
            where=str(path),
        )
    if error.errno in _NOT_ALLOWED:
        return EnvironmentProblem(
            f"the file can't be written ({error.strerror})",
            hint="Check the owner and the permissions of the folder, and that it isn't mounted read-only.",
            where=str(path),
        )
    if error.errno in _NOT_A_FOLDER:
        return EnvironmentProblem(
            "the file can't be written: what should be its folder is not a folder",
            hint="Choose another results folder, or move the file that has its name.",
            where=str(path),
        )
    return error
