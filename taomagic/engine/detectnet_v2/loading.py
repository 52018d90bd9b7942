"""The batches that DetectNet_v2 trains on and is judged by."""

from __future__ import annotations

import logging
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from taomagic.engine.data.batch import as_network_sees, empty_images, padded
from taomagic.engine.data.feed import Feed, Workers, batches_ahead, choose_workers, in_turn
from taomagic.engine.data.image_store import ImageStore
from taomagic.engine.data.images import GREY_SHARES, Pixels
from taomagic.engine.data.loading import Batch
from taomagic.engine.data.samples import BatchPlan, Place, share_of
from taomagic.engine.detectnet_v2.augmentation import FloatImage, Size, to_input, unchanged
from taomagic.engine.detectnet_v2.records import Frame, Frames, Objects, collect
from taomagic.engine.detectnet_v2.samples import GridSamples
from taomagic.errors import SpecProblem
from taomagic.project.paths import PathMap
from taomagic.spec.settings_detectnet_v2 import (
    DetectNetAugmentationSettings,
    DetectNetDatasetSettings,
    DetectNetExperiment,
)

logger = logging.getLogger(__name__)

#: An image in preparation has colours in any case, and four bytes for each level.
_CHANNELS, _FLOAT_BYTES = 3, 4


@dataclass(frozen=True, slots=True)
class GridBatch(Batch):
    """Some images with their boxes; pixels are 0..1, red first.

    Attributes
    ----------
    weights
        [N] float32 weight of the source of each image.
    source_classes
        For each image, what the labels call its objects (for ``source_class_label_filter``).
    """

    weights: Tensor
    source_classes: tuple[tuple[str, ...], ...]


def collate(
    shown: Sequence[tuple[Pixels, Objects]],
    frames: Sequence[Frame],
    settings: DetectNetAugmentationSettings,
    global_size: int | None = None,
    *,
    pinned: bool = False,
) -> GridBatch:
    """Return images of the input size and their objects as a batch, padded to the most objects of one image.

    Parameters
    ----------
    shown
        Images ``[output_height, output_width, 3]``, 0..1, with their objects; may be none at all.
    frames
        What they were made from.
    settings
        Says size, and colour or grey.
    global_size
        Images of the batch on all processes; by default those given.
    pinned
        Put the pixels where a GPU can fetch them while the processor does something else.
    """
    channels = settings.output_channel
    shape = (settings.output_height, settings.output_width, channels)
    images = empty_images(len(shown), shape, pinned=pinned)
    pixels = images.numpy()
    for i, (image, _) in enumerate(shown):
        if channels == 3:
            pixels[i] = image
        else:
            pixels[i] = cv2.transform(image, GREY_SHARES[None])[..., None]
    return GridBatch(
        as_network_sees(images),
        *padded([objects for _, objects in shown]),
        tuple(frame.name for frame in frames),
        len(frames) if global_size is None else global_size,
        torch.tensor([frame.weight for frame in frames], dtype=torch.float32),
        tuple(objects.source_classes for _, objects in shown),
    )


class TrainingData:
    """The training images, changed at random, in batches without end.

    Randomness has no state: every image of every pass over the data has a key of its own, so that a resumed training
    gets the very batches that an uninterrupted one would have got. Batches run on from one pass into the next: none is
    smaller than the others, and an epoch has ``ceil(images / batch size)`` of them.

    Parameters
    ----------
    experiment
        Read with the purpose ``train``.
    paths
        Translates the paths in it.
    workers
        Threads that prepare batches ahead; by default those of :func:`taomagic.engine.data.feed.choose_workers`.
    use_multiprocessing
        Take processes in place of threads.
    on_gpu
        Whether the network runs on a GPU: then processes prepare batches ahead, and a thread puts them into pinned
        memory.
    cache_bytes
        Memory for decoded images; by default chosen by :class:`ImageStore`.

    Raises
    ------
    DataProblem
        Data are missing, damaged or empty.
    """

    def __init__(
        self,
        experiment: DetectNetExperiment,
        paths: PathMap,
        *,
        workers: int | None = None,
        use_multiprocessing: bool = False,
        on_gpu: bool = False,
        cache_bytes: int | None = None,
    ) -> None:
        dataset, settings = _blocks(experiment)
        self._classes = experiment.classes
        self._frames = collect(dataset, experiment.classes, paths, validation=False)
        self._settings = settings
        _tell_what_is_cut(self._frames, settings)
        self._on_gpu = on_gpu
        self._samples = GridSamples(
            self._frames.frames,
            tuple(self._frames.sources),
            dataset.sampling_mode == "UNIFORM",
            settings,
            _largest(self._frames, settings),
            experiment.random_seed,
        )
        self._feed = Feed(
            self._samples,
            self._batch,
            choose_workers(workers, processes=use_multiprocessing, on_gpu=on_gpu),
            on_gpu=on_gpu,
            cache_bytes=cache_bytes,
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._frames.frames)

    @property
    def workers(self) -> Workers:
        """Who prepares batches."""
        return self._feed.workers

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of training objects per class."""
        return self._frames.class_counts(self._classes)

    def fingerprint(self) -> str:
        """Return a hash of the data."""
        return self._frames.fingerprint()

    def steps(self, batch_size: int) -> int:
        """Return the number of batches of an epoch."""
        return self._samples.steps(batch_size)

    def close(self) -> None:
        """Give decoded images back, and end the processes that prepare batches; a further epoch starts them anew."""
        self._feed.close()

    def epoch(
        self, epoch: int, batch_size: int, *, rank: int = 0, world_size: int = 1
    ) -> Generator[GridBatch, None, None]:
        """Yield the batches of an epoch, from 1, or one process' share of each; see SSD's ``TrainingData.epoch``."""
        share_of(np.empty(0, np.int64), rank, world_size)  # refuses a rank outside the world
        plans = [
            BatchPlan(epoch, number, batch_size, rank, world_size) for number in range(self.steps(batch_size))
        ]
        pixels = self._settings.output_height * self._settings.output_width * _CHANNELS
        ahead = batches_ahead(self.workers, -(-batch_size // world_size) * pixels * _FLOAT_BYTES)
        yield from self._feed.batches(plans, ahead)

    def _batch(
        self, places: Sequence[Place], shown: Sequence[tuple[Pixels, Objects]], global_size: int
    ) -> GridBatch:
        frames = [self._frames.frames[place.image] for place in places]
        return collate(shown, frames, self._settings, global_size, pinned=self._on_gpu)


class ValidationData:
    """The validation images at the network's input size, otherwise as they are.

    Parameters
    ----------
    experiment
        With ``validation_fold`` or ``validation_data_source``.
    paths
        Translates the paths in it.
    training
        Take the training images instead (``evaluate --use_training_set``).
    frames
        Take these images instead.
    on_gpu
        Whether the network runs on a GPU; then threads prepare batches ahead, in pinned memory.
    cache_bytes
        As for :class:`TrainingData`.

    Raises
    ------
    DataProblem
        Data are missing, damaged or empty.
    """

    def __init__(
        self,
        experiment: DetectNetExperiment,
        paths: PathMap,
        *,
        training: bool = False,
        frames: Frames | None = None,
        on_gpu: bool = False,
        cache_bytes: int | None = None,
    ) -> None:
        dataset, self._settings = _blocks(experiment)
        if frames is None:
            frames = collect(dataset, experiment.classes, paths, validation=not training)
        cv2.setNumThreads(1)
        self._classes = experiment.classes
        self._frames = frames
        _tell_what_is_cut(frames, self._settings)
        self._largest = _largest(frames, self._settings)
        self._on_gpu = on_gpu
        self._store = ImageStore(lambda index: self._frames.frames[index].decode(), cache_bytes)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._frames.frames)

    def fingerprint(self) -> str:
        """Return a hash of the data."""
        return self._frames.fingerprint()

    @property
    def class_counts(self) -> dict[str, int]:
        """Number of objects per class."""
        return self._frames.class_counts(self._classes)

    def steps(self, batch_size: int) -> int:
        """Return the number of batches."""
        return -(-len(self) // batch_size)

    def batches(
        self, batch_size: int, *, rank: int = 0, world_size: int = 1
    ) -> Generator[GridBatch, None, None]:
        """Yield all images in order, or one process' share; see :func:`taomagic.engine.data.feed.in_turn`."""
        yield from in_turn(
            self._batch, len(self), batch_size, rank=rank, world_size=world_size, on_gpu=self._on_gpu
        )

    def _batch(self, indices: range) -> GridBatch:
        """Return some images, cropped or padded."""
        frames = self._frames.frames[indices.start : indices.stop]
        shown = [self._shown(index) for index in indices]
        return collate(shown, frames, self._settings, pinned=self._on_gpu)

    def _shown(self, index: int) -> tuple[FloatImage, Objects]:
        image, objects = self._store[index], self._frames.frames[index].objects
        return unchanged(*to_input(image, objects, self._settings, self._largest), self._settings)


def _largest(frames: Frames, settings: DetectNetAugmentationSettings) -> Size:
    """Return the size of the largest image, where that matters."""
    scaled = settings.scale_width and settings.scale_height and not settings.enable_auto_resize
    return frames.largest() if scaled else (0, 0)


def _tell_what_is_cut(frames: Frames, settings: DetectNetAugmentationSettings) -> None:
    """Warn where images are larger than the network's input: nothing resizes them unless the spec says so."""
    scaled = settings.scale_width and settings.scale_height
    if settings.enable_auto_resize or settings.crop is not None or scaled:
        return  # as somebody wants it
    width, height = settings.output_width, settings.output_height
    sizes = [frame.size for frame in frames.frames if frame.size is not None]
    if larger := sum(size[0] > width or size[1] > height for size in sizes):
        logger.warning(
            "%d of %d images are larger than the network's input, %d×%d: what is beyond it, right and below, is cut "
            "off. To have images and boxes resized, set enable_auto_resize: true in preprocessing.",
            *(larger, len(frames.frames), width, height),
        )


def _blocks(
    experiment: DetectNetExperiment,
) -> tuple[DetectNetDatasetSettings, DetectNetAugmentationSettings]:
    """Return the two blocks that loading needs."""
    if experiment.dataset is None or experiment.augmentation is None:
        name = "dataset_config" if experiment.dataset is None else "augmentation_config"
        raise SpecProblem(f"{name} is missing", path=experiment.path, hint="NVIDIA's sample specs show it.")
    return experiment.dataset, experiment.augmentation
