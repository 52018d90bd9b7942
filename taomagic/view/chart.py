"""Loss and precision curves as a small SVG: no plotting library, no script, at most a few kilobytes.

One SVG serves two uses. In a live view it is put into the page as it is and takes the theme's colours. In a saved
notebook it becomes an image with a ``data:`` address, because JupyterLab strips ``<svg>`` from notebooks it does not
trust but keeps images; there the colours are of a middle tone that reads on white and on black.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from taomagic.view.format import clean, number, short_name
from taomagic.view.texts import tr

Point = tuple[float, float]

#: Most points drawn for one series; more are thinned out evenly, first, last, lowest and highest are always kept.
MAX_POINTS = 500

# Four hues told apart by most colour-blind people (Okabe and Ito), darkened or lightened to read on white and on black;
# the dashes tell them apart without colour.
_STROKES = (
    ("#2b7fc4", ""),
    ("#d0661b", "6 3"),
    ("#1a9270", "2 3"),
    ("#a8619a", "8 3 2 3"),
    ("#8a7a1c", "1 3"),
)
_INK_IMAGE = "#767676"
_INK_LIVE = "var(--jp-ui-font-color2, #767676)"
_FONT = "font-family='system-ui,-apple-system,Segoe UI,Noto Sans CJK SC,sans-serif' font-size='11'"

_WIDTH, _HEIGHT = 400, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 26, 24


@dataclass(frozen=True)
class Best:
    """The best point of a series and whether that is the lowest or the highest."""

    x: float
    y: float
    kind: str

    @property
    def epoch(self) -> int:
        """The 1-based epoch that the point lies in: x is 2.25 a quarter through epoch 3, and 3.0 at its end."""
        return max(math.ceil(self.x), 1)


def is_rising(name: str) -> bool:
    """Tell whether larger is better for a series (precision) or smaller (loss)."""
    return name == "mAP" or name.startswith("AP_") or "precision" in name or "acc" in name


def best_point(name: str, points: Sequence[Point]) -> Best | None:
    """Return the best finite point of a series, the earliest where several are equal."""
    finite = [point for point in points if math.isfinite(point[0]) and math.isfinite(point[1])]
    if not finite:
        return None
    rising = is_rising(name)
    x, y = max(finite, key=lambda p: p[1]) if rising else min(finite, key=lambda p: p[1])
    return Best(x, y, "highest" if rising else "lowest")


def thin(points: Sequence[Point], limit: int = MAX_POINTS) -> list[Point]:
    """Return at most ``limit`` finite points: evenly spaced buckets, each by its lowest and its highest point.

    Spikes stay visible, which they would not if every n-th point were taken.
    """
    finite = [point for point in points if math.isfinite(point[0]) and math.isfinite(point[1])]
    if len(finite) <= limit:
        return finite
    buckets = max((limit - 2) // 2, 1)
    inner = finite[1:-1]
    kept = [finite[0]]
    for i in range(buckets):
        part = inner[i * len(inner) // buckets : (i + 1) * len(inner) // buckets]
        if part:
            extremes = {min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])}
            kept.extend(sorted(extremes))
    return [*kept, finite[-1]]


def nice_ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about ``count`` round values that lie between ``low`` and ``high``."""
    span = high - low
    if not math.isfinite(span) or span <= 1e-9 * max(abs(low), abs(high), 1e-9):
        return [low]
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def chart_svg(
    series: Mapping[str, Sequence[Point]],
    *,
    title: str,
    max_points: int = MAX_POINTS,
    live: bool = False,
) -> str:
    """Return curves over epochs as an SVG of 400 × 190 units, or ``""`` where there is nothing to draw.

    Parameters
    ----------
    series
        Name → points (epoch, value). NaN and infinite values are left out. At most five series are drawn.
    title
        What the values are, for the description that screen readers read.
    max_points
        The most points drawn for one series.
    live
        Draw the axes in the theme's colour (for SVG inside a page) rather than in a middle grey (for an image).
    """
    drawn = {name: thin(points, max_points) for name, points in list(series.items())[: len(_STROKES)]}
    drawn = {name: points for name, points in drawn.items() if points}
    if not drawn:
        return ""
    ink = _INK_LIVE if live else _INK_IMAGE
    scale = _Scale.around([point for points in drawn.values() for point in points])
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {_HEIGHT}' "
        f"width='{_WIDTH}' height='{_HEIGHT}' role='img' {_FONT} style='max-width:100%;height:auto'>",
        f"<title>{escape(clean(describe(title, series)))}</title>",
        *_axes(scale, ink),
    ]
    legend_x = float(_LEFT)
    labels: list[tuple[float, float]] = []
    for (name, points), (colour, dash) in zip(drawn.items(), _STROKES, strict=False):
        parts += _curve(name, points, scale, colour, dash, labels)
        legend, legend_x = _legend(name, legend_x, colour, dash, ink)
        parts += legend
    return "".join([*parts, "</svg>"])


def as_image(svg: str, alt: str) -> str:
    """Return an SVG as an ``<img>`` that every sanitiser of notebooks lets through."""
    if not svg:
        return ""
    source = "data:image/svg+xml;charset=utf-8," + quote(svg, safe=" =:/,.-+()';!*@?[]|")
    return f'<img alt="{escape(alt)}" style="max-width:100%;height:auto" src="{source}">'


def describe(title: str, series: Mapping[str, Sequence[Point]]) -> str:
    """Return what a chart shows in one sentence, for those who can't see it."""
    told = []
    for name, points in list(series.items())[: len(_STROKES)]:
        best = best_point(name, points)
        if best is not None:
            told.append(
                tr(
                    f"{clean(short_name(name), width=40)} {best.kind} {number(best.y, name)} in epoch {best.epoch}"
                )
            )
    return f"{tr(title)}: " + "; ".join(told) if told else tr(title)


@dataclass(frozen=True)
class _Scale:
    """From epochs and values to SVG units."""

    x0: float
    x1: float
    y0: float
    y1: float

    @classmethod
    def around(cls, points: Sequence[Point]) -> _Scale:
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
        if x1 - x0 < 1e-6:
            x0, x1 = x0 - 0.5, x1 + 0.5
        size = max(abs(y0), abs(y1))
        # Values that differ only by rounding are a level line, not a mountain range.
        margin = (y1 - y0) * 0.06 if y1 - y0 > 1e-9 * max(size, 1e-9) else size * 0.1 or 1.0
        # Losses and precisions are never negative: an axis that went below zero would suggest they could be.
        return cls(x0, x1, max(y0 - margin, 0.0) if y0 >= 0 else y0 - margin, y1 + margin)

    def x(self, value: float) -> float:
        return _LEFT + (value - self.x0) / (self.x1 - self.x0) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - self.y0) / (self.y1 - self.y0) * (_HEIGHT - _TOP - _BOTTOM)


def _axes(scale: _Scale, ink: str) -> list[str]:
    parts = []
    for value in nice_ticks(scale.y0, scale.y1):
        y = f"{scale.y(value):.1f}"
        parts.append(f"<path d='M{_LEFT} {y}H{_WIDTH - _RIGHT}' stroke='#808080' stroke-opacity='.28'/>")
        parts.append(
            f"<text x='{_LEFT - 6}' y='{y}' dy='.35em' text-anchor='end' fill='{ink}'>{value:g}</text>"
        )
    ticks = [value for value in nice_ticks(scale.x0, scale.x1, 6) if value == int(value)]
    for value in ticks:
        x = f"{scale.x(value):.1f}"
        parts.append(f"<text x='{x}' y='{_HEIGHT - 8}' text-anchor='middle' fill='{ink}'>{value:g}</text>")
    base = _HEIGHT - _BOTTOM
    parts.append(f"<path d='M{_LEFT} {base}H{_WIDTH - _RIGHT}' stroke='#808080' stroke-opacity='.7'/>")
    return parts


def _curve(
    name: str,
    points: Sequence[Point],
    scale: _Scale,
    colour: str,
    dash: str,
    labels: list[tuple[float, float]],
) -> list[str]:
    """Return a curve and its best point; ``labels`` are the places where a value is written already."""
    dashes = f" stroke-dasharray='{dash}'" if dash else ""
    path = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in points)
    line = f"fill='none' stroke='{colour}' stroke-width='1.8' stroke-linejoin='round'{dashes}"
    parts = [f"<polyline points='{path}' {line}/>"]
    best = best_point(name, points)
    if best is None:
        return parts
    x, y = scale.x(best.x), scale.y(best.y)
    parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.2' fill='{colour}'/>")
    # The values of the classes stand in a table; here they would cover each other.
    place = None if name.startswith("AP_") else _free_place(x, y, labels)
    if place is not None:
        anchor = "end" if x > _WIDTH * 0.7 else "start" if x < _WIDTH * 0.25 else "middle"
        parts.append(
            f"<text x='{x:.1f}' y='{place:.1f}' text-anchor='{anchor}' fill='{colour}' font-weight='600'>"
            f"{escape(number(best.y, name))}</text>"
        )
    return parts


def _free_place(x: float, y: float, labels: list[tuple[float, float]]) -> float | None:
    """Return the height for a label beside a point where there is no other one yet, ``None`` if there is no room."""
    for offset in (-8, 16, -21, 29):
        place = y + offset
        inside = _TOP + 4 < place < _HEIGHT - _BOTTOM - 2
        if inside and all(abs(place - other_y) > 12 or abs(x - other_x) > 50 for other_x, other_y in labels):
            labels.append((x, place))
            return place
    return None


def _legend(name: str, x: float, colour: str, dash: str, ink: str) -> tuple[list[str], float]:
    dashes = f" stroke-dasharray='{dash}'" if dash else ""
    label = clean(tr(short_name(name)), width=18)
    parts = [
        f"<path d='M{x:.0f} 12h18' stroke='{colour}' stroke-width='2'{dashes}/>",
        f"<text x='{x + 23:.0f}' y='12' dy='.35em' fill='{ink}'>{escape(label)}</text>",
    ]
    return parts, x + 23 + 6.3 * len(label) + 16
