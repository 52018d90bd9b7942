"""Numbers, clocks and durations as TAO's programs print them."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(h|min|ms|m|s|us)(?![a-zA-Z/])")
_UNITS = {"h": 3600.0, "min": 60.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}


def number(text: str) -> float | None:
    """Return a measured value; ``None`` for anything else."""
    # float() also takes "1_0" and "infinity"; neither is a measured value here.
    if not re.fullmatch(r"[+-]?(?:\d{1,40}\.?\d{0,40}(?:[eE][+-]?\d{1,4})?|nan)", text):
        return None
    return float(text)


def file_kind(path: str) -> str:
    """Return the suffix of a file's name, without its dot and in small letters; empty where it has none."""
    name = path.rstrip("/").rpartition("/")[2]
    return name.rpartition(".")[2].lower() if "." in name[1:] else ""


def clock(text: str) -> float | None:
    """Return the seconds of ``01:02``, ``1:02:03``, ``0:00:12.5``; ``None`` for anything else."""
    if not re.fullmatch(r"\d{1,9}(?::\d{1,2}){1,2}(?:\.\d{1,9})?", text):
        return None
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def duration(text: str) -> float:
    """Return the seconds that ``1 h 3 min 10 s``, ``9s`` or ``351ms`` mean; 0 where nothing is recognised."""
    return sum(float(value) * _UNITS[unit] for value, unit in _DURATION.findall(text))
