"""Two processes on two cores beside one process on one core, a thread each, the same batch for each process.

    python benchmarks/scaling.py [--epochs 3] [--batch 16]

Runs ``ssd train`` as a user does, and reads the seconds an epoch from ``status.json``; the first epoch, which decodes
the images, isn't counted. ResNet-18 at half width and 300×300. Two trainings that have nothing to do with each other,
one on each core at the same time, show what the two cores can give at most: they share caches and memory, and on many
virtual machines one core's arithmetic units.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from training_scene import ROOT, build


def seconds_of(text: str) -> float:
    """Return the seconds of ``0:01:02.5``."""
    hours, minutes, seconds = text.split(":")
    return 3600 * float(hours) + 60 * float(minutes) + float(seconds)


def epochs_of(folder: Path, spec: Path, processes: int, cores: str) -> list[float]:
    """Train, and return the seconds of each epoch but the first."""
    results = folder / f"run{processes}-{cores}"
    shutil.rmtree(results, ignore_errors=True)
    environment = {
        **os.environ,
        "LAUNCHER_MOUNTS": str(folder / "mounts.json"),
        "OMP_NUM_THREADS": str(processes),  # divided among the processes
        "MKL_NUM_THREADS": str(processes),
    }
    command = ["taskset", "-c", cores, sys.executable, "-m", "taomagic.engine", "ssd", "train"]
    flags = ["-e", f"{ROOT}/{spec.name}", "-r", f"{ROOT}/{results.name}", "--gpus", str(processes)]
    done = subprocess.run([*command, *flags], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout[-3000:] + done.stderr[-3000:])
    records = [json.loads(line) for line in (results / "status.json").read_text().splitlines()]
    return [seconds_of(record["time_per_epoch"]) for record in records if "time_per_epoch" in record][1:]


def side_by_side(folder: Path, spec: Path) -> list[float]:
    """Run two trainings at the same time, one on each core; return the seconds of each epoch of both."""
    with ThreadPoolExecutor(2) as pool:
        both = pool.map(lambda core: epochs_of(folder, spec, 1, core), ("0", "1"))
        return [seconds for values in both for seconds in values]


def main() -> None:
    """Train with one process, with two, with two that are strangers, and with one again."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16, help="images for each process (the document's: 16)")
    parser.add_argument("--dir", type=Path, help="folder for the data (default: a temporary one)")
    arguments = parser.parse_args()
    folder = arguments.dir or Path(tempfile.mkdtemp(prefix="taomagic-scaling-"))
    spec = build(folder, images=arguments.images, batch=arguments.batch, width=0.5, epochs=arguments.epochs)
    one = epochs_of(folder, spec, 1, "0")
    two = epochs_of(folder, spec, 2, "0,1")
    strangers = side_by_side(folder, spec)
    one += epochs_of(folder, spec, 1, "1")
    runs = {"one process": one, "two processes": two, "two trainings side by side": strangers}
    rates = {}
    for name, values in runs.items():
        rates[name] = arguments.images / statistics.median(values) * (2 if values is strangers else 1)
        shown = ", ".join(f"{value:.2f}" for value in values)
        print(f"{name}: {rates[name]:6.2f} images/s  (epochs of {shown} s)")
    alone, together, most = rates.values()
    print(f"ratio {together / alone:.2f} (target 1.7); at most {most / alone:.2f} on these cores")


if __name__ == "__main__":
    main()
