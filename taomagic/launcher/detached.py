"""What the processes that watch over a job share: the log file, results written in one step, the way to be left alone.

Only the standard library is used: these processes start in milliseconds and stay small for as long as a training lasts.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

#: Seconds for which a full disk is waited for before the result is given up.
FULL_DISK_S = 600.0
#: A key shorter than this isn't searched for in the output: it would hit ordinary words.
SHORTEST_KEY = 6
_FULL = {errno.ENOSPC, errno.EDQUOT}
#: What takes the place of a key.
MASK = "********"


def start_argv(module: str, directory: Path) -> list[str]:
    """Return the command line that runs ``main`` of a module of ours for a job.

    Parameters
    ----------
    module
        E.g. ``"taomagic.launcher.supervisor"``.
    directory
        The job's folder. That it stands in the command line is what tells the process from a stranger's.
    """
    root = Path(__file__).absolute().parents[2]
    # -I -S: neither PYTHON… variables nor site-packages matter here, and it starts in half the time.
    code = f"import sys; sys.path.insert(0, {str(root)!r}); from {module} import main; sys.exit(main())"
    return [sys.executable, "-I", "-S", "-c", code, str(directory)]


def detach(work: Callable[[int], None]) -> int:
    """Fork away from whoever started us, and do the work in the fork.

    Parameters
    ----------
    work
        Gets a pipe, into which it writes ``ok`` as soon as the job runs, or why it doesn't.

    Returns
    -------
    int
        The exit code that tells our starter the same. What else there is to say has gone to stderr.
    """
    answer, ready = os.pipe()
    if os.fork():
        os.close(ready)
        said = b"".join(iter(lambda: os.read(answer, 4096), b""))
        if said != b"ok":
            sys.stderr.write(said.decode("utf-8", "replace") or "the supervisor ended at once")
        return 0 if said == b"ok" else 1
    os.close(answer)
    # Our starter's terminal and pipes must not keep it waiting, nor take us along.
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")  # so that no disk stays busy because of us
    work(ready)
    return 0


class Log:
    """The log file. A full disk costs lines, never the training; what was lost is said as soon as there is room.

    Parameters
    ----------
    path
        The file, appended to.
    keys
        The model key, and whatever else is secret; they are replaced by stars wherever the command prints them.
    skip
        Bytes at the beginning that the file holds already.
    """

    def __init__(self, path: Path, keys: Iterable[str], skip: int = 0) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        # The longest first: a key may be part of another one.
        long = sorted({key for key in keys if len(key) >= SHORTEST_KEY}, key=len, reverse=True)
        self._keys = [key.encode() for key in long]
        self._skip = skip
        #: The end of what came, as long as it may be the beginning of a key.
        self.held = b""
        #: Whether this continues a log that somebody else began.
        self.skipped = skip > 0
        self._lost = 0
        #: The last few kilobytes, to find the execution status in.
        self.end = b""
        #: Bytes lost in all.
        self.lost = 0

    @property
    def skipping(self) -> bool:
        """Whether not yet all has been skipped."""
        return self._skip > 0

    def write(self, data: bytes) -> None:
        """Append output."""
        data = self.held + data
        self.held = b""
        for key in self._keys:
            data = data.replace(key, MASK.encode())
        if held := max((_begun(key, data) for key in self._keys), default=0):
            self.held, data = data[-held:], data[:-held]
        self._append(data)

    def flush(self) -> None:
        """Append what was held back."""
        held, self.held = self.held, b""
        self._append(held)

    def close(self) -> None:
        """Close the file; nothing may be written any more."""
        os.close(self._file)

    def _append(self, data: bytes) -> None:
        if not data:
            return
        self.end = (self.end + data)[-8192:]
        if self._skip:
            left = data[self._skip :]
            self._skip = max(0, self._skip - len(data))
            data = left
            if not data:
                return
        if self._lost:
            data = b"\n[taomagic] %d bytes of output were lost: the disk was full.\n" % self._lost + data
        try:
            while data:
                data = data[os.write(self._file, data) :]
            self._lost = 0
        except OSError as error:
            if error.errno not in {*_FULL, errno.EIO}:
                raise
            self._lost += len(data)
            self.lost += len(data)

    def status(self) -> str | None:
        """Return what the last ``Execution status:`` line said."""
        line = self.end.rpartition(b"Execution status: ")[2] if b"Execution status: " in self.end else b""
        word = line[:4].decode("ascii", "replace")
        return word if word in {"PASS", "FAIL"} else None


def _begun(key: bytes, data: bytes) -> int:
    """Return how many bytes at the end of what came may be the beginning of a key."""
    lengths = range(min(len(key) - 1, len(data)), 0, -1)
    return next((length for length in lengths if data.endswith(key[:length])), 0)


def write_json(path: Path, content: dict[str, Any], reserve: Path | None = None) -> None:
    """Write a file in one step. On a full disk give up the reserve, then wait for room; without one, raise at once."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    deadline = time.monotonic() + FULL_DISK_S
    while True:
        try:
            temporary.write_text(json.dumps(content, indent=2), encoding="utf-8")
            temporary.replace(path)
        except OSError as error:
            if reserve is None or error.errno not in _FULL or time.monotonic() > deadline:
                raise
            if reserve.exists():
                reserve.unlink()
            else:
                time.sleep(1.0)
        else:
            return
