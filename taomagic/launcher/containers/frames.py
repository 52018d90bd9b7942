"""The frames in which the engine sends a container's output: which stream, how much, and what was written."""

from __future__ import annotations

import struct
from collections.abc import Iterator

_FRAME_HEADER = struct.Struct(">BxxxL").unpack_from


class FrameReader:
    """Splits the output of a container without TTY into its writes, block by block.

    A write comes as a frame with a header of 8 bytes: stream (1 stdout, 2 stderr), three zeros, and the length in
    network order (Engine API, "Attach to a container").
    """

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of a frame that isn't whole yet
        self._missing = 0

    def feed(self, block: bytes) -> list[tuple[int, bytes]]:
        """Return the writes that are whole now: their stream and what was written."""
        self._missing -= len(block)
        if self._missing > 0:
            self._pieces.append(block)
            return []
        data = b"".join((*self._pieces, block)) if self._pieces else block
        found: list[tuple[int, bytes]] = []
        take = found.append  # this loop runs for each line of a log
        start, end = 0, len(data)
        last = end - 8
        while start <= last:
            stream, length = _FRAME_HEADER(data, start)
            after = start + 8 + length
            if after > end:
                self._pieces, self._missing = [data[start:]], after - end
                return found
            take((stream, data[start + 8 : after]))
            start = after
        self._pieces, self._missing = ([data[start:]], 8 - (end - start)) if start < end else ([], 0)
        return found


def frames(blocks: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the writes in the output of a container without TTY: stream and bytes; see :class:`FrameReader`."""
    reader = FrameReader()
    for block in blocks:
        yield from reader.feed(block)
