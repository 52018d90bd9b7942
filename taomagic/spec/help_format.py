"""How the help of a command looks: in the reader's language, and not wider than the terminal."""

from __future__ import annotations

import argparse
import unicodedata
from collections.abc import Iterable
from typing import Any

from taomagic import errors


class HelpFormat(argparse.RawDescriptionHelpFormatter):
    """argparse's help with its texts put into the reader's language.

    In English it is argparse's own, to the byte.
    """

    def add_text(self, text: str | None) -> None:
        """Add a description or an epilog."""
        super().add_text(errors.translate(text) if text and text != argparse.SUPPRESS else text)

    def start_section(self, heading: str | None) -> None:
        """Begin a group of arguments."""
        super().start_section(errors.translate(heading) if heading else heading)

    def add_usage(
        self,
        usage: str | None,
        actions: Iterable[argparse.Action],
        groups: Iterable[Any],
        prefix: str | None = None,
    ) -> None:
        """Add the line that shows all arguments."""
        told = errors.translate("usage:")
        # Where a prefix is given, even an empty one, argparse or IPython wants that.
        super().add_usage(usage, actions, groups, told if prefix is None and told != "usage:" else prefix)

    def _expand_help(self, action: argparse.Action) -> str:
        return errors.translate(super()._expand_help(action))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return super()._split_lines(text, width) if text.isascii() else wrapped(text, width)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.isascii():
            return super()._fill_text(text, width, indent)
        return "\n".join(
            indent + part for line in text.splitlines() for part in wrapped(line, width - len(indent)) or [""]
        )


def wrapped(text: str, width: int) -> list[str]:
    """Return a text in lines of at most ``width`` terminal columns.

    Latin words stay whole; between ideographs a line may end anywhere, but not before punctuation.
    """
    lines, line = [], ""
    for piece in _pieces(text):
        if line and _columns(line) + _columns(piece.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        line += piece if line else piece.lstrip()
    return [*lines, line.rstrip()] if line.strip() else lines


def _pieces(text: str) -> list[str]:
    """Return the smallest parts that stay on one line: words with the blanks behind them, single ideographs."""
    pieces: list[str] = []
    for character in text:
        before = pieces[-1][-1] if pieces else " "
        breaks = before == " " or _columns(before) == 2 or _columns(character) == 2
        if not breaks or (
            pieces and (character == " " or unicodedata.category(character) in {"Po", "Pe", "Pf"})
        ):
            pieces[-1] += character
        else:
            pieces.append(character)
    return pieces


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)
