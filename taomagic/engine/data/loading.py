"""The batches that a network trains on and is judged by."""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from taomagic.engine.data.augmentation import Labels, augment_kitti, augment_tfrecord, tidy
from taomagic.engine.data.image_store import ImageStore
from taomagic.engine.data.images import Image, mean_of, preprocess, preprocess_into, resize_bilinear
from taomagic.engine.data.records import Collection, collect
from taomagic.errors import DataProblem, SpecProblem
from taomagic.project.paths import PathMap
from taomagic.spec.settings import AugmentationSettings, DatasetSettings, SSDExperiment

__all__ = ["Batch", "TrainingData", "ValidationData", "preprocess"]

logger = logging.getLogger(__name__)

#: Position, in the key of the random generator, of the order of an epoch; images have the numbers below.
_ORDER = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Batch:
    """Some images with their boxes.

    Attributes
    ----------
    images
        ``[N, C, H, W]`` float32 in channels-last memory: blue, green, red minus the mean, or grey minus the mean.
    boxes
        ``[N, M, 4]`` float32, x1, y1, x2, y2 in pixels of the network input; M is the most of one image, at least 1.
    labels
        ``[N, M]`` int64, class ids from 1; 0 is padding.
    difficult
        ``[N, M]`` bool.
    names
        The images' names as the person knows them.
    global_size
        Number of images of the batch on all processes together; the same on each of them.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    difficult: Tensor
    names: tuple[str, ...]
    global_size: int

    def __len__(self) -> int:
        """Return the number of images here: 0 where the batch has fewer images than there are processes."""
        return len(self.names)


def collate(
    shown: Sequence[tuple[Image, Labels]],
    names: Sequence[str],
    settings: AugmentationSettings,
    mean: tuple[float, ...],
    global_size: int | None = None,
) -> Batch:
    """Return images of the output size and their labels as a batch, padded to the most boxes of one image.

    Parameters
    ----------
    shown
        Images ``[output_height, output_width, 3]``, RGB, uint8, with their boxes; may be none at all.
    names
        Their names.
    settings
        Says size, and colour or grey.
    mean
        What to subtract.
    global_size
        Images of the batch on all processes; by default those given.
    """
    height, width = settings.output_height, settings.output_width
    pixels = np.empty((len(shown), height, width, settings.output_channel), np.float32)
    most = max([1, *(len(labels.boxes) for _, labels in shown)])
    boxes = np.zeros((len(shown), most, 4), np.float32)
    classes = np.zeros((len(shown), most), np.int64)
    difficult = np.zeros((len(shown), most), np.bool_)
    for i, (image, labels) in enumerate(shown):
        preprocess_into(image, mean, pixels[i])
        count = len(labels.boxes)
        boxes[i, :count] = labels.boxes
        classes[i, :count] = labels.classes
        difficult[i, :count] = labels.difficult
    # The network works in channels-last memory; seen as [N, C, H, W] these pixels lie that way without a copy.
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return Batch(
        images,
        torch.from_numpy(boxes),
        torch.from_numpy(classes),
        torch.from_numpy(difficult),
        tuple(names),
        len(names) if global_size is None else global_size,
    )


def share_of(batch: NDArray[np.int64], rank: int, world_size: int) -> NDArray[np.int64]:
    """Return the part of a batch that one of several processes works on.

    Consecutive parts, as equal as can be, the first ones longer by one. With fewer images than processes the last
    processes get none; as every process knows the size of the whole batch, it knows that too: rank ``r`` has images
    if and only if ``r < len(batch)``.

    Raises
    ------
    ValueError
        ``rank`` isn't in ``0..world_size-1``.
    """
    if not 0 <= rank < world_size:
        raise ValueError(f"rank {rank} is outside a world of {world_size}")
    return np.array_split(batch, world_size)[rank]


class TrainingData:
    """The training images of an experiment, changed at random in every epoch.

    Randomness has no state: the changes of an image are keyed by (seed, epoch, index), the order by (seed, epoch). A
    resumed training gets the very batches that an uninterrupted one would have got, whatever the number of workers.

    Parameters
    ----------
    experiment
        Read with the purpose ``train``.
    paths
        Translates the paths in it.
    seed
        Seed of order and changes.
    workers
        Threads that prepare batches ahead. ``None`` takes ``n_workers`` of the experiment, or 0: on a CPU they
        would only take the cores that the network needs.
    cache_bytes
        Memory for decoded images; by default chosen by :class:`ImageStore`.

    Raises
    ------
    DataProblem
        Data are missing, damaged or empty; see :func:`taomagic.engine.data.records.collect`.
    """

    def __init__(
        self,
        experiment: SSDExperiment,
        paths: PathMap,
        seed: int,
        *,
        workers: int | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        # OpenCV's own threads gain nothing on images this small and fight with the network's.
        cv2.setNumThreads(1)
        self._dataset, self._settings = _blocks(experiment)
        self._seed = seed
        training = experiment.training
        self._workers = (training.n_workers if training else None) or 0 if workers is None else workers
        self._ahead = training.max_queue_size if training else 1
        self._data = collect(self._dataset.data_sources, self._dataset, paths, purpose="training")
        if not self._dataset.include_difficult:
            self._data.labels = _without_difficult(self._data.labels)
        self._store = ImageStore(self._data.decode, cache_bytes)
        self._augment = augment_tfrecord if self._data.from_tfrecords else augment_kitti
        self._mean = mean_of(self._settings, tfrecords=self._data.from_tfrecords)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._data.encoded)

    @property
    def from_tfrecords(self) -> bool:
        """Whether the data come from TFRecords, and the changes from that pipeline."""
        return self._data.from_tfrecords

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of training objects per class."""
        return self._data.class_counts(self._dataset.classes)

    def steps(self, batch_size: int) -> int:
        """Return the number of batches of an epoch; the last one may be smaller."""
        return math.ceil(len(self) / batch_size)

    def fingerprint(self) -> str:
        """Return a hash of the names, labels and encoded images; it changes with any of them, not with their place."""
        return self._data.fingerprint()

    def epoch(
        self, epoch: int, batch_size: int, *, rank: int = 0, world_size: int = 1
    ) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch, or one process' share of each.

        Every process gets the same number of batches. The shares of all ranks, one after another, are exactly the
        batch that a single process gets; see :func:`share_of` for a last batch with fewer images than processes.

        Parameters
        ----------
        epoch
            Number of the epoch, from 1.
        batch_size
            Images per batch on all processes together.
        rank, world_size
            Which of how many processes this is.
        """
        order = self._generator(epoch, _ORDER).permutation(len(self))
        chosen = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
        tasks = [(share_of(batch, rank, world_size), len(batch)) for batch in chosen]
        yield from _prepared(
            [partial(self._batch, epoch, indices, size) for indices, size in tasks],
            self._workers,
            self._ahead,
        )

    def _generator(self, epoch: int, position: int) -> np.random.Generator:
        """Return the generator of one image in one epoch."""
        return np.random.Generator(np.random.Philox(key=[self._seed, epoch << 32 | position]))

    def _batch(self, epoch: int, indices: NDArray[np.int64], global_size: int) -> Batch:
        """Return the changed images of a batch."""
        shown = [
            self._augment(
                self._generator(epoch, int(i)), self._store[int(i)], self._data.labels[i], self._settings
            )
            for i in indices
        ]
        names = [self._data.encoded[i].name for i in indices]
        return collate(shown, names, self._settings, self._mean, global_size)


class ValidationData:
    """The validation images of an experiment, resized and otherwise as they are.

    Always raw KITTI folders, as in TAO; boxes are rounded to whole pixels of the network input. Objects marked as
    difficult stay in, with their mark.

    Parameters
    ----------
    experiment
        With ``validation_data_sources``.
    paths
        Translates the paths in it.
    cache_bytes
        As for :class:`TrainingData`.

    Raises
    ------
    SpecProblem
        There is no validation source with both an image and a label folder.
    DataProblem
        Data are missing, damaged or empty.
    """

    def __init__(self, experiment: SSDExperiment, paths: PathMap, *, cache_bytes: int | None = None) -> None:
        cv2.setNumThreads(1)
        self._dataset, self._settings = _blocks(experiment)
        sources = [
            source
            for source in self._dataset.validation_data_sources
            if source.image_directory_path and source.label_directory_path
        ]
        if not sources:
            raise SpecProblem(
                "dataset_config has no validation_data_sources with an image and a label folder",
                path=experiment.path,
                hint="add validation_data_sources { image_directory_path: … label_directory_path: … }",
            )
        self._data: Collection = collect(sources, self._dataset, paths, purpose="validation")
        self._store = ImageStore(self._data.decode, cache_bytes)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._data.encoded)

    @property
    def names(self) -> tuple[str, ...]:
        """The images' names as the person knows them, in the order of the batches."""
        return tuple(item.name for item in self._data.encoded)

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of validation objects per class."""
        return self._data.class_counts(self._dataset.classes)

    def fingerprint(self) -> str:
        """Return a hash of the data, as for :class:`TrainingData`."""
        return self._data.fingerprint()

    def steps(self, batch_size: int) -> int:
        """Return the number of batches."""
        return math.ceil(len(self) / batch_size)

    def batches(self, batch_size: int, *, rank: int = 0, world_size: int = 1) -> Generator[Batch, None, None]:
        """Yield all images in order, or every ``world_size``-th batch from the ``rank``-th on.

        Together the ranks get each batch that a single process gets, once; the first ones may get one more.
        """
        mean = mean_of(self._settings)
        for start in range(rank * batch_size, len(self), world_size * batch_size):
            indices = range(start, min(start + batch_size, len(self)))
            shown = [self._resized(index) for index in indices]
            names = [self._data.encoded[index].name for index in indices]
            yield collate(shown, names, self._settings, mean)

    def _resized(self, index: int) -> tuple[Image, Labels]:
        """Return image and labels at the network's input size."""
        image, labels = self._store[index], self._data.labels[index]
        width, height = self._settings.output_width, self._settings.output_height
        scale = np.array([width / image.shape[1], height / image.shape[0]] * 2, np.float32)
        boxes = np.rint(labels.boxes * scale)
        return resize_bilinear(image, width, height), tidy(labels.moved(boxes), width, height)


def _blocks(experiment: SSDExperiment) -> tuple[DatasetSettings, AugmentationSettings]:
    """Return the two blocks that loading needs."""
    if experiment.dataset is None or experiment.augmentation is None:
        missing = "dataset_config" if experiment.dataset is None else "augmentation_config"
        raise SpecProblem(f"{missing} is missing", path=experiment.path)
    return experiment.dataset, experiment.augmentation


def _without_difficult(labels: list[Labels]) -> list[Labels]:
    """Return the labels without difficult objects, saying once how many they were."""
    count = sum(int(one.difficult.sum()) for one in labels)
    if count == 0:
        return labels
    kept = [one.keep(~one.difficult) for one in labels]
    if not any(len(one.boxes) for one in kept):
        raise DataProblem(
            "every training object is marked as difficult (occlusion above 0)",
            hint="set include_difficult_in_training: true",
        )
    logger.info("Left out %d difficult training objects (occlusion above 0)", count)
    return kept


def _prepared(makers: Sequence[Callable[[], Batch]], workers: int, ahead: int) -> Iterator[Batch]:
    """Yield what the makers make, in order; with workers up to ``ahead`` of them work beforehand."""
    if workers <= 0:
        for make in makers:
            yield make()
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="taomagic-batches") as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            for make in makers:
                waiting.append(pool.submit(make))
                if len(waiting) > max(ahead, 1):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
