"""`tao setup notebooks`: what a person needs so that NVIDIA's notebooks run in JupyterLab as they are; and its undoing.

One file is written, into the ``startup`` folder of an IPython profile. Its first line has a checksum of all others, so
that a file that somebody has changed is told from ours, and what has been made for it, so that it can be unmade.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.launcher.catalog import nearest
from taomagic.spec.help_format import HelpFormat

#: IPython runs these files in the order of their names; people's own ones come first or last as they like.
FILE_NAME = "50-taomagic-notebooks.py"
_DEFAULT = "default"
_BODY = """\
# Written by `tao setup notebooks`, so that NVIDIA's TAO notebooks run as they are; taken away by
# `tao setup notebooks --undo`. In kernels of other notebooks nothing happens.
try:
    from taomagic.notebook.lazy import watch as _taomagic_watch
except ImportError:
    pass  # This kernel's Python has no taomagic.
else:
    _taomagic_watch(get_ipython())
    del _taomagic_watch
"""
_FIRST = re.compile(r"# taomagic (?P<sum>[0-9a-f]{64}) (?P<made>\d+)\n")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageProblem(message, where=self.prog, hint=f"`{self.prog} --help` lists the arguments.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tao setup notebooks",
        description="Make NVIDIA's TAO notebooks run in JupyterLab as they are. Writes one file into your IPython "
        "profile; kernels of other notebooks aren't affected.",
        formatter_class=HelpFormat,
    )
    parser.add_argument("--undo", action="store_true", help="take away what was written")
    parser.add_argument(
        "--profile", default=_DEFAULT, metavar="NAME", help="another IPython profile than default"
    )
    return parser


def run(args: Sequence[str], say: Callable[[str], None] = print) -> int:
    """Carry out `tao setup …`.

    Parameters
    ----------
    args
        The words behind ``setup``.
    say
        Shows a line.

    Returns
    -------
    int
        The exit code, 0.

    Raises
    ------
    UsageProblem
        A word is wrong or missing.
    EnvironmentProblem
        There is no such profile, it can't be written, or somebody has changed the file.
    """
    if not args or args[0] not in {"notebooks", "-h", "--help"}:
        near = nearest(args[0], ["notebooks"]) if args else ""
        raise UsageProblem(
            f"`tao setup` doesn't know {args[0]}." if args else "`tao setup` needs a word: notebooks.",
            hint=f"{near}tao setup notebooks [--undo] [--profile NAME]",
        )
    try:
        given: Any = _parser().parse_args(args[1:] if args[0] == "notebooks" else args)
    except SystemExit as ended:  # argparse has printed its help
        return int(ended.code or 0)
    profile = profile_folder(given.profile)
    if given.undo:
        undo(profile, say)
    else:
        if write(profile, say):
            _tell_more(given.profile, say)
        say(f"To undo it: tao setup notebooks --undo{_option(given.profile)}")
    return 0


def profile_folder(name: str) -> Path:
    """Return the folder of an IPython profile; that of the default one may have to be made yet.

    Raises
    ------
    EnvironmentProblem
        There is no such profile, or IPython's folder can't be written.
    """
    import warnings

    from IPython.paths import get_ipython_dir

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        base = Path(get_ipython_dir())
    if told:  # it has made a temporary folder then, which no kernel reads
        raise EnvironmentProblem(
            f"IPython has no folder for its profiles: {str(told[0].message).rstrip('.')}.",
            hint="Set IPYTHONDIR to a folder that you may write, here and where JupyterLab is started.",
        )
    folder = base / f"profile_{name}"
    if name != _DEFAULT and not folder.is_dir():
        there = sorted(each.name.removeprefix("profile_") for each in base.glob("profile_*") if each.is_dir())
        raise EnvironmentProblem(
            f'There is no IPython profile "{name}".',
            where=str(base),
            hint=f"{nearest(name, there)}Profiles: {', '.join(there) or 'none'}. "
            f"To make one: ipython profile create {name}",
        )
    return folder


def write(profile: Path, say: Callable[[str], None]) -> bool:
    """Write the startup file into a profile, in one step; a second time changes nothing.

    Returns
    -------
    bool
        Whether it was written.

    Raises
    ------
    EnvironmentProblem
        The folder can't be written, or somebody has changed the file.
    """
    file = profile / "startup" / FILE_NAME
    made = 0
    if file.exists():
        text, made = _ours(file)
        if text == _BODY:
            say(f"It is set up already: {file}")
            return False
    try:
        # Folders that aren't there are made, from the outside in, and counted.
        for folder in [each for each in reversed(file.parents) if not each.exists()]:
            folder.mkdir()
            made += 1
        head = f"# taomagic {hashlib.sha256(_BODY.encode()).hexdigest()} {made}\n"
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        temporary.write_text(head + _BODY, encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        raise EnvironmentProblem(
            f"The startup file can't be written: {error.strerror}.",
            where=str(file),
            hint="Set IPYTHONDIR to a folder that you may write, here and where JupyterLab is started.",
        ) from None
    say(f"Wrote {file}")
    return True


def undo(profile: Path, say: Callable[[str], None]) -> None:
    """Take the startup file away, and the folders that were made for it, if they are empty.

    Raises
    ------
    EnvironmentProblem
        Somebody has changed the file, or it can't be taken away.
    """
    file = profile / "startup" / FILE_NAME
    if not file.exists():
        say(f"Nothing is set up: there is no {file}")
        return
    _, made = _ours(file)
    try:
        file.unlink()
    except OSError as error:
        raise EnvironmentProblem(
            f"The startup file can't be taken away: {error.strerror}.", where=str(file)
        ) from None
    with suppress(OSError):  # IPython, or somebody, has put something in
        for folder in list(file.parents)[:made]:
            folder.rmdir()
    say(f"Took away {file}. Kernels that run already go on as they are; restart them.")


def _ours(file: Path) -> tuple[str, int]:
    """Return what a startup file of ours holds behind its first line, and how many folders were made for it.

    Raises
    ------
    EnvironmentProblem
        Somebody has changed it, or it can't be read.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise EnvironmentProblem(
            f"The startup file can't be read: {error.strerror}.", where=str(file)
        ) from None
    first = _FIRST.match(text)
    body = text[first.end() :] if first else ""
    if first is None or hashlib.sha256(body.encode()).hexdigest() != first["sum"]:
        raise EnvironmentProblem(
            "This startup file was changed by somebody; it stays as it is.",
            where=str(file),
            hint="Delete it, or move it to another name, and do this once more.",
        )
    return body, int(first["made"])


def _tell_more(name: str, say: Callable[[str], None]) -> None:
    """Say what follows from it."""
    from importlib.util import find_spec

    say("Restart running kernels, then open a notebook of NVIDIA's and choose Run All. In such a notebook:")
    for line in (
        "`!tao …` lines show a panel; tao, tao-deploy and tlt are on PATH.",
        "FIXME, placeholders and project folders that aren't here become the notebook's folder, and the cell says so.",
        "A shell line or script that would work on / because a variable is unset doesn't run.",
        "The map that it writes counts for it alone.",
    ):
        say(f"  - {line}")
    say("Kernels of other notebooks don't change.")
    if find_spec("ipykernel") is None:
        say("This Python has no ipykernel: install taomagic into the Python of your notebooks' kernel.")
    if name != _DEFAULT:
        say(f"JupyterLab's kernels use the profile default, unless their kernel.json says --profile={name}.")


def _option(name: str) -> str:
    return "" if name == _DEFAULT else f" --profile {name}"
