"""The grammar of TAO 3.x, 4.0 and 5.x/6.x command lines -> :class:`Command`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from taomagic.errors import UsageProblem
from taomagic.launcher import catalog
from taomagic.launcher.cells import Names, Stage, split_cell, split_words

__all__ = [
    "CONTROL_WORDS",
    "Command",
    "Names",
    "Stage",
    "mask_key",
    "parse_command",
    "reject_empty",
    "split_cell",
    "split_common",
    "split_key",
    "split_words",
]

#: The words that aren't tasks: NVIDIA's three, and ours.
CONTROL_WORDS = ("info", "list", "stop", "attach", "logs", "samples", "help")
HELP = ("-h", "--help")
#: Flags whose value may be empty: a model without a key, no calibration.
ALLOWED_EMPTY = frozenset({"-k", "--key", "--cal_json_file", "--cal_data_file", "--cal_image_dir"})
# Flags of NVIDIA's entry point, which may stand before the sub-task, and how many values they take (-1: any number).
_COMMON = {
    "--gpus": 1,
    "--gpu_index": -1,
    "--num_processes": 1,
    "-np": 1,
    "--use_amp": 0,
    "--log_file": 1,
    "--mpirun-arg": 1,
    "--multi-node": 0,
    "--launch_cuda_blocking": 0,
}

#: What takes the place of a key on every screen and in every record.
MASK = "********"


@dataclass(frozen=True)
class Command:
    """One command: a task to run, or a control word.

    Parameters
    ----------
    action
        ``"run"`` for a task; otherwise the control word: ``info``, ``list``, ``stop``, ``attach``, ``logs``,
        ``samples``, ``help``.
    group
        ``"model"``, ``"dataset"`` or ``"deploy"``; empty for a control word.
    task
        The network, e.g. ``"ssd"``; for ``help`` what help is wanted for, or empty.
    subtask
        ``"train"``, ``"dataset_convert"``, …; always with underscores.
    args
        The words after the sub-task (or after the control word), expanded, as a list. May hold a key: show
        :meth:`masked`, never this.
    """

    action: str = "run"
    group: str = ""
    task: str = ""
    subtask: str = ""
    args: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What the command is, in few words: ``ssd train``, ``deploy ssd gen_trt_engine``, ``list``."""
        group = self.group if self.group == "deploy" else ""
        action = "" if self.action == "run" else self.action
        return " ".join(word for word in (action, group, self.task, self.subtask) if word)

    @property
    def words(self) -> tuple[str, ...]:
        """The whole command as words, without the leading ``tao``. May hold a key."""
        return (*self.label.split(), *self.args)

    def masked(self) -> str:
        """Return the command as a person would type it, the key replaced by stars."""
        words = ["tao", *self.label.split(), *mask_key(self.args)]
        return " ".join(word if MASK in word else shlex.quote(word) for word in words)

    def key(self) -> str | None:
        """Return the value of ``-k``/``--key``, or ``None`` where it isn't given."""
        return split_key(self.args)[1]

    def without_key(self) -> Command:
        """Return the same command without ``-k``/``--key`` and its value."""
        return replace(self, args=split_key(self.args)[0])

    def option(self, *flags: str) -> str | None:
        """Return the value of the first of ``flags`` that is given, as ``-e X``, ``--spec X`` or ``--spec=X``."""
        for index, word in enumerate(self.args):
            for flag in flags:
                if word == flag:
                    return self.args[index + 1] if index + 1 < len(self.args) else None
                if flag.startswith("--") and word.startswith(flag + "="):
                    return word.partition("=")[2]
        return None


# The newer tasks take settings as words: encryption_key=…, export.key=….
_SECRET_SETTING = re.compile(r"(?:\w+\.)*(?:encryption_|api_)?key=", re.IGNORECASE)


def _key_form(word: str) -> str | None:
    """Tell how a word carries a key: ``"next"`` word, ``"equals"``, ``"joined"`` (``-kX``), or not at all."""
    name, equals, _ = word.partition("=")
    # argparse takes unique abbreviations: --k, --ke and --key all mean the key.
    if name in {"--key", "--ke", "--k"}:
        return "equals" if equals else "next"
    if word == "-k":
        return "next"
    return "joined" if word.startswith("-k") and len(word) > 2 else None


def split_key(args: Sequence[str]) -> tuple[tuple[str, ...], str | None]:
    """Return the words without the key, and the key (``None`` where there is none; the last one given counts)."""
    kept: list[str] = []
    key: str | None = None
    rest = iter(args)
    for word in rest:
        form = _key_form(word)
        if form == "next":
            key = next(rest, "")
        elif form == "equals":
            key = word.partition("=")[2]
        elif form == "joined":
            key = word[2:].removeprefix("=")
        else:
            kept.append(word)
    return tuple(kept), key


def mask_key(args: Sequence[str]) -> tuple[str, ...]:
    """Return the words with the value of ``-k``/``--key`` replaced by stars."""
    shown: list[str] = []
    rest = iter(args)
    for word in rest:
        form = _key_form(word)
        if form is None:
            secret = _SECRET_SETTING.match(word)
            shown.append(f"{secret.group()}{MASK}" if secret else word)
        elif form == "next":
            shown += [word, MASK] if next(rest, None) is not None else [word]
        else:
            shown.append(f"{word.partition('=')[0]}={MASK}" if form == "equals" else f"-k{MASK}")
    return tuple(shown)


def split_common(words: Sequence[str]) -> tuple[tuple[str, ...], str | None, tuple[str, ...]]:
    """Split the words behind a task into common flags, the sub-task (``None`` if there is none), and the rest."""
    index = 0
    while index < len(words) and words[index].startswith("-"):
        flag, equals, _ = words[index].partition("=")
        if flag not in _COMMON:
            return tuple(words[:index]), None, tuple(words[index:])
        index += 1
        if _COMMON[flag] < 0 and not equals:
            while index < len(words) and words[index].isdigit():
                index += 1
        elif not equals:
            index += _COMMON[flag]
    head = tuple(words[:index])
    return (head, words[index], tuple(words[index + 1 :])) if index < len(words) else (head, None, ())


def parse_command(  # noqa: PLR0911 - one for each kind of command
    words: Sequence[str], *, prog: str = "tao"
) -> Command:
    """Return the command that the words mean, in the grammar of any generation.

    Parameters
    ----------
    words
        What follows ``tao``, expanded: ``["ssd", "train", …]``, ``["model", "ssd", "train", …]``, ``["info"]``.
    prog
        ``"tao"``, or ``"tao-deploy"``, whose tasks are those of the deploy group.

    Raises
    ------
    UsageProblem
        Nothing is given, or the task, group or sub-task is unknown; the hint has the nearest name and the valid ones.
    """
    if not words:
        raise UsageProblem(
            "There is no command.", hint="For example: tao ssd train -e spec.txt -r results -k key"
        )
    first, rest = words[0], list(words[1:])
    if first in HELP:
        return Command(action="help")
    if first == "help":
        return _help(rest, prog)
    if prog != "tao-deploy" and first in CONTROL_WORDS:
        if first == "list" and rest:
            raise UsageProblem("`tao list` takes no arguments.", hint="tao list")
        return Command(action=first, args=tuple(rest))
    group, task, rest = _task(first, rest, prog)
    if not task:
        return Command(action="help", group=group)
    head, word, tail = split_common(rest)
    known = catalog.subtasks(group, task)
    if known == () or (known is None and word is None):
        return Command("run", group, task, "", tuple(rest))
    if word is None:
        if tail[:1] and tail[0] in HELP:
            return Command(action="help", group=group, task=task)
        raise UsageProblem(f"{task} needs a sub-task.", hint=f"Sub-tasks: {', '.join(known or ())}.")
    subtask = word.replace("-", "_")
    if known is not None and subtask not in known:
        raise UsageProblem(
            f'{task} has no sub-task "{word}".',
            hint=f"{catalog.nearest(subtask, known)}Sub-tasks: {', '.join(known)}.",
        )
    if any(argument in HELP for argument in tail):
        return Command(action="help", group=group, task=task, subtask=subtask)
    return Command("run", group, task, subtask, (*head, *tail))


def _task(first: str, rest: list[str], prog: str) -> tuple[str, str, list[str]]:
    """Return group, task and the words behind it. The task is empty where only help on the group is wanted."""
    group = "deploy" if prog == "tao-deploy" else ""
    if not group and first in catalog.GROUPS:
        if not rest or rest[0] in HELP:
            return first, "", []
        group, first, rest = first, rest[0], rest[1:]
    task = first.replace("-", "_")
    # Releases before 5 have no groups; their tasks are models, but for the four data services.
    groups = (group,) if group else ("model", "dataset")
    for candidate in groups:
        if task in catalog.tasks(candidate):
            return candidate, task, rest
    known = sorted(set().union(*(catalog.tasks(candidate) for candidate in groups)))
    what = f"group {group} has no task" if group else "there is no task"
    extra = () if group else (*CONTROL_WORDS, *catalog.GROUPS)
    listed = [*catalog.engine_tasks(), *(name for name in known if name not in catalog.engine_tasks())]
    raise UsageProblem(
        f'{what[0].upper()}{what[1:]} "{first}".',
        hint=f"{catalog.nearest(task, (*known, *extra))}Tasks: {', '.join(listed)}."
        + (f" Or: {', '.join(extra)}." if extra else ""),
    )


def _help(words: list[str], prog: str) -> Command:
    if not words:
        return Command(action="help")
    if words[0] in CONTROL_WORDS:
        return Command(action="help", args=(words[0],))
    return parse_command([*words, "--help"], prog=prog)


def reject_empty(command: Command) -> Command:
    """Return the command, unless a shell variable in it was empty.

    Raises
    ------
    UsageProblem
        An argument is empty: that is what a shell makes of an unset variable in quotes.
    """
    previous = ""
    for word in command.args:
        if not word.strip() and previous not in ALLOWED_EMPTY:
            raise UsageProblem(
                f"The value of {previous or 'an argument'} is empty.",
                where=f"tao {command.label}",
                hint="A variable in this command is probably not set. In a notebook, run %tao_env first.",
            )
        previous = word
    return command
