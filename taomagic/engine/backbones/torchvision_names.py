"""The names of torchvision's networks, beside those of our backbones.

torchvision itself is not needed: a state dict is names and tensors. Each function lists the convolutions that a
backbone and the network of the same name have in common, in the order of the network. What lies behind the backbone's
last layer (classifiers, auxiliary heads, the last blocks of MobileNetV2) has no counterpart and is not listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from taomagic.engine.backbones import googlenet, mobilenet, resnet, squeezenet, vgg

#: Mean and standard deviation of ImageNet's red, green and blue, in levels of 0 to 255.
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
#: torchvision's GoogLeNet came from TensorFlow: its weights want levels of -1 to 1. (One that somebody trained with
#: ImageNet's mean and deviation has the same names; its colours would then be a little off at the start.)
HALF = (127.5, 127.5, 127.5)


@dataclass(frozen=True)
class Unit:
    """A convolution that both networks have, with what follows it.

    Attributes
    ----------
    ours
        Module path in the backbone.
    theirs, norm
        Module paths of the convolution in torchvision's network, and of the batch normalisation behind it.
    """

    ours: str
    theirs: str
    norm: str | None = None


@dataclass(frozen=True)
class Network:
    """One of torchvision's networks, as a state dict shows it.

    Attributes
    ----------
    title
        Its name for people, e.g. ``"ResNet-18"``.
    backbone
        ``arch`` and ``nlayers`` of the backbone it belongs to; ``None`` where there is none.
    units
        The convolutions it has in common with that backbone.
    passing
        Our convolutions (module paths) in whose place it has nothing: the input goes on as it is.
    epsilon
        Of its batch normalisation.
    mean, std
        What it expects to be subtracted from red, green and blue (levels of 0 to 255), and what to divide by.
    prefix
        What stands before all its names in this file, e.g. ``"module."``.
    """

    title: str
    backbone: tuple[str, int] | None
    units: tuple[Unit, ...] = ()
    passing: tuple[str, ...] = ()
    epsilon: float = 1e-5
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    prefix: str = ""


def recognise(state: Mapping[str, Tensor]) -> Network | None:
    """Return which of torchvision's networks a state dict belongs to, or ``None``.

    Its names may have anything before them (``module.``, ``backbone.body.``); where several networks of the kind are in
    one file, the one whose names come first counts.
    """
    for anchor, read in _KNOWN:
        for name in state:
            if name == anchor or name.endswith(f".{anchor}"):
                prefix = name.removesuffix(anchor)
                inner = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
                return replace(read(inner), prefix=prefix)
    return None


def _resnet(state: Mapping[str, Tensor]) -> Network:
    """Read a ResNet (v1 or "v1.5", which only moved a stride).

    TAO's has a projection on every shortcut, torchvision's only where the shape changes. Stage 4 of TAO's has no
    stride, and there is no pooling behind its stem; neither shows in the weights.
    """
    blocks = tuple(_count(rf"layer{stage}\.(\d+)\.conv1\.weight", state) for stage in range(1, 5))
    convolutions = 3 if "layer1.0.conv3.weight" in state else 2
    bottleneck = convolutions == 3
    nlayers = next(
        (n for n, of in resnet.BLOCKS.items() if of == blocks and (n in resnet.BOTTLENECKS) == bottleneck), 0
    )
    if not nlayers:
        return Network(f"a ResNet with {'+'.join(map(str, blocks))} blocks", None)
    units = [Unit("conv1", "conv1", "bn1")]
    passing = []
    for stage, count in enumerate(blocks, start=1):
        for i in range(count):
            ours, theirs = resnet.block_name(stage, i), f"layer{stage}.{i}"
            for number in range(1, convolutions + 1):
                units.append(Unit(f"{ours}.conv_{number}", f"{theirs}.conv{number}", f"{theirs}.bn{number}"))
            if f"{theirs}.downsample.0.weight" in state:
                units.append(
                    Unit(f"{ours}.conv_shortcut", f"{theirs}.downsample.0", f"{theirs}.downsample.1")
                )
            else:
                passing.append(f"{ours}.conv_shortcut")
    return Network(f"ResNet-{nlayers}", ("resnet", nlayers), tuple(units), tuple(passing))


def _vgg(state: Mapping[str, Tensor]) -> Network:
    """Read a VGG, with batch normalisation or without.

    TAO's has one behind every convolution, and strides in place of the poolings, which don't show in the weights.
    """
    first = state["features.0.weight"]
    count = sum(
        tensor.dim() == 4 for name, tensor in state.items() if re.fullmatch(r"features\.\d+\.weight", name)
    )
    norm = "features.1.running_mean" in state
    kind = f" with{'' if norm else 'out'} batch normalisation"
    nlayers = next((n for n, repeats in vgg.REPEATS.items() if sum(repeats) == count), 0)
    if not nlayers or tuple(first.shape[2:]) != (3, 3):
        return Network(f"a network of {count} convolutions in a row", None)
    units, index = [], 0
    for block, repeat in enumerate(vgg.REPEATS[nlayers], start=1):
        for i in range(repeat):
            ours = f"block_{block}{chr(ord('a') + i)}_conv_1"
            units.append(Unit(ours, f"features.{index}", f"features.{index + 1}" if norm else None))
            index += 3 if norm else 2
        index += 1  # the pooling
    return Network(f"VGG-{nlayers}{kind}", ("vgg", nlayers), tuple(units))


def _mobilenet_v2(state: Mapping[str, Tensor]) -> Network:
    """Read a MobileNetV2, in today's spelling or the one before torchvision 0.4 (``conv.3`` in place of ``conv.1.0``).

    TAO's has ReLU where torchvision's has ReLU6, a projection on the residual inputs, and ends before the last four
    blocks.
    """
    old = "features.1.conv.0.0.weight" not in state
    # Where the depthwise convolution and the last one stand: in a list of single layers, or of groups of three.
    names = {
        (False, False): (("depthwise", "0.0", "0.1"), ("project", "1", "2")),
        (False, True): (("depthwise", "0", "1"), ("project", "3", "4")),
        (True, False): (("expand", "0.0", "0.1"), ("depthwise", "1.0", "1.1"), ("project", "2", "3")),
        (True, True): (("expand", "0", "1"), ("depthwise", "3", "4"), ("project", "6", "7")),
    }
    units = [Unit("conv1", "features.0.0", "features.0.1")]
    passing = []
    for block in range(len(mobilenet.V2_BLOCKS)):
        ours, theirs = mobilenet.v2_prefix(block), f"features.{block + 1}.conv"
        for part, at, norm in names[block > 0, old]:
            units.append(Unit(f"{ours}_{part}", f"{theirs}.{at}", f"{theirs}.{norm}"))
        if mobilenet.v2_is_residual(block):
            passing.append(f"{ours}_projected_inputs")
    return Network("MobileNetV2", ("mobilenet_v2", 0), tuple(units), tuple(passing))


def _squeezenet(state: Mapping[str, Tensor]) -> Network:
    """Read a SqueezeNet 1.0 or 1.1.

    TAO's is version 1.0. Version 1.1 has another first convolution, whose 64 channels the first squeeze expects; the
    fire modules behind that agree.
    """
    version = "1.1" if "features.6.squeeze.weight" in state else "1.0"
    places = (3, 4, 6, 7, 9, 10, 11, 12) if version == "1.1" else (3, 4, 5, 7, 8, 9, 10, 12)
    units = [Unit("conv1", "features.0")]
    for fire, place in zip(squeezenet.FIRES, places, strict=True):
        for ours, theirs in (
            ("squeeze_conv", "squeeze"),
            ("expand_conv1x1", "expand1x1"),
            ("expand_conv3x3", "expand3x3"),
        ):
            units.append(Unit(f"fire{fire}_{ours}", f"features.{place}.{theirs}"))
    return Network(f"SqueezeNet {version}", ("squeezenet", 0), tuple(units))


def _googlenet(_: Mapping[str, Tensor]) -> Network:
    """Read a GoogLeNet.

    Where the paper and TAO have kernels of 5×5, torchvision's are 3×3; with zeros around they are the same function.
    """
    units = [
        Unit("conv1", "conv1.conv", "conv1.bn"),
        Unit("conv2_reduce", "conv2.conv", "conv2.bn"),
        Unit("conv2", "conv3.conv", "conv3.bn"),
    ]
    for index in googlenet.INCEPTIONS:
        for ours, branch in (
            ("1x1", "branch1"),
            ("3x3_reduce", "branch2.0"),
            ("3x3", "branch2.1"),
            ("5x5_reduce", "branch3.0"),
            ("5x5", "branch3.1"),
            ("pool_proj", "branch4.1"),
        ):
            theirs = f"inception{index}.{branch}"
            units.append(Unit(f"inception_{index}_{ours}", f"{theirs}.conv", f"{theirs}.bn"))
    return Network("GoogLeNet", ("googlenet", 0), tuple(units), epsilon=1e-3, mean=HALF, std=HALF)


def _only(title: str) -> Callable[[Mapping[str, Tensor]], Network]:
    """Return a reader for a network that no backbone agrees with, so that an error can name it."""
    return lambda _: Network(title, None)


#: A tensor by which a network is known, and what reads the rest. Order matters: the more special names come first.
_KNOWN: tuple[tuple[str, Callable[[Mapping[str, Tensor]], Network]], ...] = (
    ("layer1.0.conv1.weight", _resnet),
    ("features.1.conv.0.weight", _mobilenet_v2),
    ("features.1.conv.0.0.weight", _mobilenet_v2),
    ("features.3.squeeze.weight", _squeezenet),
    ("inception3a.branch1.conv.weight", _googlenet),
    ("features.1.0.block.0.0.weight", _only("EfficientNet")),
    ("features.1.block.0.0.weight", _only("MobileNetV3")),
    ("features.conv0.weight", _only("DenseNet")),
    ("Mixed_5b.branch1x1.conv.weight", _only("Inception v3")),
    ("stage2.0.branch1.0.weight", _only("ShuffleNetV2")),
    ("conv_proj.weight", _only("a vision transformer")),
    ("patch_embed.proj.weight", _only("a vision transformer")),
    ("features.0.weight", _vgg),
)


def _count(pattern: str, names: Collection[str]) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in names)
