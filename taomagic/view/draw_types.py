"""What a drawing is: a picture of what a finished stage did, with its words."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Box:
    """A box in the pixels of its image; ``confidence`` is ``None`` for a true one."""

    x1: float
    y1: float
    x2: float
    y2: float
    class_name: str
    confidence: float | None = None


@dataclass(frozen=True)
class Thumbnail:
    """An image without boxes drawn into it, what was predicted in it, and, where labels were found, what is there.

    ``truth`` is ``None`` where there is no label file, and empty where the label file names no object.
    """

    path: Path
    width: int
    height: int
    predicted: tuple[Box, ...]
    truth: tuple[Box, ...] | None = None


@dataclass(frozen=True)
class Figures:
    """What a finished stage measured of several things: a column for each thing, a row for each figure.

    Attributes
    ----------
    title
        The heading above it.
    names
        Of the things, in the order of the columns.
    rows
        Name of the figure, its values as text, and the columns that have the best one.
    notes
        What the figures mean, in sentences.
    """

    title: str
    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[str, ...], frozenset[int]], ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Drawing:
    """A picture of a finished stage.

    Attributes
    ----------
    title
        The heading above it.
    svg
        Stands alone: no script, no style sheet, no font, no link. Its ink is ``currentColor`` and the root sets a
        middle grey that reads on white and on black, so a page may give it the theme's colour, and an image needs none.
    alt
        The same in one sentence, for those who can't see it.
    thumbnails
        The images in the picture, for views that can show them larger.
    """

    title: str
    svg: str
    alt: str
    thumbnails: tuple[Thumbnail, ...] = ()
