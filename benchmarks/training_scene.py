"""What the training benchmarks share: KITTI-like files and the spec of ResNet-18 at 300×300, as the document has it."""

from __future__ import annotations

import json
from pathlib import Path

from taomagic.samples import create

ROOT = "/workspace/tao-experiments"

SPEC = """\
random_seed: 42
ssd_config {{
  aspect_ratios_global: "[1.0, 2.0, 0.5, 3.0, 1.0/3.0]"
  scales: "[0.05, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85]"
  two_boxes_for_ar1: true
  clip_boxes: false
  variances: "[0.1, 0.1, 0.2, 0.2]"
  arch: "resnet"
  nlayers: {layers}
  {width}
}}
training_config {{
  batch_size_per_gpu: {batch}
  num_epochs: {epochs}
  learning_rate {{ soft_start_annealing_schedule {{
    min_learning_rate: 5e-5 max_learning_rate: 2e-3 soft_start: 0.15 annealing: 0.8 }} }}
  regularizer {{ type: L1 weight: 3e-5 }}
}}
eval_config {{ validation_period_during_training: 100 batch_size: 16 matching_iou_threshold: 0.5 }}
nms_config {{ confidence_threshold: 0.01 clustering_iou_threshold: 0.6 top_k: 200 }}
augmentation_config {{ output_width: {side} output_height: {side} output_channel: 3 }}
dataset_config {{
  data_sources {{
    label_directory_path: "{root}/data/training/label_2"
    image_directory_path: "{root}/data/training/image_2"
  }}
  target_class_mapping {{ key: "car" value: "car" }}
  target_class_mapping {{ key: "pedestrian" value: "pedestrian" }}
  target_class_mapping {{ key: "cyclist" value: "cyclist" }}
}}
"""


def build(
    folder: Path,
    *,
    images: int = 64,
    batch: int = 16,
    layers: int = 18,
    side: int = 300,
    width: float = 1.0,
    epochs: int = 1,
) -> Path:
    """Draw scenes of KITTI's size, write the mount map ``mounts.json``, and return the path of the spec."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "data").exists():
        create(folder / "data", training=images, val=1, testing=1, size=(1242, 375), seed=0)
    mounts = {"Mounts": [{"source": str(folder), "destination": ROOT}]}
    (folder / "mounts.json").write_text(json.dumps(mounts), encoding="utf-8")
    extension = f"width_multiplier: {width}" if width != 1.0 else ""
    spec = folder / "spec.txt"
    text = SPEC.format(layers=layers, width=extension, batch=batch, side=side, root=ROOT, epochs=epochs)
    spec.write_text(text, encoding="utf-8")
    return spec
