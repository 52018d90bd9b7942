"""The names of the files that a training leaves, and which of them a new training must leave alone."""

from __future__ import annotations

import glob
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

from taomagic.engine.training.state_file import SUFFIX as STATE_SUFFIX
from taomagic.errors import UsageProblem

_SUFFIXES = (".tlt", ".hdf5")


@dataclass(frozen=True)
class Checkpoints(ABC):
    """The files of one training.

    Attributes
    ----------
    results_dir
        On this machine.
    suffix
        Of its model files, ``.tlt`` or ``.hdf5``.
    """

    results_dir: Path
    suffix: str

    @property
    @abstractmethod
    def patterns(self) -> tuple[str, ...]:
        """What matches the files of any training of this name, relative to ``results_dir``."""

    @property
    def final(self) -> Path | None:
        """The model that is written at the end besides the checkpoints, relative to ``results_dir``."""
        return None

    @property
    def has_start(self) -> bool:
        """Whether there is a checkpoint before the first step, of epoch 0."""
        return False

    @abstractmethod
    def relative(self, epoch: int, suffix: str = "") -> Path:
        """Return the model file of an epoch's checkpoint (1-based), relative to ``results_dir``."""

    def files(self, epoch: int) -> tuple[Path, ...]:
        """Return all files of an epoch's checkpoint, relative to ``results_dir``."""
        return (self.relative(epoch),)

    def is_complete(self, epoch: int) -> bool:
        """Whether all files of an epoch's checkpoint are there."""
        return all((self.results_dir / file).is_file() for file in self.files(epoch))

    def refuse_to_overwrite(self, start: Path, first_epoch: int, epochs: int) -> None:
        """Make sure that the weights a training starts from aren't a file that it writes.

        Killed after that, it could no longer be resumed, because its start would be another one.

        Raises
        ------
        UsageProblem
            If ``start`` is the final model, or the checkpoint of an epoch from ``first_epoch`` to ``epochs``.
        """
        written = [self.relative(epoch) for epoch in range(first_epoch, epochs + 1)]
        if self.has_start and first_epoch == 1:
            written.append(self.relative(0))
        if self.final is not None:
            written.append(self.final)
        if start.resolve() in {(self.results_dir / path).resolve() for path in written}:
            raise UsageProblem(
                f"this training would overwrite the weights it starts from, {start.name}",
                where=self._start_named_by,
                hint="Give another results folder with -r.",
            )

    @property
    def _start_named_by(self) -> str:
        """What names the weights to start from."""
        return "train -m"

    def leading_to(self, start: Path, first_epoch: int) -> set[Path]:
        """Return what must stay in the results folder: ``start``, and the epochs before ``first_epoch`` beside it."""
        start = start.resolve()
        kept = {start}
        if start.parent == (self.results_dir / self.relative(1)).parent.resolve():
            past = (self.relative(e, suffix) for e in range(1, first_epoch) for suffix in _SUFFIXES)
            kept |= {start.parent / path.name for path in past}
        return kept


@dataclass(frozen=True)
class EpochCheckpoints(Checkpoints):
    """Checkpoints ``weights/<name>_epoch_<001>.<suffix>``, each with all that a training needs to go on from there.

    Attributes
    ----------
    name
        E.g. ``ssd_resnet18``.
    """

    name: str

    @property
    def patterns(self) -> tuple[str, ...]:
        """The checkpoints, and the log."""
        return (*(f"weights/{self.name}_epoch_*{suffix}" for suffix in _SUFFIXES), "*.csv")

    def relative(self, epoch: int, suffix: str = "") -> Path:
        """Return the path of an epoch's checkpoint."""
        return Path("weights") / f"{self.name}_epoch_{epoch:03d}{suffix or self.suffix}"


@dataclass(frozen=True)
class StepCheckpoints(Checkpoints):
    """Model files ``model.epoch-<N>.hdf5`` or ``model.step-<N>.tlt``, and what else a checkpoint has beside them.

    TAO 5.x counts epochs and writes plain files, TAO 3.x counts steps and encrypts. The file of the same stem,
    ``.ckzip``, holds what only a training needs. The final model is ``weights/<name>.<suffix>``.

    Attributes
    ----------
    name
        Of the final model.
    steps
        Steps an epoch.
    """

    name: str
    steps: int

    @property
    def patterns(self) -> tuple[str, ...]:
        """The checkpoints, and the final model."""
        name = glob.escape(self.name)
        checkpoints = tuple(f"model.epoch-*{end}" for end in (".hdf5", STATE_SUFFIX))
        checkpoints += tuple(f"model.step-*{end}" for end in (".tlt", STATE_SUFFIX))
        return (*checkpoints, *(f"weights/{name}{suffix}" for suffix in _SUFFIXES))

    @property
    def final(self) -> Path | None:
        """The final model."""
        return Path("weights") / f"{self.name}{self.suffix}"

    @property
    def has_start(self) -> bool:
        """The weights before the first step are kept as well."""
        return True

    def relative(self, epoch: int, suffix: str = "") -> Path:
        """Return the path of an epoch's model file."""
        suffix = suffix or self.suffix
        return Path(
            f"model.step-{epoch * self.steps}.tlt" if suffix == ".tlt" else f"model.epoch-{epoch}.hdf5"
        )

    def files(self, epoch: int) -> tuple[Path, ...]:
        """Return the model file and its companion."""
        model = self.relative(epoch)
        return (model, model.with_suffix(STATE_SUFFIX))

    @property
    def _start_named_by(self) -> str:
        return "model_config.pretrained_model_file"
