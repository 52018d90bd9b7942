"""What a field of an experiment file may be: the rules of which each network has a table."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Rule", "above", "at_least", "half_open_interval", "one_of", "open_interval"]


class Rule(NamedTuple):
    """What a field may be."""

    allowed: str  #: in words, after "should be"
    test: Callable[[Any], bool]
    example: str
    required: bool = False  #: wherever its block is there


def above(limit: float, example: str, *, required: bool = False) -> Rule:
    """Return the rule: above a limit."""
    return Rule(f"> {limit:g}", lambda value: limit < value < math.inf, example, required)


def at_least(limit: float, example: str) -> Rule:
    """Return the rule: a limit or more."""
    return Rule(f">= {limit:g}", lambda value: limit <= value < math.inf, example)


def open_interval(example: str, *, required: bool = False) -> Rule:
    """Return the rule: between 0 and 1, neither of them."""
    return Rule("> 0 and < 1", lambda value: 0 < value < 1, example, required)


def half_open_interval(example: str) -> Rule:
    """Return the rule: 0 or more, below 1."""
    return Rule(">= 0 and < 1", lambda value: 0 <= value < 1, example)


def one_of(values: tuple[Any, ...], example: str, *, required: bool = False) -> Rule:
    """Return the rule: one of some values."""
    return Rule(f"one of {', '.join(map(str, values))}", lambda value: value in values, example, required)
