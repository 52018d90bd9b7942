"""Objects in files of images: found, drawn and listed, with the work that isn't the network's in threads."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from taomagic.engine.console import progress, say
from taomagic.engine.cores import usable_cores
from taomagic.engine.data.images import Image, read
from taomagic.engine.inference.files import Outputs, encode, replace_small
from taomagic.engine.inference.marks import Marks
from taomagic.errors import DataProblem
from taomagic.project.paths import PathMap

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")
#: What a network found in an image.
Found = TypeVar("Found")

#: Batches that are read while the network looks at another one, and so many are written.
_AHEAD = 2
_MOST_THREADS = 8
#: So many pixels of its input may be in the network at once, as long as that is more than one batch: a ResNet-18 needs
#: about 128 bytes for each, 2 GiB in all.
_MOST_PIXELS = 1 << 24
#: So many images are named in the message about those that can't be used; the log names all.
_NAMED = 5


class Marker(Protocol[Found]):
    """What one network does otherwise than another."""

    #: Channels, height and width of the network's input.
    input_shape: tuple[int, int, int]

    def share(self, callers: int, /) -> int:
        """Prepare for calls of :meth:`find` by so many threads at once; return how many may, at least 1."""
        ...

    def see(self, image: Image) -> npt.NDArray[np.float32]:
        """Return what the network sees [C, h, w] of an image [H, W, 3] uint8 RGB. Called by several threads."""
        ...

    def find(self, images: Tensor) -> Sequence[Found]:
        """Return what the network finds in each of [N, C, h, w]. Called by as many threads as :meth:`share` said."""
        ...

    def mark(self, image: Image, found: Found) -> Marks:
        """Return the objects that are to be shown of an image, in its own pixels. Called by several threads."""
        ...

    def list_rows(self, marks: Marks) -> str:
        """Return the content of a label file."""
        ...

    def draw(self, image: Image, marks: Marks) -> Image:
        """Return a copy [H, W, 3] uint8 RGB of the image with the objects."""
        ...


@dataclass(frozen=True)
class _Picture:
    """An image ready for the network: as it is [H, W, 3], and as the network sees it [C, h, w] float32."""

    path: Path
    image: Image
    seen: npt.NDArray[np.float32]


class _Seen(NamedTuple, Generic[Found]):
    """An image as it is [H, W, 3], and what the network found in it."""

    path: Path
    image: Image
    found: Found


class Annotator(Generic[Found]):
    """Finds objects in files, draws and lists them.

    Three things are done with a batch: its images are read, the network looks at them, the results are drawn, encoded
    and written. All three go on at once, for different batches: on large images reading and writing are most of the
    work, and OpenCV, Pillow, PyTorch and ONNX Runtime do theirs without Python's lock.

    On a processor the network takes its turn in the same threads as the rest, several batches at a time, each in a
    thread or a few. The threads of a network that is spread over all cores wait for each other after every layer, and
    so for whatever else a core is busy with. A GPU looks at one batch at a time.

    Parameters
    ----------
    marker
        The network, and what is its own.
    outputs
        Folders, which exist.
    paths
        For the names in messages.
    workers
        Threads; by default the cores that this process may use, up to eight.
    """

    def __init__(
        self, marker: Marker[Found], outputs: Outputs, paths: PathMap, *, workers: int | None = None
    ) -> None:
        self._marker = marker
        self._outputs = outputs
        self._paths = paths
        self._workers = workers or min(_MOST_THREADS, usable_cores())

    def annotate(self, files: Sequence[Path], batch_size: int) -> tuple[int, list[Path]]:
        """Go through all files; return the number of objects, and the files that are no usable images."""
        # The threads below are those that the machine has cores for; OpenCV needs none of its own.
        cv2.setNumThreads(1)
        groups = [files[start : start + batch_size] for start in range(0, len(files), batch_size)]
        lanes = self._lanes(len(groups), batch_size)
        threads = torch.get_num_threads()
        pool = ThreadPoolExecutor(
            self._workers,
            thread_name_prefix="taomagic-images",
            initializer=torch.set_num_threads,
            initargs=(max(1, threads // lanes),),
        )
        # So much is under way that no thread has to wait for the one that hands out the work.
        count = max(_AHEAD, math.ceil(self._workers / batch_size))
        unusable: list[Path] = []
        try:
            prepared = ahead(pool, self._prepare, groups, count)
            usable = self._usable(groups, prepared, unusable)
            looked_at: Iterator[list[_Seen[Found]]]
            if lanes > 1:
                each_alone = ([group] for group in usable)
                looked_at = (result for (result,) in ahead(pool, self._look, each_alone, lanes - 1))
            else:
                looked_at = map(self._look, usable)
            written = ahead(pool, lambda seen: self.write(*seen), looked_at, count)
            found = sum(map(sum, progress(written, "Running inference", len(groups))))
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(threads)  # a thread's number is also that of all threads that begin later
        return found, unusable

    def _lanes(self, groups: int, batch_size: int) -> int:
        """Return how many batches the network looks at at once."""
        _, height, width = self._marker.input_shape
        fitting = _MOST_PIXELS // (batch_size * height * width)
        wanted = min(self._workers, groups, fitting)
        return self._marker.share(wanted) if wanted > 1 else 1

    @staticmethod
    def _usable(
        groups: Sequence[Sequence[Path]], prepared: Iterable[list[_Picture | None]], unusable: list[Path]
    ) -> Iterator[list[_Picture]]:
        """Yield the images of each group that could be read; add the others to ``unusable``."""
        for group, pictures in zip(groups, prepared, strict=True):
            unusable += [path for path, picture in zip(group, pictures, strict=True) if picture is None]
            yield [picture for picture in pictures if picture is not None]

    def _look(self, pictures: Sequence[_Picture]) -> list[_Seen[Found]]:
        """Let the network look at a batch."""
        if not pictures:
            return []
        seen = torch.from_numpy(np.stack([picture.seen for picture in pictures]))
        return [
            _Seen(picture.path, picture.image, found)
            for picture, found in zip(pictures, self._marker.find(seen), strict=True)
        ]

    def _prepare(self, path: Path) -> _Picture | None:
        """Read an image; ``None``, and a warning, where that can't be done."""
        try:
            image = read(path, shown_as=self._paths.to_container(path))
        except DataProblem as problem:
            logger.warning("%s: %s", problem.where, problem.message)
            return None
        return _Picture(path, image, self._marker.see(image))

    def write(self, path: Path, image: Image, found: Found) -> int:
        """Write label file and annotated image of one image, and return how many objects they have.

        Parameters
        ----------
        path
            Gives the names.
        image
            [H, W, 3] uint8 RGB, as it was read.
        found
            What the network found in it.
        """
        marks = self._marker.mark(image, found)
        if self._outputs.labels is not None:
            rows = self._marker.list_rows(marks)
            replace_small(self._outputs.labels / f"{path.stem}.txt", rows.encode())
        if self._outputs.images is not None:
            annotated = self._marker.draw(image, marks)
            replace_small(self._outputs.images / path.name, encode(annotated, path))
        return len(marks)


def annotate_files(
    marker: Marker[Found],
    files: Sequence[Path],
    outputs: Outputs,
    paths: PathMap,
    *,
    batch_size: int,
    at: str,
    shown_as: str,
) -> None:
    """Do what ``inference`` does once the model is open: annotate, and tell what came of it.

    Parameters
    ----------
    marker
        The network.
    files
        The images.
    outputs
        Folders, made where missing.
    paths
        For the names in messages.
    batch_size
        Images that the network sees at once.
    at
        The threshold, for the message: ``at a confidence of 0.3 or more``.
    shown_as
        Where the images are, as the person wrote it.

    Raises
    ------
    DataProblem
        Labels of a data set would be replaced; or some images can't be used, and the others are done.
    """
    outputs.refuse_ground_truth(files, paths)
    for folder in outputs.folders:
        folder.mkdir(parents=True, exist_ok=True)
    found, unusable = Annotator(marker, outputs, paths).annotate(files, batch_size)
    usable = len(files) - len(unusable)
    say(f"{found} objects in {usable} {'image' if usable == 1 else 'images'} {at}")
    for folder in outputs.folders:
        say(f"Saved: {paths.to_container(folder)}")
    if unusable:
        named = ", ".join(paths.to_container(path) for path in unusable[:_NAMED])
        more = f" and {len(unusable) - _NAMED} more" if len(unusable) > _NAMED else ""
        raise DataProblem(
            f"{len(unusable)} of {len(files)} images can't be used: {named}{more}",
            where=shown_as,
            hint="The others are done. Replace or remove these; the log says what is wrong with each.",
        )


def ahead(
    pool: ThreadPoolExecutor, work: Callable[[T], R], groups: Iterable[Sequence[T]], count: int = _AHEAD
) -> Iterator[list[R]]:
    """Yield the results for each group in order, while the pool works on the next ``count``."""
    waiting: deque[list[Future[R]]] = deque()
    for group in groups:
        waiting.append([pool.submit(work, item) for item in group])
        if len(waiting) > count:
            yield [future.result() for future in waiting.popleft()]
    while waiting:
        yield [future.result() for future in waiting.popleft()]
