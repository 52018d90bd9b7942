"""Pictures of what a network sees: cells over their threshold are tinted, and their boxes drawn."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from taomagic.engine.detectnet_v2.coverage_pictures import draw_coverage
from taomagic.engine.detectnet_v2.layout import Layout

LAYOUT = Layout(("car", "cyclist"), (3, 64, 96), 35.0, 0.5)


def predictor(channels: int = 3) -> SimpleNamespace:
    """Return a network that sees half a car in one cell, and a whole cyclist in another."""
    coverage = torch.zeros(1, 2, 4, 6)
    coverage[0, 0, 1, 2], coverage[0, 1, 3, 5] = 0.5, 1.0
    # Each side as far from its cell's centre as six pixels.
    boxes = torch.full((1, 8, 4, 6), 6 / 35)

    def raw(images: Tensor) -> tuple[Tensor, Tensor]:
        assert images.shape == (1, channels, 64, 96)
        return coverage, boxes

    return SimpleNamespace(layout=LAYOUT, raw=raw)


@pytest.mark.parametrize("channels", [1, 3])
def test_only_what_is_over_a_threshold_is_drawn(channels: int) -> None:
    images = torch.full((1, channels, 64, 96), 0.4)
    (picture,) = draw_coverage(predictor(channels), images, {"car": 0.1})  # type: ignore[arg-type]
    assert picture.shape == (64, 96, 3)
    assert picture.dtype == np.uint8
    grey = int(0.4 * 255)
    # Cars are red, and tint a cell by half of their coverage; the other cells stay as they were.
    assert picture[26, 40].tolist() == [int(0.75 * grey + 0.25 * 255), int(0.75 * grey), int(0.75 * grey)]
    assert picture[60, 90].tolist() == [grey] * 3, "no threshold for cyclists, no picture of them"
    # The box of the cell goes from (26, 10) to (38, 22).
    assert picture[10, 30].tolist() == picture[22, 38].tolist() == [255, 0, 0]
    (strict,) = draw_coverage(predictor(channels), images, {"car": 0.5, "cyclist": 0.9})  # type: ignore[arg-type]
    assert strict[26, 40].tolist() == [grey] * 3, "as much as the threshold isn't more"
    assert strict[60, 90].tolist() != [grey] * 3
