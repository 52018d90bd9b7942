"""Batches a second of our loader beside a torch DataLoader that decodes each image with OpenCV, as repositories do it.

    python benchmarks/loading.py [--images 128] [--epochs 3] [--workers 2]

KITTI-like JPEGs (1242×375) become batches of 16 at 300×300 with all changes switched on. Ours: both pipelines, after
the first epoch has decoded the images, in this process and with worker processes. The peers decode every image anew:
a DataLoader with our own changes of the images, and the loader of ``plain_ssd.py``, which changes whole images as
floats. Rounds alternate; medians of images per second, and what a batch costs. What that is of a training step says
``profile_step.py``.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from plain_ssd import KittiFolder, collate
from torch.utils.data import DataLoader, Dataset
from training_scene import ROOT, build

from taomagic.engine.data.augmentation import Labels, augment_kitti
from taomagic.engine.data.batch import Batch
from taomagic.engine.data.batch import collate as our_collate
from taomagic.engine.data.dataset_convert import convert
from taomagic.engine.data.images import mean_of
from taomagic.engine.data.kitti import read_training_labels
from taomagic.engine.data.loading import TrainingData
from taomagic.engine.data.record_forms import PictureRecords
from taomagic.project.paths import PathMap
from taomagic.spec.dataset_export import DatasetExport, KittiExport
from taomagic.spec.settings import DataSource, SSDExperiment
from taomagic.spec.ssd import read_experiment

BATCH, SIDE = 16, 300


def experiments(folder: Path, spec: Path, paths: PathMap) -> dict[str, SSDExperiment]:
    """Return the experiment on folders and on TFRecords, with every change switched on."""
    one = read_experiment(spec, purpose="train")
    assert one.augmentation is not None
    assert one.dataset is not None
    wild = replace(one.augmentation, brightness=32, contrast=0.5, saturation=0.5, hue=18, random_flip=0.5)
    suffix = next((folder / "data/training/image_2").iterdir()).suffix
    config = KittiExport(f"{ROOT}/data/training", "image_2", "label_2", suffix, "random", 2, 0.0, 2, None)
    classes = one.dataset.classes
    export = DatasetExport(
        path="",
        text="",
        kitti=config,
        coco=None,
        class_mapping={name: name for name in classes},
        classes=classes,
    )
    convert(export, folder / "records/kitti", paths=paths, form=PictureRecords.of(export))
    records = replace(one.dataset, data_sources=(DataSource(f"{ROOT}/records/kitti*", None, None),))
    return {
        "KITTI folders": replace(one, augmentation=wild),
        "TFRecords": replace(one, augmentation=wild, dataset=records),
    }


class DecodedAnew(Dataset[tuple[Any, Labels]]):
    """The images of a folder, decoded each time, with our changes: what a DataLoader costs in our loader's place."""

    def __init__(self, folder: Path, one: SSDExperiment) -> None:
        assert one.augmentation is not None
        assert one.dataset is not None
        self.paths = sorted((folder / "image_2").iterdir())
        ids = {name: position for position, name in enumerate(one.dataset.classes, 1)}
        read = [read_training_labels(folder / f"label_2/{path.stem}.txt", ids) for path in self.paths]
        self.labels = [Labels(found.boxes, found.classes, found.difficult) for found in read]
        self.settings = one.augmentation

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, Labels]:
        """Return the changed pixels and boxes of an image."""
        image = cv2.cvtColor(cv2.imread(str(self.paths[index])), cv2.COLOR_BGR2RGB)
        return augment_kitti(np.random.default_rng(), image, self.labels[index], self.settings)

    def collate(self, shown: list[tuple[Any, Labels]]) -> Batch:
        """Return a batch."""
        return our_collate(shown, [""] * len(shown), self.settings, mean_of(self.settings))


def seconds_of(batches: Iterable[object]) -> float:
    """Go through an epoch; return the seconds."""
    start = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        spec = build(folder, images=args.images, batch=BATCH, side=SIDE)
        os.environ["LAUNCHER_MOUNTS"] = str(folder / "mounts.json")
        paths = PathMap.from_environment()
        epochs: dict[str, Callable[[int], Iterable[object]]] = {}
        for kind, one in experiments(folder, spec, paths).items():
            for workers in (0, args.workers):
                data = TrainingData(one, paths, 42, workers=workers, use_multiprocessing=workers > 0)
                stack.callback(data.close)
                who = f"{workers} processes" if workers else "in this process"
                epochs[f"ours, {kind}, {who}"] = lambda epoch, data=data: data.epoch(epoch, BATCH)
        same = DecodedAnew(folder / "data/training", experiments(folder, spec, paths)["KITTI folders"])
        plain = KittiFolder(folder / "data/training", SIDE)
        peers = {"our changes": (same, same.collate), "plain_ssd.py": (plain, collate)}
        for label, (peer, collate_fn) in peers.items():
            for workers in (0, args.workers):
                loader: DataLoader[Any] = DataLoader(
                    peer,
                    BATCH,
                    shuffle=True,
                    num_workers=workers,
                    collate_fn=collate_fn,
                    persistent_workers=workers > 0,
                )
                epochs[f"DataLoader, {label}, {workers} workers"] = lambda _, loader=loader: loader
        seconds: dict[str, list[float]] = {label: [] for label in epochs}
        for epoch in range(1, args.epochs + 2):
            for label, batches in epochs.items():
                value = seconds_of(batches(epoch))
                if epoch > 1:  # the first one decodes, and starts processes
                    seconds[label].append(value)
    best = max(
        args.images / statistics.median(v) for label, v in seconds.items() if label.startswith("DataLoader")
    )
    for label, values in seconds.items():
        rate = args.images / statistics.median(values)
        spread = f"{args.images / max(values):.0f}…{args.images / min(values):.0f}"
        print(
            f"{label:<40}{rate:7.0f} images/s ({spread}){1000 * BATCH / rate:7.1f} ms a batch{rate / best:6.2f} ×"
        )


if __name__ == "__main__":
    main()
