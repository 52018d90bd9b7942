"""What is drawn into a picture, and listed in its label file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from taomagic.engine.data.images import Image

#: Red, green, blue.
Colour = tuple[int, int, int]

#: Coordinates beyond this many pixels are drawn here: far outside every picture, and near enough for OpenCV.
_FARTHEST = 30_000
_BRIGHT = 400
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True)
class Marks:
    """The objects of a picture, in the order in which they are listed.

    Attributes
    ----------
    boxes
        [D, 4] float32 corners in pixels of the picture.
    scores
        [D] float32 confidences.
    names
        [D] classes, as they are written.
    colours
        [D] red, green, blue.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    names: Sequence[str]
    colours: Sequence[Colour]

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self.scores)


def kitti_rows(marks: Marks) -> str:
    """Return KITTI label rows with a 16th field, the confidence; boxes and confidences have three decimals."""
    rows = []
    for box, score, name in zip(marks.boxes.tolist(), marks.scores.tolist(), marks.names, strict=True):
        corners = " ".join(f"{side:.3f}" for side in box)
        rows.append(f"{name} 0.00 0 0.00 {corners}{' 0.00' * 7} {score:.3f}\n")
    return "".join(rows)


def drawable(box: npt.NDArray[np.float32]) -> tuple[int, int, int, int]:
    """Return a box in whole pixels that OpenCV can draw.

    An untrained network's boxes may be endless, or no numbers; OpenCV draws what fits into 16 bits.
    """
    x1, y1, x2, y2 = np.rint(np.clip(np.nan_to_num(box), -_FARTHEST, _FARTHEST)).astype(int).tolist()
    return x1, y1, x2, y2


def ink_on(colour: Colour) -> Colour:
    """Return the colour of text that can be read on a colour."""
    return _BLACK if sum(colour) > _BRIGHT else _WHITE


def put_text(canvas: Image, text: str, place: tuple[int, int], size: float, ink: Colour) -> None:
    """Write into a picture; ``place`` is the left end of the base line."""
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, ink, 1, cv2.LINE_AA)
