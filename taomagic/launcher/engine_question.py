"""Words that the embedded engine answers at once, in a process of its own and without a job.

The file formats are the engine's, and so are the packages that they need; nothing of that is imported here.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.project.mounts import find_mounts
from taomagic.spec.arguments import nearest, parser
from taomagic.spec.arguments_common import KEY_VARIABLE


@dataclass(frozen=True)
class Question:
    """Two words of `tao` that the engine answers.

    Attributes
    ----------
    task, word
        ``key`` and ``check``.
    usage
        How it is written, for the hint.
    title
        In front of the engine's errors.
    purpose
        What the engine does here, for the error where it is missing: ``reads model files``.
    words
        The engine's words behind those two, from the parsed ones of the person; without the key.
    """

    task: str
    word: str
    usage: str
    title: str
    purpose: str
    words: Callable[[argparse.Namespace], Sequence[str]]


def answer(question: Question, args: Sequence[str], say: Callable[[str], None]) -> int:
    """Read the words behind the task, let the embedded engine carry out what they ask, and show what it says.

    Parameters
    ----------
    question
        What may be asked.
    args
        The words behind the task.
    say
        Shows a line.

    Returns
    -------
    int
        The engine's exit code.

    Raises
    ------
    UsageProblem
        A word is wrong or missing.
    EnvironmentProblem
        The engine's packages aren't installed.
    """
    task, word = question.task, question.word
    if not args or args[0] != word:
        near = nearest(args[0], [word]) if args else None
        raise UsageProblem(
            f"`tao {task}` doesn't know {args[0]}." if args else f"`tao {task}` needs a word: {word}.",
            hint=(f"Did you mean {word}? " if near else "") + question.usage,
        )
    try:
        wanted = parser(task, word).parse_args(list(args[1:]))
    except SystemExit as ended:  # argparse has printed its help
        return int(ended.code or 0)
    return _ask([task, word, *question.words(wanted)], wanted.key, say, question)


def _ask(words: Sequence[str], key: str, say: Callable[[str], None], question: Question) -> int:
    # The key goes by the environment: other people on the machine can read a process's arguments.
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
    prefixes = {"ERROR: ": f"{question.title}: ", "HINT: ": "Hint: "}
    for line in done.stdout.splitlines():
        if not line.startswith("Execution status:"):
            prefix = next((each for each in prefixes if line.startswith(each)), "")
            say(prefixes.get(prefix, "") + line.removeprefix(prefix))
    if "ModuleNotFoundError" in done.stderr:
        raise EnvironmentProblem(
            f"The embedded engine, which {question.purpose}, isn't complete here.",
            hint="Install it: pip install 'taomagic[engine]'",
        )
    if done.stderr:
        say(done.stderr.rstrip())
    return done.returncode
