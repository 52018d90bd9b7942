"""The strokes that all drawings share: frame, text, marks, and colours that need no colour to be told apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeVar

from taomagic.view.chart import nice_ticks
from taomagic.view.format import clean, display_width
from taomagic.view.texts import tr

WIDTH = 400
#: Reads on white (4.5:1) and on black (4.6:1); a page may set another ``color`` on the ``<svg>``.
INK = "#767676"
#: Hues of Okabe and Ito in tones that read on white and on black, and the dashes that tell lines apart without them.
COLOURS = ("#2b7fc4", "#d0661b", "#1a9270", "#a8619a", "#8a7a1c", "#b8434e")
DASHES = ("", "6 3", "2 3", "8 3 2 3", "1 3", "10 4")
#: Signs that tell points apart without colour: where the pen begins, its path, and how it draws. Paths are short,
#: because there are hundreds of them; a line of no length with a round or square end is a dot or a square.
MARKS = (
    (0, 0, "h0", "fill='none' stroke='{ink}' stroke-width='5' stroke-linecap='round'"),
    (0, 0, "h0", "fill='none' stroke='{ink}' stroke-width='4.4' stroke-linecap='square'"),
    (0, -3, "l3 5h-6z", "fill='{ink}' stroke='none'"),
    (0, -3, "l3 3-3 3-3-3z", "fill='{ink}' stroke='none'"),
    (-2, -2, "l4 4m0-4l-4 4", "fill='none' stroke='{ink}' stroke-width='1.4'"),
    (-3, 0, "h6m-3-3v6", "fill='none' stroke='{ink}' stroke-width='1.4'"),
)

_FONT = "font-family='system-ui,-apple-system,Segoe UI,Noto Sans CJK SC,sans-serif' font-size='11'"
#: Width of a character column in units, of the widest of the fonts that may be at hand.
_COLUMN = 6.8

Item = TypeVar("Item")


@dataclass(frozen=True)
class Plot:
    """A plot of two axes that begin at 0, in the left part of a drawing; the right part is for its legend."""

    x_end: float
    y_end: float
    left: float = 46.0
    top: float = 8.0
    right: float = 252.0
    bottom: float = 180.0

    @property
    def height(self) -> float:
        """Height of the drawing, with room for the words below the axis."""
        return self.bottom + 34

    def x(self, value: float) -> float:
        """Return where a value stands from the left."""
        return self.left + min(max(value / self.x_end, 0.0), 1.0) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Return where a value stands from the top."""
        return self.bottom - min(max(value / self.y_end, 0.0), 1.0) * (self.bottom - self.top)

    def axes(self, x_name: str, y_name: str) -> list[str]:
        """Return grid, numbers and names."""
        parts = []
        for value in nice_ticks(0.0, self.y_end):
            y = self.y(value)
            parts.append(rule(f"M{self.left:g} {y:.1f}H{self.right:g}", opacity=0.28 if value else 0.8))
            parts.append(text(self.left - 5, y, f"{value:g}", anchor="end"))
        for value in nice_ticks(0.0, self.x_end):
            x = self.x(value)
            parts.append(rule(f"M{x:.1f} {self.top:g}V{self.bottom:g}", opacity=0.28 if value else 0.8))
            parts.append(text(x, self.bottom + 11, f"{value:g}", anchor="middle"))
        middle = (self.top + self.bottom) / 2
        parts.append(text((self.left + self.right) / 2, self.bottom + 26, tr(x_name), anchor="middle"))
        turned = f"transform='translate(7 {middle:g})rotate(-90)' dy='.35em' text-anchor='middle'"
        return [*parts, f"<text {turned}>{escape(tr(y_name))}</text>"]


def picture(height: float, alt: str, parts: Iterable[str], *, width: float = WIDTH) -> str:
    """Return the whole SVG; ``alt`` becomes its description."""
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:g} {height:g}' width='{width:g}' "
        f"height='{height:g}' role='img' color='{INK}' fill='currentColor' {_FONT} "
        f"style='max-width:100%;height:auto'><title>{escape(clean(tr(alt)))}</title>{''.join(parts)}</svg>"
    )


def text(x: float, y: float, words: str, *, anchor: str = "", fill: str = "", bold: bool = False) -> str:
    """Return a line of text, its middle at the height ``y``; ``anchor`` is ``middle`` or ``end``."""
    more = f" text-anchor='{anchor}'" if anchor else ""
    more += f" fill='{fill}'" if fill else ""
    more += " font-weight='600'" if bold else ""
    return f"<text x='{x:.1f}' y='{y:.1f}' dy='.35em'{more}>{escape(_told(words))}</text>"


def _told(words: str) -> str:
    """Return our words in the reader's language; a single word is the name of a class or a layer."""
    return clean(tr(words) if " " in words else words)


def line(
    path: str, *, dash: str = "", stroke: str = "currentColor", width: float = 1, opacity: float = 1
) -> str:
    """Return an open path."""
    more = f" stroke-dasharray='{dash}'" if dash else ""
    more += f" stroke-opacity='{opacity:g}'" if opacity < 1 else ""
    return f"<path d='{path}' fill='none' stroke='{stroke}' stroke-width='{width:g}'{more}/>"


def rule(path: str, *, opacity: float = 0.28) -> str:
    """Return a line of the grid."""
    return f"<path d='{path}' fill='none' stroke='#808080' stroke-opacity='{opacity:g}'/>"


def bar(x: float, y: float, width: float, height: float, *, fill: str, more: str = "") -> str:
    """Return a filled rectangle."""
    return f"<rect x='{x:.1f}' y='{y:.1f}' width='{max(width, 0):.1f}' height='{height:g}' rx='2' fill='{fill}'{more}/>"


def mark(index: int, places: Iterable[tuple[float, float]], *, opacity: float = 1) -> str:
    """Return the sign with that number at each of the places, as one path."""
    dx, dy, sign, pen = MARKS[index % len(MARKS)]
    path = "".join(f"M{x + dx:.0f} {y + dy:.0f}{sign}" for x, y in places)
    more = f" opacity='{opacity:g}'" if opacity < 1 else ""
    return f"<path d='{path}' {pen.format(ink=colour(index))}{more}/>" if path else ""


def colour(index: int) -> str:
    """Return the colour of the series with that number."""
    return COLOURS[index % len(COLOURS)]


def text_width(words: str) -> float:
    """Return about how many units a text takes."""
    return display_width(words) * _COLUMN


def fit(words: str, units: float) -> str:
    """Return a text shortened in its middle to about so many units: beginning and end of a name both tell it apart."""
    words = _told(words)
    if text_width(words) <= units:
        return words
    # The halves lose a character in turn until the rest fits.
    middle = len(words) // 2
    head, tail = list(words[:middle]), list(words[middle:])
    while (head or tail) and text_width("".join(head) + "…" + "".join(tail)) > units:
        if len(head) >= len(tail):
            head.pop()
        else:
            tail.pop(0)
    return "".join(head) + "…" + "".join(tail)


def evenly(items: Sequence[Item], limit: int) -> list[Item]:
    """Return at most ``limit`` of the items, evenly spaced, the first and the last among them."""
    if len(items) <= limit:
        return list(items)
    if limit < 2:
        return list(items[:limit])
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]


def up_to(value: float) -> float:
    """Return the next round number, at least ``value``: the end of an axis that begins at 0."""
    if value <= 0:
        return 1.0
    value = max(value, 1e-9)  # far below any pixel, and far above where powers of ten end
    power = 10.0 ** math.floor(math.log10(value))
    return next(m * power for m in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10) if m * power >= value * (1 - 1e-9))


def short(value: float) -> str:
    """Return a round count in few characters: ``800``, ``20k``, ``1.5M``."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / min(size, 1e3 if sign == 'k' else size):g}{sign}"
    return whole(value)


def whole(value: float) -> str:
    """Return a count with its thousands set apart."""
    return f"{value:,.0f}"
