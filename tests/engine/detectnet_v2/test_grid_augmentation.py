"""Every change of a training image against a worked example."""

from __future__ import annotations

import cv2
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
    unchanged,
    warped,
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


@settings(max_examples=80, deadline=None)
@given(
    size=st.tuples(st.integers(1, 150), st.integers(1, 100)),
    larger=st.tuples(st.integers(0, 60), st.integers(0, 60)),
    corner=st.tuples(st.integers(0, 80), st.integers(0, 60)),
)
def test_the_input_is_a_part_of_the_image_padded_to_the_largest(
    size: tuple[int, int], larger: tuple[int, int], corner: tuple[int, int]
) -> None:
    image = np.random.default_rng(size[0]).integers(1, 255, (size[1], size[0], 3), dtype=np.uint8)
    left, top = corner
    config = augmentation(crop=(left, top, left + 96, top + 64) if left or top else None)
    # Step by step: black up to the largest image, black beyond it, then the crop.
    largest = size[0] + larger[0], size[1] + larger[1]
    padded = np.pad(image, ((0, larger[1]), (0, larger[0]), (0, 0)))
    padded = np.pad(padded, ((0, 200), (0, 200), (0, 0)))[top : top + 64, left : left + 96]
    shown, found = to_input(image, objects((3, 4, 30, 20)), config, largest)
    assert np.array_equal(shown, padded)
    assert found.boxes.tolist() == [[3 - left, 4 - top, 30 - left, 20 - top]]


def test_scaling_keeps_an_images_share_of_the_largest() -> None:
    config = augmentation(scale_width=60.0, scale_height=32.0)
    image = marked((120, 64), (20, 8, 60, 16))
    alone, boxes = to_input(image, objects((20, 8, 60, 16)), config)
    assert boxes.boxes.tolist() == [[10, 4, 30, 8]]
    assert alone[32:].max() == alone[:, 60:].max() == 0
    _, boxes = to_input(image, objects((20, 8, 60, 16)), config, (240, 64))
    assert boxes.boxes.tolist() == [[5, 4, 15, 8]]
    resized = augmentation(scale_width=60.0, scale_height=32.0, enable_auto_resize=True)
    _, boxes = to_input(image, objects((20, 8, 60, 16)), resized)
    assert boxes.boxes.tolist() == [[16, 8, 48, 16]], "enable_auto_resize comes first"


def test_validation_sees_a_crop_only() -> None:
    wild = augmentation(
        hflip_probability=1.0, zoom_min=2.0, zoom_max=2.0, color_shift_stddev=0.5, rotate_max=30.0
    )
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    pixels, found = unchanged(image, objects((5, 6, 50, 40), (90, 10, 90.5, 60)), wild)
    assert pixels.dtype == np.float32
    assert np.array_equal(np.rint(pixels * 255), image)
    assert found.boxes.tolist() == [[5, 6, 50, 40]]


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


@settings(max_examples=80, deadline=None)
@given(
    shift=st.tuples(st.integers(-120, 120), st.integers(-80, 80)),
    flip=st.tuples(st.booleans(), st.booleans()),
)
def test_whole_pixels_are_moved_as_interpolation_would(
    shift: tuple[int, int], flip: tuple[bool, bool]
) -> None:
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    signs = [-1.0 if one else 1.0 for one in flip]
    ends = [side - 1 if one else 0 for side, one in zip((96, 64), flip, strict=True)]
    matrix = np.array([[signs[0], 0, ends[0] + shift[0]], [0, signs[1], ends[1] + shift[1]], [0, 0, 1]])
    quick = warped(image, matrix)
    slow = cv2.warpAffine(
        image, matrix[:2], (96, 64), borderMode=cv2.BORDER_CONSTANT, borderValue=(127.5,) * 3
    )
    assert np.array_equal(quick, slow)


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


def drawn_colours(count: int = 400, **changes: float) -> np.ndarray:
    """Return the colour maps [count, 3, 4] of many images."""
    found = [draw_colours(np.random.default_rng(seed), augmentation(**changes)) for seed in range(count)]
    return np.array([np.eye(3, 4) if matrix is None else matrix for matrix in found])


def test_brightness_is_a_normal_shift_cut_off_at_two_deviations() -> None:
    maps = drawn_colours(color_shift_stddev=0.1)
    assert np.allclose(maps[:, :, :3], np.eye(3), atol=2e-3)
    shifts = maps[:, 0, 3]
    assert np.allclose(maps[:, 1, 3], shifts, atol=1e-3)
    assert np.allclose(maps[:, 2, 3], shifts, atol=1e-3)
    assert np.abs(shifts).max() <= 0.2 + 1e-3
    assert shifts.mean() == pytest.approx(0, abs=0.015)
    assert shifts.std() == pytest.approx(0.088, abs=0.01), "a normal distribution cut off there"


def test_hue_turns_by_half_the_maximum_at_one_deviation_and_saturation_evenly() -> None:
    red = np.array([1.0, 0, 0])
    yiq = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])

    def chroma(maps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how far red is turned, in degrees, and by what factor its saturation changes."""
        before = yiq @ red
        after = (maps[:, :, :3] @ red + maps[:, :, 3]) @ yiq.T
        assert np.allclose(after[:, 0], before[0], atol=5e-3), "neither changes how bright it is"
        complexes = (after[:, 1] + 1j * after[:, 2]) / (before[1] + 1j * before[2])
        return np.degrees(np.angle(complexes)), np.abs(complexes)

    angles, factors = chroma(drawn_colours(hue_rotation_max=40.0))
    assert np.abs(angles).max() <= 40.5
    assert angles.std() == pytest.approx(20 * 0.88, abs=2)
    assert np.allclose(factors, 1, atol=0.01)
    angles, factors = chroma(drawn_colours(saturation_shift_max=0.3))
    assert np.allclose(angles, 0, atol=0.5)
    assert 0.69 <= factors.min() < 0.72
    assert 1.28 < factors.max() <= 1.31
    assert np.histogram(factors, 4, (0.7, 1.3))[0].min() > 70, "even"


def test_probabilities_and_ranges_are_kept() -> None:
    config = augmentation(
        hflip_probability=0.3, zoom_min=0.8, zoom_max=1.6, rotate_max=20.0, rotate_probability=0.4
    )
    maps = np.array([draw_spatial(np.random.default_rng(seed), config)[:2, :2] for seed in range(1000)])
    flipped = np.linalg.det(maps) < 0
    assert flipped.mean() == pytest.approx(0.3, abs=0.05)
    zooms = 1 / np.sqrt(np.abs(np.linalg.det(maps)))
    assert 0.8 <= zooms.min() < 0.82
    assert 1.58 < zooms.max() <= 1.6
    assert zooms.mean() == pytest.approx(1.2, abs=0.03), "evenly between the two"
    sign = np.where(flipped, -1, 1)
    angles = np.degrees(np.arctan2(maps[:, 1, 0] * sign, maps[:, 0, 0] * sign))
    assert (np.abs(angles) > 1e-6).mean() == pytest.approx(0.4, abs=0.05)
    assert 19 < np.abs(angles).max() <= 20


def test_what_a_zoom_shows_lies_around_the_picture_or_in_it() -> None:
    for ratio in (0.5, 2.0):
        config = augmentation(zoom_min=ratio, zoom_max=ratio)
        for seed in range(50):
            whole = transformed(
                np.array([[0, 0, 96, 64]], np.float32), draw_spatial(np.random.default_rng(seed), config)
            )[0]
            inside = [0, 0, *(96, 64)] if ratio > 1 else whole
            outside = whole if ratio > 1 else [0, 0, 96, 64]
            assert inside[0] <= outside[0] + 1
            assert inside[1] <= outside[1] + 1
            assert outside[2] <= inside[2] + 1
            assert outside[3] <= inside[3] + 1


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
