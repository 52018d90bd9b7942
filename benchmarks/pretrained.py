"""What ImageNet's weights are worth: MobileNetV2-SSD on the sample scenes, from random weights and from these.

    python benchmarks/pretrained.py [--weights FILE.pt] [--dir DIR] [--epochs 6] [--count 320]

Both trainings have the same spec, scenes, seed and number of steps; only `-m` differs. Without `--weights` the file is
fetched as `tao samples weights mobilenet_v2` does it. The figures are those of `benchmarks/RESULTS.md`.

TAO's batch normalisation forgets 1 % of its statistics a step, so after a short training from random weights they still
hold much of their first values, and the validation of such a network says little about its weights. Hence a second
figure for both: the same weights with statistics measured anew over the training images.
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

import torch

from taomagic.engine.data.loading import TrainingData
from taomagic.engine.ssd import weights as weights_module
from taomagic.project.paths import PathMap
from taomagic.samples import create, fetch_weights
from taomagic.spec.ssd import read_experiment

KEY = "key"
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


def engine(project: Path, words: list[str]) -> str:
    """Run a command of the engine in a process of its own; return what it printed."""
    environment = {**os.environ, "LAUNCHER_MOUNTS": str(project / "mounts.json")}
    command = [sys.executable, "-m", "taomagic.engine", "ssd", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
    return done.stdout


def settled_map(project: Path, name: str, epochs: int) -> float:
    """Return the mAP of a trained network with batch statistics measured anew over the training images."""
    checkpoint = project / name / "weights" / f"ssd_mobilenet_v2_epoch_{epochs:03d}.tlt"
    experiment = read_experiment(project / "spec.txt", purpose="train")
    model, _ = weights_module.model_from_file(checkpoint, KEY)
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.reset_running_stats()
            layer.momentum = None  # the plain mean over all batches
    model.train()
    data = TrainingData(experiment, PathMap([(str(project), ROOT)]), experiment.random_seed)
    with torch.no_grad():
        for batch in data.epoch(1, 8):
            model(batch.images)
    weights_module.save(project / f"{name}_settled.tlt", model, KEY)
    printed = engine(
        project, ["evaluate", "-e", f"{ROOT}/spec.txt", "-m", f"{ROOT}/{name}_settled.tlt", "-k", KEY]
    )
    found = re.search(r"^\s+mAP\s+(\S+)$", printed, re.MULTILINE)
    assert found is not None
    return float(found[1])


def train(project: Path, name: str, weights: Path | None, *, again: bool) -> dict[str, object]:
    """Train once; return the seconds, what the engine said about the weights, and the validations' metrics."""
    words = ["train", "-e", f"{ROOT}/spec.txt", "-r", f"{ROOT}/{name}", "-k", KEY]
    if weights is not None:
        words += ["-m", str(weights)]
    start = time.perf_counter()
    printed = engine(project, words) if again else ""
    seconds = time.perf_counter() - start
    with (project / name / "ssd_training_log_mobilenet_v2.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["mAP"] != "nan"]
    taken = re.search(r"Took \d+ of \d+ tensors[^\n]*", printed)
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
    parser.add_argument("--trained", action="store_true", help="the trainings are in --dir already")
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
        figures[name] = train(project, name, given, again=not arguments.trained)
        figures[name]["settled mAP"] = settled_map(project, name, arguments.epochs)
        print(f"{name:<12}", json.dumps(figures[name]), flush=True)
    for name, row in figures.items():
        print(
            f"{name:<12}mAP after {arguments.epochs} epochs: {row['mAP']}, statistics anew: {row['settled mAP']}"
        )
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
