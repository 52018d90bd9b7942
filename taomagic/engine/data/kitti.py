"""KITTI label files: strictly for conversion, leniently for training, as TAO reads them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from taomagic.engine.data.decoding import read_file
from taomagic.errors import DataProblem

#: What labels call a region that nobody looked at closely, in small letters.
DONTCARE = "dontcare"
FIELDS = 15
#: Training needs the class, the occlusion and the box; TAO's loaders skip rows with fewer than nine fields.
_FIELDS_FOR_TRAINING = 9
#: Records keep 32-bit floats, and occlusions beyond 32 bits mean nothing.
_LARGEST = 2.0**31


class Objects(NamedTuple):
    """The objects of one image, column by column, as KITTI has them.

    Attributes
    ----------
    names
        Class as written.
    truncation
        Share outside the image, 0..1; -1 for unknown.
    occlusion
        0 visible, 1 partly hidden, 2 largely hidden, 3 unknown; -1 for ``DontCare``.
    alpha
        Observation angle, -pi..pi.
    x1, y1, x2, y2
        Box in pixels.
    height, width, length
        Metres.
    x, y, z
        Place in camera coordinates, metres.
    rotation_y
        Heading, -pi..pi.
    keys
        What each is known by: in a label file its 0-based position among the rows that aren't blank.
    """

    names: Sequence[str] = ()
    truncation: Sequence[float] = ()
    occlusion: Sequence[float] = ()
    alpha: Sequence[float] = ()
    x1: Sequence[float] = ()
    y1: Sequence[float] = ()
    x2: Sequence[float] = ()
    y2: Sequence[float] = ()
    height: Sequence[float] = ()
    width: Sequence[float] = ()
    length: Sequence[float] = ()
    x: Sequence[float] = ()
    y: Sequence[float] = ()
    z: Sequence[float] = ()
    rotation_y: Sequence[float] = ()
    keys: Sequence[object] = ()

    def keep(self, chosen: Sequence[object]) -> Objects:
        """Return the objects whose place in ``chosen`` is true."""
        return Objects._make(list(compress(column, chosen)) for column in self)


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


def read_labels(path: str | Path, *, shown_as: str | None = None) -> Objects:
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
    lines = _read(path, shown).split("\n")
    rows = [fields for fields in map(str.split, lines) if fields]
    if not rows:
        return Objects()
    if set(map(len, rows)) == {FIELDS}:
        names, *columns = zip(*rows, strict=True)
        try:
            numbers = [list(map(float, column)) for column in columns]
        except ValueError:
            numbers = [[math.nan]]
        # One comparison for the whole file; it is false for NaN too.
        if sum(sum(map(abs, column)) for column in numbers) <= _LARGEST:
            return Objects._make([names, *numbers, range(len(rows))])
    _explain(lines, shown)
    # Every number is one, only their sum is out of the ordinary.
    return Objects._make([names, *numbers, range(len(rows))])


def _explain(lines: list[str], shown: str) -> None:
    """Raise for the first row that is wrong."""
    for number, line in enumerate(lines, 1):
        fields = line.split()
        if fields and len(fields) != FIELDS:
            raise DataProblem(
                f"a label row has {len(fields)} fields instead of {FIELDS}",
                where=f"{shown}:{number}",
                hint="a KITTI row is: class, truncation, occlusion, alpha, 4 box, 3 size, 3 place, rotation_y",
            )
        _numbers(fields[1:], shown, number)


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
    for number, fields in enumerate(map(str.split, _read(path, shown).split("\n")), 1):
        if not fields:
            continue
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


def _read(path: str | Path, shown: str) -> str:
    """Return the text of a label file."""
    try:
        return read_file(path).decode("utf-8-sig")
    except FileNotFoundError:
        raise DataProblem(
            "the label file doesn't exist",
            where=shown,
            hint="every image needs a label file of the same name",
        ) from None
    except UnicodeDecodeError:
        raise DataProblem(
            "the label file isn't text in UTF-8",
            where=shown,
            hint="label files are plain text; save it as UTF-8",
        ) from None
    except OSError as error:
        raise DataProblem(
            f"the label file can't be read: {error.strerror}",
            where=shown,
            hint="replace it or remove the image",
        ) from error


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
