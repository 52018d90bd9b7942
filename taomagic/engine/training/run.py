"""A training run, from the first epoch to the last file; what is a network's own comes from its :class:`Network`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from contextlib import closing

import torch
from torch import nn

from taomagic.engine.console import duration, say
from taomagic.engine.data.loading import on_device
from taomagic.engine.device import Device
from taomagic.engine.quantization import share_scales
from taomagic.engine.status import StatusLog
from taomagic.engine.storage.model_file import file_fingerprint
from taomagic.engine.training import state
from taomagic.engine.training.average import WeightAverage
from taomagic.engine.training.batch_norm import share_batch_norm
from taomagic.engine.training.checkpoints import Checkpoints
from taomagic.engine.training.distributed import connected, world
from taomagic.engine.training.estimate import step_seconds
from taomagic.engine.training.history import report_epoch, write_csv
from taomagic.engine.training.loop import EpochResult, NotFiniteLoss, should_stop_early, train_epoch
from taomagic.engine.training.monitors import Monitors
from taomagic.engine.training.network import Command, Network, TrainingImages
from taomagic.engine.training.optimizer import build_optimizer
from taomagic.engine.training.quick_mode import QUICK_MODE_VARIABLE, shortened
from taomagic.engine.training.regularizer import Regularizer
from taomagic.engine.training.run_record import RunRecord, RunState, drop_set_aside
from taomagic.engine.training.schedule import SoftStartAnnealing
from taomagic.engine.training.start import Start, begin
from taomagic.engine.training.step import Step

logger = logging.getLogger(__name__)


class TrainingRun:
    """One training: its data, network, optimiser and files.

    Parameters
    ----------
    network
        What is trained.
    images
        What it is trained on.
    command
        What the command line says.
    device
        Where it runs.
    status
        Where ``status.json`` records go.
    """

    def __init__(
        self, network: Network, images: TrainingImages, command: Command, device: Device, status: StatusLog
    ) -> None:
        self.network = network
        self.images = images
        self.command = command
        self.device = device
        self.status = status
        self.settings = network.settings
        self.world = world()
        self.checkpoints = Checkpoints(command.results_dir, network.name, ".tlt" if command.key else ".hdf5")
        self.batch_size = self.settings.batch_size_per_gpu * self.world.size
        full = -(-len(images) // self.batch_size)
        self.steps = shortened(full)
        self.quick = self.steps < full

    def run(self) -> None:
        """Train from the first epoch, or from where an interrupted run of the same command stopped."""
        Monitors.check(self.network)
        start = begin(self.network, self.command, self.checkpoints, self.fingerprint())
        monitors = Monitors.open(self.network, self.command)
        self.device.place(start.model)
        self._announce(start)
        self._note(start.record, "running")
        try:
            self._train(start, monitors)
        except BaseException as error:
            self._note(start.record, "failed" if isinstance(error, NotFiniteLoss) else "interrupted")
            monitors.close(failed=True)
            raise
        monitors.close()
        self._note(start.record, "finished")
        if self.world.is_main:
            drop_set_aside(self.command.results_dir)
        self.status.write("SUCCESS", "Training finished successfully.")

    def fingerprint(self) -> dict[str, str]:
        """Return what decides the result: a resumed run must agree in all of it."""
        options = (
            self.command.initial_epoch,
            self.device.is_cuda,
            self.device.precision,
            self.steps,
            self.checkpoints.suffix,
            self.world.size,
        )
        model = self.command.model
        return {
            **self.network.fingerprint(),
            "options": hash_of(repr(options)),
            "training data": self.images.fingerprint(),
            "starting weights": file_fingerprint(model) if model is not None else "",
        }

    def _note(self, record: RunRecord, state_of_run: RunState) -> None:
        record.state = state_of_run
        if self.world.is_main:
            record.write()

    def _announce(self, start: Start) -> None:
        """Print what will run, and how long it will take, before the first step."""
        say(self.network.summary())
        logger.info(self.network.describe(start.model))
        logger.info("Training on %s", self.device.describe(self.world.size))
        if self.quick:
            logger.warning("QUICK MODE: %s=%d, the metrics mean nothing.", QUICK_MODE_VARIABLE, self.steps)
        epochs = self.settings.num_epochs - start.first_epoch + 1
        if epochs > 0:
            here = self.world
            with closing(
                self.images.epoch(1, self.batch_size, rank=here.rank, world_size=here.size)
            ) as first:
                seconds = step_seconds(self.network, start.model, self.device, next(first))
            say(
                f"Estimated time: {duration(seconds * self.steps * epochs)} ({epochs} epochs of {self.steps} steps of "
                f"{self.batch_size} images, without validation)"
            )
        self.status.write("STARTED", "Starting Training Loop.")

    def _build_step(self, start: Start) -> Step:
        """Return what a training step does, with the state that the start brings along."""
        network = self.network
        network.freeze(start.model)
        if not self.world.is_alone:
            start.model = share_batch_norm(start.model)
            share_scales(start.model)
        model = start.model
        optimizer = build_optimizer(self.settings.optimizer, model.parameters())
        average = WeightAverage(model) if self.settings.model_ema else None
        scaler = self.device.loss_scaler(self.settings.cost_scaling)
        if start.state is not None:
            state.restore(start.state, model, optimizer, scaler, average)
        regularizer = Regularizer(self.settings.regularizer, self.settings.regularizer_weight, model)
        called = connected(model, self.device.torch_device)
        return Step(called, network.objective(model), self.device, optimizer, regularizer, scaler, average)

    def _train(self, start: Start, monitors: Monitors) -> None:
        """Train epoch after epoch; after each one all that is known is on disk."""
        record, first_epoch, epochs = start.record, start.first_epoch, self.settings.num_epochs
        step = self._build_step(start)
        model = step.average.model if step.average is not None else start.model
        if record.history:
            # A run that was killed beside its last epoch may owe its log, or nothing but its end.
            self._write_log(record)
        last = first_epoch - 1 if self._stops_early(record, first_epoch - 1) else epochs
        for epoch in range(first_epoch, last + 1):
            result = self._train_epoch(start.model, step, epoch, monitors)
            row = {"epoch": float(epoch), "loss": result.loss, "lr": result.learning_rate}
            checkpoint = record.checkpoint
            if epoch % self.settings.checkpoint_interval == 0 or epoch == epochs:
                checkpoint = self._save(start.model, step, epoch)
            if self.network.has_validation and (
                epoch % self.network.validation_period == 0 or epoch == epochs
            ):
                row |= self._validate(model)
            record.history.append(row)
            stops = self._stops_early(record, epoch)
            if stops and checkpoint == record.checkpoint:
                checkpoint = self._save(start.model, step, epoch)
            # The record names a checkpoint only when it is complete on disk, and its epoch's row as well.
            if checkpoint != record.checkpoint:
                record.epoch, record.checkpoint = epoch, checkpoint
            self._note(record, "running")
            self._log_epoch(record, result, epoch)
            monitors.epoch(epoch, row, model)
            if stops:
                break
        self.status.write("RUNNING", "Training loop complete.")

    def _train_epoch(self, model: nn.Module, step: Step, epoch: int, monitors: Monitors) -> EpochResult:
        say(f"Epoch {epoch}/{self.settings.num_epochs}" + (" (quick mode)" if self.quick else ""))
        self.network.to_training_mode(model)
        first_step = (epoch - 1) * self.steps
        here = self.world
        batches = self.images.epoch(epoch, self.batch_size, rank=here.rank, world_size=here.size)
        with closing(batches):
            return train_epoch(
                on_device(monitors.watch(batches, epoch), self.device.torch_device),
                self.steps,
                step,
                learning_rate_at=self._rate_from(first_step),
                on_step=monitors.step_logger(first_step),
            )

    def _rate_from(self, first_step: int) -> Callable[[int], float]:
        """Return the learning rate of step ``i`` of an epoch that begins at ``first_step``."""
        # A batch of N processes holds N times the images: TAO makes both ends of the schedule N times as high.
        schedule = SoftStartAnnealing(
            self.settings.min_learning_rate * self.world.size,
            self.settings.max_learning_rate * self.world.size,
            self.settings.soft_start,
            self.settings.annealing,
        )
        total_steps = self.settings.num_epochs * self.steps
        return lambda step: schedule((first_step + step) / total_steps)

    def _save(self, model: nn.Module, step: Step, epoch: int) -> str:
        """Write a checkpoint; return its path in the results folder."""
        relative = self.checkpoints.relative(epoch)
        if self.world.is_main:
            path = self.command.results_dir / relative
            say(f"Epoch {epoch:05d}: saving model to {self.command.paths.to_container(path)}")
            shown = model if step.average is None else step.average.model
            kept = state.collect(model, step.optimizer, step.scaler, step.average)
            self.network.save(path, shown, epoch=epoch, state=kept)
        return str(relative)

    def _validate(self, model: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            return self.network.validate(model, self.device)

    def _write_log(self, record: RunRecord) -> None:
        """Write the CSV log from the record's history."""
        if self.world.is_main:
            metrics = self.network.metric_names() if self.network.has_validation else []
            path = self.command.results_dir / self.network.log_name
            write_csv(path, record.history, ["loss", "lr", *metrics])

    def _log_epoch(self, record: RunRecord, result: EpochResult, epoch: int) -> None:
        row = record.history[-1]
        self._write_log(record)
        report_epoch(self.status, row, epoch=epoch, epochs=self.settings.num_epochs, seconds=result.seconds)

    def _stops_early(self, record: RunRecord, epoch: int) -> bool:
        rule = self.settings.early_stopping
        if rule is None:
            return False
        values = [row[rule.monitor] for row in record.history if rule.monitor in row]
        if not should_stop_early(values, patience=rule.patience, min_delta=rule.min_delta):
            return False
        say(f"Epoch {epoch:05d}: early stopping")
        return True


def hash_of(text: str) -> str:
    """Return a short hash of a text, for fingerprints."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
