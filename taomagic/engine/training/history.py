"""The CSV log of a training: one row an epoch, ``nan`` where an epoch was not evaluated."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from taomagic.engine.storage.atomic import atomic_write


def write_csv(path: Path, history: Sequence[Mapping[str, float]], columns: Sequence[str]) -> None:
    """Write the whole history in one step, so that a crash never leaves half a row.

    Parameters
    ----------
    path
        The CSV file.
    history
        Rows with ``epoch`` (1-based) and some of ``columns``.
    columns
        All names, sorted as Keras' CSVLogger does: upper case before lower case.
    """
    names = ["epoch", *sorted(columns)]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    for row in history:
        writer.writerow([int(row["epoch"]), *(row.get(name, "nan") for name in names[1:])])
    with atomic_write(path) as file:
        file.write(buffer.getvalue().encode())
