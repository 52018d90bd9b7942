"""Pictures of what a finished stage did: from a job and its result to SVG that stands alone.

Each drawing is at most some kilobytes, so that a saved card holds one or two. Where the data for a picture is missing
(a file was deleted, a container of NVIDIA's doesn't write it), the picture is left out rather than empty.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from taomagic.launcher.job import Job
from taomagic.launcher.progress import Snapshot
from taomagic.launcher.result import Result
from taomagic.launcher.states import JobState
from taomagic.view import draw_sources as sources
from taomagic.view.draw_bars import kept_bars, object_bars, precision_bars
from taomagic.view.draw_boxes import box_sizes
from taomagic.view.draw_curves import precision_recall
from taomagic.view.draw_pictures import montage, sheet
from taomagic.view.draw_svg import WIDTH
from taomagic.view.draw_types import Box, Drawing, Thumbnail
from taomagic.view.figures import comparison_of

__all__ = ["Box", "Drawing", "Thumbnail", "drawings_of"]

#: `evaluate` prints three decimals.
_ROUNDING = 0.000_51


def drawings_of(job: Job, result: Result | Snapshot) -> list[Drawing]:
    """Return the pictures of a finished stage, the most telling one first.

    Files that are missing or odd only mean fewer pictures.

    Parameters
    ----------
    job
        The job, for its command and its files.
    result
        How it ended; a job that didn't succeed has no pictures.
    """
    draw = _STAGES.get(job.command.subtask)
    if draw is None or result.state is not JobState.SUCCEEDED:
        return []
    return [drawing for drawing in draw(job, result) if drawing is not None]


def _evaluate(job: Job, result: Result | Snapshot) -> list[Drawing | None]:
    printed = result.per_class_ap
    one = 100.0 if job.command.task == "detectnet_v2" else 1.0  # it writes per cent

    def is_ours(record: Mapping[str, Any]) -> bool:
        written = sources.numbers(sources.part(record, "categorical", "average_precision"))
        written = {name.removeprefix("AP_"): value / one for name, value in written.items()}
        return written.keys() == printed.keys() and all(
            abs(written[name] - printed[name]) < _ROUNDING for name in printed
        )

    record = sources.status_record(job, "graphical", "precision_recall", is_ours)
    curves = sources.part(record, "graphical", "precision_recall")
    return [
        precision_bars(printed, result.metrics.get("mAP")),
        precision_recall({name: sources.points(curve) for name, curve in curves.items()}, printed),
    ]


def _prune(job: Job, result: Result | Snapshot) -> list[Drawing | None]:
    ratio = result.metrics.get("pruning_ratio")

    def is_ours(record: Mapping[str, Any]) -> bool:
        kpi = record.get("kpi")
        return isinstance(kpi, dict) and ratio is not None and kpi.get("pruning_ratio") == ratio

    record = sources.status_record(job, "categorical", "filters_kept", is_ours)
    kept, before = (
        sources.numbers(sources.part(record, "categorical", name)) for name in ("filters_kept", "filters")
    )
    return [kept_bars(kept, before, ratio)]


def _dataset_convert(job: Job, _: Result | Snapshot) -> list[Drawing | None]:
    counts = sources.object_counts(job.log_path)

    def is_ours(record: Mapping[str, Any]) -> bool:
        return sources.numbers(sources.part(record, "categorical", "num_objects")) == counts

    record = sources.status_record(job, "graphical", "box_sizes", is_ours)
    sizes = sources.part(record, "graphical", "box_sizes")
    return [
        object_bars(counts),
        box_sizes({name: sources.points(points) for name, points in sizes.items()}, counts),
    ]


def _inference(job: Job, _: Result | Snapshot) -> list[Drawing | None]:
    return [montage(sources.pictures(job))]


def _show(_: Job, result: Result | Snapshot) -> list[Drawing | None]:
    sheets = sources.written_pictures(result.artefacts)
    learnt = [each for each in sheets if each.path.name.startswith("coverage_")]
    targets = [each for each in sheets if each not in learnt]
    return [sheet([*learnt, *targets], "What the network learns")]


def _compare(job: Job, result: Result | Snapshot) -> list[Drawing | None]:
    # Of the images one below the other only the first: with all of them nobody could read a card of some kilobytes.
    top = comparison_of(job).get("first_image_share")
    share = float(top) if isinstance(top, int | float) and 0 < top < 1 else 1.0
    pictures = sources.written_pictures(result.artefacts)
    return [sheet(pictures, "Where the models disagree", width=2 * WIDTH, top=share)]


_STAGES: dict[str, Callable[[Job, Result | Snapshot], list[Drawing | None]]] = {
    "compare": _compare,
    "dataset_convert": _dataset_convert,
    "evaluate": _evaluate,
    "inference": _inference,
    "prune": _prune,
    "show": _show,
}
