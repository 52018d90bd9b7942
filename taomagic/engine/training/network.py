"""What a network brings to its training. All the rest, from the first epoch to the last file, is the same for each."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from taomagic.engine.data.loading import Batch
from taomagic.engine.device import Device
from taomagic.engine.storage.model_file import ModelFile
from taomagic.project.paths import PathMap
from taomagic.spec.settings import TrainingSettings


class Loss(Protocol):
    """The loss of one batch: this process' share of it, where several train together."""

    @property
    def total(self) -> Tensor:
        """What is minimised, without the regulariser; a scalar with gradients."""
        ...

    def named(self) -> dict[str, Tensor]:
        """Return the scalars that make up the total, by name."""
        ...


class Objective(Protocol):
    """Compares what a network said about a batch with what it should have said."""

    def __call__(self, *outputs: Tensor, batch: Batch) -> Loss:
        """Return the loss of the network's outputs."""
        ...


class TrainingImages(Protocol):
    """The training data: :class:`taomagic.engine.data.loading.TrainingData`, or something like it."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def fingerprint(self) -> str:
        """Return a hash of the data."""
        ...

    def epoch(
        self, epoch: int, batch_size: int, *, rank: int = 0, world_size: int = 1
    ) -> Generator[Batch, None, None]:
        """Yield this rank's share of the batches of an epoch; ``batch_size`` counts the images of all ranks."""
        ...


class Network(Protocol):
    """A network in training.

    Attributes
    ----------
    name
        Begins the names of the checkpoints: ``ssd_resnet18``.
    log_name
        Name of the CSV log: ``ssd_training_log_resnet18.csv``.
    classes
        Foreground classes in the order of their ids.
    settings
        ``training_config``.
    seed
        ``random_seed``.
    validation_period
        Epochs between validations; without validation data of no meaning.
    """

    name: str
    log_name: str
    classes: tuple[str, ...]
    settings: TrainingSettings
    seed: int
    validation_period: int

    @property
    def has_validation(self) -> bool:
        """Whether there are validation data."""
        ...

    @property
    def text(self) -> str:
        """The experiment file."""
        ...

    def summary(self) -> str:
        """Return the experiment with all defaults, for people to read."""
        ...

    def describe(self, model: nn.Module) -> str:
        """Return the network in a line, for the log."""
        ...

    def fingerprint(self) -> dict[str, str]:
        """Return hashes of what decides the result: the settings, and the validation data."""
        ...

    def start(self, path: Path | None, shown_as: str) -> nn.Module:
        """Return a network with random weights, or with what fits of a file."""
        ...

    def load(self, path: Path, shown_as: str) -> tuple[nn.Module, ModelFile]:
        """Return the network of a checkpoint, and what else is in the file."""
        ...

    def save(self, path: Path, model: nn.Module, *, epoch: int, state: dict[str, object]) -> None:
        """Write a checkpoint; ``state`` is what a training needs to go on from there."""
        ...

    def freeze(self, model: nn.Module) -> None:
        """Stop the gradients of what the spec freezes; before the optimiser is built."""
        ...

    def to_training_mode(self, model: nn.Module) -> None:
        """Put a network into training mode, except for what the spec freezes; before each epoch."""
        ...

    def objective(self, model: nn.Module, *, alone: bool = False) -> Objective:
        """Return what the network minimises; the batches are spread over all processes, unless ``alone``."""
        ...

    def validate(self, model: nn.Module, device: Device) -> dict[str, float]:
        """Judge the network on the validation data, print the result, and return the metrics by name."""
        ...

    def metric_names(self) -> list[str]:
        """Return the names of what :meth:`validate` returns."""
        ...


@dataclass(frozen=True)
class Command:
    """What the command line of a training says, with paths of this machine.

    Attributes
    ----------
    results_dir
        ``-r``.
    paths
        Host paths to container paths, for messages.
    key
        ``-k``; checkpoints are encrypted with it where it isn't empty.
    model, model_shown
        ``-m``, or the model that the spec names; and as the person wrote it.
    initial_epoch
        ``--initial_epoch``, 1-based.
    resume
        Whether an interrupted run of the same command goes on.
    """

    results_dir: Path
    paths: PathMap
    key: str
    model: Path | None
    model_shown: str
    initial_epoch: int
    resume: bool
