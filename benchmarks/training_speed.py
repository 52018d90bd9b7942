"""Training images per second beside a plain PyTorch loop (``plain_ssd.py``): ResNet-18, 300×300, batch 16.

    python benchmarks/training_speed.py [--threads 2] [--rounds 3] [--steps 2]

Both train on the same KITTI-like files in one process, in turns, and first have to agree on the loss of a batch. Ours
is the loop that ``ssd train`` runs, with loading, augmentation, the regulariser and the progress line.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from plain_ssd import match_image, multibox, trainer
from training_scene import build

from taomagic.engine.console import TrainingBar
from taomagic.engine.data.loading import Batch, TrainingData
from taomagic.engine.device import Device
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.ssd.objective import Objective
from taomagic.engine.training.loop import train_epoch
from taomagic.engine.training.optimizer import build_optimizer
from taomagic.engine.training.regularizer import Regularizer
from taomagic.engine.training.step import Step
from taomagic.project.paths import PathMap
from taomagic.spec.settings import SSDExperiment
from taomagic.spec.ssd import read_experiment

SIDE = 300


def network(experiment: SSDExperiment) -> SSD:
    """Return the same network each time."""
    torch.manual_seed(42)
    assert experiment.dataset is not None
    return SSD(Architecture.from_experiment(experiment, experiment.dataset.classes))


def ours(experiment: SSDExperiment, data: TrainingData, batch: int) -> Callable[[int], float]:
    """Return a function that makes so many of our training steps."""
    device = Device(torch.device("cpu"))
    model = network(experiment)
    device.place(model).train()
    assert experiment.training is not None
    optimizer = build_optimizer(experiment.training.optimizer, model.parameters())
    step = Step(
        model,
        Objective(model, experiment.model),
        device,
        optimizer,
        Regularizer("L1", 3e-5, model),
        device.loss_scaler(),
    )

    def batches() -> Iterator[Batch]:
        for epoch in range(1, 10_000):
            yield from data.epoch(epoch, batch)

    source = batches()

    def train(steps: int) -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            bar = TrainingBar(steps)
            return train_epoch(
                source,
                steps,
                step,
                learning_rate_at=lambda _: 1e-4,
                on_step=lambda result: bar.update(result.index + 1, result.mean),
            ).loss

    return train


def check_equal_losses(experiment: SSDExperiment, data: TrainingData) -> None:
    """Make sure that both compute the same loss."""
    batch = next(iter(data.epoch(1, 4)))
    model = network(experiment).train()
    variances = torch.tensor(model.architecture.anchors.variances)
    with torch.no_grad():
        scores, offsets = model(batch.images.contiguous())
        mine = float(Objective(model, experiment.model)(scores, offsets, batch=batch).total)
        targets = [
            match_image(boxes[labels > 0] / SIDE, labels[labels > 0], model.anchors, variances)
            for boxes, labels in zip(batch.boxes, batch.labels, strict=True)
        ]
        classes, encoded = (torch.stack(column) for column in zip(*targets, strict=True))
        plain = float(multibox(scores, offsets, classes, encoded))
    print(f"loss of one batch: ours {mine:.5f}, plain {plain:.5f}")
    assert abs(mine - plain) < 1e-3 * plain


def main() -> None:
    """Train in turns and print the rates."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2, help="steps of each in a round")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--workers", type=int, default=2, help="of the plain loop's DataLoader")
    parser.add_argument("--dir", type=Path, help="folder for the data (default: a temporary one)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = arguments.dir or Path(tempfile.mkdtemp(prefix="taomagic-speed-"))
    spec = build(folder, batch=arguments.batch)
    os.environ["LAUNCHER_MOUNTS"] = str(folder / "mounts.json")
    experiment = read_experiment(spec, purpose="train")
    data = TrainingData(experiment, PathMap.from_environment(), 42)
    check_equal_losses(experiment, data)
    for _ in data.epoch(1, arguments.batch):  # decode, as the first epoch does
        pass

    plain_model = network(experiment)
    variances = torch.tensor(plain_model.architecture.anchors.variances)
    loops = {
        "ours": ours(experiment, data, arguments.batch),
        "plain": trainer(
            plain_model,
            plain_model.anchors,
            variances,
            folder / "data" / "training",
            side=SIDE,
            batch=arguments.batch,
            workers=arguments.workers,
        ),
    }
    for train in loops.values():
        train(1)
    rates: dict[str, list[float]] = {name: [] for name in loops}
    for round_ in range(arguments.rounds):
        for name in list(loops)[:: 1 if round_ % 2 == 0 else -1]:
            start = time.perf_counter()
            loops[name](arguments.steps)
            rates[name].append(arguments.steps * arguments.batch / (time.perf_counter() - start))
    for name, values in rates.items():
        shown = ", ".join(f"{value:.2f}" for value in values)
        print(f"{name:<6} {statistics.median(values):6.2f} images/s  ({shown})")
    ratios = [a / b for a, b in zip(rates["ours"], rates["plain"], strict=True)]
    print(f"ratio {statistics.median(ratios):.2f} (target 1.2), from {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()
