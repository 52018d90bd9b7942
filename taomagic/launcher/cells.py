"""Text of a line or a cell -> stages -> words. Quotes, comments, continued lines, ``$VAR`` and ``{expr}``.

The rules are the shell's where people expect them (quotes, backslash, ``#``), with three differences that
make cells safer: an unset variable is an error that names it, a value is never split at its blanks (so paths
may have some), and nothing is run or expanded behind one's back (no globs, no ``;``, no ``$(…)``).
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.project.remembered import is_outdated

_NAME = re.compile(r"[A-Za-z_]\w*")
_WORD = re.compile(r"[A-Za-z][\w-]*$")
# What people paste in front of a command, from NVIDIA's notebooks or from a terminal.
_LAUNCHER = re.compile(r"^(?:!|%|\$ )?\s*(?:tao|tao-deploy)\s+(?=\S)")


@dataclass(frozen=True)
class Stage:
    """One command of a cell, not expanded yet.

    ``line`` is its first line in the cell, 1-based; the line of the magic itself is 1.
    """

    text: str
    line: int


class Names:
    """Looks names up: in the namespace first, then in the environment.

    Parameters
    ----------
    namespace
        The person's Python variables.
    environ
        The environment; ``os.environ`` by default.
    """

    def __init__(
        self, namespace: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self.namespace = {} if namespace is None else namespace
        self.environ = os.environ if environ is None else environ

    def lookup(self, name: str) -> Any:
        """Return the value of ``$name``.

        Raises
        ------
        EnvironmentProblem
            It isn't set, or it is empty, or it holds nothing that can stand in a command.
        """
        value = self.namespace.get(name)
        useless = value is None or isinstance(value, ModuleType) or callable(value)
        if useless or is_outdated(name, value, self.environ):
            value = self.environ.get(name)
        if value is None:
            known = {*self.environ, *(key for key in self.namespace if not key.startswith("_"))}
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
            raise EnvironmentProblem(
                f"${name} isn't set.",
                hint=f"Did you mean ${near[0]}?"
                if near
                else f"Run %tao_env, or set it: %env {name}=… ($$ stands for a dollar sign).",
            )
        return self._checked(f"${name}", value)

    def evaluate(self, expression: str) -> Any:
        """Return the value of ``{expression}``, computed in the namespace as IPython does.

        Raises
        ------
        EnvironmentProblem
            It is a name that isn't set, or its value is empty.
        UsageProblem
            It isn't Python, or it raises.
        """
        if _NAME.fullmatch(expression):
            return self.lookup(expression)
        try:
            # The person's own code, in the person's own kernel.
            value = eval(expression, {}, dict(self.namespace))
        except Exception as error:
            raise UsageProblem(
                f"{{{expression}}} can't be computed: {type(error).__name__}: {error}",
                hint="Write {{ and }} for braces that mean themselves, or put the text into single quotes.",
            ) from None
        return self._checked(f"{{{expression}}}", value)

    @staticmethod
    def _checked(shown: str, value: Any) -> Any:
        if value is None or (isinstance(value, str | list | tuple) and not value):
            raise EnvironmentProblem(
                f"{shown} is empty.", hint='Give it a value; to pass an empty argument on purpose, write "".'
            )
        return value


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
        return [Stage(_without_launcher(line + "\n" + body if body else line), 1)]
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
    return [Stage(_without_launcher("\n".join(lines)), number) for number, lines in stages]


def _first_word(text: str) -> str:
    """Return the word at the left margin; nothing where the line is indented."""
    shortened = _LAUNCHER.sub("", text)
    return shortened.split(maxsplit=1)[0] if shortened[:1].strip() else ""


def _without_launcher(text: str) -> str:
    match = _LAUNCHER.match(text)
    if match is None:
        return text
    deploy = "deploy " if "tao-deploy" in match.group() else ""
    return deploy + text[match.end() :]


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


def split_words(text: str, names: Names | None = None) -> list[str]:
    """Return the words of a command, expanded.

    Parameters
    ----------
    text
        One stage.
    names
        Where ``$NAME``, ``${NAME}`` and ``{expression}`` are looked up; ``None`` leaves them as they are.
        ``$$``, ``{{`` and ``}}`` stand for the characters themselves; in single quotes everything does.

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
    return _Splitter(text, names).run()


# The flag of the key, and what has been written of its value.
_KEY_BEFORE = re.compile(r"(?:^|\s)(?:-k|--k(?:ey?)?(?=[=\s]))[=\s]*\S*$|key=\S*$", re.IGNORECASE)


class _Splitter:
    def __init__(self, text: str, names: Names | None) -> None:
        self._text, self._names = text, names
        self._at = 0
        self._words: list[str] = []
        self._word: list[str] | None = None

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
                end = self._closing("'")
                self._put(text[self._at + 1 : end])
                self._at = end + 1
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
        if self._names is None or char not in "${}":
            self._put(char)
            self._at += 1
        elif pair in {"$$", "{{", "}}"}:
            self._put(char)
            self._at += 2
        elif pair == "${":
            end = text.find("}", at)
            name = text[at + 2 : end] if end > 0 else ""
            if not _NAME.fullmatch(name):
                raise UsageProblem(f"{text[at : at + 20]!r} isn't a variable.", hint="Write ${NAME}.")
            self._insert(self._names.lookup(name), end + 1, quoted=quoted)
        elif char == "$" and (match := _NAME.match(text, at + 1)):
            self._insert(self._names.lookup(match.group()), match.end(), quoted=quoted)
        elif char == "{":
            end = self._brace_end(at)
            self._insert(self._names.evaluate(text[at + 1 : end].strip()), end + 1, quoted=quoted)
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
        elif isinstance(value, list | tuple):
            raise UsageProblem("A list can only stand alone as a word.", hint="Put blanks around it.")
        else:
            self._put(os.fspath(value) if isinstance(value, Path) else str(value))
