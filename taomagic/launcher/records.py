"""Job records: the folders under ``<project>/.tao/jobs``, read and written so that nobody ever sees half a file."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from taomagic.errors import EnvironmentProblem
from taomagic.launcher import processes
from taomagic.launcher.keys import MASK, is_secret
from taomagic.project.mounts import MountMap, home_folder

#: Finished jobs whose records a project keeps.
KEEP = 200


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file; ``None`` where there is no such file, or no object in it."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file in one step."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_record(directory: Path) -> dict[str, Any]:
    """Return a job's record.

    Raises
    ------
    EnvironmentProblem
        There is none, or it isn't one of ours.
    """
    record = read_json(directory / "job.json")
    needed = {"id", "project", "backend", "command", "shown", "started", "engine_argv"}
    if record is None or not needed <= record.keys():
        raise EnvironmentProblem(
            f"There is no job record in {directory}.", hint="`tao list` shows the jobs that there are."
        )
    return record


class StatusFile:
    """Reads the learning rates from a ``status.json`` (JSON lines) that grows.

    Parameters
    ----------
    path
        On the host.
    offset
        Its size in bytes when the job started; earlier records belong to earlier jobs.
    """

    def __init__(self, path: Path, offset: int) -> None:
        self._path = path
        self._offset = offset

    def read_rates(self) -> Iterator[tuple[float, float]]:
        """Yield ``(epoch, learning rate)`` of the whole lines written since the last call."""
        try:
            with self._path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._offset:
                    self._offset = 0  # the command began a new file
                file.seek(self._offset)
                text = file.read()
        except OSError:
            return
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            if b"learning_rate" not in line:
                continue
            try:
                record = json.loads(line)
                epoch, rate = float(record["epoch"]), float(record["graphical"]["learning_rate"])
            except (ValueError, KeyError, TypeError):
                continue
            if math.isfinite(epoch) and math.isfinite(rate):
                yield epoch, rate


def jobs_folder(project: Path) -> Path:
    """Return where a project keeps its jobs."""
    return project / ".tao" / "jobs"


def new_folder(project: Path) -> Path:
    """Return where a new job will be recorded: nothing is made yet. The name, 10 hex digits, is the job's id."""
    while True:
        folder = jobs_folder(project) / os.urandom(5).hex()
        if not folder.exists():
            return folder


def create(
    project: Path, content: Mapping[str, Any], mounts: MountMap, directory: Path | None = None
) -> Path:
    """Make the folder and the record of a new job.

    Parameters
    ----------
    project
        Where; an absolute folder.
    content
        The record, without ``id``, ``project`` and ``started``.
    mounts
        The map that the job is started with; API keys and the like in its variables aren't recorded.
    directory
        Where; a new folder by default.

    Returns
    -------
    Path
        The job's folder.

    Raises
    ------
    EnvironmentProblem
        The project can't be written.
    """
    try:
        folder = jobs_folder(project)
        folder.mkdir(parents=True, exist_ok=True)
        ignore = project / ".tao" / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n", encoding="utf-8")  # records are of no use on another machine
        directory = directory or new_folder(project)
        directory.mkdir(mode=0o700)
        envs = {name: MASK if is_secret(name) else value for name, value in mounts.envs.items()}
        replace(mounts, envs=envs).write(directory / "mounts.json")
        write_json(
            directory / "job.json",
            {"id": directory.name, "project": str(project), "started": time.time(), **content},
        )
    except OSError as error:
        raise EnvironmentProblem(
            f"The job can't be recorded: {error.strerror}.",
            where=str(error.filename or project),
            hint="Choose a project that you may write: %tao_env --project-dir FOLDER",
        ) from None
    return directory


def job_folders(project: Path) -> list[Path]:
    """Return the folders of a project's jobs, in no order."""
    try:
        return [folder for folder in jobs_folder(project).iterdir() if (folder / "job.json").is_file()]
    except OSError:
        return []


def prune(project: Path, keep: int = KEEP) -> None:
    """Delete the records of the oldest ended jobs, lost ones among them, beyond the newest ``keep``."""

    def ended(folder: Path) -> float:
        for name in ("exit.json", "log.txt", "job.json"):
            with contextlib.suppress(OSError):
                return (folder / name).stat().st_mtime
        return 0.0

    folders = job_folders(project)
    if len(folders) <= keep:
        return
    finished = [folder for folder in folders if _has_ended(folder)]
    for folder in sorted(finished, key=ended)[: len(finished) - keep]:
        shutil.rmtree(folder, ignore_errors=True)


def _has_ended(folder: Path) -> bool:
    if (folder / "exit.json").is_file():
        return True
    process = read_json(folder / "process.json")
    if process is not None and "container" in process:
        return False  # it may run on without its watcher
    if process is not None:
        return not processes.is_alive(process, folder)
    return time.time() - (folder / "job.json").stat().st_mtime > 24 * 3600


def _index(environ: Mapping[str, str]) -> Path:
    state = environ.get("XDG_STATE_HOME", "")
    if not state.startswith("/"):
        home = home_folder(environ)
        state = str(
            home / "Library" / "Application Support"
            if sys.platform == "darwin"
            else home / ".local" / "state"
        )
    return Path(state) / "taomagic" / "projects"


def remember_project(project: Path, environ: Mapping[str, str]) -> None:
    """Note that a project has jobs, so that `tao list` finds them from anywhere. One file each: no two writers meet."""
    index = _index(environ)
    with contextlib.suppress(OSError):  # a read-only home only costs the list of other projects
        index.mkdir(parents=True, exist_ok=True)
        path = os.fsencode(project)
        # Two checksums are as good as a hash here, and hashlib takes 15 ms to load.
        name = f"{zlib.crc32(path):08x}{zlib.adler32(path[::-1]):08x}"
        (index / name).write_bytes(os.fsencode(project))


def remembered_projects(environ: Mapping[str, str]) -> list[Path]:
    """Return the projects known to have jobs; entries whose jobs are gone are dropped."""
    found: list[Path] = []
    try:
        entries = list(_index(environ).iterdir())
    except OSError:
        return []
    for entry in entries:
        with contextlib.suppress(OSError):
            project = Path(os.fsdecode(entry.read_bytes()))
            if jobs_folder(project).is_dir():
                found.append(project)
            else:
                entry.unlink(missing_ok=True)
    return found
