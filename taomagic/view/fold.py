"""Folding a log: a run of lines of the same shape becomes one line and a count.

Training logs repeat themselves: one warning per image, one line per tensor, a bar that is redrawn. What a person wants
to read is the first of each run, how many there were, and the last.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from taomagic.view.texts import tr

_VARYING = re.compile(r"0x[0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
# A Keras bar, a tqdm bar: their drawn part changes from line to line.
_BAR = re.compile(r"\[[=>.\-]+\]|\|[█▉▊▋▌▍▎▏# ]*\|")
_PROGRESS = re.compile(r"^\s*\d+/(?:\d+|Unknown) \[[=>.\-]*\]|\d+%\|.*\| *\d+/\d+ \[")


def shape(line: str) -> str:
    """Return what stays the same when a line is repeated with other numbers."""
    return _VARYING.sub("0", _BAR.sub("[]", line)).strip()


def is_progress(line: str) -> bool:
    """Tell whether a line is a redrawn progress bar (Keras or tqdm)."""
    return _PROGRESS.search(line) is not None


@dataclass(frozen=True)
class Folded:
    """A line to show, and how many lines of the same shape it stands for (1: only itself)."""

    text: str
    count: int = 1


def fold(lines: Iterable[str]) -> Iterator[Folded]:
    """Yield the lines with runs of the same shape collapsed to the *last* one and the length of the run.

    The last one, because for anything that counts (steps, images, epochs) it is the one that is still true. Empty
    lines that follow each other become one. Nothing is reordered.
    """
    previous: str | None = None
    text, count = "", 0
    for line in lines:
        key = shape(line)
        if key == previous:
            text, count = line, count + 1
            continue
        if previous is not None:
            yield Folded(text, count if previous else 1)
        previous, text, count = key, line, 1
    if previous is not None:
        yield Folded(text, count if previous else 1)


class Folder:
    """The same for lines that come one by one and can't be taken back: a terminal that only grows.

    Parameters
    ----------
    keep
        How many lines of a run are shown before the rest is only counted.
    slack
        How many lines more are shown after all if the run ends with them: a count would take as much room.
    """

    def __init__(self, keep: int = 3, slack: int = 3) -> None:
        self._keep, self._slack = keep, slack
        self._shape: str | None = None
        self._count = 0
        self._held: list[str] = []

    def feed(self, line: str) -> list[str]:
        """Return the lines to print now that this one has come, those of a run that has ended first."""
        key = shape(line)
        if key != self._shape:
            ended = self.flush()
            self._shape, self._count = key, 1
            return [*ended, line]
        self._count += 1
        if not key:
            return []
        if self._count <= self._keep:
            return [line]
        if len(self._held) <= self._slack:
            self._held.append(line)
        return []

    def flush(self) -> list[str]:
        """Return what is left to say about the run so far, and forget the run."""
        hidden = self._count - self._keep if self._shape else 0
        ended = self._held if hidden <= self._slack else [tr(f"  … {hidden} more lines like this")]
        self._shape, self._count, self._held = None, 0, []
        return ended
