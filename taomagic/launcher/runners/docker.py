"""Runs a command in a container, as the container's own process, watched over by a process that outlives the kernel."""

from __future__ import annotations

import contextlib
import json
import os
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
from taomagic.launcher.keys import split_key
from taomagic.launcher.runners.base import command_record, status_file

if TYPE_CHECKING:
    from taomagic.launcher.containers.images import ImageFacts
    from taomagic.launcher.context import Context
    from taomagic.launcher.job import Job

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
                "endpoint": _endpoint_record(endpoint),
                **(status_file(command, context) if endpoint.local else {}),
            },
            context.mounts,
            watcher.directory,
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
            watcher.send(
                {
                    "endpoint": _endpoint_record(endpoint),
                    "container": container_name(directory.name),
                    "key": command.key() or "",
                    "stop_signal": self._image.stop_signal,
                    "body": body,
                }
            )
            # What shows the job is loaded while the container starts.
            from taomagic.launcher.job import Job

            watcher.wait(self._image_name)
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
        watcher = Watcher(directory, os.environ)
        watcher.send(request)
        watcher.wait()
    except EnvironmentProblem:
        return False
    return True


def _endpoint_record(endpoint: Endpoint) -> dict[str, object]:
    return {"url": endpoint.url, "tls_dir": endpoint.tls_dir, "verify": endpoint.verify}


class Watcher:
    """The process that will watch over a job's container: started at once, told its task when that is known.

    Parameters
    ----------
    directory
        The job's folder; it need not be there yet.
    environ
        Its environment.

    Raises
    ------
    EnvironmentProblem
        It can't be started.
    """

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self.directory = directory
        try:
            self._process = subprocess.Popen(
                detached.start_argv(_MODULE, directory),
                env=dict(environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise EnvironmentProblem(f"The container can't be started: {error}", hint="Try again.") from None

    def send(self, request: Mapping[str, Any]) -> None:
        """Say what to do."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it said instead of listening is told by `wait`
            self._process.stdin.write(json.dumps(request).encode())
            self._process.stdin.close()
        self._process.stdin = None  # `communicate` would flush it

    def cancel(self) -> None:
        """Let it go without a task."""
        if self._process.stdin is not None:
            self._process.communicate()

    def wait(self, image: str = "") -> None:
        """Wait until the container runs.

        Raises
        ------
        EnvironmentProblem
            It doesn't; the engine's reason is explained.
        """
        try:
            said = self._process.communicate(timeout=START_LIMIT_S)[1].decode("utf-8", "replace")
        except subprocess.TimeoutExpired as error:
            self._process.kill()
            raise EnvironmentProblem(f"The container can't be started: {error}", hint="Try again.") from None
        if self._process.returncode == 0:
            return
        try:
            reason = json.loads(said)
            message, status = str(reason["message"]), int(reason["status"])
        except (ValueError, KeyError, TypeError):
            message, status = said.strip()[-500:], -1
        if status >= 0:
            from taomagic.launcher.containers.problems import explain

            raise explain(EngineProblem(message, status), "start the container", image=image)
        raise EnvironmentProblem(
            f"The container can't be started: {message}",
            hint="Check that the project folder can be written and the disk has room.",
        )
