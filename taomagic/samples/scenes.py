"""One street scene: who stands where, drawn from back to front, with exact labels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from taomagic.samples.canvas import Bytes, Camera, Drawing, Floats, Pose, Sprite
from taomagic.samples.cars import draw_car
from taomagic.samples.people import draw_cyclist, draw_pedestrian
from taomagic.samples.scenery import (
    Light,
    Street,
    cast_shadows,
    choose_light,
    choose_street,
    draw_furniture,
    draw_tree,
    film_grain,
    paint_buildings,
    paint_ground,
    paint_sky,
)

CLASSES = ("Car", "Pedestrian", "Cyclist")
#: Objects with a smaller visible share are labelled ``DontCare``.
LEAST_VISIBLE = 0.25
#: So are objects whose box inside the image is smaller than this share of the image's height.
LEAST_HEIGHT = 0.06
_LEAST_WIDTH = 0.035


@dataclass(frozen=True)
class SceneObject:
    """One label.

    Attributes
    ----------
    name
        ``Car``, ``Pedestrian``, ``Cyclist``, or ``DontCare`` for what nobody could be asked to find.
    box
        x1, y1, x2, y2 in pixels: the edges of the tight box around the whole object, parts hidden behind others
        included, clipped to the image (0..width, 0..height). It comes from the drawn mask, not from the 3-D box.
    truncation
        Share of the object's box that lies outside the image, 0..1.
    occlusion
        0 fully visible, 1 partly (a fifth or more hidden), 2 largely (half or more hidden).
    alpha, rotation_y
        Observation angle and heading, -pi..pi.
    dimensions
        Height, width, length in metres.
    location
        x, y, z of the bottom's middle in camera coordinates, metres.
    """

    name: str
    box: tuple[float, float, float, float]
    truncation: float
    occlusion: int
    alpha: float
    rotation_y: float
    dimensions: tuple[float, float, float]
    location: tuple[float, float, float]

    def label_row(self) -> str:
        """Return the 15 fields of a KITTI label row."""
        box = " ".join(f"{value:.2f}" for value in self.box)
        if self.name == "DontCare":
            return f"DontCare -1 -1 -10 {box} -1 -1 -1 -1000 -1000 -1000 -10"
        size = " ".join(f"{value:.2f}" for value in self.dimensions)
        place = " ".join(f"{value:.2f}" for value in self.location)
        seen = f"{self.truncation:.2f} {self.occlusion} {self.alpha:.2f}"
        return f"{self.name} {seen} {box} {size} {place} {self.rotation_y:.2f}"


@dataclass(frozen=True)
class Scene:
    """A drawn scene.

    Attributes
    ----------
    image
        ``[height, width, 3]`` uint8, BGR.
    objects
        Labels, nearest first.
    sprites
        Per object what was drawn, hidden and outside parts included.
    owners
        ``[height, width]`` int16: index into ``objects`` of the object seen in each pixel, -1 elsewhere.
    """

    image: Bytes
    objects: tuple[SceneObject, ...]
    sprites: tuple[Sprite, ...]
    owners: np.ndarray


@dataclass(frozen=True)
class _Thing:
    """Something that stands on the ground, before it is drawn; ``name`` is empty for trees and furniture."""

    name: str
    pose: Pose
    drawing: Drawing
    dimensions: tuple[float, float, float]


def draw_scene(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Draw one street scene.

    Parameters
    ----------
    rng
        Decides everything; the same generator state gives the same bytes.
    width, height
        Size in pixels, at least 64 each.
    """
    # KITTI's cameras see about 80 degrees across; narrow pictures keep about the same scale of things.
    focal = float(np.sqrt(0.58 * width * 1.86 * height))
    camera = Camera(width, height, focal, height * rng.uniform(0.41, 0.46))
    light, street = choose_light(rng), choose_street(rng)
    image = np.empty((height, width, 3), np.uint8)
    paint_sky(rng, image, camera, light)
    paint_ground(rng, image, camera, street)
    paint_buildings(rng, image, camera, light, street)
    things = _people_the_street(rng, camera, light, street)
    things.sort(key=lambda thing: -thing.pose.z)
    footprints = [_footprint(thing, camera) for thing in things]
    cast_shadows(image, camera, light, footprints, [thing.dimensions[0] for thing in things])
    sprites = [thing.drawing.rasterise() for thing in things]
    owners = np.full((height, width), -1, np.int16)
    for i, sprite in enumerate(sprites):
        sprite.paint_on(image)
        window = sprite.window(width, height)
        if window is not None:
            rows, columns, own_rows, own_columns = window
            owners[rows, columns][sprite.mask[own_rows, own_columns]] = i
    return _label(_finish(rng, image, light), things, sprites, owners, camera)


def _people_the_street(
    rng: np.random.Generator, camera: Camera, light: Light, street: Street
) -> list[_Thing]:
    """Return everything that stands in the street, none of it inside another."""
    things: list[_Thing] = []
    taken: list[tuple[float, float, float]] = []
    seen: list[tuple[float, float, float]] = []
    # The half angle of view limits how far to the side a thing can stand and still be seen.
    spread = camera.width / 2 / camera.focal

    def place(name: str, radius: float, spots: list[tuple[float, float, float]]) -> Pose | None:
        """Return the first of the spots (x, z, heading) that is free and not behind a nearer thing."""
        for x, z, heading in spots:
            if abs(x) > spread * z * 1.02 or any(math.hypot(x - a, z - b) < radius + r for a, b, r in taken):
                continue
            left, right = (x - radius * 0.7) / z, (x + radius * 0.7) / z
            shared = max((min(right, b) - max(left, a) for a, b, _ in seen), default=0.0)
            if name and shared > 0.6 * (right - left) and rng.random() < 0.92:
                continue
            taken.append((x, z, radius))
            if name:
                seen.append((left, right, z))
            return Pose(x, z, heading)
        return None

    wanted = ["Car"] * int(rng.choice([0, 1, 2, 3, 4], p=[0.06, 0.26, 0.34, 0.24, 0.1]))
    wanted += ["Pedestrian"] * int(rng.choice([0, 1, 2, 3, 4], p=[0.1, 0.26, 0.32, 0.22, 0.1]))
    wanted += ["Cyclist"] * int(rng.choice([0, 1, 2], p=[0.2, 0.5, 0.3]))
    radius = {"Car": 1.9, "Pedestrian": 0.45, "Cyclist": 0.85}
    for name in rng.permutation(wanted).tolist():
        spot = {"Car": _car_spot, "Pedestrian": _pedestrian_spot, "Cyclist": _cyclist_spot}[name]
        pose = place(name, radius[name], [spot(rng, street, spread) for _ in range(12)])
        if pose is None:
            continue
        brightness = rng.uniform(0.88, 1.12)
        if name == "Car":
            drawing, size = draw_car(rng, camera, pose, light.sun, lights_on=light.lamps)
        elif name == "Pedestrian":
            drawing, size = draw_pedestrian(rng, camera, pose, brightness)
        else:
            drawing, size = draw_cyclist(rng, camera, pose, brightness)
        things.append(_Thing(name, pose, drawing, size))
    for _ in range(rng.integers(3, 9)):
        side = street.left - 0.7 if rng.random() < 0.5 else street.right + 0.7
        z = rng.uniform(6.5, 34)
        pose = place("", 0.5, [(side + np.sign(side) * rng.uniform(0, 1.4), z, 0.0)])
        if pose is None:
            continue
        tree = rng.random() < 0.35 and z > 9
        draw = draw_tree if tree else draw_furniture
        things.append(_Thing("", pose, draw(rng, camera, pose, light), (4.5 if tree else 1.0, 0.4, 0.4)))
    return things


_ALONG = _AWAY, _TOWARDS = -np.pi / 2, np.pi / 2
_ACROSS = 0.0, np.pi


def _car_spot(rng: np.random.Generator, street: Street, spread: float) -> tuple[float, float, float]:
    """Return x, z, heading of a car: parked at a kerb, driving either way, turning, or crossing."""
    kind = rng.random()
    z = rng.uniform(7.5, 21)
    if kind < 0.26:
        return street.right - 1.0 + rng.uniform(-0.15, 0.15), z, _AWAY + rng.normal(0, 0.05)
    if kind < 0.44:
        return street.left + 1.0 + rng.uniform(-0.15, 0.15), z, _TOWARDS + rng.normal(0, 0.05)
    if kind < 0.56:
        return rng.uniform(-0.8, 0.8), z, _AWAY + rng.normal(0, 0.05)
    if kind < 0.7:
        return street.left / 2 - 0.6, z, _TOWARDS + rng.normal(0, 0.05)
    heading = _ACROSS[rng.integers(2)] + rng.normal(0, 0.1)
    if kind < 0.9:
        z = rng.uniform(*street.crossing) if street.crossing else rng.uniform(11, 22)
        return rng.uniform(-spread, spread) * z, z, heading
    return rng.uniform(street.left + 1.5, street.right - 1.2), rng.uniform(9, 20), rng.uniform(-np.pi, np.pi)


def _pedestrian_spot(rng: np.random.Generator, street: Street, spread: float) -> tuple[float, float, float]:
    """Return x, z, heading of a person: on a pavement along the street, or crossing it."""
    z = rng.uniform(5.5, 13.5)
    if rng.random() < 0.55:
        edge, wall = (
            (street.left, street.setback_left)
            if rng.random() < 0.45
            else (street.right, street.setback_right)
        )
        x = edge + (wall - edge) * rng.uniform(0.15, 0.85)
        z = max(z, abs(x) / spread * rng.uniform(0.98, 1.5))
        if z > 15:
            x, z = rng.uniform(street.left, street.right), rng.uniform(6.5, 13)
        return x, z, _ALONG[rng.integers(2)] + rng.normal(0, 0.35)
    x = rng.uniform(max(street.left, -spread * z), min(street.right, spread * z))
    return x, z, _ACROSS[rng.integers(2)] + rng.normal(0, 0.3)


def _cyclist_spot(rng: np.random.Generator, street: Street, spread: float) -> tuple[float, float, float]:
    """Return x, z, heading of a cyclist: riding at the edge of the road, or across it."""
    z = rng.uniform(6, 15.5)
    kind = rng.random()
    if kind < 0.26:
        return street.right - rng.uniform(0.5, 1.8), z, _AWAY + rng.normal(0, 0.3)
    if kind < 0.5:
        return street.left + rng.uniform(0.6, 2.2), z, _TOWARDS + rng.normal(0, 0.3)
    x = rng.uniform(max(street.left - 1, -spread * z), min(street.right + 1, spread * z))
    return x, z, _ACROSS[rng.integers(2)] + rng.normal(0, 0.35)


def _footprint(thing: _Thing, camera: Camera) -> Floats:
    """Return the corners of what the thing covers of the ground, world coordinates."""
    _, width, length = thing.dimensions
    a, b = length / 2, width / 2
    return thing.pose.to_world(
        np.array([[-a, 0.0, -b], [a, 0.0, -b], [a, 0.0, b], [-a, 0.0, b]]), camera.ground
    )


def _finish(rng: np.random.Generator, image: Bytes, light: Light) -> Bytes:
    """Return the picture as a camera would take it: tinted, exposed, slightly soft and noisy."""
    exposure = rng.uniform(0.88, 1.1)
    levels = np.arange(256, dtype=np.float64)
    table = np.stack([np.clip(levels * factor * exposure, 0, 255) for factor in light.tint], axis=-1)
    toned = cv2.LUT(image, np.rint(table).astype(np.uint8)[None])
    soft = cv2.GaussianBlur(toned, (3, 3), rng.uniform(0.3, 0.75))
    height, width = image.shape[:2]
    top, left = rng.integers(0, 64, 2)
    grain = film_grain(width, height)[top : top + height, left : left + width]
    strength = rng.uniform(2.0, 5.0) / 24
    return np.asarray(cv2.addWeighted(soft, 1.0, grain, strength, -128 * strength), np.uint8)


def _label(
    image: Bytes, things: list[_Thing], sprites: list[Sprite], owners: np.ndarray, camera: Camera
) -> Scene:
    """Return the scene with a label for every car and person that reaches into the image, nearest first."""
    objects: list[SceneObject] = []
    drawn: list[Sprite] = []
    renumbered = np.full_like(owners, -1)
    for i in range(len(things) - 1, -1, -1):
        thing, sprite = things[i], sprites[i]
        window = sprite.window(camera.width, camera.height) if thing.name else None
        if window is None:
            continue
        rows, columns, own_rows, own_columns = window
        whole_mask = sprite.mask
        mask = whole_mask[own_rows, own_columns]
        if not mask.any():
            continue
        whole, inside = _extent(whole_mask), _extent(mask, columns.start, rows.start)
        area_whole = (whole[2] - whole[0]) * (whole[3] - whole[1])
        area_inside = (inside[2] - inside[0]) * (inside[3] - inside[1])
        seen = owners[rows, columns] == i
        visible = int(np.count_nonzero(seen))
        in_image = visible / int(np.count_nonzero(mask))
        hidden_only = inside[3] - inside[1] < LEAST_HEIGHT * camera.height
        hidden_only |= inside[2] - inside[0] < _LEAST_WIDTH * camera.height
        hidden_only |= visible < LEAST_VISIBLE * int(np.count_nonzero(whole_mask))
        pose = thing.pose
        x, y, z = pose.x, camera.ground, pose.z
        objects.append(
            SceneObject(
                name="DontCare" if hidden_only else thing.name,
                box=inside,
                truncation=1 - area_inside / area_whole,
                occlusion=0 if in_image >= 0.8 else 1 if in_image >= 0.5 else 2,
                alpha=_wrap(pose.heading - np.arctan2(x, z)),
                rotation_y=_wrap(pose.heading),
                dimensions=thing.dimensions,
                location=(x, y, z),
            )
        )
        renumbered[rows, columns][seen] = len(objects) - 1
        drawn.append(sprite)
    return Scene(image, tuple(objects), tuple(drawn), renumbered)


def _extent(mask: np.ndarray, left: int = 0, top: int = 0) -> tuple[float, float, float, float]:
    """Return the edges x1, y1, x2, y2 of the set pixels of a mask whose corner lies at (left, top)."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return (
        float(left + columns[0]),
        float(top + rows[0]),
        float(left + columns[-1] + 1),
        float(top + rows[-1] + 1),
    )


def _wrap(angle: float) -> float:
    """Return the angle brought into -pi..pi."""
    return float((angle + np.pi) % (2 * np.pi) - np.pi)
