"""Pieces of a job's log, small enough for one answer."""

from __future__ import annotations

import codecs
import os
import stat
from dataclasses import dataclass
from pathlib import Path

#: Bytes of one answer, where nothing else is asked for, and at most.
USUAL, MOST = 64 << 10, 256 << 10


@dataclass(frozen=True)
class Piece:
    """A part of a log.

    Parameters
    ----------
    text
        The bytes from ``start`` to ``end``, decoded.
    start, end, size
        Offsets in bytes; ``size`` is that of the whole log. Reading on begins at ``end``.
    """

    text: str
    start: int
    end: int
    size: int


def read_piece(path: Path, offset: int | None = None, limit: int = USUAL, *, whole: bool = False) -> Piece:
    """Read a part of a log.

    Parameters
    ----------
    path
        The log; an empty piece is returned where there is none yet.
    offset
        Byte to begin at; ``None`` for the last ``limit`` bytes, from the beginning of a line where there is one.
    limit
        Bytes to read at most.
    whole
        Nothing more will be written: a character that is cut off at the end is replaced rather than left for the
        next piece.
    """
    limit = max(1, min(limit, MOST))
    try:
        # A log that is a link or a pipe isn't one of ours.
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return Piece("", 0, 0, 0)
    with open(number, "rb") as file:  # noqa: PTH123 - opened above, with flags that Path.open doesn't take
        about = os.fstat(number)
        if not stat.S_ISREG(about.st_mode):
            return Piece("", 0, 0, 0)
        size = about.st_size
        start = max(0, size - limit) if offset is None else min(max(0, offset), size)
        file.seek(start)
        data = file.read(limit)
    if offset is None and start > 0 and (newline := data.find(b"\n")) >= 0:
        start, data = start + newline + 1, data[newline + 1 :]
    at_end = whole and start + len(data) >= size
    text, used = codecs.utf_8_decode(data, "replace", at_end)
    return Piece(text, start, start + used, size)
