"""Figures of a finished stage, side by side with the best marked: what `tao deploy NET compare` measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from taomagic.launcher.job import Job
from taomagic.launcher.progress import Snapshot
from taomagic.launcher.result import Result
from taomagic.launcher.states import JobState
from taomagic.view import draw_sources as sources
from taomagic.view.draw_types import Figures
from taomagic.view.format import clean
from taomagic.view.markup import BEST
from taomagic.view.tables import text_table
from taomagic.view.texts import tr

#: The most classes and models shown; a comparison of more is in its file.
MAX_CLASSES, MAX_MODELS = 24, 8


def figures_of(job: Job, result: Result | Snapshot) -> list[Figures]:
    """Return the tables of a finished stage; files that are missing or odd only mean fewer of them.

    Parameters
    ----------
    job
        The job, for its command and its files.
    result
        How it ended; a job that didn't succeed has no figures.
    """
    if job.command.subtask != "compare" or result.state is not JobState.SUCCEEDED:
        return []
    content = comparison_of(job)
    return [_of_comparison(content)] if content else []


def comparison_of(job: Job) -> Mapping[str, Any]:
    """Return what a comparison recorded of itself; empty where that isn't there."""
    given = set(job.command.args)

    def is_ours(record: Mapping[str, Any]) -> bool:
        content = sources.part(record, "graphical", "comparison")
        models = _models(content)
        return len(models) > 1 and all(model.get("file") in given for model in models)

    record = sources.status_record(job, "graphical", "comparison", is_ours)
    return sources.part(record, "graphical", "comparison")


def figure_lines(figures: Sequence[Figures]) -> list[str]:
    """Return tables as text."""
    lines: list[str] = []
    for each in figures:
        rows = [
            [tr(name), *(BEST + value if i in best else tr(value) for i, value in enumerate(values))]
            for name, values, best in each.rows
        ]
        lines += [tr(each.title), *text_table(["", *each.names], rows), *map(tr, each.notes)]
    return lines


def _models(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    models = content.get("models")
    return [model for model in models if isinstance(model, dict)] if isinstance(models, list) else []


def _of_comparison(content: Mapping[str, Any]) -> Figures:
    models = _models(content)[:MAX_MODELS]
    recommended = content.get("recommended")
    rows = [
        (
            "",
            tuple("recommended" if model.get("name") == recommended else "" for model in models),
            frozenset(),
        ),
        ("kind", tuple(clean(str(model.get("kind", "")), width=24) for model in models), frozenset()),
        ("runs on", tuple(clean(str(model.get("place", "")), width=40) for model in models), frozenset()),
        _row("mAP", [model.get("mAP") for model in models], "{:.3f}", max),
    ]
    classes = dict.fromkeys(name for model in models for name in _table(model, "AP"))
    for name in list(classes)[:MAX_CLASSES]:
        rows.append(
            _row(
                f"AP {clean(name, width=40)}",
                [_table(model, "AP").get(name) for model in models],
                "{:.3f}",
                max,
            )
        )
    rows += [
        _row("size in MB", [model.get("size_mb") for model in models], "{:.1f}", min),
        _row(
            "latency in ms, median",
            [_table(model, "latency_ms").get("median") for model in models],
            "{:.1f}",
            min,
        ),
        _row(
            "latency in ms, 95th percentile",
            [_table(model, "latency_ms").get("p95") for model in models],
            "{:.1f}",
            min,
        ),
    ]
    for size in dict.fromkeys(name for model in models for name in _table(model, "images_per_second")):
        values = [_table(model, "images_per_second").get(size) for model in models]
        rows.append(_row(f"images per second, {clean(size, width=6)} at once", values, "{:.1f}", max))
    changed = [model.get("changed_boxes") for model in models]
    rows.append(_row("boxes unlike the first one's", [None, *changed[1:]], "{:.0f}", None))
    words = content.get("words")
    notes = [clean(str(word), width=400) for word in words] if isinstance(words, list) else []
    return Figures(
        "Models compared",
        tuple(clean(str(model.get("name", "")), width=60) for model in models),
        tuple(rows),
        tuple(notes),
    )


def _table(model: Mapping[str, Any], name: str) -> dict[str, float]:
    found = model.get(name)
    return sources.numbers(found) if isinstance(found, dict) else {}


def _row(
    name: str, values: Sequence[Any], form: str, best: Callable[[list[float]], float] | None
) -> tuple[str, tuple[str, ...], frozenset[int]]:
    """Return a row; values that look alike are equally good, and where all are, none is marked."""
    known = {
        index: float(value)
        for index, value in enumerate(values)
        if isinstance(value, int | float) and math.isfinite(value)
    }
    told = tuple(form.format(known[index]) if index in known else "–" for index in range(len(values)))
    if best is None or not known:
        return name, told, frozenset()
    winner = form.format(best(list(known.values())))
    winners = frozenset(index for index in known if told[index] == winner)
    return name, told, winners if len(winners) < len(known) else frozenset()
