"""Some images with their boxes, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from taomagic.engine.data.augmentation import Labels
from taomagic.engine.data.images import Pixels, preprocess_into
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
    images = torch.empty((len(shown), height, width, settings.output_channel), pin_memory=pinned)
    pixels = images.numpy()
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
    return Batch(
        images.permute(0, 3, 1, 2),
        torch.from_numpy(boxes),
        torch.from_numpy(classes),
        torch.from_numpy(difficult),
        tuple(names),
        len(names) if global_size is None else global_size,
    )
