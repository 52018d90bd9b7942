"""Pedestrians and cyclists: jointed figures in three dimensions, drawn as limbs with thickness."""

from __future__ import annotations

import numpy as np

from taomagic.samples.canvas import Camera, Colour, Drawing, Pose, shade

_SKINS: tuple[Colour, ...] = (
    (150, 180, 226),
    (110, 148, 205),
    (80, 112, 168),
    (52, 72, 116),
    (176, 200, 236),
)
_HAIRS: tuple[Colour, ...] = ((28, 30, 36), (40, 60, 92), (90, 140, 180), (120, 124, 128))
_TOPS: tuple[Colour, ...] = (
    (46, 46, 200), (196, 110, 40), (60, 150, 60), (40, 190, 235), (220, 220, 222), (150, 60, 130),
    (40, 110, 230), (70, 64, 60), (190, 170, 60), (96, 40, 160),
)  # fmt: skip
_TROUSERS: tuple[Colour, ...] = (
    (92, 60, 36),
    (50, 48, 48),
    (110, 120, 130),
    (130, 90, 60),
    (40, 60, 90),
    (30, 28, 34),
)
_SHOE: Colour = (30, 30, 34)
_HELMETS: tuple[Colour, ...] = ((240, 240, 240), (40, 40, 220), (30, 200, 240), (60, 60, 60), (220, 120, 30))
_CIRCLE = np.linspace(0.0, 2 * np.pi, 25)


class _Figure:
    """Limbs in the figure's own coordinates (forward, up, to the side), sorted by distance when drawn."""

    def __init__(self, camera: Camera, pose: Pose) -> None:
        self.camera, self.pose = camera, pose
        self._limbs: list[tuple[list[tuple[float, float, float]], float, Colour, float]] = []

    def limb(
        self,
        joints: list[tuple[float, float, float]],
        thickness_m: float,
        colour: Colour,
        *,
        bring: float = 0.0,
    ) -> None:
        """Add a limb through the joints; ``bring`` draws it as if it were that much nearer, in metres."""
        self._limbs.append((joints, thickness_m, colour, bring))

    def patch(self, corners: list[tuple[float, float, float]], colour: Colour, *, bring: float = 0.0) -> None:
        """Add a flat piece of clothing."""
        self._limbs.append((corners, 0.0, colour, bring))

    def drawing(self) -> Drawing:
        """Return the figure, far limbs first."""
        starts = np.cumsum([0] + [len(joints) for joints, *_ in self._limbs])
        world = self.pose.to_world(
            np.array([joint for joints, *_ in self._limbs for joint in joints]), self.camera.ground
        )
        depths = np.add.reduceat(world[:, 2], starts[:-1]) / np.diff(starts)
        points = self.camera.project(world)
        drawing = Drawing()
        for i in np.argsort([limb[3] for limb in self._limbs] - depths, kind="stable"):
            _, thickness_m, colour, _ = self._limbs[i]
            part = points[starts[i] : starts[i + 1]]
            if thickness_m == 0.0:
                drawing.polygon(part, colour)
            else:
                drawing.stroke(part, max(thickness_m * self.camera.focal / float(depths[i]), 0.5), colour)
        return drawing


def _torso(
    figure: _Figure, hips: tuple[float, float], shoulders: tuple[float, float], colour: Colour
) -> None:
    """Draw a trunk from (forward, up) of the hips to the shoulders, of several limbs so that it has depth."""
    (hx, hy), (sx, sy) = hips, shoulders
    for side in (-0.1, 0.0, 0.1):
        figure.limb([(hx, hy, side * 0.8), (sx, sy - 0.06, side)], 0.21, colour)
    figure.limb([(sx, sy - 0.02, -0.15), (sx, sy - 0.02, 0.15)], 0.15, colour)


def draw_pedestrian(
    rng: np.random.Generator, camera: Camera, pose: Pose, light: float
) -> tuple[Drawing, tuple[float, float, float]]:
    """Draw a walking or standing person.

    Parameters
    ----------
    rng
        Chooses size, clothes and the moment of the step.
    camera, pose
        Who looks, and where the person is.
    light
        Brightness of the clothes, about 1.

    Returns
    -------
    The drawing and the person's height, width and length in metres.
    """
    height = rng.uniform(1.6, 1.92)
    top = shade(_TOPS[rng.integers(len(_TOPS))], light)
    trousers = shade(_TROUSERS[rng.integers(len(_TROUSERS))], light)
    skin = shade(_SKINS[rng.integers(len(_SKINS))], light)
    hair = _HAIRS[rng.integers(len(_HAIRS))]
    step = rng.uniform(0.24, 0.42) * rng.choice([-1, 1])
    skirt, backpack, bag = rng.random() < 0.18, rng.random() < 0.25, rng.random() < 0.25
    figure = _Figure(camera, pose)
    hip, shoulder = 0.5 * height, 0.815 * height
    for sign in (-1, 1):
        swing, side = sign * step, sign * 0.115
        foot_up = 0.05 + (0.09 if swing < 0 else 0.0)
        knee = (swing * 0.55 + 0.06, 0.28 * height, side)
        lower = skin if skirt else trousers
        figure.limb([(0.0, hip, side), knee], 0.185, trousers)
        figure.limb([knee, (swing, foot_up + 0.03, side)], 0.14, lower)
        figure.limb([(swing - 0.03, foot_up, side), (swing + 0.14, foot_up, side)], 0.1, _SHOE)
        elbow = (-swing * 0.35 - 0.04, 0.62 * height, sign * 0.27)
        hand = (-swing * 0.85 + 0.05, 0.48 * height, sign * 0.29)
        figure.limb([(0.0, shoulder - 0.05, sign * 0.2), elbow], 0.125, shade(top, 0.86))
        figure.limb([elbow, hand], 0.105, shade(top, 0.86))
        figure.limb([hand], 0.11, skin)
        if bag and sign == 1:
            x, y, z = hand
            figure.patch(
                [
                    (x - 0.14, y - 0.36, z),
                    (x + 0.14, y - 0.36, z),
                    (x + 0.12, y - 0.06, z),
                    (x - 0.12, y - 0.06, z),
                ],
                (50, 80, 130),
            )
            figure.limb([(x, y - 0.2, z - 0.04), (x, y - 0.2, z + 0.04)], 0.24, (50, 80, 130))
    _torso(figure, (0.0, hip), (0.02, shoulder), top)
    if skirt:
        for side in (-0.12, 0.0, 0.12):
            figure.limb(
                [(0.0, hip + 0.03, side * 0.8), (0.0, 0.33 * height, side * 1.4)], 0.26, trousers, bring=0.1
            )
    if backpack:
        figure.limb(
            [(-0.2, hip + 0.14, 0.0), (-0.18, shoulder - 0.12, 0.0)],
            0.3,
            shade(_TOPS[rng.integers(len(_TOPS))], 0.8 * light),
        )
    _head(figure, (0.04, 0.92 * height), skin, hair)
    return figure.drawing(), (height, 0.62, 0.75)


def _head(figure: _Figure, at: tuple[float, float], skin: Colour, hair: Colour) -> None:
    """Draw neck, head and hair; the hair sits behind the face, so that the way a person looks can be seen."""
    x, y = at
    figure.limb([(x - 0.02, y - 0.16, 0.0), (x, y - 0.05, 0.0)], 0.1, shade(skin, 0.85))
    figure.limb([(x - 0.03, y + 0.03, 0.0)], 0.25, hair, bring=0.02)
    figure.limb([(x + 0.035, y - 0.02, 0.0)], 0.2, skin, bring=0.06)
    figure.limb([(x, y + 0.075, -0.03), (x, y + 0.075, 0.03)], 0.14, hair, bring=0.12)


def draw_cyclist(
    rng: np.random.Generator, camera: Camera, pose: Pose, light: float
) -> tuple[Drawing, tuple[float, float, float]]:
    """Draw a person on a bicycle; arguments and result as for :func:`draw_pedestrian`."""
    scale = rng.uniform(0.96, 1.08)
    top = shade(_TOPS[rng.integers(len(_TOPS))], light)
    trousers = shade(_TROUSERS[rng.integers(len(_TROUSERS))], light)
    skin = shade(_SKINS[rng.integers(len(_SKINS))], light)
    helmet = shade(_HELMETS[rng.integers(len(_HELMETS))], light)
    frame = shade(_TOPS[rng.integers(len(_TOPS))], 0.8 * light)
    crank = rng.uniform(0, 2 * np.pi)
    figure = _Figure(camera, pose)
    radius, rear, front = 0.35, -0.54, 0.56

    def at(x: float, y: float, z: float = 0.0) -> tuple[float, float, float]:
        return x * scale, y * scale, z * scale

    for axle in (rear, front):
        ring = [at(axle + radius * np.cos(a), radius + radius * np.sin(a)) for a in _CIRCLE]
        figure.limb(ring, 0.06, (28, 28, 30))
        for a in _CIRCLE[:12:2]:
            x, y = radius * np.cos(a), radius * np.sin(a)
            figure.limb(
                [at(axle - x, radius - y), at(axle + x, radius + y)], 0.012, (120, 120, 122), bring=-0.02
            )
    pedal, seat, bar = at(-0.06, 0.3), at(-0.24, 0.9), at(0.44, 0.98)
    for joints in (
        [at(rear, radius), pedal, bar, at(-0.2, 0.78), at(rear, radius)],
        [pedal, seat],
        [at(front, radius), bar],
    ):
        figure.limb(joints, 0.05, frame)
    figure.limb([at(0.46, 1.02, -0.27), at(0.46, 1.02, 0.27)], 0.045, (40, 40, 40))
    figure.limb([at(-0.34, 0.93), at(-0.14, 0.93)], 0.08, (30, 30, 30))
    for sign in (-1, 1):
        angle = crank + (np.pi if sign == 1 else 0.0)
        side = sign * 0.12
        foot = (-0.06 + 0.17 * np.cos(angle), 0.3 + 0.17 * np.sin(angle))
        knee = (0.18 + 0.06 * np.cos(angle), 0.72 + 0.1 * np.sin(angle))
        figure.limb([at(-0.22, 0.98, side), at(*knee, side)], 0.18, trousers)
        figure.limb([at(*knee, side), at(foot[0], foot[1] + 0.06, side)], 0.13, trousers)
        figure.limb(
            [at(foot[0] - 0.05, foot[1] + 0.03, side), at(foot[0] + 0.14, foot[1] + 0.03, side)], 0.09, _SHOE
        )
        figure.limb(
            [at(0.2, 1.46, sign * 0.2), at(0.24, 1.2, sign * 0.27), at(0.46, 1.04, sign * 0.24)],
            0.11,
            shade(top, 0.86),
        )
        figure.limb([at(0.46, 1.04, sign * 0.24)], 0.1, skin)
    _torso(figure, (-0.22 * scale, 1.0 * scale), (0.18 * scale, 1.52 * scale), top)
    x, y, _ = at(0.3, 1.68)
    _head(figure, (x, y), skin, helmet)
    figure.limb([(x - 0.08, y + 0.08, 0.0), (x + 0.06, y + 0.09, 0.0)], 0.18, helmet, bring=0.2)
    return figure.drawing(), (1.8 * scale, 0.62, 1.8 * scale)
