"""The camera that looks at a scene, and the paper its things are drawn on.

World coordinates are KITTI's camera frame: x to the right, y down, z forward, in metres; the camera is the
origin and the ground lies at ``y = Camera.ground``. A thing collects its shapes in a :class:`Drawing` and
turns them into a :class:`Sprite`, a small picture with an exact coverage mask: the source of the boxes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

#: Blue, green, red, 0..255.
Colour = tuple[float, float, float]
Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

#: Sub-pixel precision of the coordinates given to OpenCV: 1/16 pixel.
_SHIFT = 4
_NEAREST_M = 0.5


@dataclass(frozen=True)
class Camera:
    """A pinhole camera above the road, looking along it.

    Attributes
    ----------
    width, height
        Image size in pixels.
    focal
        Focal length in pixels.
    horizon
        Image row of the horizon.
    ground
        Height of the camera above the ground in metres.
    """

    width: int
    height: int
    focal: float
    horizon: float
    ground: float = 1.65

    @property
    def centre(self) -> float:
        """Return the image column straight ahead."""
        return self.width / 2

    def project(self, points: Floats) -> Floats:
        """Return image positions ``[n, 2]`` of world points ``[n, 3]``, held before the camera if need be."""
        at = points[:, :2] * (self.focal / np.maximum(points[:, 2:], _NEAREST_M))
        at += (self.centre, self.horizon)
        return at

    def row_of(self, depth_m: float) -> float:
        """Return the image row at which the ground is ``depth_m`` away."""
        return self.horizon + self.focal * self.ground / depth_m


@dataclass(frozen=True)
class Pose:
    """Where a thing stands: the middle of its footprint, and its heading as KITTI's ``rotation_y``.

    Heading 0 faces right, -pi/2 faces away from the camera, +pi/2 faces it.
    """

    x: float
    z: float
    heading: float

    def to_world(self, local: Floats, ground: float) -> Floats:
        """Return the world coordinates of points (forward, up, sideways) from the footprint's middle."""
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        turn = np.array([[cos, 0.0, -sin], [0.0, -1.0, 0.0], [sin, 0.0, cos]])
        world = local @ turn
        world += (self.x, ground, self.z)
        return np.asarray(world)


@dataclass(frozen=True)
class Sprite:
    """A drawn thing: where it lies in the image and which part of each pixel it covers.

    Attributes
    ----------
    left, top
        Image position of the first column and row; may lie outside the image.
    colour
        ``[h, w, 3]`` uint8, already multiplied by the coverage.
    coverage
        ``[h, w]`` uint8, 255 where the thing covers the whole pixel.
    """

    left: int
    top: int
    colour: Bytes
    coverage: Bytes

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Return the pixels that are covered by half or more."""
        return self.coverage >= 128

    def window(self, width: int, height: int) -> tuple[slice, slice, slice, slice] | None:
        """Return what lies inside an image as its rows and columns and the own ones, ``None`` for nothing."""
        rows, columns = self.coverage.shape
        x1, y1 = max(self.left, 0), max(self.top, 0)
        x2, y2 = min(self.left + columns, width), min(self.top + rows, height)
        if x1 >= x2 or y1 >= y2:
            return None
        inside = slice(y1 - self.top, y2 - self.top), slice(x1 - self.left, x2 - self.left)
        return slice(y1, y2), slice(x1, x2), *inside

    def paint_on(self, image: Bytes) -> None:
        """Lay the sprite over the image, in place."""
        window = self.window(image.shape[1], image.shape[0])
        if window is None:
            return
        rows, columns, own_rows, own_columns = window
        below = image[rows, columns]
        keep = cv2.cvtColor(cv2.bitwise_not(self.coverage[own_rows, own_columns]), cv2.COLOR_GRAY2BGR)
        cv2.add(cv2.multiply(below, keep, scale=1 / 255), self.colour[own_rows, own_columns], dst=below)
        image[rows, columns] = below


@dataclass
class Drawing:
    """Shapes in image coordinates, drawn in the order in which they were added."""

    _shapes: list[tuple[Floats, float, Colour]] = field(default_factory=list)

    def polygon(self, points: Floats, colour: Colour) -> None:
        """Add a filled polygon ``[n, 2]``."""
        self._shapes.append((points, 0.0, colour))

    def stroke(self, points: Floats, width: float, colour: Colour) -> None:
        """Add a round-ended line along ``[n, 2]``, ``width`` pixels thick; a single point gives a disc."""
        self._shapes.append((points, width, colour))

    def rasterise(self) -> Sprite:
        """Return the drawn shapes as a sprite, smoothed by drawing larger and averaging."""
        everything = np.concatenate([points for points, _, _ in self._shapes])
        counts = [len(points) for points, _, _ in self._shapes]
        reach = np.repeat([width / 2 for _, width, _ in self._shapes], counts)[:, None]
        left, top = (math.floor(v) - 1 for v in (everything - reach).min(axis=0))
        right, bottom = (math.ceil(v) + 1 for v in (everything + reach).max(axis=0))
        columns, rows = right - left, bottom - top
        finer = 4 if max(columns, rows) < 70 else 3 if max(columns, rows) < 140 else 2
        paper = np.zeros((rows * finer, columns * finer, 4), np.uint8)
        # OpenCV puts integer coordinates at pixel centres, hence the half pixel.
        fixed = np.rint(((everything - (left, top)) * finer - 0.5) * (1 << _SHIFT)).astype(np.int32)
        end = 0
        for count, (_, width, colour) in zip(counts, self._shapes, strict=True):
            at = fixed[end : end + count]
            end += count
            ink = (*colour, 255)
            if width == 0.0:
                cv2.fillPoly(paper, [at], ink, cv2.LINE_8, _SHIFT)
            elif count == 1:
                radius = max(1, round(width / 2 * finer * (1 << _SHIFT)))
                cv2.circle(paper, at[0].tolist(), radius, ink, -1, cv2.LINE_8, _SHIFT)
            else:
                cv2.polylines(paper, [at], False, ink, max(1, round(width * finer)), cv2.LINE_8, _SHIFT)
        small = cv2.resize(paper, (columns, rows), interpolation=cv2.INTER_AREA)
        painted = np.asarray(cv2.cvtColor(small, cv2.COLOR_BGRA2BGR), np.uint8)
        return Sprite(left, top, painted, np.asarray(cv2.extractChannel(small, 3), np.uint8))


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Return ``first`` with ``share`` (0..1) of it replaced by ``second``."""
    (a, b, c), (d, e, f) = first, second
    return a + (d - a) * share, b + (e - b) * share, c + (f - c) * share


def shade(colour: Colour, factor: float) -> Colour:
    """Return the colour made darker (factor < 1) or lighter (factor > 1)."""
    a, b, c = colour
    return min(255.0, a * factor), min(255.0, b * factor), min(255.0, c * factor)
