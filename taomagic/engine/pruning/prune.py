"""Prune a network: decide, cut its tensors, and report the new widths."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import Tensor, nn

from taomagic.engine.pruning.criterion import (
    Equalization,
    Normalizer,
    Statistics,
    combine,
    filter_norms,
    kept_filters,
    normalize,
)
from taomagic.engine.pruning.graph import ChannelGraph
from taomagic.errors import UsageProblem

logger = logging.getLogger(__name__)

#: Names of layers that a hint shows where none is near.
_SHOWN = 12


@dataclass(frozen=True)
class LayerReport:
    """What happened to one convolution.

    Attributes
    ----------
    name
        Of the layer.
    indices
        The filters that stay, ascending.
    total
        How many it had.
    """

    name: str
    indices: tuple[int, ...]
    total: int

    @property
    def kept(self) -> int:
        """How many filters stay."""
        return len(self.indices)


@dataclass(frozen=True)
class PruneReport:
    """The result of pruning.

    Attributes
    ----------
    channels
        New number of output channels by layer name, for the convolutions that were cut. With this table the
        network is built again, and takes ``state_dict`` strictly.
    state_dict
        All tensors of the pruned network; those that weren't cut are the originals.
    layers
        Every convolution in the order of the network.
    parameters_before, parameters_after
        Weights as Keras counts them: parameters and batch-norm statistics.
    """

    channels: dict[str, int]
    state_dict: dict[str, Tensor]
    layers: tuple[LayerReport, ...]
    parameters_before: int
    parameters_after: int

    @property
    def ratio(self) -> float:
        """Parameters after pruning as a share of those before."""
        return self.parameters_after / self.parameters_before


def prune(
    model: nn.Module,
    *,
    threshold: float,
    normalizer: Normalizer = "max",
    equalization: Equalization = "union",
    granularity: int = 8,
    min_filters: int = 16,
    excluded: Iterable[str] = (),
    layer_name: Callable[[str], str] = str,
) -> PruneReport:
    """Decide which filters go, and cut them out of the weights. The model itself isn't changed.

    Parameters
    ----------
    model
        Any network that :mod:`torch.fx` can trace.
    threshold
        ``-pth``: filters whose normalised norm isn't above it go.
    normalizer
        ``-n``: ``"max"`` or ``"L2"``.
    equalization
        ``-eq``: how layers that share their channels agree (``"union"``, ``"intersection"``,
        ``"arithmetic_mean"``, ``"geometric_mean"``).
    granularity
        ``-pg``: the number of filters kept is a multiple of this, or all of them.
    min_filters
        ``-nf``: at least so many stay in every layer that has them; one always does.
    excluded
        ``-el``: names of layers that keep all their filters, and so do the layers that share their channels.
    layer_name
        Gives the name of the layer at a module path.

    Returns
    -------
    PruneReport
        New widths and weights.

    Raises
    ------
    UsageProblem
        An excluded layer doesn't exist, or a number or a word is not an allowed one.
    """
    _check_numbers(threshold, granularity, min_filters)
    _check_choice("-n", normalizer, get_args(Normalizer))
    _check_choice("-eq", equalization, get_args(Equalization))
    modules = dict(model.named_modules())
    excluded = frozenset(excluded)
    # A block of layers has no output channels of its own: excluding it would do nothing.
    single = [path for path, module in modules.items() if next(module.children(), None) is None]
    _check_names(excluded, [layer_name(path) for path in single])
    logger.info("Exploring graph for retainable indices")
    graph = ChannelGraph(model, lambda path: layer_name(path) in excluded)
    norms: dict[str, Statistics] = {}
    for member in graph.members:
        weight = modules[member.path].weight
        assert isinstance(weight, Tensor)
        norms[member.path] = normalize(filter_norms(weight), normalizer)

    kept: dict[int, Tensor] = {}
    for root, members in graph.groups().items():
        size = graph.size(root)
        if graph.is_frozen(root):
            kept[root] = torch.arange(size)
            continue
        combined = combine([norms[m.path][m.offset : m.offset + size] for m in members], equalization)
        indices = kept_filters(
            combined, threshold=threshold, granularity=granularity, min_filters=min_filters
        )
        kept[root] = torch.from_numpy(indices)

    logger.info("Pruning model and appending pruned nodes to new graph")
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    counted = _counted(model)
    before = sum(state[name].numel() for name in counted)
    staying: dict[str, tuple[int, ...]] = {}
    for cut in graph.cuts:
        offsets = np.cumsum([0, *(graph.size(axis) for axis in cut.layout)])[:-1]
        pieces = [
            kept[graph.root(axis)] + int(offset) for axis, offset in zip(cut.layout, offsets, strict=True)
        ]
        indices_along = torch.cat(pieces)
        if cut.dim == 0:
            staying[cut.key] = tuple(indices_along.tolist())
        if len(indices_along) < state[cut.key].shape[cut.dim]:
            indices_along = indices_along.to(state[cut.key].device)
            state[cut.key] = state[cut.key].index_select(cut.dim, indices_along)

    layers = tuple(
        LayerReport(
            layer_name(path),
            staying.get(f"{path}.weight", tuple(range(module.out_channels))),
            module.out_channels,
        )
        for path, module in modules.items()
        if isinstance(module, nn.Conv2d)
    )
    return PruneReport(
        channels={layer.name: layer.kept for layer in layers if layer.kept < layer.total},
        state_dict=state,
        layers=layers,
        parameters_before=before,
        parameters_after=sum(state[name].numel() for name in counted),
    )


def _counted(model: nn.Module) -> list[str]:
    """Return the names of what Keras counts: parameters and batch-norm statistics, but no scales of quantisers."""
    statistics = [n for n, _ in model.named_buffers() if n.endswith(("running_mean", "running_var"))]
    return [*dict(model.named_parameters()), *statistics]


def _check_numbers(threshold: float, granularity: int, min_filters: int) -> None:
    for flag, value, valid, allowed in (
        ("-pth", threshold, threshold >= 0, "0 or more"),
        ("-pg", granularity, granularity >= 1, "1 or more"),
        ("-nf", min_filters, min_filters >= 0, "0 or more"),
    ):
        if not valid:
            raise UsageProblem(
                f"{flag} is {value}, and must be {allowed}", hint="TAO's defaults are -pth 0.1 -pg 8 -nf 16."
            )


def _check_choice(flag: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise UsageProblem(
            f"{flag} is {value!r}, and must be one of {', '.join(valid)}", hint=f"Try {flag} {valid[0]}."
        )


def _check_names(excluded: frozenset[str], names: list[str]) -> None:
    for name in sorted(excluded.difference(names)):
        # The name of a block begins the names of its layers.
        near = [each for each in names if name and each.startswith(f"{name}_")][:4]
        near = near or difflib.get_close_matches(name, names, n=3)
        layers = [name for name in names if name]
        some = ", ".join(layers[:_SHOWN]) + (", …" if len(layers) > _SHOWN else "")
        hint = f"Did you mean {', '.join(near)}?" if near else f"There are {some}; prune -v tells them all."
        raise UsageProblem(f"-el names the layer {name!r}, and the network has none of that name", hint=hint)
