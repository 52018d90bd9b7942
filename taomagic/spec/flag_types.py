"""Kinds of values that flags take: argparse types that check a range and name it in their message."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final


def number(kind: Callable[[str], Any], allowed: str, test: Callable[[Any], bool]) -> Callable[[str], Any]:
    """Return an argparse type for a number in a range.

    Parameters
    ----------
    kind
        ``int`` or ``float``.
    allowed
        The range in words; the message of a refused value ends with it.
    test
        Says whether a value is in the range.
    """

    def convert(word: str) -> Any:
        try:
            value = kind(word)
        except ValueError:
            value = None
        if value is None or not test(value):
            raise argparse.ArgumentTypeError(f"{word!r} is not {allowed}")
        return value

    return convert


positive: Final = number(int, "a whole number above 0", lambda value: value > 0)
not_negative: Final = number(int, "a whole number of at least 0", lambda value: value >= 0)
