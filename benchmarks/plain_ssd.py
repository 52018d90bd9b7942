"""An SSD training loop as public repositories write it, to compare with: the peer of ``training_speed.py``.

A ``DataLoader`` whose ``Dataset`` reads, decodes and changes one image at a time, as float32; matching image by image
in a Python loop; hard negatives by sorting all losses twice; NCHW tensors; ``torch.optim.SGD`` as it comes. Layers,
anchors, matching rules and loss are the same as ours, so the two do the same work.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

CLASSES = {"car": 1, "cyclist": 2, "pedestrian": 3}
MEAN = np.array([103.939, 116.779, 123.68], np.float32)
Sample = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


def jitter(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Change brightness, contrast, saturation and hue of a BGR image."""
    if random.random() < 0.5:
        image = image + random.uniform(-32, 32)
    if random.random() < 0.5:
        image = image * random.uniform(0.5, 1.5)
    hsv = cv2.cvtColor(np.clip(image, 0, 255) / 255, cv2.COLOR_BGR2HSV)
    if random.random() < 0.5:
        hsv[:, :, 1] *= random.uniform(0.5, 1.5)
    if random.random() < 0.5:
        hsv[:, :, 0] = (hsv[:, :, 0] + random.uniform(-36, 36)) % 360
    return np.asarray(cv2.cvtColor(np.clip(hsv, 0, [360, 1, 1]).astype(np.float32), cv2.COLOR_HSV2BGR) * 255)


def expand(image: NDArray[np.float32], boxes: NDArray[np.float32]) -> tuple[Any, Any]:
    """Put the image somewhere into a larger one of the mean colour."""
    if random.random() < 0.5:
        return image, boxes
    height, width = image.shape[:2]
    ratio = random.uniform(1, 4)
    left, top = random.uniform(0, width * ratio - width), random.uniform(0, height * ratio - height)
    canvas = np.empty((int(height * ratio), int(width * ratio), 3), np.float32)
    canvas[:] = MEAN
    canvas[int(top) : int(top) + height, int(left) : int(left) + width] = image
    return canvas, boxes + np.array([int(left), int(top)] * 2, np.float32)


def crop(image: NDArray[np.float32], boxes: NDArray[np.float32], labels: NDArray[np.int64]) -> Any:
    """Cut out a patch that overlaps an object enough, and keep the objects whose centre is in it."""
    height, width = image.shape[:2]
    while True:
        limit = random.choice([None, 0.0, 0.1, 0.3, 0.5, 0.7, 0.9])
        if limit is None or not len(boxes):
            return image, boxes, labels
        for _ in range(50):
            w, h = random.uniform(0.3 * width, width), random.uniform(0.3 * height, height)
            if not 0.5 <= h / w <= 2:
                continue
            x, y = random.uniform(0, width - w), random.uniform(0, height - h)
            patch = np.array([int(x), int(y), int(x + w), int(y + h)], np.float32)
            low, high = np.maximum(boxes[:, :2], patch[:2]), np.minimum(boxes[:, 2:], patch[2:])
            common = np.prod(np.clip(high - low, 0, None), axis=1)
            areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
            overlap = common / (areas + np.prod(patch[2:] - patch[:2]) - common)
            if overlap.max() < limit:
                continue
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2
            inside = ((centres > patch[:2]) & (centres < patch[2:])).all(axis=1)
            if not inside.any():
                continue
            cut = image[int(patch[1]) : int(patch[3]), int(patch[0]) : int(patch[2])]
            kept = np.concatenate(
                [np.maximum(boxes[inside, :2], patch[:2]), np.minimum(boxes[inside, 2:], patch[2:])], 1
            )
            return cut, kept - np.tile(patch[:2], 2), labels[inside]


class KittiFolder(Dataset[Sample]):
    """Images and labels of a KITTI folder, one at a time."""

    def __init__(self, folder: Path, side: int) -> None:
        self.images = sorted((folder / "image_2").iterdir())
        self.labels = [folder / "label_2" / f"{path.stem}.txt" for path in self.images]
        self.side = side

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        """Return an image [3, H, W], its boxes as shares of it, and their classes."""
        image = cv2.imread(str(self.images[index])).astype(np.float32)
        rows = [line.split() for line in self.labels[index].read_text().splitlines()]
        rows = [row for row in rows if row[0].lower() in CLASSES]
        boxes = np.array([[float(v) for v in row[4:8]] for row in rows], np.float32).reshape(-1, 4)
        labels = np.array([CLASSES[row[0].lower()] for row in rows], np.int64)
        image, boxes = expand(jitter(image), boxes)
        image, boxes, labels = crop(image, boxes, labels)
        height, width = image.shape[:2]
        boxes = boxes / np.array([width, height] * 2, np.float32)
        if random.random() < 0.5:
            image = image[:, ::-1]
            boxes[:, [0, 2]] = 1 - boxes[:, [2, 0]]
        resized = cv2.resize(image, (self.side, self.side)).astype(np.float32) - MEAN
        return np.ascontiguousarray(resized.transpose(2, 0, 1)), boxes, labels


def collate(samples: list[Sample]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Stack the images, and keep boxes and classes as lists."""
    images = torch.stack([torch.from_numpy(image) for image, _, _ in samples])
    return images, [torch.from_numpy(b) for _, b, _ in samples], [torch.from_numpy(c) for _, _, c in samples]


def overlaps(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Return [M, A] intersection over union."""
    low = torch.max(boxes[:, None, :2], anchors[None, :, :2])
    high = torch.min(boxes[:, None, 2:], anchors[None, :, 2:])
    common = (high - low).clamp(min=0).prod(2)
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(1)[:, None] + (anchors[:, 2:] - anchors[:, :2]).prod(1)[None]
    return common / (sizes - common)


def match_image(boxes: Tensor, labels: Tensor, anchors: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Return the class of each anchor (-1: neither), and its encoded box, for one image."""
    classes, encoded = torch.zeros(len(anchors), dtype=torch.int64), torch.zeros(len(anchors), 4)
    if not len(boxes):
        return classes, encoded
    iou = overlaps(boxes, anchors)
    best, owner = iou.max(0)
    classes[best >= 0.5] = -1
    positive = best >= 0.5
    left = iou.clone()
    for _ in range(len(boxes)):  # each object gets the best anchor that is left
        flat = int(left.argmax())
        row, anchor = divmod(flat, len(anchors))
        if left[row, anchor] <= 0:
            break
        owner[anchor], positive[anchor] = row, True
        left[row], left[:, anchor] = 0, 0
    classes[positive] = labels[owner[positive]]
    matched = boxes[owner]
    size, anchor_size = matched[:, 2:] - matched[:, :2], anchors[:, 2:] - anchors[:, :2]
    centre = (matched[:, :2] + matched[:, 2:] - anchors[:, :2] - anchors[:, 2:]) / 2
    encoded = torch.cat([centre / anchor_size / variances[:2], (size / anchor_size).log() / variances[2:]], 1)
    return classes, encoded


def multibox(scores: Tensor, offsets: Tensor, classes: Tensor, encoded: Tensor) -> Tensor:
    """Return the loss with hard negatives from the whole batch, ranked by sorting twice."""
    positive = classes > 0
    localisation = F.smooth_l1_loss(offsets[positive], encoded[positive], reduction="sum")
    losses = F.cross_entropy(
        scores.reshape(-1, scores.shape[2]), classes.reshape(-1).clamp(min=0), reduction="none"
    )
    ranked = losses.detach().clone()
    ranked[classes.reshape(-1) != 0] = 0
    _, order = ranked.sort(descending=True)
    _, rank = order.sort()
    negative = (rank < 3 * positive.sum()) & (classes.reshape(-1) == 0)
    classification = losses[positive.reshape(-1) | negative].sum()
    return (classification + localisation) / positive.sum().clamp(min=1)


def trainer(
    model: nn.Module, anchors: Tensor, variances: Tensor, folder: Path, *, side: int, batch: int, workers: int
) -> Callable[[int], float]:
    """Return a function that makes so many training steps and returns the last loss."""
    data = KittiFolder(folder, side)
    loader = DataLoader(data, batch, shuffle=True, num_workers=workers, collate_fn=collate, drop_last=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9, weight_decay=3e-5)
    model.train()

    def batches() -> Iterator[tuple[Tensor, list[Tensor], list[Tensor]]]:
        while True:
            yield from loader

    source = batches()

    def train(steps: int) -> float:
        last = 0.0
        for _ in range(steps):
            images, boxes, labels = next(source)
            targets = [match_image(b, c, anchors, variances) for b, c in zip(boxes, labels, strict=True)]
            scores, offsets = model(images)
            loss = multibox(
                scores, offsets, torch.stack([c for c, _ in targets]), torch.stack([e for _, e in targets])
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            last = loss.item()
        return last

    return train
