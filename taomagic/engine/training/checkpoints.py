"""The names of a training's checkpoints, and which of them a new training must leave alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from taomagic.errors import UsageProblem

_SUFFIXES = (".tlt", ".hdf5")


@dataclass(frozen=True)
class Checkpoints:
    """Checkpoints ``weights/<name>_epoch_<001>.<suffix>`` of one training.

    Attributes
    ----------
    results_dir
        On this machine.
    name
        E.g. ``ssd_resnet18``.
    suffix
        ``.tlt`` or ``.hdf5``.
    """

    results_dir: Path
    name: str
    suffix: str

    @property
    def patterns(self) -> tuple[str, ...]:
        """What matches the checkpoints of any training of this name, relative to ``results_dir``."""
        return tuple(f"weights/{self.name}_epoch_*{suffix}" for suffix in _SUFFIXES)

    def relative(self, epoch: int, suffix: str = "") -> Path:
        """Return the path of an epoch's checkpoint (1-based), relative to ``results_dir``."""
        return Path("weights") / f"{self.name}_epoch_{epoch:03d}{suffix or self.suffix}"

    def refuse_to_overwrite(self, start: Path, first_epoch: int, epochs: int) -> None:
        """Make sure that the weights a training starts from (``-m``) aren't a file that it writes.

        Killed after that, it could no longer be resumed, because its start would be another one.

        Raises
        ------
        UsageProblem
            If ``start`` is the checkpoint of an epoch from ``first_epoch`` to ``epochs``.
        """
        written = (self.results_dir / self.relative(epoch) for epoch in range(first_epoch, epochs + 1))
        if start.resolve() in {path.resolve() for path in written}:
            raise UsageProblem(
                f"this training would overwrite the weights it starts from, {start.name}",
                where="train -m",
                hint="Give another results folder with -r.",
            )

    def leading_to(self, start: Path, first_epoch: int) -> set[Path]:
        """Return what must stay in the results folder: ``start``, and the epochs before ``first_epoch`` beside it."""
        start = start.resolve()
        kept = {start}
        if start.parent == (self.results_dir / "weights").resolve():
            past = (self.relative(e, suffix) for e in range(1, first_epoch) for suffix in _SUFFIXES)
            kept |= {start.parent / path.name for path in past}
        return kept
