"""How the channels of a network hang together: which layers share them, and which tensors have to be cut with them.

The network is traced with :mod:`torch.fx`, so this knows operations, not architectures. Each convolution creates an
*axis*, the set of its output channels. Activations and pools hand the axis on. An element-wise operation ties the
axes of its inputs together. A concatenation puts axes side by side: the *layout* of a tensor's channels is a
tuple of axes. A depthwise convolution works on the axis of its input. Whatever consumes an axis (a convolution, a
batch normalisation) notes which of its tensors must be cut along.

What this doesn't understand is never cut: an axis that reaches the network's output, a reshaping, or an operation
not named here is *frozen*.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from taomagic.engine.quantization import ActivationQuantizer

#: The channels of a tensor as axes side by side; ``None``: not known, or not to be touched.
Layout = tuple[int, ...] | None

_PASSING_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Hardsigmoid, nn.Sigmoid, nn.Tanh,
    nn.Identity, nn.Dropout, nn.Dropout2d, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d,
    nn.Upsample, nn.ZeroPad2d, ActivationQuantizer,
)  # fmt: skip
_PASSING_CALLS = {
    F.relu, F.relu_, F.relu6, F.leaky_relu, F.elu, F.silu, F.gelu, F.hardswish, F.hardsigmoid, F.sigmoid, F.tanh,
    F.dropout, F.dropout2d, F.max_pool2d, F.avg_pool2d, F.adaptive_avg_pool2d, F.adaptive_max_pool2d,
    F.interpolate, torch.relu, torch.relu_, torch.sigmoid, torch.tanh, torch.clamp,
    "relu", "relu_", "sigmoid", "tanh", "clamp", "contiguous", "clone", "float",
}  # fmt: skip
_ELEMENTWISE_CALLS = {
    operator.add, operator.iadd, operator.sub, operator.isub, operator.mul, operator.imul, torch.add, torch.sub,
    torch.mul, torch.maximum, torch.minimum, "add", "add_", "sub", "mul", "mul_",
}  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A convolution whose filters make up an axis, or the part of a depthwise one that works on it.

    Attributes
    ----------
    path
        Module path in the network.
    axis
        The axis.
    offset
        The first of the convolution's filters that belongs to it.
    """

    path: str
    axis: int
    offset: int


@dataclass(frozen=True)
class Cut:
    """A tensor of the state dict that is cut along with the channels of ``layout``, in its dimension ``dim``."""

    key: str
    dim: int
    layout: tuple[int, ...]


class _Tracer(fx.Tracer):
    """Takes the layers of quantisation-aware networks for single operations, as it takes PyTorch's own."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether not to look inside a module."""
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | ActivationQuantizer):
            return True
        return super().is_leaf_module(m, module_qualified_name)


class ChannelGraph:
    """The channels of a network, traced.

    Parameters
    ----------
    model
        Any network that :mod:`torch.fx` can trace.
    excluded
        Says for a module path whether its output channels must all stay.

    Attributes
    ----------
    members
        Every convolution that can be pruned, in the order of the network.
    cuts
        Every tensor that has to be cut.
    """

    def __init__(self, model: nn.Module, excluded: Callable[[str], bool]) -> None:
        self.members: list[Member] = []
        self.cuts: list[Cut] = []
        self._sizes: list[int] = []
        self._parents: list[int] = []
        self._frozen: set[int] = set()
        self._modules = dict(model.named_modules())
        self._excluded = excluded
        graph = _trace(model)
        calls = Counter(node.target for node in graph.nodes if node.op == "call_module")
        self._shared = {path for path, count in calls.items() if count > 1}
        layouts: dict[fx.Node, Layout] = {}
        for node in graph.nodes:
            layouts[node] = self._visit(node, layouts)

    def size(self, axis: int) -> int:
        """Return the number of channels of an axis."""
        return self._sizes[axis]

    def root(self, axis: int) -> int:
        """Return the one axis that stands for all that are tied to ``axis``."""
        while self._parents[axis] != axis:
            axis = self._parents[axis]
        return axis

    def is_frozen(self, axis: int) -> bool:
        """Return whether all channels of ``axis`` must stay."""
        root = self.root(axis)
        return any(self.root(frozen) == root for frozen in self._frozen)

    def groups(self) -> dict[int, list[Member]]:
        """Return the convolutions that must keep the same channels, by the root of their axes."""
        groups: dict[int, list[Member]] = {}
        for member in self.members:
            groups.setdefault(self.root(member.axis), []).append(member)
        return groups

    def _visit(self, node: fx.Node, layouts: Mapping[fx.Node, Layout]) -> Layout:
        """Return the layout of a node's output, and note what it does to its inputs."""
        inputs = [layouts[argument] for argument in node.all_input_nodes]
        if node.op == "call_module":
            return self._visit_module(str(node.target), inputs)
        if node.op in {"call_function", "call_method"}:
            if node.target in _PASSING_CALLS and len(inputs) == 1:
                return inputs[0]
            if node.target in _ELEMENTWISE_CALLS:
                return self._tie(inputs)
            if node.target in {torch.cat, torch.concat} and _cat_dimension(node) in {1, -3}:
                # By the list, not by `all_input_nodes`, which names a tensor that is there twice only once.
                parts: Any = node.args[0] if node.args else node.kwargs["tensors"]
                return self._concatenate([layouts[part] for part in parts])
        # The input, a constant, the output, or an operation that may do anything to the channels.
        self._freeze(inputs)
        return None

    def _visit_module(self, path: str, inputs: list[Layout]) -> Layout:
        module = self._modules[path]
        if path in self._shared:
            # One set of weights for several inputs: their channels would have to be tied. Rare, so left alone.
            self._freeze(inputs)
            return None
        layout = inputs[0] if len(inputs) == 1 else None
        if isinstance(module, nn.Conv2d):
            layout = self._visit_convolution(path, module, layout)
        elif isinstance(module, nn.ConvTranspose2d) and module.groups == 1:
            self._cut(f"{path}.weight", 0, layout)
            layout = None
        elif isinstance(module, nn.BatchNorm2d):
            for name in ("weight", "bias", "running_mean", "running_var"):
                if getattr(module, name) is not None:
                    self._cut(f"{path}.{name}", 0, layout)
        elif isinstance(module, nn.PReLU):
            if module.num_parameters > 1:
                self._cut(f"{path}.weight", 0, layout)
        elif not isinstance(module, _PASSING_MODULES):
            self._freeze(inputs)
            return None
        if self._excluded(path):
            self._freeze([layout])
        return layout

    def _visit_convolution(self, path: str, module: nn.Conv2d, layout: Layout) -> Layout:
        if module.groups == 1:
            self._cut(f"{path}.weight", 1, layout)
            axis = self._new_axis(module.out_channels)
            self.members.append(Member(path, axis, 0))
            layout = (axis,)
        elif module.groups == module.in_channels == module.out_channels and layout is not None:
            # Depthwise: each channel has its own filter, which goes when the channel goes.
            offset = 0
            for axis in layout:
                self.members.append(Member(path, axis, offset))
                offset += self._sizes[axis]
        else:
            # Groups, or several filters a channel: the groups would have to stay equal.
            self._freeze([layout])
            return None
        self._cut(f"{path}.weight", 0, layout)
        if module.bias is not None:
            self._cut(f"{path}.bias", 0, layout)
        return layout

    def _new_axis(self, size: int) -> int:
        self._sizes.append(size)
        self._parents.append(len(self._parents))
        return len(self._parents) - 1

    def _cut(self, key: str, dim: int, layout: Layout) -> None:
        if layout is not None:
            self.cuts.append(Cut(key, dim, layout))

    def _freeze(self, layouts: Iterable[Layout]) -> None:
        for layout in layouts:
            self._frozen.update(layout or ())

    def _tie(self, layouts: list[Layout]) -> Layout:
        """Make the inputs of an element-wise operation keep the same channels."""
        known = [layout for layout in layouts if layout is not None]
        wide = [layout for layout in known if self._channels(layout) > 1]
        if len(known) < len(layouts) or len({tuple(self._sizes[a] for a in layout) for layout in wide}) > 1:
            self._freeze(known)
            return None
        # A single channel is broadcast over the others and isn't tied to any of them.
        for layout in wide[1:]:
            for first, other in zip(wide[0], layout, strict=True):
                self._parents[self.root(other)] = self.root(first)
        return (wide or known)[0]

    def _channels(self, layout: tuple[int, ...]) -> int:
        return sum(self._sizes[axis] for axis in layout)

    def _concatenate(self, layouts: list[Layout]) -> Layout:
        axes: list[int] = []
        for layout in layouts:
            if layout is None:
                # The place of the other inputs' channels can't be told.
                self._freeze(layouts)
                return None
            axes += layout
        return tuple(axes)


def _trace(model: nn.Module) -> fx.Graph:
    """Return the graph of a network as it is outside training, where layers are not replaced by functions."""
    training = {module for module in model.modules() if module.training}
    model.eval()
    try:
        return _Tracer().trace(model)
    finally:
        for module in training:
            module.training = True


def _cat_dimension(node: fx.Node) -> Any:
    return node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
