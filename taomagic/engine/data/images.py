"""Images: the numbers that the network sees; :mod:`.decoding` reads images, :mod:`.resizing` resizes them.

Decoded images are RGB, uint8, ``[height, width, 3]``.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from taomagic.engine.data.decoding import (
    SUFFIXES,
    Image,
    check_complete,
    decode,
    read,
    read_bytes,
    size_in_header,
    size_of,
    size_of_file,
)
from taomagic.engine.data.resizing import resize_bilinear, resize_bilinear_pillow, resize_lanczos
from taomagic.spec.settings import AugmentationSettings

__all__ = [
    "GREY_SHARES",
    "SUFFIXES",
    "Image",
    "Pixels",
    "check_complete",
    "decode",
    "mean_of",
    "preprocess",
    "preprocess_into",
    "read",
    "read_bytes",
    "resize_bilinear",
    "resize_bilinear_pillow",
    "resize_lanczos",
    "size_in_header",
    "size_of",
    "size_of_file",
]

#: An image whose levels may have been interpolated without rounding.
Pixels = NDArray[np.uint8] | NDArray[np.float32]

#: Blue, green, red subtracted from colour images and the level subtracted from grey ones (ImageNet's means in Caffe).
CAFFE_MEAN = (103.939, 116.779, 123.68)
GREY_MEAN = (117.3786,)
#: TAO's TFRecord pipeline has another default: torchvision's means times 255.
TFRECORD_MEAN = (103.53, 116.28, 123.675)
#: Shares of red, green and blue in a grey level.
GREY_SHARES = np.array([0.299, 0.587, 0.114], np.float32)


def mean_of(settings: AugmentationSettings, *, tfrecords: bool = False) -> tuple[float, ...]:
    """Return what is subtracted: (blue, green, red) or (level,), from the settings or the pipeline's default."""
    if settings.image_mean is not None:
        return settings.image_mean
    if settings.output_channel == 1:
        return GREY_MEAN
    return TFRECORD_MEAN if tfrecords else CAFFE_MEAN


def preprocess(
    image: Pixels, settings: AugmentationSettings, mean: tuple[float, ...] | None = None
) -> NDArray[np.float32]:
    """Return what the network sees of an image of its input size.

    Parameters
    ----------
    image
        RGB, uint8 or float32, ``[output_height, output_width, 3]``.
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


def preprocess_into(image: Pixels, mean: tuple[float, ...], out: NDArray[np.float32]) -> None:
    """Write what the network sees into ``out``, ``[height, width, channels]`` float32."""
    if out.shape[2] == 1:
        grey = image @ GREY_SHARES
        np.subtract(grey, np.float32(mean[0]), out=out[:, :, 0])
        return
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    # One OpenCV pass from uint8 to float32 is several times as fast as NumPy's mixed-type subtraction.
    cv2.subtract(bgr, (*mean, 0.0), dst=out, dtype=cv2.CV_32F)  # type: ignore[call-overload]  # stubs lack scalars
