"""The drawn scenes: exact boxes, sensible labels, the same bytes for the same seed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from taomagic.samples.scenes import CLASSES, LEAST_VISIBLE, Scene, draw_scene

WIDTH, HEIGHT = 480, 160


def scene(number: int, width: int = WIDTH, height: int = HEIGHT) -> Scene:
    return draw_scene(np.random.Generator(np.random.Philox(key=[5, number])), width, height)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [scene(number) for number in range(60)]


def covered(one: Scene, index: int) -> np.ndarray:
    """Return the image pixels of an object, hidden ones included."""
    canvas = np.zeros(one.owners.shape, np.bool_)
    window = one.sprites[index].window(canvas.shape[1], canvas.shape[0])
    assert window is not None
    rows, columns, own_rows, own_columns = window
    canvas[rows, columns] = one.sprites[index].mask[own_rows, own_columns]
    return canvas


def test_boxes_are_exactly_the_extent_of_the_drawn_mask(scenes: list[Scene]) -> None:
    for one in scenes:
        for index, thing in enumerate(one.objects):
            mask = covered(one, index)
            ys, xs = np.nonzero(mask)
            assert thing.box == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)


def test_every_visible_pixel_lies_in_its_objects_box(scenes: list[Scene]) -> None:
    for one in scenes:
        for index, thing in enumerate(one.objects):
            ys, xs = np.nonzero(one.owners == index)
            if len(xs):
                x1, y1, x2, y2 = thing.box
                assert x1 <= xs.min()
                assert xs.max() < x2
                assert y1 <= ys.min()
                assert ys.max() < y2


def test_occlusion_follows_the_visible_share(scenes: list[Scene]) -> None:
    seen = set()
    for one in scenes:
        for index, thing in enumerate(one.objects):
            share = (one.owners == index).sum() / covered(one, index).sum()
            expected = 0 if share >= 0.8 else 1 if share >= 0.5 else 2
            assert thing.occlusion == expected
            seen.add(thing.occlusion)
    assert seen == {0, 1, 2}


def test_what_nobody_can_see_is_dont_care(scenes: list[Scene]) -> None:
    names = set()
    for one in scenes:
        for index, thing in enumerate(one.objects):
            share = (one.owners == index).sum() / one.sprites[index].mask.sum()
            if share < LEAST_VISIBLE:
                assert thing.name == "DontCare"
            names.add(thing.name)
    assert names == {*CLASSES, "DontCare"}


def test_truncation_is_the_share_of_the_box_outside_the_image(scenes: list[Scene]) -> None:
    truncated = 0
    for one in scenes:
        for index, thing in enumerate(one.objects):
            sprite = one.sprites[index]
            ys, xs = np.nonzero(sprite.mask)
            whole = (xs.max() - xs.min() + 1) * (ys.max() - ys.min() + 1)
            x1, y1, x2, y2 = thing.box
            assert thing.truncation == pytest.approx(1 - (x2 - x1) * (y2 - y1) / whole)
            truncated += thing.truncation > 0
    assert truncated > 3


def test_label_rows_have_fifteen_fields_that_agree_with_the_camera(scenes: list[Scene]) -> None:
    for one in scenes:
        for thing in one.objects:
            fields = thing.label_row().split()
            assert len(fields) == 15
            if fields[0] == "DontCare":
                assert fields[1:4] == ["-1", "-1", "-10"]
                continue
            x, _, z = thing.location
            turn = thing.alpha - (thing.rotation_y - math.atan2(x, z))
            assert math.isclose(math.remainder(turn, 2 * math.pi), 0, abs_tol=1e-9)
            assert -math.pi <= thing.rotation_y <= math.pi
            # The drawn figure is about as high as the real one seen from that distance.
            assert z <= 24
            assert all(1.3 < side < 2.1 for side in thing.dimensions[:1])


def test_a_seed_gives_the_same_scene_and_another_seed_another() -> None:
    assert scene(3).image.tobytes() == scene(3).image.tobytes()
    assert scene(3).objects == scene(3).objects
    assert scene(3).image.tobytes() != scene(4).image.tobytes()


@pytest.mark.parametrize(("width", "height"), [(64, 64), (96, 320), (300, 300), (1242, 375)])
def test_any_size_can_be_drawn(width: int, height: int) -> None:
    for number in range(3):
        one = scene(number, width, height)
        assert one.image.shape == (height, width, 3)
        for thing in one.objects:
            x1, y1, x2, y2 = thing.box
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height


def test_most_objects_are_large_enough_to_learn_from(scenes: list[Scene]) -> None:
    heights = [t.box[3] - t.box[1] for one in scenes for t in one.objects if t.name != "DontCare"]
    widths = [t.box[2] - t.box[0] for one in scenes for t in one.objects if t.name == "Pedestrian"]
    assert np.mean(np.array(heights) > 16) > 0.85
    assert np.mean(np.array(widths) >= 8) > 0.85
