"""What surrounds the objects: light, sky, ground, houses, trees, and furniture easily taken for a person."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from taomagic.samples.canvas import Bytes, Camera, Colour, Drawing, Floats, Pose, mix, shade

#: Distance at which the drawn street ends.
FAR_M = 70.0
_NEAR_M = 2.2


@dataclass(frozen=True)
class Light:
    """The time of day: colours of the sky, direction and strength of the sun, tint of everything.

    Attributes
    ----------
    sky_top, sky_low
        Colour overhead and at the horizon.
    sun
        Unit vector towards the sun, world coordinates (y down).
    shadow
        How much darker the shade is, 0..1.
    tint
        Factor per channel for the finished picture.
    lamps
        Whether windows and vehicle lamps are lit.
    """

    sky_top: Colour
    sky_low: Colour
    sun: Floats
    shadow: float
    tint: tuple[float, float, float]
    lamps: bool


#: (sky overhead, sky at the horizon, height of the sun, shadow, tint, lamps)
_HOURS: tuple[tuple[Colour, Colour, float, float, tuple[float, float, float], bool], ...] = (
    ((224, 160, 96), (244, 226, 206), 0.8, 0.42, (1.0, 1.0, 1.0), False),
    ((232, 176, 118), (240, 230, 216), 0.6, 0.4, (0.97, 1.0, 1.04), False),
    ((206, 198, 190), (222, 218, 214), 0.9, 0.16, (0.98, 0.96, 0.94), False),
    ((176, 166, 158), (206, 200, 194), 0.9, 0.12, (0.9, 0.87, 0.85), False),
    ((208, 164, 130), (170, 204, 246), 0.35, 0.38, (0.84, 0.95, 1.08), False),
    ((120, 82, 62), (120, 132, 190), 0.3, 0.1, (0.7, 0.62, 0.62), True),
)
_HOUR_WEIGHTS = (0.3, 0.2, 0.18, 0.12, 0.13, 0.07)

_WALLS: tuple[Colour, ...] = (
    (150, 176, 196), (112, 136, 176), (176, 186, 190), (90, 104, 148), (138, 158, 160), (196, 206, 212),
    (124, 120, 128), (150, 190, 214), (100, 128, 140), (170, 168, 150),
)  # fmt: skip


def choose_light(rng: np.random.Generator) -> Light:
    """Return the light of one scene."""
    top, low, height, shadow, tint, lamps = _HOURS[rng.choice(len(_HOURS), p=_HOUR_WEIGHTS)]
    azimuth = rng.uniform(0, 2 * np.pi)
    flat = np.sqrt(1 - height**2)
    sun = np.array([flat * np.cos(azimuth), -height, flat * np.sin(azimuth)])
    return Light(top, low, sun, shadow, tint, lamps)


@dataclass(frozen=True)
class Street:
    """Cross-section of the street, in metres from the camera's axis, and the crossing, if there is one.

    Attributes
    ----------
    left, right
        Kerbs.
    setback_left, setback_right
        Where the buildings stand.
    crossing
        (near, far) depth of the road that crosses, or ``None``.
    """

    left: float
    right: float
    setback_left: float
    setback_right: float
    crossing: tuple[float, float] | None


def choose_street(rng: np.random.Generator) -> Street:
    """Return the street of one scene."""
    left, right = -rng.uniform(5.4, 7.6), rng.uniform(2.6, 4.4)
    crossing = None
    if rng.random() < 0.45:
        near = rng.uniform(11, 17)
        crossing = (near, near + rng.uniform(6, 8))
    return Street(left, right, left - rng.uniform(2.6, 6), right + rng.uniform(2.6, 6), crossing)


@lru_cache(maxsize=4)
def _noise(seed: int, side: int = 512) -> Bytes:
    """Return a square grey texture around 128 that tiles, made of several sizes of grain."""
    rng = np.random.Generator(np.random.Philox(seed))
    total = np.zeros((side, side), np.float32)
    for step, weight in ((1, 16.0), (4, 18.0), (16, 14.0), (64, 8.0)):
        grain = np.tile(rng.standard_normal((side // step, side // step)).astype(np.float32), (3, 3))
        total += (
            weight
            * cv2.resize(grain, (3 * side, 3 * side), interpolation=cv2.INTER_CUBIC)[
                side : 2 * side, side : 2 * side
            ]
        )
    return np.clip(128 + total, 0, 255).astype(np.uint8)


@lru_cache(maxsize=4)
def film_grain(width: int, height: int) -> Bytes:
    """Return ``[height + 64, width + 64, 3]`` of grey noise around 128; a scene takes a window of it."""
    rng = np.random.Generator(np.random.Philox(11))
    noise = np.clip(128 + 24 * rng.standard_normal((height + 64, width + 64)), 0, 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(noise, cv2.COLOR_GRAY2BGR), np.uint8)


def paint_sky(rng: np.random.Generator, image: Bytes, camera: Camera, light: Light) -> None:
    """Paint the sky with clouds down to the horizon."""
    rows = max(1, min(camera.height, int(camera.horizon) + 2))
    # Everything in a sky is smooth, so it is mixed at a third of the size.
    small = max(2, camera.width // 3), max(2, rows // 3)
    ramp = np.linspace(0, 1, small[1], dtype=np.float32)[:, None, None]
    sky = np.array(light.sky_top, np.float32) * (1 - ramp) + np.array(light.sky_low, np.float32) * ramp
    # A small random grid, enlarged softly, gives clouds; they flatten towards the horizon.
    grid = rng.random((5, 9)).astype(np.float32)
    clouds = cv2.resize(grid, small, interpolation=cv2.INTER_CUBIC)
    fine = cv2.resize(rng.random((12, 28)).astype(np.float32), small, interpolation=cv2.INTER_CUBIC)
    cover = np.clip((clouds * 0.7 + fine * 0.3 - rng.uniform(0.4, 0.62)) * 3.0, 0, 0.75)[:, :, None]
    white = np.array(mix((250, 248, 246), light.sky_low, 0.35), np.float32)
    mixed = np.rint(sky + (white - sky) * cover).astype(np.uint8)
    image[:rows] = cv2.resize(mixed, (camera.width, rows), interpolation=cv2.INTER_LINEAR)


def paint_ground(rng: np.random.Generator, image: Bytes, camera: Camera, street: Street) -> None:
    """Paint verge, pavements, road and markings in perspective, then their grain."""
    first = max(0, int(np.ceil(camera.horizon)))
    verge: Colour = [(86, 132, 104), (96, 140, 124), (150, 158, 164)][rng.integers(3)]
    paved: Colour = shade((158, 162, 166), rng.uniform(0.85, 1.08))
    asphalt: Colour = shade((98, 96, 96), rng.uniform(0.8, 1.2))
    cv2.rectangle(image, (0, first), (camera.width, camera.height), verge, -1)

    def strip(x1: float, x2: float, z1: float, z2: float, colour: Colour) -> None:
        """Paint a rectangle of the ground."""
        corners = np.array([[x1, 0, z1], [x2, 0, z1], [x2, 0, z2], [x1, 0, z2]], np.float64)
        corners[:, 1] = camera.ground
        cv2.fillPoly(image, [np.rint(camera.project(corners) * 16).astype(np.int32)], colour, cv2.LINE_AA, 4)

    strip(street.setback_left, street.setback_right, _NEAR_M, FAR_M, paved)
    for x in (street.left, street.right):
        strip(x - 0.16, x + 0.16, _NEAR_M, FAR_M, shade(paved, 0.78))
    strip(street.left, street.right, _NEAR_M, FAR_M, asphalt)
    line: Colour = (222, 226, 228)
    if street.crossing is not None:
        near, far = street.crossing
        strip(-60, 60, near - 2.4, far + 2.4, paved)
        strip(-60, 60, near, far, asphalt)
        strip(street.left, street.right, near - 2.5, far + 2.5, asphalt)
        if rng.random() < 0.6:
            for x in np.arange(street.left + 0.4, street.right - 0.4, 1.0):
                strip(x, x + 0.5, near - 3.2, near - 0.9, line)
    middle = (street.left + 0.4) / 2
    for z in np.arange(_NEAR_M + rng.uniform(0, 3), FAR_M, 6.0):
        if street.crossing is None or not street.crossing[0] - 6 < z < street.crossing[1] + 1:
            strip(middle - 0.07, middle + 0.07, z, z + 3.0, line)
    _grain(rng, image, camera, first)


def _grain(rng: np.random.Generator, image: Bytes, camera: Camera, first: int) -> None:
    """Give the ground a grain that grows finer with distance."""
    rows = np.arange(first, camera.height, dtype=np.float32)
    # No farther than OpenCV's 16-bit map coordinates reach.
    depth = np.minimum(camera.focal * camera.ground / np.maximum(rows + 0.5 - camera.horizon, 0.5), 400.0)
    columns = (np.arange(camera.width, dtype=np.float32) - camera.centre) / camera.focal
    shift = rng.uniform(0, 512, 2)
    across = columns[None, :] * (depth * 26)[:, None] + np.float32(shift[0])
    along = np.repeat((depth * 26 + shift[1]).astype(np.float32)[:, None], camera.width, axis=1)
    texture = cv2.remap(
        _noise(7), across.astype(np.float32), along, cv2.INTER_NEAREST, borderMode=cv2.BORDER_WRAP
    )
    # Weaker far away, where the grain is finer than a pixel.
    strength = np.clip(9.0 / depth, 0.12, 0.55)[:, None].astype(np.float32)
    factor = (texture - np.float32(128)) * strength + np.float32(128.5)
    factor_3 = cv2.cvtColor(factor.astype(np.uint8), cv2.COLOR_GRAY2BGR)
    image[first:] = cv2.multiply(image[first:], factor_3, scale=1 / 128)


def paint_buildings(
    rng: np.random.Generator, image: Bytes, camera: Camera, light: Light, street: Street
) -> None:
    """Paint a skyline and both rows of houses, the far ones first."""
    _skyline(rng, image, camera, light)
    blocks: list[tuple[float, float, float]] = []
    for side, setback in ((-1.0, street.setback_left), (1.0, street.setback_right)):
        z = FAR_M
        while z > 3.0:
            length = rng.uniform(6, 13)
            gap = (
                street.crossing is not None
                and street.crossing[0] - 3 < z
                and z - length < street.crossing[1] + 3
            )
            out_of_sight = abs(setback) > camera.width / 2 / camera.focal * z
            if not gap and not out_of_sight and rng.random() < 0.86:
                blocks.append((z, max(z - length, _NEAR_M), side * abs(setback + side * rng.uniform(0, 0.8))))
            z -= length
    for far, near, x in sorted(blocks, reverse=True):
        _house(rng, image, camera, light, x=x, near=near, far=far)


def _skyline(rng: np.random.Generator, image: Bytes, camera: Camera, light: Light) -> None:
    """Paint hazy distant roofs and trees along the horizon."""
    hazy = mix((110, 120, 116), light.sky_low, 0.55)
    x = 0.0
    while x < camera.width:
        wide, high = camera.height * rng.uniform(0.05, 0.25), camera.height * rng.uniform(0.03, 0.16)
        corner = (round(x), round(camera.horizon - high)), (round(x + wide), round(camera.horizon) + 2)
        cv2.rectangle(image, *corner, shade(hazy, rng.uniform(0.92, 1.06)), -1)
        x += wide * rng.uniform(0.7, 1.1)


def _house(
    rng: np.random.Generator,
    image: Bytes,
    camera: Camera,
    light: Light,
    *,
    x: float,
    near: float,
    far: float,
) -> None:
    """Paint one house: the wall along the street, the end wall, and rows of windows."""
    wall = shade(_WALLS[rng.integers(len(_WALLS))], rng.uniform(0.85, 1.1))
    floors = int(rng.integers(2, 5))
    height = floors * 3.0 + 0.9
    haze = min(0.7, near / 90)
    outward = np.array([-np.sign(x), 0.0, 0.0])
    along = mix(shade(wall, 0.72 + 0.36 * max(0.0, float(outward @ light.sun))), light.sky_low, haze)
    end = mix(shade(wall, 0.66 + 0.36 * max(0.0, -float(light.sun[2]))), light.sky_low, haze)
    ground, roof = camera.ground, camera.ground - height
    deep = x + np.sign(x) * 9
    strips = (
        (along, roof, ground),
        (shade(along, 0.8), roof, roof + 0.35),
        (shade(along, 0.86), ground - 0.7, ground),
    )
    faces = [[(x, roof, near), (deep, roof, near), (deep, ground, near), (x, ground, near)]]
    faces += [
        [(x, top, near), (x, top, far), (x, bottom, far), (x, bottom, near)] for _, top, bottom in strips
    ]
    colours = [end, *(colour for colour, _, _ in strips)]
    bays = max(1, int((far - near) / 2.6))
    pitch = (far - near) / bays
    z = near + pitch * (np.arange(bays) + 0.5)
    y = ground - 3.0 * np.arange(floors) - 1.9
    zz, yy = (a.ravel() for a in np.meshgrid(z, y))
    dz = np.array([-0.24, 0.24, 0.24, -0.24]) * pitch
    dy = np.array([-0.75, -0.75, 0.75, 0.75])
    panes = np.empty((len(zz), 4, 3))
    panes[:, :, 0], panes[:, :, 1], panes[:, :, 2] = x, yy[:, None] + dy, zz[:, None] + dz
    corners = np.concatenate([np.array(faces), panes]).reshape(-1, 3)
    polygons = np.rint(camera.project(corners).reshape(-1, 4, 2) * 16).astype(np.int32)
    for polygon, colour in zip(polygons, colours, strict=False):
        cv2.fillPoly(image, [polygon], colour, cv2.LINE_AA, 4)
    windows = polygons[len(faces) :]
    lit = rng.random(len(windows)) < (0.45 if light.lamps else 0.0)
    glass = mix(mix((84, 70, 60), light.sky_top, rng.uniform(0.05, 0.35)), light.sky_low, haze)
    for chosen, colour in ((~lit, glass), (lit, mix((130, 214, 250), light.sky_low, haze))):
        if chosen.any():
            cv2.fillPoly(image, list(windows[chosen]), colour, cv2.LINE_AA, 4)


def draw_tree(rng: np.random.Generator, camera: Camera, pose: Pose, light: Light) -> Drawing:
    """Draw a tree: a trunk and a crown of overlapping balls, lighter towards the sun."""
    drawing = Drawing()
    height = rng.uniform(3.6, 6.5)
    scale = camera.focal / pose.z
    foot, fork = (
        camera.project(pose.to_world(np.array([[0.0, up, 0.0]]), camera.ground)) for up in (0.0, height * 0.6)
    )
    bark: Colour = (50, 68, 88)
    drawing.stroke(np.concatenate([foot, fork]), rng.uniform(0.18, 0.3) * scale, bark)
    leaf: Colour = [(48, 112, 72), (40, 96, 84), (60, 130, 96), (50, 120, 150)][rng.integers(4)]
    leaf = mix(leaf, light.sky_low, min(0.5, pose.z / 90))
    top = camera.project(pose.to_world(np.array([[0.0, height * 0.72, 0.0]]), camera.ground))[0]
    spread = height * 0.26
    for level, brightness, size in ((0.0, 0.72, 0.5), (0.35, 0.95, 0.42), (0.7, 1.18, 0.3)):
        towards_sun = np.array([light.sun[0], light.sun[1]]) * spread * level * 0.6
        for _ in range(7):
            at = (
                top
                + (rng.uniform(-1, 1, 2) * [spread, spread * 0.8] * (1 - 0.35 * level) + towards_sun) * scale
            )
            drawing.stroke(
                at[None],
                spread * size * 2 * rng.uniform(0.75, 1.15) * scale,
                shade(leaf, brightness * rng.uniform(0.94, 1.06)),
            )
    return drawing


def draw_furniture(rng: np.random.Generator, camera: Camera, pose: Pose, light: Light) -> Drawing:
    """Draw a lamp post, sign, bin, bollard or letter box: upright things that are none of the classes."""
    drawing = Drawing()
    scale = camera.focal / pose.z

    def line(start: tuple[float, float], end: tuple[float, float], width_m: float, colour: Colour) -> None:
        """Draw a bar between two points, each given as metres to the right and up."""
        ends = np.array([[pose.x + x, camera.ground - up, pose.z] for x, up in (start, end)])
        drawing.stroke(camera.project(ends), max(width_m * scale, 0.7), colour)

    def box(half: float, up1: float, up2: float, colour: Colour) -> None:
        """Draw a rectangle facing the camera."""
        corners = [[-half, up1], [half, up1], [half, up2], [-half, up2]]
        world = np.array([[pose.x + x, camera.ground - up, pose.z] for x, up in corners])
        drawing.polygon(camera.project(world), colour)

    grey: Colour = shade((96, 98, 100), rng.uniform(0.7, 1.2))
    kind = rng.integers(5)
    if kind == 0:
        towards = -np.sign(pose.x) * 1.3
        line((0, 0), (0, 5.6), 0.13, grey)
        line((0, 5.6), (towards, 5.8), 0.09, grey)
        line((towards * 0.7, 5.76), (towards, 5.8), 0.2, (150, 235, 255) if light.lamps else (205, 208, 210))
    elif kind == 1:
        line((0, 0), (0, 2.5), 0.07, grey)
        sign: Colour = [(40, 40, 205), (190, 90, 30), (40, 200, 240)][rng.integers(3)]
        line((0, 2.4), (0, 2.4), 0.62, (240, 240, 240))
        line((0, 2.4), (0, 2.4), 0.5, sign)
    elif kind == 2:
        colour: Colour = [(60, 110, 50), (70, 66, 62), (150, 80, 40)][rng.integers(3)]
        box(0.3, 0.02, 1.0, colour)
        box(0.34, 0.95, 1.08, shade(colour, 0.7))
    elif kind == 3:
        line((0, 0.05), (0, 0.9), 0.16, (60, 60, 62))
        line((0, 0.7), (0, 0.78), 0.17, (230, 230, 235))
    else:
        box(0.24, 0.5, 1.35, (30, 180, 240))
        line((0, 0), (0, 0.5), 0.1, grey)
    return drawing


def cast_shadows(
    image: Bytes, camera: Camera, light: Light, footprints: list[Floats], heights: list[float]
) -> None:
    """Darken the ground under and beside things.

    Parameters
    ----------
    image
        Changed in place.
    camera, light
        The scene's.
    footprints
        World polygons ``[4, 3]`` on the ground.
    heights
        Height of each thing in metres, for the length of its shadow.
    """
    if not footprints:
        return
    quarter = 4
    rows, columns = -(-camera.height // quarter), -(-camera.width // quarter)
    dark = np.zeros((rows, columns), np.float32)
    for footprint, height in zip(footprints, heights, strict=True):
        cast = (
            footprint
            - np.array([light.sun[0], 0.0, light.sun[2]]) / max(-float(light.sun[1]), 0.3) * height * 0.7
        )
        points = camera.project(np.concatenate([footprint, cast])).astype(np.float32)
        hull = cv2.convexHull(np.rint(points / quarter * 16).astype(np.int32))
        layer = np.zeros_like(dark)
        cv2.fillPoly(layer, [hull], light.shadow, cv2.LINE_8, 4)
        core = np.rint(camera.project(footprint) / quarter * 16).astype(np.int32)
        cv2.fillPoly(layer, [core], 0.55, cv2.LINE_8, 4)
        np.maximum(dark, layer, out=dark)
    soft = cv2.resize(
        cv2.GaussianBlur(dark, (3, 3), 0), (columns * quarter, rows * quarter), interpolation=cv2.INTER_LINEAR
    )
    first = max(0, int(camera.horizon) + 1)
    below = image[first:]
    factor = np.rint((1 - soft[first : camera.height, : camera.width]) * 255).astype(np.uint8)
    image[first:] = cv2.multiply(below, cv2.cvtColor(factor, cv2.COLOR_GRAY2BGR), scale=1 / 255)
