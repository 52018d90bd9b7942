"""Hand out the sample specs and notebooks that come with the package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taomagic.errors import DataProblem, UsageProblem
from taomagic.samples.layout import write_atomically

Scale = Literal["sample", "kitti"]

_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class CopyReport:
    """Which files were handed out.

    Attributes
    ----------
    created
        Files that were not there before.
    same
        Files that were there with the very same content.
    kept
        Files that the user has changed; they were left as they are.
    """

    created: tuple[Path, ...]
    same: tuple[Path, ...]
    kept: tuple[Path, ...]

    def summary(self) -> str:
        """Return one line per file that was created or kept."""
        lines = [f"created {path}" for path in self.created]
        lines += [
            f"kept    {path} (changed by you; delete it to get the original back)" for path in self.kept
        ]
        if self.same:
            lines.append(
                f"{len(self.same)} {'file was' if len(self.same) == 1 else 'files were'} there already"
            )
        return "\n".join(lines)


def copy_specs(net: str, directory: str | os.PathLike[str], scale: Scale = "sample") -> CopyReport:
    """Copy the spec files of a network into a folder.

    Parameters
    ----------
    net
        Name of the network, e.g. ``ssd``.
    directory
        Where they go, e.g. ``$LOCAL_SPECS_DIR``; created if needed. A file that is there is never overwritten.
    scale
        ``sample`` for the scenes of ``tao samples create`` on a laptop, ``kitti`` for NVIDIA's sizes.

    Raises
    ------
    UsageProblem
        There are no such specs.
    DataProblem
        The folder can't be written.
    """
    if scale not in ("sample", "kitti"):
        raise UsageProblem(
            f"there are no specs of the scale {scale!r}", hint="the scales are sample and kitti"
        )
    source = _shipped("specs") / net
    # KITTI scale, with NVIDIA's file names, lies in the network's folder, sample scale in one of its own.
    folder = source / "sample" if scale == "sample" else source
    files = sorted(path for path in folder.glob("*") if path.is_file()) if folder.is_dir() else []
    if not files:
        raise UsageProblem(f"there are no {scale} specs for {net!r}", hint=_choices("specs"))
    return _copy(files, Path(directory).expanduser())


def copy_notebook(net: str, directory: str | os.PathLike[str]) -> CopyReport:
    """Copy the sample notebook of a network into a folder; arguments and errors as for :func:`copy_specs`."""
    folder = _shipped("notebooks") / net
    files = sorted(folder.glob("*.ipynb")) if folder.is_dir() else []
    if not files:
        raise UsageProblem(f"there is no sample notebook for {net!r}", hint=_choices("notebooks"))
    return _copy(files, Path(directory).expanduser())


def notebook_nets() -> tuple[str, ...]:
    """Return the networks that there is a sample notebook for, in alphabetical order."""
    found = _shipped("notebooks").glob("*/*.ipynb")
    return tuple(sorted(path.stem for path in found if path.stem == path.parent.name))


def read_notebook(net: str) -> str:
    """Return the sample notebook of a network as the text of its ``.ipynb`` file.

    Raises
    ------
    UsageProblem
        There is no such notebook.
    """
    if net not in notebook_nets():
        raise UsageProblem(f"there is no sample notebook for {net!r}", hint=_choices("notebooks"))
    return (_shipped("notebooks") / net / f"{net}.ipynb").read_text(encoding="utf-8")


def _shipped(kind: Literal["specs", "notebooks"]) -> Path:
    """Return the folder of shipped files: inside the installed package, or beside it in a source checkout."""
    inside = _PACKAGE / kind
    return inside if inside.is_dir() else _PACKAGE.parents[1] / kind


def _choices(kind: Literal["specs", "notebooks"]) -> str:
    """Return a hint that names the networks there are files for."""
    folder = _shipped(kind)
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return (
        f"there are some for: {', '.join(names)}"
        if names
        else "the package was installed without its sample files"
    )


def _copy(files: list[Path], directory: Path) -> CopyReport:
    """Copy the files that are missing."""
    created, same, kept = [], [], []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for source, target in _pairs(files, directory):
            content = source.read_bytes()
            if not target.exists():
                write_atomically(target, content)
                created.append(target)
            elif target.read_bytes() == content:
                same.append(target)
            else:
                kept.append(target)
    except OSError as error:
        raise DataProblem(
            f"the sample files can't be written: {error.strerror or error}",
            where=str(directory),
            hint="choose another folder",
        ) from error
    return CopyReport(tuple(created), tuple(same), tuple(kept))


def _pairs(files: list[Path], directory: Path) -> Iterator[tuple[Path, Path]]:
    """Yield each file with its place in the folder."""
    for source in files:
        yield source, directory / source.name
