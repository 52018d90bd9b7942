"""What `tao notebook run` puts into its kernel besides: the ends of shell lines, scripts and jobs are told.

The startup file of a temporary IPython folder calls :func:`prepare`; the user's profile is not read.
"""

# IPython's classes have no types.
# mypy: disable-error-code="no-untyped-call"
from __future__ import annotations

import os
import shlex
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taomagic.errors import EnvironmentProblem
from taomagic.launcher import control
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job
from taomagic.launcher.states import JobState
from taomagic.notebook import by_hand, launchers
from taomagic.notebook.artefacts import missing
from taomagic.notebook.judging import STATUS_MIME
from taomagic.notebook.kernel import REFUSED, SHELL_PROGRAMS, Help


def prepare(
    shell: Any, names: Mapping[str, str], *, failures: str, in_process: bool = False, stand_ins: str = ""
) -> None:
    """Make a kernel ready for a notebook that is run as a whole.

    Parameters
    ----------
    shell
        The InteractiveShell; its working folder is the notebook's.
    names
        Python variables that the notebook uses and doesn't define.
    failures
        Where the launchers on PATH note down how they failed.
    in_process
        Run the embedded engine in this kernel.
    stand_ins
        The folder of a run with sample data, or with data from elsewhere.
    """
    Watch(shell, names, Path.cwd(), Path(failures), Path(stand_ins) if stand_ins else None).install()
    if in_process:
        shell.magics_manager.registry["TaoMagics"].in_process = True


class Watch(Help):
    """Tells how shell lines and jobs end, in outputs of a type of our own."""

    def __init__(
        self, shell: Any, names: Mapping[str, str], folder: Path, failures: Path, stand_ins: Path | None
    ) -> None:
        super().__init__(shell, names, folder)
        self._failures, self._stand_ins = failures, stand_ins
        self._known: set[str] = set()

    def programs(self) -> Path:
        """Return the run's launchers, which note down how they failed."""
        return launchers.write(self._failures.with_name("launchers"), self._failures)

    def before_cell(self, info: Any) -> None:
        """Learn which jobs there are already."""
        super().before_cell(info)
        self._known |= {job.id for job in _jobs()}
        self._failures.unlink(missing_ok=True)

    def after_cell(self, result: Any) -> None:
        """Tell how the jobs of the cell ended, and what they didn't leave."""
        super().after_cell(result)
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
        if self._failures.exists():
            for line in self._failures.read_text(encoding="utf-8").splitlines():
                code, _, what = line.partition(" ")
                self._tell(kind="launcher", what=what, exit=int(code))

    def about_to_run(self, expanded: str) -> None:
        """Place the archives that the reader should have placed, in a run with sample data."""
        if self._stand_ins is not None:
            by_hand.place(expanded, self._stand_ins)

    def getoutput(self, cmd: str, split: bool = True, depth: int = 0, before: str = "") -> Any:
        """Do what the extension's does, and tell the exit code, which IPython doesn't keep."""
        if Path(os.environ.get("SHELL", "sh")).name not in SHELL_PROGRAMS:
            return super().getoutput(cmd, split, depth + 1, before)
        began = time.monotonic()
        with tempfile.NamedTemporaryFile("r", prefix="taomagic-exit-") as end:
            trap = shlex.quote(f"echo $? >{shlex.quote(end.name)}")
            answer = super().getoutput(cmd, split, depth + 1, f"{before}trap {trap} EXIT; ")
            if code := end.read().strip():
                self.ran(cmd, int(code), time.monotonic() - began)
        return answer

    def ran(self, cmd: str, code: int, seconds: float) -> None:
        """Tell the exit code of a shell line."""
        self._tell(kind="shell", what=cmd.strip(), exit=code, seconds=seconds)

    def refused(self, cmd: str, why: str) -> None:
        """Tell that a line wasn't run."""
        self._tell(kind="shell", what=cmd.strip(), exit=REFUSED, seconds=0.0, refused=why)

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
