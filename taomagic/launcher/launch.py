"""From a command to a running job: check, choose the runner, start."""

from __future__ import annotations

from taomagic.launcher import preflight
from taomagic.launcher.command import Command
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job
from taomagic.launcher.runners.base import Runner
from taomagic.launcher.runners.process import ProcessRunner


def launch(
    command: Command,
    context: Context | None = None,
    *,
    backend: str | None = None,
    runner: Runner | None = None,
) -> tuple[Job, tuple[str, ...]]:
    """Check a command and start it.

    Parameters
    ----------
    command
        With ``action == "run"``.
    context
        What it is started with; that of this process by default.
    backend
        ``auto``, ``process`` or ``docker``; by default ``TAOMAGIC_BACKEND``, else ``auto``.
    runner
        Who starts it, in place of the one that ``backend`` means.

    Returns
    -------
    Job
        It runs, and needs this process no more.
    tuple of str
        Warnings to show.

    Raises
    ------
    TaoError
        The command is wrong or can't be started; see :func:`taomagic.launcher.preflight.check`.
    """
    context = context or Context.current()
    warnings = preflight.check(
        command, context, backend=preflight.choose_backend(backend, dict(context.environ))
    )
    return (runner or ProcessRunner()).start(command, context), warnings
