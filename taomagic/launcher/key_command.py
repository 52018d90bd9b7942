"""`tao key check FILE`: ask the embedded engine about a model file, in a process of its own.

The file formats are the engine's, and so is the package that decrypts; nothing of that is imported here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.spec.arguments import nearest, parser
from taomagic.spec.arguments_common import KEY_VARIABLE

_PREFIXES = {"ERROR: ": "Model file: ", "HINT: ": "Hint: "}


def run(args: Sequence[str], say: Callable[[str], None] = print) -> int:
    """Carry out `tao key …`.

    Parameters
    ----------
    args
        The words behind ``key``.
    say
        Shows a line.

    Returns
    -------
    int
        The exit code: 0 where the key opens the file or the file needs none, 1 where it doesn't.

    Raises
    ------
    UsageProblem
        A word is wrong or missing.
    EnvironmentProblem
        The engine's packages aren't installed.
    """
    if not args or args[0] != "check":
        near = nearest(args[0], ["check"]) if args else None
        raise UsageProblem(
            f"`tao key` doesn't know {args[0]}." if args else "`tao key` needs a word: check.",
            hint=("Did you mean check? " if near else "") + "tao key check FILE -k KEY",
        )
    try:
        wanted = parser("key", "check").parse_args(list(args[1:]))
    except SystemExit as ended:  # argparse has printed its help
        return int(ended.code or 0)
    # The key goes by the environment: other people on the machine can read a process's arguments.
    done = subprocess.run(
        [sys.executable, "-P", "-m", "taomagic.engine", "key", "check", "--", wanted.file],
        env={**os.environ, KEY_VARIABLE: wanted.key},
        capture_output=True,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        if not line.startswith("Execution status:"):
            prefix = next((each for each in _PREFIXES if line.startswith(each)), "")
            say(_PREFIXES.get(prefix, "") + line.removeprefix(prefix))
    if "ModuleNotFoundError" in done.stderr:
        raise EnvironmentProblem(
            "The embedded engine, which reads model files, isn't complete here.",
            hint="Install it: pip install 'taomagic[engine]'",
        )
    if done.stderr:
        say(done.stderr.rstrip())
    return done.returncode
