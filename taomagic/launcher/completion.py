"""What may stand at the cursor of a cell: tasks, sub-tasks, flags, files, jobs. Reads folders, changes nothing.

Nothing of the person's is computed for it: ``{expression}`` isn't evaluated, and the value of the key is never offered.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from taomagic.errors import TaoError, UsageProblem
from taomagic.launcher import catalog, records
from taomagic.launcher.backends import BACKENDS
from taomagic.launcher.cells import split_cell, split_words
from taomagic.launcher.command import CONTROL_WORDS, RUN, split_common
from taomagic.launcher.completion_flags import COMMON, Flag, flags_of, visible
from taomagic.launcher.completion_paths import Paths
from taomagic.launcher.context import Context
from taomagic.launcher.names import Names
from taomagic.launcher.options import LANGUAGES, OPTIONS, take_options
from taomagic.launcher.shell_lines import needs_shell, with_backslashes
from taomagic.project.layouts import FAMILIES

#: The arguments of ``%tao_env``, and what their values are.
ENV_FLAGS = {
    "--project-dir": "folder",
    "--data-dir": "folder",
    "--family": "family",
    "--key": "",
    "--gpus": "",
    "--backend": "backend",
    "--release": "release",
    "--lang": "language",
    "--for-nvidia-notebooks": None,
    "--show": None,
}
#: What may stand first behind a control word.
_FIRST_WORDS = {
    "info": ("--verbose",),
    "key": ("check",),
    "device": ("bundle",),
    "notebook": ("run",),
    "setup": ("notebooks",),
    "samples": ("create", "specs", "notebook", "weights"),
}
_OWN_VALUES = {"--backend": "backend", "--release": "release", "--volume": "folder"}
_CELL = re.compile(r"\s*%%(?P<magic>tao_spec|tao)(?=\s)(?P<rest>[^\n]*)(?P<body>\n.*)?\Z", re.DOTALL)
_LINE = re.compile(
    r"\s*(?:[^'\"#\n]*?=\s*|%\w+\s+(?:-\S+\s+)*)?"
    r"(?P<magic>%tao_env|%tao|!\s*(?:tao-deploy|tao|tlt))(?=\s)(?P<rest>.*)\Z",
    re.DOTALL,
)


@dataclass(frozen=True)
class Facts:
    """What completion knows of the world.

    Parameters
    ----------
    names
        The person's variables.
    context
        The project, the folder that relative paths begin in, and the mount map.
    """

    names: Names
    context: Context


@dataclass(frozen=True)
class Completion:
    """What may replace the text at the end.

    Parameters
    ----------
    fragment
        The word at the cursor, as typed so far.
    words
        What may stand in its place, the most likely first.
    """

    fragment: str
    words: tuple[str, ...]


def complete(text: str, facts: Facts) -> Completion | None:
    """Return what may stand at the cursor.

    Parameters
    ----------
    text
        The cell, up to the cursor.
    facts
        What there is to choose from.

    Returns
    -------
    Completion or None
        ``None`` where the cursor isn't in a command of ours. Without words where it is, and nothing is known.
    """
    cell = _CELL.match(text)
    if cell is not None and cell["magic"] == "tao_spec" and cell["body"] is not None:
        from taomagic.launcher.completion_spec import spec_words

        return Completion(*spec_words(cell["rest"].strip(), cell["body"][1:]))
    found = _command_before(text)
    if found is None:
        return None
    magic, rest = found
    start, quote = _fragment_start(rest)
    if start < 0:
        return None  # in a comment
    fragment = rest[start:]
    if not text.endswith(fragment):
        return None  # a quote is open since an earlier line, which goes on without a backslash
    try:
        words = split_words(rest[:start])
        completer = _Completer(facts, words, fragment, quote)
        return Completion(fragment, tuple(dict.fromkeys(completer.candidates(magic))))
    except (TaoError, OSError):
        return Completion(fragment, ())


def _command_before(text: str) -> tuple[str, str] | None:
    """Return the magic that the cursor is in, and the words of its command up to the cursor."""
    cell = _CELL.match(text)
    if cell is not None:
        if cell["magic"] == "tao_spec":
            return ("tao_spec", cell["rest"]) if cell["body"] is None else None
        rest = cell["rest"] if cell["body"] is None else _stage(cell["rest"], cell["body"][1:])
        return None if rest is None else ("tao", rest)
    if text.lstrip().startswith("%%") and "\n" not in text:
        return None
    match = _LINE.match(_logical_line("".join(with_backslashes(text.splitlines(keepends=True)))))
    if match is None:
        return None
    name = match["magic"].lstrip("%! \t")
    shell = match["magic"].startswith("!")
    if shell and needs_shell(match["rest"]):
        return None
    return ("tao_env" if name == "tao_env" else "tao", f"{'deploy ' * (name == 'tao-deploy')}{match['rest']}")


def _logical_line(text: str) -> str:
    """Return the last line, with those before it that a backslash continues."""
    lines = text.split("\n")
    first = len(lines) - 1
    while first and lines[first - 1].rstrip().endswith("\\"):
        first -= 1
    return "\n".join(lines[first:])


def _stage(line: str, body: str) -> str | None:
    """Return the command of a ``%%tao`` cell that the cursor is in."""
    with contextlib.suppress(UsageProblem):
        _, rest = take_options(line)
        # The letter stands for what will be typed: it tells whether the cursor begins a command or continues one.
        return split_cell(rest, f"{body}x")[-1].text[:-1]
    return None


def _fragment_start(text: str) -> tuple[int, str]:
    """Return where the word at the end begins (-1 in a comment), and the quote that is open there."""
    position, start, quote = 0, 0, ""
    while position < len(text):
        char = text[position]
        if char == "\\" and quote != "'":
            # A backslash at the end of a line separates words.
            blank = re.compile(r"\\[ \t]*\n").match(text, position)
            position = blank.end() if blank else position + 2
            start = position if blank else start
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and position == start:
            end = text.find("\n", position)
            if end < 0:
                return -1, ""
            position = end
            start = position + 1
        elif char.isspace():
            start = position + 1
        position += 1
    return min(start, len(text)), quote


class _Completer:
    def __init__(self, facts: Facts, words: Sequence[str], fragment: str, quote: str) -> None:
        self._facts, self._words, self._fragment = facts, list(words), fragment
        self._paths = Paths(facts.context, facts.names, fragment, quote)

    def candidates(self, magic: str) -> Iterator[str]:
        match magic:
            case "tao_env":
                yield from self._environment()
            case "tao_spec":
                yield from self._matching(self._paths.spec_names())
            case _:
                yield from self._own_options()

    def _matching(self, words: Iterable[str]) -> Iterator[str]:
        return (word for word in words if word.startswith(self._fragment))

    # --- %tao_env

    def _environment(self) -> Iterator[str]:
        last = self._words[-1] if self._words else ""
        flag, equals, _ = self._fragment.partition("=")
        if equals and ENV_FLAGS.get(flag):
            yield from self._behind_equals(flag, ENV_FLAGS[flag] or "")
        elif ENV_FLAGS.get(last) is not None:
            yield from self._values(ENV_FLAGS[last] or "")
        elif self._fragment.startswith("-"):
            yield from self._matching(flag for flag in ENV_FLAGS if flag not in self._words)
        else:
            known = catalog.networks()
            if not any(word in known for word in self._words):
                ours = list(catalog.engine_tasks())
                yield from self._matching([*ours, *sorted(known.difference(ours))])
            if not self._fragment:
                yield from (flag for flag in ENV_FLAGS if flag not in self._words)

    # --- %tao

    def _own_options(self) -> Iterator[str]:
        words = iter(self._words)
        rest: list[str] = []
        waiting = ""
        for word in words:
            name = word.partition("=")[0]
            if name not in OPTIONS:
                rest = [word, *words]
                break
            if OPTIONS[name] and "=" not in word:
                waiting = name if next(words, None) is None else ""
        if waiting:
            yield from self._values(
                {"--backend": "backend", "--release": "release", "--volume": "folder"}.get(waiting, "")
            )
        elif rest:
            yield from self._command(rest)
        elif self._fragment.startswith("--backend="):
            yield from self._behind_equals("--backend", "backend")
        elif self._fragment.startswith("-"):
            yield from self._matching(option for option in OPTIONS if option not in self._words)
        else:
            yield from self._matching((*self._tasks("model", "dataset"), *CONTROL_WORDS, *catalog.GROUPS))

    @staticmethod
    def _tasks(*groups: str) -> list[str]:
        """Return the tasks of groups, what the embedded engine runs first."""
        tasks = set().union(*(catalog.tasks(group) for group in groups))
        ours = [task for task in catalog.engine_tasks() if "model" in groups]
        return [*ours, *sorted(tasks.difference(ours))]

    def _command(self, words: list[str]) -> Iterator[str]:
        first = words[0]
        if first in CONTROL_WORDS:
            yield from self._control(first, words[1:])
            return
        groups: tuple[str, ...] = ("model", "dataset")
        if first in catalog.GROUPS:
            groups, words = (first,), words[1:]
            if not words:
                yield from self._matching(self._tasks(first))
                return
        task = words[0].replace("-", "_")
        group = next((group for group in groups if task in catalog.tasks(group)), None)
        if group is not None:
            yield from self._task(group, task, words[1:])

    def _task(self, group: str, task: str, words: list[str]) -> Iterator[str]:
        known = catalog.subtasks(group, task)
        _, subtask, tail = split_common(words) if known != () else ((), "", tuple(words))
        if subtask is None:
            # A flag without its value hides the cursor's word from split_common.
            pending, many = _pending(COMMON, words)
            if pending is not None and not many:
                yield from self._values(pending.kind)
            elif self._fragment.startswith("-"):
                yield from self._flags(COMMON, words)
            else:
                yield from self._matching((*(known or ()), RUN))
        elif subtask != RUN:
            flags = flags_of(group, task, subtask.replace("-", "_"))
            yield from self._arguments(flags, words[: len(words) - len(tail)], list(tail))

    def _arguments(self, flags: Sequence[Flag], head: list[str], tail: list[str]) -> Iterator[str]:
        name, equals, _ = self._fragment.partition("=")
        given = next((flag for flag in flags if name in flag.spellings), None)
        pending, many = _pending(flags, tail)
        if equals and given is not None:
            yield from self._behind_equals(name, given.kind, given.choices)
        elif pending is not None and not many:
            yield from self._values(pending.kind, pending.choices)
        else:
            if pending is not None and not self._fragment.startswith("-"):
                yield from self._values(pending.kind, pending.choices)
            yield from self._flags(flags, [*head, *tail])

    def _flags(self, flags: Sequence[Flag], used: Sequence[str]) -> Iterator[str]:
        names = {word.partition("=")[0] for word in used}
        free = [flag for flag in flags if not names.intersection(flag.spellings)]
        shown = [flag for flag in free if not flag.hidden]
        if not self._fragment:
            # Nothing is typed yet: one spelling of each, what is needed first.
            yield from (flag.spellings[0] for flag in sorted(shown, key=lambda flag: not flag.required))
            return
        if self._fragment.startswith("-"):
            found = list(self._matching(visible(shown)))
            yield from found or self._matching(visible(free))

    # --- values

    def _behind_equals(self, flag: str, kind: str, choices: Sequence[str] = ()) -> Iterator[str]:
        inner = _Completer(self._facts, (), self._fragment[len(flag) + 1 :], "")
        return (f"{flag}={value}" for value in inner._values(kind, choices))

    def _values(self, kind: str, choices: Sequence[str] = ()) -> Iterator[str]:
        match kind:
            case "backend":
                yield from self._matching(BACKENDS)
            case "release":
                yield from self._matching(reversed(catalog.release_names()))
            case "family":
                yield from self._matching(FAMILIES)
            case "language":
                yield from self._matching(LANGUAGES)
            case "choice":
                yield from self._matching(choices)
            case "spec" | "model" | "folder" | "images" | "file":
                yield from self._paths.candidates(kind)
            case variable if variable.startswith("$"):
                if self._facts.names.get(variable[1:]):
                    yield from self._matching([variable])

    # --- control words

    def _control(self, word: str, words: list[str]) -> Iterator[str]:
        match word:
            case "stop":
                yield from self._matching(["--all"] if not words and self._fragment.startswith("-") else ())
                yield from self._matching(["--container_id"] if self._fragment.startswith("--c") else ())
                yield from self._matching(job for job in self._jobs(running=True) if job not in words)
            case "attach" | "logs" if not words:
                yield from self._matching(self._jobs())
            case "help" if not words:
                yield from self._matching((*self._tasks("model", "dataset"), *CONTROL_WORDS, *catalog.GROUPS))
            case "help" if len(words) < 3 and words[0] not in CONTROL_WORDS and RUN not in words:
                yield from (each for each in self._command(words) if each != RUN and not each.startswith("-"))
            case "info" | "key" | "device" | "notebook" | "setup" | "samples" if not words:
                yield from self._matching(_FIRST_WORDS[word])
            case "setup":
                yield from self._matching(word for word in ("--undo", "--profile") if word not in words)
            case "key" | "device" | "notebook":
                yield from self._paths.candidates("file" if word == "notebook" else "model")
            case "samples" if words == ["weights"]:
                from taomagic.samples.weights import SOURCES  # only here: it takes the time to import

                yield from self._matching(SOURCES)
            case "samples" if len(words) == 1 and words[0] != "create":
                yield from self._matching(catalog.engine_tasks())
            case "samples":
                yield from self._paths.candidates("folder")

    def _jobs(self, *, running: bool = False) -> list[str]:
        """Return the ids of the project's jobs, the newest first; only those without an end if ``running``."""
        times: dict[str, float] = {}
        with (
            contextlib.suppress(OSError),
            os.scandir(records.jobs_folder(self._facts.context.project_dir)) as jobs,
        ):
            for job in jobs:
                if not (running and os.path.exists(f"{job.path}/exit.json")):  # noqa: PTH110 - ten times as fast
                    with contextlib.suppress(OSError):
                        times[job.name] = os.stat(f"{job.path}/job.json").st_mtime  # noqa: PTH116
        return sorted(times, key=times.__getitem__, reverse=True)


def _pending(flags: Sequence[Flag], words: Sequence[str]) -> tuple[Flag | None, bool]:
    """Return the flag whose value stands at the cursor, and whether it may have had some already."""
    pending: Flag | None = None
    many = False
    for word in words:
        if pending is not None and not many:
            many = pending.takes < 0
            pending = pending if many else None
            continue
        flag = next((flag for flag in flags if word in flag.spellings), None)
        if flag is not None:
            pending, many = (flag if flag.takes else None), False
        elif word.startswith("-"):
            pending, many = None, False
    return pending, many
