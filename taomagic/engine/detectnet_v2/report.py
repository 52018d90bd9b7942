"""What a training of DetectNet_v2 tells: the lines of TensorFlow's hooks, ``status.json`` and ``monitor.json``."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path

from torch import nn

from taomagic.engine.console import say
from taomagic.engine.detectnet_v2.evaluation import GridEvaluation, print_report, status_parts
from taomagic.engine.detectnet_v2.model import DetectNet
from taomagic.engine.status import State, StatusLog
from taomagic.engine.storage.atomic import atomic_write
from taomagic.engine.training.distributed import world
from taomagic.engine.training.layer_table import layer_table
from taomagic.engine.training.plan import Plan
from taomagic.engine.training.report import EpochResult, Report, Row, StepResult
from taomagic.engine.weights.state import parameter_count

logger = logging.getLogger(__name__)

#: Seconds between two lines about the loss.
_LOSS_EVERY_S = 5.0
#: Steps between two lines about the speed.
_SPEED_EVERY = 25


class EstimatorReport(Report):
    """See :class:`~taomagic.engine.training.report.Report`.

    Epochs are counted as TAO does: from 0 in the lines about the loss, where ``Epoch 3/120`` says that three are done,
    and from 1 above the table of a validation.

    Parameters
    ----------
    status
        Where ``status.json`` records go.
    plan
        How much is to be done.
    results_dir
        Where ``monitor.json`` and ``experiment_spec.txt`` go.
    spec
        The experiment file.
    framed
        Whether the table of a validation is release 5's.
    """

    def __init__(
        self, status: StatusLog, plan: Plan, results_dir: Path, spec: str, *, framed: bool = False
    ) -> None:
        self._status = status
        self._plan = plan
        self._monitor = results_dir / "monitor.json"
        self._spec_copy, self._spec = results_dir / "experiment_spec.txt", spec
        self._framed = framed
        self._epoch = 0
        self._has_begun = False
        self._loss_shown: float | None = None
        self._speed_shown = time.monotonic()
        self._size: dict[str, float] = {}
        self._final = ""

    def model_begins(self) -> None:
        """Record it."""
        self._tell("STARTED", "Starting DetectNet_v2 Training job")
        self._running("Training gridbox model", "Building DetectNet V2 model")

    def model_ready(self, model: nn.Module) -> None:
        """Print its layers, record it, and copy the spec: not before, since a failed start replaces nothing."""
        assert isinstance(model, DetectNet)
        if world().is_main:
            with atomic_write(self._spec_copy) as file:
                file.write(self._spec.encode())
        for line in layer_table(model, model.architecture.input_shape):
            say(line)
        self._running("DetectNet V2 model built.")

    def quick_mode(self, message: str) -> None:
        """Record it."""
        self._status.write("RUNNING", message)

    def steps_begin(self) -> None:
        """Record it."""
        self._running("Building rasterizer.")

    def steps_ready(self) -> None:
        """Record it, in the words of a framework that builds graphs beforehand."""
        self._running("Rasterizers built.", "Building training graph.", "Rasterizing tensors.")
        self._running("Tensors rasterized.", "Training graph built.")
        self._running("Building validation graph.", "Validation graph built.")

    def loop_begins(self, history: Sequence[Row]) -> None:  # noqa: ARG002 - there is no log that a killed run may owe
        """Record it."""
        self._running("Running training loop.")

    def epoch_begins(self, epoch: int) -> None:
        """Start the clock."""
        self._epoch = epoch
        self._speed_shown = time.monotonic()

    def step(self, result: StepResult) -> None:
        """Print the loss every five seconds, and the speed every 25 steps."""
        if not self._has_begun:
            self._has_begun = True
            self._tell_epoch(self._epoch - 1, result.loss, result.learning_rate, 0.0)
        now = time.monotonic()
        done = (self._epoch - 1) * self._plan.steps + result.index + 1
        if self._loss_shown is None or now - self._loss_shown >= _LOSS_EVERY_S:
            since = "" if self._loss_shown is None else f" ({now - self._loss_shown:.3f} sec)"
            say(
                f"INFO:tensorflow:epoch = {done / self._plan.steps}, learning_rate = {result.learning_rate:.7g}, "
                f"loss = {result.loss:.7g}, step = {done}{since}"
            )
            self._loss_shown = now
        if (result.index + 1) % _SPEED_EVERY == 0:
            seconds = max(1e-9, now - self._speed_shown)
            logger.info("Train Samples / sec: %.3f", _SPEED_EVERY * self._plan.batch_size / seconds)
            self._speed_shown = now

    def checkpoint(self, shown_as: str, epoch: int) -> None:
        """Print it."""
        logger.info("Saving checkpoints for step-%d.", epoch * self._plan.steps)
        logger.debug("Model file: %s", shown_as)

    def validated(self, result: GridEvaluation) -> None:
        """Print and record what a validation gave."""
        print_report(result, framed=self._framed, epoch=(self._epoch, self._plan.epochs))
        self._status.write("RUNNING", "Evaluation metrics generated.", **status_parts(result))

    def epoch_ends(self, history: Sequence[Row], epoch: int, last: int, result: EpochResult) -> None:
        """Print what the epoch gave, and record it."""
        left = result.seconds * (last - epoch)
        self._tell_epoch(epoch, result.loss, result.learning_rate, result.seconds, left)
        taken, eta = _clock(result.seconds), _clock(left)
        payload = {"epoch": epoch, "max_epoch": self._plan.epochs, "time_per_epoch": taken, "eta": eta}
        graphical = {"loss": history[-1]["loss"], "learning_rate": history[-1]["lr"]}
        self._status.write("RUNNING", "Training loop in progress", payload=payload, graphical=graphical)
        if world().is_main:
            content = {
                "loss": result.loss,
                "cur_epoch": epoch,
                "max_epoch": self._plan.epochs,
                "time_per_epoch": taken,
                "ETA": eta,
            }
            with atomic_write(self._monitor) as file:
                file.write(json.dumps(content).encode())

    def stopped_early(self, epoch: int) -> None:
        """Print it."""
        logger.info("The validation cost no longer falls: the training ends after epoch %d.", epoch)

    def loop_ends(self) -> None:
        """Record it."""
        self._running("Training loop completed.")

    def final_begins(self, shown_as: str) -> None:
        """Record it."""
        self._running("Saving trained model.")
        self._final = shown_as

    def final_ready(self, path: Path, model: nn.Module) -> None:
        """Print where it is, and record its size."""
        say(f"Saved: {self._final}")
        self._size = {"size": path.stat().st_size / 2**20, "param_count": parameter_count(model) / 1e6}
        self._tell("RUNNING", "Model saved.", kpi=self._size)

    def interrupted(self, shown_as: str) -> None:
        """Print where the model is."""
        logger.info("The model as it is now has been written; the same command goes on with the training.")
        say(f"Saved: {shown_as}")

    def ends(self) -> None:
        """Record it."""
        self._tell("SUCCESS", "DetectNet_v2 training job complete.", kpi=self._size)

    def _running(self, *messages: str) -> None:
        for message in messages:
            self._tell("RUNNING", message)

    def _tell(self, state: State, message: str, *, kpi: Mapping[str, float] | None = None) -> None:
        """Print and record a message."""
        logger.info(message)
        self._status.write(state, message, kpi=kpi)

    def _tell_epoch(self, done: int, loss: float, rate: float, seconds: float, left: float = 0.0) -> None:
        logger.info(
            "Epoch %d/%d: loss: %0.5f learning rate: %s Time taken: %s ETA: %s",
            *(done, self._plan.epochs, loss, f"{rate:.7g}", _clock(seconds), _clock(left)),
        )


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds, 6)))
