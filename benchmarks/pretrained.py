"""What ImageNet's weights are worth: MobileNetV2-SSD on the sample scenes, from random weights and from these.

    python benchmarks/pretrained.py [--weights FILE.pt] [--dir DIR] [--epochs 6] [--count 320]

Both trainings have the same spec, scenes, seed and number of steps; only `-m` differs. Without `--weights` the file is
fetched as `tao samples weights mobilenet_v2` does it. The figures are those of `benchmarks/RESULTS.md`.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from taomagic.samples import create, fetch_weights

ROOT = "/workspace/tao-experiments"
CLASSES = ("car", "pedestrian", "cyclist")
SPEC = """\
random_seed: {seed}
ssd_config {{
  aspect_ratios_global: "[1.0, 2.0, 0.5, 3.0, 1.0/3.0]"
  scales: "[0.16, 0.3, 0.5, 0.7, 0.9, 1.0, 1.05]"
  two_boxes_for_ar1: true
  variances: "[0.1, 0.1, 0.2, 0.2]"
  arch: "mobilenet_v2"
}}
training_config {{
  batch_size_per_gpu: 8
  num_epochs: {epochs}
  learning_rate {{ soft_start_annealing_schedule {{
    min_learning_rate: 5e-5 max_learning_rate: 2e-3 soft_start: 0.1 annealing: 0.4 }} }}
  optimizer {{ adam {{ epsilon: 1e-7 beta1: 0.9 beta2: 0.999 }} }}
  regularizer {{ type: L1 weight: 3e-6 }}
}}
eval_config {{ validation_period_during_training: {period} batch_size: 16 matching_iou_threshold: 0.5 }}
nms_config {{ confidence_threshold: 0.01 clustering_iou_threshold: 0.6 top_k: 200 }}
augmentation_config {{
  output_width: 384 output_height: 128 output_channel: 3
  random_crop_min_scale: 1.0 random_crop_max_scale: 1.0 zoom_out_min_scale: 1.0 zoom_out_max_scale: 1.0
  brightness: 16 contrast: 0.2 saturation: 0.2 hue: 5 random_flip: 0.5
}}
dataset_config {{
  data_sources {{ label_directory_path: "{root}/data/training/label_2"
                 image_directory_path: "{root}/data/training/image_2" }}
  validation_data_sources {{ label_directory_path: "{root}/data/val/label_2"
                            image_directory_path: "{root}/data/val/image_2" }}
{mapping}}}
"""


def train(project: Path, name: str, weights: Path | None) -> dict[str, object]:
    """Train once; return the seconds, what the engine said about the weights, and the last epoch's metrics."""
    words = ["ssd", "train", "-e", f"{ROOT}/spec.txt", "-r", f"{ROOT}/{name}", "-k", "key"]
    if weights is not None:
        words += ["-m", str(weights)]
    start = time.perf_counter()
    environment = {**os.environ, "LAUNCHER_MOUNTS": str(project / "mounts.json")}
    done = subprocess.run(
        [sys.executable, "-m", "taomagic.engine", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    seconds = time.perf_counter() - start
    with (project / name / "ssd_training_log_mobilenet_v2.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["mAP"] != "nan"]
    taken = re.search(r"Took \d+ of \d+ tensors[^\n]*", done.stdout)
    return {
        "seconds": round(seconds, 1),
        "taken": taken[0] if taken else "",
        "mAP": {row["epoch"]: round(float(row["mAP"]), 3) for row in rows},
        "AP": {c: round(float(rows[-1][f"AP_{c}"]), 3) for c in CLASSES},
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, help="the file of weights (default: fetch it)")
    parser.add_argument("--dir", type=Path, help="project folder (default: a temporary one)")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--count", type=int, default=320, help="scenes to train on; 150 others validate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    project = (arguments.dir or Path(tempfile.mkdtemp(prefix="taomagic-"))).resolve()
    project.mkdir(parents=True, exist_ok=True)
    weights = arguments.weights or fetch_weights("mobilenet_v2", project / "pretrained").path
    create(
        project / "data", training=arguments.count, val=150, testing=0, size=(768, 240), seed=arguments.seed
    )
    mapping = "".join(f'  target_class_mapping {{ key: "{c}" value: "{c}" }}\n' for c in CLASSES)
    period = max(1, arguments.epochs // 2)
    text = SPEC.format(
        root=ROOT, seed=arguments.seed, epochs=arguments.epochs, period=period, mapping=mapping
    )
    (project / "spec.txt").write_text(text, encoding="utf-8")
    mounts = {"Mounts": [{"source": str(project), "destination": ROOT}]}
    (project / "mounts.json").write_text(json.dumps(mounts), encoding="utf-8")
    figures = {}
    for name, given in (("pretrained", weights.resolve()), ("random", None)):
        figures[name] = train(project, name, given)
        print(f"{name:<12}", json.dumps(figures[name]), flush=True)
    last = {name: list(row["mAP"].values())[-1] for name, row in figures.items()}  # type: ignore[attr-defined]
    print(
        f"mAP after {arguments.epochs} epochs: {last['pretrained']} pretrained, {last['random']} from random weights"
    )
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
