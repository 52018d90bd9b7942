"""Decoded images, each decoded once: kept in memory, and beyond a budget in an unnamed file."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from collections.abc import Callable

import numpy as np
import psutil

from taomagic.engine.data.images import Image

_LARGEST_BUDGET_BYTES = 2 << 30
_SHARE_OF_MEMORY = 0.25
#: Room that is left on the disk of the temporary folder.
SPARE_DISK_BYTES = 2 << 30


def default_budget_bytes() -> int:
    """Return how much memory decoded images may take: 2 GiB, or a quarter of what is free if that is less."""
    return min(_LARGEST_BUDGET_BYTES, int(psutil.virtual_memory().available * _SHARE_OF_MEMORY))


class ImageStore:
    """Gives the images of a data set, decoded uint8, at their original size.

    Parameters
    ----------
    decode
        Reads and decodes the image of an index.
    budget_bytes
        Memory to use; by default that of :func:`default_budget_bytes`.

    Notes
    -----
    Decoding a KITTI PNG takes about 20 ms, reading its 1.4 MB of pixels back far less. The file has no name, so the
    system removes it even if the process is killed. Where its disk is nearly full, further images aren't kept.
    """

    def __init__(self, decode: Callable[[int], Image], budget_bytes: int | None = None) -> None:
        if budget_bytes is None:
            budget_bytes = default_budget_bytes()
        self._decode = decode
        self._left_bytes = budget_bytes
        self._memory: dict[int, Image] = {}
        self._places: dict[int, tuple[int, tuple[int, ...]]] = {}
        self._file = -1
        self._file_bytes = 0
        self._lock = threading.Lock()

    def __getitem__(self, index: int) -> Image:
        """Return an image ``[height, width, 3]``, RGB, uint8; not to be changed in place."""
        image = self._memory.get(index)
        if image is not None:
            return image
        place = self._places.get(index)
        if place is not None:
            offset, shape = place
            stored = os.pread(self._file, int(np.prod(shape)), offset)
            return np.frombuffer(stored, np.uint8).reshape(shape)
        image = self._decode(index)
        with self._lock:
            self._keep(index, image)
        return image

    def _keep(self, index: int, image: Image) -> None:
        """Put an image where there is room."""
        if image.nbytes <= self._left_bytes:
            self._memory[index] = image
            self._left_bytes -= image.nbytes
            return
        if shutil.disk_usage(tempfile.gettempdir()).free < image.nbytes + SPARE_DISK_BYTES:
            return
        if self._file < 0:
            with tempfile.TemporaryFile(prefix="taomagic-images-") as file:
                self._file = os.dup(file.fileno())
        if os.pwrite(self._file, np.ascontiguousarray(image).data, self._file_bytes) == image.nbytes:
            self._places[index] = self._file_bytes, image.shape
            self._file_bytes += image.nbytes

    def close(self) -> None:
        """Give memory and file back."""
        self._memory.clear()
        self._places.clear()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __del__(self) -> None:
        self.close()
