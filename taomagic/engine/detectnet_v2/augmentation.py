"""Crop or pad to the input size, and random changes of place and colour.

Source: section 5.5 of the reference. All changes of place are one affine map, drawn once, bilinear; what comes from
outside the picture is mid-grey. Boxes go through the same map.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from taomagic.engine.data.colours import turn
from taomagic.engine.data.images import Image
from taomagic.engine.detectnet_v2.records import Objects
from taomagic.spec.settings_detectnet_v2 import DetectNetAugmentationSettings

FloatImage = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
#: Width and height.
Size = tuple[int, int]

#: Colour of what lies beyond the picture, of 1.
FILL = 0.5
#: Objects that are thinner than this, in pixels, after all changes are left out.
_LEAST_SIDE = 1.0
#: Truncated normal distributions end at two deviations.
_TRUNCATED_AT = 2.0


def to_input(
    image: Image, objects: Objects, settings: DetectNetAugmentationSettings, largest: Size = (0, 0)
) -> tuple[Image, Objects]:
    """Bring an image to the network's input size: cropped and padded with black, or resized where the spec says so.

    The original pads all images to the largest one, right and below, before anything else. So ``scale_width`` and
    ``scale_height`` are the size of that one, and smaller images keep their share of it; for the crop, which may reach
    beyond an image, it makes no difference.

    Parameters
    ----------
    image
        RGB, uint8, of any size.
    objects
        Boxes in its pixels.
    settings
        ``enable_auto_resize``, ``scale_width`` and ``scale_height``, the crop, and the output size.
    largest
        Largest width and height of all images of the data set; by default this one's.

    Returns
    -------
    The image ``[output_height, output_width, 3]`` uint8, and the boxes in its pixels, not clipped.
    """
    width, height = settings.output_width, settings.output_height
    size = (image.shape[1], image.shape[0])
    wanted = size
    if settings.enable_auto_resize:
        wanted = (width, height)
    elif settings.scale_width and settings.scale_height:
        wanted = (
            max(1, round(size[0] * settings.scale_width / max(size[0], largest[0]))),
            max(1, round(size[1] * settings.scale_height / max(size[1], largest[1]))),
        )
    if wanted != size:
        image = np.asarray(cv2.resize(image, wanted, interpolation=cv2.INTER_LINEAR), np.uint8)
        scale = np.array([wanted[0] / size[0], wanted[1] / size[1]] * 2, np.float32)
        objects = objects.moved(objects.boxes * scale)
    left, top = (settings.crop[0], settings.crop[1]) if settings.crop is not None else (0, 0)
    part = image[top : top + height, left : left + width]
    objects = objects.moved(objects.boxes - np.array([left, top, left, top], np.float32))
    if part.shape[:2] == (height, width):
        return part, objects
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[: part.shape[0], : part.shape[1]] = part
    return canvas, objects


def augment(
    rng: np.random.Generator, image: Image, objects: Objects, settings: DetectNetAugmentationSettings
) -> tuple[FloatImage, Objects]:
    """Change an image at random; it has the network's input size already.

    Returns
    -------
    The image ``[output_height, output_width, 3]`` float32, RGB, 0..1, and the objects that are left.
    """
    matrix = draw_spatial(rng, settings)
    colours = draw_colours(rng, settings)
    if not np.array_equal(matrix, np.eye(3)):
        image = warped(image, matrix)
        objects = objects.moved(transformed(objects.boxes, matrix))
    if colours is None or settings.output_channel != 3:
        return as_floats(image), tidy(objects, settings)
    # From 0..255 at once: one pass over the pixels less.
    colours[:, :3] /= 255
    pixels = np.asarray(cv2.transform(image.astype(np.float32), colours.astype(np.float32)), np.float32)
    return np.clip(pixels, 0, 1, out=pixels), tidy(objects, settings)


def warped(image: Image, matrix: Matrix) -> Image:
    """Return an image after a map of its pixels' middles, at its own size, bilinear, mid-grey from outside."""
    height, width = image.shape[:2]
    linear, shift = matrix[:2, :2], matrix[:2, 2]
    flips = np.diag(linear)
    if np.array_equal(np.abs(linear), np.eye(2)) and np.array_equal(shift, np.rint(shift)):
        # Flips and whole pixels, which is all that NVIDIA's own files ask for, need no interpolation.
        code = {(-1, 1): 1, (1, -1): 0, (-1, -1): -1}.get((int(flips[0]), int(flips[1])))
        flipped = image if code is None else cv2.flip(image, code)
        moved = shift - np.where(flips < 0, (width - 1, height - 1), 0)
        x, y = np.clip(moved, (-width, -height), (width, height)).astype(int).tolist()
        canvas = np.full(image.shape, round(FILL * 255), np.uint8)
        canvas[max(0, y) : height + min(0, y), max(0, x) : width + min(0, x)] = flipped[
            max(0, -y) : height + min(0, -y), max(0, -x) : width + min(0, -x)
        ]
        return canvas
    turned = cv2.warpAffine(
        image,
        matrix[:2],
        (width, height),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(FILL * 255,) * 3,
    )
    return np.asarray(turned, np.uint8)


def as_floats(image: Image) -> FloatImage:
    """Return levels 0..255 as 0..1."""
    return np.divide(image, np.float32(255), dtype=np.float32)


def unchanged(
    image: Image, objects: Objects, settings: DetectNetAugmentationSettings
) -> tuple[FloatImage, Objects]:
    """Return an image of the input size as validation sees it: 0..1, boxes clipped to it."""
    return as_floats(image), tidy(objects, settings)


def tidy(objects: Objects, settings: DetectNetAugmentationSettings) -> Objects:
    """Clip boxes to the picture, and leave out what is too thin then."""
    limits = np.array([settings.output_width, settings.output_height] * 2, np.float32)
    boxes = np.clip(objects.boxes, 0, limits)
    sides = boxes[:, 2:] - boxes[:, :2]
    least = np.array([max(_LEAST_SIDE, settings.min_bbox_width), max(_LEAST_SIDE, settings.min_bbox_height)])
    return objects.moved(boxes.astype(np.float32)).keep(np.asarray((sides >= least).all(axis=1)))


def draw_spatial(rng: np.random.Generator, settings: DetectNetAugmentationSettings) -> Matrix:
    """Return a random map [3, 3] from pixels of the image to pixels of the result."""
    width, height = settings.output_width, settings.output_height
    flip_x, flip_y, turned = rng.random(3) < (
        settings.hflip_probability,
        settings.vflip_probability,
        settings.rotate_probability,
    )
    reach = np.array([settings.translate_max_x, settings.translate_max_y]).astype(np.int64)
    shift = rng.integers(-reach, reach + 1)
    ratio = rng.uniform(settings.zoom_min, settings.zoom_max)
    corner = rng.random(2)
    angle = np.deg2rad(rng.uniform(-settings.rotate_max, settings.rotate_max)) if turned else 0.0

    matrix = np.eye(3)
    if flip_x:
        matrix = np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1.0]]) @ matrix
    if flip_y:
        matrix = np.array([[1, 0, 0], [0, -1, height - 1], [0, 0, 1.0]]) @ matrix
    if shift.any():
        matrix = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1.0]]) @ matrix
    if ratio != 1.0:
        # A view `ratio` times as large as the picture, somewhere around it (or in it), fills the result.
        left, top = corner * ((1 - ratio) * width, (1 - ratio) * height)
        matrix = np.array([[1 / ratio, 0, -left / ratio], [0, 1 / ratio, -top / ratio], [0, 0, 1.0]]) @ matrix
    if angle:
        cos, sin = np.cos(angle), np.sin(angle)
        x, y = (width - 1) / 2, (height - 1) / 2
        rotation = np.array(
            [[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y], [0, 0, 1.0]]
        )
        matrix = rotation @ matrix
    return matrix


def transformed(boxes: npt.NDArray[np.float32], matrix: Matrix) -> npt.NDArray[np.float32]:
    """Return the boxes around the images of the corners of boxes.

    The map is of pixels' middles; an edge at x lies between the pixels x - 1 and x, so at the middle x - 1/2.
    """
    x1, y1, x2, y2 = boxes.T - 0.5
    corners = np.stack([(x1, y1), (x2, y1), (x1, y2), (x2, y2)])  # [4, 2, n]
    moved = np.einsum("ij,cjn->cin", matrix[:2, :2], corners) + matrix[:2, 2][:, None]
    return np.concatenate([moved.min(axis=0), moved.max(axis=0)]).T.astype(np.float32) + np.float32(0.5)


def draw_colours(rng: np.random.Generator, settings: DetectNetAugmentationSettings) -> Matrix | None:
    """Return a random change of colours as an affine map [3, 4] of RGB; ``None`` where nothing is to change.

    Brightness is shifted, contrast scaled around its centre, then hue turned and saturation scaled; the last two are
    linear in YIQ, so that all four are one matrix.
    """
    brightness = settings.color_shift_stddev * _truncated_normal(rng)
    hue = settings.hue_rotation_max / 2 * _truncated_normal(rng)
    saturation = 1 + rng.uniform(-1, 1) * settings.saturation_shift_max
    contrast = 1 + settings.contrast_scale_max / 2 * _truncated_normal(rng)
    if brightness == hue == 0 and saturation == contrast == 1:
        return None
    linear = turn(hue, saturation)
    offset = contrast * brightness + settings.contrast_center * (1 - contrast)
    return np.hstack([linear * contrast, (linear @ np.full(3, offset))[:, None]])


def _truncated_normal(rng: np.random.Generator) -> float:
    """Return a normally distributed number, drawn again while it is beyond two deviations."""
    while abs(value := rng.standard_normal()) > _TRUNCATED_AT:
        pass
    return float(value)
