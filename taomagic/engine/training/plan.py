"""What a training is to do: the words of its command line, and its size."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from taomagic.project.paths import PathMap


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
    continues
        Whether the given model is a training to go on with, not just weights to begin with.
    """

    results_dir: Path
    paths: PathMap
    key: str
    model: Path | None
    model_shown: str
    initial_epoch: int
    resume: bool
    continues: bool = False


@dataclass(frozen=True)
class Plan:
    """How much a training is to do.

    Attributes
    ----------
    epochs
        Number of epochs, all of them.
    steps
        Steps an epoch.
    batch_size
        Images a step, of all processes together.
    images
        Number of training images.
    quick
        Whether quick mode has shortened the epochs.
    """

    epochs: int
    steps: int
    batch_size: int
    images: int
    quick: bool
