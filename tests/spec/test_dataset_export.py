from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import text_format

from taomagic.errors import SpecProblem
from taomagic.spec.dataset_export import (
    CocoExport,
    DatasetExport,
    KittiExport,
    SampleModifierSettings,
    read_dataset_export,
)
from taomagic.spec.ssd_pb2 import DatasetExportConfig

from .conftest import drop, put

KITTI = """kitti_config {
root_directory_path: "/workspace/tao-experiments/data/"
image_dir_name: "training/image_2"
label_dir_name: "training/label_2"
image_extension: ".png"
partition_mode: "random"
num_partitions: 2
val_split: 0
num_shards: 10
}
image_directory_path: "/workspace/tao-experiments/data/"
target_class_mapping {
key: "Car"
value: "car"
}
target_class_mapping {
key: "van"
value: "car"
}
target_class_mapping {
key: "pedestrian"
value: "pedestrian"
}
"""
COCO = """coco_config {
root_directory_path: "/workspace/tao-experiments/data/coco"
image_dir_names: ["val2017", "train2017"]
annotation_files: ["annotations/instances_val2017.json", "annotations/instances_train2017.json"]
num_partitions: 2
num_shards: [32, 256]
}
image_directory_path: "/workspace/tao-experiments/data/coco"
"""
Read = Callable[[str], DatasetExport]
Problem = Callable[[str], SpecProblem]


@pytest.fixture
def read_export(tmp_path: Path) -> Read:
    def read(text: str) -> DatasetExport:
        path = tmp_path / "export.txt"
        path.write_text(text, encoding="utf-8")
        return read_dataset_export(path, shown_as="export.txt")

    return read


@pytest.fixture
def refused(read_export: Read) -> Problem:
    def refuse(text: str) -> SpecProblem:
        with pytest.raises(SpecProblem) as caught:
            read_export(text)
        return caught.value

    return refuse


def test_the_documented_kitti_file(read_export: Read) -> None:
    export = read_export(KITTI)
    assert export.kitti == KittiExport(
        root_directory_path="/workspace/tao-experiments/data/",
        image_dir_name="training/image_2",
        label_dir_name="training/label_2",
        image_extension=".png",
        partition_mode="random",
        num_partitions=2,
        val_split=0.0,
        num_shards=10,
        kitti_sequence_to_frames_file=None,
    )
    assert export.coco is None
    assert export.notes == ()
    assert export.class_mapping == {"car": "car", "van": "car", "pedestrian": "pedestrian"}
    assert export.classes == ("car", "pedestrian")
    assert (export.path, export.text) == ("export.txt", KITTI)


def test_the_documented_coco_file(read_export: Read) -> None:
    export = read_export(COCO)
    assert export.coco == CocoExport(
        root_directory_path="/workspace/tao-experiments/data/coco",
        image_dir_names=("val2017", "train2017"),
        annotation_files=("annotations/instances_val2017.json", "annotations/instances_train2017.json"),
        num_partitions=2,
        num_shards=(32, 256),
    )
    assert export.kitti is None
    assert export.class_mapping == {}
    assert export.classes == ()


def test_nothing_written_is_the_documented_default(read_export: Read) -> None:
    text = KITTI
    for name in ("image_extension", "partition_mode", "num_partitions", "val_split", "num_shards"):
        text = drop(text, name)
    kitti = read_export(text).kitti
    assert kitti is not None
    assert (kitti.image_extension, kitti.partition_mode, kitti.num_partitions) == (".png", "random", 2)
    assert (kitti.val_split, kitti.num_shards) == (20.0, 10)


def test_zero_shards_stay_zero(read_export: Read) -> None:
    kitti = read_export(put(KITTI, "num_shards", "0", block="kitti_config")).kitti
    assert kitti is not None
    assert kitti.num_shards == 0  # one file, but NVIDIA's converter leaves the shard out of its name


def test_nvidias_name_of_the_coco_folders(read_export: Read) -> None:
    assert read_export(COCO.replace("image_dir_names", "img_dir_names")) == read_export(COCO).__class__(
        path="export.txt",
        text=COCO.replace("image_dir_names", "img_dir_names"),
        kitti=None,
        coco=read_export(COCO).coco,
        class_mapping={},
        classes=(),
    )


def test_both_names_of_the_coco_folders_must_agree(read_export: Read, refused: Problem) -> None:
    same = put(COCO, "img_dir_names", '["val2017", "train2017"]', block="coco_config")
    assert read_export(same).coco == read_export(COCO).coco
    found = refused(put(COCO, "img_dir_names", '["a", "b"]', block="coco_config"))
    assert "image_dir_names should be the same as img_dir_names (a, b)" in found.message


@pytest.mark.parametrize(
    ("shards", "expected"), [("4", (4, 4)), ("[4]", (4, 4)), ("[0, 3]", (0, 3)), (None, (10, 10))]
)
def test_one_number_of_shards_serves_all_folds(
    read_export: Read, shards: str | None, expected: tuple[int, ...]
) -> None:
    text = (
        drop(COCO, "num_shards") if shards is None else put(COCO, "num_shards", shards, block="coco_config")
    )
    coco = read_export(text).coco
    assert coco is not None
    assert coco.num_shards == expected


def test_sequence_mode(read_export: Read, refused: Problem) -> None:
    text = put(KITTI, "partition_mode", '"sequence"', block="kitti_config")
    text = put(text, "num_partitions", "5", block="kitti_config")
    assert "kitti_sequence_to_frames_file should be set" in refused(text).message
    kitti = read_export(put(text, "kitti_sequence_to_frames_file", '"map.json"', block="kitti_config")).kitti
    assert kitti is not None
    assert (kitti.partition_mode, kitti.num_partitions) == ("sequence", 5)
    assert kitti.kitti_sequence_to_frames_file == "map.json"


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("num_partitions", "3", "num_partitions should be 2 in random mode"),
        ("num_partitions", "4294967295", "num_partitions should be <= 999"),
        ("num_shards", "4294967295", "num_shards should be <= 99999"),
        ("val_split", "100", "val_split should be >= 0 and < 100"),
        ("val_split", "-1", "val_split should be >= 0 and < 100"),
        ("partition_mode", '"stratified"', "partition_mode should be one of random, sequence"),
        ("image_extension", '"png"', "image_extension should be one of .png, .jpg, .jpeg"),
        ("image_extension", '".tiff"', "image_extension should be one of .png, .jpg, .jpeg"),
        ("point_clouds_dir", '"velodyne"', "point_clouds_dir is not supported"),
        ("calibrations_dir", '"calib"', "calibrations_dir is not supported"),
    ],
)
def test_kitti_values_are_checked(refused: Problem, name: str, value: str, what: str) -> None:
    text = put(KITTI, name, value, block="kitti_config")
    found = refused(text)
    assert what in found.message
    assert found.line == 2
    assert found.hint


@pytest.mark.parametrize("extension", [".jpg", ".JPG", ".jpeg", ".PNG"])
def test_image_extensions(read_export: Read, extension: str) -> None:
    kitti = read_export(put(KITTI, "image_extension", f'"{extension}"', block="kitti_config")).kitti
    assert kitti is not None
    assert kitti.image_extension == extension


@pytest.mark.parametrize("name", ["root_directory_path", "image_dir_name", "label_dir_name"])
def test_kitti_needs_its_folders(refused: Problem, name: str) -> None:
    found = refused(drop(KITTI, name))
    assert f"kitti_config.{name} should be set in experiment spec file." in found.message
    assert found.line == 1


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("annotation_files", '["a.json"]', "The length of annotation_files should be num_partitions (2)"),
        ("image_dir_names", '["a", "b", "c"]', "The length of image_dir_names should be num_partitions (2)"),
        ("num_shards", "[1, 2, 3]", "The length of num_shards should be 1 or num_partitions (2)"),
        ("num_shards", "[1, 100000]", "num_shards[1] should be <= 99999"),
        ("num_partitions", "0", "num_partitions should be >= 1"),
        ("num_partitions", "1", "The length of image_dir_names should be num_partitions (1)"),
    ],
)
def test_coco_lists_must_fit(refused: Problem, name: str, value: str, what: str) -> None:
    assert what in refused(put(COCO, name, value, block="coco_config")).message


def test_coco_needs_its_root(refused: Problem) -> None:
    assert (
        "coco_config.root_directory_path should be set" in refused(drop(COCO, "root_directory_path")).message
    )


def test_one_of_the_two_formats_must_be_there(refused: Problem) -> None:
    assert "kitti_config or coco_config should be set" in refused('image_directory_path: "/"').message


def test_only_one_of_the_two_formats_may_be_there(refused: Problem) -> None:
    assert "coco_config" in refused(KITTI + COCO).message


MODIFIER = """sample_modifier_config {
  filter_samples_containing_only: "Car"
  dominant_target_classes: ["car"]
  minimum_target_class_imbalance { key: "Pedestrian" value: 0.3 }
  num_duplicates: 2
  max_training_samples: 1000
}
"""


def test_more_copies_of_an_image_than_anybody_means_are_refused(refused: Problem) -> None:
    problem = refused(KITTI + MODIFIER.replace("num_duplicates: 2", "num_duplicates: 4000000000"))
    assert "num_duplicates should be <= 1000, but sample_modifier_config." in problem.message


def test_the_sample_modifier(read_export: Read) -> None:
    assert read_export(KITTI).sample_modifier is None
    assert read_export(KITTI + MODIFIER).sample_modifier == SampleModifierSettings(
        filter_containing_only=("car",),
        dominant_classes=("car",),
        minimum_imbalance={"pedestrian": 0.3},
        num_duplicates=2,
        max_training_samples=1000,
        class_mapping={},
    )
    allowed = MODIFIER.replace("num_duplicates: 2", "num_duplicates: 1000")
    assert read_export(KITTI + allowed).sample_modifier is not None
    mapping = 'sample_modifier_config { source_to_target_class_mapping { key: "Van" value: "Big" }'
    only_big = f'{mapping} filter_samples_containing_only: "big" }}'
    found = read_export(KITTI + only_big).sample_modifier
    assert found is not None
    assert (found.class_mapping, found.filter_containing_only) == ({"van": "big"}, ("big",))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('only: "Car"', 'only: "Boat"', "'?boat'?"),
        ('["car"]', '["tram"]', "'?tram'?"),
        ('key: "Pedestrian"', 'key: "Tram"', "'?tram'?"),
        ("value: 0.3", "value: -1", "-1"),
        ('dominant_target_classes: ["car"]', "", "dominant_target_classes should be set"),
    ],
)
def test_bad_values_of_the_sample_modifier_are_located(
    refused: Problem, old: str, new: str, message: str
) -> None:
    found = refused(KITTI + MODIFIER.replace(old, new))
    assert re.search(message, found.message)
    assert found.line is not None
    assert found.line > KITTI.count("\n")


def test_an_experiment_is_no_export_file(refused: Problem, documented: str) -> None:
    assert "unknown field 'random_seed'" in refused(documented).message


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (
            'image_directory_path: "/elsewhere"',
            "image_directory_path has no effect; images are read from the ",
        ),
        ('image_directory_path: "/workspace/tao-experiments//data"', ""),
        (
            'kitti_config { partition_mode: "sequence" val_split: 0 }',
            "val_split has no effect with partition_mode: seq",
        ),
        (
            'kitti_config { kitti_sequence_to_frames_file: "f" }',
            "kitti_sequence_to_frames_file has no effect with ",
        ),
    ],
)
def test_fields_without_effect_are_noted(read_export: Read, change: str, note: str) -> None:
    message = DatasetExportConfig()
    text_format.Merge(KITTI, message)
    if "sequence" in change:
        message.kitti_config.kitti_sequence_to_frames_file = "f.json"
    text_format.Merge(change, message)
    notes = read_export(text_format.MessageToString(message)).notes
    assert len(notes) == bool(note)
    assert all(note in text for text in notes)
