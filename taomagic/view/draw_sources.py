"""What a finished job left that can be drawn: records of ``status.json``, tables of the log, pictures and labels.

Everything here was written by a program that may have been killed, by another version, or by a person. What can't be
read, or doesn't look as expected, counts as not there.
"""

from __future__ import annotations

import ast
import json
import math
import re
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from taomagic.errors import EnvironmentProblem
from taomagic.launcher import lines, records
from taomagic.launcher.job import Job
from taomagic.launcher.progress import Artefact
from taomagic.project.paths import PathMap, read_pairs
from taomagic.view.draw_svg import evenly
from taomagic.view.draw_types import Box, Thumbnail

Point = tuple[float, float]

#: The most bytes read of a log or of a status file, from its end.
MAX_TEXT = 8_000_000
#: The most bytes read of a label file, and the most boxes taken from it.
MAX_LABELS, MAX_BOXES = 200_000, 300
#: The most pictures offered to a view.
MAX_PICTURES = 24
IMAGES = {".jpg", ".jpeg", ".png", ".ppm"}
#: Seconds by which the clock of a file server may differ from ours.
CLOCK_SKEW_S = 120.0

_COUNT = re.compile(r"(?:^|[\s:>])(?P<name>b'(?:[^'\\]|\\.)*'|b\"(?:[^\"\\]|\\.)*\"): (?P<count>\d{1,12})$")
_TOTALS = "Cumulative object statistics"


@dataclass(frozen=True)
class Places:
    """Where the paths of a job's command lie on this machine."""

    paths: PathMap
    cwd: Path

    @classmethod
    def of(cls, job: Job) -> Places:
        """Read the map that the job was started with."""
        record = records.read_json(job.directory / "job.json") or {}
        try:
            pairs = read_pairs(job.directory / "mounts.json")
        except EnvironmentProblem:
            pairs = []
        return cls(PathMap(pairs), Path(str(record.get("cwd") or job.project)))

    def host(self, path: str | None) -> Path | None:
        """Return where a path lies; relative ones begin where the command was given."""
        return self.cwd / self.paths.to_host(path) if path else None


def status_record(
    job: Job, category: str, name: str, matches: Callable[[Mapping[str, Any]], bool]
) -> Mapping[str, Any] | None:
    """Return the job's first success record in ``status.json`` that has a certain part, and matches.

    Several jobs may write to the same file, so ``matches`` must compare the record with what the job printed.
    """
    for path, offset in _status_files(job):
        for line in _tail(path, offset).splitlines():
            if b'"SUCCESS"' not in line:
                continue
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict) and part(record, category, name) and matches(record):
                return record
    return None


def _status_files(job: Job) -> Iterator[tuple[Path, int]]:
    record = records.read_json(job.directory / "job.json") or {}
    if record.get("status_file"):
        yield Path(str(record["status_file"])), int(record.get("status_offset") or 0)
    yield job.directory / "status.json", 0
    # Without a results folder, `evaluate` writes beside the model.
    model = Places.of(job).host(job.command.option("-m", "--model", "--model_path"))
    if model is not None:
        yield model.parent / "status.json", 0


def part(record: Mapping[str, Any] | None, category: str, name: str) -> Mapping[str, Any]:
    """Return one mapping of a status record, e.g. ``categorical`` → ``average_precision``; empty if there is none."""
    of_category = (record or {}).get(category)
    found = of_category.get(name) if isinstance(of_category, dict) else None
    return found if isinstance(found, dict) else {}


def numbers(mapping: Mapping[str, Any]) -> dict[str, float]:
    """Return the entries of a mapping that are finite numbers."""
    return {str(name): float(value) for name, value in mapping.items() if _is_number(value)}


def points(value: Any) -> list[Point]:
    """Return the pairs of finite numbers in a list."""
    pairs = value if isinstance(value, list) else []
    return [
        (float(pair[0]), float(pair[1]))
        for pair in pairs
        if isinstance(pair, list) and len(pair) == 2 and _is_number(pair[0]) and _is_number(pair[1])
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def object_counts(log: Path) -> dict[str, int]:
    r"""Return the objects by class that a conversion's log sums up: lines like ``b'car': 783`` in its last table.

    NVIDIA's converters and ours print the same; the names are Python's bytes, so ``b'\xe8\xbd\xa6'`` is a class, too.
    """
    text = _tail(log, 0).decode("utf-8", "replace")
    _, found, table = text.rpartition(_TOTALS)
    counts: dict[str, int] = {}
    for line in table.splitlines() if found else ():
        match = _COUNT.search(lines.clean(line))
        if match is not None:
            name = ast.literal_eval(match["name"]).decode("utf-8", "replace")
            counts[name] = int(match["count"])
    return counts


def _tail(path: Path, offset: int) -> bytes:
    """Return a file from ``offset`` on, of a large one only the end; empty if it can't be read."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(offset if offset <= size else 0, size - MAX_TEXT))
            return file.read(MAX_TEXT)
    except OSError:
        return b""


def pictures(job: Job) -> list[Thumbnail]:
    """Return an even choice of the images that an inference looked at, with what it found and what is there.

    Without label files there are only the pictures into which the command drew its boxes.
    """
    places, command = Places.of(job), job.command
    source = places.host(command.option("-i", "--image_dir", "--in_image_dir", "--inference_input"))
    ended = job.started.timestamp() + job.seconds + CLOCK_SKEW_S
    labels, annotated = _output_folders(job, places)
    if labels is not None:
        named = {file.name for file in _files(labels)}
        images = [file for file in _images(source) if f"{file.stem}.txt" in named]
        chosen = [
            _labelled(image, labels / f"{image.stem}.txt", ended) for image in evenly(images, MAX_PICTURES)
        ]
    else:
        chosen = [_drawn(image, ended) for image in evenly(_images(annotated), MAX_PICTURES)]
    return [picture for picture in chosen if picture is not None]


def written_pictures(artefacts: Iterable[Artefact]) -> list[Thumbnail]:
    """Return the pictures among the files that a command has written, without boxes: they are drawn into them."""
    sizes = [(artefact.host, image_size(artefact.host)) for artefact in artefacts if artefact.kind == "png"]
    return [Thumbnail(path, *size, predicted=()) for path, size in sizes[:MAX_PICTURES] if size is not None]


def _labelled(image: Path, label: Path, ended: float) -> Thumbnail | None:
    size, predicted = image_size(image), read_labels(label)
    if size is None or predicted is None or not _written_before(label, ended):
        return None
    truth = next((boxes for boxes in map(read_labels, _truth_files(image)) if boxes is not None), None)
    if truth is not None:
        truth = tuple(box for box in truth if box.class_name.lower() != "dontcare")
    return Thumbnail(image, *size, predicted=predicted, truth=truth)


def _drawn(image: Path, ended: float) -> Thumbnail | None:
    size = image_size(image)
    return (
        None if size is None or not _written_before(image, ended) else Thumbnail(image, *size, predicted=())
    )


def _output_folders(job: Job, places: Places) -> tuple[Path | None, Path | None]:
    """Return where an inference wrote its labels and its pictures, for the flags of every generation."""
    command = job.command
    results = places.host(command.option("-r", "--results_dir"))
    # A folder for the pictures alone, or, with DetectNet_v2, for both.
    output = places.host(command.option("-o", "--out_image_dir", "--inference_output"))
    parents = [folder for folder in (results, output) if folder is not None]
    labels = [
        places.host(command.option("-l", "--out_label_dir")),
        *(folder / "labels" for folder in parents),
    ]
    annotated = [*(folder / "images_annotated" for folder in parents), output]
    return _first_folder(labels), _first_folder(annotated)


def _first_folder(candidates: Iterable[Path | None]) -> Path | None:
    return next((folder for folder in candidates if folder is not None and folder.is_dir()), None)


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _images(source: Path | None) -> list[Path]:
    files = [] if source is None else [source] if source.is_file() else _files(source)
    return [file for file in files if file.suffix.lower() in IMAGES]


def _truth_files(image: Path) -> Iterator[Path]:
    """Yield where the labels of an image lie by custom: ``image_2`` → ``label_2``, ``images`` → ``labels``."""
    folder, name = image.parent, f"{image.stem}.txt"
    sibling = folder.name.replace("images", "labels").replace("image", "label")
    for label_folder in dict.fromkeys((sibling, "label_2", "labels")):
        if label_folder != folder.name:
            yield folder.parent / label_folder / name


def _written_before(path: Path, moment: float) -> bool:
    """Tell whether a file is as the job left it; a later command may have replaced it."""
    try:
        return path.stat().st_mtime <= moment
    except OSError:
        return False


def read_labels(path: Path) -> tuple[Box, ...] | None:
    """Return the boxes of a KITTI label file (15 fields, a 16th is the confidence); ``None`` if it can't be read."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_LABELS).decode("utf-8", "replace")
    except OSError:
        return None
    boxes = []
    for row in text.splitlines()[:MAX_BOXES]:
        fields = row.split()
        try:
            corners = [float(field) for field in fields[4:8]]
            confidence = float(fields[15]) if len(fields) > 15 else None
        except ValueError:
            continue
        if len(corners) == 4 and all(math.isfinite(value) for value in (*corners, confidence or 0.0)):
            x1, y1, x2, y2 = corners
            boxes.append(Box(x1, y1, x2, y2, lines.clean(fields[0]), confidence))
    return tuple(boxes)


def image_size(path: Path) -> tuple[int, int] | None:
    """Return width and height of a PNG, JPEG or PPM file from its header; ``None`` if it is none of these."""
    try:
        with path.open("rb") as file:
            head = file.read(24)
            if head[:8] == b"\x89PNG\r\n\x1a\n":
                width, height = struct.unpack(">II", head[16:24])
            elif head[:2] == b"\xff\xd8":
                width, height = _jpeg_size(file)
            elif head[:2] in (b"P5", b"P6"):
                _, width, height = map(
                    int, re.sub(rb"#[^\n]*\n", b"", b"0" + head[2:] + file.read(1000)).split()[:3]
                )
            else:
                return None
    except (OSError, ValueError, struct.error):
        return None
    return (width, height) if width and height else None


def _jpeg_size(file: BinaryIO) -> tuple[int, int]:
    """Return the size in the frame header of a JPEG file (ITU-T T.81, B.2.2); zeros where there is none."""
    file.seek(2)
    while True:
        marker, kind = struct.unpack(">BB", file.read(2))
        if marker != 0xFF:
            return 0, 0
        while kind == 0xFF:  # any marker may be preceded by fill bytes
            (kind,) = struct.unpack(">B", file.read(1))
        (length,) = struct.unpack(">H", file.read(2))
        # C4, C8 and CC are tables and an extension; the others from C0 to CF begin a frame.
        if 0xC0 <= kind <= 0xCF and kind not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">xHH", file.read(5))
            return width, height
        file.seek(max(length - 2, 0), 1)
