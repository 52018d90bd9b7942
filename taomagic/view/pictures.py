"""The pictures of a finished stage, for a page that asks for them one by one."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taomagic.view.texts import tr

if TYPE_CHECKING:
    from taomagic.view.draw_types import Box, Drawing, Thumbnail

#: The most pictures offered, the longer side of what is sent, and the largest file that is sent as it is.
MOST, SIDE, LIMIT = 60, 960, 4_000_000
#: The longer side of a sheet: names and boxes are drawn into it, and have to be read.
SHEET_SIDE = 2000


class Gallery:
    """Knows the files of the pictures that a page may ask for, and no others."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[Path, int]] = {}

    def take(self, drawings: Sequence[Drawing]) -> list[dict[str, Any]]:
        """Return what a page needs to know of the pictures: their names, sizes and boxes."""
        pictures = [picture for drawing in drawings for picture in drawing.thumbnails][:MOST]
        self._files = {
            f"p{i}": (picture.path, SHEET_SIDE if _is_sheet(picture) else SIDE)
            for i, picture in enumerate(pictures)
        }
        alone = len(pictures) == 1
        return [
            {**_described(f"p{i}", picture), "large": alone and _is_sheet(picture)}
            for i, picture in enumerate(pictures)
        ]

    def read(self, name: str) -> bytes | None:
        """Return a picture, made smaller where that can be done; ``None`` where there is none of that name."""
        found = self._files.get(name)
        return None if found is None else smaller(*found)


def smaller(path: Path, side: int = SIDE) -> bytes | None:
    """Return a picture of at most so many pixels a side as JPEG, or the file itself without Pillow."""
    try:
        from PIL import Image
    except ImportError:
        try:
            return path.read_bytes() if path.stat().st_size <= LIMIT else None
        except OSError:
            return None
    try:
        with Image.open(path) as image:
            image.draft("RGB", (side, side))
            image.thumbnail((side, side))
            out = io.BytesIO()
            image.convert("RGB").save(out, "JPEG", quality=82)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return out.getvalue()


def _described(name: str, picture: Thumbnail) -> dict[str, Any]:
    return {
        "id": name,
        "caption": picture.path.name,
        "alt": tr(_told(picture)),
        "width": picture.width,
        "height": picture.height,
        "predicted": [_box(box) for box in picture.predicted[:100]],
        "truth": [_box(box) for box in (picture.truth or ())[:100]],
    }


def _box(box: Box) -> list[Any]:
    said = box.class_name if box.confidence is None else f"{box.class_name} {box.confidence:.2f}"
    return [round(box.x1, 1), round(box.y1, 1), round(box.x2 - box.x1, 1), round(box.y2 - box.y1, 1), said]


def _is_sheet(picture: Thumbnail) -> bool:
    """Tell whether everything is drawn into a picture already."""
    return not picture.predicted and picture.truth is None


def _told(picture: Thumbnail) -> str:
    if _is_sheet(picture):
        return picture.path.name  # the boxes are drawn into it, and nobody has counted them
    found = f"{picture.path.name}: {len(picture.predicted)} objects found"
    return found if picture.truth is None else f"{found}, {len(picture.truth)} labelled"
