"""Zoom-out and crops: worked by hand where nothing is random, by their promises and frequencies where something is."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from taomagic.engine.data.crops import (
    CROP_BOUNDS,
    FILL,
    TRIES,
    View,
    cut,
    cut_in_shares,
    overlap,
    random_crop,
    random_crop_in_shares,
    show,
    zoom_out,
)
from taomagic.engine.data.labels import Labels
from tests.engine.data.conftest import settings

CROPPING = settings(random_crop_min_scale=0.3)
IMAGE = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def labels(*boxes: tuple[float, ...]) -> Labels:
    count = len(boxes)
    return Labels(
        np.array(boxes, np.float32).reshape(-1, 4), np.arange(1, count + 1), np.zeros(count, np.bool_)
    )


class Scripted:
    """Stands in for a generator: gives the numbers of a script, one list per method, and wants all of them used."""

    def __init__(self, **script: list[object]) -> None:
        self._script = {name: list(values) for name, values in script.items()}

    def __getattr__(self, name: str) -> Callable[..., object]:
        return lambda *_, **__: np.asarray(self._script[name].pop(0))[()]

    def assert_used_up(self) -> None:
        assert not any(self._script.values()), self._script


# --- zoom-out -------------------------------------------------------------------------------------------------------


def test_zoom_out_worked_by_hand() -> None:
    # The coin says yes; twice the size; 24 of 96 further columns and 64 of 64 further rows before the image.
    rng = Scripted(random=[0.4], uniform=[2.0], integers=[-24, -64])
    assert zoom_out(rng, 96, 64, 1, 4) == View(-24, -64, 192, 128)  # type: ignore[arg-type]
    rng.assert_used_up()
    # Sides are cut to whole pixels: 96 * 1.33 = 127.68, 64 * 1.33 = 85.12.
    rng = Scripted(random=[0.4], uniform=[1.33], integers=[0, 0])
    assert zoom_out(rng, 96, 64, 1, 4) == View(0, 0, 127, 85)  # type: ignore[arg-type]
    assert zoom_out(Scripted(random=[0.5]), 96, 64, 1, 4) is None  # type: ignore[arg-type]


def test_zoom_out_holds_the_whole_image_with_every_place_alike() -> None:
    rng, factors, lefts = generator(2), [], []
    for _ in range(2000):
        view = zoom_out(rng, 96, 64, 1.5, 4)
        if view is not None:
            factors.append(view.width / 96)
            assert view.left <= 0 <= view.left + view.width - 96
            assert view.top <= 0 <= view.top + view.height - 64
            assert view.width == pytest.approx(view.height * 1.5, abs=1.5)
            lefts.append(view.left / (96 - view.width))
    assert 910 < len(factors) < 1090  # 1000 expected, standard deviation 22
    assert 1.49 < min(factors) < 1.52
    assert 3.97 < max(factors) <= 4
    np.testing.assert_allclose(
        np.histogram(lefts, 4, (0, 1))[0] / len(lefts), 0.25, atol=0.055
    )  # four of 0.0137


def test_zoom_out_reaches_both_edges() -> None:
    views = [zoom_out(generator(seed), 4, 2, 1.6, 1.6) for seed in range(200)]
    # 6 x 3: two further columns, one further row.
    assert {(v.left, v.top) for v in views if v} == {(x, y) for x in (-2, -1, 0) for y in (-1, 0)}


def test_a_zoomed_out_two_by_two_image() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    out = show(image, View(-1, -1, 4, 4), (4, 4), interpolation=cv2.INTER_NEAREST)
    expected = np.full((4, 4, 3), FILL, np.uint8)
    expected[1:3, 1:3] = image
    np.testing.assert_array_equal(out, expected)
    assert FILL == (123, 116, 103)


# --- drawing --------------------------------------------------------------------------------------------------------


def test_a_view_inside_the_image_is_a_plain_crop() -> None:
    np.testing.assert_array_equal(
        show(IMAGE, View(10, 8, 48, 32), (96, 64)), cv2.resize(IMAGE[8:40, 10:58], (96, 64))
    )


def test_a_view_beside_the_image_is_all_fill() -> None:
    for view in (View(200, 0, 50, 50), View(0, -50, 50, 50), View(-10, 64, 200, 3)):
        assert (show(IMAGE, view, (96, 64)) == FILL).all()


def test_a_view_can_cross_any_border() -> None:
    padded = cv2.copyMakeBorder(IMAGE, 50, 50, 50, 50, cv2.BORDER_CONSTANT, value=FILL)
    for left, top in ((-20, -10), (70, -10), (-20, 40), (70, 40), (-20, 5), (10, -30)):
        window = padded[top + 50 : top + 90, left + 50 : left + 95]
        np.testing.assert_array_equal(show(IMAGE, View(left, top, 45, 40), (45, 40)), window)
        mirrored = show(IMAGE, View(left, top, 45, 40), (45, 40), flipped=True)
        np.testing.assert_array_equal(mirrored, window[:, ::-1])


def test_only_the_image_is_recoloured_not_the_fill() -> None:
    out = show(IMAGE, View(-10, -10, 116, 84), (116, 84), recolour=lambda part: 255 - part)
    np.testing.assert_array_equal(out[10:74, 10:106], 255 - IMAGE)
    assert (out[:10] == FILL).all()


def test_a_mirror_comes_before_the_resize() -> None:
    """It shows with the nearest pixel: of 4 columns shrunk to 2, columns 0 and 2 are taken; after a flip 3 and 1."""
    image = np.repeat(np.array([[[10], [20], [30], [40]]], np.uint8), 3, axis=2)
    for flipped, expected in ((False, [10, 30]), (True, [40, 20])):
        out = show(image, View(0, 0, 4, 1), (2, 1), interpolation=cv2.INTER_NEAREST, flipped=flipped)
        np.testing.assert_array_equal(out[0, :, 0], expected)


# --- crops of raw KITTI images --------------------------------------------------------------------------------------


def test_overlap_worked_by_hand() -> None:
    crops = np.array([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    boxes = np.array([[0.0, 0, 10, 10], [5, 5, 15, 15], [10, 0, 20, 10]])
    np.testing.assert_allclose(overlap(crops, boxes), [[1, 25 / 175, 0], [0, 0, 0]])


def test_boxes_are_kept_by_their_centres_and_clipped_to_the_last_pixel() -> None:
    crop = View(10, 20, 50, 40)
    given_boxes = labels(
        (0, 10, 30, 40),  # centre (15, 25)
        (0, 0, 20, 40),  # centre (10, 20): the crop's corner
        (0, 0, 19, 40),  # centre (9.5, 20): outside
        (50, 50, 68, 68),  # centre (59, 59): the last pixel, 49 and 39 in the crop
        (50, 50, 69, 68),  # centre (59.5, 59): beyond it
    )
    left = cut(given_boxes, crop)
    np.testing.assert_array_equal(left.classes, [1, 2, 4])
    np.testing.assert_array_equal(left.boxes, [[0, 0, 20, 20], [0, 0, 10, 20], [40, 30, 49, 39]])


def test_the_first_crop_that_meets_the_bound_is_taken() -> None:
    # Not whole; bound 0.5; of 50 tries (shares of width and height, then of the free places) two matter.
    draws = np.zeros(
        (TRIES, 4)
    )  # 48 x 32 at the upper left: no IoU with the first box, 400 / 1536 with the second
    draws[7] = [0.0, 0.0, 1 - 1e-9, 1 - 1e-9]  # the same at the lower right: IoU 1 with the first
    draws[9] = [0.0, 0.0, 0.98, 0.99]  # as good nearly, but later
    rng = Scripted(random=[0.143, draws], integers=[CROP_BOUNDS.index(0.5)])
    half = settings(random_crop_min_scale=0.5)
    crop = random_crop(rng, 96, 64, labels((48, 32, 96, 64), (0, 0, 20, 20)), half)  # type: ignore[arg-type]
    assert crop == View(48, 32, 48, 32)
    rng.assert_used_up()


def test_after_fifty_failures_the_choice_is_made_anew() -> None:
    draws = np.zeros((TRIES, 4))
    # Round one fails at 0.9, round two succeeds at 0.1 with the same crops; a third would keep the image whole.
    rng = Scripted(random=[0.9, draws, 0.9, draws], integers=[5, 1])
    half = settings(random_crop_min_scale=0.5)
    crop = random_crop(rng, 96, 64, labels((0, 0, 20, 20)), half)  # type: ignore[arg-type]
    assert crop == View(0, 0, 48, 32)
    rng.assert_used_up()
    rng = Scripted(random=[0.9, draws, 0.1429], integers=[5])
    assert random_crop(rng, 96, 64, labels((0, 0, 20, 20)), half) is None  # type: ignore[arg-type]


def test_the_bound_itself_is_not_enough_for_kitti() -> None:
    # 48 x 32 over a box of half its area within it: IoU 0.5 exactly.
    half, boxes = settings(random_crop_min_scale=0.5), labels((0, 0, 24, 32))
    for index, expected in ((2, View(0, 0, 48, 32)), (3, None)):
        rng = Scripted(random=[0.9, np.zeros((TRIES, 4)), 0.0], integers=[index])
        assert random_crop(rng, 96, 64, boxes, half) == expected  # type: ignore[arg-type]


def test_a_crop_keeps_its_promises() -> None:
    rng = generator(3)
    given_boxes = labels((5, 5, 30, 30), (40, 20, 80, 60))
    for _ in range(300):
        crop = random_crop(rng, 96, 64, given_boxes, CROPPING)
        if crop is None:
            continue
        assert 0.5 <= crop.width / crop.height <= 2
        assert int(0.3 * 96) <= crop.width <= 96
        assert int(0.3 * 64) <= crop.height <= 64
        assert 0 <= crop.left <= 96 - crop.width
        assert 0 <= crop.top <= 64 - crop.height
        edges = np.array([[crop.left, crop.top, crop.left + crop.width, crop.top + crop.height]], float)
        assert overlap(edges, given_boxes.boxes).max() > 0


def test_an_image_is_kept_whole_with_probability_one_in_seven() -> None:
    """Where any crop will do: one that can't miss a box that is everywhere, with any bound it can reach."""
    everywhere = labels((0, 0, 96, 64))
    nearly_whole = settings(random_crop_min_scale=0.96)
    whole = sum(
        random_crop(generator(seed), 96, 64, everywhere, nearly_whole) is None for seed in range(2000)
    )
    assert 226 <= whole <= 346  # 286 expected, standard deviation 15.7
    shares = np.array([[0.0, 0, 1, 1]])
    whole = sum(random_crop_in_shares(generator(seed), shares, nearly_whole) is None for seed in range(2000))
    assert 226 <= whole <= 346


def test_a_crop_too_small_for_a_pixel_is_never_taken() -> None:
    for seed in range(30):
        crop = random_crop(generator(seed), 3, 2, labels((0, 0, 3, 2)), settings(random_crop_min_scale=0.1))
        assert crop is None or min(crop.width, crop.height) >= 1


def test_images_without_boxes_are_never_cropped() -> None:
    for seed in range(20):
        assert random_crop(generator(seed), 96, 64, labels(), CROPPING) is None
        assert random_crop_in_shares(generator(seed), np.zeros((0, 4)), CROPPING) is None


# --- crops of TFRecord images ---------------------------------------------------------------------------------------


def test_a_crop_in_shares_worked_by_hand() -> None:
    half = settings(random_crop_min_scale=0.5, random_crop_max_scale=0.5)
    draws = np.zeros((TRIES, 4))  # half by half, at the upper left
    draws[3] = [0, 0, 1, 0.5]  # at the right, in the middle: 0.5, 0.25 .. 1, 0.75
    box = np.array([[0.5, 0.25, 1.0, 0.5]])  # half of that one: IoU 0.5, which is enough here
    rng = Scripted(random=[draws], integers=[CROP_BOUNDS.index(0.5)])
    crop = random_crop_in_shares(rng, box, half)  # type: ignore[arg-type]
    np.testing.assert_allclose(crop, [0.5, 0.25, 1.0, 0.75])
    rng = Scripted(random=[draws], integers=[CROP_BOUNDS.index(0.7), 6])
    assert random_crop_in_shares(rng, box, half) is None  # type: ignore[arg-type]
    rng.assert_used_up()


def test_a_tfrecord_crop_must_overlap_every_box() -> None:
    half = settings(random_crop_min_scale=0.5, random_crop_max_scale=0.5)
    boxes = np.array([[0.0, 0, 0.5, 0.5], [0.6, 0.6, 1.0, 1.0]])
    rng = Scripted(random=[np.zeros((TRIES, 4)), np.zeros((TRIES, 4))], integers=[1, 0])
    # With the bound 0.1 the second box is in the way; with 0 it isn't.
    crop = random_crop_in_shares(rng, boxes, half)  # type: ignore[arg-type]
    np.testing.assert_allclose(crop, [0, 0, 0.5, 0.5])
    rng.assert_used_up()


def test_a_tfrecord_crop_holds_at_least_one_centre() -> None:
    """A try without one doesn't end the round: the next one is looked at."""
    half = settings(random_crop_min_scale=0.5, random_crop_max_scale=0.5)
    draws = np.zeros((TRIES, 4))
    draws[4] = [0, 0, 1, 1]
    rng = Scripted(random=[draws], integers=[0])
    crop = random_crop_in_shares(rng, np.array([[0.8, 0.8, 0.9, 0.9]]), half)  # type: ignore[arg-type]
    np.testing.assert_allclose(crop, [0.5, 0.5, 1, 1])


def test_the_aspect_ratio_of_shares_can_be_a_single_one() -> None:
    boxes = np.array([[0.2, 0.2, 0.8, 0.8]])
    for aspect in (0.5, 1.0, 2.0):
        chosen = settings(random_crop_min_scale=0.3, random_crop_min_ar=aspect, random_crop_max_ar=aspect)
        crops = [random_crop_in_shares(generator(seed), boxes, chosen) for seed in range(60)]
        sides = np.array([crop[2:] - crop[:2] for crop in crops if crop is not None])
        assert len(sides) > 20
        np.testing.assert_allclose(sides[:, 0] / sides[:, 1], aspect)
        assert (sides.max(axis=1) >= 0.3).all()
        assert (sides <= 1).all()


def test_boxes_in_shares_are_kept_by_their_centres_and_clipped() -> None:
    boxes = np.array([[0.0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0.2, 0.2, 0.4, 0.9]])
    clipped, kept = cut_in_shares(boxes, np.array([0.25, 0.25, 0.75, 0.75]))
    # Centres: the crop's first corner belongs to it, its last one doesn't.
    np.testing.assert_array_equal(kept, [True, False, True])
    np.testing.assert_allclose(clipped[kept], [[0, 0, 0.5, 0.5], [0, 0, 0.3, 1]])


@bounded(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    least=st.floats(0.1, 0.9),
    corner=st.tuples(st.floats(0, 0.8), st.floats(0, 0.8)),
)
def test_crops_in_shares_stay_inside_and_keep_their_ratio(
    seed: int, least: float, corner: tuple[float, float]
) -> None:
    boxes = np.array([[corner[0], corner[1], corner[0] + 0.2, corner[1] + 0.2]])
    crop = random_crop_in_shares(generator(seed), boxes, settings(random_crop_min_scale=least))
    if crop is not None:
        sides = crop[2:] - crop[:2]
        assert (crop >= 0).all()
        assert (crop <= 1 + 1e-12).all()
        assert (sides >= least - 1e-9).all()
        assert 0.5 - 1e-9 <= sides[0] / sides[1] <= 2 + 1e-9
        assert cut_in_shares(boxes, crop)[1].any()
