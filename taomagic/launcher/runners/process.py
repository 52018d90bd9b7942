"""Runs the embedded engine as a process of its own, which outlives the kernel or shell that started it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import taomagic
from taomagic.errors import EnvironmentProblem
from taomagic.launcher import detached, processes, records
from taomagic.launcher.command import Command
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job
from taomagic.launcher.keys import MASKED_VARIABLE, mask_key, masked_keys, split_key
from taomagic.launcher.runners.base import command_record, status_file

#: Seconds that starting may take; a machine that swaps needs a few.
START_LIMIT_S = 60.0


class ProcessRunner:
    """Starts the embedded engine under a supervisor.

    Parameters
    ----------
    engine_argv
        The program and its first words; the task, sub-task and arguments are added. By default this Python with
        ``-m taomagic.engine``.
    why
        The reason for the embedded engine, where nobody chose.
    """

    #: What a job's record calls the place.
    where = "embedded engine"

    name = "process"

    def __init__(self, engine_argv: Sequence[str] | None = None, why: str = "") -> None:
        self._why = why
        # -P: a file torch.py or json.py in the notebook's folder must not be imported in place of the real one.
        self._program = list(engine_argv or (sys.executable, "-P", "-u", "-m", "taomagic.engine"))

    def start(self, command: Command, context: Context) -> Job:
        """Start the engine; see :meth:`taomagic.launcher.runners.base.Runner.start`."""
        argv = self._argv(command)
        directory = records.create(
            context.project_dir,
            {
                "backend": self.name,
                **command_record(command),
                "cwd": str(context.cwd),
                "engine_argv": argv,
                "where": self.where,
                "why": self._why,
                **status_file(command, context),
            },
            context.mounts,
        )
        try:
            self._launch(directory, self._environ(command, context, directory))
        except BaseException:
            # An interrupt may come when the engine runs already: nothing may go on without a record.
            process = records.read_json(directory / "process.json")
            if process is not None:
                processes.send("kill", process, directory, argv)
            shutil.rmtree(directory, ignore_errors=True)
            raise
        records.remember_project(context.project_dir, context.environ)
        records.prune(context.project_dir)
        return Job(directory)

    def _argv(self, command: Command) -> list[str]:
        return [*self._program, *command.without_key().words]

    def _masked(self, command: Command) -> tuple[str, ...]:
        """Return what the arguments have stars for."""
        return masked_keys(split_key(command.args)[0])

    def _environ(self, command: Command, context: Context, directory: Path) -> dict[str, str]:
        environ = dict(context.environ)
        if (key := command.key()) is not None:
            environ["TAOMAGIC_KEY"] = key
        environ[MASKED_VARIABLE] = json.dumps(self._masked(command))
        environ["LAUNCHER_MOUNTS"] = str(directory / "mounts.json")
        # Not every sub-task has a results folder, and a record of what it did is wanted of each.
        environ["TAOMAGIC_STATUS_DIR"] = str(directory)
        environ["PYTHONUNBUFFERED"] = "1"
        environ["PYTHONIOENCODING"] = "utf-8"
        root = Path(taomagic.__file__).parents[1]
        if root.name not in {"site-packages", "dist-packages"}:
            # A source tree that isn't installed: the engine must find the same taomagic as we.
            environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(root), environ.get("PYTHONPATH", ""))))
        return environ

    @staticmethod
    def _launch(directory: Path, environ: dict[str, str]) -> None:
        try:
            started = subprocess.run(
                detached.start_argv("taomagic.launcher.supervisor", directory),
                env=environ,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=START_LIMIT_S,
                start_new_session=True,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EnvironmentProblem(f"The command can't be started: {error}", hint="Try again.") from None
        if started.returncode != 0:
            raise EnvironmentProblem(
                f"The command can't be started: {started.stderr.strip()[-500:]}",
                hint="Check that the project folder can be written and the disk has room.",
            )


class HostRunner(ProcessRunner):
    """Runs the program of the task's name on this machine, as NVIDIA's launcher does with ``TAO_DOCKER_DISABLE=1``.

    That is for those who are inside NVIDIA's container already. The words, with the keys among them, go to the program
    as they were typed; the record holds stars in place of the keys, and the supervisor puts them back.
    """

    where = "this machine"

    def _argv(self, command: Command) -> list[str]:
        program, *words = command.container_argv
        return [program, *mask_key(words)]

    def _masked(self, command: Command) -> tuple[str, ...]:
        return masked_keys(command.container_argv[1:])
