"""The sample notebook's commands, one after the other, timed, with their metrics and peak memory.

    python benchmarks/pipeline.py [--dir DIR] [--out FILE.json]

Each command is what the notebook runs, given to the `tao` executable; the figures are those of `benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

TAO = str(Path(sys.executable).parent / "tao")


class PeakMemory(threading.Thread):
    """Samples the resident memory of the newest job's engine every quarter of a second.

    The engine is no child of the `tao` command (it outlives it), so it is found through the job's record.
    """

    def __init__(self, project: Path) -> None:
        super().__init__(daemon=True)
        self._jobs = project / ".tao" / "jobs"
        self.bytes = 0
        self.done = threading.Event()

    def run(self) -> None:
        """Sample until told to stop or until the process is gone."""
        while not self.done.wait(0.25):
            try:
                newest = max(self._jobs.glob("*/process.json"), key=lambda path: path.stat().st_mtime)
                engine = psutil.Process(json.loads(newest.read_text())["engine"])
                self.bytes = max(self.bytes, engine.memory_info().rss)
            except (psutil.Error, OSError, ValueError, KeyError):
                continue  # between two jobs, or before the first


def run(words: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Run one `tao` command; return its seconds, peak memory in MB and the metrics that it printed."""
    start = time.perf_counter()
    process = subprocess.Popen(
        [TAO, *words], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    memory = PeakMemory(Path.cwd())
    memory.start()
    assert process.stdout is not None
    output = process.stdout.read()
    code = process.wait()
    memory.done.set()
    if code:
        sys.exit(f"tao {' '.join(words)} failed:\n{output[-4000:]}")
    row = {"seconds": round(time.perf_counter() - start, 1), "peak_mb": round(memory.bytes / 2**20)}
    for name, pattern in {
        "mAP": r"^\s*mAP\s+([\d.]+)",
        "parameters": r"^Parameters: ([\d,]+)",
        "ms_per_image": r"Median inference time: ([\d.]+)",
        "pruning_ratio": r"Pruning ratio .*: ([\d.]+)",
    }.items():
        found = re.findall(pattern, output, flags=re.MULTILINE)
        if found:
            row[name] = float(found[-1].replace(",", ""))
    return row


def main() -> None:
    """Run the pipeline and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dir", type=Path, help="project folder (default: a temporary one)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--seed", type=int, default=0, help="seed of the sample scenes")
    arguments = parser.parse_args()
    project = (arguments.dir or Path(tempfile.mkdtemp(prefix="taomagic-"))).resolve()
    project.mkdir(parents=True, exist_ok=True)
    root = "/workspace/tao-experiments"
    mounts = project / ".tao_mounts.json"
    pairs = [(str(project), root), (str(project / "specs"), f"{root}/ssd/specs")]
    mounts.write_text(
        json.dumps({"Mounts": [{"source": s, "destination": d} for s, d in pairs]}), encoding="utf-8"
    )
    environment = {**os.environ, "LAUNCHER_MOUNTS": str(mounts), "TAO_PANEL": "text"}
    specs, experiment = f"{root}/ssd/specs", f"{root}/ssd"
    train, retrain = f"{specs}/ssd_train_resnet10_sample.txt", f"{specs}/ssd_retrain_resnet10_sample.txt"
    key = ["-k", "nvidia_tlt"]
    pruned = f"{experiment}/experiment_dir_pruned/ssd_resnet10_pruned.tlt"
    onnx = f"{experiment}/export/ssd_sample.onnx"
    os.chdir(project)
    run(["samples", "specs", "ssd", str(project / "specs")], environment)

    def last(folder: str) -> str:
        weights = sorted((project / "ssd" / folder / "weights").glob("*.tlt"))
        return f"{experiment}/{folder}/weights/{weights[-1].name}"

    rows: dict[str, dict[str, float]] = {}

    def step(name: str, words: list[str]) -> None:
        rows[name] = run(words, environment)
        shown = "  ".join(f"{k} {v:g}" for k, v in rows[name].items())
        print(f"{name:<22}{shown}", flush=True)

    data = ["--count", "400", "--val", "150", "--testing", "40", "--seed", str(arguments.seed)]
    step("samples", ["samples", "create", str(project / "data"), *data])
    step("dataset_convert", ["ssd", "dataset_convert", "-d", f"{specs}/ssd_tfrecords_kitti_train.txt",
                             "-o", f"{root}/data/ssd/tfrecords/kitti_train"])  # fmt: skip
    step("train", ["ssd", "train", "-e", train, "-r", f"{experiment}/experiment_dir_unpruned", *key])
    unpruned = last("experiment_dir_unpruned")
    step("evaluate unpruned", ["ssd", "evaluate", "-e", train, "-m", unpruned, *key])
    step("prune", ["ssd", "prune", "-m", unpruned, "-o", pruned, "-eq", "intersection", "-pth", "0.78", *key])
    step("evaluate pruned", ["ssd", "evaluate", "-e", train, "-m", pruned, *key])
    step(
        "retrain",
        ["ssd", "train", "-e", retrain, "-m", pruned, "-r", f"{experiment}/experiment_dir_retrain", *key],
    )
    retrained = last("experiment_dir_retrain")
    step("evaluate retrained", ["ssd", "evaluate", "-e", retrain, "-m", retrained, *key])
    step("inference", ["ssd", "inference", "-i", f"{root}/data/testing/image_2", "-e", retrain, "-m", retrained,
                       "-r", f"{experiment}/inference", *key])  # fmt: skip
    step("export", ["ssd", "export", "-m", retrained, "-e", retrain, "-o", onnx, *key])
    step("evaluate exported", ["ssd", "evaluate", "-e", retrain, "-m", onnx])
    total = sum(row["seconds"] for row in rows.values())
    print(f"{'total':<22}seconds {total:.0f}  peak_mb {max(row['peak_mb'] for row in rows.values()):.0f}")
    if arguments.out:
        arguments.out.write_text(
            json.dumps({"seed": arguments.seed, "total_s": total, "steps": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
