"""The grammar of TAO 3.x, 4.0 and 5.x/6.x command lines -> :class:`Command`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace

from taomagic.errors import UsageProblem
from taomagic.launcher import catalog
from taomagic.launcher.keys import MASK, find_key, find_keys, mask_key, split_key

__all__ = [
    "CONTROL_WORDS",
    "MASK",
    "Command",
    "mask_key",
    "needs_terminal",
    "parse_command",
    "reject_empty",
    "split_common",
    "split_key",
]

#: The words that aren't tasks: NVIDIA's three, and ours.
CONTROL_WORDS = (
    "info",
    "list",
    "stop",
    "attach",
    "logs",
    "samples",
    "key",
    "device",
    "notebook",
    "setup",
    "help",
)
HELP = ("-h", "--help")
#: The sub-task of every task that runs any program in its container (NVIDIA's launcher, all generations).
RUN = "run"
#: What a task alone opens in its container.
SHELL = ("/bin/bash",)
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


@dataclass(frozen=True)
class Command:
    """One command: a task to run, or a control word.

    Parameters
    ----------
    action
        ``"run"`` for a task; otherwise the control word: ``info``, ``list``, ``stop``, ``attach``, ``logs``,
        ``samples``, ``key``, ``device``, ``notebook``, ``setup``, ``help``.
    group
        ``"model"``, ``"dataset"`` or ``"deploy"``; empty for a control word.
    task
        The network, e.g. ``"ssd"``; for ``help`` what help is wanted for, or empty.
    subtask
        ``"train"``, ``"dataset_convert"``, …; always with underscores.
    args
        The words after the sub-task (or after the control word), expanded, as a list. May hold a key: show
        :meth:`masked`, never this.
    typed
        What a container is given: all words behind the task as they were typed, with the sub-task and the flags in
        front of it. By default ``subtask`` and ``args``; empty for control words. May hold a key, too.
    volumes
        ``(source, destination)`` of each ``--volume``, which reaches neither a container nor the engine.
    """

    action: str = "run"
    group: str = ""
    task: str = ""
    subtask: str = ""
    args: tuple[str, ...] = ()
    typed: tuple[str, ...] = ()
    volumes: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.action == "run" and not self.typed:
            object.__setattr__(self, "typed", (*filter(None, (self.subtask,)), *self.args))

    def __repr__(self) -> str:
        """Return it as typed, without the key: tracebacks show the values of variables."""
        return f"<Command {self.masked()}>"

    @property
    def runs_program(self) -> bool:
        """Whether this is ``tao TASK run PROGRAM …``: the program is run in the task's container, not the task."""
        return self.action == "run" and self.subtask == RUN and self.typed[:1] == (RUN,)

    @property
    def wants_shell(self) -> bool:
        """Whether the task stands alone, which opens a shell in its container (NVIDIA's launcher, all generations)."""
        return self.action == "run" and not self.typed

    @property
    def container_argv(self) -> tuple[str, ...]:
        """The program and its arguments in a container: the task, what follows ``run``, or a shell."""
        if self.wants_shell:
            return SHELL
        return self.typed[1:] if self.runs_program else (self.task, *self.typed)

    @property
    def label(self) -> str:
        """What the command is, in few words: ``ssd train``, ``deploy ssd gen_trt_engine``, ``ssd run``, ``list``."""
        action = "" if self.action == "run" else self.action
        return " ".join(word for word in (action, *self._task_words, self.subtask) if word)

    @property
    def engine_task(self) -> str:
        """What the embedded engine's parser calls the task: ``ssd``, ``deploy ssd``, ``converter``."""
        return " ".join(self._task_words)

    @property
    def _task_words(self) -> tuple[str, ...]:
        # Only the deploy group has tasks of the same names as another one.
        return ("deploy", self.task) if self.group == "deploy" and self.task else (self.task,)

    @property
    def words(self) -> tuple[str, ...]:
        """The whole command as words for the embedded engine, without the leading ``tao``. May hold a key."""
        return (*self.label.split(), *self.args)

    def masked(self) -> str:
        """Return the command as a person would type it, the key replaced by stars."""
        if self.action == "run":
            words = ["tao", *self._task_words, *mask_key(self.typed)]
        else:
            words = ["tao", *self.label.split(), *mask_key(self.args)]
        words += [f"--volume={source}:{destination}" for source, destination in self.volumes]
        return " ".join(word if MASK in word else shlex.quote(word) for word in words)

    def key(self) -> str | None:
        """Return the key, wherever it stands, or ``None``; see :func:`taomagic.launcher.keys.find_key`."""
        return find_key(self.args)

    def secrets(self) -> tuple[str, ...]:
        """Return everything secret among the words; see :func:`taomagic.launcher.keys.find_keys`."""
        return find_keys(self.args)

    def without_key(self) -> Command:
        """Return the same command without ``-k``/``--key`` and its value; a key inside another word becomes stars."""
        args, typed = (mask_key(split_key(words)[0]) for words in (self.args, self.typed))
        return replace(self, args=args, typed=typed)

    def option(self, *flags: str) -> str | None:
        """Return the value of the first of ``flags`` that is given, as ``-e X``, ``--spec X`` or ``--spec=X``."""
        for index, word in enumerate(self.args):
            for flag in flags:
                if word == flag:
                    return self.args[index + 1] if index + 1 < len(self.args) else None
                if flag.startswith("--") and word.startswith(flag + "="):
                    return word.partition("=")[2]
        return None


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


def parse_command(words: Sequence[str], *, prog: str = "tao") -> Command:
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
    if first in CONTROL_WORDS:
        if first == "list" and rest:
            raise UsageProblem("`tao list` takes no arguments.", hint="tao list")
        # TAO 4.0's `tao-deploy info` tells of the deploy images.
        return Command(action=first, group="deploy" if prog == "tao-deploy" else "", args=tuple(rest))
    group, task, rest = _task(first, rest, prog)
    if not task:
        return Command(action="help", group=group)
    rest, volumes = split_volumes(rest)
    if rest[:1] == [RUN]:
        if not rest[1:]:
            raise UsageProblem(
                f"{task} run needs a program.", hint=f"For example: tao {task} run ls /workspace"
            )
        return Command("run", group, task, RUN, tuple(rest[1:]), tuple(rest), volumes)
    return replace(_parse_task(group, task, rest), volumes=volumes)


def _parse_task(group: str, task: str, words: list[str]) -> Command:
    """Return the command for the words behind a task, without ``run``."""
    known = catalog.subtasks(group, task)
    if known == () or not words:
        return Command("run", group, task, "", tuple(words))
    head, word, tail = split_common(words)
    if word is None:
        if any(argument in HELP for argument in tail):
            return Command(action="help", group=group, task=task)
        # A flag that isn't known here stands in front of the sub-task. Whoever runs the command knows it, or complains.
        place = next((index for index, each in enumerate(tail) if each in (known or ())), None)
        if place is not None:
            head, word, tail = (*head, *tail[:place]), tail[place], tail[place + 1 :]
        elif _runs_here(group, task):
            raise UsageProblem(f"{task} needs a sub-task.", hint=f"Sub-tasks: {', '.join(known or ())}.")
        else:
            return Command("run", group, task, "", tuple(words))
    subtask = word.replace("-", "_")
    if known is not None and subtask not in known:
        _reject_mistake(group, task, word, known)
        subtask = word
    if any(argument in HELP for argument in tail):
        return Command(action="help", group=group, task=task, subtask=subtask)
    # A container doesn't know our spelling with hyphens.
    return Command("run", group, task, subtask, (*head, *tail), (*head, subtask, *tail))


def _runs_here(group: str, task: str) -> bool:
    return bool(catalog.engine_subtasks(group, task))


def _reject_mistake(group: str, task: str, word: str, known: Sequence[str]) -> None:
    """Refuse a sub-task that is surely a mistake.

    Sub-tasks live in the containers and vary with their release, so NVIDIA's launcher has no list of them. Ours, from
    the documentation, may lack some: what isn't in it is passed on, unless the embedded engine runs the task, a letter
    is wrong (a container would say so after a pull of gigabytes), or the same task has it in another group.
    """
    subtask = word.replace("-", "_")
    others = [other for other in catalog.GROUPS if other != group and task in catalog.tasks(other)]
    other = next((each for each in others if subtask in (catalog.subtasks(each, task) or ())), None)
    if not (_runs_here(group, task) or other or any(_one_slip(subtask, each) for each in known)):
        return
    near = f"Did you mean tao {other} {task} {subtask}? " if other else catalog.nearest(subtask, known)
    raise UsageProblem(
        f'{task} has no sub-task "{word}".',
        where=f"tao {group} {task}" if other else "",
        hint=f"{near}Sub-tasks: {', '.join(known)}."
        + (
            ""
            if _runs_here(group, task)
            else f" To pass it on as it is: tao {group} {task} run {task} {word} …"
        ),
    )


def _one_slip(word: str, meant: str) -> bool:
    """Tell whether one letter is wrong, missing, too many, or two neighbours are swapped."""
    if abs(len(word) - len(meant)) > 1 or word == meant:
        return False
    start = next(
        (i for i, (a, b) in enumerate(zip(word, meant, strict=False)) if a != b), min(len(word), len(meant))
    )
    ours, theirs = word[start:], meant[start:]
    return (
        ours[1:] == theirs[1:]
        or ours[1:] == theirs
        or ours == theirs[1:]
        or (ours[:2] == theirs[1::-1] and ours[2:] == theirs[2:])
    )


def split_volumes(words: Sequence[str]) -> tuple[list[str], tuple[tuple[str, str], ...]]:
    """Take every ``--volume SRC:DST`` out of the words, wherever it stands, as NVIDIA's launcher does from 6.0 on.

    Returns
    -------
    list of str
        The other words.
    tuple of (str, str)
        Source and destination of each; a third field (``:ro``) is allowed and means nothing, as with NVIDIA's.

    Raises
    ------
    UsageProblem
        A value is missing, or isn't ``SRC:DST``.
    """
    kept: list[str] = []
    volumes: list[tuple[str, str]] = []
    rest = iter(words)
    for word in rest:
        if word != "--volume" and not word.startswith("--volume="):
            kept.append(word)
            continue
        value = next(rest, "") if word == "--volume" else word.partition("=")[2]
        source, _, behind = value.partition(":")
        destination, _, mode = behind.partition(":")
        if not source or not destination.startswith("/") or ":" in mode:
            raise UsageProblem(
                f'--volume "{value}" isn\'t SOURCE:DESTINATION.' if value else "--volume needs a value.",
                hint="A folder of this machine and an absolute path in the container: --volume /data/kitti:/data",
            )
        volumes.append((source, destination))
    return kept, tuple(volumes)


def _task(first: str, rest: list[str], prog: str) -> tuple[str, str, list[str]]:
    """Return group, task and the words behind it. The task is empty where only help on the group is wanted."""
    group = "deploy" if prog == "tao-deploy" else ""
    if not group and first in catalog.GROUPS:
        if not rest or rest[0] in HELP:
            return first, "", []
        group, first, rest = first, rest[0], rest[1:]
    # Releases before 5 have no groups; their tasks are models, but for the data services, and what only deploy has.
    groups = (group,) if group else ("model", "dataset", "deploy")
    known: set[str] = set()
    for candidate in groups:
        there = catalog.tasks(candidate)
        # People write yolo-v4, but cosmos-embed1 has its hyphen.
        for task in (first, first.replace("-", "_")):
            if task in there:
                return candidate, task, rest
        known |= there
    task = first.replace("-", "_")
    message = f'Group {group} has no task "{first}".' if group else f'There is no task "{first}".'
    extra = () if group else (*CONTROL_WORDS, *catalog.GROUPS)
    # More than a hundred names in all releases together are no help; those of one release are.
    listing = f"tao {group}" if group and prog == "tao" else f"{prog} --help"
    near = catalog.nearest(task, (*known, *extra))
    raise UsageProblem(message, hint=f"{near}`{listing}` lists the tasks of a release.")


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
    if command.runs_program:
        return command  # echo "" is in order
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


def needs_terminal(command: Command) -> UsageProblem:
    """Return what to say of a task alone where there is no terminal for its shell."""
    return UsageProblem(
        f"`tao {command.label}` alone opens a shell in the task's container, which needs a terminal.",
        where=f"tao {command.label}",
        hint=f"In a terminal: tao {command.label}. One command here: tao {command.label} run ls -l /workspace",
    )
