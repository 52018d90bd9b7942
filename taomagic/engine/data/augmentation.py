"""Random changes of the training images: TAO's two pipelines, as plain functions.

================  ==============================================  ==================================================
step              raw KITTI folders                               TFRecords
================  ==============================================  ==================================================
colours           first; see :class:`~.colours.Distortion`        after the resize; see :class:`~.colours.Twist`
zoom-out          p = 0.5, factor U(min, max)                     p = 0.5, factor U over the bounds cut to integers
crop              IoU above the bound with *one* box              IoU of the bound at least with *every* box
flip              before the resize                               at the end
resize            one of OpenCV's five interpolations at random   bilinear, not antialiased
boxes             rounded to whole pixels, clipped to 0..dim-1,   neither
                  empty ones removed
================  ==============================================  ==================================================

The raw-KITTI pipeline is that of the original SSD (https://arxiv.org/abs/1512.02325, section 2.2 and 3.6); the TFRecord
pipeline is what TAO does on the GPU with DALI. Both end with an image of the network's input size, in RGB; means are
subtracted later (:mod:`~taomagic.engine.data.images`).

Zoom-out and crop don't copy pixels: they choose a :class:`~.crops.View`, and :func:`~.crops.show` draws it in one go.
The pixels are those of doing one step after the other; the tests compare them with code that does so.

One deliberate difference: with one output channel TAO's TFRecord pipeline clips each image at its mean to bytes, so
that half of the levels become 0 in training but not afterwards. That is a slip, and isn't copied.
"""

from __future__ import annotations

import cv2
import numpy as np

from taomagic.engine.data.colours import draw_distortion, draw_twist
from taomagic.engine.data.crops import (
    FILL,
    View,
    cut,
    cut_in_shares,
    random_crop,
    random_crop_in_shares,
    show,
    zoom_out,
)
from taomagic.engine.data.images import Image, Pixels
from taomagic.engine.data.labels import Boxes, Labels, mirrored, scaled_to_whole_pixels, tidy
from taomagic.spec.settings import AugmentationSettings

__all__ = ["FILL", "Boxes", "Labels", "augment_kitti", "augment_tfrecord", "tidy"]

_INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)


def augment_kitti(
    rng: np.random.Generator, image: Image, labels: Labels, settings: AugmentationSettings
) -> tuple[Pixels, Labels]:
    """Apply the pipeline for raw KITTI folders.

    Parameters
    ----------
    rng
        Decides everything.
    image
        RGB, uint8; left as it is.
    labels
        Its boxes.
    settings
        Ranges and output size. Colour ranges that are all 0 disable the colour changes, two bounds of 1 zoom-out or
        crop, a probability of 0 the flip.

    Returns
    -------
    The image ``[output_height, output_width, 3]`` and the boxes that are left, in its pixels. uint8, but float32
    (levels beyond 0..255 possible) where nothing but a flip came before the resize: then TAO resizes floats.
    """
    height, width = image.shape[:2]
    size = settings.output_width, settings.output_height
    distortion = draw_distortion(rng, settings)
    zoomed = cropped = None
    if not settings.zoom_out_min_scale == settings.zoom_out_max_scale == 1:
        zoomed = zoom_out(rng, width, height, settings.zoom_out_min_scale, settings.zoom_out_max_scale)
    view = zoomed or View(0, 0, width, height)
    labels = labels.moved(labels.boxes - np.array([view.left, view.top] * 2, np.float32))
    if not settings.random_crop_min_scale == settings.random_crop_max_scale == 1:
        cropped = random_crop(rng, view.width, view.height, labels, settings)
    if cropped is not None:
        view, labels = view.part(cropped), cut(labels, cropped)
    flipped = bool(rng.random() < settings.random_flip)
    if flipped:
        labels = labels.moved(mirrored(labels.boxes, view.width))
    interpolation = _INTERPOLATIONS[rng.integers(len(_INTERPOLATIONS))]
    boxes = scaled_to_whole_pixels(labels.boxes, size[0] / view.width, size[1] / view.height)
    labels = tidy(labels.moved(boxes), *size)
    if distortion is None and zoomed is None and cropped is None:
        # TAO's loader gives floats, and only these three steps make bytes of them.
        floats = (cv2.flip(image, 1) if flipped else image).astype(np.float32)
        return np.asarray(cv2.resize(floats, size, interpolation=interpolation), np.float32), labels
    recolour = distortion.apply if distortion else None
    return show(image, view, size, interpolation=interpolation, flipped=flipped, recolour=recolour), labels


def augment_tfrecord(
    rng: np.random.Generator, image: Image, labels: Labels, settings: AugmentationSettings
) -> tuple[Image, Labels]:
    """Apply the pipeline for TFRecords; arguments as for :func:`augment_kitti`.

    Pixels move by whole pixels, boxes exactly, in shares of the image: after zoom-out and crop they can be apart by
    up to a pixel of the source, as in the original.

    Returns
    -------
    The image ``[output_height, output_width, 3]``, uint8, and the boxes that are left, in its pixels.
    """
    height, width = image.shape[:2]
    size = settings.output_width, settings.output_height
    view = View(0, 0, width, height)
    boxes = labels.boxes / np.array([width, height] * 2, np.float64)
    if rng.random() < 0.5:
        least, most = int(settings.zoom_out_min_scale), int(settings.zoom_out_max_scale)
        factor = rng.uniform(least, most)
        place = rng.random(2)
        wide, high = int(factor * width), int(factor * height)
        view = View(-int(place[0] * (wide - width)), -int(place[1] * (high - height)), wide, high)
        boxes = (boxes + np.tile(place * (factor - 1), 2)) / factor
    crop = random_crop_in_shares(rng, boxes, settings)
    if crop is not None:
        # Both edges are rounded, not place and side; DALI rounds halves up.
        edges = np.floor(crop * np.array([view.width, view.height] * 2) + 0.5).astype(int)
        x1, y1, x2, y2 = edges.tolist()
        view = view.part(View(x1, y1, max(x2 - x1, 1), max(y2 - y1, 1)))
        boxes, kept = cut_in_shares(boxes, crop)
        labels, boxes = labels.keep(kept), boxes[kept]
    shown = draw_twist(rng, settings).apply(show(image, view, size))
    labels = labels.moved(boxes * np.array(size * 2, np.float64))
    if rng.random() < settings.random_flip:
        shown = np.asarray(cv2.flip(shown, 1), np.uint8)
        labels = labels.moved(mirrored(labels.boxes, size[0]))
    return shown, labels
