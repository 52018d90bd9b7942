"""From a command to a running container: engine, image, checks, start."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from taomagic.errors import EnvironmentProblem
from taomagic.launcher import records
from taomagic.launcher.containers.api import Engine, EngineProblem
from taomagic.launcher.containers.engine import connect, facts
from taomagic.launcher.containers.image_facts import ImageFacts, find
from taomagic.launcher.containers.watching import Watcher
from taomagic.launcher.runners.docker import DockerRunner
from taomagic.project.mounts import MountMap

#: The label of our own image; see ``docker/Dockerfile``.
OWN_LABEL = "taomagic.engine"
#: Quick mode, which is the embedded engine's.
QUICK_MODE = "TAOMAGIC_STEPS_PER_EPOCH"
#: What changes how the embedded engine works.
ENGINE_VARIABLES = (
    QUICK_MODE,
    "TAOMAGIC_DEVICE",
    "DATA_BASE_PATH",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
)

if TYPE_CHECKING:
    from taomagic.launcher.backends import Choice
    from taomagic.launcher.command import Command
    from taomagic.launcher.containers.container import EngineFacts
    from taomagic.launcher.context import Context
    from taomagic.launcher.job import Job
    from taomagic.launcher.launch import PullView


def start(
    command: Command,
    context: Context,
    choice: Choice,
    pull_view: Callable[[], PullView | None] | None = None,
) -> tuple[Job, tuple[str, ...]]:
    """Check a command for its container and start it there; see :func:`taomagic.launcher.launch.launch`."""
    engine = connect(context.environ)
    # First of all, since it takes as long to load as everything before the container's start.
    watcher = Watcher(records.new_folder(context.project_dir), context.environ)
    try:
        context, offered, image, warnings = prepare(command, context, choice.image, engine, pull_view)
        runner = DockerRunner(engine, offered, image, choice.image, choice.why, watcher)
        return runner.start(command, context), warnings
    finally:
        watcher.cancel()


def prepare(
    command: Command,
    context: Context,
    name: str,
    engine: Engine,
    pull_view: Callable[[], PullView | None] | None,
) -> tuple[Context, EngineFacts, ImageFacts, tuple[str, ...]]:
    """Check a command, and see to it that its image is here.

    Returns
    -------
    Context
        With the mounts as an engine needs them.
    EngineFacts, ImageFacts, tuple of str
        What the engine offers, the image, and warnings to show.

    Raises
    ------
    TaoError
        It can't be started.
    """
    from taomagic.launcher.containers import checks
    from taomagic.launcher.containers.container import gpu_warning

    context = replace(context, mounts=context.mounts.resolve(context.cwd, command.volumes))
    try:
        offered = facts(engine)
        warnings = checks.check(command, context, local=offered.local)
        image = find(engine, name)
        if image is None:
            from taomagic.launcher.containers import images

            image = images.ensure(engine, name, context.environ, report=pull_view() if pull_view else None)
    except EngineProblem as problem:
        from taomagic.launcher.containers.problems import explain

        raise explain(problem, "be reached", image=name) from None
    if OWN_LABEL in image.labels:
        return _like_the_process(context), offered, image, warnings  # it needs no GPU
    refuse_quick_mode(command, context.environ, name)
    warning = gpu_warning(command, offered)
    return context, offered, image, (*warnings, *filter(None, (warning,)))


def refuse_quick_mode(command: Command, environ: Mapping[str, str], image: str) -> None:
    """Refuse a training that is to be quick in an image that isn't ours: it would take hours.

    Raises
    ------
    EnvironmentProblem
        As said.
    """
    steps = environ.get(QUICK_MODE, "").strip()
    if command.subtask == "train" and steps.strip("0"):
        raise EnvironmentProblem(
            f"Quick mode is the embedded engine's; {image} would train whole epochs.",
            where=f"{QUICK_MODE}={steps}",
            hint="Choose --backend process, or unset the variable.",
        )


def _like_the_process(context: Context) -> Context:
    """Give our own image the variables that the embedded engine listens to, so that it does the same."""
    heard = {name: context.environ[name] for name in ENGINE_VARIABLES if name in context.environ}
    mounts = context.mounts
    return replace(context, mounts=MountMap(mounts.mounts, {**heard, **mounts.envs}, mounts.docker_options))
