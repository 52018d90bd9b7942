"""Odd pictures become RGB bytes of their stored size, or one clear error that names the file."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from taomagic.engine.data.decoding import decode, read_file, size_in_header, size_of, size_of_file
from taomagic.engine.data.loading import TrainingData, ValidationData
from taomagic.errors import DataProblem
from taomagic.project.paths import PathMap
from tests.engine.data.conftest import ROOT, experiment, row

RED, BLUE = (200, 30, 40), (20, 60, 220)
#: Left half red, right half blue, 30×20.
PIXELS = np.zeros((20, 30, 3), np.uint8)
PIXELS[:, :15], PIXELS[:, 15:] = RED, BLUE
PICTURE = Pillow.fromarray(PIXELS)


def encoded(kind: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture = PICTURE.quantize(8) if mode == "P" else PICTURE.convert(mode, dither=Pillow.Dither.NONE)
    picture.save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def turned() -> bytes:
    exif = Pillow.Exif()
    exif[0x0112] = 6  # a camera held upright
    return encoded("JPEG", exif=exif, quality=95)


COLOURED: dict[str, Callable[[], bytes]] = {
    "PNG": partial(encoded, "PNG"),
    "palette": lambda: encoded("PNG", "P"),
    "palette with a transparent colour": lambda: encoded("PNG", "P", transparency=0),
    "alpha": lambda: encoded("PNG", "RGBA"),
    "16 bits": cv2.imencode(".png", PIXELS[..., ::-1].astype(np.uint16) * 257)[1].tobytes,
    "CMYK": lambda: encoded("JPEG", "CMYK", quality=95),
    "progressive": lambda: encoded("JPEG", progressive=True, quality=95),
    "turned by EXIF": turned,
    "GIF": partial(encoded, "GIF"),
    "animation": lambda: encoded("GIF", save_all=True, append_images=[PICTURE.rotate(180)]),
    "BMP": partial(encoded, "BMP"),
}
GREY: dict[str, tuple[Callable[[], bytes], int]] = {
    "PNG": (lambda: encoded("PNG", "L"), 82),
    "JPEG": (lambda: encoded("JPEG", "L", quality=95), 82),
    "with alpha": (lambda: encoded("PNG", "LA"), 82),
    "one bit": (lambda: encoded("PNG", "1"), 0),
    "16 bits": (cv2.imencode(".png", np.full((20, 30), 0xAB12, np.uint16))[1].tobytes, 0xAB),
}


@pytest.mark.parametrize("kind", COLOURED)
def test_coloured_pictures_of_every_kind(kind: str) -> None:
    content = COLOURED[kind]()
    image = decode(content, kind)
    assert (image.shape, image.dtype) == ((20, 30, 3), np.uint8)
    np.testing.assert_allclose(image[10, 2].astype(int), RED, atol=3)
    np.testing.assert_allclose(image[10, 27].astype(int), BLUE, atol=3)
    # Neither is the picture turned nor its size: labels are in pixels as stored.
    assert size_of(content, kind) == (30, 20)


@pytest.mark.parametrize("kind", GREY)
def test_grey_pictures_get_three_equal_channels(kind: str) -> None:
    make, level = GREY[kind]
    image = decode(make(), kind)
    assert image.shape == (20, 30, 3)
    assert (image[..., 0] == image[..., 1]).all()
    assert (image[..., 0] == image[..., 2]).all()
    assert abs(int(image[10, 2, 0]) - level) <= 1


def test_a_single_pixel_is_a_picture() -> None:
    _, content = cv2.imencode(".png", PIXELS[:1, :1, ::-1])
    np.testing.assert_array_equal(decode(content.tobytes(), ""), PIXELS[:1, :1])


# Of an animation cut off late the first picture is whole.
@pytest.mark.parametrize("kind", [*(kind for kind in COLOURED if kind != "animation"), "text"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_what_is_cut_off_or_no_picture_is_named(kind: str, share: float) -> None:
    content = COLOURED[kind]() if kind in COLOURED else b"not a picture at all" * 5
    for look in (decode, size_of) if kind not in ("GIF", "BMP") else (decode,):
        with pytest.raises(DataProblem) as caught:
            look(content[: int(len(content) * share)], "/workspace/image.png")
        assert caught.value.where == "/workspace/image.png"
        assert caught.value.hint


def test_a_picture_too_large_to_decode_says_so() -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    assert size_of(content, "") == (100_000, 100_000)
    with pytest.raises(DataProblem, match="too many pixels"):
        decode(content, "huge.png")


def test_sizes_are_read_from_headers(tmp_path: Path) -> None:
    path = tmp_path / "image"
    for make in COLOURED.values():
        path.write_bytes(make())
        assert size_in_header(path) == (30, 20)
    path.write_bytes(b"not a picture")
    assert size_in_header(path) is None
    assert size_in_header(tmp_path) is None
    assert size_in_header(tmp_path / "none") is None


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    kind=st.sampled_from([*COLOURED, "text", "large"]),
    share=st.sampled_from([0.0, 0.01, 0.5, 0.97, 1.0]),
    trailer=st.sampled_from([0, 1, 60, 63, 64, 4000, 65_000, 70_000]),
)
def test_a_files_two_ends_tell_what_its_bytes_do(
    tmp_path: Path, kind: str, share: float, trailer: int
) -> None:
    content = COLOURED[kind]() if kind in COLOURED else b"not a picture at all" * 5
    if kind == "large":
        noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
        # With a thumbnail, which has an end of its own.
        content = cv2.imencode(".jpg", noise)[1].tobytes()
        content = (
            content[:2] + b"\xff\xe1\x00\x10" + COLOURED["progressive"]()[:12] + b"\xff\xd9" + content[2:]
        )
    content = content[: int(len(content) * share)] + bytes(trailer)
    path = tmp_path / "image"
    path.write_bytes(content)

    def outcome(look: Callable[[], tuple[int, int]]) -> tuple[int, int] | str:
        try:
            return look()
        except DataProblem as problem:
            return problem.message

    assert outcome(lambda: size_of_file(path, "image")) == outcome(lambda: size_of(content, "image"))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(DataProblem, match=r"doesn't exist|can't be read") as caught:
            size_of_file(path, "/workspace/image.png")
        assert caught.value.where == "/workspace/image.png"


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"", b"x", bytes(100_000)):
        path.write_bytes(content)
        assert read_file(path) == content
    assert read_file("/proc/self/cmdline")  # says that it has no bytes


#: Pieces of pictures, so that random bytes get past the first look.
_STARTS = st.sampled_from([b"", *(make()[:n] for make in COLOURED.values() for n in (8, 40, 10_000))])
_ENDS = st.sampled_from([b"", b"\xff\xd9", b"\0\0\0\0IEND\xaeB`\x82", b";"])


@hypothesis_settings(max_examples=150, deadline=None)
@given(start=_STARTS, middle=st.binary(max_size=300), end=_ENDS)
def test_random_bytes_give_a_picture_or_one_clear_error(start: bytes, middle: bytes, end: bytes) -> None:
    for look in (decode, size_of):
        said = None
        try:
            assert len(look(start + middle + end, "random")) > 0
        except DataProblem as problem:
            said = problem
        assert said is None or (said.where == "random" and said.hint)


# -- in a data set -------------------------------------------------------------------------------------------------


def test_odd_pictures_can_be_trained_on(kitti: Path, paths: PathMap) -> None:
    kinds = [make() for make in COLOURED.values()] + [make() for make, _ in GREY.values()]
    for number, content in enumerate(kinds):
        # All of them under the wrong ending: what is in the file counts.
        (kitti / f"image_2/odd{number}.png").write_bytes(content)
        (kitti / f"label_2/odd{number}.txt").write_text(row("Car", (1, 1, 14, 19)) + "\n")
    for channels in (1, 3):
        one = experiment(output_channel=channels)
        for batches in (TrainingData(one, paths, 1).epoch(1, 8), ValidationData(one, paths).batches(8)):
            found = list(batches)
            assert sum(len(batch) for batch in found) == 10 + len(kinds)
            assert {batch.images.shape[1] for batch in found} == {channels}
            assert all(bool(batch.images.isfinite().all()) for batch in found)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), "cut off"),
        (lambda path: path.write_text("not a picture"), "damaged, or isn't an image"),
        (lambda path: path.unlink() or path.mkdir(), "Is a directory"),
        (lambda path: path.unlink() or path.symlink_to("nowhere.png"), "doesn't exist"),
    ],
)
def test_an_image_that_cannot_be_used_is_named(
    kitti: Path, paths: PathMap, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(kitti / "image_2/000004.png")
    with pytest.raises(DataProblem, match=message) as caught:
        list(TrainingData(experiment(), paths, 1).epoch(1, 4))
    assert caught.value.where == f"{ROOT}/image_2/000004.png"
    assert caught.value.hint
