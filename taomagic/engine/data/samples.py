"""What a training image looks like in an epoch: the order, and every random change of it.

Randomness has no state: the changes of an image are keyed by the seed and its place in a pass over the data, the order
by the seed and the pass. So any process can make any batch. The processes that prepare batches import this module and
the networks' own samples; none may import torch, which would cost each process seconds and hundreds of megabytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from taomagic.engine.data import images
from taomagic.engine.data.augmentation import Labels, augment_kitti, augment_tfrecord
from taomagic.engine.data.images import Image, Pixels
from taomagic.engine.data.records import Encoded
from taomagic.spec.settings import AugmentationSettings

#: Position, in the key of a random generator, of the order of an epoch; images have the numbers below.
ORDER = (1 << 32) - 1


class Store(Protocol):
    """Gives decoded images."""

    def __getitem__(self, index: int) -> Image:
        """Return an image ``[height, width, 3]``, RGB, uint8; not to be changed in place."""
        ...


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """One process' share of a batch.

    Attributes
    ----------
    epoch
        Number of the epoch, from 1.
    number
        Which batch of it, from 0.
    batch_size
        Images per batch on all processes together; the last batch of an epoch may have fewer.
    rank, world_size
        Which of how many processes this is.
    """

    epoch: int
    number: int
    batch_size: int
    rank: int
    world_size: int


class Place(NamedTuple):
    """An image of a batch: in which pass over the data, at which place of it, which image of the data set."""

    turn: int
    position: int
    image: int


#: Boxes and classes of one image; each family of networks has its own.
L_co = TypeVar("L_co", covariant=True)


class Preparation(Protocol[L_co]):
    """The training images and how they are changed; small, and can be sent to another process."""

    @property
    def input_size(self) -> tuple[int, int]:
        """Return height and width of the changed images."""
        ...

    def sizes(self) -> list[tuple[int, int] | None]:
        """Return width and height of each image as stored, ``None`` where that isn't known without decoding it."""
        ...

    def decode(self, index: int) -> Image:
        """Return an image as stored, RGB, uint8.

        Raises
        ------
        DataProblem
            It is missing or damaged; says which.
        """
        ...

    def places(self, plan: BatchPlan) -> tuple[list[Place], int]:
        """Return the images of a plan, and how many the batch has on all processes."""
        ...

    def changed(self, store: Store, place: Place) -> tuple[Pixels, L_co]:
        """Return an image as it is at a place, ``[height, width, 3]``, RGB, uint8 or float32, with its boxes."""
        ...


@dataclass(frozen=True, slots=True)
class Samples:
    """SSD's training images and how they are changed; see :class:`Preparation`.

    Attributes
    ----------
    encoded, labels
        Where each image is, and its boxes in pixels of the image as stored.
    from_tfrecords
        Which of the two pipelines changes them.
    settings
        Ranges of the changes, and the output size.
    seed
        Seed of order and changes.
    """

    encoded: Sequence[Encoded]
    labels: Sequence[Labels]
    from_tfrecords: bool
    settings: AugmentationSettings
    seed: int

    @property
    def input_size(self) -> tuple[int, int]:
        """Return height and width of the changed images."""
        return self.settings.output_height, self.settings.output_width

    def sizes(self) -> list[tuple[int, int] | None]:
        """Return width and height of each image as stored."""
        return [item.size() for item in self.encoded]

    def decode(self, index: int) -> Image:
        """Return an image as stored, RGB, uint8."""
        item = self.encoded[index]
        return images.decode(item.read(), item.name)

    def places(self, plan: BatchPlan) -> tuple[list[Place], int]:
        """Return the images of a plan; an epoch has each image once, and its last batch may be smaller."""
        order = shuffled(self.seed, plan.epoch, len(self.encoded))
        start = plan.number * plan.batch_size
        batch = order[start : start + plan.batch_size]
        mine = share_of(batch, plan.rank, plan.world_size).tolist()
        # The image, not its place, keys its changes.
        return [Place(plan.epoch, image, image) for image in mine], len(batch)

    def changed(self, store: Store, place: Place) -> tuple[Pixels, Labels]:
        """Return an image as it is in an epoch, RGB, uint8 or float32, at the output size, with its boxes."""
        augment = augment_tfrecord if self.from_tfrecords else augment_kitti
        generator = keyed_generator(self.seed, place.turn, place.position)
        return augment(generator, store[place.image], self.labels[place.image], self.settings)


@lru_cache(maxsize=4)
def shuffled(seed: int, turn: int, count: int) -> NDArray[np.int64]:
    """Return the order of all images in one pass over the data, not to be changed in place."""
    order = keyed_generator(seed, turn, ORDER).permutation(count)
    order.setflags(write=False)
    return order


def keyed_generator(seed: int, turn: int, position: int) -> np.random.Generator:
    """Return the random numbers of one image, or of the order (:data:`ORDER`), in one pass over the data."""
    return np.random.Generator(np.random.Philox(key=[seed, turn << 32 | position]))


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
