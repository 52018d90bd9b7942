"""Small pictures with what was predicted in them, and, where labels are known, what is there."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape
from typing import Any

from taomagic.view.draw_svg import WIDTH, evenly, fit, picture, text, text_width
from taomagic.view.draw_types import Box, Drawing, Thumbnail
from taomagic.view.format import clean
from taomagic.view.texts import tr

#: The most bytes of the whole drawing, the pictures in it among them.
MAX_BYTES = 12_000
#: The same for a sheet, on which there are words to be read.
MAX_SHEET_BYTES = 20_000
#: The most boxes drawn in one picture, and the most of them with their name.
MAX_BOXES, MAX_NAMES = 40, 8

#: A line that is seen on any picture: light, on a dark one that is a little wider.
_PREDICTED, _TRUE, _HALO = "#ffb52e", "#ffffff", "#1a1a1a"
_DASH = "4 3"
_CAPTION, _GAP = 15.0, 6.0
#: Size of the encoded pictures as a share of the drawn ones, and quality: the first that fits is taken.
_ENCODINGS = ((1.0, 60), (1.0, 40), (1.0, 20), (0.7, 20), (0.5, 20), (0.25, 20))


def montage(thumbnails: Sequence[Thumbnail]) -> Drawing | None:
    """Draw some of the pictures with their boxes; ``None`` where there are no pictures.

    Predicted boxes are solid, true ones dashed. Without Pillow, or where a file can't be decoded, the boxes stand on
    a grey ground of the picture's shape.
    """
    if not thumbnails:
        return None
    telling = [each for each in thumbnails if each.predicted or each.truth]
    wide = sum(each.width / each.height for each in thumbnails) / len(thumbnails) > 2
    shown = evenly(telling or thumbnails, 3 if wide else 4)
    columns = 1 if wide or len(shown) == 1 else 2
    width = (WIDTH - _GAP * (columns - 1)) / columns
    heights = [width * min(max(each.height / each.width, 0.1), 1.5) for each in shown]
    legend = _legend(shown)
    alt = "Objects found: " + "; ".join(f"{clean(each.path.name)} {_told(each)}".rstrip() for each in shown)
    images = [_decoded(each, width * _ENCODINGS[0][0]) for each in shown]
    svg = ""
    for scale, quality in (*_ENCODINGS, (0.0, 0)):
        parts, top = list(legend), 16.0 if legend else 0.0
        for first in range(0, len(shown), columns):
            for column, each in enumerate(shown[first : first + columns]):
                place = (column * (width + _GAP), top, width, heights[first + column])
                image = images[first + column] if scale else None
                data = "" if image is None else _encoded(image, _size(each, width * scale), quality)
                parts += _thumbnail(each, place, data)
            top += _CAPTION + max(heights[first : first + columns]) + _GAP
        svg = picture(top, alt, parts)
        if len(svg.encode()) <= MAX_BYTES:
            break
    title = (
        "Predicted and labelled objects" if any(each.truth is not None for each in shown) else "Objects found"
    )
    return Drawing(title, svg, alt, tuple(thumbnails))


def sheet(
    thumbnails: Sequence[Thumbnail], title: str, *, width: int = WIDTH, top: float = 1.0
) -> Drawing | None:
    """Draw the first picture as wide as there is room, as it is; ``None`` where it can't be read.

    Parameters
    ----------
    thumbnails
        Pictures into which everything has been drawn; views that can show larger ones show all.
    title
        What they show.
    width
        Of the drawing.
    top
        Share of the picture's height, from its top, that is drawn.
    """
    if not thumbnails:
        return None
    first = thumbnails[0]
    image = _decoded(first, 2 * width)  # sharp on screens with small pixels
    if image is not None and top < 1.0:
        first = replace(first, height=max(round(first.height * top), 1))
        image = image.crop((0, 0, *_size(first, 2 * width)))
    height = width * first.height / first.width
    alt = f"{tr(title)}: {', '.join(clean(each.path.name) for each in thumbnails)}"
    for scale, quality in ((2.0, 70), (2.0, 50), (1.5, 50), (1.0, 40), (0.5, 20)):
        data = "" if image is None else _encoded(image, _size(first, width * scale), quality)
        if data and len(data) < MAX_SHEET_BYTES:
            part = f"<image x='0' y='0' width='{width:g}' height='{height:.1f}' href='data:image/webp;base64,{data}'/>"
            return Drawing(title, picture(height, alt, [part], width=width), alt, tuple(thumbnails))
    return None


def _decoded(thumbnail: Thumbnail, width: float) -> Any:
    """Return the picture as a Pillow image so many pixels wide; ``None`` without Pillow, or where it can't be read."""
    try:
        from PIL import Image
    except ImportError:
        return None
    try:
        with Image.open(thumbnail.path) as image:
            size = _size(thumbnail, width)
            image.draft("RGB", size)
            return image.convert("RGB").resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    except (
        OSError,
        ValueError,
        SyntaxError,
        Image.DecompressionBombError,
    ):  # what Pillow raises for broken files
        return None


def _encoded(image: Any, size: tuple[int, int], quality: int) -> str:
    """Return an image as a WebP file in base64; empty where Pillow was built without WebP.

    WebP takes half the bytes of JPEG at these sizes, and every browser reads it since 2020.
    """
    out = io.BytesIO()
    try:
        image.resize(size, reducing_gap=2.0).save(out, "WEBP", quality=quality)
    except (OSError, KeyError):
        return ""
    return base64.b64encode(out.getvalue()).decode()


def _size(thumbnail: Thumbnail, width: float) -> tuple[int, int]:
    return max(round(width), 1), max(round(width * thumbnail.height / thumbnail.width), 1)


def _thumbnail(thumbnail: Thumbnail, place: tuple[float, float, float, float], data: str) -> list[str]:
    left, top, width, height = place
    # The name gives way, the numbers don't.
    told = f" · {_told(thumbnail)}" if _told(thumbnail) else ""
    caption = fit(thumbnail.path.name, width * 1.1 - text_width(told)) + told
    parts = [f"<g font-size='10'>{text(left, top + 6, caption)}</g>"]
    top += _CAPTION
    frame = f"x='{left:g}' y='{top:g}' width='{width:g}' height='{height:.1f}'"
    if data:
        parts.append(f"<image {frame} preserveAspectRatio='none' href='data:image/webp;base64,{data}'/>")
    else:
        parts.append(f"<rect {frame} fill='#555'/>")
    scale = (width / thumbnail.width, height / thumbnail.height)

    def drawn(box: Box) -> tuple[float, float, float, float]:
        x1, x2 = sorted(min(max(x, 0.0), thumbnail.width) * scale[0] for x in (box.x1, box.x2))
        y1, y2 = sorted(min(max(y, 0.0), thumbnail.height) * scale[1] for y in (box.y1, box.y2))
        return left + x1, top + y1, x2 - x1, y2 - y1

    best = sorted(thumbnail.predicted, key=lambda box: -(box.confidence or 0.0))[:MAX_BOXES]
    parts += _outlines(map(drawn, (thumbnail.truth or ())[:MAX_BOXES]), _TRUE, _DASH)
    parts += _outlines(map(drawn, best), _PREDICTED, "")
    return parts + _names(best[:MAX_NAMES], [drawn(box) for box in best[:MAX_NAMES]], place)


def _outlines(boxes: Iterable[tuple[float, float, float, float]], ink: str, dash: str) -> list[str]:
    path = "".join(f"M{x:.1f} {y:.1f}h{w:.1f}v{h:.1f}h-{w:.1f}z" for x, y, w, h in boxes)
    if not path:
        return []
    dashes = f" stroke-dasharray='{dash}'" if dash else ""
    return [
        f"<path d='{path}' fill='none' stroke='{_HALO}' stroke-opacity='.6' stroke-width='2.6'/>",
        f"<path d='{path}' fill='none' stroke='{ink}' stroke-width='1.3'{dashes}/>",
    ]


def _names(
    boxes: Sequence[Box],
    drawn: Sequence[tuple[float, float, float, float]],
    place: tuple[float, float, float, float],
) -> list[str]:
    """Return class and confidence above each box, but for those that would cover another one's."""
    parts: list[str] = []
    taken: list[tuple[float, float]] = []
    top, right = place[1] + _CAPTION, place[0] + place[2]
    for box, (x, y, _, height) in zip(boxes, drawn, strict=True):
        words = fit(box.class_name, 110) + ("" if box.confidence is None else f" {box.confidence:.2f}")
        long = 5.2 * len(words)
        at = (min(x, right - long), y - 4 if y - 9 > top else min(y + height + 8, y + 12))
        if any(abs(at[1] - other[1]) < 9 and abs(at[0] - other[0]) < long for other in taken):
            continue
        taken.append(at)
        parts.append(
            f"<text x='{at[0]:.1f}' y='{at[1]:.1f}' dy='.2em'>{escape(words)}</text>",
        )
    if not parts:
        return []
    style = f"font-size='8.5' font-weight='600' fill='#fff' stroke='{_HALO}' stroke-width='2.2' paint-order='stroke'"
    return [f"<g {style} stroke-linejoin='round'>{''.join(parts)}</g>"]


def _legend(shown: Sequence[Thumbnail]) -> list[str]:
    """Return what solid and dashed boxes mean, for those that there are."""
    entries = []
    if any(each.predicted for each in shown):
        entries.append(("predicted, with its confidence", _PREDICTED, ""))
    if any(each.truth is not None for each in shown):
        entries.append(("labelled", _TRUE, _DASH))
    parts, left = [], 0.0
    for words, ink, dash in entries:
        parts.append(f"<rect x='{left:g}' y='0' width='26' height='12' rx='2' fill='#555'/>")
        parts += _outlines([(left + 4, 2.5, 18, 7)], ink, dash)
        parts.append(text(left + 32, 6, tr(words)))
        left += 32 + 6.3 * len(words) + 14
    return parts


def _told(thumbnail: Thumbnail) -> str:
    if not thumbnail.predicted and thumbnail.truth is None:
        return ""
    found = f"{len(thumbnail.predicted)} found"
    return found if thumbnail.truth is None else f"{found}, {len(thumbnail.truth)} labelled"
