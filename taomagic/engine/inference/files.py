"""Images that are looked for, and files that are written for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2

from taomagic.engine.data.images import Image
from taomagic.engine.data.kitti import FIELDS
from taomagic.errors import DataProblem, UsageProblem
from taomagic.project.paths import PathMap

#: Endings that count as images, in lower case.
EXTENSIONS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class Outputs:
    """Where the results go: ``None`` for a kind that was not asked for."""

    images: Path | None
    labels: Path | None

    @property
    def folders(self) -> list[Path]:
        """The folders that are written to."""
        return [folder for folder in (self.images, self.labels) if folder is not None]

    def refuse_originals(self, source: Path, paths: PathMap, *, where: str, hint: str) -> None:
        """Raise where annotated images would replace those that they are made of.

        Parameters
        ----------
        source
            The image, or the folder of images.
        paths
            For the name in the message.
        where, hint
            The command, and how it names another folder.

        Raises
        ------
        UsageProblem
            As said.
        """
        folder = source if source.is_dir() else source.parent
        if self.images is not None and self.images.resolve() == folder.resolve():
            raise UsageProblem(
                f"the annotated images would replace the originals in {paths.to_container(folder)}",
                where=where,
                hint=hint,
            )

    def refuse_ground_truth(self, files: Sequence[Path], paths: PathMap) -> None:
        """Raise where label files would replace labels that somebody drew: those have no confidence, as ours have.

        Parameters
        ----------
        files
            The images, whose names the label files get.
        paths
            For the name in the message.

        Raises
        ------
        DataProblem
            As said, with the first such file.
        """
        if self.labels is None or not self.labels.is_dir():
            return
        for image in files:
            path = self.labels / f"{image.stem}.txt"
            try:
                with path.open(encoding="utf-8", errors="replace") as file:
                    fields = next((row.split() for row in file if row.strip()), [])
            except OSError:
                continue  # most often there is none
            if len(fields) == FIELDS:
                raise DataProblem(
                    "this looks like a label file of a data set, and the results would replace it",
                    where=paths.to_container(path),
                    hint="Give another folder for the results, or move the labels away.",
                )


def find_images(path: Path, shown_as: str, extensions: Sequence[str] = EXTENSIONS) -> list[Path]:
    """Return the images of a folder (not of the folders in it), or the one image, sorted.

    Raises
    ------
    DataProblem
        There are none.
    """
    kinds = f"{', '.join(extensions[:-1])} or {extensions[-1]}"
    if path.is_file():
        if path.suffix.lower() in extensions:
            return [path]
        raise DataProblem(f"this is no {kinds} image", where=shown_as, hint="Check -i.")
    if not path.is_dir():
        raise DataProblem("there is no such image or folder", where=shown_as, hint="Check -i.")
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in extensions and p.is_file())
    if files:
        return files
    deeper = next((p for p in sorted(path.glob("*/*")) if p.suffix.lower() in extensions), None)
    if deeper is not None:
        hint = f"Its folders have images, and aren't searched: give one of them, {deeper.parent.name} for example."
    else:
        hint = "Check -i."
    raise DataProblem(f"this folder has no {kinds} image", where=shown_as, hint=hint)


def refuse_shared_labels(files: Sequence[Path], shown_as: str, hint: str) -> None:
    """Raise where two images differ in their ending only, so that one's label file would replace the other's.

    Parameters
    ----------
    files
        The images.
    shown_as
        Where they are, for the message.
    hint
        What to do about it.

    Raises
    ------
    DataProblem
        With the names of two.
    """
    first: dict[str, Path] = {}
    for path in files:
        other = first.setdefault(path.stem, path)
        if other is not path:
            raise DataProblem(
                f"{other.name} and {path.name} would have the same label file, {path.stem}.txt",
                where=shown_as,
                hint=hint,
            )


def encode(image: Image, path: Path) -> bytes:
    """Return an RGB image as a file of the kind that the name of ``path`` says."""
    ok, data = cv2.imencode(path.suffix.lower(), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    if not ok:
        raise DataProblem("this picture can't be encoded", where=str(path))
    return bytes(data.tobytes())


def replace_small(path: Path, content: bytes) -> None:
    """Write a small file in one step. Not forced to the disk: thousands follow, and all can be made again."""
    temporary = path.with_name(f".{path.name}.partial")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = error.filename or str(path)  # a full disk names no file
        raise
