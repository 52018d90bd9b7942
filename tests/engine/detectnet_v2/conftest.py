"""Experiments of DetectNet_v2 at toy scale, and records to go with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from taomagic.engine.data.example_pb2 import Example
from taomagic.engine.data.tfrecord import TFRecordWriter
from taomagic.project.paths import PathMap
from taomagic.spec.settings_detectnet_v2 import DetectNetAugmentationSettings

ROOT = "/workspace/tao-experiments/data"


def augmentation(**changes: Any) -> DetectNetAugmentationSettings:
    """Return settings under which nothing random happens, apart from the changes."""
    values: dict[str, Any] = {
        "output_width": 96,
        "output_height": 64,
        "output_channel": 3,
        "crop": None,
        "min_bbox_width": 0.0,
        "min_bbox_height": 0.0,
        "scale_width": 0.0,
        "scale_height": 0.0,
        "enable_auto_resize": False,
        "hflip_probability": 0.0,
        "vflip_probability": 0.0,
        "zoom_min": 1.0,
        "zoom_max": 1.0,
        "translate_max_x": 0.0,
        "translate_max_y": 0.0,
        "rotate_max": 0.0,
        "rotate_probability": 1.0,
        "color_shift_stddev": 0.0,
        "hue_rotation_max": 0.0,
        "saturation_shift_max": 0.0,
        "contrast_scale_max": 0.0,
        "contrast_center": 0.5,
    }
    return DetectNetAugmentationSettings(**{**values, **changes})


Row = tuple[str, float, float, float, float]


def example(identity: str, rows: list[Row], size: tuple[int, int] = (120, 80)) -> bytes:
    """Return a record as NVIDIA's converter writes it."""
    message = Example()
    feature = message.features.feature
    feature["frame/id"].bytes_list.value.append(identity.encode())
    feature["frame/width"].int64_list.value.append(size[0])
    feature["frame/height"].int64_list.value.append(size[1])
    for name, *box in rows:
        feature["target/object_class"].bytes_list.value.append(name.encode())
        feature["target/occlusion"].int64_list.value.append(0)
        for corner, value in zip(("x1", "y1", "x2", "y2"), box, strict=True):
            feature[f"target/coordinates_{corner}"].float_list.value.append(value)
    return message.SerializeToString()


@pytest.fixture
def paths(tmp_path: Path) -> PathMap:
    return PathMap([(str(tmp_path / "data"), ROOT)])


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., None]:
    """Write a record file and its images."""

    def write_file(name: str, frames: dict[str, list[Row]], *, size: tuple[int, int] = (120, 80)) -> None:
        folder = tmp_path / "data" / "tfrecords"
        folder.mkdir(parents=True, exist_ok=True)
        with TFRecordWriter(folder / name) as writer:
            for identity, rows in frames.items():
                writer.write(example(identity, rows, size))
                path = tmp_path / "data" / f"{identity}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                rng = np.random.default_rng(len(identity) + sum(map(ord, identity)))
                cv2.imwrite(str(path), rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))

    return write_file
