"""Predictions over a validation set, and their score."""

from __future__ import annotations

from itertools import islice

import numpy as np

from taomagic.engine.console import progress, say
from taomagic.engine.data.loading import Batch, ValidationData
from taomagic.engine.evaluation.average_precision import Evaluation, evaluate_detections
from taomagic.engine.evaluation.matching import ImageDetections, ImageTruth, on_whole_pixels
from taomagic.engine.ssd.objective import Objective
from taomagic.engine.ssd.postprocess import Detections
from taomagic.engine.ssd.predictor import Predictor, TorchPredictor
from taomagic.engine.training.distributed import gathered_in_turn, world
from taomagic.engine.training.quick_mode import images_of_validation
from taomagic.spec.ssd import EvaluationSettings


def truths_of(batch: Batch) -> list[ImageTruth]:
    """Return the objects of each image of a batch, without padding."""
    result = []
    for boxes, labels, difficult in zip(batch.boxes, batch.labels, batch.difficult, strict=True):
        real = labels > 0
        result.append(ImageTruth(boxes[real].double().numpy(), labels[real].numpy(), difficult[real].numpy()))
    return result


def on_pixels(found: Detections, input_shape: tuple[int, int, int]) -> ImageDetections:
    """Round detections to whole pixels inside the image, as the original does before it compares them."""
    return on_whole_pixels(found.boxes, found.scores, found.labels, input_shape[1:])


def evaluate_model(
    predictor: Predictor, data: ValidationData, settings: EvaluationSettings
) -> tuple[Evaluation, list[ImageTruth], list[ImageDetections]]:
    """Run a model over the validation data and score it."""
    batches = data.batches(settings.batch_size)
    steps = -(-len(data.names) // settings.batch_size)
    truths, detections = [], []
    for batch in progress(batches, "Producing predictions", steps):
        truths += truths_of(batch)
        detections += [on_pixels(d, predictor.input_shape) for d in predictor.predict(batch.images)]
    return score(predictor.classes, truths, detections, settings), truths, detections


def score(
    classes: tuple[str, ...],
    truths: list[ImageTruth],
    detections: list[ImageDetections],
    settings: EvaluationSettings,
) -> Evaluation:
    """Compute the average precisions that the spec asks for."""
    say("Start to calculate AP for each class")
    return evaluate_detections(
        truths,
        detections,
        classes,
        iou_threshold=settings.matching_iou_threshold,
        mode=settings.average_precision_mode,
    )


def validate(
    predictor: TorchPredictor, data: ValidationData, settings: EvaluationSettings, objective: Objective
) -> tuple[Evaluation, float]:
    """Score the network in training, and compute its loss on the validation images; all processes share the work.

    Returns
    -------
    tuple
        The evaluation, and the mean loss of the validation batches without the regulariser, on the same scale as the
        training loss. (The original's value is larger by about the batch size, which makes the two incomparable.)
    """
    here = world()
    count = images_of_validation(len(data.names))
    batch_size = min(count, settings.batch_size)
    steps = range(here.rank, -(-count // batch_size), here.size)
    batches = data.batches(batch_size, rank=here.rank, world_size=here.size)
    rows = []
    for batch in progress(islice(batches, len(steps)), "Producing predictions", len(steps)):
        scores, offsets = predictor.raw(batch.images)
        loss = float(objective(scores, offsets, batch=batch).total)
        found = [on_pixels(d, predictor.input_shape) for d in predictor.select(scores, offsets)]
        rows.append((loss, truths_of(batch), found))
    rows = gathered_in_turn(rows)  # each process had every N-th batch
    truths = [truth for _, some, _ in rows for truth in some]
    detections = [detection for _, _, some in rows for detection in some]
    evaluation = score(predictor.classes, truths, detections, settings)
    return evaluation, float(np.average([loss for loss, _, _ in rows], weights=[len(t) for _, t, _ in rows]))
