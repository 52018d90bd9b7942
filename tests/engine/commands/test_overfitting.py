"""A ResNet-18 learns eight images by heart: data, matching, loss, optimiser and evaluation pull in one direction."""

from __future__ import annotations

import json
import re

from taomagic.samples import create
from tests.engine.commands.conftest import ROOT, Project


def test_resnet18_overfits_eight_images(project: Project):
    create(project.folder / "eight", training=8, val=1, testing=1, size=(384, 128), seed=11)
    folders = (
        f'label_directory_path: "{ROOT}/eight/training/label_2"\n'
        f'    image_directory_path: "{ROOT}/eight/training/image_2"'
    )
    spec = project.spec(
        "overfit.txt",
        replace={
            'tfrecords_path: "/workspace/tao-experiments/data/ssd/tfrecords/train*"': folders,
            'label_directory_path: "/workspace/tao-experiments/data/val/label_2"\n'
            '    image_directory_path: "/workspace/tao-experiments/data/val/image_2"': folders,
            "nlayers: 10": "nlayers: 18",
            "width_multiplier: 0.125": "width_multiplier: 0.25",
            "batch_size_per_gpu: 5": "batch_size_per_gpu: 8",
            "num_epochs: 3": (
                "num_epochs: 240 checkpoint_interval: 240 "
                "optimizer { adam { beta1: 0.9 beta2: 0.999 epsilon: 1e-7 } }"
            ),
            "min_learning_rate: 1e-4 max_learning_rate: 1e-2 soft_start: 0.2 annealing: 0.7": (
                "min_learning_rate: 1e-5 max_learning_rate: 2e-3 soft_start: 0.05 annealing: 0.4"
            ),
            "regularizer { type: L1 weight: 3e-6 }": "regularizer { type: NO_REG }",
            "validation_period_during_training: 2": "validation_period_during_training: 240",
            "augmentation_config { output_width: 144 output_height: 48 output_channel: 3 zoom_out_max_scale: 1.5 }": (
                "augmentation_config { output_width: 192 output_height: 64 output_channel: 3 random_flip: 0 "
                "brightness: 0 contrast: 0 saturation: 0 hue: 0 random_crop_min_scale: 1 random_crop_max_scale: 1 "
                "zoom_out_min_scale: 1 zoom_out_max_scale: 1 }"
            ),
        },
    )
    outcome = project.train("overfit", spec=spec)
    assert outcome.code == 0, outcome.output
    last = json.loads((project.folder / "overfit/training_run.json").read_text())["history"][-1]
    assert last["mAP"] >= 0.99, re.findall(r"^.{14}AP .*$", outcome.output, re.MULTILINE)
