"""What `tao notebook run` puts into the kernel: the ends of shell lines told, dangerous ones stopped, names defined.

The startup file of a temporary IPython folder calls :func:`prepare`; the user's profile is not read.
"""

# IPython's classes have no types.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import os
import re
import sys
import time
from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taomagic.errors import EnvironmentProblem, translate
from taomagic.launcher import control
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job
from taomagic.launcher.states import JobState
from taomagic.notebook.artefacts import missing
from taomagic.notebook.judging import STATUS_MIME
from taomagic.notebook.shell_guard import refusal
from taomagic.project import nets

#: What a shell says of a line that it may not run.
REFUSED = 126
# The one line that decides about all paths of a notebook, in its three spellings.
_PROJECT = re.compile(
    r"""^(?P<head>[ \t]*(?:%(?:set_)?env[ \t]+LOCAL_PROJECT_DIR[ \t]*[ =][ \t]*"""
    r"""|os\.environ\[["']LOCAL_PROJECT_DIR["']\][ \t]*=[ \t]*["']))"""
    r"""(?P<value>[^"'\n]+?)(?P<tail>["']?[ \t]*)$""",
    re.MULTILINE,
)


def prepare(shell: Any, names: Mapping[str, str], *, in_process: bool = False) -> None:
    """Make a kernel ready for a notebook that is run as a whole.

    Parameters
    ----------
    shell
        The InteractiveShell; its working folder is the notebook's.
    names
        Python variables that the notebook uses and doesn't define.
    in_process
        Run the embedded engine in this kernel.
    """
    shell.user_ns.update(names)
    if in_process:
        shell.magics_manager.registry["TaoMagics"].in_process = True
    watch = _Watch(shell)
    shell.system = watch.system
    shell.getoutput = watch.getoutput
    shell.input_transformers_cleanup.append(watch.redirect)
    shell.events.register("pre_run_cell", watch.before_cell)
    shell.events.register("post_run_cell", watch.after_cell)


class _Watch:
    """Tells how shell lines and jobs end, in outputs of a type of our own."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._known: set[str] = set()
        self._notices: list[str] = []
        self._here = os.getcwd()  # noqa: PTH109 - a text, as in the notebooks

    def system(self, cmd: str) -> None:
        """Do what ``shell.system`` does, and tell the exit code."""
        frame = sys._getframe(1)
        if self._is_refused(cmd, frame.f_locals):
            return
        if cmd.rstrip().endswith("&"):
            raise OSError("Background processes not supported.")
        from IPython.utils.process import system  # type: ignore[attr-defined]

        expanded = self._shell.var_expand(cmd, depth=1)
        began = time.monotonic()
        code = system(expanded)
        self._shell.user_ns["_exit_code"] = code
        self._tell(kind="shell", what=cmd.strip(), exit=code, seconds=time.monotonic() - began)

    def getoutput(self, cmd: str, split: bool = True, depth: int = 0) -> Any:
        """Do what ``shell.getoutput`` does (``x = !ls``), unless the line is dangerous."""
        if self._is_refused(cmd, sys._getframe(depth + 1).f_locals):
            return type(self._shell).getoutput(self._shell, "true", split=split)
        return type(self._shell).getoutput(self._shell, cmd, split=split, depth=depth + 1)

    def redirect(self, lines: list[str]) -> list[str]:
        """Put the notebook's folder in the place of a project folder that it ships with and that isn't here."""
        if not any("LOCAL_PROJECT_DIR" in line for line in lines):
            return lines
        return _PROJECT.sub(self._redirected, "".join(lines)).splitlines(keepends=True)

    def _redirected(self, match: re.Match[str]) -> str:
        value = match["value"].strip()
        shipped = value.rstrip("/") in nets.SHIPPED_PROJECTS and not Path(value).is_dir()
        if not shipped and not nets.is_placeholder(value):
            return match[0]
        self._notices.append(f"LOCAL_PROJECT_DIR: {value} isn't here; the notebook's folder takes its place.")
        return f"{match['head']}{self._here}{match['tail']}"

    def before_cell(self, _info: Any) -> None:
        """Show what was redirected, and learn which jobs there are already."""
        for notice in dict.fromkeys(self._notices):
            print(translate(notice))
        self._notices.clear()
        self._known |= {job.id for job in _jobs()}

    def after_cell(self, _result: Any) -> None:
        """Tell how the jobs of the cell ended, and what they didn't leave."""
        for job in reversed(_jobs()):
            if job.id in self._known or not job.state.finished:
                continue
            self._known.add(job.id)
            self._tell(
                kind="job",
                what=f"tao {job.command.label}",
                state=str(job.state),
                seconds=job.seconds,
                missing=_left_out(job) if job.state is JobState.SUCCEEDED else [],
            )

    def _is_refused(self, cmd: str, local: Mapping[str, Any]) -> bool:
        names = ChainMap(dict(local), self._shell.user_ns)

        def value_of(name: str) -> str | None:
            return str(names[name]) if name in names else os.environ.get(name)

        why = refusal(cmd, value_of)
        if why:
            print(translate(f"Stopped before it ran: {why}"), file=sys.stderr)
            self._shell.user_ns["_exit_code"] = REFUSED
            self._tell(kind="shell", what=cmd.strip(), exit=REFUSED, seconds=0.0, refused=why)
        return bool(why)

    def _tell(self, **status: Any) -> None:
        self._shell.display_pub.publish({STATUS_MIME: status})


def _left_out(job: Job) -> list[str]:
    """Return what a command that succeeded should have written and didn't."""
    folder, paths = Path(str(job.record.get("cwd", "."))), job.paths
    return missing(job.command, lambda path: folder / paths.to_host(path), job.started.timestamp())


def _jobs() -> list[Job]:
    """Return the jobs of the project that the cells work in."""
    try:
        return control.all_jobs(Context.current(need_mounts=False), everywhere=False)
    except (EnvironmentProblem, OSError):
        return []  # the folder is gone: the cell's own output tells
