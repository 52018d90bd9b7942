"""What ``evaluate`` says about a model besides its score, the same for every network."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from taomagic.engine.console import say

#: Calls to time; what they may take together, in seconds; and how many there are even if they take longer.
_REPEATS, _BUDGET_S, _LEAST = 30, 4.0, 5


def median_ms(call: Callable[[], object]) -> float:
    """Return the median time of a call in milliseconds: of thirty calls, or of fewer where a call takes long."""
    seconds: list[float] = []
    warm_ups = 3  # the first calls allocate memory and choose algorithms
    while len(seconds) < warm_ups + _LEAST or (
        len(seconds) < warm_ups + _REPEATS and sum(seconds) < _BUDGET_S
    ):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[warm_ups:])


def say_facts(parameters: int, model_path: Path, milliseconds: float) -> None:
    """Print a model's size and speed.

    Parameters
    ----------
    parameters
        Number of weights.
    model_path
        Its file.
    milliseconds
        From a preprocessed image to its detections, one image at a time.
    """
    say(f"Parameters: {parameters:,}")
    say(f"Model file: {model_path.stat().st_size / 2**20:.2f} MB")
    say(f"Median inference time: {milliseconds:.2f} ms per image (batch size 1, with post-processing)")
