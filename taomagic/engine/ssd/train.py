"""``ssd train``: from a spec and data to a checkpoint an epoch."""

from __future__ import annotations

import argparse
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taomagic.engine.console import duration, say
from taomagic.engine.data.loading import Batch, TrainingData, ValidationData
from taomagic.engine.device import choose_device
from taomagic.engine.ssd import weights
from taomagic.engine.ssd.evaluation import metrics_of, print_table, validate
from taomagic.engine.ssd.model import SSD, parameter_count
from taomagic.engine.ssd.objective import Objective
from taomagic.engine.ssd.predictor import TorchPredictor
from taomagic.engine.status import StatusLog
from taomagic.engine.storage.model_file import file_fingerprint
from taomagic.engine.training.checkpoints import Checkpoints
from taomagic.engine.training.history import report_epoch, write_csv
from taomagic.engine.training.loop import EpochResult, NotFiniteLoss, should_stop_early, train_epoch
from taomagic.engine.training.optimizer import build_optimizer, restore_optimizer
from taomagic.engine.training.quick_mode import QUICK_MODE_VARIABLE, shortened
from taomagic.engine.training.regularizer import Regularizer
from taomagic.engine.training.run_record import RunRecord, drop_set_aside, find_resumable, set_aside
from taomagic.engine.training.schedule import SoftStartAnnealing
from taomagic.engine.training.tensorboard import TensorBoard
from taomagic.errors import ModelFileProblem, UsageProblem
from taomagic.project.paths import PathMap
from taomagic.spec.ssd import SSDExperiment, read_experiment

logger = logging.getLogger(__name__)

#: What a training begins with: network, optimiser state, first epoch.
Start = tuple[SSD, dict[str, Any] | None, int]

#: Architectures whose number of layers is part of TAO's file names.
_ARCHS_WITH_LAYERS = {"resnet", "darknet", "vgg"}


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``ssd train``; the flags are those of :mod:`taomagic.spec.arguments`."""
    results_dir = paths.to_host(args.results_dir)
    status = StatusLog(results_dir)
    experiment = read_experiment(paths.to_host(args.spec), purpose="train", shown_as=args.spec)
    if args.arch == "dssd":
        raise UsageProblem(
            "--arch dssd: the embedded engine has no DSSD", where="ssd train", hint="Drop --arch."
        )
    if args.gpus > 1:
        raise UsageProblem(
            f"--gpus {args.gpus}: the embedded engine trains in one process",
            where="ssd train",
            hint="Use --gpus 1.",
        )
    if args.use_multiprocessing:
        logger.info("--use_multiprocessing: not needed, images are decoded once and stay in memory.")
    if args.initial_epoch > 1 and not args.model:
        raise UsageProblem(
            "--initial_epoch above 1 continues a training, so it needs the checkpoint to continue from",
            where="--initial_epoch",
            hint="Add -m with the checkpoint of the epoch before, e.g. …_epoch_007.tlt for --initial_epoch 8.",
        )
    assert experiment.training is not None
    if args.initial_epoch > experiment.training.num_epochs:
        raise UsageProblem(
            f"--initial_epoch {args.initial_epoch} comes after the last epoch, {experiment.training.num_epochs}",
            where="ssd train",
            hint="Raise num_epochs in training_config; it counts from the very first epoch.",
        )
    Training(experiment, args, paths, results_dir, status).run()


class Training:
    """One training run: its data, network, optimiser and files.

    Parameters
    ----------
    experiment
        The resolved spec.
    args
        The command's flags.
    paths
        Container paths to host paths.
    results_dir
        On this machine.
    status
        Where ``status.json`` records go.
    """

    def __init__(
        self,
        experiment: SSDExperiment,
        args: argparse.Namespace,
        paths: PathMap,
        results_dir: Path,
        status: StatusLog,
    ) -> None:
        assert experiment.training is not None
        assert experiment.evaluation is not None
        assert experiment.nms is not None
        assert experiment.dataset is not None
        self.experiment = experiment
        self.settings = experiment.training
        self.evaluation = experiment.evaluation
        self.args = args
        self.paths = paths
        self.results_dir = results_dir
        self.status = status
        self.device = choose_device(args.gpu_index, amp=args.use_amp)
        if args.use_amp and not self.device.is_cuda:
            logger.warning("--use_amp: mixed precision needs a GPU; training in float32.")
        self.classes = experiment.dataset.classes
        layers = str(experiment.model.nlayers) if experiment.model.arch in _ARCHS_WITH_LAYERS else ""
        self.name = f"ssd_{experiment.model.arch}{layers}"
        self.checkpoints = Checkpoints(results_dir, self.name, ".tlt" if args.key else ".hdf5")
        self.data = TrainingData(experiment, paths, experiment.random_seed)
        has_validation = bool(experiment.dataset.validation_data_sources)
        self.validation = ValidationData(experiment, paths) if has_validation else None
        self._report_data()
        full = -(-len(self.data) // self.settings.batch_size_per_gpu)
        self.steps = shortened(full)
        self.quick = self.steps < full

    def _report_data(self) -> None:
        validation = len(self.validation.names) if self.validation is not None else 0
        logger.info("Number of images in the training dataset:\t%6d", len(self.data))
        logger.info("Number of images in the validation dataset:\t%6d", validation)

    # -- the run ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train from the first epoch, or from where an interrupted run of the same command stopped."""
        if self.args.model:
            self.checkpoints.refuse_to_overwrite(
                self.paths.to_host(self.args.model), self.args.initial_epoch, self.settings.num_epochs
            )
        fingerprint = self.fingerprint()
        record = find_resumable(self.results_dir, fingerprint) if self.args.resume else None
        torch.manual_seed(self.experiment.random_seed)
        start = self._resume(record) if record is not None else None
        if record is None or start is None:
            record, start = self._start(fingerprint)
        model, optimizer_state, first_epoch = start

        self.device.place(model)
        optimizer = build_optimizer(self.settings.optimizer, self._trained_parameters(model))
        if optimizer_state is not None:
            restore_optimizer(optimizer, optimizer_state)
        regularizer = Regularizer(self.settings.regularizer, self.settings.regularizer_weight, model)
        objective = Objective(model, self.experiment.model)
        self._announce(model, objective, first_epoch)

        record.state = "running"
        record.write()
        try:
            self._train(model, optimizer, regularizer, objective, record, first_epoch)
        except NotFiniteLoss:
            record.state = "failed"
            record.write()
            raise
        except BaseException:
            record.state = "interrupted"
            record.write()
            raise
        record.state = "finished"
        record.write()
        drop_set_aside(self.results_dir)
        self.status.write("SUCCESS", "Training finished successfully.")

    def fingerprint(self) -> dict[str, str]:
        """Return what decides the result: a resumed run must agree in all of it."""
        # The path of the spec and its comments don't matter, its values do.
        settings = {k: v for k, v in asdict(self.experiment).items() if k not in {"path", "text", "notes"}}
        options = (
            self.args.initial_epoch,
            self.device.is_cuda,
            self.device.amp,
            self.steps,
            self.checkpoints.suffix,
        )
        weights_file = self.paths.to_host(self.args.model) if self.args.model else None
        return {
            "spec": _hash(repr(settings)),
            "options": _hash(repr(options)),
            "training data": self.data.fingerprint(),
            "validation data": self.validation.fingerprint() if self.validation is not None else "",
            "starting weights": file_fingerprint(weights_file) if weights_file is not None else "",
        }

    def _start(self, fingerprint: dict[str, str]) -> tuple[RunRecord, Start]:
        """Begin afresh: random or given weights, an empty record, room in the results folder."""
        path = self.paths.to_host(self.args.model) if self.args.model else None
        if self.args.initial_epoch > 1:
            assert path is not None
            model, file = weights.model_from_file(path, self.args.key, shown_as=self.args.model)
            if file.optimizer is None:
                raise ModelFileProblem(
                    "this file has no optimiser state, so a training can't continue from it",
                    where=self.args.model,
                    hint="Use a checkpoint that train wrote, or start a new training with --initial_epoch 1.",
                )
            start: Start = (model, file.optimizer, self.args.initial_epoch)
        else:
            model = weights.starting_model(
                self.experiment, self.classes, path, self.args.key, self.args.model or ""
            )
            start = (model, None, 1)
        # Only now, when everything that can be wrong has been looked at, is an earlier run moved out of the way.
        keep = self.checkpoints.leading_to(path, self.args.initial_epoch) if path is not None else ()
        set_aside(self.results_dir, (*self.checkpoints.patterns, "*.csv"), keep=keep)
        (self.results_dir / "weights").mkdir(parents=True, exist_ok=True)
        return RunRecord(self.results_dir, fingerprint), start

    def _resume(self, record: RunRecord) -> Start | None:
        """Continue after the last complete checkpoint; ``None`` if it can't be read (another key, say)."""
        checkpoint = self.results_dir / record.checkpoint
        shown = self.paths.to_container(checkpoint)
        try:
            model, file = weights.model_from_file(checkpoint, self.args.key, shown_as=shown)
        except ModelFileProblem as problem:
            logger.warning("The last checkpoint can't be used (%s); starting afresh.", problem.message)
            return None
        record.history = [row for row in record.history if row["epoch"] <= record.epoch]
        logger.info("Resuming from epoch %d: %s (--no-resume starts afresh)", record.epoch, shown)
        return model, file.optimizer, record.epoch + 1

    def _trained_parameters(self, model: SSD) -> list[torch.nn.Parameter]:
        weights.freeze(model, self.experiment.model.freeze_blocks, batch_norm=False)
        return list(model.parameters())

    def _announce(self, model: SSD, objective: Objective, first_epoch: int) -> None:
        """Print what will run, and how long it will take, before the first step."""
        say(self.experiment.summary())
        shapes = " ".join(f"{h}×{w}" for h, w in model.feature_sizes)
        logger.info(
            "SSD with %s parameters, %d anchors on maps %s",
            f"{parameter_count(model):,}",
            len(model.anchors),
            shapes,
        )
        logger.info("Training on %s", self.device.describe())
        if self.quick:
            logger.warning("QUICK MODE: %s=%d, the metrics mean nothing.", QUICK_MODE_VARIABLE, self.steps)
        epochs = self.settings.num_epochs - first_epoch + 1
        seconds = self._step_seconds(model, objective) * self.steps * max(0, epochs)
        say(
            f"Estimated time: {duration(seconds)} ({epochs} epochs of {self.steps} steps of "
            f"{self.settings.batch_size_per_gpu} images, without validation)"
        )
        self.status.write("STARTED", "Starting Training Loop.")

    def _step_seconds(self, model: SSD, objective: Objective) -> float:
        """Time one training step of a copy of the network, so that neither weights nor random numbers change."""
        import copy

        twin = copy.deepcopy(model).train()
        batch = next(iter(self.data.epoch(1, self.settings.batch_size_per_gpu)))
        seconds = 0.0
        for _ in range(2):  # the first step chooses algorithms and allocates; the second counts
            start = time.perf_counter()
            self._loss(twin, objective, batch).backward()
            if self.device.is_cuda:
                torch.cuda.synchronize()
            seconds = time.perf_counter() - start
        return seconds

    def _loss(self, model: SSD, objective: Objective, batch: Batch) -> Tensor:
        images = batch.images.to(self.device.torch_device, non_blocking=True)
        if len(images) == 1:
            # Batch normalisation can't normalise a single value (a 1×1 map of one image); twins give the same loss.
            images = images.repeat(2, 1, 1, 1)
        with self.device.autocast():
            scores, offsets = model(images.contiguous(memory_format=torch.channels_last))
        count = len(batch.names)
        return objective(scores[:count], offsets[:count], batch).total

    # -- epochs ----------------------------------------------------------------------------------------------------

    def _train(
        self,
        model: SSD,
        optimizer: torch.optim.Optimizer,
        regularizer: Regularizer,
        objective: Objective,
        record: RunRecord,
        first_epoch: int,
    ) -> None:
        epochs, batch_size = self.settings.num_epochs, self.settings.batch_size_per_gpu
        schedule = SoftStartAnnealing(
            self.settings.min_learning_rate,
            self.settings.max_learning_rate,
            self.settings.soft_start,
            self.settings.annealing,
        )
        board = TensorBoard.open(self.settings.visualizer, self.results_dir, self.classes)
        total_steps = epochs * self.steps
        if (
            record.history
        ):  # a run that was killed beside its last epoch may owe its log, or nothing but its end
            self._write_log(record)
        last = first_epoch - 1 if self._stops_early(record, first_epoch - 1) else epochs
        for epoch in range(first_epoch, last + 1):
            say(f"Epoch {epoch}/{epochs}" + (" (quick mode)" if self.quick else ""))
            model.train()
            if self.experiment.model.freeze_bn:
                weights.freeze(model, (), batch_norm=True)
            first_step = (epoch - 1) * self.steps
            result = train_epoch(
                board.watch(self.data.epoch(epoch, batch_size), epoch),
                self.steps,
                loss_of=lambda batch: self._loss(model, objective, batch),
                optimizer=optimizer,
                regularizer=regularizer,
                learning_rate_at=_rate_from(schedule, first_step, total_steps),
                on_step=board.step_logger(first_step),
            )
            row = {"epoch": float(epoch), "loss": result.loss, "lr": result.learning_rate}
            checkpoint = record.checkpoint
            if epoch % self.settings.checkpoint_interval == 0 or epoch == epochs:
                checkpoint = self._save(model, optimizer, epoch)
            if self.validation is not None and (
                epoch % self.evaluation.validation_period == 0 or epoch == epochs
            ):
                row |= self._validate(model, self.validation, objective)
            record.history.append(row)
            stops = self._stops_early(record, epoch)
            if stops and checkpoint == record.checkpoint:
                checkpoint = self._save(model, optimizer, epoch)
            # The record names a checkpoint only when it is complete on disk, and its epoch's row as well.
            if checkpoint != record.checkpoint:
                record.epoch, record.checkpoint = epoch, checkpoint
            record.write()
            self._log_epoch(record, result, epoch, board)
            if stops:
                break
        board.close(model)
        self.status.write("RUNNING", "Training loop complete.")

    def _save(self, model: SSD, optimizer: torch.optim.Optimizer, epoch: int) -> str:
        """Write a checkpoint; return its path in the results folder."""
        relative = self.checkpoints.relative(epoch)
        path = self.results_dir / relative
        say(f"Epoch {epoch:05d}: saving model to {self.paths.to_container(path)}")
        weights.save(path, model, self.args.key, epoch=epoch, optimizer=optimizer.state_dict())
        return str(relative)

    def _validate(self, model: SSD, data: ValidationData, objective: Objective) -> dict[str, float]:
        assert self.experiment.nms is not None
        model.eval()
        predictor = TorchPredictor(model, self.device, self.experiment.nms)
        evaluation, loss = validate(predictor, data, self.evaluation, objective)
        print_table(evaluation, digits=5)
        say(f"Validation loss: {loss}")
        return {**metrics_of(evaluation), "validation_loss": loss}

    def _write_log(self, record: RunRecord) -> None:
        """Write the CSV log from the record's history."""
        with_validation = self.validation is not None
        metric_names = (
            [f"AP_{name}" for name in self.classes] + ["mAP", "validation_loss"] if with_validation else []
        )
        write_csv(
            self.results_dir / f"ssd_training_log_{self.name[4:]}.csv",
            record.history,
            ["loss", "lr", *metric_names],
        )

    def _log_epoch(self, record: RunRecord, result: EpochResult, epoch: int, board: TensorBoard) -> None:
        row = record.history[-1]
        self._write_log(record)
        board.epoch(epoch, row)
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


def _rate_from(schedule: SoftStartAnnealing, first_step: int, total_steps: int) -> Callable[[int], float]:
    """Return the learning rate of step ``i`` of an epoch that begins at ``first_step``."""
    return lambda step: schedule((first_step + step) / total_steps)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
