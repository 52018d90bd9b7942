"""Which files a ``tao`` command should have left, by its own flags; and which of them it didn't."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from taomagic.errors import UsageProblem
from taomagic.launcher.command import Command
from taomagic.spec.arguments import SUBTASKS, parse_arguments

_MODELS, _EXPORTS = (".tlt", ".hdf5"), (".onnx", ".etlt")
#: The same as :data:`_MODELS`, for a search.
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
        given = parse_arguments(command.engine_task, [*filter(None, (command.subtask,)), *command.args])
    except (UsageProblem, SystemExit):
        return []  # help, or words that only a container understands
    return [
        wanted[0]
        for wanted, since in _expected(command, given, began - _SLACK_S)
        if not any(_is_there(host, each, since) for each in wanted)
    ]


def _expected(command: Command, given: Any, began: float) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield what a command writes, in one of several places, and how old it may be at most; ``*`` is any name."""

    def value(name: str) -> str:
        found = getattr(given, name, "")
        return found if isinstance(found, str) else ""

    results = value("results_dir").rstrip("/")
    match command.subtask:
        case "train":
            # A training that had ended before has nothing to do; its weights are as good as new ones.
            yield (f"{results}/weights/{value('model_name') or '*'}{_WEIGHTS}",), 0.0
            yield (f"{results}/status.json",), began
        case "dataset_convert":
            yield (f"{value('output')}*",), began
        case "inference" if results:
            # The file with the settings may leave out one of the two.
            yield (f"{results}/images_annotated/*", f"{results}/labels/*"), began
        case "inference":
            for folder in filter(None, (value("image_output_dir"), value("label_output_dir"))):
                yield (f"{folder.rstrip('/')}/*",), began
        case "evaluate" if command.group == "deploy":
            yield (f"{results}/results.json",), began
        case "prune":
            yield (_named(value("output"), _MODELS),), began
        case "calibration_tensorfile" | "":  # the converter has no sub-tasks
            yield (value("output"),), began
        case "export":
            output = _named(value("output"), _EXPORTS) if value("output") else _stem(value("model")) + ".*"
            yield (output,), began
            yield from _engine(value, began)
            yield (value("cal_json_file"),), 0.0
            if given.gen_ds_config:
                yield (f"{_folder(output)}nvinfer_config.txt",), began
        case "gen_trt_engine":
            if not value("engine_file"):
                name = _stem(value("model")).rpartition("/")[2]
                yield (f"{results}/{name}.{value('data_type')}.engine",), began
            yield from _engine(value, began)


def _engine(value: Callable[[str], str], began: float) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield an engine that was asked for, and the cache of its calibration, which may have been there before."""
    yield (value("engine_file"),), began
    if value("data_type") == "int8":
        yield (value("cal_cache_file"),), 0.0


def _named(output: str, suffixes: tuple[str, ...]) -> str:
    """Return the name of a file that gets a suffix where it has none of its kind."""
    return output if output.endswith(suffixes) else f"{output}.*"


def _stem(path: str) -> str:
    return path.removesuffix(PurePosixPath(path).suffix)


def _folder(path: str) -> str:
    return path[: path.rfind("/") + 1]


def _is_there(host: Callable[[str], Path], wanted: str, since: float) -> bool:
    """Tell whether something of that name is there, isn't empty, and was written since.

    The labels of an image on which nothing was found are an empty text.
    """
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
    return (facts.st_size > 0 or path.suffix == ".txt") and facts.st_mtime >= since
