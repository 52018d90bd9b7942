"""Cells that the sample notebooks have in common."""

from __future__ import annotations

#: ``("md", text)`` or ``("code", text)``.
Cell = tuple[str, str]


def md(text: str) -> Cell:
    """Return a cell of text."""
    return "md", text


def code(text: str) -> Cell:
    """Return a cell of code."""
    return "code", text


#: Boxes on images, and what a label file says. They leave ``data``, the host folder of the data, and ``gallery``.
LABELS = (
    md(
        """
Always look at your labels before you train: no network can learn from wrong boxes.
"""
    ),
    code(
        """
import os
from pathlib import Path

from taomagic.samples import gallery

data = Path(os.environ["LOCAL_DATA_DIR"])
gallery.show_boxes(data / "training/image_2", {"label": data / "training/label_2"}, count=6)
"""
    ),
    md(
        """
A label file has one line for each object: class, how far it is cut off (truncation), how far hidden (occlusion), viewing angle,
the box (left, top, right, bottom in pixels), and its size and place in 3-D.
"""
    ),
    code('print((data / "training/label_2/000000.txt").read_text())'),
)


def show_spec(name: str) -> Cell:
    """Return a cell that prints a spec file."""
    return code(f'print((Path(os.environ["LOCAL_SPECS_DIR"]) / "{name}").read_text())')


#: Below a training.
INTERRUPTED = md(
    """
If you interrupt the cell, or the computer goes to sleep for good, run the same cell again: it goes on after the last finished
epoch. The training also survives a restart of the kernel: `%tao list` shows it, `%tao attach ID` brings it back.
"""
)

PRUNED = md(
    """
The filters that are left have lost their partners. Measure what remains:
"""
)

CURVES = code('gallery.plot_training({"unpruned": unpruned_training})')
BOTH_CURVES = code('gallery.plot_training({"unpruned": unpruned_training, "retrained": retraining})')
