"""Reading picture files: every kind that data sets contain becomes RGB, uint8, ``[height, width, 3]``.

Why the EXIF orientation is ignored: KITTI and COCO labels give boxes in pixels as stored, and so do Pillow's ``size``
(which ``dataset_convert`` records) and the decoders that TAO reads its training images with. Turning the picture would
tear it from its boxes.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from taomagic.errors import DataProblem

Image = NDArray[np.uint8]

# What is wrong with a file is said once, by us; OpenCV would print its inner workings before.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

#: Endings that count as images, in lower case.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
#: What may follow the end marker of a picture in practice (padding, appended metadata).
_TRAILER_BYTES = 1 << 16
#: As much of a file as is read for its size; what isn't found there is left to Pillow.
_HEADER_BYTES = 1 << 16
#: As much is read of the beginning of a file that isn't read as a whole, and at first of its end.
_FIRST_LOOK_BYTES = 1 << 12
_LAST_LOOK_BYTES = 1 << 6
_PNG_SIZE = struct.Struct(">II")
_JPEG_SIZE = struct.Struct(">HH")
_FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_REPLACE = "replace the file or remove it and its label"


def decode(encoded: bytes, name: str) -> Image:
    """Decode a picture.

    Grey and palette pictures become RGB, so does CMYK; 16-bit levels are reduced to their upper 8 bits, an alpha
    channel is dropped, of an animation the first picture counts. What the file's name ends in doesn't matter. The
    EXIF orientation is ignored: labels are given for the pixels as stored.

    Parameters
    ----------
    encoded
        The bytes of the file.
    name
        What to call it in messages.

    Raises
    ------
    DataProblem
        It isn't a picture, is cut off or damaged, or larger than can be decoded.
    """
    check_complete(encoded, name)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(encoded, np.uint8), flags)
    except cv2.error:
        image = None
    if image is not None:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image), np.uint8)
    return _decode_with_pillow(encoded, name)


def _decode_with_pillow(encoded: bytes, name: str) -> Image:
    """Decode what OpenCV can't (GIF in some builds)."""
    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(encoded)) as picture:
            return np.array(picture.convert("RGB"), np.uint8)
    except Exception as error:  # Pillow raises many kinds for damaged data
        raise _unusable(name, error) from error


def _unusable(name: str, error: Exception) -> DataProblem:
    """Return the error for bytes that can't be decoded."""
    from PIL import Image as Pillow

    if isinstance(error, Pillow.DecompressionBombError):
        return DataProblem(
            "the image has too many pixels to be decoded", where=name, hint="scale it down, and its labels"
        )
    return DataProblem("the image is damaged, or isn't an image", where=name, hint=_REPLACE)


def check_complete(encoded: bytes, name: str) -> None:
    """Raise for a picture that is empty or was cut off; OpenCV would fill the missing part with grey.

    Raises
    ------
    DataProblem
        As said.
    """
    if not encoded:
        raise DataProblem("the image file is empty", where=name, hint=_REPLACE)
    if not _is_complete(encoded):
        raise DataProblem(
            "the image file is cut off",
            where=name,
            hint="copy or download it again, or remove it and its label",
        )


def _is_complete(encoded: bytes) -> bool:
    """Whether the end marker is there, where the kind of picture has one."""
    marker = b"\xff\xd9" if encoded[:2] == b"\xff\xd8" else b"IEND" if encoded[:4] == b"\x89PNG" else b""
    return not marker or encoded.rfind(marker, max(2, len(encoded) - _TRAILER_BYTES)) >= 0


def read(path: Path, *, shown_as: str | None = None) -> Image:
    """Read and decode an image file; see :func:`decode`."""
    name = shown_as or str(path)
    return decode(read_bytes(path, name), name)


def read_file(path: str | Path) -> bytes:
    """Return the content of a file; for thousands of small ones in half of pathlib's time.

    Raises
    ------
    OSError
        It can't be read.
    """
    file = os.open(path, os.O_RDONLY)
    try:
        parts = []
        # One byte more than there is: the usual file takes one call, and a second one to see its end.
        size = os.fstat(file).st_size + 1
        while part := os.read(file, size):
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    finally:
        os.close(file)


def read_bytes(path: str | Path, name: str) -> bytes:
    """Return the content of an image file.

    Raises
    ------
    DataProblem
        It doesn't exist or can't be read.
    """
    with _named(name):
        return read_file(path)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Turn the system's errors into one that names the image."""
    try:
        yield
    except FileNotFoundError:
        raise DataProblem("the image doesn't exist", where=name, hint="check the image folder") from None
    except OSError as error:
        raise DataProblem(f"the image can't be read: {error.strerror}", where=name, hint=_REPLACE) from error


def size_of(encoded: bytes, name: str) -> tuple[int, int]:
    """Return width and height of an encoded picture, as stored, without decoding it.

    Raises
    ------
    DataProblem
        It isn't a picture, or was cut off.
    """
    check_complete(encoded, name)
    if size := _size_of_jpeg_or_png(encoded):
        return size
    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(encoded)) as picture:
            return picture.size
    except Exception as error:
        raise _unusable(name, error) from error


def size_of_file(path: str | Path, name: str) -> tuple[int, int]:
    """Return width and height of an image file, as stored, reading only its beginning and its end.

    Raises
    ------
    DataProblem
        It is missing, isn't a picture, or was cut off.
    """
    with _named(name):
        file = os.open(path, os.O_RDONLY)
        try:
            length = os.fstat(file).st_size
            head = os.pread(file, _FIRST_LOOK_BYTES, 0)
            # The end marker is the last thing in most files; only where it isn't, what follows it is looked through.
            for reach in (_LAST_LOOK_BYTES, _TRAILER_BYTES):
                # Only the end counts: a thumbnail at the beginning has a marker of its own.
                ends = head[:4] + os.pread(file, reach, max(0, length - reach))
                if _is_complete(ends):
                    break
        finally:
            os.close(file)
    check_complete(ends if length else b"", name)
    if size := _size_of_jpeg_or_png(head):
        return size
    from PIL import Image as Pillow

    try:
        with Pillow.open(path) as picture:
            return picture.size
    except Exception as error:
        raise _unusable(name, error) from error


def size_in_header(path: Path) -> tuple[int, int] | None:
    """Return width and height of an image file, as stored, reading no more than its header; ``None`` if that fails."""
    try:
        with path.open("rb", buffering=0) as file:
            if size := _size_of_jpeg_or_png(file.read(_HEADER_BYTES)):
                return size
        from PIL import Image as Pillow

        with Pillow.open(path) as picture:
            return picture.size
    except Exception:  # decoding will say what is wrong, and about which image
        return None


def _size_of_jpeg_or_png(encoded: bytes) -> tuple[int, int] | None:
    """Return width and height of the two usual kinds of files, ``None`` if that takes more than a look.

    Pillow needs a quarter of a millisecond for a JPEG, as it also reads tables; this is thirty times as fast.
    """
    if encoded[:8] == b"\x89PNG\r\n\x1a\n" and encoded[12:16] == b"IHDR":
        width, height = _PNG_SIZE.unpack_from(encoded, 16) if len(encoded) >= 24 else (0, 0)
        return (width, height) if width and height else None
    if encoded[:2] != b"\xff\xd8":
        return None
    # ITU-T T.81, B.1.1: segments of a marker and a length; the frame header says the size.
    place = 2
    while place + 9 <= len(encoded) and encoded[place] == 0xFF:
        marker = encoded[place + 1]
        if marker in _FRAME_HEADERS:
            height, width = _JPEG_SIZE.unpack_from(encoded, place + 5)
            return (width, height) if width and height else None
        if marker < 0xC0 or 0xD0 <= marker <= 0xDA or marker == 0xFF:
            return None
        place += 2 + int.from_bytes(encoded[place + 2 : place + 4], "big")
    return None
