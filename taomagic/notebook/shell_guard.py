"""What is wrong with a shell line: a variable is unset (``rm -rf $UNSET/tfrecords/*``, ``wget $UNSET``), or splits."""

from __future__ import annotations

import re
from collections.abc import Callable

# `$NAME`, `${NAME}`, and IPython's `{NAME}`; several of them may stand side by side.
_NAMES = r"(?:\$(?:\w+|\{\w+\})|\{[A-Za-z_]\w*\})+"
# A word that begins with one or several variables and goes on with a slash; or has the slash in front: `rm -rf /$GONE`.
_ROOTED = re.compile(
    rf"(?<![^\s=:;|&(<>\"])\"?(?:(?P<names>{_NAMES})\"?/|/\"?(?P<behind>{_NAMES})\"?(?=[/\s;|&)]|$))"
)
# `cd` alone goes to the home folder, and what follows works there.
_GO_HOME = re.compile(rf"(?:^|[\s;&|(])cd[ \t]+\"?(?P<names>{_NAMES})\"?(?=\s*(?:[;&|)\n]|$))")
_NAME = re.compile(r"\$\{?([A-Za-z_]\w*)\}?|\{([A-Za-z_]\w*)\}")
_FIRST_OF_LINE = r"(?:^|[\s;&|(])"
# What every shell, or bash, sets itself; a kernel that was started by no shell may not have them.
_SET_BY_SHELLS = frozenset({"PWD", "UID", "EUID", "HOSTNAME", "RANDOM", "SECONDS", "BASHPID"})
# Another script's variables become this one's.
_SOURCE = re.compile(r"(?:^|[;&|(\n])\s*(?:source|\.)[ \t]+\S")
_DOWNLOAD = re.compile(
    r"(?:^|[;&|(\n]|\b(?:then|else|do|sudo)\s)\s*(?P<program>wget|curl)(?=\s)(?P<words>[^;&|\n]*)"
)
_REMOVAL = re.compile(
    r"(?:^|[;&|(\n]|\b(?:then|else|do|sudo)\s)\s*(?:rm|rmdir|shred)(?=\s)(?P<words>(?:\"[^\"]*\"|[^;&|\n\"])*)"
)
# Flags of both that take the next word.
_TAKES_WORD = re.compile(r"-{1,2}(?:[a-zA-Z]*[oPOU]|output|output-document|directory-prefix|header)$")


def refusal(line: str, value_of: Callable[[str], str | None]) -> str:
    """Return why a shell line, or a whole script, must not run; an empty text where it may.

    Parameters
    ----------
    line
        What stands behind ``!``, before anything is expanded; or the body of a ``%%bash`` cell.
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
    text = _without_literals(line)
    for match in _ROOTED.finditer(text):
        if name := _all_empty(match["names"] or match["behind"], text, value_of):
            rest = re.match(r"[^\s\"';|&)<>]*", line[match.end() - 1 if match["names"] else match.end() :])
            path = (rest[0] if rest else "") or "/"
            return f"${name} is unset, so that this line would work on {path}."
    for match in _GO_HOME.finditer(text):
        if name := _all_empty(match["names"], text, value_of):
            return f"${name} is unset, so that this line would work in your home folder."
    return _split_removal(text, value_of)


def _split_removal(text: str, value_of: Callable[[str], str | None]) -> str:
    """Tell of a variable that stands without quotes in an `rm` and has a blank: the shell takes it for two paths."""
    for call in _REMOVAL.finditer(text):
        bare = re.sub(r"\"[^\"]*\"", "", call["words"])
        for dollar, brace in _NAME.findall(bare):
            name = dollar or brace
            parts = (value_of(name) or "").split()
            if len(parts) > 1 and not _is_set_in(text, name):
                return (
                    f"${name} has a blank in it, so that this line would delete {parts[0]}. "
                    "Move the notebook to a folder whose path has no blank."
                )
    return ""


def missing_address(line: str, value_of: Callable[[str], str | None]) -> tuple[str, str]:
    """Return the program that would download something, and the empty variable that it has in place of the address.

    Parameters
    ----------
    line, value_of
        As for :func:`refusal`.

    Returns
    -------
    tuple of (str, str)
        Both empty where every download has an address.

    Examples
    --------
    >>> missing_address('wget "$URL" -O $FILE', {"FILE": "a.zip"}.get)
    ('wget', 'URL')
    """
    for call in _DOWNLOAD.finditer(_without_literals(line)):
        words = call["words"].split()
        for before, word in zip(["", *words], words, strict=False):
            if _TAKES_WORD.match(before) or not re.fullmatch(rf"\"?{_NAMES}\"?", word):
                continue
            if name := _all_empty(word, "", value_of):
                return call["program"], name
    return "", ""


def _all_empty(written: str, text: str, value_of: Callable[[str], str | None]) -> str:
    """Return the first of the variables, if none of them has a value and the text gives none of them one."""
    found = [(dollar or brace, bool(brace)) for dollar, brace in _NAME.findall(written)]
    for name, in_braces in found:
        value = value_of(name)
        # IPython leaves braces alone that hold no variable of Python's, and so does a shell.
        if value or (in_braces and value is None) or _is_set_in(text, name):
            return ""
    return found[0][0] if found else ""


def _is_set_in(text: str, name: str) -> bool:
    """Tell whether the text gives the variable a value, or looks whether it has one: ``X=…``, ``read X``, ``-n $X``."""
    return (
        name in _SET_BY_SHELLS
        or bool(_SOURCE.search(text))
        or bool(
            re.search(
                rf"{_FIRST_OF_LINE}{name}\+?=\S|\$\{{{name}:?=[^\s}}]|\b(?:for|select)\s+{name}\s+in\b"
                rf"|\b(?:read|mapfile|getopts)\b[^;|&\n]*\s{name}\b"
                rf"|(?:\[|\b(?:test|printf))\s+-v\s+{name}\b|\s-[nz]\s+\"?\$\{{?{name}\b",
                text,
            )
        )
    )


def _without_literals(line: str) -> str:
    """Return the text with blanks where a shell expands nothing: quoted text, escaped characters, comments."""
    result = list(line)
    position, in_quotes = 0, False
    while position < len(line):
        char, end = line[position], position + 1
        if char == "\\":
            end = position + 2
        elif char == '"':
            in_quotes = not in_quotes
        elif char == "'" and not in_quotes:
            closing = line.find("'", end)
            end = len(line) if closing < 0 else closing + 1
        elif char == "#" and not in_quotes and (position == 0 or line[position - 1].isspace()):
            closing = line.find("\n", end)
            end = len(line) if closing < 0 else closing
        if end > position + 1:
            # A line that goes on keeps its end.
            result[position:end] = ["\n" if each == "\n" else " " for each in line[position:end]]
        position = end
    return "".join(result)
