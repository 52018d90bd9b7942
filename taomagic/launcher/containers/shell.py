"""A shell in a task's container, for a person at a terminal: what `tao TASK` alone means with NVIDIA's launcher."""

from __future__ import annotations

import secrets
import shutil
import signal
import subprocess
import sys
from types import FrameType

from taomagic import errors
from taomagic.errors import EnvironmentProblem
from taomagic.launcher import backends, catalog
from taomagic.launcher.command import Command, needs_terminal
from taomagic.launcher.containers import begin
from taomagic.launcher.containers.api import EngineProblem
from taomagic.launcher.containers.container import create_body
from taomagic.launcher.containers.engine import connect
from taomagic.launcher.containers.problems import explain
from taomagic.launcher.containers.shell_guard import removed_at_the_end
from taomagic.launcher.containers.starting import prepare
from taomagic.launcher.context import Context
from taomagic.launcher.launch import PullView

#: NVIDIA's launcher opens bash; an image without it has sh.
SHELL = ("/bin/sh", "-c", "/bin/bash -c : 2>/dev/null && exec /bin/bash; exec /bin/sh")


def open_shell(command: Command, context: Context, pull_view: PullView | None = None) -> int:
    """Open a shell in a container of the task's image, and remove the container when it ends.

    Parameters
    ----------
    command
        One with ``wants_shell``.
    context
        Its mounts, user and settings are those of a command.
    pull_view
        Shows how far the image is pulled, if it must be.

    Returns
    -------
    int
        The shell's exit code.

    Raises
    ------
    UsageProblem
        There is no terminal.
    EnvironmentProblem
        The container can't be started, containers are switched off, or the ``docker`` command isn't here: a terminal's
        keys are its business.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise needs_terminal(command)
    if context.environ.get("TAO_DOCKER_DISABLE", "0") not in {"", "0"}:
        raise EnvironmentProblem(
            "TAO_DOCKER_DISABLE is set, so there is no container to open a shell in.",
            where=f"tao {command.label}",
            hint="Unset TAO_DOCKER_DISABLE, or run the program here: tao TASK run COMMAND …",
        )
    if shutil.which("docker") is None:
        raise EnvironmentProblem(
            "A shell in a container needs the `docker` command, and it isn't on the PATH.",
            where=f"tao {command.label}",
            hint="Install Docker's command line, or run single commands: tao TASK run COMMAND …",
        )
    image_name = backends.image_name(command, context)
    engine = connect(context.environ)
    context, offered, image, warnings = prepare(command, context, image_name, engine, lambda: pull_view)
    for warning in warnings:
        print(errors.translate(f"Warning: {warning}"), file=sys.stderr)
    name = f"taomagic-shell-{secrets.token_hex(5)}"
    body = create_body(
        command,
        context,
        image_name,
        job_id=name,
        engine=offered,
        release=catalog.release().name,
        entrypoint=image.entrypoint,
    )
    body.update(Cmd=list(SHELL), Tty=True, OpenStdin=True, StdinOnce=True)
    body.update(AttachStdin=True, AttachStdout=True, AttachStderr=True)
    # The shell is process 1, as with `docker run -it`: an engine may lack its init, and only begin.start mends that.
    body["HostConfig"].update(AutoRemove=True, Init=False)
    body["Labels"] = {label: value for label, value in body["Labels"].items() if label != "taomagic.job"}
    # A terminal that is closed doesn't end a shell in a container.
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, _leave)
    # A socket that we found by ourselves, `docker` may not find; DOCKER_HOST and contexts it knows as we do.
    environ = dict(context.environ)
    if engine.endpoint.local:
        environ["DOCKER_HOST"] = engine.endpoint.url
    with removed_at_the_end(engine.endpoint, name, environ):
        try:
            begin.create(engine, name, body)
        except EngineProblem as problem:
            raise explain(problem, "open the shell", image=image_name) from None
        return subprocess.run(["docker", "start", "-a", "-i", name], env=environ, check=False).returncode


def _leave(number: int, _frame: FrameType | None) -> None:
    """Leave by way of everything that tidies up."""
    raise SystemExit(128 + number)
