"""`tao notebook run NOTEBOOK`: execute a notebook headless, and tell honestly how each cell went."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from taomagic.errors import DataProblem, UsageProblem
from taomagic.launcher.backends import wished
from taomagic.launcher.catalog import nearest
from taomagic.launcher.control import span
from taomagic.launcher.options import check_in_process
from taomagic.notebook import running, sample_data
from taomagic.notebook.fillings import undefined_names
from taomagic.notebook.interrupts import Interrupts
from taomagic.notebook.judging import CellReport
from taomagic.spec.help_format import HelpFormat

_TITLE_WIDTH = 76
#: Steps in an epoch of a quick run.
QUICK_STEPS = "1"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageProblem(message, where=self.prog, hint=f"`{self.prog} --help` lists the arguments.")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tao notebook run",
        description="Execute a notebook headless, with the extension loaded. What fails in a shell line or is missing "
        "afterwards counts as a failure, too.",
        formatter_class=HelpFormat,
    )
    parser.add_argument("notebook", metavar="NOTEBOOK")
    parser.add_argument(
        "--out", metavar="FILE", help="the executed notebook; by default NAME.executed.ipynb beside it"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--data", metavar="DIR", help="KITTI's two archives, or its folders: what the notebook would download"
    )
    source.add_argument(
        "--sample-data",
        action="store_true",
        help="stand-ins for downloads: drawn scenes in KITTI's layout, random weights for NGC's",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one step in each epoch: every file is made, no network learns anything",
    )
    parser.add_argument("--keep-going", action="store_true", help="go on after a cell that failed")
    parser.add_argument(
        "--in-process",
        action="store_true",
        help="run the embedded engine in the notebook's kernel, which is sooner",
    )
    parser.add_argument("--backend", metavar="NAME", help="where commands run: auto, process or docker")
    return parser


def run(args: Sequence[str], say: Callable[[str], None] = print) -> int:
    """Carry out `tao notebook …`.

    Parameters
    ----------
    args
        The words behind ``notebook``.
    say
        Shows a line.

    Returns
    -------
    int
        The exit code: 0 where every cell went well, 128 and the number of the signal that ended the run, else 1.

    Raises
    ------
    UsageProblem
        A word is wrong or missing.
    DataProblem, EnvironmentProblem
        The notebook can't be read or written, or a package is missing.
    """
    if not args or args[0] not in {"run", "-h", "--help"}:
        near = nearest(args[0], ["run"]) if args else ""
        raise UsageProblem(
            f"`tao notebook` doesn't know {args[0]}." if args else "`tao notebook` needs a word: run.",
            hint=f"{near}tao notebook run FILE.ipynb",
        )
    try:
        given = _parser().parse_args(
            [word for word in args if word != "run"] if args[0] != "run" else list(args[1:])
        )
    except SystemExit as ended:  # argparse has printed its help
        return int(ended.code or 0)
    return _run(given, say)


def _run(given: Any, say: Callable[[str], None]) -> int:
    path = Path(given.notebook).expanduser().absolute()
    out = (
        Path(given.out).expanduser().absolute()
        if given.out
        else path.with_name(f"{path.stem}.executed.ipynb")
    )
    if out == path:
        raise UsageProblem(
            "--out is the notebook itself, and that stays as it is.",
            where=str(path),
            hint="Name another file.",
        )
    environment: dict[str, str] = {}
    if given.backend:
        environment["TAOMAGIC_BACKEND"] = wished(given.backend)
    check_in_process(given.in_process, background=False, backend=given.backend or "")
    notebook = running.read(path)
    if not running.text_of(notebook):
        raise DataProblem(
            "No cell of this notebook has code, so that there is nothing to run.", where=str(path)
        )
    if environment.get("TAOMAGIC_BACKEND") == "docker":
        _require_docker()
    if given.quick:
        environment["TAOMAGIC_STEPS_PER_EPOCH"] = QUICK_STEPS
        say(
            "QUICK RUN: one step in each epoch. Files and tables are there to be looked at; their figures mean nothing."
        )
    names = {name: os.environ.get(name, value) for name, value in undefined_names(path.parent).items()}
    progress = _Progress(running.seconds_before(out), say)
    began = time.monotonic()
    with Interrupts() as interrupts:
        with tempfile.TemporaryDirectory(prefix="taomagic-notebook-") as place:
            programs: list[Path] = []
            if given.sample_data or given.data:
                data = Path(given.data).expanduser().absolute() if given.data else None
                programs.append(sample_data.put_in(Path(place), path.parent, data, running.text_of(notebook)))
                names |= sample_data.addresses()
            if given.sample_data:
                say("SAMPLE DATA: downloads are answered by stand-ins, and each of them says so in its cell.")
            wishes = running.Wishes(
                Path(place),
                environment,
                names,
                programs,
                in_process=given.in_process,
                keep_going=given.keep_going,
            )
            reports = running.execute(notebook, path.parent, wishes, progress.tell, interrupts)
        running.write(out, notebook)
        for line in table(reports):
            say(line)
        failed = sum(report.state == "failed" for report in reports)
        left = sum(report.state == "not run" for report in reports)
        say(
            f"{len(reports) - failed - left} of {len(reports)} cells went well, {failed} failed, {left} didn't run; "
            f"{span(time.monotonic() - began)}."
        )
        say(f"Executed notebook: {out}")
        if given.quick:
            say("It was a quick run: no figure in it means anything.")
        if interrupts.number:
            return 128 + interrupts.number
        return 1 if failed or left else 0


def _require_docker() -> None:
    """Tell once, before the first cell, that no engine answers."""
    from taomagic.launcher.containers import engine as engines
    from taomagic.launcher.containers.api import EngineProblem
    from taomagic.launcher.containers.problems import explain

    try:
        engines.facts(engines.connect(os.environ))
    except EngineProblem as problem:
        raise explain(problem, "be asked") from None


class _Progress:
    """Shows each cell when it begins and when it has ended, with the time left where an earlier run tells it."""

    def __init__(self, before: Sequence[float], say: Callable[[str], None]) -> None:
        self._before = before
        self._say = say

    def tell(self, report: CellReport) -> None:
        """Show a line for a report that is new or has changed."""
        if report.state == "not run":
            self._say(f"[{report.number}/{report.total}] {_short(report.title)}{self._left(report)}")
            return
        self._say(f"    {report.state}, {report.seconds:.1f} s")
        for problem in report.problems:
            self._say(f"    {problem}")

    def _left(self, report: CellReport) -> str:
        rest = sum(self._before[report.number - 1 :])
        return f"   ({span(rest)} left, as last time)" if rest >= 1 else ""


def table(reports: Sequence[CellReport]) -> list[str]:
    """Return the closing table: cell, command, seconds, verdict."""
    rows = [("cell", "seconds", "verdict", "command")]
    rows += [
        (
            str(each.number),
            f"{each.seconds:.1f}" if each.state != "not run" else "",
            each.state,
            _short(each.title),
        )
        for each in reports
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{cell:>{widths[0]}}  {seconds:>{widths[1]}}  {verdict:<{widths[2]}}  {title}"
        for cell, seconds, verdict, title in rows
    ]
    result = ["", lines[0]]
    for report, line in zip(reports, lines[1:], strict=True):
        result.append(line)
        result += [f"{'':{sum(widths) + 4}}  └ {problem}" for problem in report.problems]
    return [*result, ""]


def _short(title: str) -> str:
    return title if len(title) <= _TITLE_WIDTH else f"{title[: _TITLE_WIDTH - 1]}…"
