"""NVIDIA's table of average precisions: rows in per cent, in the order of the alphabet.

Releases 3 and 4 print it with blanks and four decimals, release 5 with a frame and all digits. What tells them apart is
the key: theirs encrypt models with one, and release 5, which has none, writes ``.hdf5``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_TITLES = ("class name", "average precision (in %)")


def class_table(average_precision: Mapping[str, float], *, framed: bool) -> list[str]:
    """Return the lines of the table.

    Parameters
    ----------
    average_precision
        By class, 0..1.
    framed
        As in release 5.
    """
    rows = [(name, 100 * average_precision[name]) for name in sorted(average_precision)]
    if framed:
        return _framed([(name, str(percent)) for name, percent in rows])
    return _plain([(name, f"{percent:.4f}") for name, percent in rows])


def _plain(rows: Sequence[tuple[str, str]]) -> list[str]:
    # NVIDIA's comes from a library that makes a column two wider than its title.
    name_width = max([len(_TITLES[0]) + 2, *(len(name) for name, _ in rows)])
    width = len(_TITLES[1]) + 2
    lines = [f"{_TITLES[0]:<{name_width}}    {_TITLES[1]}", f"{'-' * name_width}  {'-' * width}"]
    return lines + [f"{name:<{name_width}}  {percent:>{width}}" for name, percent in rows]


def _framed(rows: Sequence[tuple[str, str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(_TITLES, *rows, strict=True)]
    rule = f"+{'+'.join('-' * (width + 2) for width in widths)}+"
    lines = [
        f"|{'|'.join(f' {_centred(text, width)} ' for text, width in zip(row, widths, strict=True))}|"
        for row in (_TITLES, *rows)
    ]
    return [rule, lines[0], rule, *lines[1:], rule]


def _centred(text: str, width: int) -> str:
    """Put a text into the middle; where that is between two places, an even text goes right, and an odd one left."""
    left = (width - len(text) + (len(text) + 1) % 2) // 2
    return text.rjust(len(text) + left).ljust(width)
