"""Experiment files written from a cell: checked first, then written in one piece."""

from __future__ import annotations

import difflib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from taomagic.errors import EnvironmentProblem, UsageProblem


@dataclass(frozen=True)
class SavedSpec:
    """A spec file that was written.

    ``diff`` has the lines that changed, in unified form without its header; empty where nothing changed or the
    file is new. ``checked`` says whether its fields are known here; other networks' files are written as they stand.
    """

    path: Path
    created: bool
    diff: tuple[str, ...]
    checked: bool


def save_spec(folder: Path, name: str, text: str, *, shown_as: str) -> SavedSpec:
    """Write an experiment file, unless something is wrong in it.

    Parameters
    ----------
    folder
        Where specs lie on this machine; created if it isn't there.
    name
        The file's name in it, may have folders of its own.
    text
        The experiment in protobuf's text format.
    shown_as
        What messages call the text, since the line numbers are its own.

    Raises
    ------
    SpecProblem
        A field is unknown or a value is wrong. The file that was there before is kept.
    UsageProblem
        The name leads out of the folder.
    EnvironmentProblem
        The file can't be written.
    """
    path = Path(os.path.normpath(folder / name))
    if not path.is_relative_to(folder) or path == folder:
        raise UsageProblem(f"{name!r} isn't a file in {folder}.", hint="Give a name such as ssd_train.txt.")
    from taomagic.spec.kinds import check_text  # protobuf is needed here only

    checked = check_text(text, name=shown_as)
    before = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
    try:
        _write(path, text)
    except OSError as error:
        raise EnvironmentProblem(f"The spec can't be written: {error.strerror}.", where=str(path)) from None
    changed = difflib.unified_diff((before or "").splitlines(), text.splitlines(), lineterm="", n=1)
    return SavedSpec(path, before is None, () if before is None else tuple(changed)[2:], checked)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
