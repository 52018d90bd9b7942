"""How far the log of a container has been copied, so that whoever goes on neither loses nor doubles a line."""

from __future__ import annotations

#: The engine's time of the beginning.
NEVER = "0001-01-01T00:00:00.000000000Z"


class Position:
    """How far a container's log has been copied, in terms that the engine can be asked in.

    The engine gives the entries from a time on. Entries of stdout and stderr may be a little out of order, and several
    may bear one time, so a time alone doesn't tell where to go on. A mark does: a time some seconds back, and how many
    entries from that time on have been copied up to which byte of the file. Whoever goes on asks from that time, leaves
    out so many entries, and then so many bytes as the file has beyond the mark.

    Parameters
    ----------
    since
        Time of the mark, as the engine writes it; ``NEVER`` for the beginning.
    entries
        Entries from then on that have been copied.
    """

    def __init__(self, since: str = NEVER, entries: int = 0) -> None:
        self.since, self.entries = since, entries
        self._next_since, self._next_entries = "", 0
        self._latest = since

    def count(self, stamp: str) -> None:
        """Take note of an entry that has been copied."""
        if stamp >= self.since:
            self.entries += 1
        if self._next_since and stamp >= self._next_since:
            self._next_entries += 1
        self._latest = max(self._latest, stamp)

    def advance(self) -> None:
        """Move the mark to where the last call began, and begin anew after the latest entry."""
        after = _after(self._latest)
        if not after:
            return
        if self._next_since:
            self.since, self.entries = self._next_since, self._next_entries
        self._next_since, self._next_entries = after, 0


def _after(stamp: str) -> str:
    """Return the time one nanosecond later, empty where that is another second."""
    seconds, _, fraction = stamp.rstrip("Z").partition(".")  # the engine writes nine digits, and Z
    number = int(fraction or 0) + 1
    return f"{seconds}.{number:09d}Z" if number < 10**9 else ""


def unix_time(stamp: str) -> str:
    """Return a time as the engine's ``since`` takes it: ``1700000000.123456789``."""
    from datetime import datetime

    seconds, _, fraction = stamp.rstrip("Z").partition(".")
    whole = int(datetime.fromisoformat(f"{seconds}+00:00").timestamp())
    return f"{max(0, whole)}.{fraction or '0'}"
