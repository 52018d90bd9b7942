"""Runs a command in a container, as the container's own process, watched over by a process that outlives the kernel."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taomagic.errors import EnvironmentProblem
from taomagic.launcher import catalog, records
from taomagic.launcher.command import Command
from taomagic.launcher.containers import begin
from taomagic.launcher.containers.api import Engine, EngineProblem
from taomagic.launcher.containers.container import EngineFacts, create_body
from taomagic.launcher.containers.endpoint import BadEndpoint, Endpoint
from taomagic.launcher.containers.watching import Watcher
from taomagic.launcher.keys import find_keys
from taomagic.launcher.runners.base import command_record, status_file

if TYPE_CHECKING:
    from taomagic.launcher.containers.image_facts import ImageFacts
    from taomagic.launcher.context import Context
    from taomagic.launcher.job import Job


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
    watcher
        One that has been started ahead for this command.
    """

    name = "docker"

    def __init__(
        self,
        engine: Engine,
        facts: EngineFacts,
        image: ImageFacts,
        image_name: str,
        why: str = "",
        watcher: Watcher | None = None,
    ) -> None:
        self._watcher = watcher
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
        watcher = self._watcher or Watcher(records.new_folder(context.project_dir), context.environ)
        directory = records.create(
            context.project_dir,
            {
                "backend": self.name,
                **command_record(command),
                "cwd": str(context.cwd),
                "engine_argv": [],
                "where": self._image_name,
                "why": self._why,
                "endpoint": endpoint.as_record(),
                **(status_file(command, context) if endpoint.local else {}),
            },
            context.mounts,
            watcher.directory,
        )
        name = container_name(directory.name)
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
            self._begin(name, body, watcher, command.secrets())
        except BaseException:
            # An interrupt may come when the container runs already: nothing may go on without a record.
            watcher.cancel()
            begin.remove(self._engine, name)
            shutil.rmtree(directory, ignore_errors=True)
            raise
        records.remember_project(context.project_dir, context.environ)
        records.prune(context.project_dir)
        from taomagic.launcher.job import Job

        return Job(directory)

    def _begin(self, name: str, body: dict[str, Any], watcher: Watcher, keys: Sequence[str]) -> None:
        """Create the container, start it and have it watched."""
        try:
            # Before there is a container: if we are killed, the watcher tidies up.
            watcher.send(
                {
                    "endpoint": self._engine.endpoint.as_record(),
                    "container": name,
                    "keys": list(keys),
                    "stop_signal": self._image.stop_signal,
                    "new": True,
                }
            )
            begin.create(self._engine, name, body)
            refused = begin.start(self._engine, name, body)
        except EngineProblem as problem:
            from taomagic.launcher.containers.problems import explain

            raise explain(problem, "start the container", image=self._image_name) from None
        watcher.send(refused)
        watcher.wait()


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
    keys: tuple[str, ...] = ()
    try:
        engine = Engine(Endpoint(**record["endpoint"]))
        words = engine.get(f"/containers/{name}/json", timeout=10.0)["Config"].get("Cmd") or []
        keys = find_keys(words)  # so that it is masked in the rest of the log, too
    except BadEndpoint:
        return False
    except EngineProblem as problem:
        if problem.status != 404:
            return False
    request = {"endpoint": record["endpoint"], "container": name, "keys": list(keys)}
    try:
        watcher = Watcher(directory, os.environ)
        watcher.send(request)
        watcher.wait()
    except EnvironmentProblem:
        return False
    return True
