"""Precision over recall, a curve for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from taomagic.view.draw_svg import (
    COLOURS,
    DASHES,
    WIDTH,
    Plot,
    colour,
    evenly,
    fit,
    line,
    mark,
    picture,
    text,
)
from taomagic.view.draw_types import Drawing
from taomagic.view.format import clean, number

Point = tuple[float, float]

#: The most points drawn, of all curves together.
MAX_POINTS = 330
#: The recall whose precision is told in words.
_TOLD_RECALL = 0.5


def precision_recall(curves: Mapping[str, Sequence[Point]], by_class: Mapping[str, float]) -> Drawing | None:
    """Draw a curve of ``(recall, precision)`` for each class; of many classes the best and the worst ones.

    Parameters
    ----------
    curves
        By class; a class without points has no detections, and no curve.
    by_class
        The average precisions.
    """
    drawn = sorted((name for name in curves if curves[name]), key=lambda name: -by_class.get(name, 0.0))
    if not drawn:
        return None
    count, limit = len(drawn), len(COLOURS)
    if count > limit:
        drawn = [*drawn[: limit // 2], *drawn[-limit // 2 :]]
    plot = Plot(1.0, 1.0)
    parts = plot.axes("recall", "precision")
    told = []
    for index, name in enumerate(drawn):
        points = evenly(curves[name], MAX_POINTS // len(drawn))
        recall, precision = points[-1]
        path = _path([(plot.x(x), plot.y(y)) for x, y in [(0.0, points[0][1]), *points]])
        parts.append(line(path, stroke=colour(index), dash=DASHES[index], width=1.7))
        parts.append(mark(index, [(plot.x(recall), plot.y(precision))]))
        y = plot.top + 12 + 32 * index
        parts += _legend(index, y, clean(name), by_class.get(name))
        reached = [y for x, y in curves[name] if x >= _TOLD_RECALL]
        told.append(f"{clean(name)} {max(reached):.2f}" if reached else f"{clean(name)} does not reach it")
    note = "" if count == len(drawn) else f"best and worst {limit // 2} of {count} classes"
    if note:
        parts.append(text(WIDTH - 2, plot.height - 8, fit(note, 205), anchor="end"))
    alt = (
        (f"Of the {note}, the precision" if note else "Precision")
        + f" at recall {_TOLD_RECALL:g}: "
        + ", ".join(told)
    )
    return Drawing("Precision and recall", picture(plot.height, alt, parts), alt)


def _path(places: Sequence[Point]) -> str:
    """Return a polyline with relative steps, which take half the bytes."""
    x0, y0 = (round(value, 1) for value in places[0])
    path = f"M{x0:g} {y0:g}l"
    for x, y in places[1:]:
        # Rounding errors must not add up, so each step begins where the last one really ended.
        dx, dy = round(x - x0, 1), round(y - y0, 1)
        if dx or dy:
            path += f"{dx:g},{dy:g} "
            x0, y0 = x0 + dx, y0 + dy
    return path.rstrip() if not path.endswith("l") else path + "0,0"


def _legend(index: int, y: float, name: str, value: float | None) -> list[str]:
    left = Plot.right + 16
    parts = [
        line(f"M{left:g} {y:g}h30", stroke=colour(index), dash=DASHES[index], width=2),
        mark(index, [(left + 15, y)]),
        text(left + 38, y, fit(name, WIDTH - left - 40)),
    ]
    if value is not None:
        parts.append(text(left + 38, y + 13, f"AP {number(value, 'AP_')}", bold=True))
    return parts
