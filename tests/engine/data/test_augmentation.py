"""Both pipelines as a whole: beside slow ones that go step by step, and by their promises."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from taomagic.engine.data.augmentation import Labels, augment_kitti, augment_tfrecord
from taomagic.engine.data.images import preprocess
from taomagic.engine.data.labels import mirrored, scaled_to_whole_pixels, tidy
from taomagic.spec.settings import AugmentationSettings
from tests.engine.data.conftest import settings
from tests.engine.data.slow_augmentation import labels_of, slow_kitti, slow_tfrecord

Augment = Callable[..., tuple[np.ndarray, Labels]]
PIPELINES = pytest.mark.parametrize("augment", [augment_kitti, augment_tfrecord])

IMAGE = np.random.default_rng(1).integers(0, 256, (64, 96, 3), dtype=np.uint8)
#: Larger, and smooth enough to resemble a photograph.
PHOTO = cv2.resize(
    np.random.default_rng(2).integers(0, 256, (20, 60, 3), dtype=np.uint8),
    (311, 97),
    interpolation=cv2.INTER_CUBIC,
)
MOVING = settings(random_crop_min_scale=0.3, zoom_out_max_scale=4.0, random_flip=0.5)
WILD = settings(
    random_crop_min_scale=0.3,
    zoom_out_max_scale=4.0,
    random_flip=0.5,
    brightness=32,
    contrast=0.5,
    saturation=0.5,
    hue=18,
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def labels(*boxes: tuple[float, ...]) -> Labels:
    count = len(boxes)
    return Labels(
        np.array(boxes, np.float32).reshape(-1, 4), np.arange(1, count + 1), np.arange(count) % 2 == 1
    )


ON_PHOTO = labels((10, 20, 100, 80), (150, 5, 201, 90.5), (250.25, 2, 311, 40), (60, 60, 64, 64))


# --- beside the slow ones -------------------------------------------------------------------------------------------


def compare(
    augment: Augment, slow: Augment, chosen: AugmentationSettings, count: int = 70
) -> list[np.ndarray]:
    """Return the differences of the pixels; boxes, order, classes and marks must agree."""
    differences = []
    for seed in range(count):
        image, left = augment(generator(seed), PHOTO, ON_PHOTO, chosen)
        expected, boxes = slow(generator(seed), PHOTO, ON_PHOTO, chosen)
        right = labels_of(boxes)
        assert image.dtype == expected.dtype
        assert image.shape == (64, 96, 3)
        np.testing.assert_allclose(left.boxes, right.boxes, atol=1e-4)
        np.testing.assert_array_equal(left.classes, right.classes)
        np.testing.assert_array_equal(left.difficult, right.difficult)
        differences.append(np.abs(image.astype(np.float64) - expected))
    return differences


@pytest.mark.parametrize(
    "chosen",
    [
        MOVING,
        settings(random_flip=0.5),
        settings(random_crop_min_scale=0.2, random_crop_min_ar=0.2, random_crop_max_ar=5.0),
        settings(zoom_out_min_scale=1.3, zoom_out_max_scale=2.7),
        settings(
            zoom_out_max_scale=3.0, random_crop_min_scale=0.1, random_crop_max_scale=0.4, random_flip=0.9
        ),
    ],
)
def test_moved_pixels_are_exactly_those_of_pad_crop_flip_resize(chosen: AugmentationSettings) -> None:
    assert max(one.max() for one in compare(augment_kitti, slow_kitti, chosen)) == 0
    assert max(one.max() for one in compare(augment_tfrecord, slow_tfrecord, chosen)) == 0


def test_recoloured_pixels_are_those_of_recolouring_the_whole_image_first() -> None:
    """OpenCV rounds HSV otherwise at the end of a row than within it, so that a part may differ from the whole."""
    differences = compare(augment_kitti, slow_kitti, WILD)
    assert max(one.max() for one in differences) <= 4
    assert max(one.mean() for one in differences) < 0.15
    assert np.mean([one.mean() for one in differences]) < 0.05


def test_tfrecord_colours_are_within_one_level_of_exact_arithmetic() -> None:
    differences = compare(augment_tfrecord, slow_tfrecord, WILD)
    assert max(one.max() for one in differences) <= 1
    assert np.mean([one.mean() for one in differences]) < 0.3


# --- promises -------------------------------------------------------------------------------------------------------


def test_without_any_change_the_image_is_only_resized() -> None:
    for augment in (augment_kitti, augment_tfrecord):
        image, left = augment(generator(), IMAGE, labels((10, 20, 30, 40)), settings())
        np.testing.assert_array_equal(image, IMAGE)
        np.testing.assert_array_equal(left.boxes, [[10, 20, 30, 40]])


def test_an_untouched_image_is_resized_in_floats_from_kitti_folders_only() -> None:
    seen = set()
    for seed in range(40):
        image, _ = augment_kitti(generator(seed), PHOTO, labels(), settings())
        assert image.dtype == np.float32
        # Cubic and Lanczos overshoot; bytes would clip that.
        seen.add("beyond" if image.min() < 0 or image.max() > 255 else "within")
    assert seen == {"beyond", "within"}
    assert augment_tfrecord(generator(), PHOTO, labels(), settings())[0].dtype == np.uint8
    assert augment_kitti(generator(), PHOTO, labels(), settings(hue=1))[0].dtype == np.uint8


def test_kitti_uses_all_five_interpolations() -> None:
    expected = [
        cv2.resize(PHOTO.astype(np.float32), (96, 64), interpolation=mode)
        for mode in (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)
    ]
    counts = np.zeros(5, int)
    for seed in range(200):
        image, _ = augment_kitti(generator(seed), PHOTO, labels(), settings())
        counts += [np.array_equal(image, one) for one in expected]
    assert counts.sum() == 200
    assert counts.min() > 25  # 40 expected, standard deviation 5.7


def test_tfrecord_always_resizes_bilinearly() -> None:
    for seed in range(20):
        image, _ = augment_tfrecord(generator(seed), PHOTO, labels(), settings())
        np.testing.assert_array_equal(image, cv2.resize(PHOTO, (96, 64), interpolation=cv2.INTER_LINEAR))


def test_kitti_boxes_are_rounded_clipped_and_dropped_when_empty() -> None:
    given_boxes = labels(
        (10.6, 20.4, 30.5, 40.6), (-5, -5, 200, 200), (50.6, 10, 51.4, 30), (60, 10, 60.4, 30)
    )
    _, left = augment_kitti(generator(), IMAGE, given_boxes, settings())
    # 30.5 goes to the even 30; 50.6..51.4 rounds to nothing, so does 60..60.4; the second ends at the last pixel.
    np.testing.assert_array_equal(left.boxes, [[11, 20, 30, 41], [0, 0, 95, 63]])
    np.testing.assert_array_equal(left.classes, [1, 2])


def test_tfrecord_boxes_are_not_rounded() -> None:
    _, left = augment_tfrecord(generator(), IMAGE, labels((10.5, 20.25, 30, 40)), settings(output_width=192))
    np.testing.assert_allclose(left.boxes, [[21, 20.25, 60, 40]])


@PIPELINES
def test_a_flip_happens_as_often_as_asked(augment: Augment) -> None:
    chosen = settings(random_flip=0.3)
    flips = 0
    for seed in range(400):
        image, left = augment(generator(seed), IMAGE, labels((10, 20, 30, 40)), chosen)
        flipped = not np.array_equal(image, IMAGE)
        np.testing.assert_array_equal(image, IMAGE[:, ::-1] if flipped else IMAGE)
        np.testing.assert_allclose(left.boxes, [[66, 20, 86, 40] if flipped else [10, 20, 30, 40]], atol=1e-4)
        flips += flipped
    assert 90 <= flips <= 150  # 120 expected, standard deviation 9.2


@PIPELINES
def test_a_flip_that_is_not_wanted_never_happens(augment: Augment) -> None:
    for seed in range(50):
        np.testing.assert_array_equal(augment(generator(seed), IMAGE, labels(), settings())[0], IMAGE)


@PIPELINES
def test_boxes_stay_over_their_objects(augment: Augment) -> None:
    """A white rectangle on black must stay under its box, whatever moves."""
    image = np.zeros((120, 200, 3), np.uint8)
    image[30:80, 60:140] = 255
    chosen = settings(
        output_width=300,
        output_height=200,
        random_crop_min_scale=0.3,
        zoom_out_max_scale=3.0,
        random_flip=0.5,
        random_crop_min_ar=0.3,
        random_crop_max_ar=4.0,
    )
    found = 0
    for seed in range(300):
        shown, left = augment(generator(seed), image, labels((60, 30, 140, 80)), chosen)
        if not len(left.boxes):
            continue
        ys, xs = np.nonzero((shown > 200).all(axis=2))
        seen = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        # A pixel of the source is up to 5 wide after a crop to 0.3 of the width; "the last pixel" takes one off.
        np.testing.assert_allclose(left.boxes[0], seen, atol=6)
        found += 1
    assert found > 250


@PIPELINES
def test_the_same_generator_gives_the_same_and_another_something_else(augment: Augment) -> None:
    outputs = set()
    for seed in range(20):
        first, left = augment(generator(seed), IMAGE, ON_PHOTO, WILD)
        again, left_again = augment(generator(seed), IMAGE, ON_PHOTO, WILD)
        np.testing.assert_array_equal(first, again)
        np.testing.assert_array_equal(left.boxes, left_again.boxes)
        outputs.add(first.tobytes())
    assert len(outputs) == 20


@PIPELINES
def test_the_source_image_and_labels_are_left_as_they_are(augment: Augment) -> None:
    image, boxes = PHOTO.copy(), ON_PHOTO.boxes.copy()
    for seed in range(30):
        shown, _ = augment(generator(seed), image, ON_PHOTO, WILD)
        shown[:] = 0
    np.testing.assert_array_equal(image, PHOTO)
    np.testing.assert_array_equal(ON_PHOTO.boxes, boxes)


@PIPELINES
def test_a_network_with_one_channel_gets_one(augment: Augment) -> None:
    grey = settings(output_channel=1, random_crop_min_scale=0.3, brightness=32)
    image, _ = augment(generator(3), PHOTO, ON_PHOTO, grey)
    seen = preprocess(image, grey)
    assert seen.shape == (1, 64, 96)
    weighed = image.astype(np.float64) @ [0.299, 0.587, 0.114] - 117.3786
    np.testing.assert_allclose(seen[0], weighed, atol=1e-3)


box = st.tuples(st.floats(0, 290), st.floats(0, 90), st.floats(3, 311), st.floats(3, 97), st.booleans()).map(
    lambda b: (b[0], b[1], min(b[0] + b[2], 311.0), min(b[1] + b[3], 97.0), b[4])
)


@PIPELINES
@bounded(max_examples=50, deadline=None)
@given(boxes=st.lists(box, max_size=6), seed=st.integers(0, 2**32), chosen=st.sampled_from([WILD, MOVING]))
def test_boxes_stay_inside_whole_and_in_order(
    augment: Augment, boxes: list[tuple[float, ...]], seed: int, chosen: AugmentationSettings
) -> None:
    given_labels = Labels(
        np.array([one[:4] for one in boxes], np.float32).reshape(-1, 4),
        np.arange(1, len(boxes) + 1),
        np.array([one[4] for one in boxes], np.bool_),
    )
    image, left = augment(generator(seed), PHOTO, given_labels, chosen)
    assert image.shape == (64, 96, 3)
    assert left.boxes.dtype == np.float32
    assert left.boxes.shape == (len(left.classes), 4)
    assert (left.boxes >= 0).all()
    last = (95, 63) if augment is augment_kitti else (96, 64)
    assert (left.boxes[:, 2:] <= np.array(last) + 1e-4).all()
    assert (left.boxes[:, 2:] > left.boxes[:, :2]).all()
    assert (np.diff(left.classes) > 0).all()
    np.testing.assert_array_equal(left.difficult, given_labels.difficult[left.classes - 1])
    if augment is augment_tfrecord and len(boxes):
        assert len(left.boxes) >= 1


# --- boxes alone ----------------------------------------------------------------------------------------------------


def test_mirrored_boxes_worked_by_hand() -> None:
    np.testing.assert_array_equal(mirrored(labels((10, 20, 30, 40)).boxes, 96), [[66, 20, 86, 40]])


def test_halves_are_rounded_to_even() -> None:
    boxes = labels((0.5, 1.5, 2.5, 3.5)).boxes
    np.testing.assert_array_equal(scaled_to_whole_pixels(boxes, 1, 1), [[0, 2, 2, 4]])
    np.testing.assert_array_equal(scaled_to_whole_pixels(boxes, 2, 3), [[1, 4, 5, 10]])  # 4.5 and 10.5


def test_tidy_drops_upside_down_boxes() -> None:
    kept = tidy(labels((10, 10, 5, 20), (1, 1, 3, 3), (200, 1, 300, 3), (94, 1, 200, 3)), 96, 64)
    np.testing.assert_array_equal(kept.boxes, [[1, 1, 3, 3], [94, 1, 95, 3]])
    np.testing.assert_array_equal(kept.classes, [2, 4])
