"""Our own options on a ``%tao`` line. They stand before the task, because TAO has flags of the same names."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from taomagic.errors import UsageProblem
from taomagic.launcher.backends import BACKENDS
from taomagic.launcher.catalog import nearest

#: The options, and whether they take a value.
OPTIONS = {
    "-o": True,
    "--out": True,
    "--background": False,
    "--raw": False,
    "--in-process": False,
    "--backend": True,
    "--release": True,
    "--volume": True,
}
#: The languages of our own words.
LANGUAGES = ("en", "zh")
_FIELDS = {"-o": "out", "--volume": "volumes", "--in-process": "in_process"}
_FLAG = r"(?P<flag>--background|--raw|--in-process)(?!\S)"
_NAMED = r"(?P<named>-o|--out|--backend|--release|--volume)(?:=|\s+)(?P<value>\"[^\"]+\"|'[^']+'|[^\s-]\S*)"
_OPTION = re.compile(rf"\s*(?:{_FLAG}|{_NAMED})")


@dataclass(frozen=True)
class Options:
    """What stands before the task of a ``%tao`` line.

    Parameters
    ----------
    out
        The variable that gets the result.
    background
        Return at once, with the job.
    raw
        Show the log as it is.
    in_process
        Run in this very process, for debugging.
    backend
        Where to run; empty for what is set elsewhere.
    release
        The TAO release; empty for what is set elsewhere.
    volumes
        The values of ``--volume``, not expanded yet.
    awaited
        Whether the cell awaits the command; said by the cell's form, not on the line.
    """

    out: str = ""
    background: bool = False
    raw: bool = False
    in_process: bool = False
    backend: str = ""
    release: str = ""
    volumes: tuple[str, ...] = field(default=())
    awaited: bool = False


def take_options(line: str) -> tuple[Options, str]:
    """Split our own options off the front of a line.

    Returns
    -------
    Options
        What they say.
    str
        The rest, as it was written.

    Raises
    ------
    UsageProblem
        An option is unknown, has no value, or one that isn't allowed.
    """
    found: dict[str, Any] = {}
    volumes: list[str] = []
    while match := _OPTION.match(line):
        name, value, line = match["flag"] or match["named"], match["value"], line[match.end() :]
        if name == "--volume":
            volumes.append(value)
        else:
            found[_FIELDS.get(name, name[2:])] = True if match["flag"] else value
    options = Options(**found, volumes=tuple(volumes))
    if options.out and not options.out.isidentifier():
        raise UsageProblem(f"{options.out!r} can't be a variable.", hint="%tao -o result ssd train …")
    check_in_process(options.in_process, background=options.background, backend=options.backend)
    if options.backend and options.backend not in BACKENDS:
        raise UsageProblem(
            f"There is no backend {options.backend!r}.",
            hint=f"{nearest(options.backend, BACKENDS)}Backends: {', '.join(BACKENDS)}.",
        )
    if line.lstrip().startswith("-") and line.split()[0] not in {"-h", "--help"}:
        _refuse(line.split()[0])
    return options, line


def check_in_process(wish: bool, *, background: bool, backend: str) -> None:
    """Refuse what ``--in-process`` can't go together with.

    Raises
    ------
    UsageProblem
        It stands beside --background, or beside a backend that isn't the embedded engine.
    """
    if wish and background:
        raise UsageProblem(
            "--in-process and --background exclude each other: a debugger needs the foreground.",
            hint="Drop one of them.",
        )
    if wish and backend == "docker":
        raise UsageProblem(
            "--in-process and --backend docker exclude each other: a container is another process.",
            hint="Drop one of them; --in-process always means the embedded engine.",
        )


def _refuse(word: str) -> None:
    """Raise for an option that isn't ours, or lacks its value."""
    # Without its value, which may be a key: --key=…, -k….
    flag = word.partition("=")[0]
    flag = flag if flag.startswith("--") else flag[:2]
    if flag in OPTIONS:
        raise UsageProblem(f"{flag} needs a value.", hint=f"%tao {flag} VALUE ssd train …")
    near = nearest(flag, [name for name in OPTIONS if name.startswith("--")])
    raise UsageProblem(
        f"{flag} isn't an option of %tao.",
        hint=f"{near}Before the task: -o NAME, --background, --raw, --in-process, --backend NAME, --release NAME, "
        "--volume SOURCE:DESTINATION. "
        "TAO's own flags come behind it.",
    )


def language(wish: str) -> str:
    """Return the language that is meant: ``zh`` also as ``zh-CN`` or ``zh_CN.UTF-8``.

    Raises
    ------
    UsageProblem
        There are no texts in it.
    """
    name = wish.strip().lower().replace("_", "-").partition("-")[0]
    if name not in LANGUAGES:
        raise UsageProblem(f'There are no texts in "{wish}".', hint=f"Languages: {', '.join(LANGUAGES)}.")
    return name
