"""Each way of resizing: beside its library, and worked by hand."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st
from PIL import Image as Pillow

from taomagic.engine.data import images
from taomagic.engine.data.resizing import resize_bilinear, resize_bilinear_pillow, resize_lanczos
from tests.engine.data.conftest import settings

#: Nine columns of six rows: black but for column 4.
LINE = np.zeros((6, 9, 3), np.uint8)
LINE[:, 4] = 255
IMAGE = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
#: Not of one column: torch 2.13 forgets to resize their height when it is told to antialias.
SIZES = st.tuples(st.integers(2, 40), st.integers(2, 40))


def stretched_weights(source: int, target: int, radius: float, kernel: object) -> np.ndarray:
    """Return Pillow's weights ``[target, source]``: the kernel, stretched to an output pixel."""
    scale = max(source / target, 1.0)
    weights = np.zeros((target, source))
    for to in range(target):
        centre = (to + 0.5) * source / target
        first, last = (
            int(max(centre - radius * scale + 0.5, 0)),
            int(min(centre + radius * scale + 0.5, source)),
        )
        for column in range(first, last):
            weights[to, column] = kernel((column + 0.5 - centre) / scale)  # type: ignore[operator]
    return weights / weights.sum(axis=1, keepdims=True)


def triangle(x: float) -> float:
    return max(1 - abs(x), 0.0)


def lanczos(x: float) -> float:
    return float(np.sinc(x) * np.sinc(x / 3)) if abs(x) < 3 else 0.0


# --- by hand --------------------------------------------------------------------------------------------------------


def test_of_a_thin_line_opencv_sees_nothing_and_pillow_a_shade() -> None:
    """From 6 x 9 to 4 x 2: output centres are at columns 1.75 and 6.25 of the source, 4.5 apart."""
    # OpenCV: columns 1 and 2, 6 and 7; the line is none of them.
    np.testing.assert_array_equal(resize_bilinear(LINE, 2, 4), np.zeros((4, 2, 3)))
    # Pillow: a triangle of 4.5 to both sides of 2.25 (pixel centres at .5). Column 4 is 2.25 off: weight 0.5 of a sum
    # of 0.6111 + 0.8333 + 0.9444 + 0.7222 + 0.5 + 0.2778 + 0.0556 = 3.9444 (columns 0 to 6). 255 * 0.1268 = 32.3.
    np.testing.assert_array_equal(resize_bilinear_pillow(LINE, 2, 4), np.full((4, 2, 3), 32))
    # Lanczos over all nine: 36.
    assert round(255 * stretched_weights(9, 2, 3, lanczos)[0, 4]) == 36
    np.testing.assert_array_equal(resize_lanczos(LINE, 2, 4), np.full((4, 2, 3), 36))


def test_bilinear_weights_worked_by_hand() -> None:
    """One row of four levels, to two: centres at 0.5 and 2.5, halfway between two pixels each."""
    row = np.repeat(np.array([[[10], [21], [30], [40]]], np.uint8), 3, axis=2)
    np.testing.assert_array_equal(resize_bilinear(row, 2, 1)[0, :, 0], [15.5, 35])
    # Pillow's triangle reaches 2 to both sides of 1 and 3: (0.75 * 10 + 0.75 * 21 + 0.25 * 30) / 1.75 = 17.57.
    # And (0.25 * 21 + 0.75 * 30 + 0.75 * 40) / 1.75 = 33.
    np.testing.assert_array_equal(resize_bilinear_pillow(row, 2, 1)[0, :, 0], [18, 33])
    # To three: centres at 1/6, 3/2, 17/6.
    np.testing.assert_allclose(
        resize_bilinear(row, 3, 1)[0, :, 0], [10 + 11 / 6, 25.5, 30 + 10 * 5 / 6], atol=1e-4
    )


def test_lanczos_overshoots_beside_an_edge_and_bilinear_never_does() -> None:
    edge = np.full((8, 16, 3), 50, np.uint8)
    edge[:, 8:] = 200
    wide = resize_lanczos(edge, 64, 8)
    assert wide.min() < 50
    assert wide.max() > 200
    for inside in (resize_bilinear(edge, 64, 8), resize_bilinear_pillow(edge, 64, 8)):
        assert inside.min() == 50
        assert inside.max() == 200


def test_pillow_makes_grey_levels_of_whole_numbers() -> None:
    # 0.299 * 200 + 0.587 * 30 + 0.114 * 10 = 78.55
    one_colour = np.full((6, 9, 3), (200, 30, 10), np.uint8)
    for resize in (resize_lanczos, resize_bilinear_pillow):
        assert (resize(one_colour, 4, 2, grey=True) == 79).all()
    # Inference makes grey after the resize, deploy before it; that shows in the rounding.
    assert (
        resize_lanczos(IMAGE, 30, 20, grey=True) == resize_lanczos(IMAGE, 30, 20, grey=True)[..., :1]
    ).all()
    after = np.asarray(Pillow.fromarray(IMAGE).resize((30, 20), Pillow.Resampling.LANCZOS).convert("L"))
    before = np.asarray(Pillow.fromarray(IMAGE).convert("L").resize((30, 20), Pillow.Resampling.BILINEAR))
    np.testing.assert_array_equal(resize_lanczos(IMAGE, 30, 20, grey=True)[..., 1], after)
    np.testing.assert_array_equal(resize_bilinear_pillow(IMAGE, 30, 20, grey=True)[..., 1], before)


def test_a_grey_network_sees_the_rounded_level_minus_the_mean() -> None:
    grey = settings(output_channel=1)
    level = resize_lanczos(IMAGE, 96, 64, grey=True)
    np.testing.assert_allclose(images.preprocess(level, grey)[0], level[..., 0] - 117.3786, atol=1e-4)


# --- beside the libraries -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(30, 20), (70, 50), (140, 100), (33, 120), (1, 1)])
def test_each_is_its_library_pixel_by_pixel(size: tuple[int, int]) -> None:
    floats = cv2.resize(IMAGE.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(resize_bilinear(IMAGE, *size), floats)
    picture = Pillow.fromarray(IMAGE)
    expected = np.asarray(picture.resize(size, Pillow.Resampling.LANCZOS))
    np.testing.assert_array_equal(resize_lanczos(IMAGE, *size), expected)
    expected = np.asarray(picture.resize(size, Pillow.Resampling.BILINEAR))
    np.testing.assert_array_equal(resize_bilinear_pillow(IMAGE, *size), expected)


def test_sizes_are_width_then_height_and_colours_stay_in_order() -> None:
    one_colour = np.full((6, 9, 3), (200, 30, 10), np.uint8)
    for resized in (
        resize_bilinear(one_colour, 4, 2),
        resize_lanczos(one_colour, 4, 2),
        resize_bilinear_pillow(one_colour, 4, 2),
    ):
        assert resized.shape == (2, 4, 3)
        np.testing.assert_array_equal(resized[0, 0], (200, 30, 10))


def test_levels_are_floats_for_evaluation_and_bytes_otherwise() -> None:
    assert resize_bilinear(IMAGE, 33, 21).dtype == np.float32
    assert (resize_bilinear(IMAGE, 33, 21) % 1 != 0).any()
    assert resize_lanczos(IMAGE, 33, 21).dtype == np.uint8
    assert resize_bilinear_pillow(IMAGE, 33, 21).dtype == np.uint8


def test_resizing_to_the_same_size_changes_nothing() -> None:
    for resize in (resize_bilinear, resize_lanczos, resize_bilinear_pillow):
        np.testing.assert_array_equal(resize(IMAGE, 70, 50), IMAGE)


@bounded(max_examples=50, deadline=None)
@given(source=SIZES, target=SIZES, seed=st.integers(0, 1000))
def test_opencv_is_torch_without_antialias_and_pillow_torch_with_it(
    source: tuple[int, int], target: tuple[int, int], seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (*source, 3), dtype=np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    for resize, antialias, tolerance in (
        (resize_bilinear, False, 0.01),
        (resize_bilinear_pillow, True, 1.01),
    ):
        expected = torch.nn.functional.interpolate(
            tensor, target, mode="bilinear", antialias=antialias, align_corners=False
        )
        shown = resize(image, target[1], target[0])
        np.testing.assert_allclose(shown, expected[0].permute(1, 2, 0).numpy(), atol=tolerance)


@bounded(max_examples=50, deadline=None)
@given(source=st.integers(1, 60), target=st.integers(1, 60), seed=st.integers(0, 1000))
def test_pillow_stretches_its_kernel_over_the_source(source: int, target: int, seed: int) -> None:
    """Along one axis, so that nothing is rounded in between."""
    image = np.random.default_rng(seed).integers(0, 256, (3, source, 3), dtype=np.uint8)
    for resize, radius, kernel in ((resize_bilinear_pillow, 1, triangle), (resize_lanczos, 3, lanczos)):
        weights = stretched_weights(source, target, radius, kernel)
        expected = np.clip(np.einsum("tx,yxc->ytc", weights, image), 0, 255)
        np.testing.assert_allclose(resize(image, target, 3), expected, atol=0.51)
        upright = np.ascontiguousarray(image.transpose(1, 0, 2))
        np.testing.assert_allclose(resize(upright, 3, target), expected.transpose(1, 0, 2), atol=0.51)
