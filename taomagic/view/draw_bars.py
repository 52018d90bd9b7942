"""Bars: average precision by class, objects by class, the share of filters kept by layer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from taomagic.view.chart import nice_ticks
from taomagic.view.draw_svg import (
    COLOURS,
    WIDTH,
    bar,
    fit,
    line,
    picture,
    rule,
    short,
    text,
    text_width,
    up_to,
    whole,
)
from taomagic.view.draw_types import Drawing
from taomagic.view.format import clean, number

#: The most rows drawn; of more classes, the first and the last of an order are.
MAX_ROWS = 18
#: The most classes told one by one in words.
MAX_TOLD = 8
_ROW, _THICK = 19.0, 11
#: Room for the names, and for the words at the right edge.
_NAMES, _WORDS = 140.0, 130.0


#: What is cut from the names of layers to group them, from little to much.
_ENDS = (r"$", r"(?<=\d[a-z])_.*$", r"(?<=\d)[a-z]?(_.*)?$", r"_?\d+[a-z]?(_.*)?$")


class Row(NamedTuple):
    """One bar: its name, its length as a share of the axis, what stands at its end. No name: rows left out."""

    name: str
    share: float
    words: str


def precision_bars(by_class: Mapping[str, float], mean: float | None) -> Drawing | None:
    """Draw the average precision of each class, and their mean as a line; ``None`` where nothing was measured."""
    values = {clean(n): v for n, v in by_class.items() if math.isfinite(v)}
    if not values:
        return None
    rows = [Row(name, value, number(value, "AP_")) for name, value in values.items()]
    shown = rows
    if len(rows) > MAX_ROWS:
        shown = _ends(sorted(rows, key=lambda row: -row.share), "{count} classes between")
    marked = mean if mean is not None and math.isfinite(mean) else None
    best = max(rows, key=lambda row: row.share)
    worst = min(rows, key=lambda row: row.share)
    if len(rows) <= MAX_TOLD:
        told = "Average precision by class: " + ", ".join(f"{row.name} {row.words}" for row in rows)
    else:
        told = f"Average precision of {len(rows)} classes: "
        told += f"from {worst.words} ({worst.name}) to {best.words} ({best.name})"
    told += f"; mean {number(marked, 'mAP')}" if marked is not None else ""
    mark = None if marked is None else (marked, f"mAP {number(marked, 'mAP')}")
    ticks = [(tick / 4, f"{tick / 4:g}") for tick in range(5)]
    return Drawing("Average precision by class", _bars(shown, ticks, told, mark=mark), told)


def object_bars(counts: Mapping[str, int]) -> Drawing | None:
    """Draw how many objects of each class there are; ``None`` where there are none."""
    total = sum(counts.values())
    if total <= 0:
        return None
    end = up_to(max(counts.values()))
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    rows = [Row(clean(name), count / end, f"{whole(count)} · {count / total:.0%}") for name, count in ordered]
    named = [f"{row.name} {whole(count)}" for row, (_, count) in zip(rows, ordered, strict=True)]
    more = ", …" if len(named) > MAX_TOLD else ""
    told = f"Objects by class: {', '.join(named[:MAX_TOLD])}{more}; {whole(total)} in all"
    ticks = [(value / end, short(value)) for value in nice_ticks(0.0, end) if value == int(value)]
    shown = _ends(rows, "{count} classes between") if len(rows) > MAX_ROWS else rows
    return Drawing("Objects by class", _bars(shown, ticks, told), told)


def kept_bars(kept: Mapping[str, float], before: Mapping[str, float], ratio: float | None) -> Drawing | None:
    """Draw the share of its filters that each layer kept, layers of many as groups; ``None`` where none is known.

    Parameters
    ----------
    kept, before
        Filters by layer, after and before pruning.
    ratio
        Parameters after pruning as a share of those before.
    """
    layers = {
        clean(n): (kept[n], before[n]) for n in before if n in kept and before[n] >= kept[n] >= 0 < before[n]
    }
    if not layers:
        return None
    sum_kept, sum_before = (sum(pair[i] for pair in layers.values()) for i in (0, 1))
    rows = []
    for name, members in _grouped(layers).items():
        after, first = (sum(layers[member][i] for member in members) for i in (0, 1))
        several = f" ×{len(members)}" if len(members) > 1 else ""
        rows.append(Row(name + several, after / first, f"{whole(after)} of {whole(first)}"))
    least = min(rows, key=lambda row: row.share)
    told = f"Filters kept: {whole(sum_kept)} of {whole(sum_before)}; the smallest share in {least.name}: {least.words}"
    told += f"; parameters kept: {ratio:.0%}" if ratio is not None else ""
    ticks = [(tick / 4, f"{tick / 4:.0%}") for tick in range(5)]
    everything = Row("all layers", sum_kept / sum_before, f"{whole(sum_kept)} of {whole(sum_before)}")
    shown = rows if len(rows) < MAX_ROWS else _ends(rows, "{count} groups of layers between")
    note = "×n: n layers together" if len(rows) < len(layers) else ""
    return Drawing(
        "Filters kept by layer", _bars([everything, *shown], ticks, told, track=True, note=note), told
    )


def _grouped(layers: Mapping[str, tuple[float, float]]) -> dict[str, list[str]]:
    """Return layers by what their names have in common, in groups as small as give fewer than :data:`MAX_ROWS` rows.

    Names are shortened from their end: ``block_2a_conv_1``, ``block_2a``, ``block_2``, ``block``. Layers that kept all
    their filters have the least to tell: they go together first.
    """
    families: dict[str, list[str]] = {}
    for name in layers:
        families.setdefault(_shortened(name, -1), []).append(name)
    untouched = {
        name: family
        for family, members in families.items()
        if all(layers[name][0] == layers[name][1] for name in members)
        for name in members
    }
    groups: dict[str, list[str]] = {}
    for level in range(len(_ENDS) + 1):
        groups = {}
        for name in layers:
            short = untouched.get(name) if level else None
            groups.setdefault(short or _shortened(name, max(level - 1, 0)), []).append(name)
        if len(groups) < MAX_ROWS:
            break
    return {members[0] if len(members) == 1 else name: members for name, members in groups.items()}


def _shortened(name: str, level: int) -> str:
    return re.sub(_ENDS[level], "", name, count=1) or name


def _ends(rows: Sequence[Row], gap: str) -> list[Row]:
    """Return the first and the last rows, and between them how many are left out."""
    first = MAX_ROWS // 2
    last = MAX_ROWS - 1 - first
    left_out = gap.format(count=len(rows) - first - last)
    return [*rows[:first], Row("", 0.0, f"… {left_out}"), *rows[-last:]]


def _bars(
    rows: Sequence[Row],
    ticks: Sequence[tuple[float, str]],
    alt: str,
    *,
    mark: tuple[float, str] | None = None,
    track: bool = False,
    note: str = "",
) -> str:
    """Return horizontal bars on an axis from 0 to 1, with ``mark`` as a line across; ``track`` outlines the whole."""
    names = [row for row in rows if row.name]
    left = 8 + min(max((text_width(row.name) for row in names), default=0.0), _NAMES)
    right = WIDTH - 12 - min(max((1.08 * text_width(row.words) for row in names), default=0.0), _WORDS)
    span = right - left
    top = 22.0 if mark else 6.0
    bottom = top + _ROW * len(rows)
    parts = []
    for share, words in ticks:
        x = left + share * span
        parts.append(rule(f"M{x:.1f} {top:g}V{bottom:g}"))
        parts.append(text(x, bottom + 11, words, anchor="middle"))
    for index, row in enumerate(rows):
        y = top + _ROW * (index + 0.5)
        if not row.name:
            parts.append(text(left + 6, y, row.words))
            continue
        if track:
            parts.append(
                f"<rect x='{left:g}' y='{y - _THICK / 2:.1f}' width='{span:g}' height='{_THICK}' rx='2' fill='none' "
                "stroke='#808080' stroke-opacity='.55'/>"
            )
        length = min(max(row.share, 0.0), 1.0) * span
        parts.append(bar(left, y - _THICK / 2, length, _THICK, fill=COLOURS[0]))
        parts.append(text(left - 6, y, fit(row.name, _NAMES), anchor="end"))
        # Beside the bars, not at their ends, where a mark or the grid would cross them.
        parts.append(text(WIDTH - 2, y, fit(row.words, _WORDS), anchor="end", bold=True))
    parts.append(rule(f"M{left:g} {top:g}V{bottom:g}", opacity=0.8))
    if mark:
        x = left + min(max(mark[0], 0.0), 1.0) * span
        parts.append(line(f"M{x:.1f} {top - 4:g}V{bottom:g}", dash="4 3", stroke=COLOURS[1], width=1.6))
        anchor = "end" if mark[0] > 0.8 else "" if mark[0] < 0.2 else "middle"
        parts.append(text(x, top - 11, mark[1], anchor=anchor, fill=COLOURS[1], bold=True))
    if note:
        parts.append(text(2, bottom + 11, note))
    return picture(bottom + 20, alt, parts)
