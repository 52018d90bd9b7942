"""How numbers, times and log lines are written for people: one place, so that all views say the same."""

from __future__ import annotations

import math
import unicodedata

from taomagic.launcher import lines
from taomagic.launcher.log_forms import split_log
from taomagic.launcher.states import JobState

#: A sign and a word for each state, so that nothing is told by colour alone.
STATE_SIGN = {
    JobState.STARTING: "…",
    JobState.RUNNING: "▶",
    JobState.SUCCEEDED: "✓",
    JobState.FAILED: "✗",
    JobState.STOPPED: "■",
    JobState.LOST: "?",
}

#: Series and metrics under the short names that people use; anything else keeps its own name.
_SHORT_NAMES = {
    "validation_loss": "val loss",
    "learning_rate": "lr",
    "mean average precision": "mAP",
    "pruning_ratio": "pruning ratio",
    "model_mb": "model file (MB)",
    "ms_per_image": "ms per image",
    "images_per_second": "images per second",
}


def duration(seconds: float | None) -> str:
    """Return a time span the way it is said: ``9 s``, ``3 min 10 s``, ``2 h 05 min``; ``–`` if unknown."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def number(value: float, name: str = "") -> str:
    """Return a metric with the digits that matter; learning rates in powers of ten, ``–`` for NaN."""
    if not math.isfinite(value):
        return "–" if math.isnan(value) else str(value)
    if short_name(name) == "lr":
        return f"{value:.2e}"
    if name == "mAP" or name.startswith("AP_") or "loss" in name:
        # DetectNet_v2's losses are small: four digits behind the point would leave one.
        return f"{value:.3g}" if "loss" in name and 0 < abs(value) < 0.01 else f"{value:.4f}"
    if value == int(value) and abs(value) < 1e12:
        return f"{int(value):,}"
    return f"{value:.4g}" if abs(value) >= 1000 or abs(value) < 1e-3 else f"{value:.4f}".rstrip("0")


def short_name(name: str) -> str:
    """Return the name of a series or metric as people say it (``validation_loss`` → ``val loss``)."""
    if name in _SHORT_NAMES:
        return _SHORT_NAMES[name]
    return f"AP {name.removeprefix('AP_')}" if name.startswith("AP_") else name


def clean(text: str, *, width: int | None = None) -> str:
    """Return a log line without terminal codes, control characters and lone surrogates.

    Parameters
    ----------
    text
        A line as a program wrote it.
    width
        The greatest number of characters to keep; a longer line ends in ``…``.
    """
    # A lone surrogate (a file name in another encoding) can't be written to a page or a notebook.
    text = lines.clean(text).encode("utf-8", "replace").decode()
    if width is not None and len(text) > width:
        return text[: max(width - 1, 0)] + "…"
    return text


def without_prefix(line: str) -> str:
    """Return a log line without its date, product and module; a level other than INFO stays in front."""
    record = split_log(line)
    if record is None:
        return line
    level, text = record
    return text if level == "INFO" else f"{level}: {text}"


def display_width(text: str) -> int:
    """Return how many terminal columns a text takes; Chinese characters take two, combining marks none."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def pad(text: str, width: int) -> str:
    """Return the text filled with blanks up to a display width."""
    return text + " " * max(width - display_width(text), 0)


def bar(fraction: float, width: int) -> str:
    """Return a progress bar of ``width`` characters, drawn in eighths of a character."""
    eighths = round(min(max(fraction, 0.0), 1.0) * width * 8)
    full, part = divmod(eighths, 8)
    drawn = "█" * full + (" ▏▎▍▌▋▊▉"[part] if part else "")
    return drawn.ljust(width, "░")
