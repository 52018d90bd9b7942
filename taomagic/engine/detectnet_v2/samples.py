"""What a training image of DetectNet_v2 looks like: its place in the endless sequence, and every random change of it.

The processes that prepare batches import this; it must not import torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from taomagic.engine.data.images import Image
from taomagic.engine.data.samples import ORDER, BatchPlan, Place, Store, keyed_generator, share_of, shuffled
from taomagic.engine.detectnet_v2.augmentation import FloatImage, Size, augment, to_input
from taomagic.engine.detectnet_v2.records import Frame, Objects
from taomagic.spec.settings_detectnet_v2 import DetectNetAugmentationSettings


@dataclass(frozen=True, slots=True)
class GridSamples:
    """The training images and how they are changed; see :class:`taomagic.engine.data.samples.Preparation`.

    Batches run on from one pass over the data into the next: none is smaller than the others.

    Attributes
    ----------
    frames
        The images with their objects, source after source.
    sources
        How many of them each source has.
    uniform
        Whether each source gives equally many images, whatever its size (``sampling_mode: UNIFORM``).
    settings
        Ranges of the changes, and the input size.
    largest
        Largest width and height of all images, for ``scale_width`` and ``scale_height``.
    seed
        Seed of order and changes.
    """

    frames: Sequence[Frame]
    sources: tuple[int, ...]
    uniform: bool
    settings: DetectNetAugmentationSettings
    largest: Size
    seed: int

    @property
    def input_size(self) -> tuple[int, int]:
        """Return height and width of the network's input."""
        return self.settings.output_height, self.settings.output_width

    def sizes(self) -> list[Size | None]:
        """Return width and height of each image as stored, as recorded."""
        return [frame.size for frame in self.frames]

    def decode(self, index: int) -> Image:
        """Return an image as stored, RGB, uint8."""
        return self.frames[index].decode()

    def steps(self, batch_size: int) -> int:
        """Return the number of batches of an epoch."""
        return -(-len(self.frames) // batch_size)

    def places(self, plan: BatchPlan) -> tuple[list[Place], int]:
        """Return the images of a plan: its part of the endless sequence of passes over the data."""
        first = ((plan.epoch - 1) * self.steps(plan.batch_size) + plan.number) * plan.batch_size
        mine = share_of(np.arange(first, first + plan.batch_size), plan.rank, plan.world_size)
        places = []
        for number in mine.tolist():
            turn, position = divmod(number, len(self.frames))
            places.append(Place(turn, position, int(self._order(turn)[position])))
        return places, plan.batch_size

    def changed(self, store: Store, place: Place) -> tuple[FloatImage, Objects]:
        """Return an image at the input size, 0..1, changed as its place wants it, with its objects."""
        frame = self.frames[place.image]
        image, objects = to_input(store[place.image], frame.objects, self.settings, self.largest)
        # The place in the pass, not the image, keys its changes: with UNIFORM an image may come twice in a pass.
        return augment(keyed_generator(self.seed, place.turn, place.position), image, objects, self.settings)

    def _order(self, turn: int) -> npt.NDArray[np.int64]:
        """Return the images of a pass over the data, in its order."""
        if self.uniform and len(self.sources) > 1:
            return _equal_shares(self.seed, turn, self.sources)
        # Sources give images in proportion to their size, which is what USER_DEFINED comes to as well.
        return shuffled(self.seed, turn, len(self.frames))


@lru_cache(maxsize=4)
def _equal_shares(seed: int, turn: int, sources: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """Return as many images as there are, equally many of each source, each drawn at random from it."""
    generator = keyed_generator(seed, turn, ORDER)
    sizes, count = np.array(sources), sum(sources)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    filled = np.flatnonzero(sizes)
    source = filled[generator.permutation(np.arange(count) % len(filled))]
    return np.asarray(starts[source] + np.floor(generator.random(count) * sizes[source]), np.int64)
