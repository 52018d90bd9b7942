"""Factors of the loss, cell by cell: the weight of an image's source, and the label filters of the spec.

Source: section 1.12 of the reference. Inside the boxes of the objects that a filter chooses, the loss counts
``mask_multiplier`` times, and once elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from taomagic.engine.detectnet_v2.loading import GridBatch
from taomagic.engine.detectnet_v2.targets import STRIDE
from taomagic.spec.settings_detectnet_v2 import LabelFilterSettings, LossMaskSettings

OBJECTIVES = ("cov", "bbox")


class LossMask:
    """Computes the factors of a batch.

    Parameters
    ----------
    settings
        ``loss_mask_label_filter``, if the spec has one.
    classes
        Names in the order of the network's channels.
    grid
        Height and width of the maps, in cells.
    """

    def __init__(
        self, settings: LossMaskSettings | None, classes: Sequence[str], grid: tuple[int, int]
    ) -> None:
        self._settings = settings
        self._classes = tuple(classes)
        self._grid = grid

    def __call__(self, batch: GridBatch, coverage: Tensor) -> dict[str, Tensor] | None:
        """Return the factors by objective, each [N, C or 1, H, W]; ``None`` where all are 1.

        Parameters
        ----------
        batch
            Images and objects.
        coverage
            [N, C, H, W] that was drawn; with ``preserve_ground_truth``, what has some isn't masked.
        """
        weights = batch.weights.to(coverage.device)[:, None, None, None]
        if self._settings is None:
            return None if bool((batch.weights == 1).all()) else dict.fromkeys(OBJECTIVES, weights)
        masks = {}
        for objective in OBJECTIVES:
            inside = self._inside(batch, objective).to(coverage.device)
            if self._settings.preserve_ground_truth:
                inside &= coverage == 0
            factor = torch.where(inside, self._settings.mask_multiplier, 1.0)
            masks[objective] = factor * weights
        return masks

    def _inside(self, batch: GridBatch, objective: str) -> Tensor:
        """Return [N, C, H, W]: which cells lie in the boxes of chosen objects."""
        assert self._settings is not None
        height, width = self._grid
        inside = torch.zeros(len(batch), len(self._classes), height, width, dtype=torch.bool)
        for one in self._settings.filters:
            if one.objectives and objective not in one.objectives:
                continue
            wanted = [self._classes.index(name) for name in one.target_classes] or range(len(self._classes))
            for image in range(len(batch)):
                for row, name in enumerate(batch.source_classes[image]):
                    box = batch.boxes[image, row].tolist()
                    channel = int(batch.labels[image, row]) - 1
                    if channel in wanted and _chosen(one, box, name):
                        left, top = int(box[0] // STRIDE), int(box[1] // STRIDE)
                        right, bottom = (-int(-box[2] // STRIDE), -int(-box[3] // STRIDE))
                        inside[image, channel, top:bottom, left:right] = True
        return inside


def _chosen(settings: LabelFilterSettings, box: Sequence[float], source_class: str) -> bool:
    """Return whether a filter chooses an object; limits that aren't written don't limit."""
    limits = settings.limits
    x1, y1, x2, y2 = box
    far = float("inf")
    match settings.kind:
        case "source_class":
            return source_class in settings.source_classes
        case "dimensions":
            return limits.get("min_width", 0.0) <= x2 - x1 <= limits.get("max_width", far) and limits.get(
                "min_height", 0.0
            ) <= y2 - y1 <= limits.get("max_height", far)
        case "crop":
            return (
                x2 > limits.get("crop_left", 0.0)
                and x1 < limits.get("crop_right", far)
                and y2 > limits.get("crop_top", 0.0)
                and y1 < limits.get("crop_bottom", far)
            )
