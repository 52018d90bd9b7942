"""A tiny KITTI data set, and experiments that use it."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from taomagic.engine.data import dataset_convert
from taomagic.engine.data.dataset_convert import ConversionReport
from taomagic.engine.data.record_forms import PictureRecords
from taomagic.project.paths import PathMap
from taomagic.spec.dataset_export import DatasetExport, KittiExport
from taomagic.spec.settings import AugmentationSettings, DatasetSettings, DataSource, SSDExperiment

ROOT = "/workspace/tao-experiments/data"
MAPPING = {"car": "car", "van": "car", "pedestrian": "pedestrian"}
CLASSES = ("car", "pedestrian")


def row(name: str, box: tuple[float, ...], *, occlusion: float = 0) -> str:
    corners = " ".join(str(value) for value in box)
    return f"{name} 0.10 {occlusion} -1.5 {corners} 1.5 1.6 4.0 2.0 1.7 12.5 -1.4"


def settings(**changes: object) -> AugmentationSettings:
    """Return settings under which nothing random happens, apart from the changes."""
    values: dict[str, object] = {
        "output_width": 96,
        "output_height": 64,
        "output_channel": 3,
        "random_crop_min_scale": 1.0,
        "random_crop_max_scale": 1.0,
        "random_crop_min_ar": 0.5,
        "random_crop_max_ar": 2.0,
        "zoom_out_min_scale": 1.0,
        "zoom_out_max_scale": 1.0,
        "brightness": 0,
        "contrast": 0.0,
        "saturation": 0.0,
        "hue": 0,
        "random_flip": 0.0,
        "image_mean": None,
    }
    return AugmentationSettings(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture
def paths(tmp_path: Path) -> PathMap:
    return PathMap([(str(tmp_path / "data"), ROOT)])


@pytest.fixture
def add(tmp_path: Path) -> Callable[..., None]:
    """Return a function that adds an image and its label file."""

    def add_one(
        stem: str, rows: list[str], *, size: tuple[int, int] = (120, 80), suffix: str = ".png"
    ) -> None:
        for folder in ("image_2", "label_2"):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
        rng = np.random.Generator(np.random.Philox(key=zlib.crc32(stem.encode())))
        image = rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / "data/image_2" / f"{stem}{suffix}"), image)
        (tmp_path / "data/label_2" / f"{stem}.txt").write_text("".join(f"{one}\n" for one in rows))

    return add_one


@pytest.fixture
def kitti(add: Callable[..., None], tmp_path: Path) -> Path:
    """Return the folder of ten images with a car each, some with a pedestrian, a van or something else."""
    for number in range(10):
        rows = [row("Car", (10, 20, 60, 70))]
        if number % 2:
            rows.append(row("Pedestrian", (70.5, 10.25, 90, 60), occlusion=1))
        if number % 5 == 0:
            rows += [row("Van", (0, 0, 30, 30)), row("Tram", (5, 5, 40, 40))]
        add(f"{number:06d}", rows)
    return tmp_path / "data"


def export(**changes: object) -> DatasetExport:
    values: dict[str, object] = {
        "root_directory_path": ROOT,
        "image_dir_name": "image_2",
        "label_dir_name": "label_2",
        "image_extension": ".png",
        "partition_mode": "random",
        "num_partitions": 2,
        "val_split": 0.0,
        "num_shards": 2,
        "kitti_sequence_to_frames_file": None,
    }
    config = KittiExport(**{**values, **changes})  # type: ignore[arg-type]
    return DatasetExport(
        path="convert.txt", text="", kitti=config, coco=None, class_mapping=MAPPING, classes=CLASSES
    )


def convert(
    export: DatasetExport,
    prefix: Path,
    *,
    paths: PathMap,
    class_names_file: Path | None = None,
    **more: Any,
) -> ConversionReport:
    """Convert as SSD does."""
    form = PictureRecords.of(export, class_names_file)
    return dataset_convert.convert(export, prefix, paths=paths, form=form, **more)


def experiment(
    *, tfrecords: str | None = None, include_difficult: bool = True, **changes: object
) -> SSDExperiment:
    """Return an experiment on the tiny data set; the changes are those of its augmentation."""
    folders = DataSource(None, f"{ROOT}/label_2", f"{ROOT}/image_2")
    source = DataSource(tfrecords, None, None) if tfrecords else folders
    dataset = DatasetSettings((source,), (folders,), MAPPING, CLASSES, include_difficult)
    return SSDExperiment(
        "train.txt",
        "",
        42,
        None,
        None,
        None,
        None,
        settings(**changes),
        dataset,  # type: ignore[arg-type]
    )
