"""The contract of a runner: how a checked command becomes a running :class:`~taomagic.launcher.job.Job`."""

from __future__ import annotations

from typing import Protocol

from taomagic.launcher.command import Command
from taomagic.launcher.context import Context
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

        The key, if there is one, must reach the command by ``TAOMAGIC_KEY`` only: it is in no record and no command
        line.

        Raises
        ------
        EnvironmentProblem
            The command can't be started; no job is left behind.
        """
        ...
