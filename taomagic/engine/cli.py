"""The engine's command line: the same words as in NVIDIA's containers, one process for each command.

Prints ``Execution status: PASS`` or ``FAIL`` last, and ends with 0, with 1 after an error, or with 128 + the signal.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from taomagic.engine.console import open_console, say
from taomagic.engine.signals import Stopped, asked_to_stop, install_handlers
from taomagic.engine.status import StatusLog
from taomagic.engine.training import members
from taomagic.errors import TaoError, UsageProblem
from taomagic.project.paths import PathMap
from taomagic.spec.arguments import SUBTASKS, parse_arguments

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    members.settle()
    install_handlers()
    args: argparse.Namespace | None = None
    paths = PathMap()
    try:
        args = parse_words(words)
        paths = PathMap.from_environment()
        if _wants_processes(args):
            _execute_in_processes(args, words, paths)
        else:
            execute(args, paths)
    except TaoError as problem:
        return _fail(args, paths, str(problem.message), where=problem.where, hint=problem.hint)
    except Stopped as stopped:
        return _stop(args, paths, stopped)
    except OSError as error:
        return _fail(args, paths, *_explain_os_error(error, args.subtask if args is not None else ""))
    except Exception as error:
        return _end_unforeseen(args, paths, error)
    if not members.has_launcher():
        say("Execution status: PASS")
    return 0


def _wants_processes(args: argparse.Namespace) -> bool:
    """Whether a command is to be carried out by several processes, and this isn't one of them."""
    count = args.gpus if args.num_processes == -1 else args.num_processes
    return args.subtask == "train" and count > 1 and not members.is_member()


def _execute_in_processes(args: argparse.Namespace, words: Sequence[str], paths: PathMap) -> None:
    """Let the processes do it that the command asks for."""
    _open_console(args, paths)
    from taomagic.engine.training.launch import launch

    launch(args, words)


def _open_console(args: argparse.Namespace, paths: PathMap) -> None:
    log_file = paths.to_host(args.log_file) if args.log_file and members.rank() == 0 else None
    open_console(log_file, verbose=getattr(args, "verbose", False))


def execute(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out a parsed command in this process, and let its errors through.

    Parameters
    ----------
    args
        From :func:`parse_words`.
    paths
        Container paths to host paths.
    """
    _open_console(args, paths)
    _tell_unused(args)
    if args.launch_cuda_blocking:
        os.environ["CUDA_LAUNCH_BLOCKING"] = "1"  # read when the GPU is used for the first time
    # Imported here: `--help` and a misspelt flag must not wait for torch.
    importlib.import_module(module_of(args.task, args.subtask)).run(args, paths)


def module_of(task: str, subtask: str) -> str:
    """Return the module that carries out a sub-task."""
    group, _, network = task.rpartition(" ")
    if task == "converter":
        return "taomagic.engine.converter.convert"
    if task == "device":
        return "taomagic.engine.device_bundle.command"
    # Both groups have an evaluate and an inference.
    prefix = "deploy_" if group == "deploy" and subtask in {"evaluate", "inference"} else ""
    return f"taomagic.engine.{network}.{prefix}{subtask}"


#: Flags that NVIDIA's commands take and that have nothing to act on here: name in the parsed arguments -> why.
_UNUSED = {
    "mpirun_arg": "processes are started without MPI",
    "multi_node": "for several machines start this command with torchrun on each of them",
}


def _tell_unused(args: argparse.Namespace) -> None:
    """Say which of the flags given do nothing, so that nobody waits for their effect."""
    for name, reason in _UNUSED.items():
        if getattr(args, name, None) not in {None, "", False}:
            logger.warning("--%s is not used: %s.", name, reason)
    if args.num_processes > 1 and args.subtask != "train":
        logger.warning("--num_processes %d is not used: only train has several.", args.num_processes)


def parse_words(words: Sequence[str]) -> argparse.Namespace:
    """Parse ``<task> <sub-task> …``.

    Raises
    ------
    UsageProblem
        The task, the sub-task or a flag is wrong.
    """
    count = 2 if words[:1] == ["deploy"] else 1
    task = " ".join(words[:count])
    if task not in SUBTASKS:
        raise UsageProblem(
            f"the embedded engine has no task {task!r}" if words else "a task is missing",
            hint=f"Tasks: {', '.join(SUBTASKS)}",
        )
    return parse_arguments(task, words[count:])


def _explain_exception(error: Exception) -> tuple[str, str, str]:
    """Return message, place and hint for what no one foresaw; the log keeps the traceback of a mistake of ours."""
    name, text = type(error).__name__, str(error)
    # PyTorch has an error of its own for a full GPU (known by name, torch may not be imported here), none for a CPU;
    # OpenCV names the function that found no memory.
    if isinstance(error, MemoryError) or "OutOfMemoryError" in (name + text) or "DefaultCPUAllocator" in text:
        return (
            " ".join(["the memory is full:", *text.splitlines()[:1]]).rstrip(": "),
            "",
            "Lower batch_size_per_gpu (batch_size in eval_config), or the image size.",
        )
    if members.lost_others(error):
        return f"another process of this training has ended: {text}", "", ""
    if members.rank() > 0:
        sys.stderr.write(f"In process {members.rank()}:\n")
    traceback.print_exception(error, file=sys.stderr if members.rank() > 0 else sys.stdout)
    return (
        f"unexpected {name}: {text}",
        "",
        "This is a mistake in taomagic, not yours; please report it with the log.",
    )


def _explain_os_error(error: OSError, subtask: str) -> tuple[str, str, str]:
    """Return message, place and hint for what the operating system refused to a sub-task."""
    where = str(error.filename or "")
    if error.errno == errno.ENOSPC:
        hint = "Free some space and give the same command again."
        if subtask == "train":
            hint = "Free some space and give the same command again: a training resumes from its last checkpoint."
        return "the disk is full", where, hint
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return (
            f"not allowed: {error.strerror}",
            where,
            "Check who owns this file or folder, and its permissions.",
        )
    if error.errno in {errno.EEXIST, errno.ENOTDIR}:
        return (
            f"a file is where a folder is needed: {error.strerror}",
            where,
            "Give another folder, or move the file away.",
        )
    return (
        str(error.strerror or error),
        where,
        "Check this path, and that files can be read and written there.",
    )


def _end_unforeseen(args: argparse.Namespace | None, paths: PathMap, error: Exception) -> int:
    if (stopped := asked_to_stop()) is not None:
        return _stop(args, paths, stopped)
    if members.lost_others(error):
        return _fail(args, paths, f"another process of this training has ended: {error}", lost_others=True)
    return _fail(args, paths, *_explain_exception(error))


def _stop(args: argparse.Namespace | None, paths: PathMap, stopped: Stopped) -> int:
    if not members.has_launcher():
        write_failure(args, paths, f"Stopped by {stopped}")
        say(f"Stopped by {stopped}.")
        say("Execution status: FAIL")
    return stopped.exit_code


def _fail(
    args: argparse.Namespace | None,
    paths: PathMap,
    message: str,
    where: str = "",
    hint: str = "",
    *,
    lost_others: bool = False,
) -> int:
    if members.is_member():
        members.report(message, where=where, hint=hint, lost_others=lost_others)
        if members.has_launcher() or members.rank() > 0:
            return 1
    text = f"{where}: {message}" if where else message
    write_failure(args, paths, text)
    say(f"ERROR: {text}")
    if hint:
        say(f"HINT: {hint}")
    say("Execution status: FAIL")
    return 1


def write_failure(args: argparse.Namespace | None, paths: PathMap, message: str) -> None:
    """Record the failure in ``status.json`` where the command has a results folder that exists."""
    results_dir = getattr(args, "results_dir", None)
    if not results_dir:
        return
    folder = paths.to_host(results_dir)
    try:
        if folder.is_dir():
            StatusLog(folder).write("FAILURE", message)
    except OSError:
        pass  # the error that is being reported matters more than its record
