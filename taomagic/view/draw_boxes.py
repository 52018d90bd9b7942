"""The sizes of the boxes in a data set, width over height."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from taomagic.view.draw_svg import COLOURS, WIDTH, Plot, evenly, fit, mark, picture, text, up_to, whole
from taomagic.view.draw_types import Drawing
from taomagic.view.format import clean

Point = tuple[float, float]

#: The most boxes drawn, of all classes together.
MAX_BOXES = 240


def box_sizes(sizes: Mapping[str, Sequence[Point]], counts: Mapping[str, int]) -> Drawing | None:
    """Draw width over height of boxes, a sign for each class; of many classes the most frequent ones.

    Parameters
    ----------
    sizes
        ``(width, height)`` in pixels by class, an even sample.
    counts
        Objects by class, in all.
    """
    classes = [name for name in sorted(sizes, key=lambda name: -counts.get(name, 0)) if sizes[name]]
    drawn = classes[: len(COLOURS)]
    if not drawn:
        return None
    chosen = {name: evenly(sizes[name], MAX_BOXES // len(drawn)) for name in drawn}
    plot = Plot(
        up_to(max(width for points in chosen.values() for width, _ in points)),
        up_to(max(height for points in chosen.values() for _, height in points)),
    )
    parts = plot.axes("width in pixels", "height in pixels")
    shown = sum(map(len, chosen.values()))
    told = []
    for index, (name, points) in enumerate(chosen.items()):
        parts.append(mark(index, [(plot.x(w), plot.y(h)) for w, h in points], opacity=0.75))
        middle = f"{median(w for w, _ in sizes[name]):.0f} × {median(h for _, h in sizes[name]):.0f}"
        left, y = plot.right + 18, plot.top + 12 + 32 * index
        parts.append(mark(index, [(left, y)]))
        parts.append(text(left + 12, y, fit(name, WIDTH - left - 14)))
        parts.append(text(left + 12, y + 13, f"median {middle}"))
        told.append(f"{clean(name)} {middle} pixels")
    total = sum(counts.get(name, len(sizes[name])) for name in classes)
    note = f"{whole(shown)} of {whole(total)} boxes" if total > shown else f"all {whole(total)} boxes"
    parts.append(text(WIDTH - 2, plot.height - 8, fit(note, 205), anchor="end"))
    alt = f"Width and height of {note}; the median of " + ", ".join(told)
    return Drawing("Sizes of the boxes", picture(plot.height, alt, parts), alt)
