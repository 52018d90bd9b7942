"""What quantisation-aware training does to the result: the same training on the sample scenes with and without it.

    python benchmarks/qat_accuracy.py [--epochs 10] [--dir DIR] [--scenes 3]

The two run side by side, with one thread each, from the sample spec with its learning rate and seed. Then the
quantisation-aware network is exported, an int8 engine is built with its scales, and the network (which rounds as in
training), the exported model (which doesn't round) and the engine are evaluated: on the validation scenes, and on
others that were drawn with other seeds.
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
    parser.add_argument("--scenes", type=int, default=3, help="sets of 150 scenes to evaluate on")
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
    compare(folder, environment, arguments.scenes)


def compare(folder: Path, environment: dict[str, str], scenes: int) -> None:
    """Evaluate the quantisation-aware network, its export, and its int8 engine."""
    last = max((folder / "QAT/weights").iterdir()).name
    models = [f"{ROOT}/QAT/weights/{last}", f"{ROOT}/qat.onnx", f"{ROOT}/qat.engine"]
    spec, scales = f"{ROOT}/QAT.txt", f"{ROOT}/scales.json"
    completed(
        ["export", "-m", models[0], "-e", spec, "-o", models[1], "--cal_json_file", scales], environment
    )
    words = ["-m", models[1], "-e", spec, "--data_type", "int8", "--cal_json_file", scales]
    completed(["gen_trt_engine", *words, "--engine_file", models[2], "-r", f"{ROOT}/built"], environment)
    print(f"{'scenes':<10}{'QAT':>8}{'export':>8}{'int8':>8}{'int8 - QAT':>12}")
    for seed in range(scenes):
        text = (folder / "QAT.txt").read_text()
        if seed:  # 0 is what was trained and validated with
            create(folder / f"data{seed}", training=1, testing=1, seed=seed, processes=2, force=True)
            text = text.replace("data/val/", f"data{seed}/val/")
        (folder / "judge.txt").write_text(text)
        found = []
        for model in models:
            output = completed(["evaluate", "-m", model, "-e", f"{ROOT}/judge.txt"], environment)
            found.append(float(re.findall(r"^\s+mAP\s+(\S+)$", output, re.MULTILINE)[-1]))
        row = "".join(f"{value:8.3f}" for value in found)
        print(f"seed {seed:<5}{row}{found[2] - found[0]:+12.3f}", flush=True)


def completed(words: list[str], environment: dict[str, str]) -> str:
    """Run a command of the engine; return what it says."""
    process = engine(words, environment)
    output, _ = process.communicate()
    if process.returncode:
        sys.exit(output)
    return output


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
    group = ["deploy", "ssd"] if words[0] == "gen_trt_engine" else ["ssd"]
    return subprocess.Popen(
        [sys.executable, "-m", "taomagic.engine", *group, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


if __name__ == "__main__":
    main()
