"""A tiny project: sample scenes at a size at which every command takes a second or two."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from taomagic.engine.cli import main
from taomagic.samples import create

ROOT = "/workspace/tao-experiments"
KEY = "tiny_key"

SPEC = """\
random_seed: 7
ssd_config {
  aspect_ratios_global: "[1.0, 2.0, 0.5]"
  scales: "[0.16, 0.3, 0.5, 0.7, 0.9, 1.0, 1.05]"
  two_boxes_for_ar1: true
  variances: "[0.1, 0.1, 0.2, 0.2]"
  arch: "resnet"
  nlayers: 10
  width_multiplier: 0.125
}
training_config {
  batch_size_per_gpu: 5
  num_epochs: 3
  learning_rate { soft_start_annealing_schedule {
    min_learning_rate: 1e-4 max_learning_rate: 1e-2 soft_start: 0.2 annealing: 0.7 } }
  regularizer { type: L1 weight: 3e-6 }
}
eval_config { validation_period_during_training: 2 batch_size: 4 matching_iou_threshold: 0.5 }
nms_config { confidence_threshold: 0.01 clustering_iou_threshold: 0.6 top_k: 50 }
augmentation_config { output_width: 144 output_height: 48 output_channel: 3 zoom_out_max_scale: 1.5 }
dataset_config {
  data_sources { tfrecords_path: "/workspace/tao-experiments/data/ssd/tfrecords/train*" }
  target_class_mapping { key: "car" value: "car" }
  target_class_mapping { key: "pedestrian" value: "pedestrian" }
  target_class_mapping { key: "cyclist" value: "cyclist" }
  validation_data_sources {
    label_directory_path: "/workspace/tao-experiments/data/val/label_2"
    image_directory_path: "/workspace/tao-experiments/data/val/image_2"
  }
}
"""

EXPORT_SPEC = """\
kitti_config {
  root_directory_path: "/workspace/tao-experiments/data"
  image_dir_name: "training/image_2"
  label_dir_name: "training/label_2"
  image_extension: ".jpg"
  partition_mode: "random"
  num_partitions: 2
  val_split: 0
  num_shards: 2
}
image_directory_path: "/workspace/tao-experiments/data"
target_class_mapping { key: "car" value: "car" }
target_class_mapping { key: "pedestrian" value: "pedestrian" }
target_class_mapping { key: "cyclist" value: "cyclist" }
"""


@dataclass
class Outcome:
    """What a command printed, and how it ended."""

    code: int
    output: str


@dataclass
class Project:
    """A project folder with data and specs, and commands that run in it."""

    folder: Path
    capture: pytest.CaptureFixture[str] | None = None

    def spec(self, name: str = "train.txt", **changes: str) -> str:
        """Write the training spec with lines replaced (old text -> new text) and return its container path."""
        text = SPEC
        for old, new in changes.pop("replace", {}).items():
            assert old in text, old
            text = text.replace(old, new)
        (self.folder / "specs" / name).write_text(text)
        return f"{ROOT}/specs/{name}"

    def run(self, *words: str) -> Outcome:
        """Run a command of the engine in this process."""
        assert self.capture is not None
        self.capture.readouterr()
        code = main(list(words))
        return Outcome(code, self.capture.readouterr().out)

    def start(self, *words: str, threads: int = 1) -> subprocess.Popen[str]:
        """Start a command of the engine as a process of its own."""
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "taomagic.engine", *words],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def train(self, results: str, *words: str, spec: str | None = None) -> Outcome:
        """Train the tiny network."""
        return self.run(
            "ssd", "train", "-e", spec or self.spec(), "-r", f"{ROOT}/{results}", "-k", KEY, *words
        )

    def weights(self, results: str, epoch: int, suffix: str = ".tlt") -> str:
        """Return the container path of a checkpoint."""
        return f"{ROOT}/{results}/weights/ssd_resnet10_epoch_{epoch:03d}{suffix}"

    def path(self, container: str) -> Path:
        """Return a container path on this machine."""
        return self.folder / container.removeprefix(f"{ROOT}/")


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Draw and convert the data once."""
    folder = tmp_path_factory.mktemp("prepared")
    create(folder / "data", training=12, val=6, testing=3, size=(288, 96), seed=3)
    (folder / "specs").mkdir()
    (folder / "specs" / "convert.txt").write_text(EXPORT_SPEC)
    return folder


@pytest.fixture
def project(
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Project]:
    """Return a project of its own for each test, with the data converted."""
    folder = tmp_path / "project"
    shutil.copytree(prepared, folder)
    mounts = tmp_path / "mounts.json"
    mounts.write_text(f'{{"Mounts": [{{"source": "{folder}", "destination": "{ROOT}"}}]}}')
    monkeypatch.setenv("LAUNCHER_MOUNTS", str(mounts))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    built = Project(folder, capsys)
    if not (folder / "data/ssd").exists():
        outcome = built.run(
            "ssd",
            "dataset_convert",
            "-d",
            f"{ROOT}/specs/convert.txt",
            "-o",
            f"{ROOT}/data/ssd/tfrecords/train",
        )
        assert outcome.code == 0, outcome.output
    yield built
    for number, handler in handlers.items():
        signal.signal(number, handler)
