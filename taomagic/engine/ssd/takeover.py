"""What a network takes over from a file: by its own names, by Keras' layer names, or from torchvision's networks.

Nothing here reads files. Everything that doesn't fit is reported or refused, never dropped in silence.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from taomagic.engine.backbones.base import keras_name
from taomagic.engine.backbones.torchvision_names import Network, recognise
from taomagic.engine.backbones.torchvision_weights import norms_behind, take
from taomagic.engine.quantization.placement import QUANTIZERS
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.errors import ModelFileProblem

logger = logging.getLogger(__name__)

BACKBONE = "backbone."
#: Blue, green and red in a grey level.
GREY_SHARES = (0.114, 0.587, 0.299)
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
#: Of a network of torchvision's with another share of convolutions that fit, it is another network.
_MOST_MISFITS = 0.25
_SHOWN = 6


def portable_state(model: nn.Module) -> dict[str, Tensor]:
    """Return a network's weights without PyTorch's batch counters, which nothing reads at a fixed momentum."""
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def refuse_other_architecture(weights: Iterable[str], wanted: Architecture, where: str) -> None:
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
        raise other_architecture(arch, wanted, where)


def other_architecture(found: str, wanted: Architecture, where: str) -> ModelFileProblem:
    """Return the error for weights of another architecture."""
    ours = f"{wanted.arch} {wanted.nlayers}" if wanted.nlayers else wanted.arch
    return ModelFileProblem(
        f"this file holds the weights of {found}, and the spec builds {ours}",
        where=where,
        hint="Set arch and nlayers in the spec's ssd_config to the file's network, or give -m another file.",
    )


def by_module_names(weights: Mapping[str, Tensor], model: SSD) -> dict[str, Tensor]:
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


def adapt_first_convolution(offered: Mapping[str, Tensor], model: SSD, where: str) -> dict[str, Tensor]:
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
        adapted[name] = weight * torch.tensor(GREY_SHARES).view(1, 3, 1, 1).to(weight.dtype)
        logger.info(
            "%s is for grey images: its first convolution was spread over blue, green and red.", where
        )
    return adapted


def backbone_misfits(offered: Mapping[str, Tensor], model: SSD) -> list[str]:
    """Return the names of the backbone's tensors that the file has in another shape."""
    own = portable_state(model)
    return [
        name
        for name, tensor in own.items()
        if name.startswith(BACKBONE) and name in offered and offered[name].shape != tensor.shape
    ]


def pruned_like(weights: Mapping[str, Tensor], model: SSD, where: str) -> dict[str, int]:
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
                f"the layer {name} has kernels of {_size(weight.shape[2:])} in this file, and of "
                f"{_size(layer.kernel_size)} in the network of the spec: it is another architecture",
                where=where,
                hint="Set arch and nlayers in the spec's ssd_config to the file's network, or give -m another file.",
            )
        # Heads have as many filters as classes and anchors call for; a depthwise convolution follows its input.
        if layer.groups == 1 and not path.startswith("heads.") and weight.shape[0] != layer.out_channels:
            channels[name] = int(weight.shape[0])
    if missing:
        raise ModelFileProblem(
            f"this file is a pruned model (its shapes aren't those of the spec's network), and it lacks layers that "
            f"are needed to build it: {shortened(missing)}",
            where=where,
            hint="Give a file with the whole backbone, or one that isn't pruned.",
        )
    return channels


def require_fit(offered: Mapping[str, Tensor], model: SSD, where: str) -> None:
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
    shapes = f"{_size(offered[name].shape)} in the file, {_size(own[name].shape)} in the network"
    layer = keras_name(name.rpartition(".")[0])
    if name.startswith("heads."):
        raise ModelFileProblem(
            f"pruned model and spec differ in their classes or anchor settings (layer {layer}: {shapes})",
            where=where,
            hint="Retrain a pruned model with the ssd_config and classes it was trained with.",
        )
    raise ModelFileProblem(
        f"this file is a pruned model, and its network can't be built again (layer {layer}: {shapes})",
        where=where,
        hint="Its layers were cut in a way that this network doesn't allow; start from a file that isn't pruned.",
    )


def take_by_name(model: SSD, offered: Mapping[str, Tensor], where: str) -> None:
    """Load what fits in name and shape, and say what doesn't.

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
            hint="Check arch, nlayers and width_multiplier in the spec's ssd_config against the file.",
        )
    _require_numbers(fitting, where)
    model.load_state_dict(fitting, strict=False)
    logger.info("Took %d of %d tensors from %s.", len(fitting), len(own), where)
    report_random(own, fitting)


def torchvision_network(state: Mapping[str, Tensor], wanted: Architecture, where: str) -> Network | None:
    """Return which of torchvision's networks a state dict belongs to; ``None`` if to none that is known.

    Raises
    ------
    ModelFileProblem
        It is another one than the spec builds.
    """
    network = recognise(state)
    if network is not None and network.backbone != (wanted.arch, wanted.nlayers):
        raise other_architecture(f"{network.title} in torchvision's layout", wanted, where)
    return network


def unknown_network(state: Mapping[str, Tensor], where: str) -> ModelFileProblem:
    """Return the error for a state dict of no network that is known."""
    return ModelFileProblem(
        f"the names in this file are of no network that is known here ({shortened(list(state), 3)})",
        where=where,
        hint="Taken are torchvision's ResNet, VGG, MobileNetV2, SqueezeNet and GoogLeNet, and networks of "
        "taomagic's own.",
    )


def take_from_torchvision(
    model: SSD, network: Network, state: Mapping[str, Tensor], image_mean: tuple[float, ...], where: str
) -> None:
    """Load a state dict in the layout of torchvision's networks into the backbone, as far as the two agree.

    Parameters
    ----------
    model
        The network of the spec.
    network
        Which of torchvision's it is, from :func:`torchvision_network`.
    state
        Tensors by torchvision's names.
    image_mean
        What is subtracted from the pixels: (blue, green, red) or (level,).
    where
        For messages.

    Raises
    ------
    ModelFileProblem
        Most of its convolutions have other shapes.
    """
    wanted = model.architecture
    taken = take(model.backbone, network, state, image_mean)
    if len(taken.misfits) > _MOST_MISFITS * len(network.units):
        path, theirs, ours = taken.misfits[0]
        shapes = f"{_size(theirs)} in the file" if theirs is not None else "incomplete in the file"
        full = wanted.width_multiplier == 1.0
        raise ModelFileProblem(
            f"of the {len(network.units)} convolutions of {network.title} only "
            f"{len(network.units) - len(taken.misfits)} fit the network of the spec ({path.replace('.', '_')}: "
            f"{shapes}, {_size(ours)} here)",
            where=where,
            hint="Give the weights of the plain network; variants with other channels (ResNeXt, Wide ResNet) don't fit."
            if full
            else f"Such weights are for networks of full width: take width_multiplier ({wanted.width_multiplier:g}) "
            "out of the spec's ssd_config.",
        )
    fitting = {BACKBONE + name: tensor for name, tensor in taken.tensors.items()}
    _require_numbers(fitting, where)
    model.load_state_dict(fitting, strict=False)
    own = portable_state(model)
    logger.info(
        "Took %d of %d tensors from %s (%s in torchvision's layout); with them, %d of the backbone's %d have values.",
        taken.used,
        sum(not name.endswith("num_batches_tracked") for name in state),
        where,
        network.title,
        len(fitting),
        sum(name.startswith(BACKBONE) for name in own),
    )
    if taken.passing:
        logger.info(
            "%s has nothing in the place of these convolutions, so they begin as identities: %s",
            network.title,
            shortened([path.replace(".", "_") for path in taken.passing]),
        )
    report_random(own, fitting)


def report_random(own: Iterable[str], fitting: Mapping[str, Tensor]) -> None:
    """Say which layers begin with random values. Only in the backbone that may be a mistake."""
    # Scales of activations aren't random: the first batch decides them.
    missing = [name for name in own if name not in fitting and not name.startswith(f"{QUANTIZERS}.")]
    backbone = _layers(name for name in missing if name.startswith(BACKBONE))
    behind = _layers(name for name in missing if not name.startswith(BACKBONE))
    if backbone:
        logger.warning(
            "These layers of the backbone start with random values, because the file has none of their name and "
            "shape: %s",
            shortened(backbone),
        )
    if behind:
        logger.info("These layers behind the backbone start with random values: %s", shortened(behind))


def shortened(names: list[str], most: int = _SHOWN) -> str:
    """Return the first few names, and how many more there are."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _layers(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(keras_name(name.rpartition(".")[0]) for name in names))


def _require_numbers(weights: Mapping[str, Tensor], where: str) -> None:
    for name, tensor in weights.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelFileProblem(
                f"the file holds values that are no numbers (nan or inf), in the layer "
                f"{keras_name(name.rpartition('.')[0])}",
                where=where,
                hint="Its training went wrong before it was saved: use an earlier epoch, or copy it again.",
            )


def _size(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape)) or "no size"
