"""What quantisation-aware training does to the result: the same training on the sample scenes with and without it.

    python benchmarks/qat_accuracy.py [--epochs 10] [--dir DIR]

The two run side by side, with one thread each, from the sample spec with its learning rate and seed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from taomagic.samples import create

ROOT = "/workspace/tao-experiments"
SPECS = Path(__file__).parent.parent / "specs/ssd/sample"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--dir", type=Path, default=None)
    arguments = parser.parse_args()
    folder = arguments.dir or Path(tempfile.mkdtemp())
    environment = prepare(folder)
    spec = (SPECS / "ssd_train_resnet10_sample.txt").read_text()
    spec = spec.replace("num_epochs: 20", f"num_epochs: {arguments.epochs}")
    start = time.perf_counter()
    running = {}
    for name, line in (("float32", ""), ("QAT", "enable_qat: true")):
        (folder / f"{name}.txt").write_text(spec.replace("training_config {", f"training_config {{ {line}"))
        words = ["train", "-e", f"{ROOT}/{name}.txt", "-r", f"{ROOT}/{name}"]
        running[name] = engine(words, environment)
    for name, process in running.items():
        output, _ = process.communicate()
        if process.returncode:
            sys.exit(output)
        found = re.findall(r"^\s+mAP\s+(\S+)$", output, re.MULTILINE)[-1]
        print(f"{name:<8} mAP {found} after {arguments.epochs} epochs, {time.perf_counter() - start:.0f} s")


def prepare(folder: Path) -> dict[str, str]:
    """Draw and convert the scenes; return the environment of the commands."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mounts.json").write_text(
        json.dumps({"Mounts": [{"source": str(folder), "destination": ROOT}]})
    )
    environment = {**os.environ, "LAUNCHER_MOUNTS": str(folder / "mounts.json"), "OMP_NUM_THREADS": "1"}
    if not (folder / "data").exists():
        create(folder / "data", processes=2)
        (folder / "convert.txt").write_text((SPECS / "ssd_tfrecords_kitti_train.txt").read_text())
        words = [
            "dataset_convert",
            "-d",
            f"{ROOT}/convert.txt",
            "-o",
            f"{ROOT}/data/ssd/tfrecords/kitti_train",
        ]
        output, _ = engine(words, environment).communicate()
        if "PASS" not in output:
            sys.exit(output)
    return environment


def engine(words: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start a command of the engine."""
    return subprocess.Popen(
        [sys.executable, "-m", "taomagic.engine", "ssd", *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


if __name__ == "__main__":
    main()
