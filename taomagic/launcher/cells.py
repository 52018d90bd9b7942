"""Text of a line or a cell -> stages -> words. Quotes, comments, continued lines, ``$VAR`` and ``{expr}``.

The rules are the shell's where people expect them (quotes, backslash, ``#``), with three differences that
make cells safer: an unset variable is an error that names it, a value is never split at its blanks (so paths
may have some), and nothing is run or expanded behind one's back (no globs, no ``;``, no ``$(…)``).

A line that was written for the shell (``!tao …``) is read by IPython's rules for such lines where they differ: see
``shell`` of :func:`split_words`.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taomagic.errors import TaoError, UsageProblem
from taomagic.launcher.names import NAME, Names, is_expression, split_format

__all__ = ["Names", "Stage", "split_cell", "split_words"]

_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")
_WORD = re.compile(r"[A-Za-z][\w-]*$")
# What people paste in front of a command, from NVIDIA's notebooks or from a terminal.
_LAUNCHER = re.compile(r"^(?P<sign>!|%|\$ )?\s*(?P<name>tao-deploy|tao|tlt)\s+(?=\S)")


@dataclass(frozen=True)
class Stage:
    """One command of a cell, not expanded yet.

    ``line`` is its first line in the cell, 1-based; the line of the magic itself is 1. ``shell`` tells that it began
    with ``!tao``: its words follow the rules of such lines.
    """

    text: str
    line: int
    shell: bool = False


def split_cell(line: str, body: str = "") -> list[Stage]:
    """Return the stages of a cell.

    Parameters
    ----------
    line
        What stands behind ``%%tao``.
    body
        The rest of the cell.

    Returns
    -------
    list of Stage
        One stage where ``line`` names a task, the body continuing it over any number of lines. Otherwise each
        body line that begins with a word at the left margin begins a stage; indented lines, lines after a
        backslash and lines that begin with an option continue the stage before.

    Raises
    ------
    UsageProblem
        There is no command at all, or the body begins with an option.
    """
    if _strip_comment(line).strip():
        return [_stage(line + "\n" + body if body else line, 1)]
    stages: list[tuple[int, list[str]]] = []
    quote, continued = "", False
    for number, text in enumerate(body.splitlines(), 2):
        blank = not _strip_comment(text).strip()
        begins = not quote and not continued and not blank and _WORD.match(_first_word(text)) is not None
        if begins:
            stages.append((number, [text]))
        elif stages:
            stages[-1][1].append(text)
        elif not blank:
            raise UsageProblem(
                f"Line {number} of the cell belongs to no command.",
                hint="Begin a line with a task, e.g. ssd train …",
            )
        quote, continued = _state_after(text, quote)
    if not stages:
        raise UsageProblem(
            "There is no command.", hint="For example: %%tao ssd train -e $SPECS_DIR/ssd_train.txt …"
        )
    return [_stage("\n".join(lines), number) for number, lines in stages]


def _first_word(text: str) -> str:
    """Return the word at the left margin; nothing where the line is indented."""
    shortened = _LAUNCHER.sub("", text)
    return shortened.split(maxsplit=1)[0] if shortened[:1].strip() else ""


def _stage(text: str, line: int) -> Stage:
    """Return a stage without the launcher's name in front of it."""
    match = _LAUNCHER.match(text)
    if match is None:
        return Stage(text, line)
    deploy = "deploy " if match["name"] == "tao-deploy" else ""
    return Stage(deploy + text[match.end() :], line, match["sign"] == "!")


def _state_after(text: str, quote: str) -> tuple[str, bool]:
    """Return the quote that is open at the end of a line, and whether a backslash continues the line."""
    position = 0
    at_word_start = True
    while position < len(text):
        char = text[position]
        if char == "\\" and quote != "'":
            if not text[position + 1 :].strip():
                return quote, True
            position += 2
            at_word_start = False
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and at_word_start:
            break
        at_word_start = char.isspace()
        position += 1
    return quote, False


def _strip_comment(text: str) -> str:
    return text[: len(text) - len(text.lstrip())] + ("" if text.lstrip().startswith("#") else text.lstrip())


def split_words(text: str, names: Names | None = None, *, shell: bool = False) -> list[str]:
    """Return the words of a command, expanded.

    Parameters
    ----------
    text
        One stage.
    names
        Where ``$NAME``, ``${NAME}`` and ``{expression}`` are looked up; ``None`` leaves them as they are.
        ``$$``, ``{{`` and ``}}`` stand for the characters themselves; in single quotes everything does.
    shell
        Read the text as IPython and a shell read a ``!`` line: ``$$NAME`` is the environment's variable, braces
        count in single quotes too, ``~`` is the home folder, and a value that holds several flags or numbers
        becomes as many words. Braces in quotes that hold no Python mean themselves.

    Returns
    -------
    list of str
        A list or tuple that stands alone as a word becomes a word for each of its items.

    Raises
    ------
    UsageProblem
        A quote or brace isn't closed.
    EnvironmentProblem
        A variable isn't set or is empty.
    """
    return _Splitter(text, names, shell=shell).run()


# The flag of the key, and what has been written of its value.
_KEY_BEFORE = re.compile(r"(?:^|\s)(?:-k|--k(?:ey?)?(?=[=\s]))[=\s]*\S*$|key=\S*$", re.IGNORECASE)


# A value that a shell splits on purpose: flags, or the numbers of several GPUs. A path with blanks is none.
_SEVERAL = re.compile(r"\s*(?:-\S*\s+\S|\d+(?:\s+\d+)+\s*$)")


def _parts(value: str) -> list[str]:
    try:
        return shlex.split(value)
    except ValueError:  # an apostrophe in it
        return value.split()


class _Splitter:
    def __init__(self, text: str, names: Names | None, *, shell: bool = False) -> None:
        self._text, self._names, self._shell = text, names, shell
        self._at = 0
        self._words: list[str] = []
        self._word: list[str] | None = None
        self._literal_end = -1  # up to here braces mean themselves

    def run(self) -> list[str]:
        text = self._text
        while self._at < len(text):
            char = text[self._at]
            if char == "\\":
                self._backslash()
            elif char.isspace():
                self._flush()
                self._at += 1
            elif char == "#" and self._word is None:
                end = text.find("\n", self._at)
                self._at = len(text) if end < 0 else end
            elif char == "'":
                self._single_quoted()
            elif char == '"':
                self._double_quoted()
            else:
                self._plain(quoted=False)
        self._flush()
        return self._words

    def _put(self, text: str) -> None:
        if self._word is None:
            self._word = []
        self._word.append(text)

    def _flush(self) -> None:
        if self._word is not None:
            self._words.append("".join(self._word))
            self._word = None

    def _closing(self, mark: str) -> int:
        end = self._text.find(mark, self._at + 1)
        if end < 0:
            # One word is shown, and none that could be (part of) a key.
            secret = _KEY_BEFORE.search(self._text[: self._at])
            start = f"{mark}…" if secret else self._text[self._at : self._at + 30].split()[0]
            raise UsageProblem(
                f"A quote isn't closed: {start}",
                hint="Close it, or write a backslash before a quote that means itself.",
            )
        return end

    def _backslash(self) -> None:
        rest = self._text[self._at + 1 :]
        blanks = re.match(r"[ \t\r]*(?:\n|$)", rest)
        if blanks is not None:
            # A blank behind the backslash is invisible and harmless: it still continues the line.
            self._flush()
            self._at += 1 + blanks.end()
        else:
            self._put(rest[0])
            self._at += 2

    def _single_quoted(self) -> None:
        end = self._closing("'")
        inside = self._text[self._at + 1 : end]
        self._put(self._braces_only(inside) if self._shell and self._names is not None else inside)
        self._at = end + 1

    def _braces_only(self, text: str) -> str:
        """Return a text with its ``{…}`` replaced; as it is where IPython, too, could not compute one of them."""
        inner = _Splitter(text, self._names, shell=True)
        try:
            while inner._at < len(text):
                if text[inner._at] in "{}":
                    inner._plain(quoted=True)
                else:
                    inner._put(text[inner._at])
                    inner._at += 1
        except TaoError:
            return text
        return "".join(inner._word or ())

    def _double_quoted(self) -> None:
        self._closing('"')
        self._put("")
        start = self._at
        self._at += 1
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == '"':
                self._at += 1
                return
            if char == "\\" and self._text[self._at + 1 : self._at + 2] in {'"', "\\", "$", "{", "}"}:
                self._put(self._text[self._at + 1])
                self._at += 2
            else:
                self._plain(quoted=True)
        self._at = start
        self._closing("\0")

    def _plain(self, *, quoted: bool) -> None:
        """Take one character, or one expansion."""
        text, at = self._text, self._at
        char, pair = text[at], text[at : at + 2]
        if self._shell and not quoted and self._word is None and char == "~":
            end = next((i for i in range(at, len(text)) if text[i] in "/ \t\n"), len(text))
            self._put(os.path.expanduser(text[at:end]))  # noqa: PTH111 - ~name of nobody stays as it is
            self._at = end
        elif self._names is None or char not in "${}" or (char != "$" and at <= self._literal_end):
            self._put(char)
            self._at += 1
        elif self._shell and pair == "$$" and (match := NAME.match(text, at + 2)):
            self._insert(self._names.lookup_outside(match.group()), match.end(), quoted=quoted)
        elif pair in {"$$", "{{", "}}"}:
            self._put(char)
            self._at += 2
        elif pair == "${":
            end = text.find("}", at)
            name = text[at + 2 : end] if end > 0 else ""
            if not NAME.fullmatch(name):
                raise UsageProblem(f"{text[at : at + 20]!r} isn't a variable.", hint="Write ${NAME}.")
            self._insert(self._names.lookup(name), end + 1, quoted=quoted)
        elif char == "$" and (match := _DOTTED.match(text, at + 1)):
            value, length = self._names.lookup_dotted(match.group())
            self._insert(value, at + 1 + length, quoted=quoted)
        elif char == "{":
            end = self._brace_end(at)
            expression = text[at + 1 : end].strip()
            if self._shell and quoted and not is_expression(split_format(expression)[0]):
                self._literal_end = end
            else:
                self._insert(self._names.evaluate(expression), end + 1, quoted=quoted)
        else:
            self._put(char)
            self._at += 1

    def _brace_end(self, start: int) -> int:
        depth = 0
        for match in re.finditer(r"'[^'\n]*'|\"[^\"\n]*\"|[{}]", self._text[start:]):
            depth += {"{": 1, "}": -1}.get(match.group(), 0)
            if depth == 0:
                return start + match.start()
        raise UsageProblem(
            f"A brace isn't closed: {self._text[start : start + 30].splitlines()[0]}",
            hint="Write {{ and }} for braces that mean themselves.",
        )

    def _insert(self, value: Any, end: int, *, quoted: bool) -> None:
        alone = not quoted and self._word is None and (end >= len(self._text) or self._text[end].isspace())
        self._at = end
        if isinstance(value, list | tuple) and alone:
            self._words += [str(item) for item in value]
        elif self._shell and alone and isinstance(value, str) and _SEVERAL.match(value):
            self._words += _parts(value)
        elif isinstance(value, list | tuple):
            raise UsageProblem("A list can only stand alone as a word.", hint="Put blanks around it.")
        else:
            self._put(os.fspath(value) if isinstance(value, Path) else str(value))
