"""The report of the networks that TAO trains with Keras: its progress lines, and a CSV log with a row an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from taomagic.engine.console import TrainingBar, say
from taomagic.engine.status import StatusLog
from taomagic.engine.training.distributed import world
from taomagic.engine.training.history import report_epoch, write_csv
from taomagic.engine.training.plan import Plan
from taomagic.engine.training.report import EpochResult, Report, Row, StepResult


class KerasReport(Report):
    """See :class:`~taomagic.engine.training.report.Report`.

    Parameters
    ----------
    status
        Where ``status.json`` records go.
    plan
        How much is to be done.
    log
        The CSV file.
    metric_names
        Its columns besides epoch, loss and learning rate.
    """

    def __init__(self, status: StatusLog, plan: Plan, log: Path, metric_names: Sequence[str]) -> None:
        self._status = status
        self._plan = plan
        self._log = log
        self._columns = ["loss", "lr", *metric_names]
        self._bar = TrainingBar(plan.steps)
        self._notes: list[str] = []

    def quick_mode(self, message: str) -> None:
        """Record it, when the training has started."""
        self._notes.append(message)

    def loop_begins(self, history: Sequence[Row]) -> None:
        """Write what the log of a run that was killed may owe."""
        self._status.write("STARTED", "Starting Training Loop.")
        for message in self._notes:
            self._status.write("RUNNING", message)
        if history:
            self._write(history)

    def epoch_begins(self, epoch: int) -> None:
        """Print ``Epoch 3/80``."""
        say(f"Epoch {epoch}/{self._plan.epochs}" + (" (quick mode)" if self._plan.quick else ""))
        self._bar = TrainingBar(self._plan.steps)

    def step(self, result: StepResult) -> None:
        """Draw the progress line."""
        self._bar.update(result.index + 1, result.mean)

    def epoch_trained(self, result: EpochResult) -> None:
        """Print the finished progress line."""
        self._bar.close(result.loss)

    def checkpoint(self, shown_as: str, epoch: int) -> None:
        """Print where it goes."""
        say(f"Epoch {epoch:05d}: saving model to {shown_as}")

    def epoch_ends(self, history: Sequence[Row], epoch: int, last: int, result: EpochResult) -> None:
        """Write the log and ``status.json``."""
        self._write(history)
        left = result.seconds * (last - epoch)
        report_epoch(
            self._status,
            history[-1],
            epoch=epoch,
            epochs=self._plan.epochs,
            seconds=result.seconds,
            left=left,
        )

    def stopped_early(self, epoch: int) -> None:
        """Print it."""
        say(f"Epoch {epoch:05d}: early stopping")

    def loop_ends(self) -> None:
        """Record it."""
        self._status.write("RUNNING", "Training loop complete.")

    def ends(self) -> None:
        """Record it."""
        self._status.write("SUCCESS", "Training finished successfully.")

    def _write(self, history: Sequence[Row]) -> None:
        if world().is_main:
            write_csv(self._log, history, self._columns)
