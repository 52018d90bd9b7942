"""SSD's weights: files of networks, and what a training begins with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from taomagic.engine.backbones.torchvision_weights import Preprocessing
from taomagic.engine.data.images import mean_of
from taomagic.engine.quantization import restart
from taomagic.engine.quantization.placement import SUFFIX
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.storage.model_file import ModelFile
from taomagic.engine.weights import files
from taomagic.engine.weights.files import TorchvisionState, architecture_of, read_start, save
from taomagic.engine.weights.freezing import freeze_blocks, stop_batch_norm
from taomagic.engine.weights.kind import Kind
from taomagic.engine.weights.preprocessing import backbone_of
from taomagic.engine.weights.state import shortened
from taomagic.engine.weights.takeover import (
    adapt_first_convolution,
    backbone_misfits,
    by_module_names,
    pruned_like,
    refuse_other_architecture,
    require_fit,
    take_by_name,
)
from taomagic.engine.weights.torchvision import take_from_torchvision
from taomagic.errors import ModelFileProblem
from taomagic.spec.ssd import SSDExperiment

__all__ = ["KIND", "freeze", "model_from_file", "require_same_quantization", "save", "starting_model"]

logger = logging.getLogger(__name__)

KIND = Kind(
    task="ssd",
    title="SSD",
    read=Architecture.from_json,
    build=SSD,
    block="ssd_config",
    layers_field="nlayers",
    other_file="give -m another file",
    how_to_start="ssd train -m FILE",
    head_settings="classes or anchor settings",
    red_first=False,
)


def model_from_file(path: Path, key: str, *, shown_as: str = "") -> tuple[SSD, ModelFile]:
    """Rebuild the SSD of a ``.tlt`` or ``.hdf5`` file; see :func:`taomagic.engine.weights.files.model_from_file`."""
    return files.model_from_file(KIND, path, key, shown_as=shown_as)


def starting_model(
    experiment: SSDExperiment, classes: tuple[str, ...], path: Path | None, key: str, shown_as: str
) -> SSD:
    """Return the network that a training begins with.

    Without a file: random weights. With one, whatever its name, its weights are taken over:

    - a checkpoint of ours, or a Keras file: by layer name, see :mod:`taomagic.engine.weights.takeover`. A pruned one
      brings its own channels, which are used in place of the spec's, as TAO does. Of a DetectNet_v2 it is the backbone;
    - a state dict of PyTorch: see :mod:`taomagic.engine.backbones.torchvision_weights`.

    Parameters
    ----------
    experiment
        The training spec.
    classes
        Foreground classes in the order of their ids.
    path
        ``-m``, on this machine, or ``None``.
    key
        For ``.tlt``.
    shown_as
        ``-m`` as the person wrote it.

    Raises
    ------
    ModelFileProblem
        The file can't be read, is of another network, or nothing in it fits.
    """
    architecture = Architecture.from_experiment(experiment, classes)
    if path is None:
        return SSD(architecture)
    source = read_start(KIND, path, key, architecture, shown_as)
    if isinstance(source, TorchvisionState):
        model = SSD(architecture)
        assert experiment.augmentation is not None
        pixels = Preprocessing(mean_of(experiment.augmentation))
        take_from_torchvision(KIND, model, source.network, source.state, pixels, shown_as)
        return model
    file = source
    if file.architecture is None:
        return _from_keras_file(architecture, file.weights, shown_as)
    if file.architecture.get("task") == "detectnet_v2":
        return _from_other_network(architecture, file, shown_as)
    stored = architecture_of(KIND, file.architecture, shown_as)
    if stored.arch != architecture.arch:
        raise KIND.other_architecture(stored.arch, architecture, shown_as)
    require_same_quantization(architecture, stored.quantized, bool(stored.channels), shown_as)
    if stored.channels or stored.width_multiplier != architecture.width_multiplier:
        architecture = _with_channels_of(architecture, stored, shown_as)
    model = SSD(architecture)
    offered = adapt_first_convolution(KIND, file.weights, model, shown_as)
    misfits = backbone_misfits(offered, model)
    if misfits and stored.nlayers != architecture.nlayers:
        raise KIND.other_architecture(f"{stored.arch} {stored.nlayers}", architecture, shown_as)
    _refuse(misfits, shown_as)
    take_by_name(KIND, model, offered, shown_as)
    restart(model)
    return model


def _refuse(misfits: list[str], shown_as: str) -> None:
    """Raise where weights have other shapes than the network's."""
    if misfits:
        raise ModelFileProblem(
            f"the file's weights have other shapes than the spec's network ({shortened(misfits)})",
            where=shown_as,
            hint="Check width_multiplier in the spec's ssd_config against the file; for a pruned network give the "
            ".tlt or .hdf5 that prune wrote, which says how it is built.",
        )


def _from_other_network(architecture: Architecture, file: ModelFile, shown_as: str) -> SSD:
    """Build the spec's network with the backbone of a DetectNet_v2; TAO, too, takes layers over by name."""
    model = SSD(architecture)
    offered = adapt_first_convolution(KIND, backbone_of(KIND, file, model, shown_as), model, shown_as)
    _refuse(backbone_misfits(offered, model), shown_as)
    take_by_name(KIND, model, offered, shown_as)
    return model


def require_same_quantization(wanted: Architecture, quantized: bool, pruned: bool, shown_as: str) -> None:
    """Refuse a model that was trained with ``enable_qat`` where the spec has none, and the other way round.

    TAO's document says it of pruned models, and its code refuses all but a pretrained backbone.

    Parameters
    ----------
    wanted
        What the spec describes.
    quantized, pruned
        What the file holds.
    shown_as
        The file as the person wrote it.

    Raises
    ------
    ModelFileProblem
        They differ.
    """
    if wanted.quantized == quantized:
        return
    kind = "pruned model" if pruned else "model"
    if quantized:
        message = f"this {kind} was trained with enable_qat, and the spec doesn't enable it"
        hint = "Set enable_qat: true in the spec's training_config, or start from a model that was trained without it."
    else:
        message = f"the spec has enable_qat, and this {kind} was trained without it"
        hint = (
            "Leave enable_qat out of the spec's training_config, or start from a model that was trained with it, "
            "or from weights for the backbone alone."
        )
    raise ModelFileProblem(message, where=shown_as, hint=hint)


def _from_keras_file(architecture: Architecture, weights: Mapping[str, Tensor], shown_as: str) -> SSD:
    """Build the spec's network, or the file's if it is a pruned one, with the weights of a Keras file."""
    refuse_other_architecture(KIND, weights, architecture, shown_as)
    model = SSD(architecture)
    offered = adapt_first_convolution(KIND, by_module_names(weights, model), model, shown_as)
    pruned = bool(backbone_misfits(offered, model))
    quantized = any(name.rpartition(".")[0].endswith(SUFFIX) for name in weights)
    if pruned or quantized or "ssd_conf_0.weight" in weights:
        require_same_quantization(architecture, quantized, pruned, shown_as)
    if pruned:
        channels = pruned_like(KIND, weights, model, shown_as)
        model = SSD(replace(architecture, channels=channels))
        offered = adapt_first_convolution(KIND, by_module_names(weights, model), model, shown_as)
        require_fit(KIND, offered, model, shown_as)
        _say_pruned(shown_as)
    take_by_name(KIND, model, offered, shown_as)
    return model


def _with_channels_of(wanted: Architecture, stored: Architecture, shown_as: str) -> Architecture:
    """Return the spec's architecture with the channels of the file's, after checking that the rest agrees.

    A pruned file is one, and one of another ``width_multiplier``: TAO takes any other shape in the backbone for a sign
    of pruning, and then uses the file's network.
    """
    kind = "pruned model" if stored.channels else "model of another width"
    for field, what in (
        ("arch", "arch"),
        ("nlayers", "nlayers"),
        ("classes", "classes"),
        ("anchors", "anchor settings"),
    ):
        if getattr(wanted, field) != getattr(stored, field):
            raise ModelFileProblem(
                f"{kind} and spec differ in {what}: {getattr(stored, field)} and {getattr(wanted, field)}",
                where=shown_as,
                hint="Retrain a pruned model with the ssd_config and classes it was trained with."
                if stored.channels
                else f"Set width_multiplier: {stored.width_multiplier:g} in the spec's ssd_config, as in the file.",
            )
    if stored.channels:
        _say_pruned(shown_as)
    else:
        logger.info(
            "%s has width_multiplier %g: its channels are used in place of the spec's.",
            shown_as,
            stored.width_multiplier,
        )
    return replace(wanted, width_multiplier=stored.width_multiplier, channels=stored.channels)


def _say_pruned(shown_as: str) -> None:
    logger.info("%s is pruned: its channels are used in place of the spec's.", shown_as)


def freeze(model: SSD, blocks: tuple[int, ...], *, batch_norm: bool) -> None:
    """Freeze what the spec says.

    ``freeze_blocks`` stops the convolutions of those backbone blocks; their batch normalisation still trains.
    ``freeze_bn`` makes the backbone's batch normalisation use its stored statistics; its scale and shift still train.
    """
    freeze_blocks(model.backbone, blocks)
    if batch_norm:
        stop_batch_norm(model.backbone)
