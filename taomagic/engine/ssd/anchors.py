"""Anchor boxes: where SSD looks, and how large what it looks for is (Liu et al., 2016, section 2.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class AnchorSettings:
    """What the spec says about anchors; the names are those of ``ssd_config``.

    Attributes
    ----------
    aspect_ratios
        Width / height ratios, one list for each feature map.
    scales
        Side of a square anchor as a share of the shorter image side, one for each map and one more.
    two_boxes_for_ar1
        Whether ratio 1 gets a second anchor, between this map's scale and the next one's.
    clip_boxes
        Whether anchors are cut off at the image border.
    variances
        Divisors of the encoded offsets (centre x, centre y, width, height).
    steps
        Distance of anchor centres in pixels (vertical, horizontal) for each map; ``None``: image size / map size.
    offsets
        Position of the first centre, in steps, for each map; ``None``: 0.5.
    """

    aspect_ratios: tuple[tuple[float, ...], ...]
    scales: tuple[float, ...]
    two_boxes_for_ar1: bool
    clip_boxes: bool
    variances: tuple[float, float, float, float]
    steps: tuple[tuple[float, float], ...] | None = None
    offsets: tuple[float, ...] | None = None

    def boxes_per_cell(self, level: int) -> int:
        """Return how many anchors each cell of map ``level`` carries."""
        ratios = self.aspect_ratios[level]
        return len(ratios) + (ratios.count(1.0) if self.two_boxes_for_ar1 else 0)


def _shapes(settings: AnchorSettings, level: int, side: float) -> list[tuple[float, float]]:
    """Return (width, height) in pixels of the anchors of one cell, in the order of the spec's ratios."""
    scale, next_scale = settings.scales[level], settings.scales[level + 1]
    shapes = []
    for ratio in settings.aspect_ratios[level]:
        if ratio == 1.0:
            shapes.append((scale * side, scale * side))
            if settings.two_boxes_for_ar1:
                between = math.sqrt(scale * next_scale) * side
                shapes.append((between, between))
        else:
            shapes.append((scale * side * math.sqrt(ratio), scale * side / math.sqrt(ratio)))
    return shapes


def anchor_boxes(
    settings: AnchorSettings, image_size: tuple[int, int], feature_sizes: Sequence[tuple[int, int]]
) -> Tensor:
    """Lay out all anchors of a network.

    Parameters
    ----------
    settings
        The anchor part of ``ssd_config``.
    image_size
        Height and width of the network input, pixels.
    feature_sizes
        Height and width of each feature map.

    Returns
    -------
    Tensor
        [A, 4] float32, corners (x1, y1, x2, y2) as shares of the image; maps in order, cells row by row, the boxes of a
        cell innermost.
    """
    height, width = image_size
    levels = []
    for level, (rows, columns) in enumerate(feature_sizes):
        step_y, step_x = settings.steps[level] if settings.steps else (height / rows, width / columns)
        offset = settings.offsets[level] if settings.offsets else 0.5
        # float64 until the end, as the original: anchors of different levels must not differ by rounding alone.
        cy = (offset + torch.arange(rows, dtype=torch.float64)) * step_y
        cx = (offset + torch.arange(columns, dtype=torch.float64)) * step_x
        grid_y, grid_x = torch.meshgrid(cy, cx, indexing="ij")
        sizes = torch.tensor(_shapes(settings, level, min(height, width)), dtype=torch.float64)
        centres = torch.stack([grid_x, grid_y], dim=-1)[:, :, None, :]  # [rows, columns, 1, 2]
        corners = torch.cat([centres - sizes / 2, centres + sizes / 2], dim=-1)  # [rows, columns, boxes, 4]
        levels.append(corners.reshape(-1, 4))
    boxes = torch.cat(levels)
    limit = torch.tensor([width, height, width, height], dtype=torch.float64)
    if settings.clip_boxes:
        boxes = torch.where(boxes >= limit, limit - 1, boxes).clamp(min=0)
    return (boxes / limit).to(torch.float32)
