"""Read lists of numbers with arithmetic, such as ``[[1.0, 2.0, 1.0/3.0], [1.0, 0.5]]``, without running them.

Several fields of an experiment file are strings that hold a Python expression. This reads what such fields
need: numbers, ``+ - * /`` and signs, parentheses, and nested lists and tuples. It gives the value that
Python would give, and a :class:`~taomagic.errors.SpecProblem` for everything else, names and calls among
it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

from taomagic.errors import SpecProblem

__all__ = ["Nested", "Number", "evaluate"]

Number: TypeAlias = int | float
Nested: TypeAlias = Number | Sequence["Nested"]

# Far beyond any real field, and small enough that no text costs noticeable time or memory.
_LONGEST_TEXT: Final = 10_000
_LONGEST_NUMBER: Final = 40
_DEEPEST: Final = 20

_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)(?![\w.])|(?P<sign>[-+*/()\[\],]))"
)


def evaluate(text: str, *, path: str | Path = "", line: int | None = None) -> Nested:
    """Return the value of a list of numbers with arithmetic.

    Parameters
    ----------
    text
        What stands between the quotes.
    path, line
        The place in the experiment file, for messages.

    Returns
    -------
    Nested
        Numbers, lists and tuples, equal to what Python makes of the same text. All numbers are finite.

    Raises
    ------
    SpecProblem
        If the text is anything else, a division by zero, or too large a number.
    """
    return _Reader(text, path, line).read()


class _Reader:
    """A recursive descent over the tokens; ``None`` is the end of the text."""

    def __init__(self, text: str, path: str | Path, line: int | None) -> None:
        self._text, self._path, self._line = text, path, line
        self._position = 0  # after the current token
        self._start = 0  # of the current token
        self._token: str | None = None
        self._is_number = False
        self._depth = 0

    def read(self) -> Nested:
        if len(self._text) > _LONGEST_TEXT:
            raise self._problem(f"it has {len(self._text)} characters, {_LONGEST_TEXT} at most are read")
        self._advance()
        value = self._sum()
        if self._token == ",":  # a tuple without parentheses
            value = (value, *self._items(None))
        if self._token is not None:
            raise self._problem(f"{self._token!r} is not expected at character {self._start + 1}")
        return value

    def _sum(self) -> Nested:
        value = self._product()
        while self._token in ("+", "-"):
            sign = self._token
            left = self._operand(value, sign)
            self._advance()
            right = self._operand(self._product(), sign)
            value = self._finite(left + right if sign == "+" else left - right)
        return value

    def _product(self) -> Nested:
        value = self._signed()
        while self._token in ("*", "/"):
            sign = self._token
            left = self._operand(value, sign)
            self._advance()
            right = self._operand(self._signed(), sign)
            if sign == "/" and right == 0:
                raise self._problem("it divides by zero")
            try:
                value = self._finite(left * right if sign == "*" else left / right)
            except OverflowError:
                raise self._problem("a number in it is too large") from None
        return value

    def _signed(self) -> Nested:
        negative = signed = False
        while self._token in ("+", "-"):
            signed = True
            negative ^= self._token == "-"
            self._advance()
        value = self._atom()
        if not signed:
            return value
        number = self._operand(value, "-" if negative else "+")
        return -number if negative else number

    def _atom(self) -> Nested:
        token = self._token
        if token is None:
            raise self._problem("it ends too early" if self._text.strip() else "it is empty")
        if self._is_number:
            self._advance()
            return self._number(token)
        if token not in ("(", "["):
            raise self._problem(f"{token!r} is not expected at character {self._start + 1}")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._problem(f"it is nested more than {_DEEPEST} deep")
        self._advance()
        value = self._list() if token == "[" else self._parenthesis()
        self._depth -= 1
        return value

    def _list(self) -> Nested:
        if self._token == "]":
            self._advance()
            return []
        first = self._sum()
        rest = self._items("]") if self._token == "," else ()
        self._close("]")
        return [first, *rest]

    def _parenthesis(self) -> Nested:
        if self._token == ")":
            self._advance()
            return ()
        value = self._sum()
        if self._token == ",":
            value = (value, *self._items(")"))
        self._close(")")
        return value

    def _items(self, closing: str | None) -> list[Nested]:
        """Return what follows the first item, up to the closing bracket. A comma before the bracket is fine."""
        items = []
        while self._token == ",":
            self._advance()
            if self._token == closing:
                break
            items.append(self._sum())
        return items

    def _close(self, bracket: str) -> None:
        if self._token is None:
            raise self._problem(f"a {bracket!r} is missing at the end")
        if self._token != bracket:
            raise self._problem(f"{self._token!r} is not expected at character {self._start + 1}")
        self._advance()

    def _advance(self) -> None:
        rest = self._text[self._position :]
        if not rest.strip():
            self._token, self._is_number, self._start = None, False, len(self._text)
            return
        match = _TOKEN.match(self._text, self._position)
        if match is None:
            start = self._position + len(rest) - len(rest.lstrip())
            word = re.findall(r"[\w.]+|.", self._text[start:], re.DOTALL)[0]
            raise self._problem(f"{word!r} at character {start + 1} is not a number")
        self._token = match["number"] or match["sign"]
        self._is_number = match["number"] is not None
        self._start = match.end() - len(self._token)
        self._position = match.end()

    def _number(self, token: str) -> Number:
        if len(token) > _LONGEST_NUMBER:
            raise self._problem(f"a number in it has more than {_LONGEST_NUMBER} characters")
        if not token.isdigit():
            return self._finite(float(token))
        if token.startswith("0") and token.strip("0"):
            raise self._problem(f"{token} starts with a zero")
        return int(token)

    def _operand(self, value: Nested, sign: str) -> Number:
        if isinstance(value, (int, float)):
            return value
        raise self._problem(f"{sign!r} takes numbers, not lists")

    def _finite(self, value: Number) -> Number:
        if isinstance(value, float) and not math.isfinite(value):
            raise self._problem("a number in it is too large")
        return value

    def _problem(self, what: str) -> SpecProblem:
        shown = self._text if len(self._text) <= 80 else f"{self._text[:77]}..."
        return SpecProblem(
            f"can't read the list of numbers {shown!r}: {what}",
            path=self._path,
            line=self._line,
            hint='Write numbers, + - * / and brackets, for example "[1.0, 2.0, 1.0/3.0]".',
        )
