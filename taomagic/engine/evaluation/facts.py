"""What ``evaluate`` says about a model besides its score, the same for every network."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from taomagic.engine.console import say


def median_ms(call: Callable[[], object], repeats: int = 30) -> float:
    """Return the median time of a call in milliseconds."""
    seconds = []
    for _ in range(repeats + 3):  # the first calls allocate memory and choose algorithms
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[3:])


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
