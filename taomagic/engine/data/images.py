"""Images: decoding, resizing, and the numbers that the network sees.

Decoded images are RGB, uint8, ``[height, width, 3]``.
"""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from taomagic.errors import DataProblem
from taomagic.spec.settings import AugmentationSettings

Image = NDArray[np.uint8]

#: Endings that count as images, in lower case.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif")
#: Blue, green, red subtracted from colour images and the level subtracted from grey ones (ImageNet's means in Caffe).
CAFFE_MEAN = (103.939, 116.779, 123.68)
GREY_MEAN = (117.3786,)
#: TAO's TFRecord pipeline has another default: torchvision's means times 255.
TFRECORD_MEAN = (103.53, 116.28, 123.675)
#: Weights of blue, green and red in a grey level.
_GREY_WEIGHTS = np.array([0.114, 0.587, 0.299], np.float32)
#: What may follow the end marker of a picture in practice (padding, appended metadata).
_TRAILER_BYTES = 1 << 16


def decode(encoded: bytes, name: str) -> Image:
    """Decode a picture.

    Grey and palette pictures become RGB, 16-bit levels are reduced to 8, an alpha channel is dropped. The EXIF
    orientation is ignored, as TAO's loader does: labels are given for the pixels as stored.

    Parameters
    ----------
    encoded
        The bytes of the file.
    name
        What to call it in messages.

    Raises
    ------
    DataProblem
        It isn't a picture, or is cut off or damaged.
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
        raise DataProblem(
            "the image is damaged, or isn't an image",
            where=name,
            hint="replace the file or remove it and its label",
        ) from error


def check_complete(encoded: bytes, name: str) -> None:
    """Raise for a picture that is empty or was cut off; OpenCV would fill the missing part with grey.

    Raises
    ------
    DataProblem
        As said.
    """
    if not encoded:
        raise DataProblem(
            "the image file is empty", where=name, hint="replace the file or remove it and its label"
        )
    marker = b"\xff\xd9" if encoded[:2] == b"\xff\xd8" else b"IEND" if encoded[:4] == b"\x89PNG" else b""
    if marker and encoded.rfind(marker, max(2, len(encoded) - _TRAILER_BYTES)) < 0:
        raise DataProblem(
            "the image file is cut off",
            where=name,
            hint="copy or download it again, or remove it and its label",
        )


def read(path: Path, *, shown_as: str | None = None) -> Image:
    """Read and decode an image file; see :func:`decode`."""
    name = shown_as or str(path)
    return decode(read_bytes(path, name), name)


def read_bytes(path: Path, name: str) -> bytes:
    """Return the content of an image file.

    Raises
    ------
    DataProblem
        It doesn't exist or can't be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataProblem("the image doesn't exist", where=name, hint="check the image folder") from None
    except OSError as error:
        raise DataProblem(f"the image can't be read: {error.strerror}", where=name) from error


def size_of(encoded: bytes, name: str) -> tuple[int, int]:
    """Return width and height of an encoded picture without decoding it.

    Raises
    ------
    DataProblem
        It isn't a picture, or was cut off.
    """
    from PIL import Image as Pillow

    check_complete(encoded, name)
    try:
        with Pillow.open(io.BytesIO(encoded)) as picture:
            return picture.size
    except Exception as error:
        raise DataProblem(
            "the image is damaged, or isn't an image",
            where=name,
            hint="replace the file or remove it and its label",
        ) from error


def resize_bilinear(image: Image, width: int, height: int) -> Image:
    """Return the image at another size, as training's validation and ``evaluate`` do it (OpenCV, not antialiased)."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)


def resize_lanczos(image: Image, width: int, height: int) -> Image:
    """Return the image at another size, as ``inference`` and INT8 calibration do it (Pillow, antialiased)."""
    from PIL import Image as Pillow

    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Pillow.fromarray(image).resize((width, height), Pillow.Resampling.LANCZOS), np.uint8)


def mean_of(settings: AugmentationSettings, *, tfrecords: bool = False) -> tuple[float, ...]:
    """Return what is subtracted: (blue, green, red) or (level,), from the settings or the pipeline's default."""
    if settings.image_mean is not None:
        return settings.image_mean
    if settings.output_channel == 1:
        return GREY_MEAN
    return TFRECORD_MEAN if tfrecords else CAFFE_MEAN


def preprocess(
    image: Image, settings: AugmentationSettings, mean: tuple[float, ...] | None = None
) -> NDArray[np.float32]:
    """Return what the network sees of an image of its input size.

    Parameters
    ----------
    image
        RGB, uint8, ``[output_height, output_width, 3]``.
    settings
        Says colour or grey.
    mean
        What to subtract; by default that of :func:`mean_of`.

    Returns
    -------
    ``[channels, height, width]`` float32: blue, green, red minus the mean, or grey minus the mean, not scaled.
    """
    channels = settings.output_channel
    out = np.empty((*image.shape[:2], channels), np.float32)
    preprocess_into(image, mean if mean is not None else mean_of(settings), out)
    return np.ascontiguousarray(out.transpose(2, 0, 1))


def preprocess_into(image: Image, mean: tuple[float, ...], out: NDArray[np.float32]) -> None:
    """Write what the network sees into ``out``, ``[height, width, channels]`` float32."""
    if out.shape[2] == 1:
        grey = image @ _GREY_WEIGHTS[::-1]
        np.subtract(grey, np.float32(mean[0]), out=out[:, :, 0])
        return
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    # One OpenCV pass from uint8 to float32 is several times as fast as NumPy's mixed-type subtraction.
    cv2.subtract(bgr, (*mean, 0.0), dst=out, dtype=cv2.CV_32F)  # type: ignore[call-overload]  # stubs lack scalars
