"""Which images are left out of TFRecords, and which are written several times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from taomagic.engine.data.sample_modifier import SampleModifier
from taomagic.project.paths import PathMap
from taomagic.spec.dataset_export import SampleModifierSettings
from tests.engine.data.conftest import convert, export, row
from tests.engine.data.test_dataset_convert import identities


def settings(**changes: Any) -> SampleModifierSettings:
    values: dict[str, Any] = {
        "filter_containing_only": (),
        "dominant_classes": (),
        "minimum_imbalance": {},
        "num_duplicates": 0,
        "max_training_samples": 0,
        "class_mapping": {},
    }
    return SampleModifierSettings(**{**values, **changes})


def times(modifier: SampleModifier, *classes: str, fold: int = 0) -> int:
    return modifier.times(fold, classes, classes)


def test_nothing_is_changed_by_an_empty_block() -> None:
    modifier = SampleModifier(settings(), 1, None)
    assert [times(modifier), times(modifier, "car"), times(modifier, "car", "van")] == [1, 1, 1]


def test_images_of_one_class_are_left_out() -> None:
    modifier = SampleModifier(settings(filter_containing_only=("car",)), 2, 0)
    assert times(modifier, "car", "car", fold=1) == 0
    assert times(modifier, "car", "van", fold=1) == 1
    assert times(modifier, fold=1) == 1  # without any object it is no image of cars only
    assert times(modifier, "car", fold=0) == 1  # validation stays
    assert modifier.filtered == 1


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (("car", "car", "bike"), 1),  # 1 is not above 2 × 0.5
        (("car", "bike"), 3),
        (("car", "car", "walker"), 1),
        (("car", "walker", "walker"), 3),  # 2 is above 1 × 1, the default
        (("bike",), 3),  # above 0
        (("car",), 1),
        ((), 1),
    ],
)
def test_images_with_rare_classes_are_repeated(classes: tuple[str, ...], expected: int) -> None:
    chosen = settings(dominant_classes=("car",), minimum_imbalance={"bike": 0.5}, num_duplicates=2)
    assert times(SampleModifier(chosen, 1, None), *classes) == expected


def test_with_several_dominant_classes_one_outnumbered_is_enough() -> None:
    chosen = settings(dominant_classes=("car", "van"), num_duplicates=1)
    assert times(SampleModifier(chosen, 1, None), "car", "car", "van", "bike", "bike") == 2


def test_classes_may_be_counted_under_other_names() -> None:
    chosen = settings(filter_containing_only=("big",), class_mapping={"truck": "big", "tram": "big"})
    modifier = SampleModifier(chosen, 1, None)
    assert modifier.times(0, ["truck", "tram"], ["vehicle", "vehicle"]) == 0
    assert modifier.times(0, ["truck", "car"], ["vehicle", "vehicle"]) == 0  # car isn't counted
    assert modifier.times(0, ["car"], ["vehicle"]) == 1


def test_training_folds_share_the_most_evenly_and_validation_has_no_limit() -> None:
    modifier = SampleModifier(settings(max_training_samples=7), 3, 1)
    written: Counter[int] = Counter()
    for fold in (0, 1, 2):
        for _ in range(5):
            written[fold] += times(modifier, "car", fold=fold)
    assert written == {0: 3, 1: 5, 2: 3}
    assert modifier.beyond == 4


def test_copies_count_towards_the_most() -> None:
    chosen = settings(dominant_classes=("car",), num_duplicates=3, max_training_samples=6)
    modifier = SampleModifier(chosen, 1, None)
    assert [times(modifier, "bike") for _ in range(3)] == [4, 2, 0]
    assert (modifier.copies, modifier.beyond) == (4, 1)


@hypothesis_settings(max_examples=50, deadline=None)
@given(
    images=st.lists(st.lists(st.sampled_from(["car", "bike", "van"]), max_size=4), max_size=30),
    most=st.integers(0, 20),
    copies=st.integers(0, 3),
)
def test_never_more_than_the_most(images: list[list[str]], most: int, copies: int) -> None:
    chosen = settings(dominant_classes=("car",), num_duplicates=copies, max_training_samples=most)
    modifier = SampleModifier(chosen, 1, None)
    written = [times(modifier, *classes) for classes in images]
    assert all(0 <= count <= 1 + copies for count in written)
    assert not most or sum(written) <= most


def test_a_conversion_changes_training_only(
    kitti: Path, paths: PathMap, tmp_path: Path, add: Callable[..., None]
) -> None:
    # Odd images have a pedestrian beside the car; 0 and 5 have a van, which counts as a car.
    chosen = settings(filter_containing_only=("car",), dominant_classes=("car",), num_duplicates=1)
    one = replace(
        export(val_split=30.0, num_shards=1),
        sample_modifier=replace(chosen, minimum_imbalance={"pedestrian": 0.5}),
    )
    report = convert(one, tmp_path / "kitti", paths=paths)
    validation, training = identities(report.files)
    assert sorted(name[-1] for name in validation) == ["0", "1", "2"]
    # 5 has a van too, so its one pedestrian isn't more than half as many as its two cars.
    assert sorted(name[-1] for name in training) == ["3", "3", "5", "7", "7", "9", "9"]
    assert report.num_images == 10
    assert dict(report.num_objects) == {"car": 2 + 1 + 1 + 2 + 2 + 2 + 2, "pedestrian": 1 + 2 + 1 + 2 + 2}


def test_the_flag_names_the_fold_that_stays(kitti: Path, paths: PathMap, tmp_path: Path) -> None:
    one = replace(export(val_split=30.0, num_shards=1), sample_modifier=settings(max_training_samples=2))
    kept = convert(one, tmp_path / "kitti", paths=paths, validation_fold=1)
    assert [len(fold) for fold in identities(kept.files)] == [2, 7]
    usual = convert(one, tmp_path / "kitti", paths=paths)
    assert [len(fold) for fold in identities(usual.files)] == [3, 2]


def test_the_log_says_what_was_changed(
    kitti: Path, paths: PathMap, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    one = replace(export(num_shards=1), sample_modifier=settings(max_training_samples=4))
    convert(one, tmp_path / "kitti", paths=paths)
    assert "0 images left out for their classes, 6 beyond max_training_samples; 0 copies added" in caplog.text


def test_rows_are_still_whole_after_a_conversion_without_objects(
    kitti: Path, paths: PathMap, tmp_path: Path, add: Callable[..., None]
) -> None:
    add("000000", [row("Tram", (1, 1, 5, 5))])
    one = replace(export(num_shards=1), sample_modifier=settings(filter_containing_only=("car",)))
    assert "image_2/000000" in identities(convert(one, tmp_path / "kitti", paths=paths).files)[0]
