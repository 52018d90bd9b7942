"""What an image's augmentation costs, and how far apart the ways of resizing are.

    pip install albumentations          # optional, for the public peer; it wants an OpenCV of its own: use another venv
    PYTHONPATH=. python benchmarks/augmentation.py [--images 20] [--repeats 5] [--per-repeat 100]

Decoded images of 1242 x 375 (KITTI's size), to 300 x 300, on one thread. Each row is the mean time of an image from
the decoded bytes to the floats that the network takes, all changes of TAO's document switched on; median of the
repeats, which take turns. Beside our two pipelines: the same raw-KITTI steps done one after another on whole images
(``tests/engine/data/slow_augmentation.py``, the reference of the tests, the way most SSD repositories write them), and
albumentations where it is installed (``--target DIR`` and PYTHONPATH do), with the operations that it has for them.
CPU time, so that other work on the machine hardly counts.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np

from taomagic.engine.data.augmentation import Labels, augment_kitti, augment_tfrecord
from taomagic.engine.data.images import CAFFE_MEAN, Image, Pixels, preprocess_into
from taomagic.engine.data.resizing import resize_bilinear, resize_bilinear_pillow, resize_lanczos
from taomagic.spec.settings import AugmentationSettings

SIZE = (1242, 375)
SETTINGS = AugmentationSettings(
    output_width=300,
    output_height=300,
    output_channel=3,
    random_crop_min_scale=0.3,
    random_crop_max_scale=1.0,
    random_crop_min_ar=0.5,
    random_crop_max_ar=2.0,
    zoom_out_min_scale=1.0,
    zoom_out_max_scale=4.0,
    brightness=32,
    contrast=0.5,
    saturation=0.5,
    hue=18,
    random_flip=0.5,
    image_mean=None,
)


def scene(rng: np.random.Generator) -> tuple[Image, Labels]:
    """Draw an image about as smooth as a photograph, with 1 to 7 boxes."""
    coarse = rng.integers(0, 256, (60, 200, 3), dtype=np.uint8)
    image = cv2.add(
        cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC),
        rng.integers(0, 20, (SIZE[1], SIZE[0], 3), dtype=np.uint8),
    )
    count = int(rng.integers(1, 8))
    centres, sides = rng.uniform((0, 100), (SIZE[0], 300), (count, 2)), rng.uniform(15, 150, (count, 2))
    boxes = np.clip(np.hstack([centres - sides / 2, centres + sides / 2]), 0, SIZE * 2).astype(np.float32)
    return np.asarray(image, np.uint8), Labels(boxes, np.ones(count, np.int64), np.zeros(count, np.bool_))


def albumentations_pipeline() -> Callable[..., np.ndarray] | None:
    """Return the peer, or ``None`` where it isn't installed."""
    try:
        albumentations = importlib.import_module("albumentations")
    except ImportError:
        return None
    steps = albumentations.Compose(
        [
            albumentations.RandomBrightnessContrast(brightness_limit=32 / 255, contrast_limit=0, p=0.5),
            albumentations.RandomBrightnessContrast(brightness_limit=0, contrast_limit=0.5, p=0.5),
            albumentations.HueSaturationValue(18, 64, 0, p=0.75),
            albumentations.CropAndPad(percent=(0, 1.5), keep_size=False, fill=(123, 116, 103), p=0.5),
            albumentations.BBoxSafeRandomCrop(p=0.857),
            albumentations.HorizontalFlip(p=0.5),
            albumentations.Resize(SETTINGS.output_height, SETTINGS.output_width),
        ],
        bbox_params=albumentations.BboxParams(format="pascal_voc", label_fields=["classes"]),
        seed=0,
    )

    def run(_: np.random.Generator, image: Image, labels: Labels, __: AugmentationSettings) -> np.ndarray:
        return np.asarray(steps(image=image, bboxes=labels.boxes, classes=labels.classes)["image"])

    return run


def compare_speed(images: int, repeats: int, per_repeat: int) -> None:
    """Print milliseconds an image of all pipelines."""
    from tests.engine.data.slow_augmentation import slow_kitti

    rng = np.random.default_rng(0)
    scenes = [scene(rng) for _ in range(images)]
    pipelines: dict[str, Callable[..., object]] = {
        "raw KITTI": lambda *a: augment_kitti(*a)[0],
        "TFRecords": lambda *a: augment_tfrecord(*a)[0],
        "raw KITTI, step by step": lambda *a: slow_kitti(*a)[0],
    }
    peer = albumentations_pipeline()
    if peer:
        pipelines["albumentations"] = peer
    out = np.empty((SETTINGS.output_height, SETTINGS.output_width, 3), np.float32)
    times: dict[str, list[float]] = {name: [] for name in pipelines}
    for repeat in range(repeats):
        for name, pipeline in pipelines.items():
            start = time.process_time()
            for number in range(per_repeat):
                generator = np.random.Generator(np.random.Philox(key=[repeat, number]))
                shown = pipeline(generator, *scenes[number % images], SETTINGS)
                preprocess_into(shown, CAFFE_MEAN, out)  # type: ignore[arg-type]  # an image
            times[name].append((time.process_time() - start) / per_repeat)
    ours = statistics.median(times["raw KITTI"])
    for name, seconds in times.items():
        median = statistics.median(seconds)
        print(f"{name:26s}{median * 1e3:8.2f} ms{1 / median:8.0f} images/s{median / ours:8.2f} x raw KITTI")
    if not peer:
        print("albumentations isn't installed")


def compare_resizes(images: int) -> None:
    """Print how far the resized images are apart, in levels of 255."""
    rng = np.random.default_rng(0)
    sources = [scene(rng)[0] for _ in range(images)]
    size = (SETTINGS.output_width, SETTINGS.output_height)
    ways: dict[str, Callable[[Image, int, int], Pixels]] = {
        "OpenCV bilinear": resize_bilinear,
        "Pillow bilinear": resize_bilinear_pillow,
        "Pillow Lanczos": resize_lanczos,
    }
    shown = {
        name: np.stack([resize(one, *size).astype(np.float64) for one in sources])
        for name, resize in ways.items()
    }
    names = list(ways)
    for first, second in ((0, 1), (0, 2), (1, 2)):
        apart = np.abs(shown[names[first]] - shown[names[second]])
        print(
            f"{names[first]:16s} - {names[second]:16s} mean {apart.mean():6.2f}   largest {apart.max():6.1f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--per-repeat", type=int, default=100)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    compare_speed(arguments.images, arguments.repeats, arguments.per_repeat)
    compare_resizes(arguments.images)
