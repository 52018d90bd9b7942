"""Random changes of the training images: TAO's two pipelines, as plain functions.

The raw-KITTI pipeline is that of the original SSD (https://arxiv.org/abs/1512.02325, section 2.2 and 3.6); the TFRecord
pipeline is what TAO does on the GPU. Both end with an image of the network's input size.

Zoom-out and crop don't copy pixels: they choose a :class:`View`, a rectangle that may reach beyond the image, and
:func:`show` draws it at the output size in one go. Boxes are ``[n, 4]`` float arrays x1, y1, x2, y2 in pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from taomagic.engine.data.images import Image
from taomagic.spec.settings import AugmentationSettings

Boxes = NDArray[np.float32]
#: A change of colours, pixel by pixel.
Recolouring = Callable[[Image], Image]

#: Red, green, blue around an image that was zoomed out (ImageNet's mean).
FILL = (123, 116, 103)
#: Least IoU between the crop and a box; one is drawn for every try. SSD paper, section 2.2.
CROP_BOUNDS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
#: Probability of leaving the image whole, before each round of tries: one of seven choices.
KEEP_WHOLE = 0.143
TRIES = 50
_IDENTITY = np.arange(256, dtype=np.uint8)
_INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)


@dataclass(frozen=True, slots=True)
class Labels:
    """The boxes of one image.

    Attributes
    ----------
    boxes
        ``[n, 4]`` float32, x1, y1, x2, y2 in pixels.
    classes
        ``[n]`` int64, ids from 1.
    difficult
        ``[n]`` bool.
    """

    boxes: Boxes
    classes: NDArray[np.int64]
    difficult: NDArray[np.bool_]

    def keep(self, chosen: NDArray[np.bool_] | np.bool_) -> Labels:
        """Return the chosen boxes."""
        return Labels(self.boxes[chosen], self.classes[chosen], self.difficult[chosen])

    def moved(self, boxes: Boxes) -> Labels:
        """Return the same objects with other boxes."""
        return Labels(boxes, self.classes, self.difficult)


@dataclass(frozen=True, slots=True)
class View:
    """A rectangle in image coordinates, in pixels; it may reach beyond the image."""

    left: float
    top: float
    width: float
    height: float


def augment_kitti(
    rng: np.random.Generator, image: Image, labels: Labels, settings: AugmentationSettings
) -> tuple[Image, Labels]:
    """Apply the pipeline for raw KITTI folders.

    Photometric changes, zoom-out, crop, flip, resize with a random interpolation, boxes rounded to whole pixels.

    Parameters
    ----------
    rng
        Decides everything.
    image
        RGB, uint8.
    labels
        Its boxes.
    settings
        Ranges and output size. Zeros disable the colour changes, equal bounds of 1 zoom-out and crop.

    Returns
    -------
    The image at the output size and the boxes that are left, in its pixels.
    """
    recolour = distort_colours(rng, settings)
    height, width = image.shape[:2]
    view = View(0, 0, width, height)
    if not settings.zoom_out_min_scale == settings.zoom_out_max_scale == 1:
        view = zoom_out(rng, view, settings.zoom_out_min_scale, settings.zoom_out_max_scale)
    if not settings.random_crop_min_scale == settings.random_crop_max_scale == 1:
        view, labels = random_crop(rng, view, labels, settings)
    interpolation = _INTERPOLATIONS[rng.integers(len(_INTERPOLATIONS))]
    size = settings.output_width, settings.output_height
    shown, boxes = show(image, labels.boxes, view, size, interpolation=interpolation, recolour=recolour)
    if rng.random() < settings.random_flip:
        shown, boxes = flip(shown, boxes)
    return shown, tidy(labels.moved(np.rint(boxes)), *size)


def augment_tfrecord(
    rng: np.random.Generator, image: Image, labels: Labels, settings: AugmentationSettings
) -> tuple[Image, Labels]:
    """Apply the pipeline for TFRecords; arguments and result as for :func:`augment_kitti`.

    Zoom-out between whole ratios, crop in relative coordinates with every box above the bound, bilinear resize,
    colour changes that always apply, flip; boxes aren't rounded.
    """
    height, width = image.shape[:2]
    view = View(0, 0, width, height)
    # TAO truncates these two to integers here.
    view = zoom_out(
        rng, view, int(settings.zoom_out_min_scale), int(settings.zoom_out_max_scale), whole_pixels=False
    )
    view, labels = random_crop_relative(rng, view, labels, settings)
    size = settings.output_width, settings.output_height
    shown, boxes = show(image, labels.boxes, view, size)
    shown = shift_colours(rng, shown, settings)
    if rng.random() < settings.random_flip:
        shown, boxes = flip(shown, boxes)
    return shown, labels.moved(boxes)


def distort_colours(rng: np.random.Generator, settings: AugmentationSettings) -> Recolouring | None:
    """Choose changes of brightness, contrast, saturation and hue, each with probability 0.5.

    A coin decides whether contrast comes before or after the two in HSV. Levels are rounded to whole numbers between
    the steps, as in the original.

    Returns
    -------
    A function of an RGB image, or ``None`` where nothing changes.
    """
    if not (settings.brightness or settings.contrast or settings.saturation or settings.hue):
        return None
    contrast_first = bool(rng.random() < 0.5)
    chosen = rng.random(4) < 0.5
    ranges = (settings.brightness, settings.contrast, settings.saturation, settings.hue)
    brightness, contrast, saturation, hue = rng.uniform(-1, 1, 4) * chosen * ranges
    levels = np.arange(256, dtype=np.float64)
    before = np.clip(levels + brightness, 0, 255)
    after = np.clip(127.5 + (1 + contrast) * (levels - 127.5), 0, 255)
    if contrast_first:
        before, after = np.clip(127.5 + (1 + contrast) * (before - 127.5), 0, 255), levels
    in_hsv = np.rint(
        np.stack([np.mod(levels + hue, 180), np.clip(levels * (1 + saturation), 0, 255), levels], axis=-1)
    )
    in_hsv[:, 0] %= 180  # rounding may bring a hue to 180, which is 0

    def recolour(image: Image) -> Image:
        image = _look_up(image, before)
        if saturation or hue:
            hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
            hsv = cv2.LUT(hsv, in_hsv.astype(np.uint8)[None])
            image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)
        return _look_up(image, after)

    return recolour


def _look_up(image: Image, levels: NDArray[np.float64]) -> Image:
    """Return the image with each level replaced by the rounded entry of a table of 256."""
    table = np.rint(levels).astype(np.uint8)
    if np.array_equal(table, _IDENTITY):
        return image
    return np.asarray(cv2.LUT(image, table), np.uint8)


def shift_colours(rng: np.random.Generator, image: Image, settings: AugmentationSettings) -> Image:
    """Rotate the hue by U(0, h) degrees, then scale saturation, contrast about 128, and brightness by 1 ± b/256.

    Hue and saturation are linear in YIQ, contrast and brightness too, so that all four are one matrix.
    """
    hue = np.deg2rad(rng.uniform(0, settings.hue))
    saturation = rng.uniform(1 - settings.saturation, 1 + settings.saturation)
    contrast = rng.uniform(1 - settings.contrast, 1 + settings.contrast)
    brightness = rng.uniform(1 - settings.brightness / 256, 1 + settings.brightness / 256)
    if hue == 0 and saturation == contrast == brightness == 1:
        return image
    cos, sin = np.cos(hue) * saturation, np.sin(hue) * saturation
    turn = np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
    matrix = _YIQ_TO_RGB @ turn @ _RGB_TO_YIQ * (contrast * brightness)
    offset = np.full((3, 1), brightness * 128 * (1 - contrast))
    return np.asarray(cv2.transform(image, np.hstack([matrix, offset])), np.uint8)


_RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
_YIQ_TO_RGB = np.linalg.inv(_RGB_TO_YIQ)


def zoom_out(
    rng: np.random.Generator, view: View, least: float, most: float, *, whole_pixels: bool = True
) -> View:
    """Return, with probability 0.5, a view that is larger by a random factor and holds the given one somewhere."""
    if rng.random() >= 0.5:
        return view
    factor = rng.uniform(least, most)
    width, height = view.width * factor, view.height * factor
    x, y = rng.random(2) * (width - view.width, height - view.height)
    if whole_pixels:
        width, height, x, y = int(width), int(height), int(x), int(y)
    return View(view.left - x, view.top - y, width, height)


def random_crop(
    rng: np.random.Generator, view: View, labels: Labels, settings: AugmentationSettings
) -> tuple[View, Labels]:
    """Return a crop of the view that overlaps one of the boxes enough, or the view itself.

    Round after round: leave it whole with probability 0.143, otherwise draw a least IoU and try 50 crops with
    independent height and width. Boxes whose centre is outside are dropped, the others clipped.
    """
    if len(labels.boxes) == 0:
        return view, labels
    least, most = settings.random_crop_min_scale, settings.random_crop_max_scale
    while rng.random() >= KEEP_WHOLE:
        bound = CROP_BOUNDS[rng.integers(len(CROP_BOUNDS))]
        draws = rng.random((TRIES, 4))
        sides = np.floor((least + (most - least) * draws[:, :2]) * (view.width, view.height))
        corner = np.array([view.left, view.top])
        places = np.floor(draws[:, 2:] * ((view.width, view.height) - sides + 1)) + corner
        aspect = sides[:, 0] / np.maximum(sides[:, 1], 1)
        fits = (aspect >= settings.random_crop_min_ar) & (aspect <= settings.random_crop_max_ar)
        fits &= sides.min(axis=1) >= 1
        crops = np.hstack([places, places + sides])[fits]
        good = (_overlap(crops, labels.boxes) > bound).any(axis=1)
        if good.any():
            return _cut(crops[int(good.argmax())], labels)
    return view, labels


def random_crop_relative(
    rng: np.random.Generator, view: View, labels: Labels, settings: AugmentationSettings
) -> tuple[View, Labels]:
    """Return a crop as the TFRecord pipeline draws it: sides and aspect ratio are shares of the view's.

    Keeping the view whole is one of seven equally likely choices; a crop must overlap *every* box by the bound.
    """
    if len(labels.boxes) == 0:
        return view, labels
    least, most = settings.random_crop_min_scale, settings.random_crop_max_scale
    while (choice := int(rng.integers(len(CROP_BOUNDS) + 1))) < len(CROP_BOUNDS):
        draws = rng.random((TRIES, 4))
        sides = least + (most - least) * draws[:, :2]
        places = draws[:, 2:] * (1 - sides)
        aspect = sides[:, 0] / sides[:, 1]
        fits = (aspect >= settings.random_crop_min_ar) & (aspect <= settings.random_crop_max_ar)
        scale = np.array([view.width, view.height, view.width, view.height])
        corner = np.array([view.left, view.top] * 2)
        crops = np.hstack([places, places + sides])[fits] * scale + corner
        good = (_overlap(crops, labels.boxes) >= CROP_BOUNDS[choice]).all(axis=1)
        if good.any():
            chosen, kept = _cut(crops[int(good.argmax())], labels)
            # A crop between the boxes is not worth an image without any.
            if len(kept.boxes):
                return chosen, kept
    return view, labels


def _overlap(crops: NDArray[np.float64], boxes: Boxes) -> NDArray[np.float64]:
    """Return the IoU ``[crops, boxes]``."""
    low = np.maximum(crops[:, None, :2], boxes[None, :, :2])
    high = np.minimum(crops[:, None, 2:], boxes[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = (crops[:, 2:] - crops[:, :2]).prod(axis=1)[:, None] + (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)[
        None
    ]
    return np.asarray(shared / np.maximum(areas - shared, 1e-9))


def _cut(crop: NDArray[np.float64], labels: Labels) -> tuple[View, Labels]:
    """Return the crop as a view, and the boxes with their centre in it, clipped to it."""
    x1, y1, x2, y2 = (float(value) for value in crop)
    centres = (labels.boxes[:, :2] + labels.boxes[:, 2:]) / 2
    inside = ((centres > (x1, y1)) & (centres < (x2, y2))).all(axis=1)
    kept = labels.keep(inside)
    clipped = np.clip(kept.boxes, [x1, y1, x1, y1], [x2, y2, x2, y2]).astype(np.float32)
    return View(x1, y1, x2 - x1, y2 - y1), kept.moved(clipped)


def show(
    image: Image,
    boxes: Boxes,
    view: View,
    size: tuple[int, int],
    *,
    interpolation: int = cv2.INTER_LINEAR,
    recolour: Recolouring | None = None,
) -> tuple[Image, Boxes]:
    """Draw a view at the output size; what lies beyond the image is filled with :data:`FILL`.

    Parameters
    ----------
    image, boxes
        The whole image and boxes in it.
    view
        What to show.
    size
        Output width and height.
    interpolation
        OpenCV's.
    recolour
        Applied to the visible part of the image.

    Returns
    -------
    The output image, and the boxes in its pixels by the very same mapping.
    """
    height, width = image.shape[:2]
    x1, y1 = max(0, round(view.left)), max(0, round(view.top))
    x2 = min(width, round(view.left + view.width))
    y2 = min(height, round(view.top + view.height))
    scale_x, scale_y = size[0] / view.width, size[1] / view.height
    if x2 <= x1 or y2 <= y1:
        # The crop of a zoomed-out image can lie wholly beside it; no box has its centre there.
        return _filled(*size).copy(), boxes
    # The visible part goes to a whole number of output pixels, at least one.
    left, right = _span((x1 - view.left) * scale_x, (x2 - view.left) * scale_x, size[0])
    top, bottom = _span((y1 - view.top) * scale_y, (y2 - view.top) * scale_y, size[1])
    part = image[y1:y2, x1:x2]
    # A change of single pixels all but commutes with resizing, so it is made where there are fewer of them.
    shrinks = part.shape[0] * part.shape[1] > (right - left) * (bottom - top)
    if recolour is not None and not shrinks:
        part = recolour(part)
    part = np.asarray(cv2.resize(part, (right - left, bottom - top), interpolation=interpolation), np.uint8)
    if recolour is not None and shrinks:
        part = recolour(part)
    if part.shape[:2] == (size[1], size[0]):
        out = part
    else:
        out = _filled(*size).copy()
        out[top:bottom, left:right] = part
    sx, sy = (right - left) / (x2 - x1), (bottom - top) / (y2 - y1)
    scale = np.array([sx, sy, sx, sy], np.float32)
    return out, (
        (boxes - np.array([x1, y1, x1, y1], np.float32)) * scale
        + np.array([left, top, left, top], np.float32)
    )


@lru_cache(maxsize=4)
def _filled(width: int, height: int) -> Image:
    """Return an image of the fill colour; filling by broadcasting three bytes is far slower than copying."""
    return np.full((height, width, 3), FILL, np.uint8)


def _span(start: float, end: float, length: int) -> tuple[int, int]:
    """Return a stretch rounded to whole pixels within 0..length, at least one long."""
    first = min(max(round(start), 0), length - 1)
    return first, min(max(round(end), first + 1), length)


def flip(image: Image, boxes: Boxes) -> tuple[Image, Boxes]:
    """Return image and boxes mirrored left to right."""
    width = image.shape[1]
    mirrored = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
    return np.asarray(cv2.flip(image, 1), np.uint8), mirrored


def tidy(labels: Labels, width: int, height: int) -> Labels:
    """Return the labels with boxes clipped to 0..dimension-1, without those that are empty then."""
    # Degenerate boxes go first: clipping could hide that corners are in the wrong order.
    labels = labels.keep((labels.boxes[:, 2:] > labels.boxes[:, :2]).all(axis=1))
    limits = np.array([width - 1, height - 1, width - 1, height - 1], np.float32)
    boxes = np.clip(labels.boxes, 0, limits)
    return labels.moved(boxes).keep((boxes[:, 2:] - boxes[:, :2] > 1e-3).all(axis=1))
