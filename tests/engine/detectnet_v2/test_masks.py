"""Factors of the loss, cell by cell."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from taomagic.engine.detectnet_v2.loading import GridBatch
from taomagic.engine.detectnet_v2.masks import LossMask
from taomagic.spec.settings_detectnet_v2 import LabelFilterSettings, LossMaskSettings

CLASSES = ("car", "cyclist")
GRID = (3, 4)


def batch(*, weight: float = 1.0) -> GridBatch:
    """One image: a van of the class car on cells (0, 0) to (1, 0), a cyclist on (2, 1) to (3, 2)."""
    return GridBatch(
        torch.zeros(1, 3, 48, 64),
        torch.tensor([[[0.0, 0.0, 30.0, 16.0], [32.0, 17.0, 60.0, 48.0], [0.0, 0.0, 0.0, 0.0]]]),
        torch.tensor([[1, 2, 0]]),
        torch.zeros(1, 3, dtype=torch.bool),
        ("image",),
        1,
        torch.tensor([weight]),
        (("van", "cyclist"),),
    )


def mask_of(
    *filters: LabelFilterSettings, preserve: bool = False, coverage: torch.Tensor | None = None
) -> Any:
    settings = LossMaskSettings(filters, 0.25, preserve)
    return LossMask(settings, CLASSES, GRID)(
        batch(), torch.zeros(1, 2, *GRID) if coverage is None else coverage
    )


def one(kind: Any, **changes: Any) -> LabelFilterSettings:
    values: dict[str, Any] = {"limits": {}, "source_classes": (), "target_classes": (), "objectives": ()}
    return LabelFilterSettings(kind, **{**values, **changes})


def test_without_filters_only_the_weight_of_a_source_counts() -> None:
    plain = LossMask(None, CLASSES, GRID)
    assert plain(batch(), torch.zeros(1, 2, *GRID)) is None
    weighted = plain(batch(weight=3.0), torch.zeros(1, 2, *GRID))
    assert weighted is not None
    assert weighted["cov"].flatten().tolist() == weighted["bbox"].flatten().tolist() == [3.0]


def test_a_filter_by_source_class_masks_the_cells_of_its_objects() -> None:
    mask = mask_of(one("source_class", source_classes=("van",)))
    expected = torch.ones(2, *GRID)
    expected[0, 0, :2] = 0.25
    assert torch.equal(mask["cov"][0], expected)
    assert torch.equal(mask["bbox"][0], expected)


@pytest.mark.parametrize(
    ("limits", "chosen"),
    [
        ({"min_width": 29.0}, (True, False)),
        ({"max_width": 29.0}, (False, True)),
        ({"min_height": 20.0}, (False, True)),
        ({"max_height": 31.0}, (True, True)),
        ({}, (True, True)),
    ],
)
def test_a_filter_by_size_chooses_what_is_in_its_limits(
    limits: dict[str, float], chosen: tuple[bool, bool]
) -> None:
    mask = mask_of(one("dimensions", limits=limits))["cov"][0]
    assert (bool((mask[0] < 1).any()), bool((mask[1] < 1).any())) == chosen


def test_a_filter_by_place_chooses_what_reaches_into_it() -> None:
    mask = mask_of(one("crop", limits={"crop_left": 30.0, "crop_right": 64.0, "crop_bottom": 48.0}))["cov"][0]
    assert float(mask[0].min()) == 1.0
    assert mask[1].tolist() == [[1, 1, 1, 1], [1, 1, 0.25, 0.25], [1, 1, 0.25, 0.25]]


def test_classes_and_objectives_limit_a_filter() -> None:
    mask = mask_of(one("dimensions", target_classes=("cyclist",), objectives=("bbox",)))
    assert float(mask["cov"].min()) == 1.0
    assert float(mask["bbox"][0, 0].min()) == 1.0
    assert float(mask["bbox"][0, 1].min()) == 0.25


def test_ground_truth_may_be_preserved() -> None:
    coverage = torch.zeros(1, 2, *GRID)
    coverage[0, 0, 0, 0] = 0.5
    mask = mask_of(one("source_class", source_classes=("van",)), preserve=True, coverage=coverage)["cov"]
    assert mask[0, 0, 0].tolist() == [1.0, 0.25, 1.0, 1.0]
