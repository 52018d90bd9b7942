"""Where a command shall run: in the embedded engine or in a container; what was wished for, or what suits best."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.launcher import catalog
from taomagic.launcher.command import Command
from taomagic.launcher.context import Context

Backend = Literal["auto", "process", "docker"]
BACKENDS: tuple[Backend, ...] = ("auto", "process", "docker")
#: Names the image in which the embedded engine's tasks run, in place of NVIDIA's.
IMAGE_VARIABLE = "TAOMAGIC_IMAGE"


@dataclass(frozen=True)
class Choice:
    """Where a command runs.

    Parameters
    ----------
    backend
        ``process``: the embedded engine; ``docker``: a container; ``host``: the program of the task's name on this
        machine (``TAO_DOCKER_DISABLE``).
    image
        The container's image.
    why
        The reason, where nobody chose.
    """

    backend: Literal["process", "docker", "host"]
    image: str = ""
    why: str = ""


def wished(wish: str | None, environ: Mapping[str, str] | None = None) -> Backend:
    """Return the backend that is wished for: the argument, else ``TAOMAGIC_BACKEND``, else ``auto``.

    Raises
    ------
    UsageProblem
        There is no such backend.
    """
    variables = os.environ if environ is None else environ
    name = (wish or variables.get("TAOMAGIC_BACKEND") or "auto").lower()
    if name not in BACKENDS:
        near = catalog.nearest(name, BACKENDS)
        raise UsageProblem(f'There is no backend "{name}".', hint=f"{near}Backends: {', '.join(BACKENDS)}.")
    return name


def choose(command: Command, context: Context, wish: str | None = None) -> Choice:
    """Choose where a command runs.

    ``auto`` prefers NVIDIA's container where an engine with GPUs runs here and the image is here, since that is what
    the specs were written for; otherwise the embedded engine, where it knows the task; otherwise a container all the
    same.

    Raises
    ------
    UsageProblem
        There is no such backend.
    EnvironmentProblem
        The embedded engine can't run the command, or the release has no image for it.
    """
    backend = wished(wish, context.environ)
    if backend != "process" and context.environ.get("TAO_DOCKER_DISABLE", "0") not in {"", "0"}:
        return _without_docker(command, context)
    able = engine_runs(command)
    if backend == "process":
        if not able:
            raise EnvironmentProblem(
                f"The embedded engine can't run {command.label}.",
                where=f"tao {command.label}",
                hint=f"It runs: {shown_engine_tasks()}. In a container: --backend docker",
            )
        return Choice("process")
    ours = _is_ours_alone(command, context)
    if backend == "docker":
        if ours:
            raise EnvironmentProblem(
                f"NVIDIA's containers have no {command.label}.",
                where=f"tao {command.label}",
                hint="The embedded engine runs it: leave --backend docker out, or say --backend process.",
            )
        return Choice("docker", image_name(command, context))
    if not able:
        return Choice("docker", image_name(command, context), "the embedded engine doesn't know this task")
    missing = (
        "NVIDIA's containers don't have this sub-task" if ours else _missing_for_container(command, context)
    )
    if missing:
        return Choice("process", "", missing)
    return Choice("docker", image_name(command, context), "Docker, a GPU and the image are here")


def require_here(command: Command, wish: str | None, environ: Mapping[str, str]) -> None:
    """Check that a command can run in this very process (``--in-process``).

    Raises
    ------
    UsageProblem
        Containers are what is wished for; there is no such backend.
    EnvironmentProblem
        The embedded engine can't run the command.
    """
    if wished(wish, environ) == "docker":
        raise UsageProblem(
            "--in-process runs the embedded engine in this process, and the backend is docker.",
            where=f"tao {command.label}",
            hint="Add --backend process in front of the task.",
        )
    if not engine_runs(command):
        raise EnvironmentProblem(
            f"The embedded engine can't run {command.label}.",
            where=f"tao {command.label}",
            hint=f"--in-process means the embedded engine, and that runs: {shown_engine_tasks()}",
        )


def engine_runs(command: Command) -> bool:
    """Tell whether the embedded engine knows a command."""
    return command.subtask in catalog.engine_subtasks(command.group, command.task)


def _is_ours_alone(command: Command, context: Context) -> bool:
    """Tell whether only the embedded engine has a sub-task, and no image of ours is wished for."""
    theirs = catalog.container_subtasks(command.group, command.task) or ()
    # An image of ours runs the words of the group "model"; what `tao deploy` runs is told by NVIDIA's images.
    own = command.group == "model" and context.environ.get(IMAGE_VARIABLE, "").strip()
    # A task without sub-tasks, the converter, is theirs too.
    return engine_runs(command) and command.subtask not in ("", *theirs) and not own


def shown_engine_tasks() -> str:
    """Return what the embedded engine runs, for a message."""
    return catalog.engine_summary()


def image_name(command: Command, context: Context) -> str:
    """Return the image for a command: ``TAOMAGIC_IMAGE`` for the embedded engine's tasks, else the release's.

    Raises
    ------
    EnvironmentProblem
        The release has no image for the task.
    """
    own = context.environ.get(IMAGE_VARIABLE, "").strip()
    if own and command.group == "model" and catalog.engine_subtasks("model", command.task):
        return own
    return catalog.release().require_image(command.group, command.task).name


def _missing_for_container(command: Command, context: Context) -> str:
    """Return what keeps ``auto`` from NVIDIA's container; empty where nothing does."""
    from taomagic.launcher.containers import engine as engines
    from taomagic.launcher.containers.api import EngineProblem

    try:
        engine = engines.connect(context.environ)
        if not engines.facts(engine).has_gpus:
            return "the Docker engine here offers no GPU"
        from taomagic.launcher.containers import image_facts

        image = image_name(command, context)
        if image_facts.find(engine, image) is None:
            return f"the image {image} isn't here"
    except EngineProblem:
        return "no Docker engine runs here"
    except EnvironmentProblem as problem:
        return problem.message.rstrip(".")
    return ""


def _without_docker(command: Command, context: Context) -> Choice:
    """Return the choice where ``TAO_DOCKER_DISABLE`` is set: the task's program on this machine, else our engine."""
    import shutil

    if shutil.which(command.container_argv[0], path=context.environ.get("PATH")):
        return Choice("host", "", "TAO_DOCKER_DISABLE is set")
    if engine_runs(command):
        return Choice("process", "", "TAO_DOCKER_DISABLE is set")
    raise EnvironmentProblem(
        f'TAO_DOCKER_DISABLE is set, and there is no program "{command.container_argv[0]}" here.',
        where=f"tao {command.label}",
        hint="Unset TAO_DOCKER_DISABLE to run it in a container, or install the program.",
    )
