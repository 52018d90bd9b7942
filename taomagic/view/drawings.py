"""Pictures of what a finished stage did: from a job and its result to SVG that stands alone.

Each drawing is at most some kilobytes, so that a saved card holds one or two. Where the data for a picture is missing
(a file was deleted, a container of NVIDIA's doesn't write it), the picture is left out rather than empty.
"""

from __future__ import annotations

from collections.abc import Callable

from taomagic.launcher.job import Job
from taomagic.launcher.result import Result
from taomagic.view.draw_bars import precision_bars
from taomagic.view.draw_types import Box, Drawing, Thumbnail

__all__ = ["Box", "Drawing", "Thumbnail", "drawings_of"]


def drawings_of(job: Job, result: Result) -> list[Drawing]:
    """Return the pictures of a finished stage, the most telling one first.

    Parameters
    ----------
    job
        The job, for its command and its files.
    result
        How it ended; a job that didn't succeed has no pictures.
    """
    if not result.ok:
        return []
    draw = _STAGES.get(job.command.subtask)
    return [drawing for drawing in (draw(job, result) if draw else []) if drawing is not None]


def _evaluate(_: Job, result: Result) -> list[Drawing | None]:
    return [precision_bars(result.per_class_ap, result.metrics.get("mAP"))]


_STAGES: dict[str, Callable[[Job, Result], list[Drawing | None]]] = {"evaluate": _evaluate}
