"""Networks from model files, and model files from networks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taomagic.engine.ssd.model import SSD, Architecture, keras_name
from taomagic.engine.storage.model_file import ModelFile, load_model, save_model
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
    file = load_model(path, key)
    name = shown_as or str(path)
    if file.architecture is None:
        raise ModelFileProblem(
            "this file holds weights by layer name, but not the network they belong to",
            where=name,
            hint="Such a file can start a training (train -m FILE); evaluate and export need the result of a training.",
        )
    if file.architecture.get("task") != "ssd":
        raise ModelFileProblem(
            f"this is a model of {file.architecture.get('task')!r}, not of 'ssd'", where=name
        )
    model = SSD(Architecture.from_json(file.architecture))
    _load_exactly(model, file.weights, name)
    return model, file


def save(
    path: Path, model: SSD, key: str, *, epoch: int = 0, optimizer: Mapping[str, Any] | None = None
) -> None:
    """Write a network, and the optimiser's state where training may go on from here."""
    file = ModelFile(
        architecture=model.architecture.to_json(),
        weights=_portable_state(model),
        epoch=epoch,
        optimizer=dict(optimizer) if optimizer is not None else None,
        extra={},
    )
    save_model(path, file, key)


def _portable_state(model: SSD) -> dict[str, Tensor]:
    """Return the weights without PyTorch's batch counters, which nothing reads at a fixed momentum."""
    state = model.state_dict()
    return {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    }


def _load_exactly(model: SSD, weights: Mapping[str, Tensor], name: str) -> None:
    """Load a complete set of weights, or say which ones don't fit."""
    own = _portable_state(model)
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

    Without a file: random weights. With one, its weights are taken over by layer name. A pruned file brings its own
    channels, which are used in place of the spec's, as TAO does.

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
    """
    architecture = Architecture.from_experiment(experiment, classes)
    if path is None:
        return SSD(architecture)
    file = load_model(path, key)
    if file.architecture is not None and file.architecture.get("task") == "ssd":
        stored = Architecture.from_json(file.architecture)
        if stored.channels:
            architecture = _with_channels_of(architecture, stored, shown_as)
    model = SSD(architecture)
    own = model.state_dict()
    offered = file.weights if file.architecture is not None else _by_module_names(file.weights, own)
    fitting = {n: tensor for n, tensor in offered.items() if n in own and own[n].shape == tensor.shape}
    model.load_state_dict(fitting, strict=False)
    expected = _portable_state(model)
    logger.info("Took %d of %d tensors from %s.", len(fitting), len(expected), shown_as)
    missing = [name for name in expected if name not in fitting]
    if missing:
        shown = ", ".join(missing[:6]) + (", …" if len(missing) > 6 else "")
        logger.warning(
            "These start with random values, because the file has none of their name and shape: %s", shown
        )
    if not fitting:
        raise ModelFileProblem(
            "no weight in this file fits the network of the spec",
            where=shown_as,
            hint="Check arch, nlayers and width_multiplier in the spec's ssd_config against the file.",
        )
    return model


def _by_module_names(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename weights from Keras' layer names (``block_1a_conv_1.weight``) to this network's own."""
    translated = {}
    for name in own:
        module, _, parameter = name.rpartition(".")
        tensor = weights.get(f"{keras_name(module)}.{parameter}")
        if tensor is not None:
            translated[name] = tensor
    return translated


def _with_channels_of(wanted: Architecture, stored: Architecture, shown_as: str) -> Architecture:
    """Return the spec's architecture with the channels of a pruned file, after checking that the rest agrees."""
    for field, what in (
        ("arch", "arch"),
        ("nlayers", "nlayers"),
        ("classes", "classes"),
        ("anchors", "anchor settings"),
    ):
        if getattr(wanted, field) != getattr(stored, field):
            raise ModelFileProblem(
                f"pruned model and spec differ in {what}: {getattr(stored, field)} and {getattr(wanted, field)}",
                where=shown_as,
                hint="Retrain a pruned model with the ssd_config and classes it was trained with.",
            )
    logger.info("%s is pruned: its channels are used in place of the spec's.", shown_as)
    return replace(wanted, width_multiplier=stored.width_multiplier, channels=stored.channels)


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
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.eval()
