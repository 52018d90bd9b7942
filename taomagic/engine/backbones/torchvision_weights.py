"""Take over the weights of torchvision's networks, so that a backbone computes what the network computed.

The two differ in more than names, and what can be made up for is, exactly, in the weights. For SSD:

===========================  ==============================  ===================================================
what                         torchvision                     here
===========================  ==============================  ===================================================
input                        red, green, blue; minus a       blue, green, red (or grey) minus ``image_mean``, not
                             mean, divided by a deviation    scaled: folded into the first convolution
batch normalisation          epsilon 1e-5 (mostly)           epsilon 1e-3: made up for in its scale (gamma)
VGG without it               a bias                          a normalisation that adds the bias and changes
                                                             nothing else
shortcuts without anything   identities                      1×1 projections, which begin as identities
GoogLeNet's 5×5 kernels      3×3                             zeros around
===========================  ==============================  ===================================================

With `k` the mean deviation (57 levels for ImageNet), the first convolution's weights are the original's times
`k / deviation` where a normalisation follows, which divides by `k` again. They keep their size that way, and with it
what a step of the optimiser does to them. Where none follows (SqueezeNet) they are divided by the deviation itself,
and a first training step moves them further than the original's; ``freeze_blocks: 0`` or a low learning rate helps.

DetectNet_v2 gets red, green, blue from 0 to 1; the first convolution is divided by the deviation of that scale. Where
it is built without normalisations, theirs are folded into its convolutions.

All that holds while the normalisations use their stored statistics (evaluation, or ``freeze_bn``). In training they use
the batch's, so a normalisation that only adds a bias, or stands behind an identity, normalises as well.

What doesn't show in weights stays different: strides and poolings, zeros beyond the borders of another mean, ReLU6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from taomagic.engine.backbones.base import Backbone
from taomagic.engine.backbones.torchvision_names import Network, Unit

_NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Taken:
    """What a backbone gets.

    Attributes
    ----------
    tensors
        New values by their name in the backbone's state dict.
    used
        How many of the file's tensors they come from.
    passing
        Convolutions (module paths) that begin as identities.
    misfits
        For each convolution whose tensors don't fit: its path, the file's shape (or ``None``), and the backbone's.
    """

    tensors: dict[str, Tensor]
    used: int
    passing: tuple[str, ...]
    misfits: tuple[tuple[str, tuple[int, ...] | None, tuple[int, ...]], ...]


@dataclass(frozen=True)
class Preprocessing:
    """What a network gets in place of a level of 0 to 255: ``(level - mean) / divisor``.

    Attributes
    ----------
    mean
        In levels, in the order of the network's channels; one for grey images.
    divisor
        E.g. 255 for images of 0 to 1.
    red_first
        Whether the channels are red, green, blue, and not the other way round.
    """

    mean: tuple[float, ...]
    divisor: float = 1.0
    red_first: bool = False


def norms_behind(module: nn.Module) -> dict[str, str]:
    """Return the batch normalisation that stands behind each convolution, as module paths.

    In all our networks it is registered right behind it.
    """
    found = {}
    before = ""
    for path, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            before = path
        elif isinstance(layer, nn.BatchNorm2d):
            if before:
                found[before] = path
            before = ""
        elif not any(layer.children()):
            before = ""
    return found


def take(backbone: Backbone, network: Network, state: Mapping[str, Tensor], pixels: Preprocessing) -> Taken:
    """Return what ``backbone`` takes over; see the module for how.

    Parameters
    ----------
    backbone
        Of the architecture that ``network.backbone`` names, at any width.
    network
        What the state dict is, from :func:`~taomagic.engine.backbones.torchvision_names.recognise`.
    state
        The state dict, with ``network.prefix`` before its names.
    pixels
        What the backbone gets.
    """
    norms = norms_behind(backbone)
    first = network.units[0].ours
    tensors: dict[str, Tensor] = {}
    misfits = []
    used = 0
    for unit in network.units:
        conv = backbone.get_submodule(unit.ours)
        assert isinstance(conv, nn.Conv2d)
        theirs = _Source(unit, network, state)
        weight = theirs.weight
        if weight is not None and unit.ours == first:
            weight = theirs.adapt_to_images(conv.in_channels, pixels, keep_size=unit.ours in norms)
        if weight is not None:
            weight = _with_zeros_around(weight, conv)
        if weight is None or weight.shape != conv.weight.shape or not theirs.complete:
            shape = None if theirs.weight is None else tuple(theirs.weight.shape)
            misfits.append((unit.ours, shape, tuple(conv.weight.shape)))
            continue
        used += theirs.count
        tensors[f"{unit.ours}.weight"] = weight
        if unit.ours in norms:
            norm = backbone.get_submodule(norms[unit.ours])
            assert isinstance(norm, nn.BatchNorm2d)
            tensors |= {f"{norms[unit.ours]}.{name}": t for name, t in theirs.normalisation(norm.eps).items()}
            if conv.bias is not None:
                tensors[f"{unit.ours}.bias"] = torch.zeros(conv.out_channels)
        else:
            assert conv.bias is not None  # nothing is without both
            factor, shift = theirs.folded()
            tensors[f"{unit.ours}.weight"] = weight * factor.view(-1, 1, 1, 1)
            tensors[f"{unit.ours}.bias"] = shift
    modules = dict(backbone.named_modules())
    passing = tuple(path for path in network.passing if path in modules)
    for path in passing:
        tensors |= _identity(backbone, path, norms.get(path))
    return Taken(tensors, used, passing, tuple(misfits))


class _Source:
    """A unit of torchvision's network: its tensors, and what has to be changed about them.

    The convolution gives ``z``; behind it comes ``gamma · (z - mean) / sqrt(var + epsilon) + beta``. Without a
    normalisation, ``z + bias`` is the same with gamma 1, mean 0, variance 1, epsilon 0 and beta the bias.
    """

    def __init__(self, unit: Unit, network: Network, state: Mapping[str, Tensor]) -> None:
        def get(path: str | None, name: str) -> Tensor | None:
            tensor = state.get(f"{network.prefix}{path}.{name}")
            return tensor.detach().to(torch.float32) if path is not None and tensor is not None else None

        self._network = network
        self.weight = get(unit.theirs, "weight")
        if self.weight is not None and self.weight.dim() != 4:
            self.weight = None
        self._bias = get(unit.theirs, "bias")
        self._norm = [get(unit.norm, name) for name in _NORM_TENSORS] if unit.norm else None
        # The input here is scaled by `_scale` against theirs, and shifted so that z is less by `_shift`.
        self._scale = 1.0
        self._shift: Tensor | float = 0.0

    @property
    def complete(self) -> bool:
        """Whether all tensors are there, and of the shapes that the convolution's calls for."""
        if self.weight is None:
            return False
        vectors = [*(self._norm or [])] + ([self._bias] if self._bias is not None or not self._norm else [])
        return all(vector is not None and vector.shape == self.weight.shape[:1] for vector in vectors)

    @property
    def count(self) -> int:
        """The number of tensors that come from the file."""
        return 1 + (self._bias is not None) + len(self._norm or [])

    def adapt_to_images(self, in_channels: int, pixels: Preprocessing, *, keep_size: bool) -> Tensor | None:
        """Return the weights for our images in place of theirs, ``None`` if theirs aren't for colour images."""
        weight = self.weight
        if weight is None or weight.shape[1] != 3:
            return None
        std, mean = torch.tensor(self._network.std), torch.tensor(self._network.mean)
        if keep_size:
            self._scale = float(std.mean()) / pixels.divisor
        scaled = weight / std.view(1, 3, 1, 1)
        # As red, green, blue; a grey level is all three.
        ours = (
            pixels.mean * 3
            if len(pixels.mean) == 1
            else pixels.mean
            if pixels.red_first
            else pixels.mean[::-1]
        )
        self._shift = (scaled.sum(dim=(2, 3)) * (torch.tensor(ours) - mean)).sum(dim=1)
        scaled = scaled * pixels.divisor
        if in_channels == 1:
            scaled = scaled.sum(dim=1, keepdim=True)
        elif not pixels.red_first:
            scaled = scaled.flip(1)
        return scaled * self._scale

    def folded(self) -> tuple[Tensor, Tensor]:
        """Return what to multiply each filter with, and its bias, where ours has no normalisation behind it."""
        if self._norm is None:
            assert self._bias is not None
            return torch.ones_like(self._bias), self._bias + self._shift
        gamma, beta, mean, var = (tensor for tensor in self._norm if tensor is not None)
        factor = gamma / (var + self._network.epsilon).sqrt()
        bias = 0.0 if self._bias is None else self._bias
        return factor, beta + factor * (bias + self._shift - mean)

    def normalisation(self, epsilon: float) -> dict[str, Tensor]:
        """Return the tensors of the normalisation behind the convolution, which has another epsilon than theirs.

        Nothing can be done about variances near 0 but to trust them: a channel that never varied has a scale up to ten
        times the original's here.
        """
        if self._norm is None:
            assert self._bias is not None
            beta, theirs = self._bias, 0.0
            gamma, mean, var = torch.ones_like(beta), torch.zeros_like(beta), torch.ones_like(beta)
        else:
            gamma, beta, mean, var = (tensor for tensor in self._norm if tensor is not None)
            theirs = self._network.epsilon
            if self._bias is not None:
                mean = mean - self._bias
        return normalisation_of((gamma, beta, mean, var), theirs, epsilon, self._scale, self._shift)


def normalisation_of(
    norm: tuple[Tensor, Tensor, Tensor, Tensor],
    theirs: float,
    ours: float,
    scale: float,
    shift: Tensor | float,
) -> dict[str, Tensor]:
    """Return the tensors of a normalisation whose input has changed, and whose output hasn't.

    Parameters
    ----------
    norm
        Gamma, beta, mean and variance as they were.
    theirs, ours
        The epsilon that belonged to them, and that of the new normalisation.
    scale, shift
        The input is ``scale · (what it was - shift)`` now.
    """
    gamma, beta, mean, var = norm
    squared = scale * scale
    return {
        "weight": gamma * ((squared * var + ours) / (squared * (var + theirs))).sqrt(),
        "bias": beta,
        "running_mean": scale * (mean - shift),
        "running_var": squared * var,
    }


def _with_zeros_around(weight: Tensor, conv: nn.Conv2d) -> Tensor:
    """Return a kernel that is smaller than the convolution's with zeros around, as the same function."""
    missing = [ours - theirs for ours, theirs in zip(conv.kernel_size, weight.shape[2:], strict=True)]
    if any(side < 0 or side % 2 for side in missing):
        return weight
    return F.pad(weight, (missing[1] // 2,) * 2 + (missing[0] // 2,) * 2)


def _identity(backbone: Backbone, path: str, norm_path: str | None) -> dict[str, Tensor]:
    """Return the weights with which a 1×1 convolution, and the normalisation behind it, pass their input on."""
    conv = backbone.get_submodule(path)
    assert isinstance(conv, nn.Conv2d)
    tensors = {f"{path}.weight": torch.eye(conv.out_channels, conv.in_channels)[:, :, None, None]}
    if norm_path is not None:
        norm = backbone.get_submodule(norm_path)
        assert isinstance(norm, nn.BatchNorm2d)
        ones, zeros = torch.ones(norm.num_features), torch.zeros(norm.num_features)
        tensors |= {
            f"{norm_path}.weight": ones * (1 + norm.eps) ** 0.5,
            f"{norm_path}.bias": zeros,
            f"{norm_path}.running_mean": zeros.clone(),
            f"{norm_path}.running_var": ones.clone(),
        }
    return tensors
