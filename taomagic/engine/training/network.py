"""What a network brings to its training. All the rest, from the first epoch to the last file, is the same for each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from taomagic.engine.data.loading import Batch
from taomagic.engine.device import Device
from taomagic.engine.status import StatusLog
from taomagic.engine.storage.model_file import ModelFile
from taomagic.engine.training.checkpoints import Checkpoints
from taomagic.engine.training.hashes import hash_of_settings
from taomagic.engine.training.plan import Command, Plan
from taomagic.engine.training.report import Report
from taomagic.engine.training.schedule import Schedule
from taomagic.engine.training.tensorboard import BoardSettings, Picture
from taomagic.engine.training.trackers import TrackerSettings
from taomagic.spec.settings import CostScalingSettings, OptimizerSettings


class Experiment(Protocol):
    """An experiment file that was read: a dataclass with all its settings, and the file itself."""

    @property
    def text(self) -> str:
        """What the file says."""
        ...

    def summary(self) -> str:
        """Return the experiment with all defaults, for people to read."""
        ...


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


class ValidationImages(Protocol):
    """The validation data."""

    def __len__(self) -> int:
        """Return the number of images."""
        ...

    def fingerprint(self) -> str:
        """Return a hash of the data."""
        ...


class TrainingSettings(Protocol):
    """What the ``training_config`` of every network has."""

    @property
    def batch_size_per_gpu(self) -> int:
        """Images that a process trains on in a step."""
        ...

    @property
    def num_epochs(self) -> int:
        """Number of epochs."""
        ...

    @property
    def optimizer(self) -> OptimizerSettings:
        """What changes the weights."""
        ...

    @property
    def regularizer(self) -> Literal["NO_REG", "L1", "L2"]:
        """Which penalty the weights pay."""
        ...

    @property
    def regularizer_weight(self) -> float:
        """Factor of the penalty."""
        ...

    @property
    def cost_scaling(self) -> CostScalingSettings | None:
        """How the loss of float16 is scaled."""
        ...

    @property
    def checkpoint_interval(self) -> int:
        """Epochs between checkpoints."""
        ...


class Network(ABC):
    """A network in training.

    Parameters
    ----------
    experiment
        The spec.
    validation
        What it is validated on; ``None``: it isn't validated.

    Attributes
    ----------
    name
        What a run is called where the spec has no name for it: ``ssd_resnet18``.
    classes
        Foreground classes in the order of their ids.
    settings
        ``training_config``.
    seed
        ``random_seed``.
    first_validation_epoch, validation_period
        The first epoch after which it is validated (1-based), and the number of epochs between validations; the last
        epoch always is. Without validation data of no meaning.
    averages_weights
        Whether the average of the weights over the last steps is what counts (``model_ema``).
    regularizes_biases
        Whether the biases of convolutions are regularised, not just the kernels.
    requires_trackers
        Whether a tracker that can't be used keeps the training from beginning.
    """

    name: str
    classes: tuple[str, ...]
    settings: TrainingSettings
    seed: int
    first_validation_epoch: int
    validation_period: int
    averages_weights: bool = False
    regularizes_biases: bool = False
    requires_trackers: bool = True

    _experiment: Experiment
    _validation: ValidationImages | None

    def __init__(self, experiment: Experiment, validation: ValidationImages | None) -> None:
        self._experiment = experiment
        self._validation = validation

    @property
    def has_validation(self) -> bool:
        """Whether there are validation data."""
        return self._validation is not None

    @property
    def validation_images(self) -> int:
        """Number of validation images."""
        return len(self._validation) if self._validation is not None else 0

    @property
    def text(self) -> str:
        """The experiment file."""
        return self._experiment.text

    def summary(self) -> str:
        """Return the experiment with all defaults, for people to read."""
        return self._experiment.summary()

    def fingerprint(self) -> dict[str, str]:
        """Return hashes of what decides the result: the settings, and the validation data."""
        validation = self._validation.fingerprint() if self._validation is not None else ""
        return {"spec": hash_of_settings(self._experiment), "validation data": validation}

    @abstractmethod
    def describe(self, model: nn.Module) -> str:
        """Return the network in a line, for the log."""

    @abstractmethod
    def checkpoints(self, command: Command, steps: int) -> Checkpoints:
        """Return the names of the files that a training of ``steps`` an epoch leaves."""

    @abstractmethod
    def report(self, command: Command, status: StatusLog, plan: Plan) -> Report:
        """Return what tells the progress, on the screen and in files."""

    @abstractmethod
    def schedule(self, steps: int, processes: int) -> Schedule:
        """Return the learning rates, for ``steps`` an epoch, of so many processes together."""

    @abstractmethod
    def start(self, path: Path | None, shown_as: str) -> nn.Module:
        """Return a network with random weights, or with what fits of a file."""

    @abstractmethod
    def load(self, path: Path, shown_as: str) -> tuple[nn.Module, ModelFile]:
        """Return the network of a checkpoint, and what else is in the file or beside it."""

    @abstractmethod
    def save(self, path: Path, model: nn.Module, *, epoch: int, state: dict[str, object] | None) -> None:
        """Write a checkpoint; ``state`` is what a training needs to go on from there, ``None`` in a final model."""

    @abstractmethod
    def freeze(self, model: nn.Module) -> None:
        """Stop the gradients of what the spec freezes; before the optimiser is built."""

    @abstractmethod
    def to_training_mode(self, model: nn.Module) -> None:
        """Put a network into training mode, except for what the spec freezes; before each epoch."""

    @abstractmethod
    def objective(self, model: nn.Module, *, alone: bool = False) -> Objective:
        """Return what the network minimises; the batches are spread over all processes, unless ``alone``."""

    @abstractmethod
    def needs_twins(self, model: nn.Module) -> bool:
        """Whether a map of the network has a single cell, of which batch normalisation needs more than one image."""

    @abstractmethod
    def validate(self, model: nn.Module, device: Device) -> dict[str, float]:
        """Judge the network on the validation data, print the result, and return the metrics by name."""

    def end_epoch(self) -> None:  # noqa: B027 - most networks have nothing to change
        """Change what an objective changes between two epochs; called after the last step of each one."""

    def state(self) -> dict[str, Any]:
        """Return what :meth:`end_epoch` has changed, as plain values, to be kept in checkpoints."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - as above
        """Go on with what :meth:`state` returned."""

    @abstractmethod
    def board(self, plan: Plan) -> BoardSettings | None:
        """Return what TensorBoard is to show, ``None`` for nothing."""

    def pictures(self, model: nn.Module, images: Tensor, device: Device) -> Sequence[Picture]:  # noqa: ARG002
        """Return what the network says about images [N, C, H, W], drawn upon each of them; nothing by default."""
        return ()

    @property
    @abstractmethod
    def trackers(self) -> TrackerSettings | None:
        """Which services hear of the training."""

    def is_validated(self, epoch: int, last: int) -> bool:
        """Whether the network is validated after an epoch, of which ``last`` is the last one."""
        since = epoch - self.first_validation_epoch
        return self.has_validation and ((since >= 0 and since % self.validation_period == 0) or epoch == last)
