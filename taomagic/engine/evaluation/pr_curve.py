"""Precision over recall: as points for a record, and as the picture that ``visualize_pr_curve`` asks for."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from taomagic.engine.evaluation.average_precision import ClassResult, Evaluation
from taomagic.engine.storage.atomic import atomic_write

#: The most points of a recorded curve; on a screen more can't be told apart.
MAX_POINTS = 100


def curve_points(result: ClassResult) -> list[tuple[float, float]]:
    """Return a curve as ``(recall, precision)``, one point for each object found, thinned evenly.

    The points of detections that found nothing lie straight below those of the objects before them, and are left out,
    but for the last one, where the curve ends.
    """
    if not len(result.recall):
        return []
    found = np.flatnonzero(np.diff(result.recall, prepend=0.0) > 0)
    ends = np.union1d(found, [len(result.recall) - 1])
    kept = ends[np.unique(np.linspace(0, len(ends) - 1, min(len(ends), MAX_POINTS)).round().astype(int))]
    return [(round(float(result.recall[i]), 4), round(float(result.precision[i]), 4)) for i in kept]


def write_pr_curve(path: Path, evaluation: Evaluation) -> None:
    """Draw one curve for each class into a PNG file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    for name, result in evaluation.classes.items():
        axes.step(
            result.recall, result.precision, where="post", label=f"{name}  AP {result.average_precision:.3f}"
        )
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title="Precision and recall")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)
