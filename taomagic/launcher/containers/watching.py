"""Starting the process that watches over a container, and talking to it."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

from taomagic.errors import EnvironmentProblem
from taomagic.launcher import detached

#: Seconds that it may take to be ready; a machine that swaps needs a few.
START_LIMIT_S = 60.0


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
                detached.start_argv("taomagic.launcher.containers.watcher", directory),
                env=dict(environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise EnvironmentProblem(f"The command can't be started: {error}", hint="Try again.") from None

    def send(self, message: object) -> None:
        """Send a line: the request first, then how the start went."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # what it said instead of listening is told by `wait`
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def cancel(self) -> None:
        """Let it go: without a request it does nothing, without a word about the start it looks for itself."""
        if self._process.returncode is None:
            with contextlib.suppress(subprocess.TimeoutExpired, ValueError):
                self._process.communicate(timeout=START_LIMIT_S)

    def wait(self) -> None:
        """Wait until it watches.

        Raises
        ------
        EnvironmentProblem
            It doesn't.
        """
        try:
            said = self._process.communicate(timeout=START_LIMIT_S)[1].decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            self._process.kill()
            said = f"no answer in {START_LIMIT_S:.0f} s"
        if self._process.returncode != 0:
            raise EnvironmentProblem(
                f"The command can't be started: {said.strip()[-500:]}",
                hint="Check that the project folder can be written and the disk has room.",
            )
