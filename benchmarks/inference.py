"""`ssd inference` end to end, beside a plain loop that does the same steps one after another.

    python benchmarks/inference.py [--images 48] [--repeats 5] [--png]

Scenes of 1242 × 375 pixels through a ResNet-10 of a quarter width at 480 × 160, batch 8: read, decode, resize, network,
suppression, draw, encode, write. The plain loop calls the very same functions, so only their order differs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from taomagic.engine.data.images import preprocess, read, resize_lanczos
from taomagic.engine.device import choose_device
from taomagic.engine.inference.annotator import Annotator
from taomagic.engine.inference.files import Outputs, find_images
from taomagic.engine.ssd.inference import SSDMarker
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.ssd.postprocess import Detections
from taomagic.engine.ssd.predictor import TorchPredictor
from taomagic.project.paths import PathMap
from taomagic.samples import create
from taomagic.spec.settings import SSDExperiment
from taomagic.spec.ssd import read_experiment

BATCH = 8
SPEC = """
ssd_config { aspect_ratios_global: "[1.0, 2.0, 0.5]" scales: "[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]"
             variances: "[0.1, 0.1, 0.2, 0.2]" arch: "resnet" nlayers: 10 width_multiplier: 0.25 }
eval_config { validation_period_during_training: 1 batch_size: 8 matching_iou_threshold: 0.5 }
nms_config { confidence_threshold: 0.01 clustering_iou_threshold: 0.6 top_k: 200 }
augmentation_config { output_width: 480 output_height: 160 output_channel: 3 }
dataset_config { target_class_mapping { key: "car" value: "car" } target_class_mapping { key: "van" value: "van" } }
"""


def plain_loop(
    files: Sequence[Path],
    predictor: TorchPredictor,
    experiment: SSDExperiment,
    annotator: Annotator[Detections],
) -> None:
    """Do everything for a batch before the next is looked at."""
    assert experiment.augmentation is not None
    _, height, width = predictor.input_shape
    for start in range(0, len(files), BATCH):
        group = files[start : start + BATCH]
        images = [read(path) for path in group]
        seen = [preprocess(resize_lanczos(image, width, height), experiment.augmentation) for image in images]
        detections = predictor.predict(torch.from_numpy(np.stack(seen)))
        for path, image, found in zip(group, images, detections, strict=True):
            annotator.write(path, image, found)


def seconds(call: Callable[[], object]) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        began = time.perf_counter()
        call()
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--png", action="store_true", help="PNG files, which take longer to decode and encode"
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        create(folder / "data", training=1, val=1, testing=given.images, size=(1242, 375), seed=1)
        source = folder / "data/testing/image_2"
        if given.png:
            for path in list(source.iterdir()):
                cv2.imwrite(str(path.with_suffix(".png")), cv2.imread(str(path)))
                path.unlink()
        (folder / "spec.txt").write_text(SPEC)
        experiment = read_experiment(folder / "spec.txt", purpose="inference", shown_as="spec.txt")
        assert experiment.dataset is not None
        assert experiment.nms is not None
        assert experiment.augmentation is not None
        torch.manual_seed(0)
        device = choose_device()
        model = SSD(Architecture.from_experiment(experiment, experiment.dataset.classes))
        device.place(model).eval()
        predictor = TorchPredictor(model, device, experiment.nms)
        outputs = Outputs(folder / "pictures", folder / "labels")
        for each in (outputs.images, outputs.labels):
            assert each is not None
            each.mkdir()
        marker = SSDMarker(predictor, experiment.augmentation, 0.3)
        annotator = Annotator(marker, outputs, PathMap())
        files = find_images(source, str(source))
        calls: dict[str, Callable[[], object]] = {
            "plain loop": lambda: plain_loop(files, predictor, experiment, annotator),
            "taomagic": lambda: annotator.annotate(files, BATCH),
        }
        times: dict[str, list[float]] = {each: [] for each in calls}
        for turn in range(
            given.repeats + 1
        ):  # in turn, so that another load meets both; the first fills caches
            for each, call in calls.items():
                taken = seconds(call)
                if turn:
                    times[each].append(taken)
    kind = "PNG" if given.png else "JPEG"
    print(f"{len(files)} {kind} images, {device.describe()}")
    for each, values in times.items():
        median = statistics.median(values)
        ratio = statistics.median(times["plain loop"]) / median
        print(
            f"{each:<12}{median:7.2f} s  {len(files) / median:6.1f} images/s  {ratio:5.2f} × the plain loop"
        )


if __name__ == "__main__":
    main()
