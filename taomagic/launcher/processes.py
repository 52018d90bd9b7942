"""Who runs a job, and how to signal it without ever hitting a stranger that got the same process number."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

Wish = Literal["stop", "kill"]

#: What the supervisor understands. A second SIGTERM kills as well.
_TO_SUPERVISOR = {"stop": signal.SIGTERM, "kill": signal.SIGUSR1}
_TO_ENGINE = {"stop": signal.SIGINT, "kill": signal.SIGKILL}


def is_supervisor(pid: int, directory: Path) -> bool:
    """Tell whether process ``pid`` is alive and supervises the job in ``directory``.

    The command line names the job, so a number given to another process, after a restart of the machine too,
    isn't mistaken for it; and unlike a start time it doesn't move when the clock is set.
    """
    words = _command_line(pid)
    return (
        words is not None
        and any("import main; sys.exit(main())" in word for word in words)
        # A project may be reached by several paths.
        and os.path.realpath(words[-1]) == os.path.realpath(directory)
    )


def describe_own() -> dict[str, Any]:
    """Return the ``process.json`` of a job that this process itself carries out."""
    return {"supervisor": os.getpid(), "argv": _command_line(os.getpid())}


def is_alive(process: Mapping[str, Any], directory: Path) -> bool:
    """Tell whether the one who carries out the job in ``directory`` is there: its supervisor, or a process itself.

    Parameters
    ----------
    process
        The job's ``process.json``.
    """
    pid = int(process["supervisor"])
    if "argv" in process:
        # A notebook's kernel has the name of its connection file in its command line, which no other one has.
        return bool(_command_line(pid) == process["argv"])
    return is_supervisor(pid, directory)


def send(wish: Wish, process: Mapping[str, Any], directory: Path, engine_argv: list[str]) -> None:
    """Stop or kill a job.

    Parameters
    ----------
    process
        The job's ``process.json``.
    engine_argv
        The engine's command line: it is signalled itself where its supervisor is gone.
    """
    supervisor, engine = int(process["supervisor"]), process.get("engine")
    if "argv" in process:
        # Somebody's kernel: interrupted, as its own ■ does, and never killed.
        if is_alive(process, directory):
            with contextlib.suppress(ProcessLookupError):
                os.kill(supervisor, signal.SIGINT)
    elif is_supervisor(supervisor, directory):
        with contextlib.suppress(ProcessLookupError):
            os.kill(supervisor, _TO_SUPERVISOR[wish])
    elif engine is not None and _command_line(int(engine)) == engine_argv:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(engine), _TO_ENGINE[wish])


def _command_line(pid: int) -> list[str] | None:
    """Return the words of a living process, ``None`` where it is gone, a zombie, or somebody else's."""
    if sys.platform == "linux":  # psutil takes 20 ms to load
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return None
        # A zombie has none, and so has a kernel thread.
        return [os.fsdecode(word) for word in words.split(b"\0")[:-1]] or None
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return list(process.cmdline())
    except psutil.Error:
        return None


def signal_name(number: int) -> str:
    """Return ``SIGKILL`` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
