"""The command lines of the networks: every flag of TAO 3.x to 5.x, in both spellings, and its help.

The engine parses its own command line with this, and the launcher checks a command before it starts one, so
the two can't disagree. Paths stay strings: they are container paths as often as host paths.

Where the generations differ (``--model`` and ``--model_path``, ``-o`` and ``-r`` of ``inference``), all
spellings are taken. Unique beginnings of long flags work too, as they do in NVIDIA's tools.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final, Literal, NoReturn

from taomagic import errors
from taomagic.errors import UsageProblem
from taomagic.spec import (
    arguments_deploy,
    arguments_detectnet_v2,
    arguments_device,
    arguments_key,
    arguments_ssd,
)
from taomagic.spec.arguments_common import Subtask
from taomagic.spec.flag_types import not_negative, number, positive
from taomagic.spec.help_format import HelpFormat

__all__ = [
    "SUBTASKS",
    "canonical_subtask",
    "check_arguments",
    "evaluation_purpose",
    "help_text",
    "nearest",
    "parse_arguments",
    "parser",
    "split_common",
]

_NETWORKS: Final[Mapping[str, Mapping[str, Subtask]]] = {
    "ssd": arguments_ssd.SUBTASKS,
    "detectnet_v2": arguments_detectnet_v2.SUBTASKS,
    **{f"deploy {network}": parts for network, parts in arguments_deploy.NETWORKS.items()},
    "converter": {"": arguments_deploy.CONVERTER},
    "key": arguments_key.SUBTASKS,
    "device": arguments_device.SUBTASKS,
}

#: The sub-tasks of each network, in the order in which they are used.
SUBTASKS: Final[Mapping[str, tuple[str, ...]]] = {task: tuple(parts) for task, parts in _NETWORKS.items()}

_HIDDEN: Final = argparse.SUPPRESS


class _Parser(argparse.ArgumentParser):
    """An argument parser that raises :class:`UsageProblem` where argparse would end the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageProblem(message, where=self.prog, hint=f"`{self.prog} --help` lists every argument.")

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        # Two spellings of one flag (--experiment_spec, --experiment_spec_file) don't make their shared
        # beginning ambiguous. Older releases of argparse think so.
        by_action = {id(match[0]): match for match in super()._get_option_tuples(option_string)}
        return list(by_action.values())

    def parse_args(  # type: ignore[override]  # argparse's overloads say the same at greater length
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> Any:
        """Parse all words, or raise :class:`UsageProblem` that names the word and the nearest valid flag."""
        # A mistyped flag is reported first: argparse would say that the flag it was meant to be is missing.
        mistyped = [word for word in args or () if self._is_unknown_flag(word)]
        if mistyped:
            self._report_unknown(mistyped)
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self._report_unknown(unknown)
        return parsed

    def _is_unknown_flag(self, word: str) -> bool:
        if not re.match(r"--?[a-zA-Z]", word):
            return False
        flag = word.partition("=")[0]
        options = [option for action in self._actions for option in action.option_strings]
        if flag.startswith("--"):
            return not any(option.startswith(flag) for option in options)
        # -mFILE is -m with its value. The beginning of a short flag is not enough: -n of another network isn't -np.
        return flag not in options and flag[:2] not in options

    def _report_unknown(self, unknown: Sequence[str]) -> NoReturn:
        word = next((w for w in unknown if w.startswith("-")), unknown[0])
        if not word.startswith("-"):
            raise UsageProblem(
                f"can't place the argument {word!r}",
                where=self.prog,
                hint="Every value follows a flag. A value with blanks needs quotes.",
            )
        flag = word.partition("=")[0]
        valid = sorted(
            option for action in self._actions if action.help != _HIDDEN for option in action.option_strings
        )
        # Among one-letter flags nothing is near: -pth looks like -h and means something else.
        near = nearest(flag, [option for option in valid if len(option) > 2])
        hint = f"Did you mean {near}? " if near else ""
        raise UsageProblem(
            f"unknown flag {flag}", where=self.prog, hint=f"{hint}Valid flags: {', '.join(valid)}"
        )


def nearest(word: str, valid: Sequence[str]) -> str | None:
    """Return the valid name that looks most like ``word``, or None if none is close."""
    folded = {name.lower().replace("-", "_"): name for name in valid}
    found = difflib.get_close_matches(word.lower().replace("-", "_"), list(folded), n=1, cutoff=0.6)
    return folded[found[0]] if found else None


def canonical_subtask(task: str, word: str) -> str:
    """Return a sub-task's name from its spelling, ``dataset-convert`` among them.

    Raises
    ------
    UsageProblem
        If the network or the sub-task is unknown; the hint has the nearest name.
    """
    if task not in SUBTASKS:
        raise UsageProblem(f"unknown network {task!r}", hint=f"Networks: {', '.join(SUBTASKS)}")
    name = word.replace("-", "_")
    if name not in SUBTASKS[task]:
        near = nearest(name, SUBTASKS[task])
        hint = f"Did you mean {near}? " if near else ""
        raise UsageProblem(
            f"{task} has no sub-task {word!r}", hint=f"{hint}Sub-tasks: {', '.join(SUBTASKS[task])}"
        )
    return name


def parser(task: str, subtask: str, *, prog: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of one sub-task's words, with the flags that all sub-tasks share.

    Parameters
    ----------
    task, subtask
        The network and what it shall do, e.g. ``ssd``, ``train``.
    prog
        The command to show in the help and in messages; ``tao <task> <subtask>`` if not given.

    Returns
    -------
    argparse.ArgumentParser
        It raises :class:`UsageProblem` on a mistake, and prints and exits only for ``-h``. The key's
        default is the environment variable ``TAOMAGIC_KEY``.

    Raises
    ------
    UsageProblem
        If there is no such network or sub-task.
    """
    name = canonical_subtask(task, subtask)
    described = _NETWORKS[task][name]
    prog = (prog or f"tao {task} {name}").rstrip()
    result = _Parser(
        prog=prog,
        description=described.text,
        epilog=f"{errors.translate('Example:')}\n  {prog} {described.example}",
        formatter_class=HelpFormat,
    )
    described.add_flags(result)
    _add_common(result)
    return result


def help_text(task: str, subtask: str | None = None, *, prog: str | None = None) -> str:
    """Return the help of a sub-task, or the list of sub-tasks with a line on each."""
    if subtask is not None or SUBTASKS.get(task) == ("",):
        return parser(task, subtask or "", prog=prog).format_help()
    canonical_subtask(task, SUBTASKS.get(task, ("",))[0])
    width = max(map(len, SUBTASKS[task])) + 2
    lines = [f"  {name:<{width}}{_first_sentence(_NETWORKS[task][name].text)}" for name in SUBTASKS[task]]
    head = prog or f"tao {task}"
    usage, title, more = map(
        errors.translate, (f"usage: {head} SUBTASK ...", "Sub-tasks:", f"`{head} SUBTASK --help` tells more.")
    )
    return "\n".join([usage, "", title, *lines, "", more, ""])


def _first_sentence(text: str) -> str:
    return " ".join(re.split(r"(?<=[.。])", errors.translate(text), maxsplit=1)[0].split())


def split_common(words: Sequence[str]) -> tuple[list[str], str | None, list[str]]:
    """Split the words after the network's name at the sub-task.

    Flags that all sub-tasks share may stand before it: ``--gpus 1 --gpu_index 0 train -e spec.txt``.

    Parameters
    ----------
    words
        Everything after the network's name.

    Returns
    -------
    tuple
        The shared flags with their values from before the sub-task; the sub-task as written, or ``None`` if
        there is none; the words after it.

    Raises
    ------
    UsageProblem
        If something other than a shared flag stands before the sub-task.
    """
    front = _Parser(prog="tao", add_help=False)
    _add_common(front)
    head: list[str] = []
    rest = list(words)
    while rest and rest[0].startswith("-") and rest[0] not in ("-h", "--help"):
        flag, has_value, _ = rest[0].partition("=")
        action = _action_of(front, flag)
        head.append(rest.pop(0))
        if has_value or action.nargs == 0:
            continue
        count = _leading_integers(rest) if action.nargs == "+" else min(1, len(rest))
        head += rest[:count]
        del rest[:count]
    if not rest or rest[0].startswith("-"):
        return head, None, rest
    return head, rest[0], rest[1:]


def parse_arguments(task: str, words: Sequence[str], *, prog: str | None = None) -> argparse.Namespace:
    """Parse and check everything after the network's name.

    Parameters
    ----------
    task
        The network.
    words
        E.g. ``["--gpus", "1", "train", "-e", "spec.txt", "-r", "results"]``.
    prog
        The command to show in messages, without the sub-task; ``tao <task>`` if not given.

    Returns
    -------
    argparse.Namespace
        The sub-task's values under their names, and ``task``, ``subtask``, ``gpus``, ``gpu_index``,
        ``num_processes``, ``use_amp`` and ``log_file``.

    Raises
    ------
    UsageProblem
        If a flag is unknown or missing, or a value is not allowed.
    SystemExit
        After the help, with code 0.
    """
    prog = prog or f"tao {task}"
    if SUBTASKS.get(task) == ("",):
        namespace = parser(task, "", prog=prog).parse_args(list(words))
        namespace.task, namespace.subtask = task, ""
        check_arguments(namespace)
        return namespace
    head, word, rest = split_common(words)
    if word is None and rest:  # split_common stops at -h only
        sys.stdout.write(help_text(task, prog=prog))
        raise SystemExit(0)
    if word is None:
        raise UsageProblem(f"{prog} needs a sub-task", hint=f"Sub-tasks: {', '.join(SUBTASKS.get(task, ()))}")
    subtask = canonical_subtask(task, word)
    namespace = parser(task, subtask, prog=f"{prog} {subtask}").parse_args([*head, *rest])
    namespace.task, namespace.subtask = task, subtask
    check_arguments(namespace)
    _name_results_folder(namespace)
    return namespace


def _name_results_folder(arguments: argparse.Namespace) -> None:
    """Give `tao deploy` a folder where it has none: TAO 4.0 builds and evaluates engines without ``-r``."""
    if arguments.task.startswith("deploy ") and not arguments.results_dir:
        beside = getattr(arguments, "engine_file", "") or arguments.model
        arguments.results_dir = str(PurePosixPath(beside).parent)


def check_arguments(arguments: argparse.Namespace) -> None:
    """Raise :class:`UsageProblem` where flags don't go together.

    Parameters
    ----------
    arguments
        A parsed sub-task, with ``subtask`` set.
    """
    where = f"{arguments.task} {arguments.subtask}"
    if arguments.subtask != "train" and arguments.gpus > 1:
        raise UsageProblem(
            "only train runs on more than one GPU", where=where, hint=f"Drop --gpus {arguments.gpus}."
        )
    if arguments.subtask != "train" and arguments.use_amp:
        raise UsageProblem("mixed precision is for train only", where=where, hint="Drop --use_amp.")
    indices = arguments.gpu_index
    if indices is not None and len(set(indices)) != arguments.gpus:
        raise UsageProblem(
            f"--gpu_index names {len(set(indices))} GPU(s), --gpus says {arguments.gpus}",
            where=where,
            hint=f"Give --gpus {len(set(indices))} or as many different indices as --gpus says.",
        )
    folders = ("results_dir", "image_output_dir", "label_output_dir")
    if arguments.subtask == "inference" and not any(getattr(arguments, name) for name in folders):
        raise UsageProblem(
            "inference needs a folder for its results",
            where=where,
            hint="Give -r FOLDER (images_annotated/ and labels/ are made in it), or -o FOLDER for pictures, "
            "-l FOLDER for labels, or both.",
        )


def evaluation_purpose(arguments: argparse.Namespace) -> Literal["evaluate", "judge"]:
    """Return what an ``evaluate`` reads its experiment file for: ``-i`` and ``-l`` take the place of its images."""
    return "judge" if arguments.image_dir and arguments.label_dir else "evaluate"


def _action_of(front: argparse.ArgumentParser, flag: str) -> argparse.Action:
    """Return the shared flag that a word before the sub-task means."""
    options = {option: action for action in front._actions for option in action.option_strings}
    if flag in options:
        return options[flag]
    found = {
        id(action): action
        for option, action in options.items()
        if flag.startswith("--") and option.startswith(flag)
    }
    if len(found) == 1:
        return next(iter(found.values()))
    shown = sorted(option for option, action in options.items() if action.help != _HIDDEN)
    raise UsageProblem(
        f"{flag} can't stand before the sub-task" if not found else f"{flag} may mean several flags",
        hint=f"Put it after the sub-task. Before it: {', '.join(shown)}",
    )


def _leading_integers(words: Sequence[str]) -> int:
    count = 0
    while count < len(words) and words[count].isdigit():
        count += 1
    return count


def _add_common(target: argparse.ArgumentParser) -> None:
    group = target.add_argument_group("arguments that every sub-task takes")
    group.add_argument(
        "--gpus", type=positive, default=1, metavar="N", help="number of GPUs, train only (default: 1)"
    )
    group.add_argument(
        "--gpu_index",
        type=not_negative,
        nargs="+",
        metavar="I",
        help="which GPUs, as many as --gpus says (default: the first)",
    )
    processes = number(int, "-1 or a whole number above 0", lambda value: value == -1 or value > 0)
    group.add_argument(
        "-np",
        "--num_processes",
        type=processes,
        default=-1,
        metavar="N",
        help="processes to start (default: -1, one for each GPU)",
    )
    group.add_argument(
        "--use_amp", action="store_true", help="train in mixed precision, on a GPU; train only"
    )
    group.add_argument(
        "--log_file", metavar="FILE", help="also append everything that is printed to this file"
    )
    group.add_argument("--mpirun-arg", "--mpirun_arg", help=_HIDDEN)
    group.add_argument("--multi-node", "--multi_node", action="store_true", help=_HIDDEN)
    group.add_argument("--launch_cuda_blocking", action="store_true", help=_HIDDEN)
