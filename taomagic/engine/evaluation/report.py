"""What is printed and recorded about a score, wherever TAO does it in SSD's way."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from taomagic.engine.console import say
from taomagic.engine.evaluation.average_precision import Evaluation
from taomagic.engine.evaluation.matching import ImageTruth
from taomagic.engine.evaluation.pr_curve import curve_points
from taomagic.engine.status import StatusLog

logger = logging.getLogger(__name__)

RULE = "*" * 31


def print_table(evaluation: Evaluation, *, digits: int) -> None:
    """Print TAO's table of average precisions between two rules of stars."""
    say(RULE)
    for name, result in evaluation.classes.items():
        say(f"{name:<14}{'AP':<6}{round(result.average_precision, digits)}")
    say(f"{'':<14}{'mAP':<6}{round(evaluation.mean_average_precision, digits)}")
    say(RULE)


def metrics_of(evaluation: Evaluation) -> dict[str, float]:
    """Return ``AP_<class>`` and ``mAP``, the names that TAO's CSV log and ``results.json`` use."""
    metrics: Mapping[str, float] = {f"AP_{n}": r.average_precision for n, r in evaluation.classes.items()}
    return {**metrics, "mAP": evaluation.mean_average_precision}


def explain(evaluation: Evaluation, truths: Sequence[ImageTruth]) -> None:
    """Tell what a person might miss in the table: objects that don't count, and classes that can only be zero."""
    difficult = sum(int(truth.difficult.sum()) for truth in truths)
    if difficult:
        total = sum(len(truth.labels) for truth in truths)
        logger.info(
            "%d of %d validation objects are difficult (occlusion above 0): they need not be found.",
            difficult,
            total,
        )
    for name, result in evaluation.classes.items():
        if not result.objects:
            logger.warning("No %s is there to be found in the validation data; its AP counts as 0.", name)


def record_scores(status: StatusLog, evaluation: Evaluation) -> None:
    """Record a finished evaluation: average precisions, their mean, and the curves."""
    metrics = metrics_of(evaluation)
    status.write(
        "SUCCESS",
        "Evaluation finished successfully.",
        kpi={"mAP": metrics.pop("mAP")},
        categorical={"average_precision": metrics},
        graphical={"precision_recall": {name: curve_points(r) for name, r in evaluation.classes.items()}},
    )
