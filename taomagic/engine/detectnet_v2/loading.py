"""The batches that DetectNet_v2 trains on and is judged by."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from taomagic.engine.data.image_store import ImageStore
from taomagic.engine.data.images import Image
from taomagic.engine.data.loading import Batch
from taomagic.engine.data.prefetch import in_order
from taomagic.engine.data.samples import ORDER, keyed_generator, share_of
from taomagic.engine.detectnet_v2.augmentation import FloatImage, augment, to_input, unchanged
from taomagic.engine.detectnet_v2.records import Frames, Objects, collect
from taomagic.errors import SpecProblem
from taomagic.project.paths import PathMap
from taomagic.spec.settings_detectnet_v2 import (
    DetectNetAugmentationSettings,
    DetectNetDatasetSettings,
    DetectNetExperiment,
)

#: Red, green and blue in a grey level.
_GREY_SHARES = np.array([[0.299, 0.587, 0.114]], np.float32)
#: Batches prepared ahead, where threads prepare them.
_AHEAD = 8


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


@dataclass(frozen=True, slots=True)
class Shown:
    """An image as the network will see it."""

    pixels: FloatImage
    objects: Objects
    name: str
    weight: float


def collate(shown: Sequence[Shown], settings: DetectNetAugmentationSettings, global_size: int) -> GridBatch:
    """Return images of the input size and their objects as a batch, padded to the most objects of one image."""
    height, width, channels = settings.output_height, settings.output_width, settings.output_channel
    pixels = np.empty((len(shown), height, width, channels), np.float32)
    most = max([1, *(len(one.objects.boxes) for one in shown)])
    boxes = np.zeros((len(shown), most, 4), np.float32)
    classes = np.zeros((len(shown), most), np.int64)
    occluded = np.zeros((len(shown), most), np.bool_)
    for i, one in enumerate(shown):
        pixels[i] = one.pixels if channels == 3 else cv2.transform(one.pixels, _GREY_SHARES)[..., None]
        count = len(one.objects.boxes)
        boxes[i, :count] = one.objects.boxes
        classes[i, :count] = one.objects.classes
        occluded[i, :count] = one.objects.occluded
    return GridBatch(
        # Channels-last memory, seen as [N, C, H, W].
        torch.from_numpy(pixels).permute(0, 3, 1, 2),
        torch.from_numpy(boxes),
        torch.from_numpy(classes),
        torch.from_numpy(occluded),
        tuple(one.name for one in shown),
        global_size,
        torch.tensor([one.weight for one in shown], dtype=torch.float32),
        tuple(one.objects.source_classes for one in shown),
    )


class _Images:
    """Images of a data set at the network's input size."""

    def __init__(
        self, frames: Frames, settings: DetectNetAugmentationSettings, cache_bytes: int | None
    ) -> None:
        # OpenCV's own threads gain nothing here and fight with the network's.
        cv2.setNumThreads(1)
        self.frames = frames.frames
        self.settings = settings
        self._store = ImageStore(lambda index: self.frames[index].decode(), cache_bytes)

    def __getitem__(self, index: int) -> tuple[Image, Objects]:
        return to_input(self._store[index], self.frames[index].objects, self.settings)

    def close(self) -> None:
        self._store.close()


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
        Threads that prepare batches ahead.
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
        workers: int = 0,
        cache_bytes: int | None = None,
    ) -> None:
        dataset, settings = _blocks(experiment)
        self._frames = collect(dataset, experiment.classes, paths, validation=False)
        self._images = _Images(self._frames, settings, cache_bytes)
        self._settings = settings
        self._seed = experiment.random_seed
        self._workers = workers
        self._uniform = dataset.sampling_mode == "UNIFORM" and len(self._frames.sources) > 1

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._frames.frames)

    def fingerprint(self) -> str:
        """Return a hash of the data."""
        return self._frames.fingerprint()

    def steps(self, batch_size: int) -> int:
        """Return the number of batches of an epoch."""
        return -(-len(self) // batch_size)

    def close(self) -> None:
        """Give decoded images back."""
        self._images.close()

    def epoch(
        self, epoch: int, batch_size: int, *, rank: int = 0, world_size: int = 1
    ) -> Generator[GridBatch, None, None]:
        """Yield the batches of an epoch, from 1, or one process' share of each; see SSD's ``TrainingData.epoch``."""
        steps = self.steps(batch_size)
        first = (epoch - 1) * steps * batch_size
        makers = [
            partial(self._batch, np.arange(start, start + batch_size), rank, world_size)
            for start in range(first, first + steps * batch_size, batch_size)
        ]
        yield from in_order(makers, self._workers, _AHEAD)

    def _batch(self, places: npt.NDArray[np.int64], rank: int, world_size: int) -> GridBatch:
        """Return the images at some places of the endless sequence."""
        mine = share_of(places, rank, world_size)
        shown = [self._shown(int(place)) for place in mine]
        return collate(shown, self._settings, len(places))

    def _shown(self, place: int) -> Shown:
        turn, position = divmod(place, len(self))
        index = int(self._order(turn)[position])
        image, objects = self._images[index]
        # The place in the pass, not the image, keys its changes: with UNIFORM an image may come twice in a pass.
        pixels, objects = augment(self._generator(turn, position), image, objects, self._settings)
        frame = self._frames.frames[index]
        return Shown(pixels, objects, frame.name, frame.weight)

    def _order(self, turn: int) -> npt.NDArray[np.int64]:
        """Return the images of a pass over the data, in its order."""
        generator = self._generator(turn, ORDER)
        count = len(self)
        if not self._uniform:
            # Sources give images in proportion to their size, which is what USER_DEFINED comes to as well.
            return generator.permutation(count)
        sizes = np.array(self._frames.sources)
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        source = generator.permutation(np.arange(count) % len(sizes))
        return np.asarray(starts[source] + np.floor(generator.random(count) * sizes[source]), np.int64)

    def _generator(self, turn: int, position: int) -> np.random.Generator:
        return keyed_generator(self._seed, turn, position)


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
        cache_bytes: int | None = None,
    ) -> None:
        dataset, self._settings = _blocks(experiment)
        if frames is None:
            frames = collect(dataset, experiment.classes, paths, validation=not training)
        self._frames = frames
        self._images = _Images(self._frames, self._settings, cache_bytes)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._frames.frames)

    def fingerprint(self) -> str:
        """Return a hash of the data."""
        return self._frames.fingerprint()

    def batches(
        self, batch_size: int, *, rank: int = 0, world_size: int = 1
    ) -> Generator[GridBatch, None, None]:
        """Yield all images in order, or every ``world_size``-th batch from the ``rank``-th on."""
        for start in range(rank * batch_size, len(self), world_size * batch_size):
            indices = range(start, min(start + batch_size, len(self)))
            shown = []
            for index in indices:
                frame = self._frames.frames[index]
                pixels, objects = unchanged(*self._images[index], self._settings)
                shown.append(Shown(pixels, objects, frame.name, frame.weight))
            yield collate(shown, self._settings, len(shown))


def _blocks(
    experiment: DetectNetExperiment,
) -> tuple[DetectNetDatasetSettings, DetectNetAugmentationSettings]:
    """Return the two blocks that loading needs."""
    if experiment.dataset is None or experiment.augmentation is None:
        name = "dataset_config" if experiment.dataset is None else "augmentation_config"
        raise SpecProblem(f"{name} is missing", path=experiment.path, hint="NVIDIA's sample specs show it.")
    return experiment.dataset, experiment.augmentation
