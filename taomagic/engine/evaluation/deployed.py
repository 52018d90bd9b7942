"""How `tao deploy` scores engines, which isn't how `evaluate` scores networks.

Every image is resized to the engine's input with Pillow's bilinear filter. Images that don't fill a last batch are left
out. Objects that are occluded need not be found.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from taomagic.engine.console import progress
from taomagic.engine.cores import usable_cores
from taomagic.engine.data.images import Image
from taomagic.engine.data.labels import Labels, scaled_to_whole_pixels, tidy
from taomagic.engine.evaluation.average_precision import Evaluation, Mode, evaluate_detections
from taomagic.engine.evaluation.facts import median_ms, say_facts
from taomagic.engine.evaluation.matching import ImageDetections, ImageTruth
from taomagic.engine.evaluation.report import explain, metrics_of, print_table, record_scores
from taomagic.engine.inference.annotator import ahead
from taomagic.engine.status import StatusLog
from taomagic.engine.storage.atomic import atomic_write
from taomagic.errors import DataProblem

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sample:
    """A labelled image.

    Attributes
    ----------
    decode
        Returns it, [H, W, 3] uint8 RGB.
    labels
        Its objects, in its own pixels.
    """

    decode: Callable[[], Image]
    labels: Labels


@dataclass(frozen=True)
class Deployed:
    """An engine, or an exported model, as far as its score is concerned.

    Attributes
    ----------
    see
        Returns what it sees of an image, [C, height, width].
    find
        Returns what it finds in each of [N, C, height, width]: boxes in pixels of the input.
    classes
        Names of the classes with the ids 1, 2, …
    size
        Height and width of the input.
    parameters
        Number of weights.
    path
        Its file.
    """

    see: Callable[[Image], npt.NDArray[np.float32]]
    find: Callable[[Tensor], Sequence[ImageDetections]]
    classes: tuple[str, ...]
    size: tuple[int, int]
    parameters: int
    path: Path


def evaluate_deployed(
    deployed: Deployed,
    samples: Sequence[Sample],
    status: StatusLog,
    results_dir: Path,
    *,
    title: str,
    batch_size: int,
    overlap: float,
    mode: Mode,
) -> Evaluation:
    """Score an engine, print and record the score, and write ``results.json``.

    Parameters
    ----------
    deployed
        The engine.
    samples
        The images.
    status, results_dir
        Where results go.
    title
        The network's name, for ``status.json``.
    batch_size
        Images at once.
    overlap
        Least IoU of a hit.
    mode
        How the curve is measured.

    Raises
    ------
    DataProblem
        There are fewer images than a batch, or one can't be read.
    EnvironmentProblem
        ``results.json`` can't be written.
    """
    status.write("STARTED", f"Starting {title} evaluation.")
    evaluation, truths = score_samples(deployed, samples, batch_size=batch_size, overlap=overlap, mode=mode)
    print_table(evaluation, digits=3)
    explain(evaluation, truths)
    image = torch.from_numpy(deployed.see(samples[0].decode())[None])
    say_facts(deployed.parameters, deployed.path, median_ms(lambda: deployed.find(image)))
    with atomic_write(results_dir / "results.json") as file:
        file.write(json.dumps(metrics_of(evaluation), indent=4, ensure_ascii=False).encode())
    record_scores(status, evaluation)
    return evaluation


def score_samples(
    deployed: Deployed, samples: Sequence[Sample], *, batch_size: int, overlap: float, mode: Mode
) -> tuple[Evaluation, list[ImageTruth]]:
    """Return the score, and the objects of the images that counted; see :func:`evaluate_deployed`."""
    steps = len(samples) // batch_size
    if not steps:
        raise DataProblem(
            f"{len(samples)} images don't fill a batch of {batch_size}, and `tao deploy` counts full batches only",
            hint=f"Give -b {len(samples)} or less.",
        )
    if rest := len(samples) - steps * batch_size:
        logger.warning(
            "Left out, since they don't fill a batch of %d: %d of %d images.", batch_size, rest, len(samples)
        )
    cv2.setNumThreads(1)  # the threads below are those that the machine has cores for
    height, width = deployed.size

    def prepare(sample: Sample) -> tuple[npt.NDArray[np.float32], ImageTruth]:
        image, labels = sample.decode(), sample.labels
        boxes = scaled_to_whole_pixels(labels.boxes, width / image.shape[1], height / image.shape[0])
        labels = tidy(labels.moved(boxes), width, height)
        return deployed.see(image), ImageTruth(
            labels.boxes.astype(np.float64), labels.classes, labels.difficult
        )

    groups = [samples[step * batch_size : (step + 1) * batch_size] for step in range(steps)]
    truths: list[ImageTruth] = []
    detections: list[ImageDetections] = []
    pool = ThreadPoolExecutor(min(8, usable_cores()), thread_name_prefix="taomagic-images")
    try:
        for group in progress(ahead(pool, prepare, groups), "Producing predictions", steps):
            detections += deployed.find(torch.from_numpy(np.stack([seen for seen, _ in group])))
            truths += [truth for _, truth in group]
    finally:
        pool.shutdown(cancel_futures=True)
    evaluation = evaluate_detections(truths, detections, deployed.classes, iou_threshold=overlap, mode=mode)
    return evaluation, truths
