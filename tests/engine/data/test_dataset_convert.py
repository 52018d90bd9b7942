"""Conversion: TAO's split, order, names and contents; complete or not at all."""

from __future__ import annotations

import errno
import json
import logging
import random
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tfrecord.reader import tfrecord_loader

from taomagic.engine.data import dataset_convert
from taomagic.engine.data.sources import KittiSource
from taomagic.engine.data.tfrecord import example_parts, index_path, parse_example, read_records
from taomagic.errors import DataProblem, SpecProblem
from taomagic.project.paths import PathMap
from taomagic.spec.dataset_export import CocoExport, DatasetExport
from tests.engine.data.conftest import CLASSES, MAPPING, ROOT, convert, export, row

#: Ten images, the first three held out; each partition shuffled twice with Python's generator seeded with 42.
GOLDEN_ORDER = ["012", "4796538"]


def identities(files: tuple[Path, ...]) -> list[list[str]]:
    return [
        [
            parse_example(r, "", 0).features.feature["frame/id"].bytes_list.value[0].decode()
            for _, r in read_records(f)
        ]
        for f in files
    ]


def expected_order(stems: list[str], held_out: int) -> list[list[str]]:
    """Work out TAO's order with the very calls that TAO makes on Python's global generator."""
    partitions = [stems[:held_out], stems[held_out:]]
    random.seed(42)
    for _ in range(2):
        for partition in partitions:
            random.shuffle(partition)
    return partitions


def test_split_and_order_are_taos(kitti: Path, paths: PathMap, tmp_path: Path) -> None:
    report = convert(export(val_split=30.0, num_shards=1), tmp_path / "out/kitti", paths=paths)
    stems = [f"{number:06d}" for number in range(10)]
    expected = [[f"image_2/{stem}" for stem in part] for part in expected_order(stems, 3)]
    assert identities(report.files) == expected
    # The numbers themselves, so that a change in Python's shuffle would be noticed.
    assert ["".join(name[-1] for name in part) for part in expected] == GOLDEN_ORDER
    assert [path.name for path in report.files] == [
        "kitti-fold-000-of-002-shard-00000-of-00001",
        "kitti-fold-001-of-002-shard-00000-of-00001",
    ]


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    count=st.integers(1, 60),
    val_split=st.one_of(st.sampled_from([0.0, 14.0, 33.3, 99.9]), st.floats(0, 99.5, width=32)),
    shards=st.integers(0, 7),
)
def test_split_order_and_shards_are_those_of_the_rule(
    tmp_path: Path, count: int, val_split: float, shards: int
) -> None:
    folder = tmp_path / f"data{count}/images"
    folder.mkdir(parents=True, exist_ok=True)
    stems = [f"{number * 7919 % 10_007}" for number in range(count)]
    for stem in stems:
        (folder / f"{stem}.png").touch()
    config = export(val_split=val_split, num_shards=shards, image_dir_name="images").kitti
    assert config is not None
    paths = PathMap([(str(folder.parent), ROOT)])
    source = KittiSource(config, paths, logging.getLogger("test"))
    # The field of the protobuf message has 32 bits.
    held_out = int(struct.unpack("f", struct.pack("f", val_split))[0] / 100.0 * count)
    assert source.partitions == expected_order(sorted(stems), held_out)
    for partition in source.partitions:
        parts = dataset_convert._sharded(partition, shards)
        size = len(partition) // max(shards, 1)
        assert [len(part) for part in parts[:-1]] == [size] * (max(shards, 1) - 1)
        assert list(chain.from_iterable(parts)) == partition


def test_without_shards_the_names_have_none(kitti: Path, paths: PathMap, tmp_path: Path) -> None:
    report = convert(export(val_split=30.0, num_shards=0), tmp_path / "kitti", paths=paths)
    assert [path.name for path in report.files] == ["kitti-fold-000-of-002", "kitti-fold-001-of-002"]


def test_an_index_of_other_data_is_replaced(kitti: Path, paths: PathMap, tmp_path: Path) -> None:
    one = export(num_shards=1)
    (path,) = convert(one, tmp_path / "kitti", paths=paths).files
    whole = index_path(path).read_text()
    index_path(path).write_text("0 10\n")
    convert(one, tmp_path / "kitti", paths=paths)
    assert index_path(path).read_text() == whole


@pytest.mark.parametrize("kind", [KeyboardInterrupt, OSError, MemoryError])
def test_an_interrupted_conversion_leaves_the_earlier_one(
    kitti: Path, paths: PathMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    def content() -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}

    convert(export(num_shards=2), tmp_path / "kitti", paths=paths)
    before = content()
    calls = 0

    def interrupted(*arguments: Any) -> tuple[bytes, ...]:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise kind
        return example_parts(*arguments)

    monkeypatch.setattr(dataset_convert, "example_parts", interrupted)
    with pytest.raises((kind, DataProblem)):
        convert(export(num_shards=1), tmp_path / "kitti", paths=paths)
    assert content() == before
    assert not list(tmp_path.glob(".converting*"))


def test_a_relative_root_lies_in_data_base_path(
    kitti: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_BASE_PATH", str(tmp_path))
    report = convert(export(root_directory_path="data"), tmp_path / "out/kitti", paths=PathMap([]))
    assert report.num_images == 10


def test_long_conversions_say_how_far_they_are(
    kitti: Path,
    paths: PathMap,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(dataset_convert, "_PROGRESS_EVERY_S", 0.0)
    convert(export(), tmp_path / "kitti", paths=paths)
    told = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Converted ")]
    assert len(told) == 9
    assert re.fullmatch(r"Converted 9 of 10 images, about \d+ s left", told[-1])


def test_an_empty_partition_is_skipped_and_the_rest_renumbered(
    kitti: Path, paths: PathMap, tmp_path: Path
) -> None:
    report = convert(export(num_shards=3), tmp_path / "kitti", paths=paths)
    assert [path.name for path in report.files] == [
        f"kitti-fold-000-of-002-shard-0000{n}-of-00003" for n in range(3)
    ]
    assert [len(shard) for shard in identities(report.files)] == [3, 3, 4]
    assert report.num_images == 10
    assert dict(report.num_objects) == {"car": 12, "pedestrian": 5}
    assert dict(report.skipped_classes) == {"tram": 2}
    assert {name: len(sizes) for name, sizes in report.box_sizes.items()} == dict(report.num_objects)


def test_sequences_are_dealt_out_longest_first_and_folds_reversed(
    kitti: Path, paths: PathMap, tmp_path: Path
) -> None:
    frames = [f"{number:06d}" for number in range(10)]
    sequences = {"b": frames[:2], "a": frames[2:4], "c": frames[4:9], "d": frames[9:]}
    (kitti / "sequences.json").write_text(json.dumps(sequences))
    config = {
        "partition_mode": "sequence",
        "num_shards": 0,
        "kitti_sequence_to_frames_file": "sequences.json",
    }
    report = convert(export(**config, num_partitions=3), tmp_path / "kitti", paths=paths)
    # By (-length, name): c, a, b, d; dealt to 0, 1, 2, 0; then reversed.
    assert [sorted(name[-1] for name in part) for part in identities(report.files)] == [
        ["0", "1"],
        ["2", "3"],
        ["4", "5", "6", "7", "8", "9"],
    ]
    assert [path.name for path in report.files] == [f"kitti-fold-00{n}-of-003" for n in range(3)]
    with pytest.raises(DataProblem, match="doesn't exist"):
        convert(
            export(**{**config, "kitti_sequence_to_frames_file": "none.json"}),
            tmp_path / "other",
            paths=paths,
        )
    (kitti / "sequences.json").write_text(json.dumps({"a": [{"frame": "000000"}]}))
    with pytest.raises(DataProblem, match="isn't a JSON object of lists"):
        convert(export(**config), tmp_path / "other", paths=paths)


def test_an_independent_reader_finds_every_field(kitti: Path, paths: PathMap, tmp_path: Path) -> None:
    report = convert(export(num_shards=1), tmp_path / "kitti", paths=paths)
    (path,) = report.files
    records = {
        bytes(one["frame/id"]).decode(): one for one in tfrecord_loader(str(path), str(index_path(path)))
    }
    one = records["image_2/000001"]
    assert (int(one["frame/width"][0]), int(one["frame/height"][0])) == (120, 80)
    assert bytes(one["frame/encoded"]) == (kitti / "image_2/000001.png").read_bytes()
    np.testing.assert_allclose(one["target/object_class_id"], [1, 2])
    np.testing.assert_allclose(one["target/coordinates_x1"], [10 / 120, 70.5 / 120], rtol=1e-6)
    np.testing.assert_allclose(one["target/coordinates_y1"], [20 / 80, 10.25 / 80], rtol=1e-6)
    np.testing.assert_allclose(one["target/coordinates_x2"], [60 / 120, 90 / 120], rtol=1e-6)
    np.testing.assert_allclose(one["target/coordinates_y2"], [70 / 80, 60 / 80], rtol=1e-6)
    np.testing.assert_array_equal(one["target/occlusion"], [0, 1])
    numbers = {"truncation": 0.1, "observation_angle": -1.5, "world_bbox_h": 1.5, "world_bbox_w": 1.6}
    numbers |= {
        "world_bbox_l": 4,
        "world_bbox_x": 2,
        "world_bbox_y": 1.7,
        "world_bbox_z": 12.5,
        "world_bbox_rot_y": -1.4,
    }
    for name, value in numbers.items():
        np.testing.assert_allclose(one[f"target/{name}"], [value, value], rtol=1e-6)
    assert len(one) == 19


def test_bad_boxes_are_left_out_and_listed(
    kitti: Path, paths: PathMap, tmp_path: Path, add: Callable[..., None]
) -> None:
    add(
        "000003",
        [row("Car", (10, 20, 60, 70)), row("Car", (50.2, 20, 50.9, 70)), row("Car", (9, 70, 60, 20))],
    )
    report = convert(export(num_shards=1), tmp_path / "kitti", paths=paths)
    assert report.warnings_path == tmp_path / "kitti_warning.json"
    label = f"{ROOT}/label_2/000003.txt"
    expected = {f"{label}_1": [50, 20, 50, 70], f"{label}_2": [9, 70, 60, 20]}
    assert json.loads((tmp_path / "kitti_warning.json").read_text()) == expected
    assert report.bad_boxes == 2


def test_an_image_without_objects_is_still_written(
    kitti: Path, paths: PathMap, tmp_path: Path, add: Callable[..., None]
) -> None:
    add("000010", [])
    assert convert(export(), tmp_path / "kitti", paths=paths).num_images == 11


def test_the_log_has_taos_lines(
    kitti: Path, paths: PathMap, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        convert(export(val_split=20.0, num_shards=1), tmp_path / "kitti", paths=paths)
    text = "\n".join(record.getMessage() for record in caplog.records)
    for line in (
        "Num images in\nTrain: 8\tVal: 2",
        "Writing partition 0, shard 0",
        "Writing partition 1, shard 0",
        "Cumulative object statistics",
        "\nWrote the following numbers of objects:\nb'car': ",
        "Label in GT: Label in tfrecords file \nb'Car': b'car'",
        "Tfrecords generation complete.",
    ):
        assert line in text
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == ["Left out, because target_class_mapping doesn't have these classes: tram (2)"]


def test_files_of_an_earlier_conversion_are_replaced(kitti: Path, paths: PathMap, tmp_path: Path) -> None:
    (tmp_path / "kitti_other-fold-000-of-002").write_text("of another prefix")
    convert(export(val_split=20.0, num_shards=3), tmp_path / "kitti", paths=paths)
    report = convert(export(num_shards=1), tmp_path / "kitti", paths=paths)
    (made,) = report.files
    names = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert names == {made.name, f"idx-{made.name}", "kitti_other-fold-000-of-002"}


def test_a_file_named_like_the_prefix_stays(kitti: Path, paths: PathMap, tmp_path: Path) -> None:
    mine = [tmp_path / name for name in ("kitti", "idx-kitti", "kitti-fold", "kitti.txt")]
    for path in mine:
        path.write_text("mine")
    convert(export(), tmp_path / "kitti", paths=paths)
    assert [path.read_text() for path in mine] == ["mine"] * 4


def broken(kitti: Path, kind: str) -> None:
    if kind == "label missing":
        (kitti / "label_2/000004.txt").unlink()
    elif kind == "label row short":
        (kitti / "label_2/000004.txt").write_text("Car 0 0 0 1 2 3 4\n")
    elif kind == "image cut off":
        image = kitti / "image_2/000004.png"
        image.write_bytes(image.read_bytes()[:500])
    elif kind == "image empty":
        (kitti / "image_2/000004.png").write_bytes(b"")
    elif kind == "no objects":
        for path in (kitti / "label_2").iterdir():
            path.write_text(row("Tram", (1, 2, 30, 40)))
    elif kind == "no images":
        for path in (kitti / "image_2").iterdir():
            path.unlink()
    elif kind == "no folder":
        (kitti / "image_2").rename(kitti / "images")


@pytest.mark.parametrize(
    ("kind", "message", "where"),
    [
        ("label missing", "label file doesn't exist", "label_2/000004.txt"),
        ("label row short", "8 fields instead of 15", "label_2/000004.txt:1"),
        ("image cut off", "cut off", "image_2/000004.png"),
        ("image empty", "empty", "image_2/000004.png"),
        ("no objects", "not one object", "kitti"),
        ("no images", "no image that ends in .png", "image_2"),
        ("no folder", "folder doesn't exist", "image_2"),
    ],
)
def test_bad_data_are_named_and_nothing_is_left_behind(
    kitti: Path, paths: PathMap, tmp_path: Path, kind: str, message: str, where: str
) -> None:
    broken(kitti, kind)
    with pytest.raises(DataProblem, match=message) as caught:
        convert(export(), tmp_path / "out/kitti", paths=paths)
    assert caught.value.where.endswith(where)
    assert caught.value.hint
    assert list((tmp_path / "out").glob("*")) == [] or kind in ("no images", "no folder")


def test_a_full_disk_leaves_nothing_half_written(
    kitti: Path, paths: PathMap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk(dataset_convert.TFRecordWriter):
        def write(self, *parts: bytes) -> None:
            if len(self.index) == 2:
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write(*parts)

    monkeypatch.setattr(dataset_convert, "TFRecordWriter", FullDisk)
    with pytest.raises(DataProblem, match="No space left on device"):
        convert(export(), tmp_path / "out/kitti", paths=paths)
    assert list((tmp_path / "out").iterdir()) == []


def test_classes_come_from_a_file_if_the_spec_has_none(kitti: Path, paths: PathMap, tmp_path: Path) -> None:
    bare = export()
    bare = replace(bare, class_mapping={}, classes=())
    with pytest.raises(SpecProblem, match="no classes are named"):
        convert(bare, tmp_path / "kitti", paths=paths)
    (tmp_path / "names.txt").write_text("Tram\nCar\n\n")
    report = convert(bare, tmp_path / "kitti", paths=paths, class_names_file=tmp_path / "names.txt")
    assert dict(report.num_objects) == {"car": 10, "tram": 2}


def coco(folder: Path, boxes: list[dict[str, Any]], **changes: object) -> None:
    content: dict[str, object] = {
        "images": [
            {"id": 7, "file_name": "000001.png", "width": 120, "height": 80},
            {"id": 3, "file_name": "000000.png"},
        ],
        "categories": [
            {"id": 11, "name": "Car"},
            {"id": 12, "name": "Pedes trian"},
            {"id": 13, "name": "dog"},
        ],
        "annotations": boxes,
    }
    (folder / "instances.json").write_text(json.dumps(content | changes))


def coco_export(partitions: int = 1) -> DatasetExport:
    names = ("instances.json",) * partitions
    config = CocoExport(ROOT, ("image_2",) * partitions, names, partitions, (1,) * partitions)
    return DatasetExport(
        path="convert.txt", text="", kitti=None, coco=config, class_mapping=MAPPING, classes=CLASSES
    )


def test_coco_keeps_the_order_of_the_file(kitti: Path, paths: PathMap, tmp_path: Path) -> None:
    boxes = [
        {"id": 1, "image_id": 3, "category_id": 12, "bbox": [10, 20, 30, 40]},
        {"id": 2, "image_id": 7, "category_id": 11, "bbox": [1, 2, 0.5, 4]},
        {"id": 3, "image_id": 3, "category_id": 13, "bbox": [1, 2, 3, 4]},
    ]
    coco(kitti, boxes)
    report = convert(coco_export(), tmp_path / "coco", paths=paths)
    assert identities(report.files) == [["image_2/000001", "image_2/000000"]]
    assert dict(report.num_objects) == {"pedestrian": 1}
    assert dict(report.skipped_classes) == {"dog": 1}
    assert json.loads((tmp_path / "coco_warning.json").read_text()) == {"2": [1, 2, 1, 6]}
    *_, (_, record) = read_records(report.files[0])
    found = parse_example(record, "", 0).features.feature
    np.testing.assert_allclose(found["target/coordinates_x2"].float_list.value, [40 / 120], rtol=1e-6)
    np.testing.assert_allclose(found["target/object_class_id"].float_list.value, [2])


def test_bad_boxes_of_two_coco_files_are_told_apart(kitti: Path, paths: PathMap, tmp_path: Path) -> None:
    """Ids of annotations count within their file."""
    flat = {"id": 2, "category_id": 11, "bbox": [1, 2, 0.5, 4]}
    for number, name in ((7, "val.json"), (3, "train.json")):
        coco(
            kitti, [flat | {"image_id": number}, flat | {"id": 1, "image_id": number, "bbox": [1, 2, 30, 40]}]
        )
        (kitti / "instances.json").rename(kitti / name)
    export_of = coco_export(2)
    assert export_of.coco is not None
    both = replace(export_of, coco=replace(export_of.coco, annotation_files=("val.json", "train.json")))
    report = convert(both, tmp_path / "coco", paths=paths)
    listed = json.loads((tmp_path / "coco_warning.json").read_text())
    assert listed == {"2": [1, 2, 1, 6], f"{ROOT}/image_2/000000.png_2": [1, 2, 1, 6]}
    assert report.bad_boxes == 2


@pytest.mark.parametrize("block", ["images", "annotations", "categories"])
def test_incomplete_coco_files_are_named(kitti: Path, paths: PathMap, tmp_path: Path, block: str) -> None:
    coco(kitti, [{"id": 1, "image_id": 3, "category_id": 12, "bbox": [1, 2, 3, 4]}], **{block: []})
    with pytest.raises(DataProblem, match=f"has no {block}"):
        convert(coco_export(), tmp_path / "coco", paths=paths)


def test_an_annotation_without_its_fields_is_named(kitti: Path, paths: PathMap, tmp_path: Path) -> None:
    coco(kitti, [{"id": 1, "image_id": 3, "category_id": 99, "bbox": [1, 2, 3, 4]}])
    with pytest.raises(DataProblem, match="image 3"):
        convert(coco_export(), tmp_path / "coco", paths=paths)


BOX = {"id": 1, "image_id": 7, "category_id": 11, "bbox": [10, 20, 30, 40]}


def test_coco_boxes_belong_to_the_size_in_the_file(
    kitti: Path, paths: PathMap, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The image was halved after it had been labelled.
    images = [{"id": 7, "file_name": "000001.png", "width": 240, "height": 160}]
    coco(kitti, [BOX], images=images)
    (path,) = convert(coco_export(), tmp_path / "coco", paths=paths).files
    ((_, record),) = read_records(path)
    found = parse_example(record, "", 0).features.feature
    np.testing.assert_allclose(found["target/coordinates_x2"].float_list.value, [40 / 240], rtol=1e-6)
    assert list(found["frame/width"].int64_list.value) == [120]
    assert "says, with which their boxes are scaled: 1" in caplog.text


def test_coco_annotations_of_other_images_are_counted(
    kitti: Path, paths: PathMap, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    coco(kitti, [BOX, BOX | {"id": 2, "image_id": 99}])
    convert(coco_export(), tmp_path / "coco", paths=paths)
    assert "annotations of images that it doesn't list, left out: 1" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [1, 2, float("nan"), 4]}, "image 7 .*nan"),
        ({"bbox": [1, 2, 3]}, "image 7"),
        ({"bbox": ["a", 2, 3, 4]}, "image 7"),
        ({"bbox": None}, "image 7"),
        ({"bbox": [1e300, 2, 3, 4]}, "image 7"),
        ({"category_id": [1]}, "image 7"),
        ({"category_id": 99}, "category_id 99 isn't among the categories"),
        ({"image_id": [1]}, "wrong kind"),
    ],
)
def test_bad_coco_annotations_are_named(
    kitti: Path, paths: PathMap, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    coco(kitti, [BOX | change])
    with pytest.raises(DataProblem, match=message) as caught:
        convert(coco_export(), tmp_path / "coco", paths=paths)
    assert caught.value.where == f"{ROOT}/instances.json"
    assert caught.value.hint


def test_coco_files_must_have_the_same_categories_and_ids_of_their_own(
    kitti: Path, paths: PathMap, tmp_path: Path
) -> None:
    coco(kitti, [BOX])
    (kitti / "instances.json").rename(kitti / "other.json")
    coco(kitti, [BOX], categories=[{"id": 11, "name": "Truck"}])
    two = coco_export(2)
    assert two.coco is not None
    two = replace(two, coco=replace(two.coco, annotation_files=("other.json", "instances.json")))
    with pytest.raises(SpecProblem, match="the same categories") as caught:
        convert(two, tmp_path / "coco", paths=paths)
    assert caught.value.path.endswith("instances.json")
    coco(kitti, [BOX], images=[{"id": 7, "file_name": f"00000{n}.png"} for n in (1, 2)])
    with pytest.raises(DataProblem, match=r"two images .* same id"):
        convert(coco_export(), tmp_path / "coco", paths=paths)
    coco(kitti, [BOX], categories=[{"id": 11, "name": "car"}, {"id": 11, "name": "truck"}])
    with pytest.raises(DataProblem, match=r"two categories .* same id"):
        convert(coco_export(), tmp_path / "coco", paths=paths)
    coco(kitti, [BOX], categories=[{"id": 11, "name": "car"}, {"id": 11, "name": "Car"}])
    assert convert(coco_export(), tmp_path / "coco", paths=paths).num_objects == {"car": 1}


def test_coco_files_may_come_from_windows(kitti: Path, paths: PathMap, tmp_path: Path) -> None:
    coco(kitti, [BOX])
    file = kitti / "instances.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b",", b",\r\n"))
    assert convert(coco_export(), tmp_path / "coco", paths=paths).num_objects == {"car": 1}


@pytest.mark.parametrize(
    "change", [{"images": {"7": {"id": 7}}}, {"annotations": ["x"]}, {"categories": [3]}]
)
def test_coco_entries_that_are_no_objects_are_explained(
    kitti: Path, paths: PathMap, tmp_path: Path, change: dict[str, Any]
) -> None:
    coco(kitti, [BOX], **change)
    with pytest.raises(DataProblem, match="of the wrong kind") as caught:
        convert(coco_export(), tmp_path / "coco", paths=paths)
    assert "lists of objects" in caught.value.hint
