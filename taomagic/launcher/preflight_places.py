"""Files and folders that a command names, looked for on this machine; what is missing is said with what is near."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from taomagic.errors import DataProblem
from taomagic.launcher.context import Context
from taomagic.project.paths import is_container_path, is_folder, is_missing


@dataclass(frozen=True)
class Places:
    """Finds what a command names.

    Parameters
    ----------
    context
        The folder that relative paths begin in, and the mount map.
    """

    context: Context

    def host(self, path: str) -> Path:
        """Return where a path lies on this machine."""
        return self.context.host(path)

    def shown(self, path: str) -> str:
        """Return a path as written, with its place on this machine where that differs."""
        return shown_place(path, self.host(path))

    def file(self, path: str, what: str, problem: Callable[[str, str, str], Exception]) -> None:
        """Raise a problem where a file isn't there, or can't be read.

        Parameters
        ----------
        path
            As written.
        what
            What it should be, for the message.
        problem
            Makes the exception from message, place and hint.
        """
        host = self.host(path)
        if os.path.isfile(host) and os.access(host, os.R_OK):  # noqa: PTH113
            return
        if is_folder(host):
            raise problem(f"This is a folder, not a {what}.", self.shown(path), self.near(path, host / "x"))
        if not is_missing(host):
            raise problem(f"You may not read this {what}.", self.shown(path), "Ask its owner, or copy it.")
        raise problem(f"There is no such {what}.", self.shown(path), self.near(path, host))

    def data_folder(self, path: str, spec: str) -> None:
        """Raise :class:`DataProblem` where a folder of data that a spec names isn't there."""
        host = self.host(path)
        if not is_folder(host):
            raise DataProblem(
                f"The data folder {self.shown(path)} doesn't exist.",
                where=spec,
                hint=self.near(path, host, folders=True),
            )

    def near(self, path: str, host: Path, *, folders: bool = False) -> str:
        """Return a hint: names alike in the folder, or where the path stops existing."""
        if not self.context.mounts.mounts and is_container_path(path):
            return "This is a path in a container, and no mount map is set. Run %tao_env in a notebook."
        return near_names(host, folders=folders)


def shown_place(path: str, host: Path) -> str:
    """Return a path as written, with its place on this machine where that differs."""
    return path if str(host) == path else f"{path} (here: {host})"


def near_names(host: Path, *, folders: bool | None = None) -> str:
    """Return a hint for a path that doesn't exist: names alike in its folder, or where it stops existing.

    Parameters
    ----------
    host
        The path on this machine.
    folders
        Whether a folder is meant, or a file; ``None``: either.
    """
    parent = host.parent
    if not is_folder(parent):
        while not is_folder(parent):
            parent = parent.parent
        return f"The path exists up to {parent}."
    try:
        names = sorted(e.name for e in parent.iterdir() if folders is None or is_folder(e) == folders)
    except OSError:
        return f"You may not look into {parent}."
    if near := difflib.get_close_matches(host.name, names, n=3, cutoff=0.5):
        return f"Did you mean {' or '.join(near)}?"
    if folders is None:
        return f"{parent} holds: {', '.join(names[:10])}." if names else f"{parent} is empty."
    kind = "folders" if folders else "files"
    return f"{parent} has these {kind}: {', '.join(names[:10])}." if names else f"{parent} has no {kind}."
