"""`tao key check FILE`: ask the embedded engine about a model file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from taomagic.errors import UsageProblem
from taomagic.launcher.engine_question import ask_engine
from taomagic.spec.arguments import nearest, parser

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
    words = ["key", "check", "--", wanted.file]
    return ask_engine(words, wanted.key, say, _PREFIXES, "reads model files")
