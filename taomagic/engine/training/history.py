"""The log of a training: a CSV file with a row an epoch (``nan`` where it was not evaluated), and ``status.json``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from taomagic.engine.status import StatusLog
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


def report_epoch(
    status: StatusLog, row: Mapping[str, float], *, epoch: int, epochs: int, seconds: float, left: float
) -> None:
    """Append an epoch's records to ``status.json``, with values as strings as TAO writes them.

    Parameters
    ----------
    status
        Where to.
    row
        ``loss``, ``lr``, and in an evaluated epoch ``mAP`` and ``validation_loss``.
    epoch, epochs
        This one (1-based), and how many the spec has.
    seconds
        How long it took, without validation.
    left
        Seconds to the end of the training, without validations.
    """
    graphical = {"loss": str(row["loss"]), "learning_rate": str(row["lr"])}
    kpi = {}
    if "mAP" in row:
        kpi = {"mean average precision": str(row["mAP"])}
        graphical |= {"validation_loss": str(row["validation_loss"]), **kpi}
    payload = {
        "epoch": epoch,
        "max_epoch": epochs,
        "time_per_epoch": str(timedelta(seconds=seconds)),
        "eta": str(timedelta(seconds=round(left))),
    }
    status.write("RUNNING", "Training loop in progress", payload=payload, graphical=graphical, kpi=kpi)
    if kpi:
        status.write("RUNNING", "Evaluation metrics generated.", kpi=kpi)
