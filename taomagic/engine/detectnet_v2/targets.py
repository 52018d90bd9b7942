"""The rasteriser: objects drawn into the grid, so that each cell knows what it should say.

A box becomes an ellipse of *coverage* in the map of its class. Around it lies a *dead zone*, a larger ellipse in which
cells that other objects claimed before are cleared, so that neighbours don't melt into one. Where coverage is drawn,
the cell also holds the distances to the four sides of its box.

Source: section 5.2 of the reference on DetectNet_v2; lengths are in cells of :data:`STRIDE` pixels there and here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from taomagic.spec.settings_detectnet_v2 import RasterizerSettings

#: Pixels a cell, in both directions.
STRIDE = 16
#: Each cell is sampled at 4 × 4 points, in the middle of its sixteenths.
SAMPLES = 4
#: No ellipse is narrower than this, in cells, before ``bbox_min_radius`` is looked at.
_LEAST_RADIUS = 0.1


@dataclass(frozen=True)
class GridTargets:
    """What the network should say.

    Attributes
    ----------
    coverage
        [N, C, H, W] float32 share of each cell that the ellipse on top covers.
    weight
        [N, C, H, W] float32 coverage divided by the ellipse's area: every object weighs about the same in the loss of
        the boxes, however large it is.
    boxes
        [N, C, 4, H, W] float32 distances to left, top, right and bottom side, in units of ``scale`` pixels; zero where
        there is no coverage.
    """

    coverage: Tensor
    weight: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class Ellipses:
    """Ellipses of boxes, in cells: each attribute [...] float32.

    ``x``, ``y`` are the centre, ``rx``, ``ry`` the radii of the coverage, ``dx``, ``dy`` those of the dead zone.
    """

    x: Tensor
    y: Tensor
    rx: Tensor
    ry: Tensor
    dx: Tensor
    dy: Tensor

    @property
    def inverse_area(self) -> Tensor:
        """One over the area of the rectangle around the coverage, at most 1."""
        return 1.0 / (4.0 * self.rx * self.ry).clamp(min=1.0)


class Rasterizer:
    """Draws batches of boxes.

    Parameters
    ----------
    settings
        ``bbox_rasterizer_config``.
    classes
        Names in the order of the network's channels.
    grid
        Height and width of the maps, in cells.
    scale, offset
        ``objective_set.bbox``, in pixels.
    """

    def __init__(
        self,
        settings: RasterizerSettings,
        classes: Sequence[str],
        grid: tuple[int, int],
        *,
        scale: float,
        offset: float,
    ) -> None:
        self._grid = grid
        self._scale = scale
        self._offset = offset
        self._deadzone = settings.deadzone_radius
        rows = [settings.classes[name] for name in classes]
        # [C + 1, 5]; row 0 stands for padding and is never drawn.
        table = [
            (r.cov_center_x, r.cov_center_y, r.cov_radius_x, r.cov_radius_y, r.bbox_min_radius) for r in rows
        ]
        self._table = torch.tensor([(0.5, 0.5, 1.0, 1.0, 1.0), *table])

    def __call__(self, boxes: Tensor, labels: Tensor) -> GridTargets:
        """Draw the objects of a batch.

        Parameters
        ----------
        boxes
            [N, M, 4] corners in pixels of the network's input; padding rows are ignored.
        labels
            [N, M] int64 class ids from 1; 0 marks padding.

        Returns
        -------
        GridTargets
            On the device of ``boxes``.
        """
        batch, objects = labels.shape
        height, width = self._grid
        classes = len(self._table) - 1
        cells = boxes.float() / STRIDE
        # Lower ends come later: what stands further down is nearer to the camera and covers what is behind it.
        order = torch.argsort(cells[..., 3], dim=1, stable=True)
        cells = cells.gather(1, order[..., None].expand(-1, -1, 4))
        labels = labels.gather(1, order)
        ellipses = self.ellipses(cells, labels)

        # One map more than there are classes takes the padding.
        coverage = cells.new_zeros(batch, classes + 1, height, width)
        weight = torch.zeros_like(coverage)
        sides = cells.new_zeros(batch, classes + 1, 4, height, width)
        rows = torch.arange(batch, device=cells.device)
        for index in range(objects):
            label = labels[:, index]
            inside, zone = self._shares(ellipses, index)
            before = coverage[rows, label]
            cleared = (zone > 0) & (zone >= before)
            before = before.masked_fill(cleared, 0.0)
            drawn = (inside > 0) & (inside >= before)
            coverage[rows, label] = torch.where(drawn, inside, before)
            share = inside * ellipses.inverse_area[:, index, None, None]
            kept = weight[rows, label].masked_fill(cleared, 0.0)
            weight[rows, label] = torch.where(drawn, share, kept)
            old = sides[rows, label].masked_fill(cleared[:, None], 0.0)
            sides[rows, label] = torch.where(drawn[:, None], self._distances(cells[:, index]), old)
        return GridTargets(coverage[:, 1:], weight[:, 1:], sides[:, 1:])

    def ellipses(self, cells: Tensor, labels: Tensor) -> Ellipses:
        """Return the ellipses of boxes [..., 4], in cells, of the classes ``labels`` [...]."""
        center_x, center_y, radius_x, radius_y, least = self._table.to(cells.device)[labels].unbind(-1)
        left, top, right, bottom = cells.unbind(-1)
        x, reach_x = _center(left, right, center_x)
        y, reach_y = _center(top, bottom, center_y)
        rx = (radius_x * reach_x).clamp(min=_LEAST_RADIUS)
        ry = (radius_y * reach_y).clamp(min=_LEAST_RADIUS)
        rx, ry = _at_least(rx, ry, least)
        ry, rx = _at_least(ry, rx, least)
        dx = torch.maximum((1 - self._deadzone) * rx + self._deadzone * reach_x, rx)
        dy = torch.maximum((1 - self._deadzone) * ry + self._deadzone * reach_y, ry)
        return Ellipses(x, y, rx, ry, dx, dy)

    def _shares(self, ellipses: Ellipses, index: int) -> tuple[Tensor, Tensor]:
        """Return the share of each cell in the coverage and in the dead zone of every image's ``index``-th box."""
        x, y = ellipses.x[:, index, None], ellipses.y[:, index, None]
        height, width = self._grid
        across = (_points(width, x) - x).square()  # [N, 4 W]
        down = (_points(height, x) - y).square()  # [N, 4 H]

        def share(rx: Tensor, ry: Tensor) -> Tensor:
            inside = (down / ry.square())[:, :, None] + (across / rx.square())[:, None, :] <= 1.0
            cells = inside.reshape(len(inside), height, SAMPLES, width, SAMPLES)
            return cells.sum(dim=(2, 4)) / float(SAMPLES * SAMPLES)

        return (
            share(ellipses.rx[:, index, None], ellipses.ry[:, index, None]),
            share(ellipses.dx[:, index, None], ellipses.dy[:, index, None]),
        )

    def _distances(self, cells: Tensor) -> Tensor:
        """Return [N, 4, H, W] distances of every cell to the sides of a box [N, 4], in units of ``scale``."""
        height, width = self._grid
        x = torch.arange(width, dtype=cells.dtype, device=cells.device)[None, None, :]
        y = torch.arange(height, dtype=cells.dtype, device=cells.device)[None, :, None]
        left, top, right, bottom = (side[:, None, None] for side in cells.unbind(-1))
        sides = [
            ((x - left) * STRIDE + self._offset).expand(-1, height, -1),
            ((y - top) * STRIDE + self._offset).expand(-1, -1, width),
            ((right - x) * STRIDE - self._offset).expand(-1, height, -1),
            ((bottom - y) * STRIDE - self._offset).expand(-1, -1, width),
        ]
        return torch.stack(sides, dim=1) / self._scale


def _center(low: Tensor, high: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centre of an ellipse along one axis, and its distance to the nearer end of the box."""
    center = low + share * (high - low)
    return center, torch.where(share < 0.5, center - low, high - center)


def _at_least(radius: Tensor, other: Tensor, least: Tensor) -> tuple[Tensor, Tensor]:
    """Widen an ellipse, in proportion, until its first radius is the least."""
    short = radius < least
    return torch.where(short, least, radius), torch.where(short, least * other / radius, other)


def _points(cells: int, like: Tensor) -> Tensor:
    """Return the places of the samples along one axis, in cells."""
    return (torch.arange(cells * SAMPLES, dtype=like.dtype, device=like.device) + 0.5) / SAMPLES


def decode_boxes(sides: Tensor, size: tuple[int, int], *, scale: float, offset: float) -> Tensor:
    """Return the boxes that cells speak of; the inverse of what the rasteriser writes.

    Parameters
    ----------
    sides
        [..., 4, H, W] distances to left, top, right and bottom side, in units of ``scale`` pixels.
    size
        Height and width of the network's input.
    scale, offset
        ``objective_set.bbox``, in pixels.

    Returns
    -------
    Tensor
        [..., H, W, 4] corners in pixels, inside the image.
    """
    height, width = size
    rows, columns = sides.shape[-2:]
    x = torch.arange(columns, dtype=sides.dtype, device=sides.device) * STRIDE + offset
    y = torch.arange(rows, dtype=sides.dtype, device=sides.device)[:, None] * STRIDE + offset
    left, top, right, bottom = (scale * sides).unbind(dim=-3)
    x1 = (x - left).clamp(0, width)
    y1 = (y - top).clamp(0, height)
    x2 = torch.maximum((x + right).clamp(max=width), x1)
    y2 = torch.maximum((y + bottom).clamp(max=height), y1)
    return torch.stack([x1, y1, x2, y2], dim=-1)
