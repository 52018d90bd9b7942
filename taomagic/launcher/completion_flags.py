"""The flags of a sub-task as completion needs them: spellings, and what their values are."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Flag:
    """One flag.

    Parameters
    ----------
    spellings
        Of all generations, the usual one first.
    takes
        How many values: 0, 1, or -1 for any number.
    kind
        What they are: ``spec``, ``model``, ``folder``, ``images``, ``file``, ``choice``, a ``$VARIABLE`` that usually
        stands there, or nothing that is known.
    choices
        The values where ``kind`` is ``choice``.
    required
        Whether the sub-task needs it.
    hidden
        Taken, and not advertised.
    """

    spellings: tuple[str, ...]
    takes: int = 1
    kind: str = ""
    choices: tuple[str, ...] = ()
    required: bool = False
    hidden: bool = False


#: What NVIDIA's entry point takes, in front of the sub-task as well.
COMMON = (
    Flag(("--gpus",), kind="$NUM_GPUS"),
    Flag(("--gpu_index",), takes=-1, kind="$GPU_INDEX"),
    Flag(("-np", "--num_processes")),
    Flag(("--use_amp",), takes=0),
    Flag(("--log_file",), kind="file"),
)
# What nearly every task of the containers takes, under the names that NVIDIA's notebooks use.
_USUAL = (
    Flag(("-e", "--experiment_spec_file"), kind="spec"),
    Flag(("-m", "--model_path"), kind="model"),
    Flag(("-r", "--results_dir"), kind="folder"),
    Flag(("-k", "--key"), kind="$KEY"),
)
_OUTPUT = Flag(("-o", "--output_file"), kind="file")
_MORE = {
    "inference": (Flag(("-i", "--image_dir"), kind="images"),),
    "export": (_OUTPUT,),
    "prune": (_OUTPUT,),
    "gen_trt_engine": (Flag(("--engine_file",), kind="file"),),
}
_CONVERT = (
    Flag(("-d", "--dataset_export_spec"), kind="spec"),
    Flag(("-o", "--output_filename"), kind="file"),
    Flag(("-r", "--results_dir"), kind="folder"),
)
_KINDS = {
    "spec": "spec",
    "model": "model",
    "key": "$KEY",
    "gpus": "$NUM_GPUS",
    "gpu_index": "$GPU_INDEX",
    "image_dir": "images",
    "cal_image_dir": "images",
}


@cache
def flags_of(group: str, task: str, subtask: str) -> tuple[Flag, ...]:
    """Return the flags of a sub-task: those of our own command line where the network is ours, else the usual ones."""
    from taomagic.spec.arguments import SUBTASKS, parser

    ours = f"deploy {task}" if group == "deploy" else task
    if group != "dataset" and subtask in SUBTASKS.get(ours, ()):
        actions = parser(ours, subtask)._actions
        return tuple(_flag(action) for action in actions if action.option_strings and action.dest != "help")
    if group == "model" and subtask == "dataset_convert":
        return (*_CONVERT, *COMMON)
    return (*_USUAL, *_MORE.get(subtask, ()), *COMMON)


def visible(flags: Iterable[Flag]) -> Iterator[str]:
    """Yield all spellings."""
    return (spelling for flag in flags for spelling in flag.spellings)


def _flag(action: argparse.Action) -> Flag:
    kind = _KINDS.get(action.dest, "")
    if action.choices:
        kind = "choice"
    elif not kind and (action.metavar == "FOLDER" or action.dest.endswith("_dir")):
        kind = "folder"
    elif not kind and (action.metavar in {"FILE", "PREFIX"} or action.dest.endswith("_file")):
        kind = "file"
    return Flag(
        tuple(action.option_strings),
        takes=1 if action.nargs is None else 0 if action.nargs == 0 else -1,
        kind=kind,
        choices=tuple(map(str, action.choices or ())),
        required=action.required,
        hidden=action.help == argparse.SUPPRESS,
    )
