"""Decoded images, each decoded once, for several processes: in unnamed memory, and beyond a budget in an unnamed file.

Neither has a name, so the system frees both when the last process ends, however it ends. ``/dev/shm``, which
containers keep small, isn't used.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from taomagic.engine.data.image_store import SPARE_DISK_BYTES, default_budget_bytes
from taomagic.engine.data.images import Image

_CHANNELS = 3


def unnamed_file(name: str, *, in_memory: bool) -> int:
    """Return the descriptor of a new file without a name, in memory where the system can do that."""
    if in_memory and hasattr(os, "memfd_create"):
        return os.memfd_create(name)
    with tempfile.TemporaryFile(prefix=f"{name}-") as file:
        return os.dup(file.fileno())


def write_all(file: int, array: NDArray[Any], offset: int) -> None:
    """Write an array's bytes into a file at an offset.

    Raises
    ------
    OSError
        The disk is full.
    """
    view = np.ascontiguousarray(array).data.cast("B")
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def read_all(file: int, array: NDArray[Any], offset: int) -> None:
    """Fill a contiguous array with a file's bytes from an offset on.

    Raises
    ------
    EOFError
        The file ends before.
    """
    view = array.data.cast("B")
    while view:
        read = os.preadv(file, [view], offset)
        if read == 0:
            raise EOFError("the file is shorter than expected")
        view, offset = view[read:], offset + read


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the pixels of each image go once it is decoded; fixed beforehand, so that processes needn't agree on it.

    Attributes
    ----------
    sizes
        ``[n, 2]`` height and width; 0 where they aren't known.
    offsets
        ``[n]`` position in its file in bytes, -1 for an image that isn't kept.
    on_disk
        ``[n]`` whether that file is the one on the disk.
    memory_bytes, disk_bytes
        Sizes of the two files. The one in memory begins with a byte for each image: whether it is there.
    """

    sizes: NDArray[np.int64]
    offsets: NDArray[np.int64]
    on_disk: NDArray[np.bool_]
    memory_bytes: int
    disk_bytes: int

    @classmethod
    def plan(cls, sizes: Sequence[tuple[int, int] | None], memory_budget: int, disk_budget: int) -> Self:
        """Lay images out in their order: memory first, then the disk, then nowhere.

        Parameters
        ----------
        sizes
            Width and height of each image, ``None`` for one that can't be read.
        memory_budget, disk_budget
            Bytes to use at most.
        """
        shapes = np.array([(h, w) for w, h in (size or (0, 0) for size in sizes)], np.int64).reshape(-1, 2)
        needed = shapes.prod(axis=1) * _CHANNELS
        offsets = np.full(len(needed), -1, np.int64)
        on_disk = np.zeros(len(needed), np.bool_)
        memory = disk = 0
        for index, count in enumerate(needed.tolist()):
            if count == 0:
                continue
            if memory + count <= memory_budget:
                offsets[index], memory = len(needed) + memory, memory + count
            elif disk + count <= disk_budget:
                offsets[index], on_disk[index], disk = disk, True, disk + count
        return cls(shapes, offsets, on_disk, len(needed) + memory, disk)


class SharedStore:
    """Gives the images of a data set, decoded uint8, at their original size; shared by several processes.

    Two processes that decode the same image at the same time write the same bytes to the same place.

    Parameters
    ----------
    layout
        Where each image goes.
    memory, disk
        Descriptors of the two files, at least as large as the layout says.
    decode
        Reads and decodes the image of an index.
    """

    def __init__(self, layout: Layout, memory: int, disk: int, decode: Callable[[int], Image]) -> None:
        self._layout, self._decode = layout, decode
        self._files = (memory, disk)
        self._maps = tuple(
            mmap.mmap(file, size, prot=mmap.PROT_READ) if size else None
            for file, size in zip(self._files, (layout.memory_bytes, layout.disk_bytes), strict=True)
        )

    def __getitem__(self, index: int) -> Image:
        """Return an image ``[height, width, 3]``, RGB, uint8; not to be changed in place."""
        offset, file = int(self._layout.offsets[index]), int(self._layout.on_disk[index])
        height, width = self._layout.sizes[index].tolist()
        flags, pixels = self._maps[0], self._maps[file]
        if offset >= 0 and flags is not None and pixels is not None and flags[index]:
            count = height * width * _CHANNELS
            return np.frombuffer(pixels, np.uint8, count, offset).reshape(height, width, _CHANNELS)
        image = self._decode(index)
        if offset >= 0 and image.shape == (height, width, _CHANNELS):
            self._keep(index, image, file, offset)
        return image

    def _keep(self, index: int, image: Image, file: int, offset: int) -> None:
        """Write an image to its place; where there is no room left, it is decoded again next time."""
        # Writing through the map would end the process with SIGBUS on a full disk; this only raises.
        try:
            write_all(self._files[file], image, offset)
            os.pwrite(self._files[0], b"\1", index)
        except OSError:
            return


def shared_files(
    sizes: Sequence[tuple[int, int] | None], memory_budget: int | None = None
) -> tuple[Layout, int, int]:
    """Return the layout for some images and the descriptors of its two files; who calls closes them.

    Parameters
    ----------
    sizes
        Width and height of each image, ``None`` for one that can't be read.
    memory_budget
        Bytes of memory; by default as for :class:`taomagic.engine.data.image_store.ImageStore`.
    """
    budget = default_budget_bytes() if memory_budget is None else memory_budget
    room = max(0, shutil.disk_usage(tempfile.gettempdir()).free - SPARE_DISK_BYTES)
    layout = Layout.plan(sizes, budget, room)
    files = []
    for in_memory, size in ((True, layout.memory_bytes), (False, layout.disk_bytes)):
        # Sparse: neither memory nor disk is taken before an image is written.
        files.append(unnamed_file("taomagic-images", in_memory=in_memory))
        os.truncate(files[-1], size)
    return layout, files[0], files[1]
