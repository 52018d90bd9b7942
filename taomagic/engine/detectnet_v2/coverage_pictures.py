"""Pictures for TensorBoard: where a network sees something, and how large it takes it to be."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from taomagic.engine.detectnet_v2.predictor import Predictor


def draw_coverage(
    predictor: Predictor, images: Tensor, thresholds: Mapping[str, float]
) -> list[npt.NDArray[np.uint8]]:
    """Return images with the cells tinted that have coverage, and with the boxes that these speak of.

    Nothing is clustered: what a threshold lets through is what clustering would start from.

    Parameters
    ----------
    predictor
        The network.
    images
        [N, C, H, W], 0..1, red first.
    thresholds
        By class, the least coverage of a cell that is shown; other classes aren't drawn.

    Returns
    -------
    list
        [H, W, 3] red first, for each image.
    """
    layout = predictor.layout
    coverage, boxes = predictor.raw(images)
    corners = layout.corners(boxes).round().int().cpu().numpy()  # [N, C, H, W, 4]
    cells = coverage.cpu().numpy()
    pictures = []
    for index, image in enumerate(images.cpu().numpy()):
        pixels = (image.transpose(1, 2, 0) * 255).astype(np.uint8)
        picture = np.ascontiguousarray(pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2))
        for channel, name in enumerate(layout.classes):
            if name in thresholds:
                colour = _colour(channel, len(layout.classes))
                seen = cells[index, channel] > thresholds[name]
                picture = _tint(picture, np.where(seen, cells[index, channel], 0.0), colour)
                for x1, y1, x2, y2 in corners[index, channel][seen].tolist():
                    cv2.rectangle(picture, (x1, y1), (x2, y2), colour, 1)
        pictures.append(picture)
    return pictures


def _colour(channel: int, count: int) -> tuple[int, int, int]:
    """Return a class' colour; classes lie evenly around the circle of hues."""
    red, green, blue = colorsys.hsv_to_rgb(channel / count, 1.0, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def _tint(
    picture: npt.NDArray[np.uint8], cells: npt.NDArray[np.float32], colour: tuple[int, int, int]
) -> npt.NDArray[np.uint8]:
    """Return the picture with a colour laid over it, half as strong as each cell [h, w] says."""
    height, width = picture.shape[:2]
    strength = cv2.resize(cells.astype(np.float32), (width, height), interpolation=cv2.INTER_NEAREST)
    share = 0.5 * np.clip(strength, 0.0, 1.0)[..., None]
    return np.ascontiguousarray(((1 - share) * picture + share * np.array(colour)).astype(np.uint8))
