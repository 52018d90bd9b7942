"""From a command to a running job: choose where, check, start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from taomagic.errors import UsageProblem
from taomagic.launcher import backends
from taomagic.launcher.command import Command, needs_terminal, reject_empty
from taomagic.launcher.context import Context

if TYPE_CHECKING:
    from taomagic.launcher.containers.images import PullProgress
    from taomagic.launcher.job import Job
    from taomagic.launcher.runners.base import Runner
    from taomagic.launcher.runners.inprocess import InProcessRun


class PullView(Protocol):
    """Shows how far an image is pulled, and asks for the registry's key."""

    def __call__(self, progress: PullProgress) -> None:
        """Show how far the pull is."""

    def ask(self, prompt: str) -> str:
        """Ask for a secret; an empty text where nobody answers."""


def launch(
    command: Command,
    context: Context | None = None,
    *,
    backend: str | None = None,
    runner: Runner | None = None,
    pull_view: Callable[[], PullView] | None = None,
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
    pull_view
        Makes what shows how far the image is pulled, if it must be.

    Returns
    -------
    Job
        It runs, and needs this process no more.
    tuple of str
        Warnings to show.

    Raises
    ------
    TaoError
        The command is wrong or can't be started; see :func:`taomagic.launcher.preflight.check` and
        :func:`taomagic.launcher.containers.checks.check`.
    """
    if command.wants_shell:
        raise needs_terminal(command)
    context = _checked(command, context)
    choice = backends.choose(command, context, backend) if runner is None else backends.Choice("process")
    if choice.backend == "docker":
        from taomagic.launcher.containers import starting

        return starting.start(command, context, choice, pull_view)
    if choice.backend == "host":
        from taomagic.launcher.runners.process import HostRunner

        return HostRunner().start(command, context), ()
    return _as_process(command, context, choice, runner)


def launch_in_process(
    command: Command, context: Context | None = None, *, backend: str | None = None
) -> tuple[InProcessRun, tuple[str, ...]]:
    """Check a command that shall run in this very process, for debugging, and record it.

    Parameters
    ----------
    command, context, backend
        As for :func:`launch`.

    Returns
    -------
    InProcessRun
        Its ``carry_out`` runs the command.
    tuple of str
        Warnings to show.

    Raises
    ------
    TaoError
        The command is wrong, can't be started, or doesn't run in this process.
    """
    context = _checked(command, context)
    backends.require_here(command, backend, context.environ)
    from taomagic.launcher import preflight
    from taomagic.launcher.runners.inprocess import InProcessRun

    warnings = preflight.check(command, context)
    return InProcessRun(command, context), warnings


def _checked(command: Command, context: Context | None) -> Context:
    """Return what a command is started with, after a look at its words."""
    context = context or Context.current()
    reject_empty(command)
    _reject_undecodable(command, context)
    if command.volumes:
        context = replace(context, mounts=context.mounts.resolve(context.cwd, command.volumes))
    return context


def _reject_undecodable(command: Command, context: Context) -> None:
    """Refuse words that aren't text: neither a record nor an engine's API, both JSON, can hold them as they are."""
    words = [*command.typed, *(part for volume in command.volumes for part in volume)]
    for word in (*words, str(context.cwd), str(context.project_dir)):
        if "\0" in word:
            shown = word.replace("\0", "\ufffd")
            raise UsageProblem(
                f'"{shown}" holds a null character.',
                where=f"tao {command.label}",
                hint="No file has such a name, and no program can be given it.",
            )
        if any("\ud800" <= letter <= "\udfff" for letter in word):
            shown = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in word)
            raise UsageProblem(
                f'"{shown}" isn\'t UTF-8 text.',
                where=f"tao {command.label}",
                hint="A file or folder with such a name must be renamed.",
            )


def _as_process(
    command: Command, context: Context, choice: backends.Choice, runner: Runner | None
) -> tuple[Job, tuple[str, ...]]:
    from taomagic.launcher import preflight
    from taomagic.launcher.runners.process import ProcessRunner

    warnings = preflight.check(command, context)
    return (runner or ProcessRunner(why=choice.why)).start(command, context), warnings
