"""The contract of a runner: how a checked command becomes a running :class:`~taomagic.launcher.job.Job`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from taomagic.launcher.command import Command
from taomagic.launcher.context import Context
from taomagic.launcher.detached import MASK, SHORTEST_KEY

if TYPE_CHECKING:
    from taomagic.launcher.job import Job


class Runner(Protocol):
    """Starts commands. A job that it has started needs neither the runner nor this process any more.

    Attributes
    ----------
    name
        What ``--backend`` calls it.
    """

    name: str

    def start(self, command: Command, context: Context) -> Job:
        """Write the job's record, then start the command.

        The key, if there is one, must not be in any record, and in the embedded engine's case in no command line: that
        gets it by ``TAOMAGIC_KEY``.

        Raises
        ------
        EnvironmentProblem
            The command can't be started; no job is left behind.
        """
        ...


def command_record(command: Command) -> dict[str, object]:
    """Return a command as a job's record holds it: its parts and the way to show it, the key nowhere in them."""
    bare = command.without_key()
    keys = [key for key in command.secrets() if len(key) >= SHORTEST_KEY]

    def hide(text: str) -> str:
        # Somebody may have named a folder after the key; in a record that counts as told, too.
        for key in keys:
            text = text.replace(key, MASK)
        return text

    return {
        "command": {
            "action": bare.action,
            "group": bare.group,
            "task": bare.task,
            "subtask": bare.subtask,
            "args": [hide(word) for word in bare.args],
        },
        "shown": hide(command.masked()),
    }


def status_file(command: Command, context: Context) -> dict[str, object]:
    """Return where a command writes its ``status.json``, and its size so far, as a job's record holds them."""
    results = command.option("-r", "--results_dir")
    if not results:
        return {}
    file = context.host(results) / "status.json"
    size = 0
    with contextlib.suppress(OSError):
        size = file.stat().st_size
    return {"status_file": str(file), "status_offset": size}
