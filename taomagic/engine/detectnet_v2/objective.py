"""What DetectNet_v2 minimises: rasteriser, masks and loss of one batch, bound to a network and a spec."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from taomagic.engine.data.batch import Batch
from taomagic.engine.detectnet_v2.layout import Layout
from taomagic.engine.detectnet_v2.loading import GridBatch
from taomagic.engine.detectnet_v2.loss import GridLoss, Part
from taomagic.engine.detectnet_v2.masks import LossMask
from taomagic.engine.detectnet_v2.targets import Rasterizer
from taomagic.spec.settings_detectnet_v2 import DetectNetExperiment


@dataclass(frozen=True)
class LossParts:
    """The loss of a batch: this process' share of it, where several train together.

    Attributes
    ----------
    total
        What is minimised, without the regulariser.
    parts
        Mean cost of each class and objective, not weighted.
    """

    total: Tensor
    parts: dict[Part, Tensor]

    def named(self) -> dict[str, Tensor]:
        """Return the parts by names such as ``car/cov``."""
        return {f"{name}/{objective}": value for (name, objective), value in self.parts.items()}


class GridObjective:
    """The loss of predictions against the objects of a batch.

    Parameters
    ----------
    layout
        Classes, grid, scale and offset of the network.
    experiment
        Read for ``train`` or ``evaluate``.
    loss
        The weights of its parts, where they change during a training.
    notes
        Whether the costs of each call decide about those weights: in the steps of the training, not in validation.
    """

    def __init__(
        self,
        layout: Layout,
        experiment: DetectNetExperiment,
        *,
        loss: GridLoss | None = None,
        notes: bool = False,
    ) -> None:
        assert experiment.rasterizer is not None  # required for both purposes
        self._layout = layout
        self.rasterizer = Rasterizer(
            experiment.rasterizer,
            layout.classes,
            layout.grid,
            scale=layout.bbox_scale,
            offset=layout.bbox_offset,
        )
        self.loss = loss if loss is not None else GridLoss(experiment.cost)
        self._notes = notes
        self._mask = LossMask(experiment.loss_mask, layout.classes, layout.grid)

    def __call__(self, *outputs: Tensor, batch: Batch) -> LossParts:
        """Draw the batch's objects and compare with what the network said: coverage and boxes."""
        coverage, boxes = outputs
        assert isinstance(batch, GridBatch)
        device = coverage.device
        targets = self.rasterizer(batch.boxes.to(device), batch.labels.to(device))
        mask = self._mask(batch, targets.coverage)
        parts = self.loss.parts(coverage, self._layout.by_class(boxes), targets, mask=mask)
        if len(batch) != batch.global_size:
            # Means over the images here, as shares of the mean over those of all processes.
            share = len(batch) / batch.global_size
            parts = {part: value * share for part, value in parts.items()}
        if self._notes:
            self.loss.note(parts)
        return LossParts(self.loss.total(parts), parts)
