"""A training run, from the first epoch to the last file; what is a network's own comes from its :class:`Network`."""

from __future__ import annotations

import logging
from contextlib import closing

import torch
from torch import nn

from taomagic.engine.console import duration, say
from taomagic.engine.data.loading import on_device
from taomagic.engine.device import Device
from taomagic.engine.quantization import share_scales
from taomagic.engine.signals import Stopped
from taomagic.engine.status import StatusLog
from taomagic.engine.storage.model_file import file_fingerprint
from taomagic.engine.training import quick_mode, state
from taomagic.engine.training.average import WeightAverage
from taomagic.engine.training.batch_norm import share_batch_norm
from taomagic.engine.training.distributed import connected, world
from taomagic.engine.training.estimate import step_seconds
from taomagic.engine.training.hashes import hash_of
from taomagic.engine.training.loop import NotFiniteLoss, train_epoch
from taomagic.engine.training.monitors import Monitors
from taomagic.engine.training.network import Network, TrainingImages
from taomagic.engine.training.optimizer import build_optimizer
from taomagic.engine.training.plan import Command, Plan
from taomagic.engine.training.regularizer import Regularizer
from taomagic.engine.training.report import EpochResult, StepResult
from taomagic.engine.training.run_record import RunRecord, RunState, drop_set_aside
from taomagic.engine.training.start import Start, begin, make_room
from taomagic.engine.training.step import Step
from taomagic.errors import TaoError

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
        self.settings = network.settings
        self.world = world()
        whole = self.settings.batch_size_per_gpu
        full = -(-len(images) // (whole * self.world.size))
        steps, some = quick_mode.shortened(full), quick_mode.images_of_step(whole)
        self.plan = Plan(
            self.settings.num_epochs, steps, some * self.world.size, len(images), quick=quick_mode.is_on()
        )
        # With an image in place of sixteen, steps as large as theirs would diverge.
        self._share_of_rate = some / whole
        self.checkpoints = network.checkpoints(command, steps)
        self.schedule = network.schedule(steps, self.world.size)
        self.report = network.report(command, status, self.plan)
        self._has_trained = False

    def run(self) -> None:
        """Train from the first epoch, or from where an interrupted run of the same command stopped."""
        self.report.model_begins()
        start = begin(self.network, self.command, self.checkpoints, self.fingerprint())
        # A tracker without an account must not have moved a finished run.
        monitors = Monitors.open(self.network, self.command, self.plan, self.device)
        try:
            make_room(start, self.command, self.checkpoints)
            self.report.model_ready(start.model)
            self.device.place(start.model)
            self._announce(start)
        except BaseException:
            monitors.close(failed=True)
            raise
        self._note(start.record, "running")
        try:
            self._train(start, monitors)
        except BaseException as error:
            self._note(start.record, "failed" if isinstance(error, NotFiniteLoss) else "interrupted")
            if isinstance(error, Stopped | KeyboardInterrupt):
                self._save_interrupted(start)
            monitors.close(failed=True)
            raise
        monitors.close()
        self._note(start.record, "finished")
        if self.world.is_main and not self.plan.quick:  # which is no reason to lose what a whole run left
            drop_set_aside(self.command.results_dir)
        self.report.ends()

    def fingerprint(self) -> dict[str, str]:
        """Return what decides the result: a resumed run must agree in all of it."""
        options = (
            self.command.initial_epoch,
            self.device.is_cuda,
            self.device.precision,
            self.plan.steps,
            self.checkpoints.suffix,
            self.world.size,
            *((self.plan.batch_size,) if self.plan.quick else ()),
        )
        model = self.command.model
        return {
            **self.network.fingerprint(),
            "options": hash_of(repr(options)),
            "training data": self.images.fingerprint(),
            "starting weights": file_fingerprint(model, shown_as=self.command.model_shown) if model else "",
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
        plan, here = self.plan, self.world
        if plan.quick:
            self._announce_quick_mode()
        epochs = plan.epochs - start.first_epoch + 1
        if epochs > 0:
            with closing(
                self.images.epoch(1, plan.batch_size, rank=here.rank, world_size=here.size)
            ) as first:
                seconds = step_seconds(self.network, start.model, self.device, next(first))
            say(
                f"Estimated time: {duration(seconds * plan.steps * epochs)} (epochs: {epochs}, steps in each: "
                f"{plan.steps}, images in a step: {plan.batch_size}; without validation)"
            )

    def _announce_quick_mode(self) -> None:
        """Tell everything that quick mode makes smaller, in the log and in ``status.json``."""
        plan, network = self.plan, self.network
        parts = [f"{quick_mode.QUICK_MODE_VARIABLE}={quick_mode.steps_asked()}"]
        parts.append(f"steps in an epoch: {plan.steps}, images in a step: {plan.batch_size}")
        if self._share_of_rate < 1:
            parts.append(f"learning rate: {self._share_of_rate:.4g} of the spec's")
        if network.has_validation:
            count = network.validation_images
            parts.append(f"images in a validation: {quick_mode.images_of_validation(count)} of {count}")
        board = network.board(plan)
        if board is not None and board.weight_histograms:
            parts.append("no histograms of weights")
        if not self._keeps_each_state:
            parts.append(f"checkpoints to go on from: every {quick_mode.CHECKPOINTS_PER_STATE}th")
        message = f"QUICK MODE: {'; '.join(parts)}. The metrics mean nothing."
        logger.warning(message)
        self.report.quick_mode(message)

    @property
    def _keeps_each_state(self) -> bool:
        """Whether one can go on from every checkpoint; its state may be a file of its own, which is never left out."""
        return (
            not self.plan.quick or self.settings.checkpoint_interval > 1 or len(self.checkpoints.files(1)) > 1
        )

    def _build_step(self, start: Start) -> Step:
        """Return what a training step does, with the state that the start brings along."""
        network = self.network
        network.freeze(start.model)
        if not self.world.is_alone:
            start.model = share_batch_norm(start.model)
            share_scales(start.model)
        model = start.model
        optimizer = build_optimizer(self.settings.optimizer, model.parameters())
        average = WeightAverage(model) if network.averages_weights else None
        scaler = self.device.loss_scaler(self.settings.cost_scaling)
        if start.state is not None:
            state.restore(start.state, model, optimizer, scaler, average)
            network.restore(state.of_network(start.state))
        regularizer = Regularizer(
            self.settings.regularizer,
            self.settings.regularizer_weight,
            model,
            biases=network.regularizes_biases,
        )
        called = connected(model, self.device.torch_device)
        twins = network.needs_twins(model)
        objective = network.objective(model)
        return Step(called, objective, self.device, optimizer, regularizer, scaler, average, twins=twins)

    def _train(self, start: Start, monitors: Monitors) -> None:
        """Train epoch after epoch; after each one all that is known is on disk."""
        record, epoch = start.record, start.first_epoch
        self.report.steps_begin()
        step = self._build_step(start)
        self.report.steps_ready()
        model = step.average.model if step.average is not None else start.model
        # A run that was killed beside its last epoch may owe its log, or nothing but its end.
        self.report.loop_begins(record.history)
        if self.checkpoints.has_start and epoch == 1 and start.state is None:
            self._save(start.model, step, 0)
        last = self._last_epoch(record)
        while epoch <= last:
            result = self._train_epoch(start.model, step, epoch, monitors, record)
            row = {"epoch": float(epoch), "loss": result.loss, "lr": result.learning_rate}
            checkpoint = record.checkpoint
            if epoch % self.settings.checkpoint_interval == 0 or epoch == last:
                whole = self._keeps_each_state or quick_mode.keeps_state(epoch, last)
                saved = self._save(start.model, step, epoch, whole=whole)
                checkpoint = saved if whole else checkpoint
            if self.network.is_validated(epoch, last):
                row |= self._validate(model)
            record.history.append(row)
            last = self._last_epoch(record)
            if epoch == last and checkpoint == record.checkpoint:
                checkpoint = self._save(start.model, step, epoch)
            # The record names a checkpoint to go on from only when it is complete on disk, and its epoch's row as well.
            if checkpoint != record.checkpoint:
                record.epoch, record.checkpoint = epoch, checkpoint
            self._note(record, "running")
            self._log_epoch(record, result, epoch)
            monitors.epoch(epoch, row, model)
            epoch += 1
        self.report.loop_ends()
        self._save_final(model, last)

    def _last_epoch(self, record: RunRecord) -> int:
        """Return the last epoch as far as it is known, and say so where it has come early."""
        last = self.schedule.last_epoch(record.history)
        if last < self.plan.epochs and record.history and record.history[-1]["epoch"] == last:
            self.report.stopped_early(last)
        return last

    def _train_epoch(
        self, model: nn.Module, step: Step, epoch: int, monitors: Monitors, record: RunRecord
    ) -> EpochResult:
        self.report.epoch_begins(epoch)
        self.network.to_training_mode(model)
        plan, here = self.plan, self.world
        # What a step draws at random (dropout) is the same after a resume, and another on each process.
        torch.manual_seed(hash((self.network.seed, epoch, here.rank)) & 0x7FFF_FFFF_FFFF_FFFF)
        first_step = (epoch - 1) * plan.steps
        batches = self.images.epoch(epoch, plan.batch_size, rank=here.rank, world_size=here.size)
        watch = monitors.step_logger(first_step)

        def on_step(result: StepResult) -> None:
            self._has_trained = True
            self.report.step(result)
            watch(result)

        with closing(batches):
            result = train_epoch(
                on_device(monitors.watch(batches, epoch), self.device.torch_device),
                plan.steps,
                step,
                learning_rate_at=lambda i: (
                    self._share_of_rate * self.schedule.rate(first_step + i, record.history)
                ),
                on_step=on_step,
            )
        self.report.epoch_trained(result)
        self.network.end_epoch()
        return result

    def _save(self, model: nn.Module, step: Step, epoch: int, *, whole: bool = True) -> str:
        """Write a checkpoint, a ``whole`` one with all that is needed to go on; return its path in the folder."""
        relative = self.checkpoints.relative(epoch)
        if self.world.is_main:
            path = self.command.results_dir / relative
            self.report.checkpoint(self.command.paths.to_container(path), epoch)
            shown = model if step.average is None else step.average.model
            kept = state.collect(model, step.optimizer, step.scaler, step.average, self.network.state())
            self.network.save(path, shown, epoch=epoch, state=kept if whole else None)
        return str(relative)

    def _save_final(self, model: nn.Module, epoch: int) -> None:
        """Write the final model, where the network has one besides its checkpoints."""
        if self.checkpoints.final is not None and self.world.is_main:
            path = self.command.results_dir / self.checkpoints.final
            self.report.final_begins(self.command.paths.to_container(path))
            self.network.save(path, model, epoch=epoch, state=None)
            self.report.final_ready(path, model)

    def _save_interrupted(self, start: Start) -> None:
        """Write the final model as it is when the training is stopped; it is replaced when it goes on."""
        if self.checkpoints.final is not None and self.world.is_main and self._has_trained:
            path = self.command.results_dir / self.checkpoints.final
            try:
                self.network.save(path, start.model, epoch=start.record.epoch, state=None)
            except (TaoError, OSError) as error:  # that it was stopped is what counts
                logger.warning("The model can't be written as it is now: %s", error)
            else:
                self.report.interrupted(self.command.paths.to_container(path))

    def _validate(self, model: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            return self.network.validate(model, self.device)

    def _log_epoch(self, record: RunRecord, result: EpochResult, epoch: int) -> None:
        self.report.epoch_ends(record.history, epoch, self.schedule.last_epoch(record.history), result)
