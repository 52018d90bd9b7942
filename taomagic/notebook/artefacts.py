"""Which files a ``tao`` command should have left, by its own flags; and which of them it didn't."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from taomagic.errors import UsageProblem
from taomagic.launcher.command import Command
from taomagic.spec.arguments import SUBTASKS, parser

#: ``.tlt`` and ``.hdf5``.
_WEIGHTS = ".[th][ld][tf]*"
#: File systems round times, and a command may take over a file that is there already.
_SLACK_S = 2.0


def missing(command: Command, host: Callable[[str], Path], began: float) -> list[str]:
    """Return what a command that succeeded should have written and what isn't there, or is older than the command.

    Parameters
    ----------
    command
        A finished one.
    host
        Where a path of the command lies on this machine.
    began
        When it was started, in seconds since the epoch.

    Returns
    -------
    list of str
        Paths as the command has them. Empty for commands whose flags aren't known here.
    """
    if command.subtask not in SUBTASKS.get(command.engine_task, ()):
        return []
    try:
        given = parser(command.engine_task, command.subtask).parse_args(list(command.args))
    except (UsageProblem, SystemExit):
        return []  # help, or words that only a container understands
    return [
        wanted for wanted, since in _expected(command, given, began) if not _is_there(host, wanted, since)
    ]


def _expected(command: Command, given: Any, began: float) -> Iterator[tuple[str, float]]:
    """Yield the paths that a command writes, ``*`` for any name, and how old each may be at most."""

    def value(name: str) -> str:
        found = getattr(given, name, "")
        return found if isinstance(found, str) else ""

    began -= _SLACK_S
    results = value("results_dir").rstrip("/")
    match command.subtask:
        case "train":
            # A training that had ended before has nothing to do; its weights are as good as new ones.
            yield f"{results}/weights/{value('model_name') or '*'}{_WEIGHTS}", 0.0
            yield f"{results}/status.json", began
        case "dataset_convert":
            yield f"{value('output')}*", began
        case "inference" if results:
            yield f"{results}/images_annotated/*", began
        case "evaluate" if command.group == "deploy" and results:
            yield f"{results}/results.json", began
        case "prune" | "calibration_tensorfile":
            yield value("output"), began
        case "export":
            yield value("output"), began
            yield value("engine_file"), began
            yield value("cal_json_file"), 0.0
            if given.gen_ds_config and value("output"):
                yield value("output").rpartition("/")[0] + "/nvinfer_config.txt", began
        case "gen_trt_engine":
            yield value("engine_file"), began
            if value("data_type").lower() == "int8" and not value("cal_json_file"):
                yield value("cal_cache_file"), 0.0
        case "":  # the converter
            yield value("output"), began


def _is_there(host: Callable[[str], Path], wanted: str, since: float) -> bool:
    """Tell whether something of that name is there, isn't empty, and was written since."""
    if not wanted:
        return True
    path = host(wanted)
    return any(
        _was_written(each, since) for each in ([path] if path.exists() else path.parent.glob(path.name))
    )


def _was_written(path: Path, since: float) -> bool:
    try:
        facts = path.stat()
    except OSError:
        return False
    return facts.st_size > 0 and facts.st_mtime >= since
