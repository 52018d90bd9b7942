"""Both pipelines: worked by hand where nothing is random, by their promises where something is."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from taomagic.engine.data import augmentation
from taomagic.engine.data.augmentation import (
    FILL,
    Labels,
    View,
    augment_kitti,
    augment_tfrecord,
    distort_colours,
    flip,
    random_crop,
    random_crop_relative,
    shift_colours,
    show,
    tidy,
    zoom_out,
)
from tests.engine.data.conftest import settings


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def labels(*boxes: tuple[float, ...]) -> Labels:
    count = len(boxes)
    return Labels(
        np.array(boxes, np.float32).reshape(-1, 4), np.arange(1, count + 1), np.zeros(count, np.bool_)
    )


class Scripted:
    """Stands in for a generator: gives the numbers of a script, one list per method."""

    def __init__(self, **script: list[object]) -> None:
        self._script = {name: list(values) for name, values in script.items()}

    def __getattr__(self, name: str) -> Callable[..., object]:
        return lambda *_, **__: np.asarray(self._script[name].pop(0))[()]


IMAGE = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)


def test_without_any_change_the_image_is_only_resized() -> None:
    for augment in (augment_kitti, augment_tfrecord):
        image, left = augment(generator(), IMAGE, labels((10, 20, 30, 40)), settings())
        np.testing.assert_array_equal(image, IMAGE)
        np.testing.assert_array_equal(left.boxes, [[10, 20, 30, 40]])


def test_kitti_boxes_are_rounded_clipped_and_dropped_when_empty() -> None:
    given = labels((10.6, 20.4, 30.5, 40.6), (-5, -5, 200, 200), (50.6, 10, 51.4, 30), (60, 10, 60.4, 30))
    _, left = augment_kitti(generator(), IMAGE, given, settings())
    # 50.6..51.4 rounds to nothing, so does 60..60.4; the second is clipped to the last pixel.
    np.testing.assert_array_equal(left.boxes, [[11, 20, 30, 41], [0, 0, 95, 63]])
    np.testing.assert_array_equal(left.classes, [1, 2])


def test_tfrecord_boxes_are_not_rounded() -> None:
    _, left = augment_tfrecord(generator(), IMAGE, labels((10.5, 20.25, 30, 40)), settings(output_width=192))
    np.testing.assert_allclose(left.boxes, [[21, 20.25, 60, 40]])


def test_flip_mirrors_pixels_and_boxes() -> None:
    image, boxes = flip(IMAGE, labels((10, 20, 30, 40)).boxes)
    np.testing.assert_array_equal(image, IMAGE[:, ::-1])
    np.testing.assert_array_equal(boxes, [[66, 20, 86, 40]])


def test_a_view_inside_the_image_is_a_plain_crop() -> None:
    image, boxes = show(IMAGE, labels((20, 20, 40, 40)).boxes, View(10, 8, 48, 32), (96, 64))
    np.testing.assert_array_equal(image, cv2.resize(IMAGE[8:40, 10:58], (96, 64)))
    np.testing.assert_allclose(boxes, [[20, 24, 60, 64]])


def test_a_view_twice_the_size_puts_the_image_on_the_fill_colour() -> None:
    image, boxes = show(
        IMAGE, labels((0, 0, 96, 64), (48, 32, 96, 64)).boxes, View(-48, -32, 192, 128), (96, 64)
    )
    np.testing.assert_array_equal(image[16:48, 24:72], cv2.resize(IMAGE, (48, 32)))
    outside = np.ones((64, 96), np.bool_)
    outside[16:48, 24:72] = False
    assert (image[outside] == FILL).all()
    np.testing.assert_allclose(boxes, [[24, 16, 72, 48], [48, 32, 72, 48]])


def test_a_view_beside_the_image_is_all_fill() -> None:
    image, _ = show(IMAGE, labels().boxes, View(200, 0, 50, 50), (96, 64))
    assert (image == FILL).all()


def test_boxes_follow_the_pixels_whatever_the_view() -> None:
    """A white rectangle must stay exactly under its box."""
    rng = generator(5)
    for _ in range(200):
        image = np.zeros((120, 200, 3), np.uint8)
        x1, y1 = rng.integers(0, 150), rng.integers(0, 80)
        x2, y2 = x1 + rng.integers(20, 50), y1 + rng.integers(20, 40)
        image[y1:y2, x1:x2] = 255
        view = View(*rng.uniform(-100, 0, 2), *rng.uniform(250, 500, 2))
        shown, boxes = show(image, labels((x1, y1, x2, y2)).boxes, view, (300, 200))
        ys, xs = np.nonzero((shown > 200).all(axis=2))
        if len(xs):
            found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
            np.testing.assert_allclose(found, boxes[0], atol=1.5)


def test_zoom_out_holds_the_whole_image() -> None:
    rng, factors = generator(2), []
    for _ in range(400):
        view = zoom_out(rng, View(0, 0, 96, 64), 1.5, 4)
        if view.width > 96:
            factors.append(view.width / 96)
            assert view.left <= 0 <= view.top + view.height - 64
            assert view.left + view.width >= 96
            assert view.top <= 0
    assert 150 < len(factors) < 250
    assert 1.48 < min(factors) < 1.7
    assert 3.8 < max(factors) <= 4


def test_zoom_out_worked_by_hand() -> None:
    rng = Scripted(random=[0.4, [0.25, 0.5]], uniform=[2.0])
    assert zoom_out(rng, View(0, 0, 96, 64), 1, 4) == View(-24, -32, 192, 128)  # type: ignore[arg-type]
    rng = Scripted(random=[0.6])
    assert zoom_out(rng, View(0, 0, 96, 64), 1, 4) == View(0, 0, 96, 64)  # type: ignore[arg-type]


CROPPING = settings(random_crop_min_scale=0.3)


def test_a_crop_keeps_its_promises() -> None:
    rng = generator(3)
    given = labels((5, 5, 30, 30), (40, 20, 80, 60))
    whole = View(0, 0, 96, 64)
    untouched = 0
    for _ in range(300):
        view, kept = random_crop(rng, whole, given, CROPPING)
        if view == whole:
            untouched += 1
            assert kept is given
            continue
        assert 0.5 <= view.width / view.height <= 2
        assert 0.3 * 96 - 1 <= view.width <= 96
        assert 0.3 * 64 - 1 <= view.height <= 64
        assert 0 <= view.left <= 96 - view.width
        assert 0 <= view.top <= 64 - view.height
        for box, identity in zip(kept.boxes, kept.classes, strict=True):
            before = given.boxes[identity - 1]
            centre = (before[:2] + before[2:]) / 2
            assert view.left < centre[0] < view.left + view.width
            assert view.top < centre[1] < view.top + view.height
            np.testing.assert_array_equal(
                box,
                np.clip(
                    before,
                    [view.left, view.top] * 2,
                    [view.left + view.width, view.top + view.height] * 2,
                ),
            )
    # One in seven at least, more where a high bound can't be met.
    assert 30 < untouched < 200


def test_the_first_crop_that_meets_the_bound_is_taken() -> None:
    # Rounds: keep whole? no; bound 0.5; shares of height and width, then of the free places.
    draws = np.zeros((augmentation.TRIES, 4))
    draws[0] = [0.0, 0.0, 0.0, 0.0]  # 48 x 32 at the upper left: IoU with the box 0
    draws[1] = [0.0, 0.0, 1 - 1e-9, 1 - 1e-9]  # the same at the lower right: IoU 1
    rng = Scripted(random=[0.5, draws], integers=[augmentation.CROP_BOUNDS.index(0.5)])
    half = settings(random_crop_min_scale=0.5)
    view, kept = random_crop(rng, View(0, 0, 96, 64), labels((48, 32, 96, 64), (0, 0, 20, 20)), half)  # type: ignore[arg-type]
    assert view == View(48, 32, 48, 32)
    np.testing.assert_array_equal(kept.classes, [1])


def test_a_tfrecord_crop_must_overlap_every_box() -> None:
    rng = generator(4)
    given = labels((5, 5, 60, 60), (30, 5, 90, 60))
    for _ in range(100):
        view, kept = random_crop_relative(rng, View(0, 0, 96, 64), given, CROPPING)
        assert 0.5 - 1e-6 <= (view.width / 96) / (view.height / 64) <= 2 + 1e-6
        assert len(kept.boxes) >= 1


def test_images_without_boxes_are_never_cropped() -> None:
    for crop in (random_crop, random_crop_relative):
        assert crop(generator(), View(0, 0, 96, 64), labels(), CROPPING)[0] == View(0, 0, 96, 64)


def recoloured(image: np.ndarray, changes: list[float], *, contrast_first: bool = True) -> np.ndarray:
    """Return an image with the given brightness, contrast, saturation and hue at full range."""
    rng = Scripted(random=[0.1 if contrast_first else 0.9, [0.1, 0.1, 0.1, 0.1]], uniform=[np.sign(changes)])
    change = distort_colours(
        rng,  # type: ignore[arg-type]
        settings(
            brightness=abs(changes[0]),
            contrast=abs(changes[1]),
            saturation=abs(changes[2]),
            hue=abs(changes[3]),
        ),
    )
    assert change is not None
    return change(image)


PIXEL = np.array([[[100, 150, 200]]], np.uint8)


def test_brightness_and_contrast_worked_by_hand() -> None:
    np.testing.assert_array_equal(recoloured(PIXEL, [20, 0, 0, 0])[0, 0], [120, 170, 220])
    np.testing.assert_array_equal(recoloured(PIXEL, [-120, 0, 0, 0])[0, 0], [0, 30, 80])
    # 127.5 + 1.5 * (120 - 127.5) = 116.25; (170) 191.25; (220) 266.25 -> 255
    np.testing.assert_array_equal(recoloured(PIXEL, [20, 0.5, 0, 0])[0, 0], [116, 191, 255])
    np.testing.assert_array_equal(
        recoloured(PIXEL, [20, 0.5, 0, 0], contrast_first=False)[0, 0], [116, 191, 255]
    )
    assert (recoloured(PIXEL, [100, 0.5, 0, 0], contrast_first=False)[0, 0] == [236, 255, 255]).all()


def test_saturation_and_hue_worked_in_hsv() -> None:
    hsv = cv2.cvtColor(PIXEL, cv2.COLOR_RGB2HSV).astype(int)
    hsv[..., 1] = np.rint(hsv[..., 1] * 0.5)
    hsv[..., 0] = (hsv[..., 0] - 18) % 180
    expected = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)
    np.testing.assert_array_equal(recoloured(PIXEL, [0, 0, -0.5, -18]), expected)


def test_hue_wraps_around() -> None:
    red = np.array([[[255, 0, 0]]], np.uint8)
    hsv = cv2.cvtColor(recoloured(red, [0, 0, 0, -18]), cv2.COLOR_RGB2HSV)
    assert hsv[0, 0, 0] == 162


def test_colours_are_left_alone_when_all_ranges_are_zero() -> None:
    assert distort_colours(generator(), settings()) is None
    assert shift_colours(generator(), IMAGE, settings()) is IMAGE


def test_tfrecord_contrast_is_about_128_and_brightness_a_factor() -> None:
    # uniform: hue, saturation, contrast, brightness
    rng = Scripted(uniform=[0.0, 1.0, 1.5, 1.1])
    image = np.full((2, 2, 3), 100, np.uint8)
    out = shift_colours(rng, image, settings(contrast=0.5))  # type: ignore[arg-type]
    np.testing.assert_allclose(out[0, 0], 1.1 * (128 + 1.5 * (100 - 128)), atol=1)


def test_tfrecord_hue_and_saturation_keep_the_brightness() -> None:
    rng = Scripted(uniform=[120.0, 0.5, 1.0, 1.0])
    out = shift_colours(rng, PIXEL, settings(hue=120, saturation=0.5))  # type: ignore[arg-type]
    weights = np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(out[0, 0] @ weights, PIXEL[0, 0] @ weights, atol=2)
    assert np.ptp(out[0, 0].astype(int)) < np.ptp(PIXEL[0, 0].astype(int))


@pytest.mark.parametrize("augment", [augment_kitti, augment_tfrecord])
def test_the_same_generator_gives_the_same_result(augment: Callable[..., tuple[np.ndarray, Labels]]) -> None:
    wild = settings(
        random_crop_min_scale=0.3,
        zoom_out_max_scale=4.0,
        brightness=32,
        contrast=0.5,
        saturation=0.5,
        hue=18,
        random_flip=0.5,
    )
    given = labels((10, 20, 60, 50), (50, 10, 90, 60))
    outputs = set()
    for seed in range(20):
        first, left = augment(generator(seed), IMAGE, given, wild)
        again, left_again = augment(generator(seed), IMAGE, given, wild)
        np.testing.assert_array_equal(first, again)
        np.testing.assert_array_equal(left.boxes, left_again.boxes)
        assert first.shape == (64, 96, 3)
        assert ((left.boxes >= -0.5) & (left.boxes <= [96.5, 64.5, 96.5, 64.5])).all()
        outputs.add(first.tobytes())
    assert len(outputs) == 20


def test_tidy_drops_upside_down_boxes() -> None:
    kept = tidy(labels((10, 10, 5, 20), (1, 1, 3, 3), (200, 1, 300, 3)), 96, 64)
    np.testing.assert_array_equal(kept.boxes, [[1, 1, 3, 3]])
