"""The rasteriser against hand-worked numbers, a slow reference, and its own inverse."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.engine.detectnet_v2.targets import STRIDE, GridTargets, Rasterizer, decode_boxes
from taomagic.spec.settings_detectnet_v2 import ClassRasterizerSettings, RasterizerSettings

GRID = (6, 9)
SCALE, OFFSET = 35.0, 0.5


def rasterizer(
    *, classes: int = 1, radius: float = 1.0, least: float = 1.0, deadzone: float = 0.4, center: float = 0.5
) -> Rasterizer:
    names = [f"class_{i}" for i in range(classes)]
    one = ClassRasterizerSettings(center, center, radius, radius, least)
    config = RasterizerSettings(dict.fromkeys(names, one), deadzone)
    return Rasterizer(config, names, GRID, scale=SCALE, offset=OFFSET)


def draw(
    drawer: Rasterizer, *boxes: tuple[float, float, float, float], labels: list[int] | None = None
) -> GridTargets:
    rows = torch.tensor([boxes], dtype=torch.float32).reshape(1, -1, 4)
    return drawer(rows, torch.tensor([labels or [1] * len(boxes)]))


def slow(
    drawer: Rasterizer, boxes: list[list[float]], labels: list[int], classes: int
) -> tuple[dict[tuple[int, int, int], float], dict[tuple[int, int, int], tuple[float, ...]]]:
    """Draw cell by cell and sample by sample, as section 5.2 says it."""
    table = drawer._table.tolist()
    coverage: dict[tuple[int, int, int], float] = {}
    sides: dict[tuple[int, int, int], tuple[float, ...]] = {}
    for box, label in sorted(zip(boxes, labels, strict=True), key=lambda pair: pair[0][3]):
        x1, y1, x2, y2 = (value / STRIDE for value in box)
        center_x, center_y, radius_x, radius_y, least = table[label]
        cx, cy = x1 + center_x * (x2 - x1), y1 + center_y * (y2 - y1)
        sx = cx - x1 if center_x < 0.5 else x2 - cx
        sy = cy - y1 if center_y < 0.5 else y2 - cy
        rx, ry = max(radius_x * sx, 0.1), max(radius_y * sy, 0.1)
        if rx < least:
            rx, ry = least, least * ry / rx
        if ry < least:
            rx, ry = least * rx / ry, least
        dead = drawer._deadzone
        dx, dy = max((1 - dead) * rx + dead * sx, rx), max((1 - dead) * ry + dead * sy, ry)
        for y in range(GRID[0]):
            for x in range(GRID[1]):
                inside = zone = 0
                for i in range(4):
                    for j in range(4):
                        u, v = x + 0.125 + 0.25 * j - cx, y + 0.125 + 0.25 * i - cy
                        inside += (u / rx) ** 2 + (v / ry) ** 2 <= 1
                        zone += (u / dx) ** 2 + (v / dy) ** 2 <= 1
                key = (label - 1, y, x)
                if zone and zone / 16 >= coverage.get(key, 0.0):
                    coverage[key] = 0.0
                    sides.pop(key, None)
                if inside and inside / 16 >= coverage.get(key, 0.0):
                    coverage[key] = inside / 16
                    sides[key] = tuple(
                        value / SCALE
                        for value in (
                            (x - x1) * 16 + OFFSET,
                            (y - y1) * 16 + OFFSET,
                            (x2 - x) * 16 - OFFSET,
                            (y2 - y) * 16 - OFFSET,
                        )
                    )
    return coverage, sides


def test_an_object_covers_the_cells_of_its_ellipse() -> None:
    # 4 × 4 cells around the point (4, 3): an ellipse with radius 2 in both directions.
    targets = draw(rasterizer(), (32.0, 16.0, 96.0, 80.0))
    corner = 9 / 16  # of the samples of the cell at (2, 1), those no further from (4, 3) than 2
    row = [0.0, 0.0, corner, 1.0, 1.0, corner, 0.0, 0.0, 0.0]
    samples = [(2 + 0.125 + 0.25 * i, 1 + 0.125 + 0.25 * j) for i in range(4) for j in range(4)]
    assert sum(math.hypot(x - 4, y - 3) <= 2 for x, y in samples) / 16 == pytest.approx(
        float(targets.coverage[0, 0, 1, 2])
    )
    assert targets.coverage[0, 0, 2].tolist()[3:5] == row[3:5]
    assert float(targets.coverage[0, 0, 0].sum()) == 0.0
    assert float(targets.weight[0, 0, 2, 3]) == pytest.approx(1 / 16), "4 · 2 · 2 cells"


def test_a_cell_holds_the_distances_to_the_sides_of_its_box() -> None:
    targets = draw(rasterizer(), (32.0, 16.0, 96.0, 80.0))
    left, top, right, bottom = targets.boxes[0, 0, :, 2, 3].tolist()
    assert left * SCALE == pytest.approx(3 * 16 + 0.5 - 32)
    assert top * SCALE == pytest.approx(2 * 16 + 0.5 - 16)
    assert right * SCALE == pytest.approx(96 - 3 * 16 - 0.5)
    assert bottom * SCALE == pytest.approx(80 - 2 * 16 - 0.5)
    assert targets.boxes[0, 0, :, 0, 0].tolist() == [0.0] * 4, "where nothing is, nothing is asked"


def test_small_objects_get_the_least_radius_in_proportion() -> None:
    # Half a cell wide, one cell high: radii 0.25 and 0.5 grow to 1 and 2.
    drawer = rasterizer(least=1.0)
    ellipse = drawer.ellipses(torch.tensor([[2.0, 2.0, 2.5, 3.0]]), torch.tensor([1]))
    assert (float(ellipse.rx), float(ellipse.ry)) == (1.0, 2.0)
    assert float(ellipse.inverse_area) == pytest.approx(1 / 8)


def test_what_stands_lower_lies_on_top_and_its_dead_zone_clears_what_is_behind() -> None:
    behind, front = (16.0, 0.0, 80.0, 64.0), (48.0, 16.0, 112.0, 80.0)
    for boxes in ((behind, front), (front, behind)):
        targets = draw(rasterizer(radius=0.4, deadzone=1.0), *boxes)
        middle = targets.boxes[0, 0, :, 3, 5] * SCALE
        assert float(middle[0]) == pytest.approx(5 * 16 + 0.5 - 48), "the cell speaks of the object in front"
    alone = draw(rasterizer(radius=0.4, deadzone=1.0), behind).coverage
    both = draw(rasterizer(radius=0.4, deadzone=1.0), behind, front).coverage
    assert bool(((alone > 0) & (both == 0)).any()), "cells between the two are cleared"


def test_classes_have_maps_of_their_own_and_padding_has_none() -> None:
    box = (32.0, 16.0, 96.0, 80.0)
    targets = draw(rasterizer(classes=2), box, box, (0.0, 0.0, 90.0, 90.0), labels=[1, 2, 0])
    assert torch.equal(targets.coverage[0, 0], targets.coverage[0, 1])
    assert torch.equal(targets.coverage, draw(rasterizer(classes=2), box, box, labels=[1, 2]).coverage)
    assert targets.coverage.shape == (1, 2, *GRID)


def test_an_image_without_objects_is_empty() -> None:
    targets = rasterizer()(torch.zeros(2, 0, 4), torch.zeros(2, 0, dtype=torch.int64))
    assert float(targets.coverage.sum() + targets.boxes.abs().sum() + targets.weight.sum()) == 0.0


BOX = st.tuples(st.floats(0, 120), st.floats(0, 70), st.floats(3, 90), st.floats(3, 60)).map(
    lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]
)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(BOX, st.integers(1, 2)), max_size=4, unique_by=lambda pair: pair[0][3]),
    st.sampled_from([0.3, 0.4, 1.0]),
    st.sampled_from([0.0, 0.4, 1.0]),
    st.sampled_from([0.3, 0.5, 0.7]),
)
def test_targets_are_those_of_the_slow_reference(
    objects: list[tuple[list[float], int]], radius: float, deadzone: float, center: float
) -> None:
    drawer = rasterizer(classes=2, radius=radius, deadzone=deadzone, center=center)
    boxes, labels = [box for box, _ in objects], [label for _, label in objects]
    targets = drawer(
        torch.tensor(boxes).reshape(1, -1, 4), torch.tensor(labels, dtype=torch.int64).reshape(1, -1)
    )
    coverage, sides = slow(drawer, boxes, labels, 2)
    expected = torch.zeros(2, *GRID)
    for key, value in coverage.items():
        expected[key] = value
    # A sample on the very edge of an ellipse may fall on either side of it, by rounding.
    agree = (targets.coverage[0] - expected).abs() < 1e-6
    assert float(agree.float().mean()) > 0.97
    for key, value in sides.items():
        if bool(agree[key]):
            found = targets.boxes[0, key[0], :, key[1], key[2]]
            assert (
                torch.allclose(found, torch.tensor(value), atol=1e-4) or float(targets.coverage[0][key]) == 0
            )


@settings(max_examples=60, deadline=None)
@given(BOX)
def test_every_covered_cell_decodes_to_its_box(box: list[float]) -> None:
    size = GRID[0] * STRIDE, GRID[1] * STRIDE
    targets = rasterizer()(torch.tensor([[box]]), torch.tensor([[1]]))
    found = decode_boxes(targets.boxes, size, scale=SCALE, offset=OFFSET)[0, 0]
    covered = targets.coverage[0, 0] > 0
    clipped = torch.tensor([min(max(box[i], 0), size[1 - i % 2]) for i in range(4)])
    assert bool(covered.any()) or min(box[0], box[1]) > 60
    assert torch.allclose(found[covered], clipped.expand(int(covered.sum()), 4), atol=2e-3)
