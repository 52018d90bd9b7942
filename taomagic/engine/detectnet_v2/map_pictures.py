"""Pictures that show a learner what DetectNet_v2 learns: ellipses, dead zones and coverage, and what a network says.

Pure drawing: arrays in, one picture out. The ground is dark and part of the picture, so that it reads on a light page
as on a dark one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from taomagic.engine.data.images import Image
from taomagic.engine.detectnet_v2.clustering import Detections
from taomagic.engine.detectnet_v2.targets import STRIDE
from taomagic.engine.inference.marks import Colour, drawable

Floats = npt.NDArray[np.float32]

#: Width of one panel in pixels: two side by side are as wide as a notebook on a sharp screen.
PANEL = 720
#: The most classes in one picture.
MAX_CLASSES = 6
_GAP, _MARGIN, _CAPTION, _TEXT = 16, 16, 34, 20
_GROUND, _INK, _FAINT = (27, 29, 33), (232, 232, 232), (150, 153, 160)
#: By class, bright on dark, told apart by most colour-blind people; after Okabe and Ito.
_COLOURS: tuple[Colour, ...] = (
    (255, 181, 46), (86, 190, 243), (47, 209, 151), (233, 143, 193), (240, 228, 66), (255, 112, 77),
)  # fmt: skip
_TRUTH: Colour = (255, 255, 255)
_FRACTION = 8  # of a pixel, in bits: cv2 draws ellipses between pixels
_DASH = 12.0  # degrees


@dataclass(frozen=True)
class Shown:
    """One image and what belongs to it, in pixels of the network's input.

    Attributes
    ----------
    pixels
        [H, W, 3] uint8 RGB.
    boxes, classes
        [n, 4] corners of the objects, and their channels from 0.
    ellipses
        [n, 6]: centre x and y, radii of the coverage, radii of the dead zone.
    targets
        [C, h, w] coverage that the network shall learn.
    coverage
        [C, h, w] coverage that it gives; ``None`` without a model.
    found
        By class, the objects that clustering makes of it.
    """

    pixels: Image
    boxes: Floats
    classes: npt.NDArray[np.int64]
    ellipses: Floats
    targets: Floats
    coverage: Floats | None = None
    found: Mapping[str, Detections] | None = None


def draw_targets(shown: Shown, names: Sequence[str]) -> Image:
    """Return the objects with their ellipses, and the coverage map of each class."""
    caption = "Boxes, ellipses of coverage (filled) and their dead zones (dashed)"
    first = _panel(caption, _with_ellipses(shown, 2 * PANEL + _GAP))
    panels = []
    for channel in _told(shown, len(names)):
        count = int((shown.classes == channel).sum())
        cells = int((shown.targets[channel] > 0).sum())
        caption = f"{_name(names, channel)}: {count} object{'s'[: count != 1]}, {cells} cells with coverage"
        panels.append(_panel(caption, _with_heat(shown.pixels, shown.targets[channel]), _colour(channel)))
    return _sheet(panels, first)


def draw_coverage(shown: Shown, names: Sequence[str]) -> Image:
    """Return what a network shall say, on the left, and what it says, on the right: objects, then class by class."""
    assert shown.coverage is not None
    found = shown.found or {}
    count = sum(len(each.confidence) for each in found.values())
    panels = [
        _panel(f"{len(shown.boxes)} objects, with ellipses and dead zones", _with_ellipses(shown, PANEL)),
        _panel(f"{count} found in the cells below (white: the objects)", _with_boxes(shown, names)),
    ]
    for channel in _told(shown, len(names)):
        name, ink = _name(names, channel), _colour(channel)
        highest = float(shown.coverage[channel].max(initial=0.0))
        panels.append(_panel(f"{name}: to be learnt", _with_heat(shown.pixels, shown.targets[channel]), ink))
        caption = f"{name}: predicted, at most {highest:.2f}"
        panels.append(_panel(caption, _with_heat(shown.pixels, shown.coverage[channel]), ink))
    return _sheet(panels)


def _told(shown: Shown, count: int) -> list[int]:
    """Return the channels that are drawn: of many classes those that are there, or are thought to be."""
    if count <= MAX_CLASSES:
        return list(range(count))
    weight = shown.targets.sum(axis=(1, 2))
    if shown.coverage is not None:
        weight = weight + shown.coverage.sum(axis=(1, 2))
    return sorted(np.argsort(-weight, kind="stable")[:MAX_CLASSES].tolist())


def _name(names: Sequence[str], channel: int) -> str:
    """Return a class' name, as far as the font has its letters."""
    return names[channel] if names[channel].isascii() else f"class {channel + 1}"


def _colour(channel: int) -> Colour:
    return _COLOURS[channel % len(_COLOURS)]


def _large(pixels: Image, width: int = PANEL) -> tuple[Image, float]:
    """Return an image of a width, and how much larger that is."""
    scale = width / pixels.shape[1]
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    large = cv2.resize(pixels, (width, max(1, round(pixels.shape[0] * scale))), interpolation=how)
    return np.ascontiguousarray(large, np.uint8), scale


def _with_ellipses(shown: Shown, width: int) -> Image:
    """Return the image with boxes, ellipses and dead zones."""
    canvas, scale = _large(shown.pixels, width)
    _grid(canvas, scale)
    line = 2 if width > PANEL else 1
    for box, ellipse, channel in zip(shown.boxes, shown.ellipses, shown.classes.tolist(), strict=True):
        colour = _colour(channel)
        corners = drawable(box * scale)
        x, y, rx, ry, dx, dy = (ellipse * scale).tolist()
        tinted = canvas.copy()
        around = _arc((x, y), (rx, ry), (0.0, 360.0))
        cv2.fillPoly(tinted, [around], colour, cv2.LINE_AA, _FRACTION)
        cv2.addWeighted(tinted, 0.35, canvas, 0.65, 0.0, dst=canvas)
        cv2.rectangle(canvas, corners[:2], corners[2:], colour, line, cv2.LINE_AA)
        _lines(canvas, [around], colour, line)
        dashes = [
            _arc((x, y), (dx, dy), (angle, angle + _DASH))
            for angle in np.arange(0.0, 360.0, 2 * _DASH).tolist()
        ]
        _lines(canvas, dashes, _TRUTH, line)
    return canvas


def _with_boxes(shown: Shown, names: Sequence[str]) -> Image:
    """Return the image with the true boxes, and over them those that were found."""
    canvas, scale = _large(shown.pixels)
    for box in shown.boxes:
        corners = drawable(box * scale)
        cv2.rectangle(canvas, corners[:2], corners[2:], _TRUTH, 1, cv2.LINE_AA)
    notes: list[tuple[tuple[int, int], str, Colour]] = []
    for channel, name in enumerate(names):
        each = (shown.found or {}).get(name)
        if each is None:
            continue
        for box, confidence in zip(each.boxes, each.confidence.tolist(), strict=True):
            x1, y1, x2, y2 = drawable(box * scale)
            cv2.rectangle(canvas, (x1, y1), (x2, y2), _colour(channel), 2, cv2.LINE_AA)
            notes.append(((x1, y1), f"{_name(names, channel)} {confidence:.2f}", _colour(channel)))
    return _with_notes(canvas, notes)


def _with_notes(canvas: Image, notes: Sequence[tuple[tuple[int, int], str, Colour]]) -> Image:
    """Return the picture with words above (or, at the top, below) places; none covers another one."""
    picture = PillowImage.fromarray(canvas)
    draw, font = ImageDraw.Draw(picture), _font(_TEXT - 6)
    taken: list[tuple[float, float, float, float]] = []
    for (left, top), text, colour in notes:
        box = draw.textbbox((0, 0), text, font=font)
        width, height = box[2] - box[0], box[3] - box[1]
        x = min(max(left, 0), max(0, picture.width - width - 4))
        y = top - height - 6 if top >= height + 8 else top + 2
        place = (x, y, x + width + 4, y + height + 4)
        if any(place[0] < b[2] and b[0] < place[2] and place[1] < b[3] and b[1] < place[3] for b in taken):
            continue
        taken.append(place)
        draw.rectangle(place, fill=(0, 0, 0))
        draw.text((x + 2 - box[0], y + 2 - box[1]), text, fill=colour, font=font)
    return np.asarray(picture)


def _with_heat(pixels: Image, cells: Floats) -> Image:
    """Return the image in dark grey, with the cells glowing by their coverage."""
    canvas, scale = _large(pixels)
    grey = cv2.cvtColor(canvas, cv2.COLOR_RGB2GRAY).astype(np.float32) * 0.4
    ground = np.repeat(grey[..., None], 3, axis=2)
    high, wide = canvas.shape[:2]
    values = np.clip(np.nan_to_num(cells), 0.0, 1.0)
    glow = cv2.applyColorMap(np.rint(255 * values).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    glow = cv2.resize(np.ascontiguousarray(glow), (wide, high), interpolation=cv2.INTER_NEAREST)
    # Faint coverage is there, too: what is told from none begins at a share of its own.
    share = np.where(values > 0.01, 0.35 + 0.5 * values, 0.0).astype(np.float32)
    strength = cv2.resize(share, (wide, high), interpolation=cv2.INTER_NEAREST)[..., None]
    result: Image = np.rint((1 - strength) * ground + strength * glow).astype(np.uint8)
    _grid(result, scale)
    return result


def _grid(canvas: Image, scale: float) -> None:
    """Draw the cells' borders, so faint that they don't disturb; none where cells are tiny."""
    if STRIDE * scale < 8:
        return
    height, width = canvas.shape[:2]
    for x in np.arange(STRIDE * scale, width, STRIDE * scale):
        canvas[:, int(x)] = canvas[:, int(x)] // 8 * 7 + 16
    for y in np.arange(STRIDE * scale, height, STRIDE * scale):
        canvas[int(y)] = canvas[int(y)] // 8 * 7 + 16


def _arc(
    centre: tuple[float, float], radii: tuple[float, float], angles: tuple[float, float]
) -> npt.NDArray[np.int32]:
    """Return points along a part of an ellipse, in fractions of a pixel."""
    steps = max(4, math.ceil((angles[1] - angles[0]) / 4))
    turn = np.radians(np.linspace(*angles, steps + 1))
    line = np.stack([centre[0] + radii[0] * np.cos(turn), centre[1] + radii[1] * np.sin(turn)], axis=1)
    return np.rint(np.clip(line, -8000, 8000) * (1 << _FRACTION)).astype(np.int32)


def _lines(canvas: Image, lines: Sequence[npt.NDArray[np.int32]], colour: Colour, width: int) -> None:
    cv2.polylines(canvas, lines, False, colour, width, cv2.LINE_AA, _FRACTION)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        return ImageFont.load_default(size)
    except (TypeError, OSError):  # a Pillow before 10.1, or without FreeType: one small font
        return ImageFont.load_default()


def _panel(caption: str, picture: Image, ink: Colour = _INK) -> Image:
    """Return a picture under its caption."""
    canvas = PillowImage.new("RGB", (picture.shape[1], picture.shape[0] + _CAPTION), _GROUND)
    canvas.paste(PillowImage.fromarray(picture), (0, _CAPTION))
    ImageDraw.Draw(canvas).text((0, 4), caption, fill=ink, font=_font(_TEXT))
    return np.asarray(canvas)


def _sheet(panels: Sequence[Image], first: Image | None = None) -> Image:
    """Return panels of the same size in two columns, one of twice the width above, the scale of coverage below."""
    height, width = panels[0].shape[:2]
    above = 0 if first is None else first.shape[0] + _GAP
    rows = -(-len(panels) // 2)
    size = (2 * (width + _MARGIN) + _GAP, above + rows * (height + _GAP) - _GAP + 2 * _MARGIN + _CAPTION)
    sheet = PillowImage.new("RGB", size, _GROUND)
    if first is not None:
        sheet.paste(PillowImage.fromarray(first), (_MARGIN, _MARGIN))
    for index, panel in enumerate(panels):
        place = (_MARGIN + index % 2 * (width + _GAP), _MARGIN + above + index // 2 * (height + _GAP))
        sheet.paste(PillowImage.fromarray(panel), place)
    draw, font = ImageDraw.Draw(sheet), _font(_TEXT - 2)
    top = sheet.height - _MARGIN - 16
    colours = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[None], cv2.COLORMAP_INFERNO)[..., ::-1]
    scale = PillowImage.fromarray(np.ascontiguousarray(np.repeat(colours, 14, axis=0)))
    draw.text((_MARGIN, top - 4), "coverage 0", fill=_FAINT, font=font)
    left = _MARGIN + int(draw.textlength("coverage 0", font=font)) + 10
    sheet.paste(scale, (left, top))
    words = f"1      one cell of the grid: {STRIDE} by {STRIDE} pixels of the network's input"
    draw.text((left + 256 + 10, top - 4), words, fill=_FAINT, font=font)
    return np.asarray(sheet)
