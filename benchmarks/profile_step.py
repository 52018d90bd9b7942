"""What each part of a training step costs: SSD with ResNet-18 at 300×300, batch 16, KITTI-like files.

    python benchmarks/profile_step.py [--threads 2] [--steps 5] [--label after]

Another version is measured by putting its checkout first: ``PYTHONPATH=OLD python benchmarks/profile_step.py``.
Decoding is paid once an image; the steps that are timed come after it, as in all epochs but the first.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from training_scene import build

import taomagic.engine.ssd.objective as objective_module
from taomagic.engine.data.loading import TrainingData
from taomagic.engine.device import Device
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.training.optimizer import build_optimizer, set_learning_rate
from taomagic.engine.training.regularizer import Regularizer
from taomagic.project.paths import PathMap
from taomagic.spec.ssd import read_experiment

ORDER = (
    "load and augment", "forward", "match", "loss", "penalty", "backward", "regulariser", "optimiser",
)  # fmt: skip


class Clock:
    """Adds up the seconds of each part of a step."""

    def __init__(self) -> None:
        self.parts: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Time what happens in the block."""
        start = time.perf_counter()
        yield
        self.parts[part].append(time.perf_counter() - start)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function whose calls are timed."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with self.of(part):
                return function(*args, **kwargs)

        return call


def main() -> None:
    """Time some steps and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--label", default="")
    parser.add_argument("--dir", type=Path, help="folder for the data (default: a temporary one)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = arguments.dir or Path(tempfile.mkdtemp(prefix="taomagic-profile-"))
    spec = build(folder, batch=arguments.batch)
    os.environ["LAUNCHER_MOUNTS"] = str(folder / "mounts.json")
    experiment = read_experiment(spec, purpose="train")
    data = TrainingData(experiment, PathMap.from_environment(), 42)
    torch.manual_seed(42)
    model = SSD(Architecture.from_experiment(experiment, experiment.dataset.classes))
    Device(torch.device("cpu")).place(model)
    model.train()
    optimizer = build_optimizer(experiment.training.optimizer, model.parameters())
    set_learning_rate(optimizer, 1e-4)
    regularizer = Regularizer("L1", 3e-5, model)

    clock = Clock()
    objective_module.match = clock.timed("match", objective_module.match)
    objective_module.multibox_loss = clock.timed("loss", objective_module.multibox_loss)
    objective = objective_module.Objective(model, experiment.model)
    for _ in data.epoch(1, arguments.batch):  # decodes every image
        pass

    def batches() -> Iterator[Any]:
        for epoch in range(2, 1000):
            yield from data.epoch(epoch, arguments.batch)

    source = batches()
    for step in range(arguments.steps + 1):
        if step == 1:  # the first step allocates
            clock.parts.clear()
        with clock.of("step"):
            with clock.of("load and augment"):
                batch = next(source)
            with clock.of("forward"):
                outputs = model(batch.images.contiguous(memory_format=torch.channels_last))
            loss = objective(*outputs, batch=batch).total
            with clock.of("penalty"):
                float(loss.detach() + regularizer.penalty())
            optimizer.zero_grad(set_to_none=True)
            with clock.of("backward"):
                loss.backward()
            with clock.of("regulariser"):
                regularizer.add_gradients()
            with clock.of("optimiser"):
                optimizer.step()
    report(clock, arguments)


def report(clock: Clock, arguments: argparse.Namespace) -> None:
    """Print the table."""
    whole = statistics.median(clock.parts["step"])
    print(
        f"{arguments.label} {arguments.threads} thread(s), batch {arguments.batch}, median of {arguments.steps} steps"
    )
    for part in ORDER:
        milliseconds = 1000 * statistics.median(clock.parts[part])
        print(f"  {part:<18}{milliseconds:9.1f} ms {milliseconds / whole / 10:6.1f} %")
    print(f"  {'step':<18}{1000 * whole:9.1f} ms   {arguments.batch / whole:.2f} images/s")


if __name__ == "__main__":
    main()
