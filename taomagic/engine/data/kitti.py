"""KITTI label files: strictly for conversion, leniently for training, as TAO reads them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taomagic.errors import DataProblem

FIELDS = 15
#: Training needs the class, the occlusion and the box; TAO's loaders skip rows with fewer than nine fields.
_FIELDS_FOR_TRAINING = 9
#: Records keep 32-bit floats, and occlusions beyond 32 bits mean nothing.
_LARGEST = 2.0**31


class KittiObject(NamedTuple):
    """One row of a label file.

    Attributes
    ----------
    name
        Class as written.
    truncation
        Share outside the image, 0..1; -1 for unknown.
    occlusion
        0 visible, 1 partly hidden, 2 largely hidden, 3 unknown; -1 for ``DontCare``.
    alpha
        Observation angle, -pi..pi.
    box
        x1, y1, x2, y2 in pixels.
    dimensions
        Height, width, length in metres.
    location
        x, y, z in camera coordinates, metres.
    rotation_y
        Heading, -pi..pi.
    row
        0-based position among the rows that aren't blank.
    """

    name: str
    truncation: float
    occlusion: int
    alpha: float
    box: tuple[float, float, float, float]
    dimensions: tuple[float, float, float]
    location: tuple[float, float, float]
    rotation_y: float
    row: int


@dataclass(slots=True)
class TrainingLabels:
    """The boxes of one image that can be trained on, and what was left out.

    Attributes
    ----------
    boxes
        ``[n, 4]`` float32, x1, y1, x2, y2 in pixels.
    classes
        ``[n]`` int64, ids from 1.
    difficult
        ``[n]`` bool, occlusion other than 0.
    short_rows
        Number of rows with fewer than nine fields.
    unknown
        Number of rows per class that the mapping doesn't have.
    """

    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    short_rows: int = 0
    unknown: Counter[str] = field(default_factory=Counter)


def read_labels(path: Path, *, shown_as: str | None = None) -> list[KittiObject]:
    """Read a label file in which every row must be complete.

    Parameters
    ----------
    path
        The file on this machine.
    shown_as
        Its name in messages.

    Raises
    ------
    DataProblem
        The file is missing or isn't text, or a row doesn't have 15 fields with numbers in their places.
    """
    shown = shown_as or str(path)
    objects = []
    for number, row, fields in _rows(path, shown):
        if len(fields) != FIELDS:
            raise DataProblem(
                f"a label row has {len(fields)} fields instead of {FIELDS}",
                where=f"{shown}:{number}",
                hint="a KITTI row is: class, truncation, occlusion, alpha, 4 box, 3 size, 3 place, rotation_y",
            )
        truncation, occlusion, alpha, x1, y1, x2, y2, height, width, length, x, y, z, rotation = _numbers(
            fields[1:], shown, number
        )
        objects.append(
            KittiObject(
                fields[0],
                truncation,
                int(occlusion),
                alpha,
                (x1, y1, x2, y2),
                (height, width, length),
                (x, y, z),
                rotation,
                row,
            )
        )
    return objects


def read_training_labels(
    path: Path, class_ids: Mapping[str, int], *, shown_as: str | None = None
) -> TrainingLabels:
    """Read what training and validation use of a label file.

    Rows with fewer than nine fields and classes that ``class_ids`` doesn't have are skipped and counted.

    Parameters
    ----------
    path, shown_as
        As for :func:`read_labels`.
    class_ids
        Lower-cased class in the labels -> id from 1.

    Raises
    ------
    DataProblem
        The file is missing or isn't text, or a number in a used row can't be read.
    """
    shown = shown_as or str(path)
    boxes, classes, difficult = [], [], []
    short, unknown = 0, Counter[str]()
    for number, _, fields in _rows(path, shown):
        if len(fields) < _FIELDS_FOR_TRAINING:
            short += 1
            continue
        identity = class_ids.get(fields[0].lower())
        if identity is None:
            unknown[fields[0].lower()] += 1
            continue
        occlusion, *box = _numbers([fields[2], *fields[4:8]], shown, number)
        boxes.append(box)
        classes.append(identity)
        difficult.append(int(occlusion) != 0)
    return TrainingLabels(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.array(classes, np.int64),
        np.array(difficult, np.bool_),
        short,
        unknown,
    )


def _rows(path: Path, shown: str) -> list[tuple[int, int, list[str]]]:
    """Return (1-based line, 0-based row, fields) of every line that isn't blank."""
    try:
        with open(path, encoding="utf-8-sig") as file:  # noqa: PTH123 - pathlib's way takes twice as long
            text = file.read()
    except FileNotFoundError:
        raise DataProblem(
            "the label file doesn't exist",
            where=shown,
            hint="every image needs a label file of the same name",
        ) from None
    except UnicodeDecodeError:
        raise DataProblem(
            "the label file isn't text", where=shown, hint="label files are plain text"
        ) from None
    except OSError as error:
        raise DataProblem(f"the label file can't be read: {error.strerror}", where=shown) from error
    lines = [(number, line.split()) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    return [(number, row, fields) for row, (number, fields) in enumerate(lines)]


def _numbers(texts: list[str], shown: str, line: int) -> list[float]:
    """Return numbers of a reasonable size."""
    try:
        values = list(map(float, texts))
    except ValueError:
        values = [math.nan]
    # One comparison for the whole row in the usual case; it is false for NaN too.
    if sum(map(abs, values)) <= _LARGEST:
        return values
    wrong = next((text for text in texts if not _is_number(text)), None)
    if wrong is None:
        return values
    raise DataProblem(
        f"{wrong!r} in a label row isn't a number", where=f"{shown}:{line}", hint="correct or remove the row"
    )


def _is_number(text: str) -> bool:
    try:
        return abs(float(text)) <= _LARGEST
    except ValueError:
        return False
