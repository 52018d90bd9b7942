"""Which records become which images and objects."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from taomagic.engine.data.example_pb2 import Example
from taomagic.engine.data.tfrecord import TFRecordWriter
from taomagic.engine.detectnet_v2.records import Frames, collect
from taomagic.errors import DataProblem
from taomagic.project.paths import PathMap
from taomagic.spec.settings_detectnet_v2 import DetectNetDatasetSettings, DetectNetSource

from .conftest import ROOT

CLASSES = ("pedestrian", "car")  # not in alphabetical order
BOX = (10.0, 10.0, 40.0, 30.0)


def dataset(pattern: str = "kitti*", **changes: Any) -> DetectNetDatasetSettings:
    values: dict[str, Any] = {
        "data_sources": (DetectNetSource(f"{ROOT}/tfrecords/{pattern}", ROOT, 1.0),),
        "image_extension": "png",
        "class_mapping": {"car": "car", "van": "car", "pedestrian": "pedestrian", "tram": "tram"},
        "validation_fold": 0,
        "validation_source": None,
        "sampling_mode": "USER_DEFINED",
    }
    return DetectNetDatasetSettings(**{**values, **changes})


def read(settings: DetectNetDatasetSettings, paths: PathMap, *, validation: bool = False) -> Frames:
    return collect(settings, CLASSES, paths, validation=validation)


@pytest.fixture
def two_folds(write: Callable[..., None]) -> None:
    write("kitti-fold-000-of-002-shard-00000-of-00001", {"image_2/val": [("car", *BOX)]})
    write("kitti-fold-001-of-002-shard-00000-of-00002", {"image_2/a": [("car", *BOX)], "image_2/b": []})
    write("kitti-fold-001-of-002-shard-00001-of-00002", {"image_2/c": [("Van", *BOX), ("pedestrian", *BOX)]})


@pytest.mark.usefixtures("two_folds")
def test_the_validation_fold_is_kept_apart(paths: PathMap) -> None:
    training, validation = read(dataset(), paths), read(dataset(), paths, validation=True)
    assert [frame.name for frame in training.frames] == [f"{ROOT}/image_2/{name}.png" for name in "abc"]
    assert [frame.name for frame in validation.frames] == [f"{ROOT}/image_2/val.png"]
    assert training.sources == [3]
    assert training.frames[0].decode().shape == (80, 120, 3)


@pytest.mark.usefixtures("two_folds")
def test_ids_follow_the_networks_order_and_names_are_mapped(paths: PathMap) -> None:
    objects = read(dataset(), paths).frames[2].objects
    assert objects.classes.tolist() == [2, 1]
    assert objects.source_classes == ("van", "pedestrian")
    assert objects.boxes.tolist() == [list(BOX)] * 2


def test_unmapped_and_empty_objects_are_left_out(
    write: Callable[..., None], paths: PathMap, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [("car", *BOX), ("tree", *BOX), ("tram", *BOX), ("car", 9.0, 9.0, 9.0, 30.0), ("dontcare", *BOX)]
    write("kitti-fold-001-of-002", {"image_2/a": rows})
    with caplog.at_level("INFO"):
        frames = read(dataset(), paths)
    assert frames.frames[0].objects.source_classes == ("car",)
    assert "tree (1)" in caplog.text
    assert "dontcare" not in caplog.text


def test_a_validation_source_takes_the_place_of_a_fold(write: Callable[..., None], paths: PathMap) -> None:
    write("kitti-fold-000-of-002", {"image_2/a": [("car", *BOX)]})
    write("other", {"image_2/v": [("car", *BOX)]})
    source = DetectNetSource(f"{ROOT}/tfrecords/other", ROOT, 1.0)
    settings = dataset(validation_fold=None, validation_source=source)
    assert [frame.path.stem for frame in read(settings, paths).frames] == ["a"]
    assert [frame.path.stem for frame in read(settings, paths, validation=True).frames] == ["v"]
    assert read(dataset(validation_fold=None), paths, validation=True).frames == []


def test_relative_patterns_begin_at_the_base_path(
    write: Callable[..., None], paths: PathMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("kitti-fold-001-of-002", {"image_2/a": [("car", *BOX)]})
    monkeypatch.setenv("DATA_BASE_PATH", str(tmp_path / "data"))
    source = DetectNetSource("tfrecords/kitti*", ROOT, 1.0)
    assert len(read(dataset(data_sources=(source,)), paths).frames) == 1


@pytest.mark.usefixtures("two_folds")
@pytest.mark.parametrize(
    ("settings", "validation", "message"),
    [
        (
            dataset("nothing*"),
            False,
            "No files match pattern /workspace/tao-experiments/data/tfrecords/nothing",
        ),
        (dataset(validation_fold=7), True, "there is no validation image"),
        (dataset(class_mapping={"horse": "car"}), False, "no object of a mapped class"),
    ],
)
def test_what_is_missing_is_named(
    paths: PathMap, settings: DetectNetDatasetSettings, validation: bool, message: str
) -> None:
    with pytest.raises(DataProblem) as caught:
        read(settings, paths, validation=validation)
    assert message in caught.value.message
    assert caught.value.hint


def test_a_missing_image_is_named_before_the_training(
    write: Callable[..., None], paths: PathMap, tmp_path: Path
) -> None:
    write("kitti-fold-001-of-002", {f"image_2/{name}": [("car", *BOX)] for name in "abc"})
    for name in "bc":
        (tmp_path / "data/image_2" / f"{name}.png").unlink()
    with pytest.raises(DataProblem, match="2 of 3 training images aren't there") as caught:
        read(dataset(), paths)
    assert caught.value.where == f"{ROOT}/image_2/b.png"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("changes", "directory", "hint"),
    [
        ({"image_extension": "jpg"}, ROOT, 'There is a.png; set image_extension: "png"'),
        ({}, f"{ROOT}/image_2", f'image_2/ already; set image_directory_path: "{ROOT}"'),
        ({}, f"{ROOT}/elsewhere", "There is no such folder"),
    ],
)
def test_a_wrong_place_or_ending_of_the_images_is_explained(
    write: Callable[..., None], paths: PathMap, changes: dict[str, Any], directory: str, hint: str
) -> None:
    write("kitti-fold-001-of-002", {"image_2/a": [("car", *BOX)]})
    source = DetectNetSource(f"{ROOT}/tfrecords/kitti*", directory, 1.0)
    with pytest.raises(DataProblem, match="aren't there") as caught:
        read(dataset(data_sources=(source,), **changes), paths)
    assert hint in caught.value.hint


def test_an_image_of_another_size_than_its_record_is_named(
    write: Callable[..., None], paths: PathMap, tmp_path: Path
) -> None:
    write("kitti-fold-001-of-002", {"image_2/a": [("car", *BOX)]})
    cv2.imwrite(str(tmp_path / "data/image_2/a.png"), np.zeros((40, 60, 3), np.uint8))
    frame = read(dataset(), paths).frames[0]
    with pytest.raises(DataProblem, match="60×40, but its boxes were recorded for 120×80") as caught:
        frame.decode()
    assert caught.value.where == f"{ROOT}/image_2/a.png"


def record(path: Path, fill: Callable[[Any], None]) -> None:
    """Write one record, of 120×80 pixels, filled by a test, as another converter might."""
    message = Example()
    feature = message.features.feature
    feature["frame/id"].bytes_list.value.append(b"image_2/a")
    feature["frame/width"].int64_list.value.append(120)
    feature["frame/height"].int64_list.value.append(80)
    fill(feature)
    with TFRecordWriter(path) as writer:
        writer.write(message.SerializeToString())


def polygons(feature: Any) -> None:
    feature["target/object_class"].bytes_list.value.extend([b"car", b"Pedestrian"])
    feature["target/coordinates/x"].float_list.value.extend([10, 40, 20, 50, 60, 55])
    feature["target/coordinates/y"].float_list.value.extend([10, 12, 30, 5, 5, 50])
    feature["target/coordinates/index"].int64_list.value.extend([0, 0, 0, 1, 1, 1])


def more_than_needed(feature: Any) -> None:
    feature["target/object_class"].bytes_list.value.append(b"car")
    for corner, value in zip(("x1", "y1", "x2", "y2"), BOX, strict=True):
        feature[f"target/coordinates_{corner}"].float_list.value.append(value)
    for name in ("truncation", "observation_angle", "world_bbox_h", "world_bbox_rot_y"):
        feature[f"target/{name}"].float_list.value.append(0.5)
    feature["target/occlusion"].int64_list.value.append(2)
    feature["frame/encoded"].bytes_list.value.append(b"")
    feature["point_cloud/id"].bytes_list.value.append(b"velodyne/a")
    feature["point_cloud/num_input_channels"].int64_list.value.append(4)
    feature["calibration/T_lidar_to_camera"].float_list.value.extend([0.0] * 16)


def without_objects(feature: Any) -> None:
    feature["target/object_class"].bytes_list.SetInParent()
    feature["target/occlusion"].int64_list.SetInParent()
    for corner in ("x1", "y1", "x2", "y2"):
        feature[f"target/coordinates_{corner}"].float_list.SetInParent()


@pytest.mark.parametrize(
    ("fill", "boxes", "occluded"),
    [
        (polygons, [[10, 10, 40, 30], [50, 5, 60, 50]], [False, False]),
        (more_than_needed, [[10, 10, 40, 30]], [True]),
        (without_objects, [], []),
    ],
)
def test_records_of_nvidias_converters_are_read(
    write: Callable[..., None],
    paths: PathMap,
    tmp_path: Path,
    fill: Callable[[Any], None],
    boxes: list[list[float]],
    occluded: list[bool],
) -> None:
    write("kitti-fold-001-of-002-shard-00001-of-00002", {"image_2/a": [("car", *BOX)]})
    folder = tmp_path / "data/tfrecords"
    record(folder / "kitti-fold-001-of-002-shard-00000-of-00002", fill)
    # What lies beside them there: indexes, the list of bad boxes, the log of the conversion.
    (folder / "idx-kitti-fold-001-of-002-shard-00000-of-00002").write_text("0 10\n")
    (folder / "kitti_warning.json").write_text("{}")
    (folder / "kitti.log").write_text("INFO")
    frames = read(dataset("*"), paths).frames
    assert len(frames) == 2
    objects = frames[0].objects
    assert objects.boxes.tolist() == boxes
    assert objects.difficult.tolist() == occluded
    assert frames[0].size == (120, 80)


def other_lengths(feature: Any) -> None:
    more_than_needed(feature)
    feature["target/occlusion"].int64_list.value.append(0)


def no_boxes(feature: Any) -> None:
    feature["target/object_class"].bytes_list.value.append(b"car")


def no_identity(feature: Any) -> None:
    del feature["frame/id"]


def ssds(feature: Any) -> None:
    feature["target/object_class_id"].float_list.value.append(1)


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (other_lengths, "differ in length"),
        (no_boxes, "no usable boxes"),
        (no_identity, "no frame/id"),
        (ssds, "name classes by numbers, as SSD's do"),
    ],
)
def test_records_that_cannot_be_used_are_named(
    paths: PathMap, tmp_path: Path, fill: Callable[[Any], None], message: str
) -> None:
    folder = tmp_path / "data/tfrecords"
    folder.mkdir(parents=True)
    record(folder / "kitti-fold-001-of-002", fill)
    with pytest.raises(DataProblem, match=message) as caught:
        read(dataset(), paths)
    assert caught.value.where == f"{ROOT}/tfrecords/kitti-fold-001-of-002, byte 0"
    assert caught.value.hint


def test_packed_records_and_folders_are_explained(
    write: Callable[..., None], paths: PathMap, tmp_path: Path
) -> None:
    write("kitti-fold-001-of-002", {"image_2/a": [("car", *BOX)]})
    path = tmp_path / "data/tfrecords/kitti-fold-001-of-002"
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataProblem, match="packed with gzip"):
        read(dataset(), paths)
    folder = DetectNetSource(f"{ROOT}/tfrecords", ROOT, 1.0)
    with pytest.raises(DataProblem, match="No files match pattern") as caught:
        read(dataset(data_sources=(folder,)), paths)
    assert caught.value.hint == f"this is a folder; its files are {ROOT}/tfrecords/*"


def test_a_fold_that_has_everything_is_explained(write: Callable[..., None], paths: PathMap) -> None:
    write("kitti-fold-000-of-002", {"image_2/a": [("car", *BOX)]})
    with pytest.raises(DataProblem, match="no training image") as caught:
        read(dataset(), paths)
    assert "Every file name has fold-000-of-" in caught.value.hint


def test_equal_data_have_equal_fingerprints_wherever_they_lie(
    write: Callable[..., None], paths: PathMap, tmp_path: Path
) -> None:
    write("kitti-fold-001-of-002", {"image_2/a": [("car", *BOX)]})
    before = read(dataset(), paths).fingerprint()
    shutil.copytree(tmp_path / "data", tmp_path / "copy", copy_function=shutil.copyfile)
    assert read(dataset(), PathMap([(str(tmp_path / "copy"), ROOT)])).fingerprint() == before


def test_the_fingerprint_changes_with_the_data(write: Callable[..., None], paths: PathMap) -> None:
    write("kitti-fold-001-of-002", {"image_2/a": [("car", *BOX)]})
    before = read(dataset(), paths).fingerprint()
    assert read(dataset(), paths).fingerprint() == before
    write("kitti-fold-001-of-002", {"image_2/a": [("car", 10.0, 10.0, 41.0, 30.0)]})
    assert read(dataset(), paths).fingerprint() != before
