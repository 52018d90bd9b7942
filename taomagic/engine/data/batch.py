"""Some images with their boxes, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taomagic.engine.data.images import Pixels, preprocess_into
from taomagic.engine.data.labels import Labels
from taomagic.spec.settings import AugmentationSettings


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
    shown: Sequence[tuple[Pixels, Labels]],
    names: Sequence[str],
    settings: AugmentationSettings,
    mean: tuple[float, ...],
    global_size: int | None = None,
    *,
    pinned: bool = False,
) -> Batch:
    """Return images of the output size and their labels as a batch, padded to the most boxes of one image.

    Parameters
    ----------
    shown
        Images ``[output_height, output_width, 3]``, RGB, uint8 or float32, with their boxes; may be none at all.
    names
        Their names.
    settings
        Says size, and colour or grey.
    mean
        What to subtract.
    global_size
        Images of the batch on all processes; by default those given.
    pinned
        Put the pixels where a GPU can fetch them while the processor does something else.
    """
    height, width = settings.output_height, settings.output_width
    images = empty_images(len(shown), (height, width, settings.output_channel), pinned=pinned)
    pixels = images.numpy()
    for i, (image, _) in enumerate(shown):
        preprocess_into(image, mean, pixels[i])
    return Batch(
        as_network_sees(images),
        *padded([labels for _, labels in shown]),
        tuple(names),
        len(names) if global_size is None else global_size,
    )


def empty_images(count: int, shape: tuple[int, int, int], *, pinned: bool = False) -> Tensor:
    """Return room for images, ``[N, H, W, C]`` float32, not filled.

    Parameters
    ----------
    count
        How many.
    shape
        Height, width, channels.
    pinned
        Where a GPU can fetch them while the processor does something else.
    """
    return torch.empty((count, *shape), dtype=torch.float32, pin_memory=pinned)


def as_network_sees(images: Tensor) -> Tensor:
    """Return ``[N, H, W, C]`` as ``[N, C, H, W]`` in channels-last memory, which is the same bytes, not copied."""
    return images.permute(0, 3, 1, 2)


def padded(labels: Sequence[Labels]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the boxes, classes and marks of some images, each padded to the most of one image, at least 1.

    Returns
    -------
    ``[N, M, 4]`` float32 corners, ``[N, M]`` int64 ids, 0 for padding, and ``[N, M]`` bool.
    """
    most = max([1, *(len(one.boxes) for one in labels)])
    boxes = np.zeros((len(labels), most, 4), np.float32)
    classes = np.zeros((len(labels), most), np.int64)
    difficult = np.zeros((len(labels), most), np.bool_)
    for i, one in enumerate(labels):
        count = len(one.boxes)
        boxes[i, :count], classes[i, :count], difficult[i, :count] = one.boxes, one.classes, one.difficult
    return torch.from_numpy(boxes), torch.from_numpy(classes), torch.from_numpy(difficult)
