"""Who watches a training beside the log: TensorBoard and experiment trackers, as the spec's ``visualizer`` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from taomagic.engine.data.loading import Batch
from taomagic.engine.device import Device
from taomagic.engine.training.distributed import world
from taomagic.engine.training.network import Network
from taomagic.engine.training.plan import Command, Plan
from taomagic.engine.training.report import StepResult
from taomagic.engine.training.tensorboard import Picture, TensorBoard
from taomagic.engine.training.trackers import Trackers

Draw = Callable[[nn.Module, Tensor], Sequence[Picture]]


class Monitors:
    """TensorBoard and trackers together; in all processes but the main one every method does nothing.

    Parameters
    ----------
    board, trackers
        The open ones.
    draw
        Draws what a network says about images.
    """

    def __init__(self, board: TensorBoard, trackers: Trackers, draw: Draw | None = None) -> None:
        self._board = board
        self._trackers = trackers
        self._draw = draw

    @classmethod
    def open(cls, network: Network, command: Command, plan: Plan, device: Device) -> Monitors:
        """Open what the spec enables.

        Raises
        ------
        EnvironmentProblem
            A tracker's package or account is missing.
        """
        if not world().is_main:
            return cls(TensorBoard.open(None, command.results_dir, ()), Trackers())
        board = network.board(plan)
        if board is not None and plan.quick:
            board = replace(
                board, weight_histograms=False
            )  # of ten million weights, dearer than the step itself
        trackers = Trackers.open(
            network.trackers,
            command.results_dir,
            network.name,
            network.text,
            network.classes,
            paths=command.paths,
            required=network.requires_trackers,
        )

        def draw(model: nn.Module, images: Tensor) -> Sequence[Picture]:
            return network.pictures(model, images, device)

        return cls(TensorBoard.open(board, command.results_dir, network.classes), trackers, draw)

    def step_logger(self, first_step: int) -> Callable[[StepResult], None]:
        """Return what records loss and learning rate of each step of an epoch that begins at ``first_step``."""

        def log(result: StepResult) -> None:
            step = first_step + result.index
            self._board.step(step, result.loss, result.learning_rate)
            self._trackers.step(step, result.loss, result.learning_rate)

        return log

    def watch(self, batches: Iterator[Batch], epoch: int) -> Iterator[Batch]:
        """Pass batches on, and show the first one of the epoch."""
        return self._board.watch(batches, epoch)

    def epoch(self, epoch: int, metrics: Mapping[str, float], model: nn.Module) -> None:
        """Record what an epoch gave, and how the weights are distributed then."""
        self._board.epoch(epoch, metrics)
        self._board.histograms(model, epoch)
        draw = self._draw
        if draw is not None:
            self._board.predictions(lambda images: draw(model, images), epoch)
        self._trackers.epoch(epoch, {name: value for name, value in metrics.items() if name != "epoch"})

    def close(self, *, failed: bool = False) -> None:
        """Send and write what is left."""
        self._board.close()
        self._trackers.close(failed=failed)
