"""Both pipelines once more: slow, one obvious step after another, on whole images and single boxes.

The random numbers are those of the real pipelines (drawn by the same functions in the same order); what is done with
them is written anew from the description of TAO's behaviour.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np

from taomagic.engine.data.augmentation import Labels
from taomagic.engine.data.colours import Distortion, Twist, draw_distortion, draw_twist
from taomagic.engine.data.crops import random_crop, random_crop_in_shares, zoom_out
from taomagic.spec.settings import AugmentationSettings

#: Class, difficult, x1, y1, x2, y2.
Box = tuple[int, bool, float, float, float, float]
INTERPOLATIONS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_AREA, cv2.INTER_LANCZOS4)


def slow_kitti(
    rng: np.random.Generator, image: np.ndarray, labels: Labels, settings: AugmentationSettings
) -> tuple[np.ndarray, list[Box]]:
    """Do what ``augment_kitti`` does."""
    pixels, boxes = image.astype(np.float32), boxes_of(labels)

    distortion = draw_distortion(rng, settings)
    if distortion:
        pixels = slow_distortion(pixels, distortion)

    if (settings.zoom_out_min_scale, settings.zoom_out_max_scale) != (1, 1):
        height, width = pixels.shape[:2]
        view = zoom_out(rng, width, height, settings.zoom_out_min_scale, settings.zoom_out_max_scale)
        if view:
            canvas = np.zeros((view.height, view.width, 3), np.uint8)
            canvas[:, :] = (123, 116, 103)
            canvas[-view.top : -view.top + height, -view.left : -view.left + width] = pixels
            pixels = canvas
            boxes = each(boxes, lambda x, y: (x - view.left, y - view.top))

    if (settings.random_crop_min_scale, settings.random_crop_max_scale) != (1, 1):
        height, width = pixels.shape[:2]
        view = random_crop(rng, width, height, labels_of(boxes), settings)
        if view:
            canvas = np.zeros((view.height, view.width, 3), np.uint8)
            canvas[:, :] = pixels[view.top : view.top + view.height, view.left : view.left + view.width]
            pixels = canvas
            boxes = each(boxes, lambda x, y: (x - view.left, y - view.top))
            boxes = [
                box
                for box in boxes
                if 0 <= (box[2] + box[4]) / 2 <= view.width - 1
                and 0 <= (box[3] + box[5]) / 2 <= view.height - 1
            ]
            boxes = each(
                boxes, lambda x, y: (min(max(x, 0), view.width - 1), min(max(y, 0), view.height - 1))
            )

    height, width = pixels.shape[:2]
    if rng.random() < settings.random_flip:
        pixels = pixels[:, ::-1]
        boxes = [(c, d, width - x2, y1, width - x1, y2) for c, d, x1, y1, x2, y2 in boxes]

    size = settings.output_width, settings.output_height
    interpolation = INTERPOLATIONS[rng.integers(5)]
    pixels = cv2.resize(np.ascontiguousarray(pixels), size, interpolation=interpolation)
    boxes = each(boxes, lambda x, y: (round(x * (size[0] / width)), round(y * (size[1] / height))))
    boxes = [box for box in boxes if box[4] > box[2] and box[5] > box[3]]
    boxes = each(boxes, lambda x, y: (min(max(x, 0), size[0] - 1), min(max(y, 0), size[1] - 1)))
    return pixels, [box for box in boxes if box[4] - box[2] > 1e-3 and box[5] - box[3] > 1e-3]


def slow_distortion(pixels: np.ndarray, amounts: Distortion) -> np.ndarray:
    """Recolour floats in whole images, as bytes only where HSV and the end need them."""

    def contrast(levels: np.ndarray) -> np.ndarray:
        return np.clip(127.5 + amounts.contrast * (levels - 127.5), 0, 255)

    pixels = np.clip(pixels.astype(np.float64) + amounts.brightness, 0, 255)
    if amounts.contrast_first:
        pixels = contrast(pixels)
    hsv = cv2.cvtColor(np.round(pixels).astype(np.uint8), cv2.COLOR_RGB2HSV).astype(np.float64)
    hsv[:, :, 1] = np.clip(hsv[:, :, 1] * amounts.saturation, 0, 255)
    hsv[:, :, 0] = (hsv[:, :, 0] + amounts.hue) % 180
    rgb = cv2.cvtColor(np.round(hsv).astype(np.uint8), cv2.COLOR_HSV2RGB)
    if not amounts.contrast_first:
        rgb = np.round(contrast(rgb.astype(np.float64))).astype(np.uint8)
    return rgb


def slow_tfrecord(
    rng: np.random.Generator, image: np.ndarray, labels: Labels, settings: AugmentationSettings
) -> tuple[np.ndarray, list[Box]]:
    """Do what ``augment_tfrecord`` does."""
    height, width = image.shape[:2]
    pixels = image
    boxes = each(boxes_of(labels), lambda x, y: (x / width, y / height))

    if rng.random() < 0.5:
        ratio = rng.uniform(int(settings.zoom_out_min_scale), int(settings.zoom_out_max_scale))
        paste_x, paste_y = rng.random(2)
        canvas = np.zeros((int(height * ratio), int(width * ratio), 3), np.uint8)
        canvas[:, :] = (123, 116, 103)
        top = int(paste_y * (canvas.shape[0] - height))
        left = int(paste_x * (canvas.shape[1] - width))
        canvas[top : top + height, left : left + width] = pixels
        pixels = canvas
        boxes = each(
            boxes,
            lambda x, y: (
                x / ratio + paste_x * (ratio - 1) / ratio,
                y / ratio + paste_y * (ratio - 1) / ratio,
            ),
        )

    crop = random_crop_in_shares(rng, np.array([box[2:] for box in boxes]).reshape(-1, 4), settings)
    if crop is not None:
        x1, y1, x2, y2 = (float(edge) for edge in crop)
        rows = slice(math.floor(y1 * pixels.shape[0] + 0.5), math.floor(y2 * pixels.shape[0] + 0.5))
        columns = slice(math.floor(x1 * pixels.shape[1] + 0.5), math.floor(x2 * pixels.shape[1] + 0.5))
        pixels = pixels[rows, columns].copy()
        boxes = [
            box for box in boxes if x1 <= (box[2] + box[4]) / 2 < x2 and y1 <= (box[3] + box[5]) / 2 < y2
        ]
        boxes = each(
            boxes,
            lambda x, y: (
                (min(max(x, x1), x2) - x1) / (x2 - x1),
                (min(max(y, y1), y2) - y1) / (y2 - y1),
            ),
        )

    size = settings.output_width, settings.output_height
    pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_LINEAR)
    pixels = slow_twist(pixels, draw_twist(rng, settings))
    if rng.random() < settings.random_flip:
        pixels = pixels[:, ::-1]
        boxes = [(c, d, 1 - x2, y1, 1 - x1, y2) for c, d, x1, y1, x2, y2 in boxes]
    return pixels, each(boxes, lambda x, y: (x * size[0], y * size[1]))


def slow_twist(pixels: np.ndarray, amounts: Twist) -> np.ndarray:
    """Change hue, saturation, contrast, brightness one after another, in floats, and round once."""
    angle = math.radians(amounts.hue)
    to_yiq = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
    yiq = pixels.astype(np.float64) @ to_yiq.T
    i, q = yiq[:, :, 1].copy(), yiq[:, :, 2].copy()
    yiq[:, :, 1] = math.cos(angle) * i + math.sin(angle) * q
    yiq[:, :, 2] = -math.sin(angle) * i + math.cos(angle) * q
    yiq[:, :, 1:] *= amounts.saturation
    rgb = yiq @ np.linalg.inv(to_yiq).T
    rgb = amounts.brightness * (128 + amounts.contrast * (rgb - 128))
    return np.round(np.clip(rgb, 0, 255)).astype(np.uint8)


def boxes_of(labels: Labels) -> list[Box]:
    """Return labels as a list."""
    return [
        (int(c), bool(d), *(float(v) for v in box))
        for box, c, d in zip(labels.boxes, labels.classes, labels.difficult, strict=True)
    ]


def labels_of(boxes: list[Box]) -> Labels:
    """Return a list as labels."""
    return Labels(
        np.array([box[2:] for box in boxes], np.float32).reshape(-1, 4),
        np.array([box[0] for box in boxes], np.int64),
        np.array([box[1] for box in boxes], np.bool_),
    )


def each(boxes: list[Box], change: Callable[[float, float], tuple[float, float]]) -> list[Box]:
    """Return the boxes with both corners changed."""
    return [(c, d, *change(x1, y1), *change(x2, y2)) for c, d, x1, y1, x2, y2 in boxes]
