"""The networks and specs that the tests of the export share."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from taomagic.engine.ssd.anchors import AnchorSettings
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.spec.settings import NMSSettings, SSDExperiment, SSDModelSettings

ANCHORS = AnchorSettings(
    aspect_ratios=((1.0, 2.0, 0.5),) * 6,
    scales=(0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95),
    two_boxes_for_ar1=True,
    clip_boxes=False,
    variances=(0.1, 0.1, 0.2, 0.2),
)


@dataclass
class Case:
    """A network and the experiment it belongs to."""

    model: SSD
    experiment: SSDExperiment

    @property
    def nms(self) -> NMSSettings:
        assert self.experiment.nms is not None
        return self.experiment.nms


def network(
    channels: int = 3, classes: tuple[str, ...] = ("car", "cyclist", "person"), *, trained: bool = False
) -> SSD:
    """Return a small SSD; a "trained" one is sure of the background nearly everywhere, as real ones are."""
    torch.manual_seed(7)
    model = SSD(Architecture("resnet", 10, 0.25, (channels, 96, 128), classes, ANCHORS))
    # The statistics of what it will see: otherwise its answers would be thousands, and its boxes, too.
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(8, channels, 96, 128) * 60)
    if trained:
        for level in range(6):
            bias = model.heads[f"ssd_conf_{level}"].bias
            bias.data.view(-1, len(classes) + 1)[:, 0] += 4.0
    return model.eval()


def experiment(nms: NMSSettings) -> SSDExperiment:
    model = SSDModelSettings.__new__(SSDModelSettings)  # the export doesn't look at it
    return SSDExperiment("spec.txt", "", 42, model, None, None, nms, None, None)
