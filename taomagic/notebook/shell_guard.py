"""Shell lines that would work on ``/`` because a variable is unset: ``rm -rf $UNSET/tfrecords/*``."""

from __future__ import annotations

import re
from collections.abc import Callable

# Single quotes keep a shell from expanding anything; a backslash keeps the next character.
_LITERAL = re.compile(r"'[^']*'|\\.", re.DOTALL)
# A word that begins with one or several variables and goes on with a slash.
_ROOTED = re.compile(r"(?<![^\s=:;|&(<>\"])\"?(?P<names>(?:\$(?:\w+|\{\w+\}))+)\"?/")
_NAME = re.compile(r"\$\{?([A-Za-z_]\w*)\}?")
_FIRST_OF_LINE = r"(?:^|[\s;&|(])"


def refusal(line: str, value_of: Callable[[str], str | None]) -> str:
    """Return why a shell line must not run, or an empty text where it may.

    Parameters
    ----------
    line
        What stands behind ``!``, before anything is expanded.
    value_of
        Returns the value that a variable would have, ``None`` where it is unset.

    Returns
    -------
    str
        A sentence that names the variable and the path that it would become.

    Examples
    --------
    >>> refusal("rm -rf $NOWHERE/tfrecords/*", {}.get)
    '$NOWHERE is unset, so that this line would work on /tfrecords/*.'
    >>> refusal("ls $HERE/specs", {"HERE": "/tmp"}.get)
    ''
    """
    text = _LITERAL.sub(lambda match: " " * len(match[0]), line)
    for match in _ROOTED.finditer(text):
        names = _NAME.findall(match["names"])
        if not names or any(value_of(name) or _is_set_in(text, name) for name in names):
            continue
        rest = re.match(r"[^\s\"';|&)<>]*", line[match.end() - 1 :])
        path = rest[0] if rest else "/"
        return f"${names[0]} is unset, so that this line would work on {path}."
    return ""


def _is_set_in(text: str, name: str) -> bool:
    """Tell whether the line itself gives the variable a value: ``X=…``, ``for X in``, ``read X``."""
    return bool(
        re.search(rf"{_FIRST_OF_LINE}{name}=\S|\bfor\s+{name}\s+in\b|\bread\s+(?:-\w+\s+)*{name}\b", text)
    )
