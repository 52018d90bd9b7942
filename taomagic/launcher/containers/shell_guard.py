"""The process that removes a shell's container when whoever opened the shell is gone, killed outright perhaps.

It holds nothing but the other end of a pipe: that is closed by any end of the process that has it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from taomagic.errors import EnvironmentProblem
from taomagic.launcher import detached
from taomagic.launcher.containers import begin
from taomagic.launcher.containers.api import Engine
from taomagic.launcher.containers.endpoint import Endpoint

#: Seconds that the removal is waited for; it goes on without us.
_PATIENCE_S = 20.0


@contextmanager
def removed_at_the_end(endpoint: Endpoint, name: str, environ: Mapping[str, str]) -> Iterator[None]:
    """Remove a container at the end of the block, or of this process.

    Parameters
    ----------
    endpoint
        The container's engine.
    name
        The container's name; it need not be there yet.
    environ
        The guard's environment: an engine behind SSH needs the person's.

    Raises
    ------
    EnvironmentProblem
        There can be no guard.
    """
    try:
        guard = subprocess.Popen(
            detached.start_argv("taomagic.launcher.containers.shell_guard", Path(name)),
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        raise EnvironmentProblem(f"The command can't be started: {error}", hint="Try again.") from None
    assert guard.stdin is not None
    try:
        guard.stdin.write(json.dumps(endpoint.as_record()).encode() + b"\n")
        guard.stdin.flush()
        yield
    finally:
        try:
            guard.communicate(timeout=_PATIENCE_S)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            begin.remove(Engine(endpoint), name)


def main() -> int:
    """Read the engine's address from stdin, wait for the end of stdin, and remove the container named on the line."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")  # so that no disk stays busy because of us
    record = json.loads(sys.stdin.buffer.readline())
    sys.stdin.buffer.read()
    begin.remove(Engine(Endpoint(**record)), sys.argv[1])
    return 0
