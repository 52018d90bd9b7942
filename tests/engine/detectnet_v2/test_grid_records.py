"""Which records become which images and objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
        "dataloader_mode": "MULTISOURCE",
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


def test_a_missing_image_is_named_when_it_is_read(
    write: Callable[..., None], paths: PathMap, tmp_path: Path
) -> None:
    write("kitti-fold-001-of-002", {"image_2/a": [("car", *BOX)]})
    (tmp_path / "data" / "image_2" / "a.png").unlink()
    frame = read(dataset(), paths).frames[0]
    with pytest.raises(DataProblem) as caught:
        frame.decode()
    assert f"{ROOT}/image_2/a.png" in str(caught.value.where)


def test_the_fingerprint_changes_with_the_data(write: Callable[..., None], paths: PathMap) -> None:
    write("kitti-fold-001-of-002", {"image_2/a": [("car", *BOX)]})
    before = read(dataset(), paths).fingerprint()
    assert read(dataset(), paths).fingerprint() == before
    write("kitti-fold-001-of-002", {"image_2/a": [("car", 10.0, 10.0, 41.0, 30.0)]})
    assert read(dataset(), paths).fingerprint() != before
