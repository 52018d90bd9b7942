"""Write sample scenes to disk in KITTI's layout."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taomagic.errors import DataProblem, EnvironmentProblem, TaoError, UsageProblem
from taomagic.samples.workers import Recipe, draw_chunks

ImageFormat = Literal["jpg", "png"]

#: Raised whenever the drawing changes, so that an older set isn't taken for the same one.
DRAWING_VERSION = 2
_RECORD = "taomagic_samples.json"
#: Splits in drawing order, and whether they carry labels. The position is part of each scene's seed.
_SPLITS: tuple[tuple[str, bool], ...] = (("training", True), ("val", True), ("testing", False))
#: Below this many scenes starting a second process costs more than it saves.
_WORTH_A_SECOND_PROCESS = 60
_CHUNK = 16
_SMALLEST, _LARGEST = 64, 8192


@dataclass(frozen=True)
class SampleSet:
    """What :func:`create` made or found.

    Attributes
    ----------
    directory
        The folder that holds ``training``, ``val`` and ``testing``.
    images
        Number of images per split.
    objects
        Number of labelled objects per class over all splits, ``DontCare`` included.
    created
        ``False`` where the identical set was there already and nothing was written.
    seconds
        Time taken.
    """

    directory: Path
    images: Mapping[str, int]
    objects: Mapping[str, int]
    created: bool
    seconds: float

    def summary(self) -> str:
        """Return the set in one or two readable lines."""
        images = ", ".join(f"{count} {split}" for split, count in self.images.items())
        objects = ", ".join(
            f"{count} {name}" for name, count in sorted(self.objects.items()) if name != "DontCare"
        )
        done = f"drawn in {self.seconds:.1f} s" if self.created else "already there, nothing to do"
        return f"{self.directory}: {images} images ({done})\nLabelled objects: {objects or 'none'}"


def create(
    directory: str | os.PathLike[str],
    *,
    training: int = 400,
    val: int = 150,
    testing: int = 60,
    size: tuple[int, int] = (768, 240),
    seed: int = 0,
    image_format: ImageFormat = "jpg",
    processes: int | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SampleSet:
    """Draw street scenes with cars, pedestrians and cyclists in KITTI's layout.

    Writes ``training/image_2``, ``training/label_2``, ``val/image_2``, ``val/label_2`` and ``testing/image_2``
    with files ``000000.jpg`` / ``000000.txt`` and so on. Each scene depends on the seed, its split and its number
    alone: the same seed gives the same bytes whatever the counts and the number of processes (with the same
    versions of NumPy and OpenCV).

    Parameters
    ----------
    directory
        Where the set goes; created if needed. Other files in it are left alone.
    training, val, testing
        Number of images per split, 0 for none.
    size
        Width and height in pixels, 64..8192 each.
    seed
        Any integer from 0 to 2**63 - 1.
    image_format
        ``jpg`` (quality 92) or ``png``.
    processes
        Drawing processes; by default 2 for larger sets.
    force
        Replace a different set, or other images, in the way. Their image and label folders are removed.
    progress
        Called with (images drawn, images in all) from time to time.

    Returns
    -------
    SampleSet

    Raises
    ------
    UsageProblem
        A count, the size, the seed or the format is out of range.
    DataProblem
        The folders already hold other images, or the disk is full.
    EnvironmentProblem
        NumPy or OpenCV isn't installed.
    """
    began = time.monotonic()
    counts = {"training": training, "val": val, "testing": testing}
    _check(counts, size, seed, image_format)
    root = Path(directory).expanduser()
    wanted = {
        "drawing": DRAWING_VERSION,
        "seed": seed,
        "size": list(size),
        "format": image_format,
        "images": counts,
    }
    found = _recorded(root)
    if found is not None and {key: found.get(key) for key in wanted} == wanted and _complete(root, found):
        return SampleSet(root, counts, found["objects"], created=False, seconds=time.monotonic() - began)
    _clear_the_way(root, force=force)
    with _disk_errors_named(root):
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            dir=root, prefix=".drawing-", ignore_cleanup_errors=True
        ) as workshop:
            stage = Path(workshop)
            recipe = Recipe(workshop, size, seed, image_format)
            objects = _draw_all(recipe, counts, processes, progress)
            _move_in(stage, root)
        record = {**wanted, "objects": dict(sorted(objects.items())), "files": _inventory(root)}
        write_atomically(root / _RECORD, json.dumps(record, indent=1).encode())
    return SampleSet(
        root, counts, dict(sorted(objects.items())), created=True, seconds=time.monotonic() - began
    )


def _check(counts: Mapping[str, int], size: tuple[int, int], seed: int, image_format: str) -> None:
    """Raise for arguments that can't be carried out."""
    try:
        import cv2  # noqa: F401
        import numpy  # noqa: F401
    except ImportError as error:
        raise EnvironmentProblem(
            f"drawing sample scenes needs {error.name}",
            hint="install it with: pip install 'taomagic[engine]'",
        ) from error
    for split, count in counts.items():
        if not 0 <= count <= 999_999:
            raise UsageProblem(
                f"{count} {split} images can't be drawn", hint="give a number from 0 to 999999"
            )
    if not any(counts.values()):
        raise UsageProblem(
            "a set without a single image was asked for", hint="give a number of training images"
        )
    if len(size) != 2 or not all(_SMALLEST <= side <= _LARGEST for side in size):
        raise UsageProblem(
            f"the size {'x'.join(map(str, size))} is not possible",
            hint=f"width and height are {_SMALLEST}..{_LARGEST} pixels",
        )
    if not 0 <= seed < 2**63:
        raise UsageProblem(f"the seed {seed} is not possible", hint="give a number from 0 to 2**63 - 1")
    if image_format not in ("jpg", "png"):
        raise UsageProblem(f"images can't be written as {image_format!r}", hint="the formats are jpg and png")


def _recorded(root: Path) -> dict[str, dict[str, int]] | None:
    """Return the record of the set in the folder, ``None`` if there is none that can be read."""
    try:
        record = json.loads((root / _RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("files"), dict) else None


def _folders(root: Path) -> Iterator[Path]:
    """Yield the folders that a set consists of."""
    for split, labelled in _SPLITS:
        yield root / split / "image_2"
        if labelled:
            yield root / split / "label_2"


def _inventory(root: Path) -> dict[str, int]:
    """Return path and size in bytes of every file of the set, to find changes without reading any."""
    return {
        f"{folder.relative_to(root).as_posix()}/{entry.name}": entry.stat().st_size
        for folder in _folders(root)
        if folder.is_dir()
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name)
    }


def _complete(root: Path, record: Mapping[str, Mapping[str, int]]) -> bool:
    """Return whether the files on disk are those of the record, no more and no fewer."""
    return _inventory(root) == dict(record["files"])


def _clear_the_way(root: Path, *, force: bool) -> None:
    """Remove other images and labels if asked to; refuse to mix with them otherwise."""
    occupied = [folder for folder in _folders(root) if folder.is_dir() and any(folder.iterdir())]
    if not occupied:
        return
    if not force:
        raise DataProblem(
            "the folder already holds other images or labels: "
            + ", ".join(str(folder.relative_to(root)) for folder in occupied),
            where=str(root),
            hint="choose another folder, or replace these files with force=True (--force)",
        )
    (root / _RECORD).unlink(missing_ok=True)
    for folder in occupied:
        shutil.rmtree(folder)


def _draw_all(
    recipe: Recipe,
    counts: Mapping[str, int],
    processes: int | None,
    progress: Callable[[int, int], None] | None,
) -> Counter[str]:
    """Draw every scene below the recipe's folder and return the number of objects per class."""
    stage = Path(recipe.folder)
    for folder in _folders(stage):
        if counts[folder.parent.name]:
            folder.mkdir(parents=True)
    chunks = [
        (position, split, start, min(start + _CHUNK, counts[split]))
        for position, (split, _) in enumerate(_SPLITS)
        for start in range(0, counts[split], _CHUNK)
    ]
    total, done = sum(counts.values()), 0
    if processes is None:
        processes = min(2, os.cpu_count() or 1) if total >= _WORTH_A_SECOND_PROCESS else 1

    def report(drawn: int) -> None:
        nonlocal done
        done += drawn
        if progress is not None:
            progress(done, total)

    return draw_chunks(recipe, chunks, min(processes, len(chunks)), report)


def _move_in(stage: Path, root: Path) -> None:
    """Move the finished folders to their places."""
    for folder in _folders(stage):
        if folder.is_dir():
            target = root / folder.relative_to(stage)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_dir():
                target.rmdir()
            folder.rename(target)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all; raises ``OSError``."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise


@contextmanager
def _disk_errors_named(root: Path) -> Iterator[None]:
    """Turn errors of the file system into one that says where."""
    try:
        yield
    except TaoError:
        raise
    except OSError as error:
        raise DataProblem(
            f"the sample scenes can't be written: {error.strerror or error}",
            where=str(root),
            hint="make room on the disk or choose another folder; nothing half-written is left",
        ) from error
