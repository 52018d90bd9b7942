"""Random changes of colours: those of the raw-KITTI pipeline, and those of the TFRecord pipeline.

Both are split in two: drawing the amounts, and applying them. The amounts are plain numbers that can be worked
through by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from taomagic.engine.data.images import Image
from taomagic.spec.settings import AugmentationSettings

_LEVELS = np.arange(256, dtype=np.float64)
_IDENTITY = np.arange(256, dtype=np.uint8)
#: OpenCV keeps hues of 8-bit images in half degrees, so that they fit into a byte.
_HUES = 180

#: Luma and two colour axes (NTSC), in the three digits in which the standard is usually written, and DALI has them.
_RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


@dataclass(frozen=True, slots=True)
class Distortion:
    """A change of colours of the raw-KITTI pipeline. The defaults change nothing but what HSV costs.

    Attributes
    ----------
    contrast_first
        Whether contrast comes before saturation and hue, or after them.
    brightness
        Added to each channel, in levels of 255.
    contrast
        Factor on the distance of each channel from 127.5.
    saturation
        Factor on the saturation in HSV.
    hue
        Added to the hue, modulo 180, in OpenCV's half degrees.
    """

    contrast_first: bool
    brightness: float = 0.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0

    def apply(self, image: Image) -> Image:
        """Return the recoloured image.

        Levels are rounded to whole numbers before and after HSV, not between brightness and contrast; the way
        through 8-bit HSV and back, which itself shifts levels by up to 5, is taken even with saturation and hue
        unchanged. All that as in the original.

        Parameters
        ----------
        image
            ``[height, width, 3]`` uint8, RGB; left as it is.
        """
        before, after = np.clip(_LEVELS + self.brightness, 0, 255), _LEVELS
        if self.contrast_first:
            before = self._contrasted(before)
        else:
            after = self._contrasted(after)
        hsv = cv2.cvtColor(_looked_up(image, before), cv2.COLOR_RGB2HSV)
        if self.saturation != 1 or self.hue != 0:
            hues = (
                np.rint(np.mod(_LEVELS + self.hue, _HUES)) % _HUES
            )  # rounding may bring a hue to 180, which is 0
            saturations = np.rint(np.clip(_LEVELS * self.saturation, 0, 255))
            table = np.stack([hues, saturations, _LEVELS], axis=-1).astype(np.uint8)
            cv2.LUT(hsv, table[None], dst=hsv)
        return _looked_up(np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=hsv), np.uint8), after)

    def _contrasted(self, levels: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.clip(127.5 + self.contrast * (levels - 127.5), 0, 255)


def draw_distortion(rng: np.random.Generator, settings: AugmentationSettings) -> Distortion | None:
    """Choose brightness, contrast, saturation and hue, each with probability 0.5, and the order by a coin.

    Returns
    -------
    ``None`` where all four ranges are 0: then TAO leaves the step out.
    """
    if not (settings.brightness or settings.contrast or settings.saturation or settings.hue):
        return None
    contrast_first = bool(rng.random() < 0.5)
    chosen = rng.random(4) < 0.5
    ranges = (settings.brightness, settings.contrast, settings.saturation, settings.hue)
    brightness, contrast, saturation, hue = (rng.uniform(-1, 1, 4) * chosen * ranges).tolist()
    return Distortion(contrast_first, brightness, 1 + contrast, 1 + saturation, hue)


def _looked_up(image: Image, levels: NDArray[np.float64]) -> Image:
    """Return the image with each level replaced by the rounded entry of a table of 256."""
    table = np.rint(levels).astype(np.uint8)
    if np.array_equal(table, _IDENTITY):
        return image
    return np.asarray(cv2.LUT(image, table), np.uint8)


def turn(hue: float, saturation: float) -> NDArray[np.float64]:
    """Return the ``[3, 3]`` matrix of RGB that turns the colour axes of YIQ by degrees and scales them."""
    angle = np.deg2rad(hue)
    cos, sin = np.cos(angle) * saturation, np.sin(angle) * saturation
    axes = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    return np.asarray(_YIQ_TO_RGB @ axes @ _RGB_TO_YIQ)


@dataclass(frozen=True, slots=True)
class Twist:
    """A change of colours of the TFRecord pipeline. The defaults change nothing.

    Attributes
    ----------
    hue
        Turn of the two colour axes of YIQ, in degrees (not half degrees).
    saturation
        Factor on the two colour axes.
    contrast
        Factor on the distance of each channel from 128.
    brightness
        Factor on each channel, at the end.
    """

    hue: float = 0.0
    saturation: float = 1.0
    contrast: float = 1.0
    brightness: float = 1.0

    def matrix(self) -> NDArray[np.float64]:
        """Return all four as one ``[3, 4]`` matrix for (red, green, blue, 1): each of them is linear."""
        linear = turn(self.hue, self.saturation) * (self.contrast * self.brightness)
        offset = np.full((3, 1), self.brightness * 128 * (1 - self.contrast))
        return np.hstack([linear, offset])

    def apply(self, image: Image) -> Image:
        """Return the recoloured image.

        Nothing is rounded or clipped before the end, as in the original. OpenCV multiplies bytes in fixed point; its
        result is within one level of the exact one.

        Parameters
        ----------
        image
            ``[height, width, 3]`` uint8, RGB; left as it is.
        """
        if self == Twist():
            return image
        return np.asarray(cv2.transform(image, self.matrix()), np.uint8)


def draw_twist(rng: np.random.Generator, settings: AugmentationSettings) -> Twist:
    """Choose hue from U(0, h) degrees, saturation and contrast from 1 ± s and 1 ± c, brightness from 1 ± b/256.

    Each always applies; only the brightness counts in 256ths.
    """
    return Twist(
        float(rng.uniform(0, settings.hue)),
        float(rng.uniform(1 - settings.saturation, 1 + settings.saturation)),
        float(rng.uniform(1 - settings.contrast, 1 + settings.contrast)),
        float(rng.uniform(1 - settings.brightness / 256, 1 + settings.brightness / 256)),
    )
