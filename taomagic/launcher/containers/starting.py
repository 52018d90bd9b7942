"""From a command to a running container: engine, image, checks, start."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from taomagic.launcher.containers import images
from taomagic.launcher.containers.api import EngineProblem
from taomagic.launcher.containers.engine import connect, facts

if TYPE_CHECKING:
    from taomagic.launcher.backends import Choice
    from taomagic.launcher.command import Command
    from taomagic.launcher.context import Context
    from taomagic.launcher.job import Job
    from taomagic.launcher.launch import PullView


def start(
    command: Command,
    context: Context,
    choice: Choice,
    pull_view: Callable[[], PullView] | None = None,
) -> tuple[Job, tuple[str, ...]]:
    """Check a command for its container and start it there; see :func:`taomagic.launcher.launch.launch`."""
    from taomagic.launcher.containers import checks
    from taomagic.launcher.containers.container import gpu_warning
    from taomagic.launcher.containers.problems import explain
    from taomagic.launcher.runners.docker import DockerRunner

    engine = connect(context.environ)
    try:
        offered = facts(engine)
        warnings = list(checks.check(command, context, local=offered.local))
        warning = gpu_warning(command, offered)
        image = images.find(engine, choice.image)
        if image is None:
            view = pull_view() if pull_view else None
            image = images.ensure(engine, choice.image, context.environ, report=view)
    except EngineProblem as problem:
        raise explain(problem, "be reached", image=choice.image) from None
    if warning:
        warnings.append(warning)
    return DockerRunner(engine, offered, image, choice.image, choice.why).start(command, context), tuple(
        warnings
    )
