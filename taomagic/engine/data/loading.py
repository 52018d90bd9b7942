"""The batches that a network trains on and is judged by."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from taomagic.engine.data.augmentation import Labels, tidy
from taomagic.engine.data.batch import Batch, collate
from taomagic.engine.data.image_store import ImageStore
from taomagic.engine.data.images import Pixels, mean_of, preprocess, resize_bilinear
from taomagic.engine.data.labels import scaled_to_whole_pixels
from taomagic.engine.data.prefetch import in_order, in_thread, one_ahead
from taomagic.engine.data.records import Collection, collect
from taomagic.engine.data.samples import BatchPlan, Samples, planned, share_of
from taomagic.engine.data.worker_pool import WorkerPool
from taomagic.errors import DataProblem, SpecProblem
from taomagic.project.paths import PathMap
from taomagic.spec.settings import AugmentationSettings, DatasetSettings, SSDExperiment, TrainingSettings

__all__ = ["Batch", "TrainingData", "ValidationData", "collate", "on_device", "preprocess", "share_of"]

logger = logging.getLogger(__name__)

#: A GPU is fed by this many processes at most; with more, this one, which hands their batches on, is the narrow place.
_MOST_PROCESSES = 12
#: Finished batches, in memory that a GPU can read by itself, that wait for it.
_READY_BATCHES = 2


@dataclass(frozen=True, slots=True)
class Workers:
    """Who prepares batches.

    Attributes
    ----------
    count
        0 for nobody: each batch is made when it is asked for.
    processes
        Whether they are processes, not threads.
    """

    count: int
    processes: bool


def choose_workers(
    settings: TrainingSettings | None,
    *,
    workers: int | None = None,
    use_multiprocessing: bool = False,
    on_gpu: bool = False,
) -> Workers:
    """Decide who prepares batches.

    ``n_workers`` threads, or processes with ``use_multiprocessing``, in the spec or on the command line. Where neither
    is given: on a CPU nobody, as they would take the cores that the network needs; for a GPU as many processes as the
    machine has cores to spare, of its share where several GPUs train.

    Parameters
    ----------
    settings
        ``training_config``.
    workers
        Number to take in place of ``n_workers``.
    use_multiprocessing
        The flag of the command line.
    on_gpu
        Whether the network runs on a GPU.
    """
    asked = workers if workers is not None else settings.n_workers if settings else None
    processes = use_multiprocessing or bool(settings and settings.use_multiprocessing)
    if asked is None and (processes or on_gpu):
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # set by torchrun
        spare = (
            len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        ) - 1
        return Workers(max(1, min(_MOST_PROCESSES, spare // max(1, here))), processes=True)
    count = asked or 0
    return Workers(max(1, count) if processes else count, processes)


class TrainingData:
    """The training images of an experiment, changed at random in every epoch.

    A resumed training gets the very batches that an uninterrupted one would have got, and every number and kind of
    workers gives the same ones; see :mod:`taomagic.engine.data.samples`.

    Parameters
    ----------
    experiment
        Read with the purpose ``train``.
    paths
        Translates the paths in it.
    seed
        Seed of order and changes.
    workers, use_multiprocessing, on_gpu
        Who prepares batches; see :func:`choose_workers`. For a GPU, batches are also put into pinned memory, by a
        thread, while the network works.
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
        use_multiprocessing: bool = False,
        on_gpu: bool = False,
        cache_bytes: int | None = None,
    ) -> None:
        # OpenCV's own threads gain nothing on images this small and fight with the network's.
        cv2.setNumThreads(1)
        self._dataset, self._settings = _blocks(experiment)
        training = experiment.training
        self.workers = choose_workers(
            training, workers=workers, use_multiprocessing=use_multiprocessing, on_gpu=on_gpu
        )
        self._ahead = training.max_queue_size if training else 1
        self._on_gpu = on_gpu
        self._cache_bytes = cache_bytes
        self._data = collect(self._dataset.data_sources, self._dataset, paths, purpose="training")
        if not self._dataset.include_difficult:
            self._data.labels = _without_difficult(self._data.labels)
        self._samples = Samples(
            self._data.encoded, self._data.labels, self._data.from_tfrecords, self._settings, seed
        )
        self._store: ImageStore | None = None
        self._pool: WorkerPool | None = None
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

    def close(self) -> None:
        """Give decoded images back, and end the processes that prepare batches; a further epoch starts them anew."""
        if self._pool is not None:
            self._pool.close()
        if self._store is not None:
            self._store.close()
        self._pool = self._store = None

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

        Raises
        ------
        DataProblem
            An image can't be decoded; says which.
        EnvironmentProblem
            A process that prepares batches died.
        """
        share_of(np.empty(0, np.int64), rank, world_size)  # refuses a rank outside the world
        plans = [
            BatchPlan(epoch, number, batch_size, rank, world_size) for number in range(self.steps(batch_size))
        ]
        batches = self._by_processes(plans) if self.workers.processes else self._by_threads(plans)
        yield from in_thread(batches, _READY_BATCHES) if self._on_gpu else batches

    def _by_threads(self, plans: Sequence[BatchPlan]) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch, made in this process."""
        if self._store is None:
            self._store = ImageStore(self._samples.decode, self._cache_bytes)
        store = self._store
        order = self._samples.order(plans[0].epoch)

        def make(plan: BatchPlan) -> Batch:
            indices, global_size = planned(order, plan)
            shown = [self._samples.changed(store, plan.epoch, int(index)) for index in indices]
            return self._batch(indices, shown, global_size)

        yield from in_order([partial(make, plan) for plan in plans], self.workers.count, self._ahead)

    def _by_processes(self, plans: Sequence[BatchPlan]) -> Generator[Batch, None, None]:
        """Yield the batches of an epoch, made by other processes."""
        if self._pool is None:
            self._pool = WorkerPool(self._samples, self.workers.count, self._cache_bytes)
        for indices, shown, global_size in self._pool.batches(plans, self._ahead):
            yield self._batch(indices, shown, global_size)

    def _batch(
        self, indices: NDArray[np.int64], shown: Sequence[tuple[Pixels, Labels]], global_size: int
    ) -> Batch:
        names = [self._data.encoded[index].name for index in indices]
        return collate(shown, names, self._settings, self._mean, global_size, pinned=self._on_gpu)


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
    on_gpu
        Whether the network runs on a GPU; then threads prepare batches ahead, in pinned memory.
    cache_bytes
        As for :class:`TrainingData`.

    Raises
    ------
    SpecProblem
        There is no validation source with both an image and a label folder.
    DataProblem
        Data are missing, damaged or empty.
    """

    def __init__(
        self,
        experiment: SSDExperiment,
        paths: PathMap,
        *,
        on_gpu: bool = False,
        cache_bytes: int | None = None,
    ) -> None:
        cv2.setNumThreads(1)
        self._dataset, self._settings = _blocks(experiment)
        sources = [
            replace(source, tfrecords_path=None)  # TFRecords beside the folders aren't read, as in TAO
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
        self._on_gpu = on_gpu
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
        starts = range(rank * batch_size, len(self), world_size * batch_size)
        # OpenCV lets other threads run while it decodes and resizes, which is all that happens here.
        threads = choose_workers(None, on_gpu=True).count if self._on_gpu else 0
        yield from in_order(
            [partial(self._batch, range(start, min(start + batch_size, len(self)))) for start in starts],
            threads,
            threads + _READY_BATCHES,
        )

    def _batch(self, indices: range) -> Batch:
        """Return the resized images of a batch."""
        shown = [self._resized(index) for index in indices]
        names = [self._data.encoded[index].name for index in indices]
        return collate(shown, names, self._settings, mean_of(self._settings), pinned=self._on_gpu)

    def _resized(self, index: int) -> tuple[Pixels, Labels]:
        """Return image and labels at the network's input size."""
        image, labels = self._store[index], self._data.labels[index]
        width, height = self._settings.output_width, self._settings.output_height
        boxes = scaled_to_whole_pixels(labels.boxes, width / image.shape[1], height / image.shape[0])
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


def on_device(batches: Iterable[Batch], device: torch.device) -> Generator[Batch, None, None]:
    """Yield the batches with their images on a device; on a GPU each is copied while the one before it is used.

    The copies run on a stream of their own, so that a step never waits for its batch. Boxes and labels stay on the
    CPU, where they are matched while the GPU computes. On a CPU nothing happens.
    """
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)

    def copied() -> Generator[tuple[Batch, torch.cuda.Event], None, None]:
        for batch in batches:
            with torch.cuda.stream(stream):
                moved = replace(batch, images=batch.images.to(device, non_blocking=True))
                arrived = stream.record_event()
            # Outside: else the network would run on this stream as well.
            yield moved, arrived

    for batch, arrived in one_ahead(copied()):
        current = torch.cuda.current_stream(device)
        current.wait_event(arrived)
        # So that their memory isn't given away while this stream reads them.
        batch.images.record_stream(current)
        yield batch
