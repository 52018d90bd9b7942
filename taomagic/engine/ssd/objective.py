"""What SSD minimises: matching and loss of one batch, bound to a network's anchors and a spec's settings."""

from __future__ import annotations

import torch
from torch import Tensor

from taomagic.engine.data.loading import Batch
from taomagic.engine.ssd.loss import LossParts, multibox_loss
from taomagic.engine.ssd.model import SSD
from taomagic.engine.ssd.targets import match
from taomagic.spec.ssd import SSDModelSettings


class Objective:
    """The loss of predictions against the objects of a batch.

    Parameters
    ----------
    model
        Gives anchors, variances and the input size.
    settings
        ``ssd_config``: matching thresholds, ``neg_pos_ratio`` and ``alpha``.
    shared
        Whether each batch is spread over all processes; the loss is then this process' share.
    """

    def __init__(self, model: SSD, settings: SSDModelSettings, *, shared: bool = False) -> None:
        _, height, width = model.architecture.input_shape
        # Matching looks at boxes only, not at what the network says. On the CPU it takes place while a GPU computes.
        self._anchors = model.anchors.cpu()
        self._variances = torch.tensor(model.architecture.anchors.variances)
        self._size = torch.tensor([width, height, width, height], dtype=torch.float32)
        self._settings = settings
        self._shared = shared

    def __call__(self, *outputs: Tensor, batch: Batch) -> LossParts:
        """Match the batch's objects to the anchors and compare with what the network said.

        Parameters
        ----------
        outputs
            Class scores [N, A, C] and box offsets [N, A, 4].
        batch
            With the objects.
        """
        scores, offsets = outputs
        targets = match(
            self._anchors,
            batch.boxes.cpu() / self._size,
            batch.labels.cpu(),
            self._variances,
            pos_iou_thresh=self._settings.pos_iou_thresh,
            neg_iou_thresh=self._settings.neg_iou_thresh,
        )
        return multibox_loss(
            scores,
            offsets,
            targets,
            alpha=self._settings.alpha,
            neg_pos_ratio=self._settings.neg_pos_ratio,
            shared=self._shared,
        )
