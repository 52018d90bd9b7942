"""The batches that a network trains on and is judged by."""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np
import torch

from taomagic.engine.data.augmentation import Labels, tidy
from taomagic.engine.data.batch import Batch, collate
from taomagic.engine.data.feed import Feed, Workers, choose_workers, in_turn
from taomagic.engine.data.image_store import ImageStore
from taomagic.engine.data.images import Pixels, mean_of, preprocess, resize_bilinear
from taomagic.engine.data.labels import scaled_to_whole_pixels
from taomagic.engine.data.prefetch import one_ahead
from taomagic.engine.data.records import Collection, collect
from taomagic.engine.data.samples import BatchPlan, Place, Samples, share_of
from taomagic.errors import DataProblem, SpecProblem
from taomagic.project.paths import PathMap
from taomagic.spec.settings import AugmentationSettings, DatasetSettings, SSDExperiment, TrainingSettings

__all__ = ["Batch", "TrainingData", "ValidationData", "collate", "on_device", "preprocess", "share_of"]

logger = logging.getLogger(__name__)


def workers_for(
    settings: TrainingSettings | None,
    *,
    workers: int | None = None,
    use_multiprocessing: bool = False,
    on_gpu: bool = False,
) -> Workers:
    """Decide who prepares batches, by the spec and the command line; see :func:`choose_workers`.

    Parameters
    ----------
    settings
        ``training_config``, with ``n_workers`` and ``use_multiprocessing``.
    workers
        Number to take in place of ``n_workers``.
    use_multiprocessing
        The flag of the command line.
    on_gpu
        Whether the network runs on a GPU.
    """
    asked = workers if workers is not None else settings.n_workers if settings else None
    processes = use_multiprocessing or bool(settings and settings.use_multiprocessing)
    return choose_workers(asked, processes=processes, on_gpu=on_gpu)


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
        Who prepares batches; see :func:`workers_for`. For a GPU, batches are also put into pinned memory, by a
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
        self._dataset, self._settings = _blocks(experiment)
        training = experiment.training
        self._ahead = training.max_queue_size if training else 1
        self._on_gpu = on_gpu
        self._data = collect(self._dataset.data_sources, self._dataset, paths, purpose="training")
        if not self._dataset.include_difficult:
            self._data.labels = _without_difficult(self._data.labels)
        samples = Samples(
            self._data.encoded, self._data.labels, self._data.from_tfrecords, self._settings, seed
        )
        self._feed = Feed(
            samples,
            self._batch,
            workers_for(training, workers=workers, use_multiprocessing=use_multiprocessing, on_gpu=on_gpu),
            on_gpu=on_gpu,
            cache_bytes=cache_bytes,
        )
        self._mean = mean_of(self._settings, tfrecords=self._data.from_tfrecords)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._data.encoded)

    @property
    def workers(self) -> Workers:
        """Who prepares batches."""
        return self._feed.workers

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
        self._feed.close()

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
        yield from self._feed.batches(plans, self._ahead)

    def _batch(
        self, places: Sequence[Place], shown: Sequence[tuple[Pixels, Labels]], global_size: int
    ) -> Batch:
        names = [self._data.encoded[place.image].name for place in places]
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
        self._data = validation_images(experiment, paths)
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
        """Yield all images in order, or one process' share; see :func:`taomagic.engine.data.feed.in_turn`."""
        yield from in_turn(
            self._batch, len(self), batch_size, rank=rank, world_size=world_size, on_gpu=self._on_gpu
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


def validation_images(experiment: SSDExperiment, paths: PathMap) -> Collection:
    """Return the images and labels that a spec names for validation.

    Raises
    ------
    SpecProblem
        There is no validation source with both an image and a label folder.
    DataProblem
        Data are missing, damaged or empty.
    """
    dataset, _ = _blocks(experiment)
    sources = [
        replace(source, tfrecords_path=None)  # TFRecords beside the folders aren't read, as in TAO
        for source in dataset.validation_data_sources
        if source.image_directory_path and source.label_directory_path
    ]
    if not sources:
        raise SpecProblem(
            "dataset_config has no validation_data_sources with an image and a label folder",
            path=experiment.path,
            hint="add validation_data_sources { image_directory_path: … label_directory_path: … }",
        )
    return collect(sources, dataset, paths, purpose="validation")


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
