"""What tests of pruning share: silencing filters in a whole network, and SSDs with uneven filters."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from taomagic.engine.detectnet_v2 import model as detectnet_v2
from taomagic.engine.pruning.prune import PruneReport
from taomagic.engine.ssd.anchors import AnchorSettings
from taomagic.engine.ssd.model import SSD, Architecture

#: Every backbone: architecture and number of layers.
BACKBONES = [
    *(("resnet", n) for n in (10, 18, 34, 50, 101)),
    *(("vgg", n) for n in (16, 19)),
    *(("darknet", n) for n in (19, 53)),
    *((name, 0) for name in ("googlenet", "mobilenet_v1", "mobilenet_v2", "squeezenet", "efficientnet_b0")),
]


def ssd(arch: str, nlayers: int, *, quantized: bool = False, size: tuple[int, int] = (64, 64)) -> SSD:
    """Return a narrow SSD in evaluation mode whose filters differ in strength."""
    torch.manual_seed(1)
    anchors = AnchorSettings(
        aspect_ratios=((1.0, 2.0, 0.5),) * 6,
        scales=(0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95),
        two_boxes_for_ar1=True,
        clip_boxes=False,
        variances=(0.1, 0.1, 0.2, 0.2),
    )
    model = SSD(
        Architecture(arch, nlayers, 0.25, (3, *size), ("car", "person"), anchors, quantized=quantized)
    )
    uneven(model)
    return model.eval()


def detectnet(
    arch: str, nlayers: int, *, quantized: bool = False, size: tuple[int, int] = (64, 64), width: float = 0.25
) -> detectnet_v2.DetectNet:
    """Return a narrow DetectNet_v2 in evaluation mode whose filters differ in strength."""
    torch.manual_seed(1)
    architecture = detectnet_v2.Architecture(
        arch, nlayers, width, (3, *size), ("car", "person"), True, False, 35.0, 0.5, quantized=quantized
    )
    model = detectnet_v2.DetectNet(architecture)
    uneven(model)
    return model.eval()


NETWORKS = {"ssd": ssd, "detectnet_v2": detectnet}


def uneven(model: nn.Module) -> None:
    """Give convolutions filters of different strength, and batch normalisations statistics of their own."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            strength = 10 ** torch.empty(module.out_channels).uniform_(-1.5, 0)
            module.weight.data *= strength[:, None, None, None]
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)


def rebuilt(net: nn.Module, report: PruneReport) -> nn.Module:
    """Return a net of the new widths that has taken the state dict strictly."""
    small = copy.deepcopy(net)
    for path, module in small.named_modules():
        if isinstance(module, nn.Conv2d):
            weight = report.state_dict[f"{path}.weight"]
            depthwise = module.groups == module.in_channels > 1
            module.out_channels = weight.shape[0]
            module.in_channels = weight.shape[0] if depthwise else weight.shape[1] * module.groups
            module.groups = weight.shape[0] if depthwise else module.groups
            module.weight = nn.Parameter(torch.empty_like(weight))
            if module.bias is not None:
                module.bias = nn.Parameter(torch.empty_like(report.state_dict[f"{path}.bias"]))
        elif isinstance(module, nn.ConvTranspose2d | nn.PReLU):
            weight = report.state_dict[f"{path}.weight"]
            module.weight = nn.Parameter(torch.empty_like(weight))
        elif isinstance(module, nn.BatchNorm2d):
            replacement = nn.BatchNorm2d(report.state_dict[f"{path}.weight"].shape[0])
            module.__dict__.update(replacement.__dict__)
    small.to(next(net.parameters()).dtype).load_state_dict(report.state_dict, strict=True)
    return small.eval()


def silenced(model: nn.Module, report: PruneReport, names: dict[str, str], x: Tensor) -> nn.Module:
    """Return a copy of the whole network in which the pruned filters give nothing but zeros.

    It is found out by running the network, not by the graph that pruning works with: the batch normalisation of a
    convolution is the one that gets its output.

    Parameters
    ----------
    model
        The whole network, in evaluation mode.
    report
        What pruning decided.
    names
        The report's layer names by module path.
    x
        An input.
    """
    silent = copy.deepcopy(model)
    kept = {layer.name: torch.tensor(layer.indices) for layer in report.layers}
    made: dict[int, tuple[Tensor, str]] = {}

    def note(path: str) -> Any:
        return lambda _module, _inputs, output: made.__setitem__(id(output), (output, path))

    def silence(module: nn.BatchNorm2d, inputs: tuple[Tensor, ...]) -> None:
        found = made.get(id(inputs[0]))
        if found is not None:
            off = mask(module.num_features, kept[names[found[1]]])
            module.weight.data[off] = 0
            module.bias.data[off] = 0

    handles = []
    for path, module in silent.named_modules():
        if isinstance(module, nn.Conv2d):
            off = mask(module.out_channels, kept[names[path]])
            module.weight.data[off] = 0
            if module.bias is not None:
                module.bias.data[off] = 0
            handles.append(module.register_forward_hook(note(path)))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(silence))
    with torch.no_grad():
        silent(x)
    for handle in handles:
        handle.remove()
    return silent


def mask(size: int, kept: Tensor) -> Tensor:
    """Return which of so many channels are not kept."""
    off = torch.ones(size, dtype=torch.bool)
    off[kept] = False
    return off
