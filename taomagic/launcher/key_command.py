"""`tao key check FILE`: ask the embedded engine about a model file."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from taomagic.launcher.engine_question import Question, answer

_CHECK = Question(
    "key",
    "check",
    "tao key check FILE -k KEY",
    "Model file",
    "reads model files",
    lambda wanted: ["--", wanted.file],
)


def run(args: Sequence[str], say: Callable[[str], None] = print) -> int:
    """Carry out `tao key …`, see :func:`answer`.

    The exit code is 0 where the key opens the file or the file needs none, and 1 where it doesn't.
    """
    return answer(_CHECK, args, say)
