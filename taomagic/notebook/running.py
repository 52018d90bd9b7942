"""Execute a notebook headless, cell by cell, and keep what each cell was about, took and left."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from taomagic.errors import DataProblem, EnvironmentProblem
from taomagic.notebook.interrupts import Interrupts
from taomagic.notebook.judging import CellReport, judge, title_of, without_status
from taomagic.project import remembered
from taomagic.project.mounts import FILE_NAME, HOME_MAP_VARIABLE, home_map

_KERNEL = "taomagic"
#: Where an executed cell keeps its time, for the estimate of the next run.
_METADATA = "taomagic"
# What an earlier `%tao_env` left in the shell that we were started from: the notebook has a map and paths of its own.
_NOT_PASSED_ON = frozenset({"LAUNCHER_MOUNTS", remembered.VARIABLE})
_STARTUP = """\
from taomagic.notebook.watch import prepare as _prepare
_prepare(get_ipython(), {names!r}, in_process={in_process!r}, stand_ins={stand_ins!r}, failures={failures!r})
del _prepare
open({ready!r}, "w").close()
"""
#: Written when a kernel is prepared; IPython goes on after a startup file that failed.
_READY = "kernel.ready"
_FAILURES = "failures.txt"


@dataclass(frozen=True)
class Wishes:
    """How a notebook is run.

    Attributes
    ----------
    place
        A folder for the run's own files, which lasts as long as the run.
    environment
        Variables of the kernel, besides those of this process.
    names
        Python variables that the notebook uses and doesn't define.
    programs
        Folders whose programs come before all others.
    in_process
        Run the embedded engine in the kernel.
    keep_going
        Go on after a cell that ended with an exception, as `!` lines do.
    """

    place: Path
    environment: Mapping[str, str]
    names: Mapping[str, str]
    programs: Sequence[Path] = ()
    in_process: bool = False
    keep_going: bool = False


def read(path: Path) -> Any:
    """Return a notebook in nbformat 4.

    Raises
    ------
    DataProblem
        There is no such file, or no notebook in it.
    EnvironmentProblem
        nbformat, nbclient or ipykernel isn't installed.
    """
    _require()
    with _without_url_grammar():
        import nbformat

    try:
        notebook = nbformat.read(path, as_version=4)
    except OSError as error:
        raise DataProblem(
            f"The notebook can't be read: {error.strerror}.",
            where=str(path),
            hint="tao notebook run FILE.ipynb",
        ) from None
    except Exception as error:  # nbformat has no common base for what is wrong with a file
        raise DataProblem(
            f"This is no Jupyter notebook: {str(error).splitlines()[0][:120]}", where=str(path)
        ) from None
    for cell in notebook.cells:
        # An editor of Windows wrote it. Jupyter's pages do the same; a shell would take the \r for a part of a word.
        cell.source = _source(cell).replace("\r\n", "\n")
    return notebook


def write(path: Path, notebook: Any) -> None:
    """Write a notebook in one step.

    Raises
    ------
    DataProblem
        It can't be written.
    """
    import nbformat

    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(nbformat.writes(notebook) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise DataProblem(
            f"The executed notebook can't be written: {error.strerror}.",
            where=str(path),
            hint="Name another file with --out.",
        ) from None


def text_of(notebook: Any) -> str:
    """Return all code of a notebook."""
    return "\n".join(_source(cell) for cell in notebook.cells if _has_code(cell))


def seconds_before(path: Path) -> list[float]:
    """Return how long each code cell took when the notebook at ``path`` was executed; empty where nothing tells."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        return [float(cell["metadata"][_METADATA]["seconds"]) for cell in cells if _has_code(cell)]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def execute(
    notebook: Any,
    folder: Path,
    wishes: Wishes,
    tell: Callable[[CellReport], None],
    interrupts: Interrupts,
) -> list[CellReport]:
    """Run the cells of a notebook in a kernel of its own; outputs, counts and times go into the notebook.

    Parameters
    ----------
    notebook
        As :func:`read` returns it.
    folder
        The working folder.
    wishes
        How.
    tell
        Called before and after each cell, with its report so far.
    interrupts
        What has been heard of a wish to end; it is passed on to the kernel.

    Returns
    -------
    list of CellReport
        One for each code cell that has code. After an interrupt, or a cell that ended with an exception, the other ones
        are left as "not run".

    Raises
    ------
    EnvironmentProblem
        The kernel doesn't start.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError

    coded = [(index, cell) for index, cell in enumerate(notebook.cells) if _has_code(cell)]
    reports = [
        CellReport(number, len(coded), title_of(_source(cell)))
        for number, (_, cell) in enumerate(coded, start=1)
    ]
    for _, cell in coded:
        cell.outputs, cell.execution_count = [], None
        cell.metadata.pop(_METADATA, None)
    manager, environment = _kernel(wishes)
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=None,
        allow_errors=True,
        store_widget_state=False,
        resources={"metadata": {"path": str(folder)}},
    )
    before = dict(notebook.metadata)
    with ExitStack() as stack:
        log = stack.enter_context((wishes.place / "kernel.log").open("w+b"))
        try:
            stack.enter_context(client.setup_kernel(env=environment, stderr=log, cleanup_kc=True))
        except RuntimeError as error:
            raise EnvironmentProblem(
                f"The notebook's kernel didn't start: {_last_line(log) or error}",
                where=sys.executable,
                hint=f"Does `{Path(sys.executable).name} -m ipykernel_launcher --version` work?",
            ) from None
        if not (wishes.place / _READY).is_file():
            raise EnvironmentProblem(
                f"The notebook's kernel isn't ready to guard its cells: {_last_line(log)}",
                where=sys.executable,
                hint="Install taomagic again: pip install --force-reinstall 'taomagic[lab]'",
            )
        # Before the kernel is gone, so that a late Ctrl-C doesn't hit a stranger of the same number.
        stack.callback(interrupts.release)
        interrupts.pass_on(manager.provisioner.pid)
        for report, (index, cell) in zip(reports, coded, strict=True):
            if interrupts.number:
                break
            tell(report)
            began = time.monotonic()
            try:
                client.execute_cell(cell, index)
            except DeadKernelError:
                if not interrupts.number:
                    report.problems.append(f"The kernel died. {_last_line(log)}".rstrip())
            report.seconds = time.monotonic() - began
            ended_badly = bool(report.problems)  # nothing can follow a dead kernel
            if interrupts.number:
                report.problems = ["Interrupted."]
            else:
                report.problems += judge(cell.outputs)
                ended_badly |= not wishes.keep_going and any(
                    output.output_type == "error" for output in cell.outputs
                )
            report.state = "failed" if report.problems else "ok"
            cell.outputs = [nbformat.from_dict(output) for output in without_status(cell.outputs)]
            cell.metadata[_METADATA] = {"seconds": round(report.seconds, 3), "state": report.state}
            tell(report)
            if ended_badly:
                break
    # nbclient writes down our temporary kernel.
    notebook.metadata = nbformat.from_dict(before)
    return reports


def _kernel(wishes: Wishes) -> tuple[Any, dict[str, str]]:
    """Return the manager and the environment of a kernel of this Python that reads nothing of the user's profile."""
    from jupyter_client.kernelspec import KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager

    place = wishes.place
    startup = place / "ipython" / "profile_default" / "startup" / "00-taomagic.py"
    startup.parent.mkdir(parents=True)
    startup.write_text(
        _STARTUP.format(
            names=dict(wishes.names),
            in_process=wishes.in_process,
            stand_ins=str(place) if wishes.programs else "",
            failures=str(place / _FAILURES),
            ready=str(place / _READY),
        ),
        encoding="utf-8",
    )
    (startup.parent.parent / "ipython_config.py").write_text(
        'c.InteractiveShellApp.extensions = ["taomagic"]\n', encoding="utf-8"
    )
    spec = place / "kernels" / _KERNEL / "kernel.json"
    spec.parent.mkdir(parents=True)
    argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--log-level=40"]
    spec.write_text(json.dumps({"argv": argv, "display_name": _KERNEL, "language": "python"}))
    folders = [*map(str, wishes.programs), str(Path(sys.executable).parent)]
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_PASSED_ON}
    environment = {
        **kept,
        **wishes.environment,
        "IPYTHONDIR": str(place / "ipython"),
        # The notebook writes a map of its own; the person's isn't touched, and other runs have theirs.
        HOME_MAP_VARIABLE: str(place / FILE_NAME),
        "PATH": os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)]),
    }
    theirs = home_map(os.environ)
    if theirs.is_file():
        shutil.copyfile(theirs, place / FILE_NAME)
    specs = KernelSpecManager(kernel_dirs=[str(place / "kernels")], ensure_native_kernel=False)
    return AsyncKernelManager(kernel_name=_KERNEL, kernel_spec_manager=specs), environment


def _last_line(log: BinaryIO) -> str:
    """Return the last thing that the kernel itself has said, outside of cells."""
    log.seek(0)
    lines = log.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _source(cell: Any) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _has_code(cell: Any) -> bool:
    return bool(cell["cell_type"] == "code" and _source(cell).strip())


@contextmanager
def _without_url_grammar() -> Iterator[None]:
    """Keep jsonschema, which nbformat loads, from building a grammar of URLs: seconds, and no notebook needs it."""
    name = "rfc3987_syntax"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # how Python marks what can't be imported
    try:
        yield
    finally:
        del sys.modules[name]


def _require() -> None:
    """Tell at once which package is missing."""
    from importlib.util import find_spec

    gone = [name for name in ("nbformat", "nbclient", "ipykernel") if find_spec(name) is None]
    if gone:
        raise EnvironmentProblem(
            f"To run notebooks, {' and '.join(gone)} must be installed.", hint="pip install 'taomagic[lab]'"
        )
