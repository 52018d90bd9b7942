"""Images of every kind become RGB bytes, and then what the network sees."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image as Pillow

from taomagic.engine.data import images
from taomagic.errors import DataProblem
from tests.engine.data.conftest import settings

RED = (200, 30, 10)


def encoded(mode: str, kind: str, colour: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    Pillow.new(mode, (8, 4), colour).save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF"])
def test_colours_come_out_as_red_green_blue(kind: str) -> None:
    image = images.decode(encoded("RGB", kind, RED), "a")
    assert image.shape == (4, 8, 3)
    assert image.dtype == np.uint8
    np.testing.assert_allclose(image[0, 0], RED, atol=1)


def test_grey_palette_and_alpha_images_become_colour_images() -> None:
    assert (images.decode(encoded("L", "PNG", 90), "a") == 90).all()
    palette = Pillow.new("RGB", (8, 4), RED).quantize(4)
    buffer = io.BytesIO()
    palette.save(buffer, "PNG")
    np.testing.assert_array_equal(images.decode(buffer.getvalue(), "a")[0, 0], RED)
    np.testing.assert_array_equal(images.decode(encoded("RGBA", "PNG", (*RED, 100)), "a")[0, 0], RED)


def test_sixteen_bit_levels_are_reduced_to_eight() -> None:
    _, png = cv2.imencode(".png", np.full((4, 8), 90 * 257, np.uint16))
    assert (images.decode(png.tobytes(), "a") == 90).all()


def test_the_exif_orientation_is_ignored() -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert images.decode(encoded("RGB", "JPEG", RED, exif=exif), "a").shape == (4, 8, 3)
    assert images.size_of(encoded("RGB", "JPEG", RED, exif=exif), "a") == (8, 4)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("damage", ["cut off", "empty", "something else", "garbage inside"])
def test_damaged_images_are_named(kind: str, damage: str) -> None:
    good = encoded("RGB", kind, RED)
    bad = {
        "cut off": good[: len(good) - 12],
        "empty": b"",
        "something else": b"not a picture at all",
        "garbage inside": good[:20] + b"\0" * (len(good) - 40) + good[-20:],
    }[damage]
    with pytest.raises(DataProblem) as caught:
        images.decode(bad, "/workspace/image_2/000001.png")
    assert "000001.png" in caught.value.where
    assert caught.value.hint


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match="doesn't exist") as caught:
        images.read(tmp_path / "none.png", shown_as="/workspace/none.png")
    assert caught.value.where == "/workspace/none.png"


def test_preprocessing_is_blue_green_red_minus_the_mean() -> None:
    image = np.full((64, 96, 3), RED, np.uint8)
    seen = images.preprocess(image, settings())
    assert seen.shape == (3, 64, 96)
    np.testing.assert_allclose(seen[:, 0, 0], [10 - 103.939, 30 - 116.779, 200 - 123.68], rtol=1e-6)
    np.testing.assert_allclose(images.preprocess(image, settings(), (1.0, 2.0, 3.0))[:, 5, 5], [9, 28, 197])
    np.testing.assert_allclose(
        images.preprocess(image, settings(image_mean=(0.0, 0.0, 5.0)))[:, 5, 5], [10, 30, 195]
    )


def test_grey_preprocessing_weighs_the_channels() -> None:
    image = np.full((64, 96, 3), RED, np.uint8)
    seen = images.preprocess(image, settings(output_channel=1))
    assert seen.shape == (1, 64, 96)
    np.testing.assert_allclose(seen[0, 0, 0], 0.114 * 10 + 0.587 * 30 + 0.299 * 200 - 117.3786, rtol=1e-5)


def test_the_tfrecord_pipeline_has_its_own_default_mean() -> None:
    assert images.mean_of(settings(), tfrecords=True) == (103.53, 116.28, 123.675)
    assert images.mean_of(settings(image_mean=(1.0, 2.0, 3.0)), tfrecords=True) == (1.0, 2.0, 3.0)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_both_libraries_decode_a_jpeg_alike(subsampling: int) -> None:
    """TAO reads with Pillow; what is read here with OpenCV must be the same pixels."""
    coarse = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    image = np.asarray(cv2.resize(coarse, (123, 71), interpolation=cv2.INTER_CUBIC), np.uint8)
    buffer = io.BytesIO()
    Pillow.fromarray(image).save(buffer, "JPEG", quality=80, subsampling=subsampling)
    with Pillow.open(buffer) as picture:
        expected = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(images.decode(buffer.getvalue(), "a"), expected)
