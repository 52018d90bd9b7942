"""Batches: what is in them, that they can be repeated, and one clear error for each kind of bad data."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from taomagic.engine.data.image_store import ImageStore
from taomagic.engine.data.images import CAFFE_MEAN, TFRECORD_MEAN
from taomagic.engine.data.loading import Batch, TrainingData, ValidationData
from taomagic.engine.data.tfrecord import index_path
from taomagic.errors import DataProblem, SpecProblem
from taomagic.project.paths import PathMap
from taomagic.spec.settings import DataSource
from tests.engine.data.conftest import ROOT, convert, experiment, export, row

WILD = {
    "random_crop_min_scale": 0.3,
    "zoom_out_max_scale": 4.0,
    "brightness": 32,
    "hue": 18,
    "random_flip": 0.5,
}
RECORDS = f"{ROOT}/tfrecords/kitti*"


@pytest.fixture
def converted(kitti: Path, paths: PathMap) -> Path:
    convert(export(), kitti / "tfrecords/kitti", paths=paths)
    return kitti / "tfrecords"


def equal(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        a.names == b.names and torch.equal(a.images, b.images) and torch.equal(a.boxes, b.boxes)
        for a, b in zip(first, second, strict=True)
    )


def test_a_batch_has_images_boxes_and_padding(kitti: Path, paths: PathMap) -> None:
    data = TrainingData(experiment(), paths, 1)
    assert len(data) == 10
    assert data.class_counts == {"car": 12, "pedestrian": 5}
    batches = list(data.epoch(1, 4))
    assert [len(batch.names) for batch in batches] == [4, 4, 2]
    assert data.steps(4) == 3
    assert {name for batch in batches for name in batch.names} == {
        f"{ROOT}/image_2/{number:06d}.png" for number in range(10)
    }
    for batch in batches:
        assert batch.images.shape[1:] == (3, 64, 96)
        assert batch.images.dtype == torch.float32
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.boxes.shape[:2] == batch.labels.shape == batch.difficult.shape
        assert (batch.boxes[batch.labels == 0] == 0).all()
        filled = batch.labels > 0
        assert (batch.boxes[..., 2:] > batch.boxes[..., :2])[filled].all()


def test_pixels_and_boxes_arrive_unchanged_when_nothing_is_random(kitti: Path, paths: PathMap) -> None:
    one = experiment(output_width=120, output_height=80)
    batch = next(ValidationData(one, paths).batches(10))
    image = cv2.imread(str(kitti / "image_2/000001.png")).astype(np.float32)
    np.testing.assert_allclose(
        batch.images[1].permute(1, 2, 0).numpy(), image - np.float32(CAFFE_MEAN), atol=1e-4
    )
    # Rounded to whole pixels: 70.5 -> 70, 10.25 -> 10.
    np.testing.assert_array_equal(batch.boxes[1, :2], [[10, 20, 60, 70], [70, 10, 90, 60]])
    np.testing.assert_array_equal(batch.labels[1, :2], [1, 2])
    np.testing.assert_array_equal(batch.difficult[1, :2], [False, True])


def test_tfrecords_give_the_same_objects_with_their_own_mean(converted: Path, paths: PathMap) -> None:
    data = TrainingData(experiment(tfrecords=RECORDS, output_width=120, output_height=80), paths, 1)
    assert data.from_tfrecords
    assert data.class_counts == {"car": 12, "pedestrian": 5}
    (batch,) = data.epoch(1, 10)
    position = batch.names.index("image_2/000001")
    image = cv2.imread(str(converted.parent / "image_2/000001.png")).astype(np.float32)
    seen = batch.images[position].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(seen, image - np.float32(TFRECORD_MEAN), atol=1e-4)
    np.testing.assert_allclose(
        batch.boxes[position, :2], [[10, 20, 60, 70], [70.5, 10.25, 90, 60]], rtol=1e-5
    )


@pytest.mark.parametrize("tfrecords", [None, RECORDS])
def test_epochs_can_be_repeated_and_differ(converted: Path, paths: PathMap, tfrecords: str | None) -> None:
    one = experiment(tfrecords=tfrecords, **WILD)
    data = TrainingData(one, paths, 7)
    first, second = list(data.epoch(1, 4)), list(data.epoch(2, 4))
    assert not equal(first, second)
    fresh = TrainingData(one, paths, 7)
    assert equal(second, list(fresh.epoch(2, 4)))
    assert not equal(second, list(TrainingData(one, paths, 8).epoch(2, 4)))


def test_workers_and_the_kind_of_cache_change_nothing(kitti: Path, paths: PathMap) -> None:
    one = experiment(**WILD)
    plain = list(TrainingData(one, paths, 7).epoch(1, 3))
    for options in ({"workers": 3}, {"cache_bytes": 0}, {"cache_bytes": 60_000, "workers": 2}):
        data = TrainingData(one, paths, 7, **options)  # type: ignore[arg-type]
        assert equal(plain, list(data.epoch(1, 3)))
        assert equal(plain, list(data.epoch(1, 3)))


@pytest.mark.parametrize("world_size", [1, 2, 3, 4])
@pytest.mark.parametrize("batch_size", [4, 9, 10, 32])
def test_the_shares_of_all_processes_are_the_batches_of_one(
    kitti: Path, paths: PathMap, world_size: int, batch_size: int
) -> None:
    data = TrainingData(experiment(**WILD), paths, 7)
    whole = list(data.epoch(3, batch_size))
    shares = [list(data.epoch(3, batch_size, rank=r, world_size=world_size)) for r in range(world_size)]
    assert [len(share) for share in shares] == [len(whole)] * world_size
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert [part.global_size for part in parts] == [len(batch)] * world_size
        # Who has no image knows it, and so do the others: the ranks from the batch's size on.
        assert [len(part) > 0 for part in parts] == [rank < len(batch) for rank in range(world_size)]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
        assert sum((part.names for part in parts), ()) == batch.names
        boxes = [tuple(box.tolist()) for part in parts for box in part.boxes[part.labels > 0]]
        assert boxes == [tuple(box.tolist()) for box in batch.boxes[batch.labels > 0]]
    with pytest.raises(ValueError, match="outside a world"):
        next(data.epoch(1, 4, rank=world_size, world_size=world_size))


def test_validation_batches_are_dealt_out_in_turn(kitti: Path, paths: PathMap) -> None:
    data = ValidationData(experiment(), paths)
    whole = list(data.batches(3))
    shares = [list(data.batches(3, rank=rank, world_size=3)) for rank in range(3)]
    assert [len(share) for share in shares] == [2, 1, 1]
    dealt = [shares[step % 3][step // 3] for step in range(len(whole))]
    assert equal(dealt, whole)


def test_an_epoch_may_be_left_early(kitti: Path, paths: PathMap) -> None:
    data = TrainingData(experiment(), paths, 7, workers=2)
    batches = data.epoch(1, 2)
    next(batches)
    batches.close()
    assert len(list(data.epoch(1, 2))) == 5


def test_an_image_is_decoded_once(tmp_path: Path) -> None:
    decoded: list[int] = []

    def decode(index: int) -> np.ndarray:
        decoded.append(index)
        return np.full((10, 10, 3), index, np.uint8)

    store = ImageStore(decode, budget_bytes=650)  # two images in memory, the others in the file
    for _ in range(2):
        for index in range(5):
            assert (store[index] == index).all()
            assert store[index].shape == (10, 10, 3)
    assert decoded == [0, 1, 2, 3, 4]
    store.close()


def test_difficult_objects_are_left_out_on_request(
    kitti: Path, paths: PathMap, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        data = TrainingData(experiment(include_difficult=False), paths, 1)
    assert data.class_counts == {"car": 12, "pedestrian": 0}
    assert "Left out 5 difficult training objects" in caplog.text
    assert ValidationData(experiment(include_difficult=False), paths).class_counts["pedestrian"] == 5


def test_validation_reads_the_folders_even_beside_tfrecords(kitti: Path, paths: PathMap) -> None:
    convert(export(), kitti / "tfrecords/kitti", paths=paths)
    one = experiment()
    assert one.dataset is not None
    (folders,) = one.dataset.validation_data_sources
    for pattern in (f"{ROOT}/tfrecords/kitti-fold-000*", f"{ROOT}/nowhere/*"):
        beside = replace(folders, tfrecords_path=pattern)
        both = replace(one, dataset=replace(one.dataset, validation_data_sources=(beside,)))
        assert ValidationData(both, paths).fingerprint() == ValidationData(one, paths).fingerprint()


def test_the_fingerprint_follows_content_not_place(
    kitti: Path, paths: PathMap, tmp_path: Path, add: Callable[..., None]
) -> None:
    before = TrainingData(experiment(), paths, 1).fingerprint()
    assert TrainingData(experiment(), paths, 2).fingerprint() == before
    kitti.rename(tmp_path / "elsewhere")
    moved = PathMap([(str(tmp_path / "elsewhere"), ROOT)])
    assert TrainingData(experiment(), moved, 1).fingerprint() == before
    label = tmp_path / "elsewhere/label_2/000003.txt"
    text = label.read_text()
    label.write_text(row("Car", (10, 20, 60, 71)))
    assert TrainingData(experiment(), moved, 1).fingerprint() != before
    label.write_text(text)
    image = tmp_path / "elsewhere/image_2/000003.png"
    cv2.imwrite(str(image), np.zeros((80, 120, 3), np.uint8))
    assert TrainingData(experiment(), moved, 1).fingerprint() != before
    image.write_bytes(image.read_bytes()[:-30])
    with pytest.raises(DataProblem, match="cut off") as caught:  # before a training begins with it
        TrainingData(experiment(), moved, 1).fingerprint()
    assert caught.value.where == f"{ROOT}/image_2/000003.png"


def test_several_sources_come_one_after_another(converted: Path, paths: PathMap, tmp_path: Path) -> None:
    one = experiment()
    assert one.dataset is not None
    other = converted.parent / "more"
    for folder in ("image_2", "label_2"):
        (other / folder).mkdir(parents=True)
    (other / "image_2/a.JPG").write_bytes((converted.parent / "image_2/000000.png").read_bytes())
    (other / "label_2/a.txt").write_text(row("van", (0, 0, 30, 30)) + "\n")
    folders = (*one.dataset.data_sources, DataSource(None, f"{ROOT}/more/label_2/", f"{ROOT}/more/image_2/"))
    both = TrainingData(replace(one, dataset=replace(one.dataset, data_sources=folders)), paths, 1)
    assert both.class_counts == {"car": 13, "pedestrian": 5}
    assert f"{ROOT}/more/image_2/a.JPG" in next(both.epoch(1, 11)).names
    shards = tuple(DataSource(f"{ROOT}/tfrecords/kitti*-0000{n}-of-*", None, None) for n in (0, 1))
    records = TrainingData(replace(one, dataset=replace(one.dataset, data_sources=shards)), paths, 1)
    assert (len(records), records.class_counts) == (10, {"car": 12, "pedestrian": 5})


@pytest.mark.parametrize("tfrecords", [None, RECORDS])
def test_grey_networks_train_on_coloured_images(
    converted: Path, paths: PathMap, tfrecords: str | None
) -> None:
    size = {"output_width": 120, "output_height": 80}
    data = TrainingData(experiment(tfrecords=tfrecords, output_channel=1, **size), paths, 1)
    (batch,) = data.epoch(1, 10)
    assert batch.images.shape == (10, 1, 80, 120)
    position = next(i for i, name in enumerate(batch.names) if "000001" in name)
    blue, green, red = cv2.imread(str(converted.parent / "image_2/000001.png")).astype(np.float32).T
    expected = (0.114 * blue + 0.587 * green + 0.299 * red).T - 117.3786
    np.testing.assert_allclose(batch.images[position, 0].numpy(), expected, atol=1e-3)


def test_grey_networks_get_one_channel(kitti: Path, paths: PathMap) -> None:
    batch = next(ValidationData(experiment(output_channel=1), paths).batches(2))
    assert batch.images.shape == (2, 1, 64, 96)


def test_unpaired_images_degenerate_boxes_and_short_rows_are_counted_once(
    kitti: Path, paths: PathMap, add: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    (kitti / "label_2/000004.txt").unlink()
    add(
        "000011",
        [
            row("Car", (5, 5, 5, 20)),
            row("Car", (5, 30, 25, 20)),
            "Car 0 0 0 1 2 3 4",
            row("Car", (1, 1, 9, 9)),
        ],
    )
    (kitti / "image_2/notes.txt").write_text("not an image")
    with caplog.at_level(logging.WARNING):
        data = TrainingData(experiment(), paths, 1)
    assert len(data) == 10
    assert [record.getMessage() for record in caplog.records] == [
        f"Left out 1 training images without a label file: {ROOT}/image_2/000004.png",
        "Left out 1 training label rows with fewer than 9 fields",
        "Left out 2 training objects with an empty or upside-down box",
    ]


def spoil(kitti: Path, kind: str) -> None:
    if kind == "image cut off":
        image = kitti / "image_2/000004.png"
        image.write_bytes(image.read_bytes()[:500])
    elif kind == "bad number":
        (kitti / "label_2/000004.txt").write_text("Car 0 0 0 1 2 x 4 5\n")
    elif kind == "no objects":
        for path in (kitti / "label_2").iterdir():
            path.write_text(row("Tram", (1, 2, 30, 40)))
    elif kind == "no images":
        for path in (kitti / "image_2").iterdir():
            path.unlink()
    elif kind == "no folder":
        (kitti / "label_2").rename(kitti / "labels")


@pytest.mark.parametrize(
    ("kind", "message", "where"),
    [
        ("image cut off", "cut off", f"{ROOT}/image_2/000004.png"),
        ("bad number", "isn't a number", f"{ROOT}/label_2/000004.txt:1"),
        ("no objects", "no object of a mapped class", f"{ROOT}/image_2"),
        ("no images", "no training image", f"{ROOT}/image_2"),
        ("no folder", "folder doesn't exist", f"{ROOT}/label_2"),
    ],
)
def test_bad_folders_are_one_clear_error(
    kitti: Path, paths: PathMap, kind: str, message: str, where: str
) -> None:
    spoil(kitti, kind)
    with pytest.raises(DataProblem, match=message) as caught:
        list(TrainingData(experiment(), paths, 1).epoch(1, 4))
    assert caught.value.where == where
    assert caught.value.hint


def test_bad_tfrecords_are_one_clear_error(converted: Path, paths: PathMap) -> None:
    one = experiment(tfrecords=RECORDS)
    path = sorted(converted.glob("kitti*"))[0]
    good, index = path.read_bytes(), index_path(path).read_text()
    shown = f"{ROOT}/tfrecords/{path.name}"

    def problem(message: str, where: str) -> None:
        with pytest.raises(DataProblem, match=message) as caught:
            TrainingData(one, paths, 1)
        assert caught.value.where == where

    path.write_bytes(good[:40] + b"\0" + good[41:])
    problem("wrong checksum", f"{shown}, byte 0")
    path.write_bytes(good)
    index_path(path).write_text(index.splitlines()[0] + "\n")
    problem("doesn't belong", shown)
    index_path(path).unlink()
    problem("is missing", shown)
    for file in converted.glob("kitti*"):
        file.unlink()
    problem("no TFRecord file matches", RECORDS)


def test_records_of_other_classes_are_refused(kitti: Path, paths: PathMap) -> None:
    names = kitti / "names.txt"
    names.write_text("boat\ncar\npedestrian\ntram\n")
    one = export()
    bare = replace(one, class_mapping={}, classes=())
    convert(bare, kitti / "tfrecords/kitti", paths=paths, class_names_file=names)
    with pytest.raises(DataProblem, match="class id") as caught:
        TrainingData(experiment(tfrecords=RECORDS), paths, 1)
    assert "same target_class_mapping" in caught.value.hint


def test_missing_validation_sources_are_a_spec_problem(kitti: Path, paths: PathMap) -> None:
    one = experiment()
    assert one.dataset is not None
    bare = replace(one, dataset=replace(one.dataset, validation_data_sources=()))
    with pytest.raises(SpecProblem, match="validation_data_sources"):
        ValidationData(bare, paths)
