"""``detectnet_v2 calibration_tensorfile``: images as the network sees them, for the calibration of an INT8 engine."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt

from taomagic.engine.console import progress, say, timed
from taomagic.engine.data.samples import shuffled
from taomagic.engine.data.tensorfile import check_is_new, write_batches
from taomagic.engine.detectnet_v2.loading import GridBatch, ValidationData
from taomagic.engine.detectnet_v2.records import Frames, collect
from taomagic.engine.status import StatusLog
from taomagic.errors import DataProblem
from taomagic.project.paths import PathMap
from taomagic.spec.detectnet_v2 import read_experiment
from taomagic.spec.settings_detectnet_v2 import DetectNetExperiment

logger = logging.getLogger(__name__)

#: Blocks whose notes matter here.
_BLOCKS = ("dataset_config", "augmentation_config")
#: Where the spec has no training_config, which this command doesn't need.
_DEFAULT_BATCH_SIZE = 4


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``detectnet_v2 calibration_tensorfile``.

    The images are those of the training, or of validation with ``--use_validation_set``, without random changes, drawn
    at random with the spec's seed: so that the first batches stand for all of them. A batch is as large as in the
    training; the last one may be smaller.
    """
    with timed(__name__):
        _run(args, paths)


def _run(args: argparse.Namespace, paths: PathMap) -> None:
    path = paths.to_host(args.output)
    status = StatusLog(None)
    check_is_new(path, args.output)
    experiment = read_experiment(paths.to_host(args.spec), purpose="calibration", shown_as=args.spec)
    for note in experiment.notes:
        if note.startswith(_BLOCKS):
            logger.info("%s: %s", experiment.path, note)
    status.write("STARTED", "Starting DetectNet_v2 calibration tensorfile generation.")
    batch_size = experiment.training.batch_size_per_gpu if experiment.training else _DEFAULT_BATCH_SIZE
    data = ValidationData(experiment, paths, frames=_frames(experiment, paths, args.use_validation_set))
    total = data.steps(batch_size)
    count = total if args.max_batches == -1 else min(args.max_batches, total)
    if args.max_batches > total:
        logger.warning(
            "There are %d batches of %d images; -m asks for %d. All of them are written.",
            total,
            batch_size,
            args.max_batches,
        )
    batches = islice(data.batches(batch_size), count)
    written = write_batches(path, _pixels(progress(batches, "Writing tensors", count)), shown_as=args.output)
    images = min(len(data), written * batch_size)
    # The launcher takes what stands behind "Saved:" for the file's name.
    say(f"Wrote {written} batches, {images} images in all, {_megabytes(path)}.")
    say(f"Saved: {args.output}")
    status.write(
        "SUCCESS",
        "Calibration tensorfile generation complete.",
        kpi={"batches": written, "num_images": images},
    )


def _frames(experiment: DetectNetExperiment, paths: PathMap, validation: bool) -> Frames:
    """Return the images to take, in a random order, the same each time."""
    assert experiment.dataset is not None  # required for this purpose
    found = collect(experiment.dataset, experiment.classes, paths, validation=validation)
    if not found.frames:
        raise DataProblem(
            "the spec has no validation images",
            where=experiment.path,
            hint="Add validation_fold: 0 to dataset_config, or leave out --use_validation_set.",
        )
    order = shuffled(experiment.random_seed, 0, len(found.frames))
    return Frames([found.frames[index] for index in order], [len(found.frames)])


def _pixels(batches: Iterator[GridBatch]) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the images of batches, [N, C, H, W]."""
    for batch in batches:
        yield batch.images.numpy()


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"
