"""Which folders the server may look into: those under its root folder, links that lead out of it excluded."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from taomagic.errors import UsageProblem
from taomagic.launcher import records

#: A job's id, as :func:`taomagic.launcher.records.create` makes it.
JOB_ID = re.compile(r"[0-9a-f]{10}")


class Root:
    """The folder that the server shows in its file browser.

    Parameters
    ----------
    folder
        An existing folder of this machine.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()

    def contents_path(self, path: Path) -> str | None:
        """Return the path under which the file browser shows a file or folder.

        Returns
        -------
        str or None
            Relative to the root, with slashes; ``None`` for what lies outside, is hidden, or isn't there.
        """
        try:
            relative = path.resolve(strict=True).relative_to(self.folder)
        except (OSError, ValueError, RuntimeError):  # RuntimeError: a loop of links
            return None
        if any(part.startswith(".") for part in relative.parts):
            return None
        return "/".join(relative.parts)

    def subfolder(self, path: str) -> Path:
        """Return the folder that the file browser names so.

        Parameters
        ----------
        path
            Relative to the root; empty for the root itself.

        Raises
        ------
        UsageProblem
            It isn't there, is hidden, or leads out of the root. All three sound alike, so that nobody learns what
            there is elsewhere.
        """
        parts = [part for part in path.split("/") if part]
        refused = UsageProblem(f'There is no folder "{path}".', hint="Choose a folder in the file browser.")
        if "\0" in path or any(part.startswith(".") for part in parts):
            raise refused
        folder = self.folder.joinpath(*parts)
        if self.contents_path(folder) is None or not folder.is_dir():
            raise refused
        return folder.resolve()

    def job_folders(self, projects: Iterable[Path]) -> Iterator[Path]:
        """Yield the folders of the jobs of those projects that lie under the root.

        A record that is, holds, or is reached by a link that leaves its project is left out.
        """
        seen: set[Path] = set()
        for project in projects:
            try:
                real = project.resolve(strict=True)
            except (OSError, RuntimeError):
                continue
            if real in seen or not real.is_relative_to(self.folder):
                continue
            seen.add(real)
            if records.jobs_folder(project).resolve() != records.jobs_folder(real):
                continue
            for folder in records.job_folders(project):
                if JOB_ID.fullmatch(folder.name) and _is_plain(folder):
                    yield folder


#: A link might lead anywhere, and whoever opens a pipe waits for its other end.
_UNWANTED = frozenset({stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK})


def _is_plain(folder: Path) -> bool:
    """Tell whether this folder, and all that is in it, is what it seems to be."""
    try:
        return not any(
            stat.S_IFMT(entry.lstat().st_mode) in _UNWANTED for entry in (folder, *folder.iterdir())
        )
    except OSError:
        return False
