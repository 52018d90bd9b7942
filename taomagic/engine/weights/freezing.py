"""What of a network doesn't learn."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn

from taomagic.engine.backbones.base import Backbone


def freeze_blocks(backbone: Backbone, blocks: Iterable[int]) -> None:
    """Stop the convolutions of those blocks (``freeze_blocks``); their batch normalisation still trains."""
    ids = backbone.blocks()
    for block in blocks:
        for module in ids[block]:
            for layer in module.modules():
                if isinstance(layer, nn.Conv2d):
                    layer.requires_grad_(False)


def stop_batch_norm(module: nn.Module) -> None:
    """Make batch normalisation use its stored statistics (``freeze_bn``); its scale and shift still train."""
    for layer in module.modules():
        # SyncBatchNorm, which takes its place where several GPUs train, is no BatchNorm2d.
        if isinstance(layer, nn.BatchNorm2d | nn.SyncBatchNorm):
            layer.eval()
