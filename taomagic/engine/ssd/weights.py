"""Networks from model files, and model files from networks."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taomagic.engine.data.images import mean_of
from taomagic.engine.quantization import restart
from taomagic.engine.quantization.placement import SUFFIX
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.ssd.takeover import (
    BACKBONE,
    adapt_first_convolution,
    backbone_misfits,
    by_module_names,
    other_architecture,
    portable_state,
    pruned_like,
    refuse_other_architecture,
    require_fit,
    shortened,
    take_by_name,
    take_from_torchvision,
    torchvision_network,
    unknown_network,
)
from taomagic.engine.storage.header import form_of_file
from taomagic.engine.storage.model_file import MODEL_SUFFIXES, ModelFile, load_model, save_model
from taomagic.engine.storage.torch_file import STATE_DICT_FORMS, read_state_dict
from taomagic.errors import ModelFileProblem
from taomagic.spec.ssd import SSDExperiment

logger = logging.getLogger(__name__)


def model_from_file(path: Path, key: str, *, shown_as: str = "") -> tuple[SSD, ModelFile]:
    """Rebuild the network that a ``.tlt`` or ``.hdf5`` file holds, with its weights.

    Parameters
    ----------
    path
        File on this machine.
    key
        The key it was encrypted with (``.tlt``).
    shown_as
        Its path as the person wrote it, for errors.

    Raises
    ------
    ModelFileProblem
        If it can't be read, or holds something else than an SSD of ours.
    """
    name = shown_as or str(path)
    with _shown_as(path, name):
        if path.suffix.lower() not in MODEL_SUFFIXES and form_of_file(path) in STATE_DICT_FORMS:
            raise _only_a_backbone("this is a file of PyTorch weights", name)
        file = load_model(path, key)
    if file.architecture is None:
        raise _only_a_backbone(
            "this file holds weights by layer name, but not the network they belong to", name
        )
    model = _build(_architecture_of(file.architecture, name), name)
    _load_exactly(model, file.weights, name)
    return model, file


def _only_a_backbone(what: str, name: str) -> ModelFileProblem:
    return ModelFileProblem(
        f"{what}, and a whole SSD that taomagic trained is needed here",
        where=name,
        hint="Such a file can start a training (ssd train -m FILE); then give the .tlt or .hdf5 of one of its epochs.",
    )


def _architecture_of(stored: Mapping[str, Any], name: str) -> Architecture:
    """Return the architecture that a file describes."""
    if stored.get("task") != "ssd":
        raise ModelFileProblem(
            f"this is a model of {stored.get('task')!r}, not of 'ssd'",
            where=name,
            hint="Give a model that ssd train or ssd prune wrote.",
        )
    try:
        return Architecture.from_json(stored)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _damaged_description(error, name) from error


def _build(architecture: Architecture, name: str) -> SSD:
    """Build the network that a file describes."""
    try:
        return SSD(architecture)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise _damaged_description(error, name) from error


def _damaged_description(error: Exception, name: str) -> ModelFileProblem:
    return ModelFileProblem(
        f"the file's description of its network is damaged ({type(error).__name__}: {error})",
        where=name,
        hint="Copy the file again, or use the checkpoint of an earlier epoch.",
    )


@contextmanager
def _shown_as(path: Path, name: str) -> Iterator[None]:
    """Let errors about a file call it what the person called it."""
    try:
        yield
    except ModelFileProblem as problem:
        if problem.where == str(path):
            problem.where = name
        raise


def save(
    path: Path, model: SSD, key: str, *, epoch: int = 0, optimizer: Mapping[str, Any] | None = None
) -> None:
    """Write a network, and the optimiser's state where training may go on from here."""
    file = ModelFile(
        architecture=model.architecture.to_json(),
        weights=portable_state(model),
        epoch=epoch,
        optimizer=dict(optimizer) if optimizer is not None else None,
        extra={},
    )
    save_model(path, file, key)


def _load_exactly(model: SSD, weights: Mapping[str, Tensor], name: str) -> None:
    """Load a complete set of weights, or say which ones don't fit."""
    own = portable_state(model)
    wrong = [k for k in own if k not in weights or weights[k].shape != own[k].shape]
    wrong += [k for k in weights if k not in own]
    if wrong:
        shown = ", ".join(wrong[:4]) + (", …" if len(wrong) > 4 else "")
        raise ModelFileProblem(
            f"{len(wrong)} of {len(own)} weights don't fit the network that the file describes ({shown})",
            where=name,
            hint="The file is damaged, or was written by another version of taomagic.",
        )
    model.load_state_dict(dict(weights), strict=False)


def starting_model(
    experiment: SSDExperiment, classes: tuple[str, ...], path: Path | None, key: str, shown_as: str
) -> SSD:
    """Return the network that a training begins with.

    Without a file: random weights. With one, whatever its name, its weights are taken over:

    - a checkpoint of ours, or a Keras file: by layer name, see :func:`~taomagic.engine.ssd.takeover.take_by_name`. A
      pruned one brings its own channels, which are used in place of the spec's, as TAO does;
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
    with _shown_as(path, shown_as):
        if form_of_file(path) in STATE_DICT_FORMS:
            state = read_state_dict(path)
            network = torchvision_network(state, architecture, shown_as)
            if network is not None:
                model = SSD(architecture)
                assert experiment.augmentation is not None
                take_from_torchvision(model, network, state, mean_of(experiment.augmentation), shown_as)
                return model
            # Somebody may have saved a network of ours from Python.
            if not any(name.startswith(BACKBONE) for name in state):
                raise unknown_network(state, shown_as)
            file = ModelFile(architecture=architecture.to_json(), weights=state)
        else:
            file = load_model(path, key, by_content=True)
    if file.architecture is None:
        return _from_keras_file(architecture, file.weights, shown_as)
    stored = _architecture_of(file.architecture, shown_as)
    if stored.arch != architecture.arch:
        raise other_architecture(stored.arch, architecture, shown_as)
    require_same_quantization(architecture, stored.quantized, bool(stored.channels), shown_as)
    if stored.channels or stored.width_multiplier != architecture.width_multiplier:
        architecture = _with_channels_of(architecture, stored, shown_as)
    model = SSD(architecture)
    offered = adapt_first_convolution(file.weights, model, shown_as)
    if misfits := backbone_misfits(offered, model):
        if stored.nlayers != architecture.nlayers:
            raise other_architecture(f"{stored.arch} {stored.nlayers}", architecture, shown_as)
        raise ModelFileProblem(
            f"the file's weights have other shapes than the spec's network ({shortened(misfits)})",
            where=shown_as,
            hint="Check width_multiplier in the spec's ssd_config against the file; for a pruned network give the "
            ".tlt or .hdf5 that prune wrote, which says how it is built.",
        )
    take_by_name(model, offered, shown_as)
    restart(model)
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
    refuse_other_architecture(weights, architecture, shown_as)
    model = SSD(architecture)
    offered = adapt_first_convolution(by_module_names(weights, model), model, shown_as)
    pruned = bool(backbone_misfits(offered, model))
    quantized = any(name.rpartition(".")[0].endswith(SUFFIX) for name in weights)
    if pruned or quantized or "ssd_conf_0.weight" in weights:
        require_same_quantization(architecture, quantized, pruned, shown_as)
    if pruned:
        channels = pruned_like(weights, model, shown_as)
        model = SSD(replace(architecture, channels=channels))
        offered = adapt_first_convolution(by_module_names(weights, model), model, shown_as)
        require_fit(offered, model, shown_as)
        _say_pruned(shown_as)
    take_by_name(model, offered, shown_as)
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
    ids = model.backbone.blocks()
    for block in blocks:
        for module in ids[block]:
            for layer in module.modules():
                if isinstance(layer, torch.nn.Conv2d):
                    layer.requires_grad_(False)
    if batch_norm:
        for layer in model.backbone.modules():
            # SyncBatchNorm, which takes its place where several GPUs train, is no BatchNorm2d.
            if isinstance(layer, torch.nn.BatchNorm2d | torch.nn.SyncBatchNorm):
                layer.eval()
