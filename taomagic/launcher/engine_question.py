"""Words that the embedded engine answers at once, in a process of its own and without a job.

The file formats are the engine's, and so are the packages that they need; nothing of that is imported here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence

from taomagic.errors import EnvironmentProblem
from taomagic.project.mounts import find_mounts
from taomagic.spec.arguments_common import KEY_VARIABLE


def ask_engine(
    words: Sequence[str], key: str, say: Callable[[str], None], prefixes: Mapping[str, str], purpose: str
) -> int:
    """Let the embedded engine carry out a command, and show what it says.

    Parameters
    ----------
    words
        The command, without the key.
    key
        It goes by the environment: other people on the machine can read a process's arguments.
    say
        Shows a line.
    prefixes
        How the engine's lines begin, and what stands there instead.
    purpose
        What the engine does here, for the error: ``reads model files``.

    Returns
    -------
    int
        The engine's exit code.

    Raises
    ------
    EnvironmentProblem
        The engine's packages aren't installed.
    """
    environ = {**os.environ, KEY_VARIABLE: key}
    if (mounts := find_mounts(environ)) is not None:
        environ["LAUNCHER_MOUNTS"] = str(mounts)
    done = subprocess.run(
        [sys.executable, "-P", "-m", "taomagic.engine", *words],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        if not line.startswith("Execution status:"):
            prefix = next((each for each in prefixes if line.startswith(each)), "")
            say(prefixes.get(prefix, "") + line.removeprefix(prefix))
    if "ModuleNotFoundError" in done.stderr:
        raise EnvironmentProblem(
            f"The embedded engine, which {purpose}, isn't complete here.",
            hint="Install it: pip install 'taomagic[engine]'",
        )
    if done.stderr:
        say(done.stderr.rstrip())
    return done.returncode
