"""What a network takes over from a file, by its own names or by Keras' layer names.

Nothing here reads files. Everything that doesn't fit is reported or refused, never dropped in silence.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from taomagic.engine.backbones.base import keras_name
from taomagic.engine.backbones.torchvision_weights import norms_behind
from taomagic.engine.data.images import GREY_SHARES
from taomagic.engine.weights.kind import Description, Detector, Kind
from taomagic.engine.weights.report import report_random, require_numbers
from taomagic.engine.weights.state import BACKBONE, HEADS, portable_state, shortened, size_text
from taomagic.errors import ModelFileProblem

logger = logging.getLogger(__name__)

#: A layer that only one architecture has, in the order in which they are looked for.
_TELLING_LAYERS = (
    ("block_2a_conv_shortcut", "resnet"),
    ("block_2a_bn_shortcut", "resnet"),
    ("block_1b_conv_1", "vgg"),
    ("b1_conv1", "darknet"),
    ("b1_conv1_1", "darknet"),
    ("inception_3a_1x1", "googlenet"),
    ("conv_pw_1", "mobilenet_v1"),
    ("expanded_conv_depthwise", "mobilenet_v2"),
    ("fire2_squeeze_conv", "squeezenet"),
    ("block1a_dwconv", "efficientnet_b0"),
)


def refuse_other_architecture(
    kind: Kind[Any, Any], weights: Iterable[str], wanted: Description, where: str
) -> None:
    """Check that weights by Keras' layer names aren't those of another architecture.

    Many names are common to several (``conv1``, ``block_1a_conv_1``), so that some would always be found.

    Raises
    ------
    ModelFileProblem
        They are.
    """
    layers = {name.rpartition(".")[0] for name in weights}
    arch = next((arch for layer, arch in _TELLING_LAYERS if layer in layers), None)
    if arch is not None and arch != wanted.arch:
        raise kind.other_architecture(arch, wanted, where)


def by_module_names(weights: Mapping[str, Tensor], model: Detector) -> dict[str, Tensor]:
    """Rename weights from Keras' layer names (``block_1a_conv_1.weight``) to the network's own.

    Where the file's convolution has a bias and ours has none but a normalisation behind it, the bias is taken off the
    mean that this subtracts, which is the same.
    """
    own = model.state_dict()
    translated = {}
    for name in own:
        module, _, parameter = name.rpartition(".")
        tensor = weights.get(f"{keras_name(module)}.{parameter}")
        if tensor is not None:
            translated[name] = tensor
    for conv, norm in norms_behind(model).items():
        bias, mean = weights.get(f"{keras_name(conv)}.bias"), translated.get(f"{norm}.running_mean")
        if f"{conv}.bias" not in own and bias is not None and mean is not None and bias.shape == mean.shape:
            translated[f"{norm}.running_mean"] = mean - bias
    return translated


def adapt_first_convolution(
    kind: Kind[Any, Any], offered: Mapping[str, Tensor], model: Detector, where: str
) -> dict[str, Tensor]:
    """Make the first convolution of a colour network fit grey images, or the other way round.

    A grey image looks to a colour network like one whose channels are all the same; a colour image to a grey network
    like its grey level. So the sums are those that the file's network would have had.
    """
    adapted = dict(offered)
    name, wanted = next(
        (f"{path}.weight", layer) for path, layer in model.named_modules() if isinstance(layer, nn.Conv2d)
    )
    weight = adapted.get(name)
    if weight is None or weight.dim() != 4 or weight.shape[1] == wanted.in_channels:
        return adapted
    if (weight.shape[1], wanted.in_channels) == (3, 1):
        adapted[name] = weight.sum(dim=1, keepdim=True)
        logger.info("%s is for colour images: its first convolution was summed up for grey ones.", where)
    elif (weight.shape[1], wanted.in_channels) == (1, 3):
        shares = torch.from_numpy(GREY_SHARES)
        shares = shares if kind.red_first else shares.flip(0)
        adapted[name] = weight * shares.view(1, 3, 1, 1).to(weight.dtype)
        logger.info(
            "%s is for grey images: its first convolution was spread over blue, green and red.", where
        )
    return adapted


def backbone_misfits(offered: Mapping[str, Tensor], model: Detector) -> list[str]:
    """Return the names of the backbone's tensors that the file has in another shape."""
    own = portable_state(model)
    return [
        name
        for name, tensor in own.items()
        if name.startswith(BACKBONE) and name in offered and offered[name].shape != tensor.shape
    ]


def pruned_like(
    kind: Kind[Any, Any], weights: Mapping[str, Tensor], model: Detector, where: str
) -> dict[str, int]:
    """Return the table of channels with which the network becomes the file's, a pruned one.

    Parameters
    ----------
    weights
        By Keras' layer names.
    model
        The network of the spec, whose backbone has other shapes.
    where
        For errors.

    Returns
    -------
    dict of str to int
        Output channels by Keras' layer names, where they differ.

    Raises
    ------
    ModelFileProblem
        The file's network isn't the spec's with fewer channels, or the file lacks layers of the backbone.
    """
    channels = {}
    missing = []
    for path, layer in model.named_modules():
        if not isinstance(layer, nn.Conv2d):
            continue
        name = keras_name(path)
        weight = weights.get(f"{name}.weight")
        if weight is None:
            if path.startswith(BACKBONE):
                missing.append(name)
            continue
        if weight.dim() != 4 or tuple(weight.shape[2:]) != layer.kernel_size:
            raise ModelFileProblem(
                f"the layer {name} has kernels of {size_text(weight.shape[2:])} in this file, and of "
                f"{size_text(layer.kernel_size)} in the network of the spec: it is another architecture",
                where=where,
                hint=f"Set arch and {kind.layers_field} in the spec's {kind.block} to the file's network, or "
                f"{kind.other_file}.",
            )
        # Heads have as many filters as classes and anchors call for; a depthwise convolution follows its input.
        if layer.groups == 1 and not path.startswith(HEADS) and weight.shape[0] != layer.out_channels:
            channels[name] = int(weight.shape[0])
    if missing:
        raise ModelFileProblem(
            f"this file is a pruned model (its shapes aren't those of the spec's network), and it lacks layers that "
            f"are needed to build it: {shortened(missing)}",
            where=where,
            hint="Give a file with the whole backbone, or one that isn't pruned.",
        )
    return channels


def require_fit(kind: Kind[Any, Any], offered: Mapping[str, Tensor], model: Detector, where: str) -> None:
    """Check that a pruned file fits the network that was built from its own shapes.

    Raises
    ------
    ModelFileProblem
        It doesn't, in the heads (other classes or anchors) or elsewhere.
    """
    own = portable_state(model)
    wrong = [name for name in own if name in offered and offered[name].shape != own[name].shape]
    if not wrong:
        return
    name = wrong[0]
    shapes = f"{size_text(offered[name].shape)} in the file, {size_text(own[name].shape)} in the network"
    layer = keras_name(name.rpartition(".")[0])
    if name.startswith(HEADS):
        raise ModelFileProblem(
            f"the file's network and the spec differ in their {kind.head_settings} (layer {layer}: {shapes})",
            where=where,
            hint=f"Retrain a pruned model with the {kind.block} and classes it was trained with.",
        )
    raise ModelFileProblem(
        f"this file is a pruned model, and its network can't be built again (layer {layer}: {shapes})",
        where=where,
        hint="Its layers were cut in a way that this network doesn't allow; start from a file that isn't pruned.",
    )


def take_by_name(
    kind: Kind[Any, Any], model: Detector, offered: Mapping[str, Tensor], where: str
) -> list[str]:
    """Load what fits in name and shape, say what doesn't, and return the names of the tensors that have values now.

    Raises
    ------
    ModelFileProblem
        Nothing of the backbone fits, or the file holds values that aren't numbers.
    """
    own = portable_state(model)
    fitting = {n: offered[n] for n in own if n in offered and offered[n].shape == own[n].shape}
    if not any(name.startswith(BACKBONE) for name in fitting):
        raise ModelFileProblem(
            "no weight in this file fits the backbone of the spec's network",
            where=where,
            hint=f"Check arch, {kind.layers_field} and width_multiplier in the spec's {kind.block} against the file.",
        )
    require_numbers(fitting, where)
    model.load_state_dict(fitting, strict=False)
    logger.info("Took %d of %d tensors from %s.", len(fitting), len(own), where)
    report_random(own, fitting)
    return list(fitting)
