"""What drawing the targets and loading the images of DetectNet_v2 cost, beside a training step.

    python benchmarks/rasterizer.py [--step-batch 2] [--repeats 5] [--threads 2]

A step is: forward pass, drawing the targets, loss, backward pass, Adam. The network is NVIDIA's, ResNet-18 at full
width and 1248×384, with random weights and images; its targets are 20 objects an image. Sixteen such images need about
10 GB for a step, so the step is measured with fewer (``--step-batch``) and its time multiplied: convolutions, which are
nearly all of it, take a time in proportion to the images.

Drawing is measured with all 16. Loading is from decoded KITTI-sized pictures in the cache to a batch, every change of
NVIDIA's training file switched on, in the thread that trains, as on a CPU; beside it the same at the size of the sample
scenes (384×128, a quarter of the width), whose steps are short. Best of the repeats, which take turns.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch

from taomagic.engine.data.tfrecord import ByteStrings, Integers, TFRecordWriter, example_parts
from taomagic.engine.detectnet_v2.layout import Layout
from taomagic.engine.detectnet_v2.loading import GridBatch, TrainingData
from taomagic.engine.detectnet_v2.model import Architecture, DetectNet
from taomagic.engine.detectnet_v2.objective import GridObjective
from taomagic.project.paths import PathMap
from taomagic.spec.detectnet_v2 import read_experiment
from taomagic.spec.settings_detectnet_v2 import DetectNetExperiment

SPEC = Path(__file__).parents[1] / "specs" / "detectnet_v2" / "detectnet_v2_train_resnet18_kitti.txt"
ROOT = "/workspace/tao-experiments/data"
BATCH, OBJECTS = 16, 20
CLASSES = ("car", "cyclist", "pedestrian")


def make_data(folder: Path, size: tuple[int, int]) -> PathMap:
    """Write sixteen pictures with twenty objects each, and their records."""
    rng = np.random.default_rng(0)
    (folder / "training/image_2").mkdir(parents=True)
    (folder / "tfrecords/kitti_trainval").mkdir(parents=True)
    with TFRecordWriter(folder / "tfrecords/kitti_trainval/all-fold-001-of-002") as writer:
        for number in range(BATCH):
            coarse = rng.integers(0, 256, (12, 40, 3), dtype=np.uint8)
            cv2.imwrite(str(folder / f"training/image_2/{number:06d}.png"), cv2.resize(coarse, size))
            x, y = rng.uniform(0, 0.8, (2, OBJECTS)) * np.array(size)[:, None]
            wide, high = rng.uniform(0.03, 0.2, (2, OBJECTS)) * np.array(size)[:, None]
            names = rng.choice(CLASSES, OBJECTS)
            writer.write(
                *example_parts(
                    {
                        "frame/id": f"image_2/{number:06d}".encode(),
                        "frame/width": size[0],
                        "frame/height": size[1],
                        "target/object_class": ByteStrings(str(name).encode() for name in names),
                        "target/occlusion": Integers([0] * OBJECTS),
                        "target/coordinates_x1": x.tolist(),
                        "target/coordinates_y1": y.tolist(),
                        "target/coordinates_x2": (x + wide).tolist(),
                        "target/coordinates_y2": (y + high).tolist(),
                    }
                )
            )
    return PathMap([(str(folder), ROOT)])


def at_size(experiment: DetectNetExperiment, width: int, height: int, share: float) -> DetectNetExperiment:
    """Return an experiment with another input size and width."""
    assert experiment.augmentation is not None
    assert experiment.model is not None
    augmentation = replace(experiment.augmentation, output_width=width, output_height=height)
    model = replace(experiment.model, width_multiplier=share)
    return replace(experiment, augmentation=augmentation, model=model)


def step_of(experiment: DetectNetExperiment, batch: GridBatch) -> Callable[[], None]:
    """Return a training step on a batch."""
    torch.manual_seed(0)
    model = DetectNet(Architecture.from_experiment(experiment)).to(memory_format=torch.channels_last).train()
    objective = GridObjective(Layout.of(model.architecture), experiment)
    optimizer = torch.optim.Adam(model.parameters(), 5e-4)

    def step() -> None:
        optimizer.zero_grad()
        loss = objective(*model(batch.images), batch=batch).total
        loss.backward()
        optimizer.step()

    return step


def first(batch: GridBatch, count: int) -> GridBatch:
    """Return the first images of a batch."""
    return replace(
        batch,
        images=batch.images[:count].contiguous(memory_format=torch.channels_last),
        boxes=batch.boxes[:count],
        labels=batch.labels[:count],
        difficult=batch.difficult[:count],
        names=batch.names[:count],
        weights=batch.weights[:count],
        source_classes=batch.source_classes[:count],
        global_size=count,
    )


def best(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the best time of each, in seconds; one turn before counts for nothing."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in seconds.items()}


def measure(experiment: DetectNetExperiment, size: tuple[int, int], step_batch: int, repeats: int) -> None:
    """Measure at one size and print."""
    with tempfile.TemporaryDirectory() as folder:
        paths = make_data(Path(folder), size)
        data = TrainingData(experiment, paths)
        batch = next(data.epoch(1, BATCH))
        assert experiment.augmentation is not None
        model = DetectNet(Architecture.from_experiment(experiment))
        rasterizer = GridObjective(Layout.of(model.architecture), experiment).rasterizer
        epochs = iter(range(2, 1000))
        found = best(
            {
                "step": step_of(experiment, first(batch, step_batch)),
                "drawing": lambda: rasterizer(batch.boxes, batch.labels),
                "loading": lambda: next(data.epoch(next(epochs), BATCH)),
            },
            repeats,
        )
        data.close()
    step = found["step"] * BATCH / step_batch
    width, height = experiment.augmentation.output_width, experiment.augmentation.output_height
    share = experiment.model.width_multiplier if experiment.model else 1.0
    measured = f"measured with {step_batch}" if step_batch != BATCH else "measured"
    print(f"{width}×{height}, ResNet-18, width {share:g}, {BATCH} images with {OBJECTS} objects each")
    print(f"  training step  {1000 * step:9.1f} ms ({measured})")
    for name in ("drawing", "loading"):
        print(f"  {name:<14} {1000 * found[name]:9.1f} ms  {100 * found[name] / step:6.2f} % of a step")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--step-batch", type=int, default=2, help="images of the measured step at full size")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    experiment = read_experiment(SPEC, purpose="train")
    measure(at_size(experiment, 384, 128, 0.25), (384, 128), BATCH, args.repeats)
    measure(at_size(experiment, 1248, 384, 1.0), (1242, 375), args.step_batch, args.repeats)


if __name__ == "__main__":
    main()
