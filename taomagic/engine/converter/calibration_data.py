"""The images of a calibration: from a tensor file, or from a folder, prepared as the network's own."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from taomagic.engine.data.images import GREY_SHARES, read, resize_lanczos
from taomagic.errors import DataProblem, ModelFileProblem

logger = logging.getLogger(__name__)

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png"})
#: The same images each time.
_SEED = 42


@dataclass(frozen=True)
class Preparation:
    """How an image becomes the network's input: (levels in the channels' order − mean) · scale.

    Attributes
    ----------
    shape
        Channels, height and width.
    order
        ``RGB``, ``BGR`` or ``grey``.
    mean
        A level for each channel.
    scale
        1 for levels of 0 to 255, 1/255 for shares.
    """

    shape: tuple[int, int, int]
    order: str
    mean: tuple[float, ...]
    scale: float

    @classmethod
    def of(cls, metadata: dict[str, Any], shape: Sequence[int], *, shown_as: str = "") -> Preparation:
        """Take it from what an exported model says about itself.

        Raises
        ------
        ModelFileProblem
            It doesn't say, because it wasn't exported by taomagic.
        """
        try:
            channels, height, width = map(int, shape)
            mean = tuple(map(float, metadata["mean"]))
            order = str(metadata["channel_order"])
            scale = float(metadata.get("input_scale", 1.0))
            known = len(mean) == channels and order in {"RGB", "BGR", "grey"}
        except (KeyError, TypeError, ValueError):
            known = False
        if not known:
            raise ModelFileProblem(
                "the model doesn't say how its images are prepared, so images can't be used for its calibration",
                where=shown_as,
                hint="Give prepared images with --cal_data_file, or a finished cache with --cal_cache_file.",
            )
        return cls((channels, height, width), order, mean, scale)

    def __call__(self, path: Path) -> npt.NDArray[np.float32]:
        """Return the input for an image file, [C, H, W] float32, resized as ``inference`` does it.

        Raises
        ------
        DataProblem
            It can't be decoded.
        """
        channels, height, width = self.shape
        image = resize_lanczos(read(path), width, height).astype(np.float32)
        if channels == 1:
            image = (image @ GREY_SHARES)[..., None]
        elif self.order == "BGR":
            image = image[..., ::-1]
        prepared = (image - np.array(self.mean, np.float32)) * np.float32(self.scale)
        return np.ascontiguousarray(prepared.transpose(2, 0, 1))


def choose_images(folders: Sequence[Path], count: int, *, shown_as: str) -> list[Path]:
    """Return images of folders and of the folders in them, drawn at random, the same ones each time.

    Parameters
    ----------
    folders
        On this machine.
    count
        How many are wanted. Fewer will do, with a warning.
    shown_as
        The folders as the person wrote them, for messages.

    Raises
    ------
    DataProblem
        A folder is missing, or there is no image.
    """
    found: list[Path] = []
    for folder in folders:
        if not folder.is_dir():
            raise DataProblem(
                "the folder with images for the calibration doesn't exist",
                where=shown_as,
                hint="Check the path.",
            )
        found += [path for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS and path.is_file()]
    if not found:
        raise DataProblem(
            "there is no .jpg, .jpeg or .png image for the calibration",
            where=shown_as,
            hint="Give a folder of images like those that the network will see: --cal_image_dir FOLDER.",
        )
    found.sort()
    if len(found) < count:
        logger.warning(
            "%s has %d images; --batches times --batch_size asks for %d. All of them are used.",
            shown_as,
            len(found),
            count,
        )
        return found
    return sorted(random.Random(_SEED).sample(found, count))


def prepared_batches(
    files: Sequence[Path], prepare: Callable[[Path], npt.NDArray[np.float32]], batch_size: int
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield images in batches [N, C, H, W]; the last one may be smaller."""
    for start in range(0, len(files), batch_size):
        yield np.stack([prepare(path) for path in files[start : start + batch_size]])


def first_batches(
    batches: Iterator[npt.NDArray[np.float32]], count: int, *, shown_as: str
) -> Iterator[npt.NDArray[np.float32]]:
    """Yield so many batches of a tensor file; fewer will do, with a warning."""
    used = 0
    for batch in batches:
        if used == count:
            return
        yield batch
        used += 1
    if used < count:
        logger.warning(
            "%s has %d batches; --batches asks for %d. All of them are used.", shown_as, used, count
        )
