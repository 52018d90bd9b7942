"""DetectNet_v2's records: every object in pixels, under its own name, and no picture."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tfrecord.reader import tfrecord_loader

from taomagic.engine.data import dataset_convert
from taomagic.engine.data.calibration import read_calibration
from taomagic.engine.data.dataset_convert import ConversionReport
from taomagic.engine.data.record_forms import LabelRecords
from taomagic.engine.data.sources import KittiSource
from taomagic.engine.data.tfrecord import Example, parse_example, read_records
from taomagic.errors import DataProblem
from taomagic.project.paths import PathMap
from taomagic.spec.dataset_export import CocoExport, DatasetExport, SampleModifierSettings
from tests.engine.data.conftest import ROOT, export, row

DONTCARE = "DontCare -1 -1 -10 503.89 169.71 590.61 190.13 -1 -1 -1 -1000 -1000 -1000 -10"
#: Ten images, the first three held out; each partition shuffled twice with Python's generator seeded with 42.
GOLDEN_ORDER = ["012", "4796538"]


def convert(export: DatasetExport, prefix: Path, paths: PathMap, **more: Any) -> ConversionReport:
    export = replace(export, class_mapping={}, classes=())
    return dataset_convert.convert(export, prefix, paths=paths, form=LabelRecords(), **more)


def examples(report: ConversionReport) -> dict[str, Example]:
    found = {}
    for path in report.files:
        for _, record in read_records(path):
            example = parse_example(record, "", 0)
            found[example.features.feature["frame/id"].bytes_list.value[0].decode()] = example
    return found


def test_an_independent_reader_finds_every_field(
    paths: PathMap, tmp_path: Path, add: Callable[..., None]
) -> None:
    add("000000", [row("Car", (10, 20, 60, 70)), row("Van", (70.5, 10.25, 90, 60), occlusion=2), DONTCARE])
    report = convert(export(num_shards=1), tmp_path / "out/kitti", paths)
    (path,) = report.files
    (one,) = tfrecord_loader(str(path), None)
    assert set(one) == {
        "frame/id", "frame/width", "frame/height", "target/object_class", "target/occlusion",
        *(f"target/{name}" for name in ("truncation", "observation_angle")),
        *(f"target/coordinates_{corner}" for corner in ("x1", "y1", "x2", "y2")),
        *(f"target/world_bbox_{name}" for name in ("h", "w", "l", "x", "y", "z", "rot_y")),
    }  # fmt: skip
    assert bytes(one["frame/id"]) == b"image_2/000000"
    assert (int(one["frame/width"][0]), int(one["frame/height"][0])) == (120, 80)
    np.testing.assert_allclose(one["target/coordinates_x1"], [10, 70.5, 503.89], rtol=1e-6)
    np.testing.assert_allclose(one["target/coordinates_y1"], [20, 10.25, 169.71], rtol=1e-6)
    np.testing.assert_allclose(one["target/coordinates_x2"], [60, 90, 590.61], rtol=1e-6)
    np.testing.assert_allclose(one["target/coordinates_y2"], [70, 60, 190.13], rtol=1e-6)
    np.testing.assert_array_equal(one["target/occlusion"], [0, 2, -1])
    np.testing.assert_allclose(one["target/world_bbox_z"], [12.5, 12.5, -1000])
    classes = examples(report)["image_2/000000"].features.feature["target/object_class"].bytes_list.value
    assert list(classes) == [b"car", b"van", b"dontcare"]
    assert dict(report.num_objects) == {"car": 1, "van": 1, "dontcare": 1}
    assert "dontcare" not in report.box_sizes


def test_no_other_file_lies_beside_the_records(kitti: Path, paths: PathMap, tmp_path: Path) -> None:
    """NVIDIA's loader reads every file that a pattern such as ``tfrecords/*`` matches."""
    report = convert(export(val_split=30.0, num_shards=3), tmp_path / "out/kitti", paths)
    assert sorted((tmp_path / "out").iterdir()) == sorted(report.files)
    assert len(report.files) == 6


def test_lists_without_values_are_of_their_kind(
    kitti: Path, paths: PathMap, tmp_path: Path, add: Callable[..., None]
) -> None:
    """TensorFlow's parser refuses an empty list of floats where it was told to expect texts."""
    add("000010", [])
    found = examples(convert(export(), tmp_path / "kitti", paths))
    for name, feature in found["image_2/000010"].features.feature.items():
        same = found["image_2/000000"].features.feature[name]
        assert feature.WhichOneof("kind") == same.WhichOneof("kind"), name


@pytest.mark.parametrize(("count", "val_split", "held_out"), [(7481, 14.0, 1047), (10, 30.0, 3)])
def test_split_and_order_are_taos(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int, val_split: float, held_out: int
) -> None:
    folder = tmp_path / "data/image_2"
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"{number:06d}.png").touch()
    config = export(val_split=val_split).kitti
    assert config is not None
    with caplog.at_level(logging.INFO):
        source = KittiSource(config, PathMap([(str(tmp_path / "data"), ROOT)]), logging.getLogger("test"))
    assert f"Train: {count - held_out}\tVal: {held_out}" in caplog.text
    assert sorted(source.partitions[0]) == [f"{number:06d}" for number in range(held_out)]
    if count == 10:
        assert ["".join(name[-1] for name in part) for part in source.partitions] == GOLDEN_ORDER


def test_the_log_has_taos_lines_in_their_order(
    kitti: Path, paths: PathMap, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        convert(export(val_split=30.0, num_shards=2), tmp_path / "out/kitti", paths)
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    expected = [
        "Instantiating a kitti converter",
        "Creating output directory ",
        "Num images in\nTrain: 7\tVal: 3",
        "Validation data in partition 0. Hence, while choosing the validationset during training choose "
        "validation_fold 0.",
        "Writing partition 0, shard 0",
        "Writing partition 0, shard 1",
        "\nWrote the following numbers of objects:\nb'car': 3\n",
        "Writing partition 1, shard 0",
        "Writing partition 1, shard 1",
        "\nWrote the following numbers of objects:\nb'car': 7\n",
        "Cumulative object statistics",
        "\nWrote the following numbers of objects:\nb'car': 10\n",
        "Class map. \nLabel in GT: Label in tfrecords file \nb'Car': b'car'",
        "For the dataset_config in the experiment_spec, please use labels in the tfrecords file, while writing the "
        "classmap.",
        "Tfrecords generation complete.",
    ]
    assert [bool(line.startswith(start)) for line, start in zip(lines, expected, strict=True)] == [True] * 15


def test_bad_boxes_are_left_out_and_listed(
    kitti: Path, paths: PathMap, tmp_path: Path, add: Callable[..., None]
) -> None:
    bad = [row("Tree", (50.2, 20, 50.9, 70)), row("Car", (9, 70, 60, 20))]
    add("000003", [row("Car", (10, 20, 60, 70)), *bad, DONTCARE])
    report = convert(export(num_shards=1), tmp_path / "kitti", paths)
    label = f"{ROOT}/label_2/000003.txt"
    expected = {f"{label}_1": [50, 20, 50, 70], f"{label}_2": [9, 70, 60, 20]}
    assert json.loads((tmp_path / "kitti_warning.json").read_text()) == expected
    classes = examples(report)["image_2/000003"].features.feature["target/object_class"].bytes_list.value
    assert list(classes) == [b"car", b"dontcare"]
    assert report.skipped_classes == {}


def test_labels_without_one_usable_box_are_refused(kitti: Path, paths: PathMap, tmp_path: Path) -> None:
    for path in (kitti / "label_2").iterdir():
        path.write_text(row("Car", (9, 70, 60, 20)))
    with pytest.raises(DataProblem, match="not one object with a usable box") as caught:
        convert(export(), tmp_path / "kitti", paths)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("change", "message", "where"),
    [
        (
            lambda data: (data / "label_2/000004.txt").write_text("Car 0 0\n"),
            "3 fields instead of 15",
            ".txt:1",
        ),
        (
            lambda data: (data / "label_2/000004.txt").write_text("\n" + row("Car", (1, 2, 3, 4)) + " 0.9\n"),
            "16 fields instead of 15",
            ".txt:2",
        ),
        (lambda data: (data / "image_2/000004.png").write_bytes(b""), "empty", "000004.png"),
        (lambda data: (data / "image_2/000004.png").write_bytes(b"\x89PNG..."), "cut off", "000004.png"),
        (lambda data: (data / "label_2/000004.txt").unlink(), "doesn't exist", "000004.txt"),
    ],
)
def test_bad_data_are_named_and_nothing_is_left_behind(
    kitti: Path, paths: PathMap, tmp_path: Path, change: Callable[[Path], object], message: str, where: str
) -> None:
    change(kitti)
    with pytest.raises(DataProblem, match=message) as caught:
        convert(export(), tmp_path / "out/kitti", paths)
    assert caught.value.where.startswith(ROOT)
    assert caught.value.where.endswith(where)
    assert caught.value.hint
    assert list((tmp_path / "out").iterdir()) == []


# -- point clouds and calibrations -------------------------------------------------------------------------------------

CALIBRATION = """\
P0: 7.2e+02 0 6.1e+02 0 0 7.2e+02 1.7e+02 0 0 0 1 0
P2: 700 0 600 45 0 700 170 0.2 0 0 1 0.003
R0_rect: 1 0 0 0 1 0 0 0 1
Tr_velo_to_cam: 0 -1 0 0 0 0 -1 -0.08 1 0 0 -0.27
Tr_imu_to_velo: 1 0 0 0 0 1 0 0 0 0 1 0
"""


@pytest.fixture
def scanned(kitti: Path) -> Path:
    """Return a data set with point clouds and calibrations."""
    for folder in ("velodyne", "calib"):
        (kitti / folder).mkdir()
    for number in range(10):
        (kitti / f"velodyne/{number:06d}.bin").touch()
        (kitti / f"calib/{number:06d}.txt").write_text(CALIBRATION)
    return kitti


SCANNED = {"point_clouds_dir": "velodyne", "calibrations_dir": "calib"}


def test_point_clouds_and_calibrations_are_recorded(scanned: Path, paths: PathMap, tmp_path: Path) -> None:
    found = examples(convert(export(**SCANNED), tmp_path / "kitti", paths))
    feature = found["image_2/000007"].features.feature
    assert list(feature["point_cloud/id"].bytes_list.value) == [b"velodyne/000007"]
    assert list(feature["point_cloud/num_input_channels"].int64_list.value) == [4]
    to_camera = np.array(feature["calibration/T_lidar_to_camera"].float_list.value).reshape(4, 4)
    to_image = np.array(feature["calibration/P_lidar_to_image"].float_list.value).reshape(3, 4)
    # Ten metres ahead of the scanner, two to its left, one below it.
    point = np.array([10, 2, -1, 1])
    np.testing.assert_allclose(to_camera @ point, [-2, 1 - 0.08, 10 - 0.27, 1], rtol=1e-6)
    u, v, depth = to_image @ point
    np.testing.assert_allclose(depth, 9.73 + 0.003, rtol=1e-6)
    np.testing.assert_allclose(u, 700 * -2 + 600 * 9.73 + 45, rtol=1e-6)
    np.testing.assert_allclose(v, 700 * 0.92 + 170 * 9.73 + 0.2, rtol=1e-6)


def test_the_rectification_comes_before_the_projection(tmp_path: Path) -> None:
    path = tmp_path / "calib.txt"
    path.write_text(CALIBRATION.replace("R0_rect: 1 0 0 0 1 0 0 0 1", "R0_rect: 0 -1 0 1 0 0 0 0 1"))
    to_camera, to_image = read_calibration(path)
    # The rotation turns (x, y, z) of camera 0 into (-y, x, z).
    np.testing.assert_allclose(to_camera @ [10, 2, -1, 1], [-0.92, -2, 9.73, 1])
    np.testing.assert_allclose(
        to_image @ [10, 2, -1, 1], [700 * -0.92 + 600 * 9.73 + 45, 700 * -2 + 170 * 9.73 + 0.2, 9.733]
    )


@pytest.mark.parametrize(
    ("change", "message", "where"),
    [
        (lambda data: (data / "velodyne/000004.bin").unlink(), "point cloud doesn't exist", "000004.bin"),
        (lambda data: (data / "calib/000004.txt").unlink(), "calibration file doesn't exist", "000004.txt"),
        (
            lambda data: (data / "calib/000004.txt").write_text(CALIBRATION.replace(" 0.003", "")),
            "P2 isn't 12 numbers",
            "000004.txt:2",
        ),
        (
            lambda data: (data / "calib/000004.txt").write_text(CALIBRATION.replace("-0.27", "nan")),
            "Tr_velo_to_cam isn't 12 numbers",
            "000004.txt:4",
        ),
        (lambda data: (data / "calib/000004.txt").write_text(""), "has no P2", "000004.txt"),
        (lambda data: (data / "calib/000004.txt").write_bytes(b"\xff\xfe"), "isn't text", "000004.txt"),
    ],
)
def test_bad_point_clouds_and_calibrations_are_named(
    scanned: Path, paths: PathMap, tmp_path: Path, change: Callable[[Path], object], message: str, where: str
) -> None:
    change(scanned)
    with pytest.raises(DataProblem, match=message) as caught:
        convert(export(**SCANNED), tmp_path / "out/kitti", paths)
    assert caught.value.where.startswith(ROOT)
    assert caught.value.where.endswith(where)
    assert caught.value.hint


# -- COCO --------------------------------------------------------------------------------------------------------------


def coco(folder: Path, images: list[dict[str, Any]]) -> DatasetExport:
    content = {
        "images": images,
        "categories": [{"id": 11, "name": "Traffic Light"}, {"id": 13, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 11, "bbox": [10, 20, 30, 40]},
            {"id": 2, "image_id": 3, "category_id": 13, "bbox": [1, 2, 3, 4]},
            {"id": 3, "image_id": 3, "category_id": 13, "bbox": [1, 2, 0.5, 4]},
            {"id": 4, "image_id": 3, "category_id": 11, "bbox": [5, 5, 30, 30], "iscrowd": 1},
        ],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    config = CocoExport(ROOT, ("image_2",), ("instances.json",), 1, (1,))
    return DatasetExport(path="convert.txt", text="", kitti=None, coco=config, class_mapping={}, classes=())


def test_coco_keeps_its_order_and_its_names(
    kitti: Path, paths: PathMap, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The first image was halved after it had been labelled; the second ends otherwise.
    cv2.imwrite(str(kitti / "image_2/other.jpg"), np.zeros((50, 60, 3), np.uint8))
    images = [
        {"id": 7, "file_name": "000001.png", "width": 240, "height": 160},
        {"id": 3, "file_name": "other.jpg", "width": 60, "height": 50},
    ]
    with caplog.at_level(logging.INFO):
        report = convert(coco(kitti, images), tmp_path / "coco", paths)
    assert "Instantiating a coco converter" in caplog.text
    assert [path.name for path in report.files] == ["coco-fold-000-of-001-shard-00000-of-00001"]
    found = examples(report)
    assert list(found) == ["image_2/000001", "image_2/other"]
    halved = found["image_2/000001"].features.feature
    assert list(halved["target/object_class"].bytes_list.value) == [b"trafficlight"]
    corners = [halved[f"target/coordinates_{name}"].float_list.value[0] for name in ("x1", "y1", "x2", "y2")]
    assert corners == [5, 10, 20, 30]
    assert halved["frame/width"].int64_list.value[0] == 120
    other = found["image_2/other"].features.feature
    assert list(other["target/truncation"].float_list.value) == [0, 0]
    assert list(other["target/object_class"].bytes_list.value) == [
        b"dog",
        b"dontcare",
    ]  # the second is a crowd
    assert json.loads((tmp_path / "coco_warning.json").read_text()) == {"3": [1, 2, 1, 6]}
    assert "end differently (.png: 1, .jpg: 1)" in caplog.text
    assert "says, with which their boxes are scaled: 1" in caplog.text


# -- sample modifier ---------------------------------------------------------------------------------------------------


def modifier(**changes: Any) -> SampleModifierSettings:
    values: dict[str, Any] = {
        "filter_containing_only": (),
        "dominant_classes": (),
        "minimum_imbalance": {},
        "num_duplicates": 0,
        "max_training_samples": 0,
        "class_mapping": {},
    }
    return SampleModifierSettings(**{**values, **changes})


def test_the_sample_modifier_knows_the_labels_own_classes(
    kitti: Path, paths: PathMap, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Four of the ten images show cars only; the one of them that is held out stays.
    one = replace(
        export(val_split=10.0, num_shards=1),
        sample_modifier=modifier(filter_containing_only=("car", "lorry")),
    )
    report = convert(one, tmp_path / "kitti", paths)
    assert report.num_images == 10 - 4
    assert "names classes that no image has: lorry" in caplog.text
    rare = modifier(
        dominant_classes=("car",),
        num_duplicates=2,
        class_mapping={"car": "car", "van": "rare", "tram": "rare"},
    )
    report = convert(replace(one, sample_modifier=rare), tmp_path / "kitti", paths, validation_fold=1)
    # In fold 0 there is image 0 alone: a car, and a van and a tram, which together outnumber it.
    assert report.num_images == 10 + 2


# -- killed conversions ------------------------------------------------------------------------------------------------

PROGRAM = """
import sys
from pathlib import Path
from taomagic.engine.data.workshop import workshop
with workshop(Path(sys.argv[1]), ".converting-") as folder:
    (folder / "half").write_text("half")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_conversion_left_is_removed_and_a_running_ones_is_not(
    kitti: Path, paths: PathMap, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    places, processes = [], []
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(out)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        places.append(Path(process.stdout.readline().strip()))
        processes.append(process)
    os.kill(processes[0].pid, signal.SIGKILL)
    processes[0].wait()
    assert all((place / "half").exists() for place in places)
    convert(export(), out / "kitti", paths)
    assert [place.exists() for place in places] == [False, True]
    processes[1].communicate("")
    assert [re.sub("-fold.*", "", path.name) for path in out.iterdir()] == ["kitti"] * 2
