"""Where a command runs: project, folder, environment and mount map, read once from where we are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from taomagic.errors import EnvironmentProblem
from taomagic.project import remembered
from taomagic.project.mounts import MountMap, find_mounts, read_mounts
from taomagic.project.paths import CONTAINER_ROOT, PathMap, is_folder


@dataclass(frozen=True)
class Context:
    """What a command is started with.

    Parameters
    ----------
    project_dir
        The folder that holds ``.tao/jobs``.
    cwd
        Where relative paths in the command begin.
    environ
        The environment of the command.
    mounts
        The mount map; empty where paths mean themselves.
    """

    project_dir: Path
    cwd: Path
    # Not shown where values of variables are, in tracebacks: a key may be among them.
    environ: Mapping[str, str] = field(repr=False)
    mounts: MountMap

    @property
    def paths(self) -> PathMap:
        """The translation between host and container paths."""
        return self.mounts.paths

    def host(self, path: str) -> Path:
        """Return where a path of the command lies on this machine; relative ones begin in ``cwd``."""
        return self.cwd / self.paths.to_host(path)

    @classmethod
    def current(
        cls, environ: Mapping[str, str] | None = None, cwd: Path | None = None, *, need_mounts: bool = True
    ) -> Context:
        """Return the context of this process.

        Parameters
        ----------
        environ, cwd
            Those of this process by default.
        need_mounts
            ``False`` for words that only deal with jobs: a broken map must not keep anyone from stopping one.

        The map is the one that ``LAUNCHER_MOUNTS`` names, else ``~/.tao_mounts.json``. The project is
        ``LOCAL_PROJECT_DIR``, else the nearest folder upwards that has jobs, else what the map mounts as the project if
        we are inside it, else this folder.

        Raises
        ------
        EnvironmentProblem
            The map can't be read.
        """
        environ = dict(os.environ if environ is None else environ)
        here = Path.cwd() if cwd is None else cwd.absolute()
        file = find_mounts(environ)
        mounts = MountMap()
        if file is not None:
            try:
                mounts = read_mounts(file)
            except EnvironmentProblem:
                if need_mounts:
                    raise
        return cls(_project(environ, here, mounts), here, environ, mounts)


def _project(environ: Mapping[str, str], here: Path, mounts: MountMap) -> Path:
    local = environ.get("LOCAL_PROJECT_DIR", "")
    # NVIDIA's Colab notebooks use the variable for another folder; there, only what %tao_env has set counts.
    ours = environ.get("LAUNCHER_MOUNTS") or remembered.read(environ).get("folder") == local
    if local and ours and is_folder(local):
        return Path(local)
    for folder in (here, *here.parents):
        if is_folder(folder / ".tao" / "jobs"):
            return folder
    for source, destination in mounts.mounts:
        if destination == CONTAINER_ROOT and here.is_relative_to(source):
            return Path(source)
    return here
