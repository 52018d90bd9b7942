"""The precision-recall picture that ``visualize_pr_curve`` asks for."""

from __future__ import annotations

from pathlib import Path

from taomagic.engine.evaluation.average_precision import Evaluation
from taomagic.engine.storage.atomic import atomic_write


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
