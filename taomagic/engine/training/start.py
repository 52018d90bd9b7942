"""Where a training begins: at random or given weights, after a given epoch, or where an interrupted run stopped."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from taomagic.engine.training.checkpoints import Checkpoints
from taomagic.engine.training.distributed import barrier, of_main, world
from taomagic.engine.training.network import Network
from taomagic.engine.training.plan import Command
from taomagic.engine.training.quick_mode import is_on
from taomagic.engine.training.run_record import RunRecord, find_resumable, set_aside
from taomagic.errors import ModelFileProblem, UsageProblem

logger = logging.getLogger(__name__)


@dataclass
class Start:
    """What a training begins with.

    Attributes
    ----------
    model
        The network, on the CPU.
    state
        What an earlier training left for going on; ``None`` at the very beginning.
    first_epoch
        1-based.
    record
        The run's record, not yet written.
    resumed
        Whether an interrupted run goes on, which needs what lies in the results folder.
    """

    model: nn.Module
    state: dict[str, Any] | None
    first_epoch: int
    record: RunRecord
    resumed: bool = False


def begin(network: Network, command: Command, checkpoints: Checkpoints, fingerprint: dict[str, str]) -> Start:
    """Go on with an interrupted run of the same command, or start one; nothing is written yet."""
    if command.model is not None:
        checkpoints.refuse_to_overwrite(command.model, command.initial_epoch, network.settings.num_epochs)
    record = None
    if command.resume:
        # The main process decides for all: another one might look when the folder has already changed.
        record = of_main(find_resumable(command.results_dir, fingerprint) if world().is_main else None)
    torch.manual_seed(network.seed)
    resumed = _resume(network, command, checkpoints, record) if record is not None else None
    return resumed or _start(network, command, fingerprint)


def make_room(start: Start, command: Command, checkpoints: Checkpoints) -> None:
    """Move an earlier run out of the way: only when everything that can be wrong has been looked at."""
    if start.resumed:
        return
    barrier()
    if world().is_main:
        path = command.model
        keep = checkpoints.leading_to(path, start.first_epoch) if path is not None else ()
        set_aside(command.results_dir, checkpoints.patterns, keep=keep)
        (command.results_dir / "weights").mkdir(parents=True, exist_ok=True)


def _start(network: Network, command: Command, fingerprint: dict[str, str]) -> Start:
    path = command.model
    model, state, first_epoch = None, None, command.initial_epoch
    if path is not None and command.continues:
        model, file = network.load(path, command.model_shown)
        if file.optimizer is None:
            raise ModelFileProblem(
                "this file has no optimiser state, so a training can't continue from it",
                where=command.model_shown,
                hint="Use a checkpoint that train wrote, or start a new training with --initial_epoch 1.",
            )
        state = file.optimizer
        first_epoch = max(first_epoch, file.epoch + 1) if command.initial_epoch == 1 else first_epoch
        _refuse_to_end_before_the_start(first_epoch, network.settings.num_epochs)
    else:
        model = network.start(path, command.model_shown)
    # Weights of an earlier run that stay in the folder are not this one's, whose files nobody will miss.
    is_own = path is None or not path.resolve().is_relative_to(command.results_dir.resolve())
    record = RunRecord(command.results_dir, fingerprint, quick=is_on() and is_own)
    return Start(model, state, first_epoch, record)


def check_initial_epoch(command: Command, epochs: int) -> None:
    """Refuse an ``--initial_epoch`` that has nothing to continue from, or nothing left to do.

    Raises
    ------
    UsageProblem
        As said.
    """
    if command.initial_epoch > 1 and command.model is None:
        raise UsageProblem(
            "--initial_epoch above 1 continues a training, so it needs the checkpoint to continue from",
            where="--initial_epoch",
            hint="Add -m with the checkpoint of the epoch before, e.g. …_epoch_007.tlt for --initial_epoch 8.",
        )
    _refuse_to_end_before_the_start(command.initial_epoch, epochs)


def _refuse_to_end_before_the_start(first_epoch: int, epochs: int) -> None:
    if first_epoch > epochs:
        raise UsageProblem(
            f"--initial_epoch {first_epoch} comes after the last epoch, {epochs}",
            where="ssd train",
            hint="Raise num_epochs in training_config; it counts from the very first epoch.",
        )


def _resume(network: Network, command: Command, checkpoints: Checkpoints, record: RunRecord) -> Start | None:
    """Continue after the last complete checkpoint that can be read; ``None`` if there is none (another key, say)."""
    for epoch in sorted({record.epoch, *(int(row["epoch"]) for row in record.history)}, reverse=True):
        if epoch > record.epoch or not checkpoints.is_complete(epoch):
            continue
        relative = checkpoints.relative(epoch)
        shown = command.paths.to_container(command.results_dir / relative)
        try:
            model, file = network.load(command.results_dir / relative, shown)
        except ModelFileProblem as problem:
            logger.warning("The checkpoint of epoch %d can't be used (%s).", epoch, problem.message)
            continue
        if file.optimizer is None:
            continue  # one of quick mode's, which aren't for going on
        record.epoch, record.checkpoint = epoch, str(relative)
        record.history = [row for row in record.history if row["epoch"] <= epoch]
        logger.info("Resuming from epoch %d: %s (--no-resume starts afresh)", epoch, shown)
        return Start(model, file.optimizer, epoch + 1, record, resumed=True)
    logger.warning(
        "The interrupted run in this folder has no checkpoint left that can be used; starting afresh."
    )
    return None
