"""``detectnet_v2 show``: what the network shall learn, and what it has learnt, as pictures. A command of ours alone."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import torch

from taomagic.engine.console import progress, say
from taomagic.engine.detectnet_v2.detector import Detector
from taomagic.engine.detectnet_v2.fitting import fitted
from taomagic.engine.detectnet_v2.loading import GridBatch, TrainingData, ValidationData
from taomagic.engine.detectnet_v2.map_pictures import Shown, draw_coverage, draw_targets
from taomagic.engine.detectnet_v2.predictor import Predictor, open_predictor
from taomagic.engine.detectnet_v2.records import Frames, collect
from taomagic.engine.detectnet_v2.targets import STRIDE, Rasterizer
from taomagic.engine.device import choose_device
from taomagic.engine.inference.files import replace_small
from taomagic.engine.status import StatusLog
from taomagic.project.paths import PathMap
from taomagic.spec.detectnet_v2 import read_experiment
from taomagic.spec.settings_detectnet_v2 import DetectNetExperiment, Purpose


def run(args: argparse.Namespace, paths: PathMap) -> None:
    """Carry out ``detectnet_v2 show``; the flags are those of :mod:`taomagic.spec.arguments_detectnet_v2`."""
    results_dir = paths.to_host(args.results_dir)
    status = StatusLog(results_dir)
    purpose: Purpose = "train" if args.use_training_set else "evaluate"
    experiment = read_experiment(paths.to_host(args.spec), purpose=purpose, shown_as=args.spec)
    predictor: Predictor | None = None
    if args.model:
        device = choose_device(args.gpu_index)
        predictor = open_predictor(paths.to_host(args.model), args.key, device, shown_as=args.model)
        experiment = fitted(experiment, predictor.layout, args.model)
    status.write("STARTED", "Starting to draw what DetectNet_v2 learns.")
    batch = _batch(experiment, args, paths)
    folder = results_dir / "images"
    folder.mkdir(parents=True, exist_ok=True)
    images = shown_images(experiment, batch, predictor)
    taken: set[str] = set()
    written: list[Path] = []
    for shown, name in zip(progress(images, "Drawing", len(images)), batch.names, strict=True):
        stem = _free(Path(name).stem, taken)
        pictures = {"targets": draw_targets(shown, experiment.classes)}
        if shown.coverage is not None:
            pictures["coverage"] = draw_coverage(shown, experiment.classes)
        for what, picture in pictures.items():
            path = folder / f"{what}_{stem}.png"
            _, data = cv2.imencode(".png", picture[..., ::-1])
            replace_small(path, data.tobytes())
            written.append(path)
    for path in written:
        say(f"Saved: {paths.to_container(path)}")
    status.write("SUCCESS", "Drawing finished successfully.")


def shown_images(
    experiment: DetectNetExperiment, batch: GridBatch, predictor: Predictor | None
) -> list[Shown]:
    """Return what there is to show of each image of a batch.

    Parameters
    ----------
    experiment
        Says how objects are drawn into the grid, and how cells become objects.
    batch
        At the network's input size.
    predictor
        The network, if there is one.
    """
    assert experiment.model is not None  # required for both purposes
    assert experiment.rasterizer is not None
    scale, offset = experiment.model.bbox_scale, experiment.model.bbox_offset
    height, width = batch.images.shape[2:]
    rasterizer = Rasterizer(
        experiment.rasterizer,
        experiment.classes,
        (height // STRIDE, width // STRIDE),
        scale=scale,
        offset=offset,
    )
    targets = rasterizer(batch.boxes, batch.labels).coverage
    coverage, found = None, None
    if predictor is not None:
        coverage, sides = predictor.raw(batch.images)
        found = Detector(predictor, experiment.clustering).select(coverage, sides)
    result = []
    for index in range(len(batch.names)):
        there = batch.labels[index] > 0
        boxes, labels = batch.boxes[index][there], batch.labels[index][there]
        drawn = rasterizer.ellipses(boxes / STRIDE, labels)
        ellipses = torch.stack([drawn.x, drawn.y, drawn.rx, drawn.ry, drawn.dx, drawn.dy], dim=-1) * STRIDE
        pixels = (batch.images[index].permute(1, 2, 0) * 255).round().byte().contiguous().numpy()
        result.append(
            Shown(
                np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels,
                boxes.numpy(),
                (labels - 1).numpy(),
                ellipses.numpy(),
                targets[index].numpy(),
                None if coverage is None else coverage[index].cpu().numpy(),
                None if found is None else found[index],
            )
        )
    return result


def _batch(experiment: DetectNetExperiment, args: argparse.Namespace, paths: PathMap) -> GridBatch:
    """Return the images to show: of validation evenly chosen ones with objects, of training as a step sees them."""
    if args.use_training_set:
        images = TrainingData(experiment, paths, workers=0)
        try:
            return next(images.epoch(1, min(args.num_images, len(images))))
        finally:
            images.close()
    assert experiment.dataset is not None
    frames = collect(experiment.dataset, experiment.classes, paths, validation=True).frames
    # Pictures without objects teach nothing; collect() makes sure that there is one with some.
    telling = [frame for frame in frames if len(frame.objects.boxes)]
    count = min(args.num_images, len(telling))
    chosen = [telling[(2 * index + 1) * len(telling) // (2 * count)] for index in range(count)]
    data = ValidationData(experiment, paths, frames=Frames(chosen, [len(chosen)]))
    return next(data.batches(count))


def _free(stem: str, taken: set[str]) -> str:
    """Return a name that no other picture has; sources may have images of the same name."""
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    taken.add(name)
    return name
