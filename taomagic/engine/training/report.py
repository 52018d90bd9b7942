"""What a training tells of its progress, on the screen and in files: each network's in the form of NVIDIA's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

#: What an epoch gave, by name: ``epoch`` (1-based), ``loss``, ``lr``, and where it was validated ``AP_<class>``,
#: ``mAP`` and ``validation_loss``.
Row = Mapping[str, float]


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave: mean loss (with the regulariser), last learning rate, wall-clock seconds, images trained."""

    loss: float
    learning_rate: float
    seconds: float
    images: int


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one step gave.

    Attributes
    ----------
    index
        Number of the step in its epoch, from 0.
    loss
        With the regulariser.
    mean
        Mean loss of the epoch up to here.
    learning_rate
        With which the step was made.
    """

    index: int
    loss: float
    mean: float
    learning_rate: float


class Report:
    """Hears of everything that happens in a training, in this order; every method may be left as it is."""

    def model_begins(self) -> None:
        """Tell that the network is about to be built."""

    def model_ready(self, model: nn.Module) -> None:
        """Tell that the network is there, with its first weights."""

    def quick_mode(self, message: str) -> None:
        """Tell what quick mode makes smaller; the log has it already."""

    def steps_begin(self) -> None:
        """Tell that what a step needs besides the network is about to be built."""

    def steps_ready(self) -> None:
        """Tell that all is there that a step needs."""

    def loop_begins(self, history: Sequence[Row]) -> None:
        """Tell that the first step comes next; ``history`` are the epochs of an interrupted run that goes on."""

    def epoch_begins(self, epoch: int) -> None:
        """Tell that an epoch (1-based) begins."""

    def step(self, result: StepResult) -> None:
        """Tell of a step; on a GPU that may be some steps later."""

    def epoch_trained(self, result: EpochResult) -> None:
        """Tell that all steps of the epoch are done."""

    def checkpoint(self, shown_as: str, epoch: int) -> None:
        """Tell that a checkpoint is about to be written."""

    def epoch_ends(self, history: Sequence[Row], epoch: int, last: int, result: EpochResult) -> None:
        """Tell that an epoch is over and all of it on disk; the last row of ``history`` is its.

        ``last`` is the epoch that ends the training, as far as is known now.
        """

    def stopped_early(self, epoch: int) -> None:
        """Tell that an epoch is the last one although there would be more."""

    def loop_ends(self) -> None:
        """Tell that all steps are done."""

    def final_begins(self, shown_as: str) -> None:
        """Tell that the final model is about to be written, where a network has one besides its checkpoints."""

    def final_ready(self, path: Path, model: nn.Module) -> None:
        """Tell that it is on disk."""

    def interrupted(self, shown_as: str) -> None:
        """Tell that the model as it is has been written, because the training was stopped."""

    def ends(self) -> None:
        """Tell that the training has ended well."""
