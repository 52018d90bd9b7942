"""The boxes that changed, drawn side by side."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from taomagic.engine.boxes import paired_iou
from taomagic.engine.data.images import Image
from taomagic.engine.evaluation.matching import ImageDetections
from taomagic.engine.inference.marks import Colour, drawable, put_text

#: A box is the same one as another of its class with at least this overlap.
SAME_OVERLAP = 0.5
#: Same in both, new here, missing here.
_SAME, _NEW, _MISSING = (90, 200, 110), (255, 190, 0), (235, 60, 60)
_CAPTION, _GAP = 22, 4
_PAPER, _INK = 24, (235, 235, 235)
_LEAST_WIDTH = 240
#: As wide as a page shows without making it smaller; what doesn't fit beside goes below.
_MOST_WIDTH = 1460
#: Between the images, which have several rows where there are many contenders.
_GROUP_GAP = 14
_MISSING_NOTE = "green: in both   yellow: here only   red: reference only"


def matched(
    mine: ImageDetections, theirs: ImageDetections
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Return which boxes of each side have a partner of the same class on the other, best overlaps first."""
    found_mine = np.zeros(len(mine.scores), bool)
    found_theirs = np.zeros(len(theirs.scores), bool)
    rows, columns = np.nonzero(mine.labels[:, None] == theirs.labels[None, :])
    if not len(rows):
        return found_mine, found_theirs
    overlap = paired_iou(mine.boxes[rows], theirs.boxes[columns])
    for index in np.argsort(-overlap, kind="stable"):
        if overlap[index] < SAME_OVERLAP:
            break
        row, column = rows[index], columns[index]
        if not found_mine[row] and not found_theirs[column]:
            found_mine[row] = found_theirs[column] = True
    return found_mine, found_theirs


def shown(found: ImageDetections, least_score: float) -> ImageDetections:
    """Return the detections that are worth a look."""
    kept = found.scores >= least_score
    return ImageDetections(found.boxes[kept], found.scores[kept], found.labels[kept])


def changes(mine: ImageDetections, reference: ImageDetections) -> int:
    """Return how many boxes one has and the other hasn't."""
    here, there = matched(mine, reference)
    return int((~here).sum() + (~there).sum())


def side_by_side(
    pictures: Sequence[Image],
    found: Sequence[Sequence[ImageDetections]],
    names: Sequence[str],
    classes: Sequence[str],
) -> tuple[Image, float]:
    """Return one picture: for each image the contenders side by side, the reference first.

    Parameters
    ----------
    pictures
        [H, W, 3] uint8 RGB each, of one size.
    found
        By contender, then by image.
    names
        Of the contenders.
    classes
        With the ids 1, 2, …

    Returns
    -------
    tuple of [h, w, 3] uint8 RGB, float
        The picture, and the share of its height that the first image takes.
    """
    height, width = pictures[0].shape[:2]
    scale = max(1.0, _LEAST_WIDTH / width)
    size = (round(width * scale), round(height * scale))
    columns = max(1, min(len(names), _MOST_WIDTH // (size[0] + _GAP)))
    groups = []
    for image, picture in enumerate(pictures):
        large = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
        reference = found[0][image]
        cells = []
        for column, name in enumerate(names):
            mine = found[column][image]
            cell = np.array(large, np.uint8)
            if column == 0:
                _draw(cell, reference, np.ones(len(reference.scores), bool), _SAME, scale, classes)
            else:
                here, there = matched(mine, reference)
                _draw(cell, mine, here, _SAME, scale, classes)
                _draw(cell, mine, ~here, _NEW, scale, classes)
                _draw(cell, reference, ~there, _MISSING, scale, classes)
            cells.append(_captioned(cell, name))
        blank = np.full_like(cells[0], _PAPER)
        cells += [blank] * (-len(cells) % columns)
        rows = [_joined(cells[first : first + columns], axis=1) for first in range(0, len(cells), columns)]
        groups.append(_joined(rows, axis=0))
    table = _joined(groups, axis=0, width=_GROUP_GAP)
    note = np.full((_CAPTION, table.shape[1], 3), _PAPER, np.uint8)
    put_text(note, _MISSING_NOTE, (6, 15), 0.4, _INK)
    whole = np.concatenate([table, note])
    return whole, len(groups[0]) / len(whole)


def _draw(
    canvas: Image,
    found: ImageDetections,
    chosen: npt.NDArray[np.bool_],
    colour: Colour,
    scale: float,
    classes: Sequence[str],
) -> None:
    for box, score, label in zip(
        found.boxes[chosen] * scale, found.scores[chosen], found.labels[chosen], strict=True
    ):
        x1, y1, x2, y2 = drawable(box.astype(np.float32))
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, 1)
        put_text(canvas, f"{classes[int(label) - 1]} {score:.2f}", (x1, max(9, y1 - 2)), 0.33, colour)


def _captioned(cell: Image, name: str) -> Image:
    strip = np.full((_CAPTION, cell.shape[1], 3), _PAPER, np.uint8)
    most = max(8, cell.shape[1] // 7)
    put_text(strip, name if len(name) <= most else f"...{name[3 - most :]}", (4, 15), 0.4, _INK)
    return np.concatenate([strip, cell])


def _joined(parts: Sequence[Image], axis: int, width: int = _GAP) -> Image:
    shape = list(parts[0].shape)
    shape[axis] = width
    gap = np.full(shape, _PAPER, np.uint8)
    woven = [piece for part in parts for piece in (part, gap)][:-1]
    return np.concatenate(woven, axis=axis)
