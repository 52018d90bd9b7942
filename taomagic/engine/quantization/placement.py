"""Where a network is quantised: the rule, and a network that follows it.

The rule is TAO's, which in turn follows what TensorRT fuses. Each convolution rounds its kernel. Each activation of the
ReLU family becomes a ReLU6. The output of a layer is rounded by a quantiser ``<layer>_qdq``

- behind the input, activations, element-wise operations, concatenations, poolings and all else that computes something;
- behind a convolution, unless a batch normalisation is all that follows it (the two become one layer on the device);
- behind a batch normalisation, unless it stands between a convolution and a ReLU (the three become one).

The heads, and what follows them, stay as they are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection, Iterator
from typing import Any

import torch
from torch import fx, nn

from taomagic.engine.quantization.layers import (
    ActivationQuantizer,
    QuantizedConv2d,
    QuantizedConvTranspose2d,
    converted,
)

#: The attribute of a network that holds its quantisers, by name.
QUANTIZERS = "quantizers"
#: What is appended to a layer's name.
SUFFIX = "_qdq"

_RELU_FAMILY = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU)
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
#: Layers whose outputs are on the grid of their inputs. A padding is part of the convolution behind it on the device;
#: TAO rounds it in training, on a grid of its own, and leaves it out of the export.
_NO_OPERATIONS = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.ZeroPad2d)
#: Functions whose results are rounded, and how they are called in the name of a quantiser.
_FUNCTIONS: dict[Any, str] = {
    operator.add: "add",
    operator.iadd: "add",
    torch.add: "add",
    operator.sub: "subtract",
    torch.sub: "subtract",
    operator.mul: "multiply",
    operator.imul: "multiply",
    torch.mul: "multiply",
    torch.maximum: "maximum",
    torch.minimum: "minimum",
    torch.cat: "concatenate",
    torch.concat: "concatenate",
}


def quantize(
    model: nn.Module,
    *,
    heads: Collection[str],
    layer_name: Callable[[str], str],
    input_name: str = "Input",
) -> Callable[..., Any]:
    """Make a network quantisation-aware.

    Its convolutions and activations are replaced where they are, under the same names and with the same parameters. The
    quantisers are added to it as a module dictionary ``quantizers``. They may have to stand behind the result of a
    function, where a module has no place; so the network gets a new forward function, traced from its own.

    Parameters
    ----------
    model
        Any network that :mod:`torch.fx` can trace; changed in place. Its ``forward`` has to call what is returned
        from now on.
    heads
        Module paths of the layers whose outputs are the network's; they, and what follows them, aren't quantised.
    layer_name
        Gives the name of the layer at a module path, as for pruning.
    input_name
        Name of the input.

    Returns
    -------
    Callable
        ``forward(model, *inputs)``, for this network and its deep copies, in training and outside.

    Raises
    ------
    ValueError
        A head isn't part of the network, or the network has an operation for which there is no rule.
    """
    graph, scopes = _trace(model)
    modules = dict(model.named_modules())
    body = _leading_to(graph, heads)
    names: dict[str, fx.Node] = {}
    for node in graph.nodes:
        if node not in body:
            continue
        base = _rounded_as(node, modules, scopes, layer_name, input_name)
        if base is not None:
            names[_unused(base, names)] = node
    model.add_module(QUANTIZERS, nn.ModuleDict({name: ActivationQuantizer() for name in names}))
    for name, node in names.items():
        with graph.inserting_after(node):
            rounded = graph.call_module(f"{QUANTIZERS}.{name}", (node,))
        node.replace_all_uses_with(rounded)
        rounded.args = (node,)  # this use, too, was replaced
    for node in body:
        if node.op == "call_module":
            _replace(model, str(node.target), _quantized_layer(modules[str(node.target)]))
    graph.lint()
    forward: Callable[..., Any] = type(fx.GraphModule(model, graph)).forward
    return forward


def quantizers(model: nn.Module) -> dict[str, ActivationQuantizer]:
    """Return a network's activation quantisers by name, in the order of the network; empty if it has none."""
    prefix = f"{QUANTIZERS}."
    return {
        path.removeprefix(prefix): module
        for path, module in model.named_modules()
        if isinstance(module, ActivationQuantizer)
    }


def describe_quantization(model: nn.Module) -> str:
    """Return what is quantised in a network, for the log."""
    kernels = sum(isinstance(m, QuantizedConv2d | QuantizedConvTranspose2d) for m in model.modules())
    return f"quantisation-aware, 8 bits: {kernels} kernels and {len(quantizers(model))} activations"


def restart(model: nn.Module) -> None:
    """Let all scales be found anew in the training that begins: those of a file are those of another training."""
    for quantizer in quantizers(model).values():
        quantizer.restart()


def share_scales(model: nn.Module) -> None:
    """Let all processes of a distributed training find the scales of a network together; each has to call it."""
    for quantizer in quantizers(model).values():
        quantizer.shared = True


def without_quantization(
    model: nn.Module, instead: Callable[[str, ActivationQuantizer], nn.Module] | None = None
) -> None:
    """Turn a quantisation-aware network into one in float32, in place: kernels and activations aren't rounded.

    ReLU6 stays: the network has learned with it.

    Parameters
    ----------
    model
        What :func:`quantize` has been applied to, or a copy of it.
    instead
        Gives what takes the place of a quantiser, by its name; by default nothing does.
    """
    for path, module in list(model.named_modules()):
        if isinstance(module, QuantizedConv2d):
            _replace(model, path, converted(module, nn.Conv2d))
        elif isinstance(module, QuantizedConvTranspose2d):
            _replace(model, path, converted(module, nn.ConvTranspose2d))
        elif isinstance(module, ActivationQuantizer):
            name = path.removeprefix(f"{QUANTIZERS}.")
            _replace(model, path, instead(name, module) if instead is not None else nn.Identity())


def _trace(model: nn.Module) -> tuple[fx.Graph, dict[str, str]]:
    """Return the graph of a network as it is outside training, and the module path that each node's code is in."""
    tracer = fx.Tracer()
    training = model.training
    model.eval()
    try:
        graph = tracer.trace(model)
    finally:
        model.train(training)
    return graph, {name: scope[0] for name, scope in tracer.node_name_to_scope.items()}


def _leading_to(graph: fx.Graph, heads: Collection[str]) -> dict[fx.Node, None]:
    """Return all nodes that a head depends on, without the heads, in the order of the network."""
    ends = [node for node in graph.nodes if node.op == "call_module" and node.target in heads]
    missing = set(heads).difference(str(node.target) for node in ends)
    if missing:
        raise ValueError(f"the network has no head {sorted(missing)[0]!r}")
    found: set[fx.Node] = set()
    waiting = [node for end in ends for node in end.all_input_nodes]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return {node: None for node in graph.nodes if node in found}


def _rounded_as(
    node: fx.Node,
    modules: dict[str, nn.Module],
    scopes: dict[str, str],
    layer_name: Callable[[str], str],
    input_name: str,
) -> str | None:
    """Return the name of the quantiser behind a node, or ``None`` if there is to be none."""
    if node.op == "placeholder":
        return f"{input_name}{SUFFIX}"
    if node.op == "call_module":
        module = modules[str(node.target)]
        following = [_module_of(user, modules) for user in node.users]
        fused = False
        if isinstance(module, _CONVOLUTIONS):
            fused = len(following) == 1 and isinstance(following[0], nn.BatchNorm2d)
        elif isinstance(module, nn.BatchNorm2d):
            before = _module_of(node.all_input_nodes[0], modules)
            fused = (
                isinstance(before, _CONVOLUTIONS)
                and len(following) == 1
                and isinstance(following[0], _RELU_FAMILY)
            )
        silent = fused or isinstance(module, _NO_OPERATIONS)
        return None if silent else f"{layer_name(str(node.target))}{SUFFIX}"
    if node.op == "call_function" and node.target in _FUNCTIONS:
        scope = layer_name(scopes[node.name])
        return "_".join(filter(None, (scope, _FUNCTIONS[node.target]))) + SUFFIX
    raise ValueError(f"there is no rule for quantising {node.op} {node.target} ({node.name})")


def _module_of(node: fx.Node, modules: dict[str, nn.Module]) -> nn.Module | None:
    return modules[str(node.target)] if node.op == "call_module" else None


def _unused(name: str, taken: Collection[str]) -> str:
    """Return the name, with a number where it is taken: ``add_1_qdq`` beside ``add_qdq``."""
    return next(candidate for candidate in _numbered(name) if candidate not in taken)


def _numbered(name: str) -> Iterator[str]:
    yield name
    number = 1
    while True:
        yield f"{name.removesuffix(SUFFIX)}_{number}{SUFFIX}"
        number += 1


def _quantized_layer(module: nn.Module) -> nn.Module:
    """Return what takes a layer's place; the layer itself, if nothing does."""
    if isinstance(module, nn.Conv2d):
        return converted(module, QuantizedConv2d)
    if isinstance(module, nn.ConvTranspose2d):
        return converted(module, QuantizedConvTranspose2d)
    if isinstance(module, _RELU_FAMILY):
        return nn.ReLU6(inplace=getattr(module, "inplace", False))
    return module


def _replace(model: nn.Module, path: str, new: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    old = model.get_submodule(path)
    if new is not old:
        new.train(old.training)
        model.get_submodule(parent).add_module(name, new)
