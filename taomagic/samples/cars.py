"""Cars: a body and a cabin of flat faces, with glass, wheels and lights, seen from any side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from taomagic.samples.canvas import Camera, Colour, Drawing, Floats, Pose, mix, shade

_PAINTS: tuple[Colour, ...] = (
    (48, 44, 196), (178, 96, 38), (228, 228, 226), (70, 70, 74), (164, 168, 170), (58, 122, 44),
    (40, 160, 226), (38, 30, 110), (120, 74, 22), (205, 196, 150), (34, 34, 36), (70, 140, 160),
)  # fmt: skip
_GLASS: Colour = (92, 78, 62)
_TYRE: Colour = (26, 25, 25)
_RIM: Colour = (150, 150, 148)
#: (forward, up, to the side), in metres from the middle of the footprint.
Corner = tuple[float, float, float]
#: Cosine and sine around a wheel.
_CIRCLE = [(math.cos(a), math.sin(a)) for a in (2 * math.pi * i / 20 for i in range(20))]


@dataclass(frozen=True)
class CarShape:
    """The proportions of a kind of car, in metres; x points forward from the middle.

    Attributes
    ----------
    length, width, height
        The box around it.
    body
        Side outline (x, up) of the body, clockwise from the lower rear corner, convex.
    cabin
        x of rear foot, rear top, front top and front foot of the cabin.
    waist
        Height at which the cabin stands on the body.
    axles
        x of the rear and the front axle.
    """

    length: float
    width: float
    height: float
    body: tuple[tuple[float, float], ...]
    cabin: tuple[float, float, float, float]
    waist: float
    axles: tuple[float, float]


_SALOON = CarShape(
    4.4, 1.78, 1.46,
    ((-2.12, 0.26), (-2.2, 0.62), (-2.1, 0.96), (1.15, 0.94), (2.08, 0.78), (2.2, 0.52), (2.12, 0.26)),
    (-1.75, -1.0, 0.3, 1.12), 0.94, (-1.32, 1.36),
)  # fmt: skip
_HATCHBACK = CarShape(
    3.9, 1.7, 1.52,
    ((-1.88, 0.26), (-1.95, 0.6), (-1.88, 0.98), (1.05, 0.96), (1.84, 0.78), (1.95, 0.52), (1.88, 0.26)),
    (-1.85, -1.5, 0.2, 1.05), 0.96, (-1.2, 1.22),
)  # fmt: skip
_OFF_ROADER = CarShape(
    4.5, 1.88, 1.72,
    ((-2.18, 0.34), (-2.25, 0.7), (-2.18, 1.1), (1.1, 1.08), (2.1, 0.98), (2.25, 0.66), (2.18, 0.34)),
    (-2.12, -1.9, 0.35, 1.05), 1.08, (-1.36, 1.4),
)  # fmt: skip
_SHAPES = (_SALOON, _HATCHBACK, _SALOON, _OFF_ROADER)


def draw_car(
    rng: np.random.Generator, camera: Camera, pose: Pose, sun: Floats, *, lights_on: bool
) -> tuple[Drawing, tuple[float, float, float]]:
    """Draw one car.

    Parameters
    ----------
    rng
        Chooses shape and paint.
    camera, pose
        Who looks, and where the car stands.
    sun
        Unit vector towards the light, world coordinates.
    lights_on
        Whether the lamps are lit.

    Returns
    -------
    The drawing and the car's height, width and length in metres.
    """
    shape = _SHAPES[rng.integers(len(_SHAPES))]
    size = rng.uniform(0.95, 1.06)
    paint = shade(_PAINTS[rng.integers(len(_PAINTS))], rng.uniform(0.88, 1.1))
    drawing = _draw_faces(_model(shape, lights_on=lights_on), paint, size, camera, pose, sun)
    return drawing, (shape.height * size, shape.width * size, shape.length * size)


@dataclass(frozen=True)
class _Face:
    """A flat piece of a car.

    It is drawn where its outer side is seen, or ``always``. Its colour is given, or it is the car's paint, darkened
    by a factor. The light acts on paint and on glass.
    """

    corners: list[Corner]
    colour: Colour | float
    is_glass: bool = False
    always: bool = False


@dataclass(frozen=True)
class _Model:
    """All faces of a car, far wheels first, with their corners in one array; ``starts`` says where each begins."""

    faces: list[_Face]
    corners: Floats
    starts: NDArray[np.intp]


@cache
def _model(shape: CarShape, *, lights_on: bool) -> _Model:
    """Return the faces of a car of this shape."""
    faces = [
        *_wheels(shape),
        *_body(shape),
        *_ends(shape, lights_on=lights_on),
        *_wheels(shape, near=True),
        *_cabin(shape),
    ]
    starts = np.cumsum([0] + [len(face.corners) for face in faces])
    return _Model(faces, np.array([corner for face in faces for corner in face.corners]), starts)


def _draw_faces(
    model: _Model, paint: Colour, size: float, camera: Camera, pose: Pose, sun: Floats
) -> Drawing:
    """Return the faces that are seen, lit, in their order."""
    starts = model.starts
    world = pose.to_world(model.corners * size, camera.ground)
    points = camera.project(world)
    first = starts[:-1]
    normals = np.cross(world[first + 1] - world[first], world[first + 2] - world[first + 1])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    centres = np.add.reduceat(world, first, axis=0) / np.diff(starts)[:, None]
    # Corners come in either sense of rotation; outward is away from the middle of the car.
    middle = pose.to_world(np.array([[0.0, 0.7 * size, 0.0]]), camera.ground)
    normals *= np.where(((centres - middle) * normals).sum(axis=1) < 0, -1.0, 1.0)[:, None]
    seen = (centres * normals).sum(axis=1) < 0
    sunlight = np.maximum(normals @ sun, 0.0)
    # Upward faces mirror the sky, so they get a little more than the sun alone gives.
    sky = 0.12 * np.maximum(-normals[:, 1], 0.0)
    drawing = Drawing()
    for i, face in enumerate(model.faces):
        if not (seen[i] or face.always):
            continue
        if isinstance(face.colour, float):
            colour = shade(shade(paint, face.colour), 0.62 + 0.42 * float(sunlight[i]) + float(sky[i]))
        elif face.is_glass:
            colour = mix(face.colour, (235, 220, 200), 0.2 + 0.35 * float(sunlight[i]))
        else:
            colour = face.colour
        drawing.polygon(points[starts[i] : starts[i + 1]], colour)
    return drawing


def _body(shape: CarShape) -> list[_Face]:
    """Return the body: what the outline sweeps over, and the flanks with sill and crease."""
    half, outline = shape.width / 2, shape.body
    faces = [_Face([(*a, -half), (*b, -half), (*b, half), (*a, half)], 1.0) for a, b in pairwise(outline)]
    low, high = outline[0][1], outline[2][1]
    x1, x2 = outline[0][0] * 0.97, outline[-1][0] * 0.97
    for side in (-half, half):
        faces.append(_Face([(x, up, side) for x, up in outline], 1.0))
        for y1, y2, darker in ((low, low + 0.13, 0.5), (high - 0.26, high - 0.22, 0.78)):
            strip = [(x1, y1, side), (x2, y1, side), (x2, y2, side), (x1, y2, side)]
            faces.append(_Face(strip, darker))
    return faces


def _ends(shape: CarShape, *, lights_on: bool) -> list[_Face]:
    """Return bumper and lamps of both ends, the grille of the front and the number plate of the rear."""
    half, outline = shape.width / 2, shape.body
    faces = []
    for is_front, foot, lower, upper in (
        (True, outline[-1], outline[-2], outline[-3]),
        (False, outline[0], outline[1], outline[2]),
    ):
        across = partial(_across, lower, upper, half)
        faces.append(_Face([(*foot, -half), (*foot, half), (*lower, half), (*lower, -half)], (52, 50, 50)))
        if is_front:
            lamp: Colour = (214, 250, 255) if lights_on else (226, 232, 232)
            faces.append(_Face(across((0.1, 0.75), (-0.5, 0.5)), (40, 38, 38)))
        else:
            lamp = (40, 40, 250) if lights_on else (34, 30, 190)
            faces.append(_Face(across((0.1, 0.5), (-0.34, 0.34)), (212, 222, 224)))
        faces += [_Face(across((0.2, 0.95), sides), lamp) for sides in ((-0.96, -0.58), (0.58, 0.96))]
    return faces


def _across(
    lower: tuple[float, float],
    upper: tuple[float, float],
    half: float,
    heights: tuple[float, float],
    /,
    sides: tuple[float, float],
) -> list[Corner]:
    """Return a rectangle: heights as shares of the way up an end, sides as shares of half the width."""
    (xa, ya), (xb, yb) = (
        (lower[0] + (upper[0] - lower[0]) * share, lower[1] + (upper[1] - lower[1]) * share)
        for share in heights
    )
    left, right = (side * half for side in sides)
    return [(xa, ya, left), (xa, ya, right), (xb, yb, right), (xb, yb, left)]


def _wheels(shape: CarShape, *, near: bool = False) -> list[_Face]:
    """Return the wheels: far inside, for what shows below the body, or ``near``: on the flanks, with rims."""
    radius, faces = 0.33, []
    for side in (-shape.width / 2, shape.width / 2):
        for axle in shape.axles:

            def ring(share: float, z: float, lowest: float = 0.0, axle: float = axle) -> list[Corner]:
                """Return a circle of ``share`` of the wheel's radius."""
                return [
                    (axle + radius * share * c, max(radius * (1 + share * s), lowest), z) for c, s in _CIRCLE
                ]

            if not near:
                faces.append(_Face(ring(1.0, side * 0.78), _TYRE, always=True))
                continue
            faces.append(_Face(ring(1.18, side, 0.26), (20, 20, 20)))
            faces.append(_Face(ring(1.0, side), _TYRE))
            faces.append(_Face(ring(0.6, side), _RIM))
            faces.append(_Face(ring(0.22, side), (70, 70, 70)))
    return faces


def _cabin(shape: CarShape) -> list[_Face]:
    """Return roof, pillars and glass."""
    rear_foot, rear_top, front_top, front_foot = shape.cabin
    foot, roof = shape.waist - 0.02, shape.height
    wide, narrow = shape.width / 2 * 0.96, shape.width / 2 * 0.76
    faces = []
    for x1, x2 in ((rear_foot, rear_top), (front_foot, front_top)):
        corners = [(x1, foot, -wide), (x1, foot, wide), (x2, roof, narrow), (x2, roof, -narrow)]
        faces += [_Face(corners, 1.0), _Face(_inset(corners, 0.86), _GLASS, is_glass=True)]
    for s in (-1, 1):
        corners = [
            (rear_foot, foot, s * wide),
            (front_foot, foot, s * wide),
            (front_top, roof, s * narrow),
            (rear_top, roof, s * narrow),
        ]
        faces.append(_Face(corners, 1.0))
        # Two side windows with a pillar between them.
        a, b, c, d = _inset(corners, 0.88)
        for start, end in ((0.0, 0.47), (0.53, 1.0)):
            pane = [_between(a, b, start), _between(a, b, end), _between(d, c, end), _between(d, c, start)]
            faces.append(_Face(pane, _GLASS, is_glass=True))
    top = [
        (rear_top, roof, -narrow),
        (front_top, roof, -narrow),
        (front_top, roof, narrow),
        (rear_top, roof, narrow),
    ]
    return [*faces, _Face(top, 1.0)]


def _inset(corners: list[Corner], share: float) -> list[Corner]:
    """Return the corners drawn towards their middle, more so in height."""
    mx, my, mz = (sum(axis) / len(corners) for axis in zip(*corners, strict=True))
    return [(mx + (x - mx) * share, my + (y - my) * 0.76, mz + (z - mz) * 0.88) for x, y, z in corners]


def _between(a: Corner, b: Corner, share: float) -> Corner:
    """Return the point at ``share`` of the way from ``a`` to ``b``."""
    x, y, z = (p + (q - p) * share for p, q in zip(a, b, strict=True))
    return x, y, z
