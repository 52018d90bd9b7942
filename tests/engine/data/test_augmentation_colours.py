"""Changes of colours, worked by hand, and how often they happen."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from taomagic.engine.data.colours import Distortion, Twist, draw_distortion, draw_twist
from tests.engine.data.conftest import settings

ALL = settings(brightness=32, contrast=0.5, saturation=0.4, hue=18)


def pixel(*levels: int) -> np.ndarray:
    return np.array([[levels]], np.uint8)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


# --- raw KITTI ------------------------------------------------------------------------------------------------------
# Grey levels have no hue and no saturation, so the way through HSV leaves them alone.


@pytest.mark.parametrize(
    ("level", "added", "expected"),
    [(240, 32, 255), (100, 32, 132), (10, -32, 0), (100, 0.4, 100), (100, 0.6, 101), (101, 0.5, 102)],
)
def test_brightness_is_added_clipped_and_rounded(level: int, added: float, expected: int) -> None:
    """101.5 becomes the even 102."""
    for contrast_first in (True, False):
        out = Distortion(contrast_first, brightness=added).apply(pixel(level, level, level))
        np.testing.assert_array_equal(out, pixel(expected, expected, expected))


@pytest.mark.parametrize(
    ("level", "factor", "expected"),
    [
        (100, 1.5, 86),  # 127.5 + 1.5 * -27.5 = 86.25
        (200, 1.5, 236),  # 127.5 + 1.5 * 72.5 = 236.25
        (30, 1.5, 0),  # -18.75
        (240, 1.5, 255),  # 296.25
        (0, 0.5, 64),  # 63.75
        (255, 0.5, 191),  # 191.25
    ],
)
def test_contrast_is_about_127_and_a_half(level: int, factor: float, expected: int) -> None:
    for contrast_first in (True, False):
        out = Distortion(contrast_first, contrast=factor).apply(pixel(level, level, level))
        np.testing.assert_array_equal(out, pixel(expected, expected, expected))


def test_levels_are_not_rounded_between_brightness_and_contrast() -> None:
    # 100 + 0.4 = 100.4; 127.5 + 1.5 * (100.4 - 127.5) = 86.85 -> 87. Rounded in between, it were 86.25 -> 86.
    out = Distortion(True, brightness=0.4, contrast=1.5).apply(pixel(100, 100, 100))
    np.testing.assert_array_equal(out, pixel(87, 87, 87))
    # With the contrast last, bytes lie between: 100 -> 86.25 -> 86.
    out = Distortion(False, brightness=0.4, contrast=1.5).apply(pixel(100, 100, 100))
    np.testing.assert_array_equal(out, pixel(86, 86, 86))


def test_the_order_matters_for_colours() -> None:
    # (255, 128, 128) has V = 255 and S = 127; half of that is 63.5 -> 64, which makes it (255, 191, 191).
    # Contrast before that: 255 is clipped, 128 becomes 128.25 -> 128, so nothing changes.
    both = {"contrast": 1.5, "saturation": 0.5}
    np.testing.assert_array_equal(Distortion(True, **both).apply(pixel(255, 128, 128)), pixel(255, 191, 191))
    # Contrast after that: 127.5 + 1.5 * 63.5 = 222.75.
    np.testing.assert_array_equal(Distortion(False, **both).apply(pixel(255, 128, 128)), pixel(255, 223, 223))


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        # (200, 80, 80): V = 200, S = 255 * 120 / 200 = 153.
        (0.6, (200, 128, 128)),  # S 91.8 -> 92: 200 * (1 - 92 / 255) = 127.8
        (1.6, (200, 8, 8)),  # S 244.8 -> 245: 7.8
        (2.5, (200, 0, 0)),  # S clipped at 255
    ],
)
def test_saturation_scales_the_distance_from_grey(factor: float, expected: tuple[int, ...]) -> None:
    out = Distortion(True, saturation=factor).apply(pixel(200, 80, 80))
    np.testing.assert_array_equal(out, pixel(*expected))


@pytest.mark.parametrize(
    ("red_becomes", "half_degrees"),
    [
        ((255, 0, 0), 0),
        ((255, 255, 0), 30),  # yellow, 60 degrees on
        ((0, 255, 0), 60),  # green
        ((0, 255, 255), 90),
        ((0, 0, 255), 120),  # blue
        ((255, 0, 255), 150),
        ((255, 0, 0), 180),
        ((255, 0, 255), -30),  # around
        ((255, 0, 0), 179.6),  # rounded to 180, which is 0
    ],
)
def test_hue_turns_in_half_degrees(red_becomes: tuple[int, ...], half_degrees: float) -> None:
    np.testing.assert_array_equal(
        Distortion(True, hue=half_degrees).apply(pixel(255, 0, 0)), pixel(*red_becomes)
    )


def test_even_an_idle_distortion_goes_through_hsv() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 64, 3), dtype=np.uint8)
    there_and_back = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), cv2.COLOR_HSV2RGB)
    np.testing.assert_array_equal(Distortion(False).apply(image), there_and_back)
    assert (there_and_back != image).any()


def test_recolouring_leaves_the_image_given_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (50, 64, 3), dtype=np.uint8)
    before = image.copy()
    Distortion(True, 20, 1.3, 0.7, 10).apply(image)
    Twist(20, 1.3, 0.7, 1.1).apply(image)
    np.testing.assert_array_equal(image, before)


def test_distortions_are_drawn_as_often_and_as_far_as_described() -> None:
    drawn = [draw_distortion(generator(seed), ALL) for seed in range(2000)]
    amounts = np.array([[d.brightness, d.contrast - 1, d.saturation - 1, d.hue] for d in drawn if d])
    assert len(amounts) == 2000
    # Standard deviation of a share of 2000 coins: 0.011; four of them are 0.045.
    np.testing.assert_allclose((amounts != 0).mean(axis=0), 0.5, atol=0.045)
    assert abs(np.mean([d.contrast_first for d in drawn if d]) - 0.5) < 0.045
    # Each independently of the others.
    assert np.abs(np.corrcoef((amounts != 0).T) - np.eye(4)).max() < 0.1
    largest = np.array([32, 0.5, 0.4, 18])
    for side in (amounts.max(axis=0), -amounts.min(axis=0)):
        assert (side <= largest).all()
        assert (side > 0.98 * largest).all()
    # Uniform: the mean of what isn't 0 is 0, with a standard deviation of 0.018 of the range.
    means = [amounts[amounts[:, i] != 0, i].mean() / largest[i] for i in range(4)]
    assert np.abs(means).max() < 0.075


def test_distortions_are_left_out_when_all_ranges_are_zero() -> None:
    assert draw_distortion(generator(), settings()) is None
    for one in ({"brightness": 1}, {"contrast": 0.1}, {"saturation": 0.1}, {"hue": 1}):
        assert draw_distortion(generator(), settings(**one)) is not None


def test_only_the_ranges_given_are_used() -> None:
    drawn = [draw_distortion(generator(seed), settings(hue=10)) for seed in range(50)]
    assert all((d.brightness, d.contrast, d.saturation) == (0, 1, 1) for d in drawn if d)
    assert any(d.hue for d in drawn if d)


# --- TFRecords ------------------------------------------------------------------------------------------------------


def test_twisted_contrast_is_about_128_and_brightness_a_factor_after_it() -> None:
    grey = pixel(100, 100, 100)
    # 128 + 1.5 * -28 = 86; times 1.1: 94.6
    np.testing.assert_allclose(Twist(contrast=1.5).apply(grey), pixel(86, 86, 86), atol=1)
    np.testing.assert_allclose(Twist(contrast=1.5, brightness=1.1).apply(grey), pixel(95, 95, 95), atol=1)
    np.testing.assert_allclose(Twist(brightness=1.125).apply(grey), pixel(112, 112, 112), atol=1)  # 112.5
    np.testing.assert_array_equal(Twist(brightness=1.125).apply(pixel(240, 240, 240)), pixel(255, 255, 255))
    np.testing.assert_array_equal(Twist(contrast=1.9).apply(pixel(20, 20, 20)), pixel(0, 0, 0))  # -77


def test_twisted_saturation_scales_the_distance_from_the_luma() -> None:
    # Luma of (200, 100, 50): 0.299 * 200 + 0.587 * 100 + 0.114 * 50 = 124.2; half way to it:
    out = Twist(saturation=0.5).apply(pixel(200, 100, 50))
    np.testing.assert_allclose(out, pixel(162, 112, 87), atol=1)  # 162.1, 112.1, 87.1
    np.testing.assert_allclose(Twist(saturation=0).apply(pixel(200, 100, 50)), pixel(124, 124, 124), atol=1)


def test_twisted_hue_turns_the_colour_axes_in_degrees() -> None:
    # Half a turn negates both axes: luma stays, distances change sign. 2 * 124.2 - (200, 100, 150)...
    luma = 0.299 * 200 + 0.587 * 100 + 0.114 * 150
    out = Twist(hue=180).apply(pixel(200, 100, 150))
    np.testing.assert_allclose(out[0, 0], 2 * luma - np.array([200, 100, 150]), atol=1.5)
    np.testing.assert_allclose(Twist(hue=360).apply(pixel(200, 100, 150)), pixel(200, 100, 150), atol=1)
    # A quarter turn: I' = Q, Q' = -I. (200, 100, 150) has I = 43.65, Q = 36.55; red is Y + 0.956 I' + 0.621 Q'.
    i, q = 0.596 * 200 - 0.274 * 100 - 0.321 * 150, 0.211 * 200 - 0.523 * 100 + 0.311 * 150
    np.testing.assert_allclose((i, q), (43.65, 36.55), atol=1e-9)
    out = Twist(hue=90).apply(pixel(200, 100, 150))
    assert abs(out[0, 0, 0] - (luma + 0.956 * q - 0.621 * i)) <= 1.5


def test_an_idle_twist_changes_nothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Twist().apply(image), image)
    assert draw_twist(generator(), settings()) == Twist()


def test_twists_always_apply_and_reach_their_limits() -> None:
    drawn = [draw_twist(generator(seed), ALL) for seed in range(2000)]
    amounts = np.array([[t.hue, t.saturation, t.contrast, t.brightness] for t in drawn])
    low, high = np.array([0, 0.6, 0.5, 1 - 0.125]), np.array([18, 1.4, 1.5, 1 + 0.125])
    assert ((amounts >= low) & (amounts <= high)).all()
    span = high - low
    assert (amounts.min(axis=0) < low + 0.01 * span).all()
    assert (amounts.max(axis=0) > high - 0.01 * span).all()
    np.testing.assert_allclose(((amounts - low) / span).mean(axis=0), 0.5, atol=0.027)  # four of 0.0065
