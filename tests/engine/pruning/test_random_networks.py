"""Networks that nobody has thought of: whatever hangs together in whatever way, pruning leaves an equal network."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from taomagic.engine.pruning.prune import PruneReport, prune

from .nets import mask, rebuilt, uneven

WIDTHS = (4, 6, 8, 12)
OPERATIONS = (
    "conv", "conv", "conv", "depthwise", "add", "mul", "cat", "pool", "excite", "gate", "norm", "prelu", "grouped",
    "transposed", "again",
)  # fmt: skip


class Random(nn.Module):
    """A network of steps, each on the results of earlier ones; all maps have the same size.

    Parameters
    ----------
    draw
        Draws from a strategy.
    """

    def __init__(self, draw: Any) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        #: Operation, indices of its inputs, indices of its layers.
        self.program: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
        channels = [3]
        self._add(channels, "conv", (0,), [self._conv(draw, 3, 8), nn.ReLU()], 8)
        for _ in range(draw(st.integers(2, 9))):
            self._draw_step(draw, channels)
        self.heads = nn.ModuleList()
        self.read = tuple(range(max(1, len(channels) - 3), len(channels)))
        for index in self.read:
            self.heads.append(nn.Conv2d(channels[index], 3, 1))

    def _draw_step(self, draw: Any, channels: list[int]) -> None:
        operation = draw(st.sampled_from(OPERATIONS))
        source = draw(st.integers(1, len(channels) - 1))
        width = channels[source]
        equal = [i for i in range(1, len(channels)) if channels[i] == width]
        match operation:
            case "conv":
                out = draw(st.sampled_from(WIDTHS))
                parts: list[nn.Module] = [self._conv(draw, width, out)]
                parts += [nn.BatchNorm2d(out)] if draw(st.booleans()) else []
                parts += [draw(st.sampled_from((nn.ReLU, nn.SiLU, nn.Identity)))()]
                self._add(channels, "conv", (source,), parts, out)
            case "depthwise":
                layer = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=draw(st.booleans()))
                self._add(channels, "conv", (source,), [layer, nn.BatchNorm2d(width), nn.ReLU6()], width)
            case "grouped":
                self._add(channels, "conv", (source,), [nn.Conv2d(width, 8, 3, padding=1, groups=2)], 8)
            case "transposed":
                self._add(channels, "conv", (source,), [nn.ConvTranspose2d(width, 6, 1)], 6)
            case "pool":
                self._add(channels, "conv", (source,), [nn.MaxPool2d(3, 1, 1)], width)
            case "norm":
                self._add(channels, "conv", (source,), [nn.BatchNorm2d(width), nn.ReLU()], width)
            case "prelu":
                self._add(channels, "conv", (source,), [nn.PReLU(width)], width)
            case "again":
                # The same convolution on two results: its weights belong to both.
                layer = nn.Conv2d(width, 6, 1)
                self._add(channels, "conv", (source,), [layer], 6)
                shared = self.program[-1][2]
                self.program.append(("conv", (draw(st.sampled_from(equal)),), shared))
                channels.append(6)
            case "add" | "mul":
                self._add(channels, operation, (source, draw(st.sampled_from(equal))), [], width)
            case "cat":
                sources = (source, *draw(st.lists(st.integers(1, len(channels) - 1), min_size=1, max_size=2)))
                self._add(channels, "cat", sources, [], sum(channels[i] for i in sources))
            case "excite":
                parts = [
                    nn.AdaptiveAvgPool2d(1),
                    nn.Conv2d(width, 4, 1),
                    nn.ReLU(),
                    nn.Conv2d(4, width, 1),
                    nn.Sigmoid(),
                ]
                self._add(channels, "scale", (source,), parts, width)
            case "gate":
                self._add(channels, "scale", (source,), [nn.Conv2d(width, 1, 1), nn.Sigmoid()], width)

    @staticmethod
    def _conv(draw: Any, inputs: int, outputs: int) -> nn.Conv2d:
        kernel = draw(st.sampled_from((1, 3)))
        return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=draw(st.booleans()))

    def _add(
        self,
        channels: list[int],
        operation: str,
        sources: tuple[int, ...],
        layers: list[nn.Module],
        width: int,
    ) -> None:
        first = len(self.layers)
        self.layers.extend(layers)
        self.program.append((operation, sources, tuple(range(first, first + len(layers)))))
        channels.append(width)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Map [N, 3, H, W] to the outputs of the heads."""
        values = [x]
        for operation, sources, layers in self.program:
            inputs = [values[i] for i in sources]
            y = inputs[0]
            for index in layers:
                y = self.layers[index](y)
            if operation == "add":
                y = inputs[0] + inputs[1]
            elif operation == "mul":
                y = inputs[0] * inputs[1]
            elif operation == "cat":
                y = torch.cat(inputs, dim=1)
            elif operation == "scale":
                y = inputs[0] * y
            values.append(y)
        return tuple(head(values[i]) for head, i in zip(self.heads, self.read, strict=True))


def silenced(net: nn.Module, report: PruneReport) -> nn.Module:
    """Return the whole net with its pruned channels off.

    The mean of each channel of a batch normalisation is its number, so the pruned net itself says which ones are left.
    """
    silent = copy.deepcopy(net)
    kept = {layer.name: torch.tensor(layer.indices) for layer in report.layers}
    for path, module in silent.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            left = (report.state_dict[f"{path}.running_mean"] * 100).round().long()
            off = mask(module.num_features, left)
        elif isinstance(module, nn.Conv2d):
            off = mask(module.out_channels, kept[path])
        else:
            continue
        module.weight.data[off] = 0
        if module.bias is not None:
            module.bias.data[off] = 0
    return silent


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    """These networks are too small for more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_pruned_network_equals_the_whole_one_with_the_pruned_channels_off(data: st.DataObject) -> None:
    torch.manual_seed(data.draw(st.integers(0, 99)))
    net = Random(data.draw)
    uneven(net)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(torch.arange(module.num_features) / 100)
    net = net.double().eval()
    report = prune(
        net,
        threshold=data.draw(st.sampled_from((0.2, 0.5, 0.9, 1.5))),
        normalizer=data.draw(st.sampled_from(("max", "L2"))),
        equalization=data.draw(
            st.sampled_from(("union", "intersection", "arithmetic_mean", "geometric_mean"))
        ),
        granularity=data.draw(st.sampled_from((1, 2, 4))),
        min_filters=data.draw(st.sampled_from((0, 1, 3))),
        excluded=data.draw(st.sampled_from(((), ("layers.0",)))),
    )
    small = rebuilt(net, report)
    x = torch.randn(2, 3, 6, 6).double()
    with torch.no_grad():
        for ours, whole in zip(small(x), silenced(net, report)(x), strict=True):
            torch.testing.assert_close(ours, whole, rtol=1e-9, atol=1e-9)
    own = sum(p.numel() for p in small.parameters()) + sum(
        b.numel() for n, b in small.named_buffers() if "running" in n
    )
    assert own == report.parameters_after
    assert all(layer.kept >= 1 for layer in report.layers)
    # Pruning once more by the same rule never grows anything.
    again = prune(small, threshold=0.9, granularity=1, min_filters=1)
    assert again.parameters_after <= report.parameters_after
    rebuilt(small, again)(x)
