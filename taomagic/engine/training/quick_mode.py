"""Quick mode: shorter epochs while every file keeps its name, to try a pipeline out. Every log says so."""

from __future__ import annotations

import os

from taomagic.errors import EnvironmentProblem

#: Number of steps to which epochs are shortened; 0 or unset: whole epochs.
QUICK_MODE_VARIABLE = "TAOMAGIC_STEPS_PER_EPOCH"


def shortened(steps: int) -> int:
    """Return how many of an epoch's ``steps`` are to be made.

    Raises
    ------
    EnvironmentProblem
        If the variable is set to something else than a whole number of at least 0.
    """
    text = os.environ.get(QUICK_MODE_VARIABLE, "").strip() or "0"
    if not text.isdecimal():
        raise EnvironmentProblem(
            f"{text!r} is not a number of steps",
            where=QUICK_MODE_VARIABLE,
            hint="Set a whole number, e.g. 5, or unset it for whole epochs.",
        )
    return min(steps, int(text)) or steps
