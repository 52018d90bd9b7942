"""How images get to the network's input size: four ways, because TAO has four.

=================================  ========================================  ================  ====================
stage                              function                                  library           levels
=================================  ========================================  ================  ====================
train, raw KITTI folders           one of five, at random                    OpenCV            bytes (1)
train, TFRecords                   bilinear, by four neighbours              DALI; here OpenCV bytes
validation in train, ``evaluate``  :func:`resize_bilinear`                   OpenCV            floats, not rounded
``inference``, INT8 calibration    :func:`resize_lanczos`                    Pillow            bytes
``tao deploy``                     :func:`resize_bilinear_pillow`            Pillow            bytes
=================================  ========================================  ================  ====================

(1) Floats where neither colours nor zoom-out nor crop came before; see
:func:`~taomagic.engine.data.augmentation.augment_kitti`.

The aspect ratio is ignored everywhere; the colour order is RGB up to here, and becomes BGR when the mean is subtracted.

**Two libraries, two bilinears.** When an image shrinks, OpenCV's (and ``torch.nn.functional.interpolate`` without
``antialias``) takes the four source pixels around each output pixel's centre and never looks at the others. Pillow's
(and torch's with ``antialias=True``) stretches its triangle over all source pixels that fall into the output pixel. So
a thin line can vanish in the one and fades in the other: of a white column 4 in nine black ones, shrunk to two,
OpenCV shows nothing, as its neighbours are columns 1, 2 and 6, 7; Pillow shows a level of 32 in both. Lanczos is wider
still and overshoots beside edges. A network that was trained on one of them and judged on another sees slightly other
pictures; ``docs/resizing.md`` has figures.
"""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from taomagic.engine.data.decoding import Image


class Resize(Protocol):
    """One of the two ways of Pillow below."""

    def __call__(self, image: Image, width: int, height: int, *, grey: bool = False) -> Image:
        """Return the image at another size."""
        ...


def resize_bilinear(image: Image, width: int, height: int) -> NDArray[np.float32]:
    """Return the image at another size, as training's validation and ``evaluate`` see it.

    OpenCV's ``INTER_LINEAR`` on floats: four neighbours, not antialiased, not rounded.

    Parameters
    ----------
    image
        ``[h, w, 3]`` uint8, RGB.
    width, height
        The size wanted, in pixels.

    Returns
    -------
    ``[height, width, 3]`` float32, RGB, within 0..255.
    """
    return np.asarray(
        cv2.resize(image.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR), np.float32
    )


def resize_lanczos(image: Image, width: int, height: int, *, grey: bool = False) -> Image:
    """Return the image at another size, as ``inference`` and INT8 calibration see it.

    Pillow's Lanczos filter: antialiased, rounded to bytes.

    Parameters
    ----------
    image
        ``[h, w, 3]`` uint8, RGB.
    width, height
        The size wanted, in pixels.
    grey
        Whether to make it grey afterwards, in Pillow's rounding: for networks with one input channel.

    Returns
    -------
    ``[height, width, 3]`` uint8; RGB, or the same grey level three times.
    """
    from PIL import Image as Pillow

    picture = Pillow.fromarray(image).resize((width, height), Pillow.Resampling.LANCZOS)
    return np.asarray((picture.convert("L") if grey else picture).convert("RGB"), np.uint8)


def resize_bilinear_pillow(image: Image, width: int, height: int, *, grey: bool = False) -> Image:
    """Return the image at another size, as the commands of ``tao deploy`` see it.

    Pillow's bilinear filter: antialiased, rounded to bytes.

    Parameters
    ----------
    image
        ``[h, w, 3]`` uint8, RGB.
    width, height
        The size wanted, in pixels.
    grey
        Whether to make it grey *before*, in Pillow's rounding: for networks with one input channel.

    Returns
    -------
    ``[height, width, 3]`` uint8; RGB, or the same grey level three times.
    """
    from PIL import Image as Pillow

    picture = Pillow.fromarray(image)
    picture = picture.convert("L") if grey else picture
    return np.asarray(picture.resize((width, height), Pillow.Resampling.BILINEAR).convert("RGB"), np.uint8)
