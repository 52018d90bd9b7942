"""Detections over a validation set, and what TAO prints about them."""

from __future__ import annotations

import logging
import os
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from taomagic.engine.console import progress, say
from taomagic.engine.detectnet_v2.average_precision import class_result
from taomagic.engine.detectnet_v2.class_table import class_table
from taomagic.engine.detectnet_v2.clustering import Detections
from taomagic.engine.detectnet_v2.detector import Detector
from taomagic.engine.detectnet_v2.loading import GridBatch, ValidationData
from taomagic.engine.detectnet_v2.objective import GridObjective
from taomagic.engine.evaluation.average_precision import Evaluation
from taomagic.engine.training.distributed import gathered_in_turn, world
from taomagic.engine.training.quick_mode import images_of_validation
from taomagic.spec.settings_detectnet_v2 import ClusteringSettings, DetectNetEvaluationSettings

logger = logging.getLogger(__name__)

#: Set to 1, evaluation uses the two confidence thresholds as NVIDIA's TF1 code does: DBSCAN's for NMS and NMS' for
#: DBSCAN. Its builder passes them in the wrong order, so that NVIDIA's own specs are evaluated with a threshold of 0.
SWAP_VARIABLE = "TAOMAGIC_SWAP_CONFIDENCE_THRESHOLDS"
#: Steps between two lines of ``evaluate``.
_LOGGED_EVERY = 10


@dataclass(frozen=True)
class GridEvaluation:
    """What a validation gave.

    Attributes
    ----------
    scores
        By class, in the order of the network's channels.
    cost
        Mean loss without the regulariser.
    milliseconds
        Median time of the network and the clustering for one image.
    """

    scores: Evaluation
    cost: float
    milliseconds: float

    @property
    def average_precision(self) -> dict[str, float]:
        """By class, 0..1."""
        return {name: result.average_precision for name, result in self.scores.classes.items()}

    @property
    def mean(self) -> float:
        """Mean over the classes, 0..1."""
        return self.scores.mean_average_precision


def for_evaluation(clustering: Mapping[str, ClusteringSettings]) -> dict[str, ClusteringSettings]:
    """Return the clustering of an evaluation; with :data:`SWAP_VARIABLE` set, that of NVIDIA's."""
    if os.environ.get(SWAP_VARIABLE) not in {"1", "true"}:
        return dict(clustering)
    return {
        name: replace(
            one,
            dbscan_confidence_threshold=one.nms_confidence_threshold or 0.0,
            nms_confidence_threshold=one.dbscan_confidence_threshold,
        )
        for name, one in clustering.items()
    }


def evaluate_model(
    detector: Detector,
    data: ValidationData,
    settings: DetectNetEvaluationSettings,
    objective: GridObjective,
    batch_size: int,
    *,
    in_training: bool = False,
) -> GridEvaluation:
    """Score a network; where several processes train, all of them share the work.

    Parameters
    ----------
    detector
        The network and its clustering.
    data
        The images.
    settings
        ``evaluation_config``.
    objective
        Gives the validation cost.
    batch_size
        Images a step.
    in_training
        Take full batches only, as TAO does between two epochs, and don't count the steps aloud. Where there are fewer
        images than a batch has, they are one step.
    """
    here = world()
    steps = -(-len(data) // batch_size)
    if in_training:
        count = images_of_validation(len(data))
        batch_size = min(count, batch_size)
        steps = count // batch_size
    mine = range(here.rank, steps, here.size)
    rows = []
    started = time.perf_counter()
    batches = data.batches(batch_size, rank=here.rank, world_size=here.size)
    for step, batch in zip(mine, islice(batches, len(mine)), strict=True):
        if not in_training and step % _LOGGED_EVERY == 0:
            logger.info(
                "step %d / %d, %.2fs/step", step, steps, (time.perf_counter() - started) / max(1, step)
            )
        rows.append(_step(detector, objective, batch))
    rows = gathered_in_turn(rows)  # each process had every N-th batch
    classes = detector.predictor.classes
    results = {}
    for index, name in enumerate(classes, 1):
        images = [
            (truth[name], found[name])
            for row in rows
            for truth, found in zip(row.truths, row.found, strict=True)
        ]
        title = f"Matching predictions to ground truth, class {index}/{len(classes)}."
        results[name] = class_result(
            progress(images, title, len(images)),
            settings.boxes[name],
            overlap=settings.overlaps[name],
            mode=settings.average_precision_mode,
        )
    return GridEvaluation(
        Evaluation(results),
        cost=float(np.average([row.cost for row in rows], weights=[len(row.truths) for row in rows])),
        milliseconds=1000 * statistics.median(row.seconds for row in rows),
    )


@dataclass(frozen=True)
class _Step:
    """What a batch gave: its cost, the seconds an image took, and objects and detections of each image by class."""

    cost: float
    seconds: float
    truths: list[dict[str, np.ndarray]]
    found: list[dict[str, Detections]]


def _step(detector: Detector, objective: GridObjective, batch: GridBatch) -> _Step:
    start = time.perf_counter()
    coverage, boxes = detector.predictor.raw(batch.images)
    found = detector.select(coverage, boxes)
    seconds = (time.perf_counter() - start) / max(1, len(batch))
    truths = [
        {
            name: corners[labels == channel].numpy()
            for channel, name in enumerate(detector.predictor.classes, 1)
        }
        for corners, labels in zip(batch.boxes, batch.labels, strict=True)
    ]
    return _Step(float(objective(coverage, boxes, batch=batch).total), seconds, truths, found)


def print_report(
    result: GridEvaluation, *, framed: bool = False, epoch: tuple[int, int] | None = None
) -> None:
    """Print what TAO prints after a validation.

    Parameters
    ----------
    result
        Of :func:`evaluate_model`.
    framed
        Whether the table is release 5's; see :mod:`taomagic.engine.detectnet_v2.class_table`.
    epoch
        The epoch, from 1, and how many there are: the title of a validation during training.
    """
    if epoch is not None:
        say(f"\nEpoch {epoch[0]}/{epoch[1]}\n{'=' * 25}")
    say(f"\nValidation cost: {result.cost:f}")
    say(f"Mean average_precision (in %): {100 * result.mean:0.4f}\n")
    for line in class_table(result.average_precision, framed=framed):
        say(line)
    say(f"\nMedian Inference Time: {result.milliseconds / 1000:f}")


def status_parts(result: GridEvaluation) -> dict[str, dict[str, object]]:
    """Return ``kpi`` and ``categorical`` of a validation's record in ``status.json``; per cent, as TAO writes them."""
    return {
        "kpi": {"validation cost": result.cost, "mean average precision": 100 * result.mean},
        "categorical": {
            "average_precision": {
                name: 100 * value for name, value in sorted(result.average_precision.items())
            }
        },
    }
