"""Runs a command in a container, as the container's own process, watched over by a process that outlives the kernel."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taomagic.errors import EnvironmentProblem
from taomagic.launcher import catalog, detached, records
from taomagic.launcher.command import Command
from taomagic.launcher.containers.api import Engine, EngineProblem
from taomagic.launcher.containers.container import EngineFacts, create_body
from taomagic.launcher.containers.endpoint import BadEndpoint, Endpoint
from taomagic.launcher.containers.problems import explain
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job
from taomagic.launcher.keys import split_key
from taomagic.launcher.runners.base import command_record, status_file

if TYPE_CHECKING:
    from taomagic.launcher.containers.images import ImageFacts

#: Seconds that starting may take; a machine that swaps needs a few, and the first container of a large image many.
START_LIMIT_S = 300.0
_MODULE = "taomagic.launcher.containers.watcher"


class DockerRunner:
    """Starts commands in containers.

    Parameters
    ----------
    engine, facts
        Where, and what it offers.
    image, image_name
        What of; the image is there already.
    why
        The reason for a container, where nobody chose.
    """

    name = "docker"

    def __init__(
        self, engine: Engine, facts: EngineFacts, image: ImageFacts, image_name: str, why: str = ""
    ) -> None:
        self._engine, self._facts, self._image, self._image_name, self._why = (
            engine,
            facts,
            image,
            image_name,
            why,
        )

    def start(self, command: Command, context: Context) -> Job:
        """Create the container and start it; see :meth:`taomagic.launcher.runners.base.Runner.start`.

        The key is a word of the container's command, as NVIDIA's tools want it, so `docker inspect` shows it there. It
        is in no label, no record and no log of ours.
        """
        endpoint = self._engine.endpoint
        directory = records.create(
            context.project_dir,
            {
                "backend": self.name,
                **command_record(command),
                "cwd": str(context.cwd),
                "engine_argv": [],
                "where": self._image_name,
                "why": self._why,
                "endpoint": _endpoint_record(endpoint),
                **(status_file(command, context) if endpoint.local else {}),
            },
            context.mounts,
        )
        try:
            body = create_body(
                command,
                context,
                self._image_name,
                job_id=directory.name,
                engine=self._facts,
                release=catalog.release().name,
                entrypoint=self._image.entrypoint,
            )
            _start_watcher(
                directory,
                {
                    "endpoint": _endpoint_record(endpoint),
                    "container": container_name(directory.name),
                    "key": command.key() or "",
                    "stop_signal": self._image.stop_signal,
                    "body": body,
                },
                context.environ,
                image=self._image_name,
            )
        except BaseException:
            # An interrupt may come when the container runs already: nothing may go on without a record.
            with contextlib.suppress(EngineProblem):
                self._engine.delete(f"/containers/{container_name(directory.name)}", force=True, v=True)
            shutil.rmtree(directory, ignore_errors=True)
            raise
        records.remember_project(context.project_dir, context.environ)
        records.prune(context.project_dir)
        return Job(directory)


def container_name(job_id: str) -> str:
    """Return the name of a job's container."""
    return f"taomagic-{job_id}"


def watch_again(directory: Path, record: Mapping[str, Any]) -> bool:
    """Start another watcher for a job that has lost its own.

    Parameters
    ----------
    directory, record
        The job's folder and the content of its ``job.json``.

    Returns
    -------
    bool
        Whether there is one now. It also finds out when the container is gone; ``False`` means that the engine can't be
        reached.
    """
    name = container_name(directory.name)
    key = ""
    try:
        engine = Engine(Endpoint(**record["endpoint"]))
        words = engine.get(f"/containers/{name}/json", timeout=10.0)["Config"].get("Cmd") or []
        key = split_key(words)[1] or ""  # so that it is masked in the rest of the log, too
    except BadEndpoint:
        return False
    except EngineProblem as problem:
        if problem.status != 404:
            return False
    request = {"endpoint": record["endpoint"], "container": name, "key": key}
    try:
        _start_watcher(directory, request, None)
    except EnvironmentProblem:
        return False
    return True


def _endpoint_record(endpoint: Endpoint) -> dict[str, object]:
    return {"url": endpoint.url, "tls_dir": endpoint.tls_dir, "verify": endpoint.verify}


def _start_watcher(
    directory: Path, request: Mapping[str, Any], environ: Mapping[str, str] | None, image: str = ""
) -> None:
    """Start the watcher and wait until the container runs.

    Raises
    ------
    EnvironmentProblem
        It doesn't; the engine's reason is explained.
    """
    try:
        started = subprocess.run(
            detached.start_argv(_MODULE, directory),
            input=json.dumps(request),
            env=None if environ is None else dict(environ),
            capture_output=True,
            text=True,
            timeout=START_LIMIT_S,
            start_new_session=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EnvironmentProblem(f"The container can't be started: {error}", hint="Try again.") from None
    if started.returncode == 0:
        return
    try:
        said = json.loads(started.stderr)
        message, status = str(said["message"]), int(said["status"])
    except (ValueError, KeyError, TypeError):
        message, status = started.stderr.strip()[-500:], -1
    if status >= 0:
        raise explain(EngineProblem(message, status), "start the container", image=image)
    raise EnvironmentProblem(
        f"The container can't be started: {message}",
        hint="Check that the project folder can be written and the disk has room.",
    )
