"""Backbones that begin with weights of torchvision's networks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from taomagic.engine.backbones.torchvision_names import Network, recognise
from taomagic.engine.backbones.torchvision_weights import Preprocessing, take
from taomagic.engine.weights.kind import Description, Detector, Kind
from taomagic.engine.weights.report import report_random, require_numbers
from taomagic.engine.weights.state import BACKBONE, portable_state, shortened, size_text
from taomagic.errors import ModelFileProblem

logger = logging.getLogger(__name__)

#: Of a network of torchvision's with another share of convolutions that fit, it is another network.
_MOST_MISFITS = 0.25


def torchvision_network(
    kind: Kind[Any, Any], state: Mapping[str, Tensor], wanted: Description, where: str
) -> Network | None:
    """Return which of torchvision's networks a state dict belongs to; ``None`` if to none that is known.

    Raises
    ------
    ModelFileProblem
        It is another one than the spec builds.
    """
    network = recognise(state)
    if network is not None and network.backbone != (wanted.arch, wanted.nlayers):
        raise kind.other_architecture(f"{network.title} in torchvision's layout", wanted, where)
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
    kind: Kind[Any, Any],
    model: Detector,
    network: Network,
    state: Mapping[str, Tensor],
    pixels: Preprocessing,
    where: str,
) -> list[str]:
    """Load a state dict in the layout of torchvision's networks into the backbone, as far as the two agree.

    Parameters
    ----------
    kind, model
        The network of the spec.
    network
        Which of torchvision's it is, from :func:`torchvision_network`.
    state
        Tensors by torchvision's names.
    pixels
        What the network gets in place of a level of 0 to 255.
    where
        For messages.

    Returns
    -------
    list of str
        The names of the tensors that have values now.

    Raises
    ------
    ModelFileProblem
        Most of its convolutions have other shapes.
    """
    wanted = model.architecture
    taken = take(model.backbone, network, state, pixels)
    if len(taken.misfits) > _MOST_MISFITS * len(network.units):
        path, theirs, ours = taken.misfits[0]
        shapes = f"{size_text(theirs)} in the file" if theirs is not None else "incomplete in the file"
        full = wanted.width_multiplier == 1.0
        raise ModelFileProblem(
            f"of the {len(network.units)} convolutions of {network.title} only "
            f"{len(network.units) - len(taken.misfits)} fit the network of the spec ({path.replace('.', '_')}: "
            f"{shapes}, {size_text(ours)} here)",
            where=where,
            hint="Give the weights of the plain network; variants with other channels (ResNeXt, Wide ResNet) don't fit."
            if full
            else f"Such weights are for networks of full width: take width_multiplier ({wanted.width_multiplier:g}) "
            f"out of the spec's {kind.block}.",
        )
    fitting = {BACKBONE + name: tensor for name, tensor in taken.tensors.items()}
    require_numbers(fitting, where)
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
    return list(fitting)
