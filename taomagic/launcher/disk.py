"""Room on the disk, as far as a command needs to be warned."""

from __future__ import annotations

import shutil
from pathlib import Path

#: Less free space than this is worth a warning; a checkpoint of ResNet-18 has about 150 MB.
LOW_DISK_BYTES = 2 * 1024**3


def low_space(folder: Path) -> str:
    """Return a warning where little room is left on the disk of an existing folder; else an empty text."""
    free = shutil.disk_usage(folder).free
    return f"Only {free / 1024**2:.0f} MB are free on the disk of {folder}." if free < LOW_DISK_BYTES else ""
