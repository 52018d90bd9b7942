"""Every change of a training image against a worked example."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.engine.detectnet_v2.augmentation import (
    augment,
    draw_colours,
    draw_spatial,
    tidy,
    to_input,
    transformed,
)
from taomagic.engine.detectnet_v2.records import Objects

from .conftest import augmentation


def objects(*boxes: tuple[float, float, float, float]) -> Objects:
    count = len(boxes)
    return Objects(
        np.array(boxes, np.float32).reshape(-1, 4),
        np.ones(count, np.int64),
        np.zeros(count, np.bool_),
        ("car",) * count,
    )


def marked(size: tuple[int, int], box: tuple[int, int, int, int]) -> np.ndarray:
    """Return a black image with a white box."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image


def bounds(pixels: np.ndarray) -> list[float]:
    """Return the box around what is white."""
    y, x = np.nonzero(pixels[..., 0] > 0.75)
    return [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_a_small_image_is_padded_and_a_large_one_cropped() -> None:
    image = np.full((40, 120, 3), 7, np.uint8)
    shown, found = to_input(image, objects((10, 5, 110, 39)), augmentation())
    assert shown.shape == (64, 96, 3)
    assert shown[39, 95].tolist() == [7] * 3
    assert shown[40].max() == 0, "black below"
    assert found.boxes.tolist() == [[10, 5, 110, 39]]
    assert tidy(found, augmentation()).boxes.tolist() == [[10, 5, 96, 39]]


def test_a_crop_moves_image_and_boxes() -> None:
    image = marked((200, 100), (60, 30, 90, 50))
    shown, found = to_input(image, objects((60, 30, 90, 50)), augmentation(crop=(50, 20, 146, 84)))
    assert bounds(shown / 255) == found.boxes[0].tolist() == [10, 10, 40, 30]


def test_auto_resize_stretches_image_and_boxes() -> None:
    image = marked((192, 32), (20, 8, 60, 16))
    shown, found = to_input(image, objects((20, 8, 60, 16)), augmentation(enable_auto_resize=True))
    assert shown.shape == (64, 96, 3)
    assert found.boxes.tolist() == [[10, 16, 30, 32]]
    assert np.abs(np.array(bounds(shown / 255)) - found.boxes[0]).max() <= 1


def test_without_changes_an_image_stays_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    pixels, found = augment(np.random.default_rng(1), image, objects((5, 6, 50, 40)), augmentation())
    assert np.array_equal(np.rint(pixels * 255), image)
    assert found.boxes.tolist() == [[5, 6, 50, 40]]


CHANGES = [
    {"hflip_probability": 1.0},
    {"vflip_probability": 1.0},
    {"translate_max_x": 12.0, "translate_max_y": 9.0},
    {"zoom_min": 1.5, "zoom_max": 1.5},
    {"zoom_min": 0.8, "zoom_max": 0.8},
    {"rotate_max": 90.0},
    {"hflip_probability": 0.5, "zoom_min": 0.9, "zoom_max": 1.3, "translate_max_x": 8.0, "rotate_max": 10.0},
]


@pytest.mark.parametrize("changes", CHANGES, ids=lambda changes: next(iter(changes)))
@pytest.mark.parametrize("seed", range(3))
def test_boxes_go_where_their_pixels_go(changes: dict[str, float], seed: int) -> None:
    box = (40, 26, 58, 36)
    config = augmentation(**changes)
    pixels, found = augment(np.random.default_rng(seed), marked((96, 64), box), objects(box), config)
    assert len(found.boxes) == 1
    if changes.get("rotate_max", 0) < 90:
        assert np.abs(np.array(bounds(pixels)) - found.boxes[0]).max() <= 2.5, (bounds(pixels), found.boxes)
    else:
        seen = bounds(pixels)
        x1, y1, x2, y2 = found.boxes[0]
        assert seen[0] >= x1 - 1.5
        assert seen[1] >= y1 - 1.5
        assert seen[2] <= x2 + 1.5
        assert seen[3] <= y2 + 1.5


def test_a_flip_mirrors_pixels_exactly() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    config = augmentation(hflip_probability=1.0)
    pixels, found = augment(np.random.default_rng(0), image, objects((5, 6, 50, 40)), config)
    assert np.array_equal(np.rint(pixels * 255), image[:, ::-1])
    assert found.boxes.tolist() == [[46, 6, 91, 40]]


def test_what_comes_from_outside_is_grey() -> None:
    image = np.zeros((64, 96, 3), np.uint8)
    config = augmentation(zoom_min=2.0, zoom_max=2.0)
    pixels, _ = augment(np.random.default_rng(0), image, objects(), config)
    assert set(np.unique(np.rint(pixels * 255)).tolist()) <= set(range(129))
    assert (np.abs(pixels - 0.5) < 0.01).mean() == pytest.approx(0.75, abs=0.04), "three quarters are outside"


def test_translations_are_whole_pixels_in_their_range() -> None:
    config = augmentation(translate_max_x=3.0, translate_max_y=1.0)
    drawn = [draw_spatial(np.random.default_rng(seed), config)[:2, 2] for seed in range(200)]
    assert {float(x) for x, _ in drawn} == {-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0}
    assert {float(y) for _, y in drawn} == {-1.0, 0.0, 1.0}


def test_colour_changes_keep_to_their_meaning() -> None:
    none = augmentation()
    assert draw_colours(np.random.default_rng(0), none) is None
    grey = np.full((1, 1, 3), 0.3)
    for seed in range(20):
        # Hue and saturation leave grey alone; contrast leaves its centre alone.
        matrix = draw_colours(
            np.random.default_rng(seed), augmentation(hue_rotation_max=40.0, saturation_shift_max=0.5)
        )
        assert matrix is not None
        assert np.allclose(matrix[:, :3] @ grey[0, 0] + matrix[:, 3], 0.3, atol=2e-3)
        matrix = draw_colours(np.random.default_rng(seed), augmentation(contrast_scale_max=0.4))
        assert matrix is not None
        assert np.allclose(matrix[:, :3] @ np.full(3, 0.5) + matrix[:, 3], 0.5, atol=2e-3)
        assert 0.6 <= matrix[:, :3].sum(axis=1).mean() <= 1.4, "two deviations of half the maximum"


def test_colours_stay_between_0_and_1() -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    config = augmentation(color_shift_stddev=0.5, contrast_scale_max=1.0, saturation_shift_max=1.0)
    pixels, _ = augment(np.random.default_rng(3), image, objects(), config)
    assert pixels.dtype == np.float32
    assert 0 <= pixels.min() < pixels.max() <= 1


def test_thin_objects_are_left_out() -> None:
    found = tidy(objects((10, 10, 10.5, 40), (90, 10, 200, 40), (95.5, 0, 120, 20)), augmentation())
    assert found.boxes.tolist() == [[90, 10, 96, 40]]
    larger = augmentation(min_bbox_width=7.0)
    assert len(tidy(objects((90, 10, 200, 40)), larger).boxes) == 0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.floats(0, 80), st.floats(0, 50), st.floats(1, 60), st.floats(1, 40))
def test_boxes_stay_in_the_picture_and_the_same_seed_gives_the_same(
    seed: int, x: float, y: float, width: float, height: float
) -> None:
    config = augmentation(
        hflip_probability=0.5,
        zoom_min=0.7,
        zoom_max=1.4,
        translate_max_x=20.0,
        rotate_max=15.0,
        hue_rotation_max=25.0,
    )
    image = np.random.default_rng(1).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    one = augment(np.random.default_rng(seed), image, objects((x, y, x + width, y + height)), config)
    two = augment(np.random.default_rng(seed), image, objects((x, y, x + width, y + height)), config)
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1].boxes, two[1].boxes)
    boxes = one[1].boxes
    assert ((boxes >= 0) & (boxes <= [96, 64, 96, 64])).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()


def test_a_map_and_its_inverse_bring_a_box_back() -> None:
    config = augmentation(hflip_probability=1.0, zoom_min=1.3, zoom_max=1.3, translate_max_x=5.0)
    matrix = draw_spatial(np.random.default_rng(4), config)
    box = np.array([[12.0, 9.0, 44.0, 30.0]], np.float32)
    there = transformed(box, matrix)
    assert np.allclose(transformed(there, np.linalg.inv(matrix)), box, atol=1e-3)
