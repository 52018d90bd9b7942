"""Random zoom-out and random crops: which part of the plane is shown.

Nothing here touches a pixel. A :class:`View` says what to draw; :func:`show` draws it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from taomagic.engine.data.images import Image
from taomagic.engine.data.labels import Labels
from taomagic.spec.settings import AugmentationSettings

#: Red, green, blue around an image that was zoomed out: ImageNet's mean, cut to whole levels as in TAO.
FILL = (123, 116, 103)
#: Least IoU between the crop and a box; one is drawn for every round of tries. SSD paper, section 2.2.
CROP_BOUNDS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
#: Probability of leaving the image whole, before each round of tries: one of seven choices.
KEEP_WHOLE = 0.143
TRIES = 50

#: A crop in shares of the image: x1, y1, x2, y2 within 0..1.
Shares = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class View:
    """A rectangle of whole pixels in image coordinates; it may reach beyond the image."""

    left: int
    top: int
    width: int
    height: int

    def part(self, inner: View) -> View:
        """Return a view that was given in the coordinates of this one, in those of the image."""
        return View(self.left + inner.left, self.top + inner.top, inner.width, inner.height)


def zoom_out(rng: np.random.Generator, width: int, height: int, least: float, most: float) -> View | None:
    """Return, with probability 0.5, a view that is larger by a random factor and holds the image somewhere.

    Every place on whole pixels is equally likely. ``None`` leaves the image as it is.
    """
    if rng.random() >= 0.5:
        return None
    factor = rng.uniform(least, most)
    wide, high = int(factor * width), int(factor * height)
    return View(int(rng.integers(width - wide, 1)), int(rng.integers(height - high, 1)), wide, high)


def random_crop(
    rng: np.random.Generator, width: int, height: int, labels: Labels, settings: AugmentationSettings
) -> View | None:
    """Return a crop of an image that overlaps at least one of the boxes enough, or ``None`` for the whole image.

    Round after round: leave it whole with probability 0.143, otherwise draw a least IoU and try 50 crops with
    independent width and height and any place on whole pixels. A crop is good when its aspect ratio (width / height,
    in pixels) is in the range of the settings and the IoU with some box is above the bound.
    """
    if len(labels.boxes) == 0:  # no crop could be good; TAO tries until it gives up
        return None
    least, most = settings.random_crop_min_scale, settings.random_crop_max_scale
    while rng.random() >= KEEP_WHOLE:
        bound = CROP_BOUNDS[rng.integers(len(CROP_BOUNDS))]
        draws = rng.random((TRIES, 4))
        sides = np.floor((least + (most - least) * draws[:, :2]) * (width, height))
        corners = np.floor(draws[:, 2:] * ((width, height) - sides + 1))
        aspect = sides[:, 0] / np.maximum(sides[:, 1], 1)
        fits = (aspect >= settings.random_crop_min_ar) & (aspect <= settings.random_crop_max_ar)
        fits &= sides.min(axis=1) >= 1
        crops = np.hstack([corners, corners + sides])[fits]
        good = (overlap(crops, labels.boxes) > bound).any(axis=1)
        if good.any():
            x1, y1, x2, y2 = crops[int(good.argmax())].astype(int).tolist()
            return View(x1, y1, x2 - x1, y2 - y1)
    return None


def cut(labels: Labels, crop: View) -> Labels:
    """Return the boxes with their centre in the crop, in its pixels, clipped to 0..dimension-1.

    The last column and row count as the crop's edge, for the centre too, as in the original.
    """
    last = np.array([crop.width - 1, crop.height - 1], np.float32)
    boxes = labels.boxes - np.array([crop.left, crop.top] * 2, np.float32)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = ((centres >= 0) & (centres <= last)).all(axis=1)
    return labels.moved(np.clip(boxes, 0, np.tile(last, 2))).keep(inside)


def random_crop_in_shares(
    rng: np.random.Generator, boxes: Shares, settings: AugmentationSettings
) -> Shares | None:
    """Return a crop as the TFRecord pipeline draws it, or ``None`` for the whole image.

    Keeping the image whole is one of seven equally likely choices, the others are the bounds. A crop is good when its
    aspect ratio, of shares and not of pixels, is in the range of the settings, *every* box overlaps it by at least
    the bound, and at least one box has its centre in it.

    Parameters
    ----------
    rng
        Decides.
    boxes
        ``[n, 4]`` in shares of the image.
    settings
        Ranges of the sides and of the aspect ratio. Where the two limits of the latter are equal, the sides are made
        to fit.
    """
    if len(boxes) == 0:
        return None
    least, most = settings.random_crop_min_scale, settings.random_crop_max_scale
    least_aspect, most_aspect = settings.random_crop_min_ar, settings.random_crop_max_ar
    while (choice := int(rng.integers(len(CROP_BOUNDS) + 1))) < len(CROP_BOUNDS):
        draws = rng.random((TRIES, 4))
        sides = least + (most - least) * draws[:, :2]
        if least_aspect == most_aspect:
            sides, fits = _with_aspect(sides, least_aspect), np.ones(TRIES, np.bool_)
        else:
            aspect = sides[:, 0] / sides[:, 1]
            fits = (aspect >= least_aspect) & (aspect <= most_aspect)
        corners = draws[:, 2:] * (1 - sides)
        crops = np.hstack([corners, corners + sides])[fits]
        good = (overlap(crops, boxes) >= CROP_BOUNDS[choice]).all(axis=1)
        good &= _holds_centre(crops, boxes).any(axis=1)
        if good.any():
            return np.asarray(crops[int(good.argmax())])
    return None


def _with_aspect(sides: NDArray[np.float64], aspect: float) -> NDArray[np.float64]:
    """Return the sides changed to one aspect ratio; the longer of the two stays as long as it was."""
    shape = np.array([aspect, 1.0])
    return np.asarray(sides.max(axis=1, keepdims=True) * shape / shape.max())


def _holds_centre(crops: Shares, boxes: Shares) -> NDArray[np.bool_]:
    """Return whether each crop holds the centre of each box, ``[crops, boxes]``; right and lower edge excluded."""
    centres = (boxes[None, :, :2] + boxes[None, :, 2:]) / 2
    return np.asarray(((centres >= crops[:, None, :2]) & (centres < crops[:, None, 2:])).all(axis=2))


def cut_in_shares(boxes: Shares, crop: Shares) -> tuple[Shares, NDArray[np.bool_]]:
    """Return all boxes clipped to the crop, in shares of it, and which of them have their centre in it."""
    low, side = np.tile(crop[:2], 2), np.tile(crop[2:] - crop[:2], 2)
    return np.clip((boxes - low) / side, 0, 1), _holds_centre(crop[None], boxes)[0]


def overlap(crops: NDArray[np.float64], boxes: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the IoU ``[crops, boxes]``."""
    # Coordinate by coordinate: with these few numbers each pass over small inner axes costs more than the arithmetic.
    left, top, right, bottom = boxes.T
    x1, y1, x2, y2 = crops.T[:, :, None]
    across = np.minimum(x2, right) - np.maximum(x1, left)
    down = np.minimum(y2, bottom) - np.maximum(y1, top)
    shared = np.maximum(across, 0) * np.maximum(down, 0)
    areas = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top)
    return np.asarray(shared / np.maximum(areas - shared, 1e-12))


def show(
    image: Image,
    view: View,
    size: tuple[int, int],
    *,
    interpolation: int = cv2.INTER_LINEAR,
    flipped: bool = False,
    recolour: Callable[[Image], Image] | None = None,
) -> Image:
    """Draw a view at the output size; what lies beyond the image is filled with :data:`FILL`.

    The result is that of recolouring, padding, cropping, mirroring and resizing one after another, level for level;
    only pixels that are shown are touched.

    Parameters
    ----------
    image
        The whole image, uint8.
    view
        What to show.
    size
        Output width and height.
    interpolation
        OpenCV's.
    flipped
        Whether to mirror it left to right, before the resize.
    recolour
        Changes the image's own pixels, one by one, before the resize.
    """
    height, width = image.shape[:2]
    x1, y1 = max(0, view.left), max(0, view.top)
    x2, y2 = min(width, view.left + view.width), min(height, view.top + view.height)
    if x2 <= x1 or y2 <= y1:
        # The crop of a zoomed-out image can lie wholly beside it.
        return np.full((size[1], size[0], 3), FILL, np.uint8)
    part = image[y1:y2, x1:x2]
    left, right = x1 - view.left, view.left + view.width - x2
    if recolour is not None:
        part = recolour(part)
    if flipped:
        part, left, right = np.asarray(cv2.flip(part, 1), np.uint8), right, left
    if part.shape[:2] != (view.height, view.width):
        top, bottom = y1 - view.top, view.top + view.height - y2
        part = np.asarray(
            cv2.copyMakeBorder(part, top, bottom, left, right, cv2.BORDER_CONSTANT, value=FILL), np.uint8
        )
    return np.asarray(cv2.resize(part, size, interpolation=interpolation), np.uint8)
