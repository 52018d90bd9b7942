"""What makes sense after a stage: commands with this stage's files, ready to be pasted into a cell.

The key is never part of them: they say ``$KEY``, as NVIDIA's notebooks do.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from taomagic.launcher.job import Job
from taomagic.launcher.keys import MASK
from taomagic.launcher.progress import Artefact, Snapshot
from taomagic.launcher.states import JobState
from taomagic.view import next_steps_detectnet

#: What a model file ends in, the encrypted ones first.
MODELS = ("tlt", "etlt", "hdf5", "onnx")
_TASKS = frozenset({"ssd", "dssd", "detectnet_v2"})
_SPEC = ("-e", "--experiment_spec", "--experiment_spec_file")
_MODEL = ("-m", "--model", "--model_path")
_RESULTS = ("-r", "--results_dir")

#: Path variables of TAO notebooks that name folders in the container.
VARIABLES = ("SPECS_DIR", "USER_EXPERIMENT_DIR", "DATA_DOWNLOAD_DIR")

Step = tuple[str, str]


def after(job: Job, snapshot: Snapshot, environ: Mapping[str, str] = os.environ) -> list[Step]:
    """Return ``(what it does, command)`` for what makes sense now; nothing where nothing is known.

    Parameters
    ----------
    job
        The job that ended.
    snapshot
        Its final state.
    environ
        Where the path variables are: paths are written with them, as people do.
    """
    return [(title, _shortened(command, environ)) for title, command in _steps(job, snapshot, environ)]


def _shortened(command: str, environ: Mapping[str, str]) -> str:
    """Return a command with ``$NAME`` for the folders that have one, the most special ones first; not in quotes."""
    folders = {name: environ.get(name, "").rstrip("/") for name in VARIABLES}
    for name, folder in sorted(folders.items(), key=lambda item: -len(item[1])):
        if folder.count("/") > 1:
            command = re.sub(rf"(?<![\w/']){re.escape(folder)}(?=/)", f"${name}", command)
    return command


def _steps(job: Job, snapshot: Snapshot, environ: Mapping[str, str]) -> list[Step]:
    command, state = job.command, snapshot.state
    if command.group != "model" or command.task not in _TASKS:
        return []
    if state is not JobState.SUCCEEDED:
        stopped = state is JobState.STOPPED and command.subtask == "train"
        return [("Go on with this training where it was stopped", _as_typed(job))] if stopped else []
    spec, given = _value(command.args, _SPEC), _value(command.args, _MODEL)
    written = _last_model(snapshot.artefacts)
    if command.task == "detectnet_v2":
        model = given if command.subtask == "evaluate" else written
        return next_steps_detectnet.steps(command.subtask, spec, model, environ)
    steps: list[Step] = []
    match command.subtask:
        case "train" if written:
            steps = [
                _evaluate(command.task, spec, written),
                _prune(command.task, written),
                _export(command.task, spec, written),
            ]
        case "prune" if written:
            steps = [
                _evaluate(command.task, "", written),
                (
                    "Train the smaller model again, with an experiment file that names it",
                    f"%tao {command.task} train -e SPEC_FOR_RETRAINING -r {_folder(written, 'retrained')} -k $KEY",
                ),
            ]
        case "evaluate" if given.endswith((".tlt", ".hdf5")):
            steps = [_prune(command.task, given), _export(command.task, spec, given)]
        case "export" if written:
            steps = [_evaluate(command.task, spec, written)]
    return steps


def _evaluate(task: str, spec: str, model: str) -> Step:
    return "Evaluate this model", f"%tao {task} evaluate -e {_word(spec) or 'SPEC'} -m {_word(model)} -k $KEY"


def _prune(task: str, model: str) -> Step:
    target = PurePosixPath(model)
    pruned = target.with_name(f"{target.stem}_pruned{target.suffix}")
    return (
        "Prune it",
        f"%tao {task} prune -m {_word(model)} -o {_word(str(pruned))} -eq intersection -pth 0.5 -k $KEY",
    )


def _export(task: str, spec: str, model: str) -> Step:
    onnx = PurePosixPath(model).with_suffix(".onnx")
    words = f"%tao {task} export -m {_word(model)} -e {_word(spec) or 'SPEC'} -o {_word(str(onnx))} -k $KEY"
    return "Export it for other programs", words


def _as_typed(job: Job) -> str:
    """Return a command as it was typed, with ``$KEY`` in place of the key."""
    return "%" + job.shown.replace(MASK, "$KEY")


def _last_model(artefacts: Sequence[Artefact]) -> str:
    return next((each.container for each in reversed(artefacts) if each.kind in MODELS), "")


def _value(args: Sequence[str], flags: Sequence[str]) -> str:
    """Return what stands behind a flag, in either form; empty where it isn't given."""
    for index, word in enumerate(args):
        name, equals, value = word.partition("=")
        if name in flags:
            return value if equals else "".join(args[index + 1 : index + 2])
    return ""


def _word(text: str) -> str:
    return shlex.quote(text) if text else ""


def _folder(model: str, name: str) -> str:
    return _word(str(PurePosixPath(model).parent / name))
