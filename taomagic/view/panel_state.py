"""What the page is told about a job: plain dictionaries and lists, made from snapshots and events.

No widget and no clock here. Everything is bounded, so that a training of days costs the page what one of minutes does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from taomagic.launcher import events
from taomagic.launcher.job import Job
from taomagic.launcher.progress import Snapshot
from taomagic.launcher.states import JobState
from taomagic.view import static, summary
from taomagic.view.chart import Point, best_point, describe, is_rising, thin
from taomagic.view.draw_types import Figures
from taomagic.view.format import STATE_SIGN, clean, number, short_name, without_prefix
from taomagic.view.markup import BEST
from taomagic.view.texts import tr

#: Lines of the log kept for pages that open later, and lines that a page keeps.
KEPT_LINES = 5000
#: The most lines sent at once. What a faster log prints in between is counted, and stands in the file.
SENT_LINES = 500
#: Characters of a line that are sent.
LINE_WIDTH = 2000
#: Points of a curve that are sent.
CHART_POINTS = 240
#: Lines, and bytes of them, that stand in the state which every page gets.
TAIL_LINES, TAIL_BYTES = 200, 32_000
#: Rows of a table, and charts' series, that are sent.
ROWS = 60

ERROR, WARNING, PLAIN = "e", "w", "."


@dataclass(frozen=True)
class Stages:
    """The stages of a cell, and which of them this is (0-based)."""

    labels: tuple[str, ...] = ()
    index: int = 0

    def for_page(self) -> list[dict[str, str]]:
        """Return a name and a part (``done``, ``now``, ``later``) for each; nothing where there is only one."""
        if len(self.labels) < 2:
            return []
        part = {-1: "done", 0: "now", 1: "later"}
        return [
            {"label": clean(label, width=40), "part": part[(i > self.index) - (i < self.index)]}
            for i, label in enumerate(self.labels)
        ]


class Lines:
    """The last lines of a log, each with a mark that says whether it tells an error or a warning."""

    def __init__(self) -> None:
        self._kept: deque[list[str]] = deque(maxlen=KEPT_LINES)
        self._in_traceback = False
        #: How many lines there have been.
        self.count = 0
        #: The line that the next one will replace.
        self.bar = ""

    def take(self, new: Iterable[events.Event]) -> None:
        """Take in the lines among new events; a problem marks the line that it was read from."""
        for event in new:
            if isinstance(event, events.Line):
                if event.transient:
                    self.bar = event.text
                    continue
                self.bar = ""
                self._kept.append([event.text, self._mark(event)])
                self.count += 1
            elif isinstance(event, events.Problem) and self._kept:
                self._kept[-1][1] = ERROR if event.severity == "error" else WARNING
                self._in_traceback = False

    def _mark(self, line: events.Line) -> str:
        if line.text.startswith("Traceback (most recent call last)"):
            self._in_traceback = True
        elif self._in_traceback and line.text[:1].strip():
            # The exception itself; a problem follows it and marks it. What comes behind is no traceback any more.
            self._in_traceback = False
            return ERROR
        if self._in_traceback or line.level == "ERROR":
            return ERROR
        return WARNING if line.level == "WARNING" else PLAIN

    def forget(self) -> None:
        """Let go of the lines; their number stays."""
        self._kept.clear()

    def since(self, number: int, most: int = SENT_LINES) -> dict[str, Any]:
        """Return the lines from ``number`` (0-based) on, the last ``most`` of them at the most."""
        first = max(number, self.count - len(self._kept), self.count - most)
        skip = len(self._kept) - (self.count - first)
        picked = [self._kept[i] for i in range(skip, len(self._kept))]
        return {
            "first": first,
            "lines": [shown(text) for text, _ in picked],
            "marks": "".join(mark for _, mark in picked),
        }

    def tail(self) -> dict[str, Any]:
        """Return the last lines for the state that every page gets: bounded in number and in bytes."""
        tail = self.since(0, TAIL_LINES)
        size = 0
        for index in range(len(tail["lines"]) - 1, -1, -1):
            size += len(tail["lines"][index].encode()) + 4
            if size > TAIL_BYTES:
                keep = index + 1
                return {
                    "first": tail["first"] + keep,
                    "lines": tail["lines"][keep:],
                    "marks": tail["marks"][keep:],
                }
        return tail


def shown(line: str) -> str:
    """Return a line of the log as the page shows it."""
    return clean(without_prefix(line), width=LINE_WIDTH)


def head(job: Job, stages: Stages) -> dict[str, Any]:
    """Return what doesn't change while a job runs."""
    return {
        "job": job.id,
        "card": static.card_label(job.id),
        "label": clean(job.command.label, width=60),
        "command": clean(job.shown, width=4000),
        "where": clean(tr(job.where), width=200),
        "why": clean(tr(job.why), width=300),
        "log": clean(str(job.log_path), width=1000),
        "stages": stages.for_page(),
        "stage": tr(f"Stage {stages.index + 1} of {len(stages.labels)}") if len(stages.labels) > 1 else "",
    }


def now(
    snapshot: Snapshot, *, notice: str = "", bar: str = "", usage: Sequence[Sequence[str]] = ()
) -> dict[str, Any]:
    """Return how a job stands.

    Parameters
    ----------
    snapshot
        The job.
    notice
        A sentence of ours.
    bar
        The progress line that the next line will replace.
    usage
        ``(name, value, note)`` of what the job uses: speed, memory.
    """
    running = not snapshot.state.finished
    return {
        "state": snapshot.state.value,
        "chip": f"{STATE_SIGN[snapshot.state]} {tr(snapshot.state.value)}",
        "finished": not running,
        "elapsed": round(snapshot.elapsed_s, 1),
        "fraction": None if snapshot.fraction is None else round(snapshot.fraction, 4),
        "words": summary.progress_words(snapshot),
        "epochs": [snapshot.epoch or 0, snapshot.epochs]
        if snapshot.epochs and snapshot.epochs <= 200
        else None,
        "notes": [note for note in (*summary.notes(snapshot), tr(notice) if running else "") if note],
        "problem": _problem(snapshot),
        "tiles": [*_tiles(snapshot), *([tr(word) for word in each] for each in usage if running)],
        "bar": shown(bar) if running else "",
    }


def _problem(snapshot: Snapshot) -> dict[str, str] | None:
    bad = snapshot.state in (JobState.FAILED, JobState.LOST)
    if not bad and not snapshot.errors:
        return None
    lost = snapshot.state is JobState.LOST
    ending = "The job was lost." if lost else f"Ended with exit code {snapshot.exit_code}."
    cause = snapshot.cause or (snapshot.errors[-1] if snapshot.errors else ending)
    return {
        "cause": clean(tr(cause), width=1500),
        "hint": clean(tr(snapshot.hints[0]), width=1500) if snapshot.hints else "",
    }


def _tiles(snapshot: Snapshot) -> list[list[str]]:
    return [
        [clean(tr(short_name(name)), width=24), *summary.latest_and_best(name, snapshot)]
        for name in summary.watched_names(snapshot)[:6]
    ]


def charts(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return the curves in groups, the best point of each marked; a curve has two points at least."""
    curves = {name: points for name, points in snapshot.series.items() if len(points) > 1}
    losses = [name for name in ("loss", "validation_loss") if name in curves]
    precisions = sorted((name for name in curves if is_rising(name)), key=lambda name: (name != "mAP", name))
    rates = [name for name in ("lr", "learning_rate") if name in curves]
    others = [name for name in curves if name not in {*losses, *precisions, *rates}]
    groups = (
        ("loss", "Loss", losses),
        ("precision", "Average precision", precisions),
        ("rate", "Learning rate", rates),
        ("other", "Other values", others),
    )
    return [
        {
            "key": key,
            "title": tr(title),
            "told": describe(title, {name: curves[name] for name in names}),
            "series": [_curve(name, curves[name]) for name in names[:ROWS]],
        }
        for key, title, names in groups
        if names
    ]


def _curve(name: str, points: Sequence[Point]) -> dict[str, Any]:
    best = best_point(name, points)
    constant = len({y for _, y in points}) == 1
    marked = best is not None and not constant and short_name(name) != "lr"
    return {
        "name": name,
        "label": clean(tr(short_name(name)), width=32),
        # As text: each list would be looked through for binary data on its way to the page.
        "points": " ".join(f"{x:.6g},{y:.6g}" for x, y in thin(points, CHART_POINTS)),
        "best": [best.x, best.y, number(best.y, name), best.epoch, best.kind] if best and marked else None,
    }


def _metric(name: str, snapshot: Snapshot) -> list[str]:
    """Return a number's name, its last value, and the best one with its epoch, where it has a course."""
    points = snapshot.series.get(name, [])
    last, _ = summary.latest_and_best(name, snapshot)
    best = best_point(name, points) if len(points) > 1 and short_name(name) != "lr" else None
    found = [number(best.y, name), str(best.epoch)] if best else ["", ""]
    return [clean(tr(short_name(name)), width=60), last, *found]


def figures(measured: Figures) -> dict[str, Any]:
    """Return a table of figures for the page: each value with its mark, and whether it is the best of its row."""
    return {
        "title": tr(measured.title),
        "names": list(measured.names),
        "rows": [
            [
                tr(name),
                [[BEST + value, True] if i in best else [tr(value), False] for i, value in enumerate(values)],
            ]
            for name, values, best in measured.rows
        ],
        "notes": [tr(note) for note in measured.notes],
    }


def result(snapshot: Snapshot) -> dict[str, Any]:
    """Return what a finished job leaves: the precision of each class, and the files with both their paths."""
    files = [
        {
            "kind": tr(summary.kind_of(artefact)),
            "count": count,
            "host": clean(str(artefact.host), width=1000),
            "container": clean(artefact.container, width=1000),
        }
        for artefact, count in summary.grouped(snapshot.artefacts)[-ROWS:]
    ]
    metrics = [_metric(name, snapshot) for name in summary.watched_names(snapshot)]
    classes = [
        [clean(name, width=60), number(value, "AP_")]
        for name, value in list(snapshot.per_class_ap.items())[:ROWS]
    ]
    return {"metrics": metrics[:ROWS], "classes": classes, "files": files}
