"""What came out of a cell, and whether that is a success: nbclient alone calls everything one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

#: The private output in which the kernel says how a shell line or a ``tao`` command ended; taken out again.
STATUS_MIME = "application/vnd.taomagic.status+json"
State = Literal["ok", "failed", "not run"]

# What shells, their programs and the notebooks' own lines print when something went wrong. A failing `a; b`, a pipe or
# an `if` may end with code 0, so the codes alone don't tell.
_ERROR_LINE = re.compile(
    r"No such file or directory|\bcannot (?:find|access|open|stat|create|remove)\b|: Permission denied|: not found$"
    r"|\bfile not found\b|command not found|unable to resolve host|(?<!no )(?<!not )(?<!\b0 )\bcorrupt(?:ed)?\b"
    r"|Execution status: FAIL|^Traceback \(most recent call last\)|^UsageError: |^Error response from daemon"
    r"|^Segmentation fault|^Error: (?!\d)"
    # The level of a log line, in the manners of pip, wget, Python's logging and TAO; not the word in a URL or sentence.
    r"|^(?>\[[^\]]*\]|[\W\dTZ])*+ERROR\b(?! ?\()|\bERROR:|\[ERROR\]|- ERROR -"
)
_HARMLESS = re.compile(
    # A line that says itself that it is none.
    r"\[(?:DEBUG|INFO|WARNING)\]|^[\W\dTZ]*+(?:DEBUG|INFO|WARNING)\b"
    # TensorFlow looks for libraries of CUDA and goes on without; telemetry that reaches nobody.
    r"|\bdlerror: |urlopen error|[Tt]elemetry"
    # pip tells of other packages' wishes behind an installation that went well.
    r"|ERROR: pip's dependency resolver does not"
    # TAO 3's notebooks: `else \\ echo "…"` calls a program named " echo" for a remark.
    r"|:  echo: (?:command )?not found$"
)
_SLIP = re.compile(r"\\ echo ")
_NO_SUCH_PROGRAM = 127
_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SHOWN = 160


@dataclass
class CellReport:
    """How a code cell went.

    Attributes
    ----------
    number, total
        Its place among the notebook's code cells that have code, from 1; and how many these are.
    title
        Its first ``tao`` command, else its first line.
    seconds
        Time taken; 0 where it didn't run.
    state
        ``ok``, ``failed`` or ``not run``.
    problems
        What went wrong, a sentence each.
    """

    number: int
    total: int
    title: str
    seconds: float = 0.0
    state: State = "not run"
    problems: list[str] = field(default_factory=list)


def title_of(source: str) -> str:
    """Return the line that tells what a cell is about."""
    joined = re.sub(r"\\\n\s*", " ", source)
    lines = [line.strip() for line in joined.splitlines() if line.strip()]
    commands = [line for line in lines if re.match(r"(?:!|%+)\s*(?:tao|tlt)\b", line)]
    told = [line for line in lines if not line.startswith("#")]
    first = (commands or told or lines or [""])[0]
    return re.sub(r"\s+", " ", first)


def judge(outputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what went wrong in a cell, by its outputs.

    Parameters
    ----------
    outputs
        As nbformat has them, those of :data:`STATUS_MIME` among them.

    Returns
    -------
    list of str
        A sentence for each Python exception, shell line that failed or was stopped, ``tao`` command that failed or
        left out a file, and for the first line of the output that tells of an error. Empty where all went well.
    """
    problems: list[str] = []
    unseen: list[str] = []
    for output in outputs:
        if output.get("output_type") == "error":
            problems.append(_shortened(f"{output.get('ename')}: {output.get('evalue')}"))
        status = output.get("data", {}).get(STATUS_MIME)
        if status:
            (unseen if status.get("kind") == "launcher" else problems).extend(_of_status(status))
    # In a pipe, a script, or a call of Python's, nobody else has told of it.
    problems = problems or unseen
    # A command that failed has said why, and one line of it is enough.
    error = next((line for line in _lines(outputs) if tells_of_an_error(line)), "")
    if error and not any(error in problem for problem in problems):
        problems.append(f"In the output: {_shortened(error)}")
    return problems


def tells_of_an_error(line: str) -> bool:
    """Tell whether a line of a cell's output says that something failed."""
    return bool(_ERROR_LINE.search(line)) and not _HARMLESS.search(line)


def without_status(outputs: Sequence[Any]) -> list[Any]:
    """Return the outputs of a cell without those that only we read."""
    return [output for output in outputs if STATUS_MIME not in output.get("data", {})]


def _of_status(status: Mapping[str, Any]) -> list[str]:
    what = _shortened(str(status.get("what", "")), 60)
    if status.get("refused"):
        return [f"Stopped before it ran: {what}: {status['refused']}"]
    problems = []
    if status.get("kind") == "job":
        if status.get("state") != "succeeded":
            problems.append(f"{what}: {status.get('state')}")
    elif status.get("exit") and not (
        status["exit"] == _NO_SUCH_PROGRAM and _SLIP.search(str(status.get("what", "")))
    ):
        problems.append(f"Exit code {status['exit']}: {what}")
    return problems + [f"{what} left no {path}" for path in status.get("missing", ())]


def _lines(outputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of text that a reader of the outputs sees."""
    text = "\n".join(
        str(output.get("text", "")) for output in outputs if output.get("output_type") == "stream"
    )
    return [line.strip() for line in re.split(r"[\r\n]+", _TERMINAL.sub("", text)) if line.strip()]


def _shortened(text: str, width: int = _SHOWN) -> str:
    text = " ".join(_TERMINAL.sub("", text).split())
    return text if len(text) <= width else f"{text[: width - 1]}…"
