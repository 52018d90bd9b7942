"""Weights that were trained on images of another preprocessing: levels around 0 in SSD, 0 to 1 in DetectNet_v2."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from taomagic.engine.backbones.torchvision_weights import Preprocessing, normalisation_of, norms_behind
from taomagic.engine.data.images import CAFFE_MEAN, GREY_MEAN
from taomagic.engine.storage.model_file import ModelFile
from taomagic.engine.weights.kind import Detector, Kind
from taomagic.engine.weights.state import BACKBONE


def preprocessing_of(task: str, channels: int) -> Preprocessing:
    """Return what the networks of a task get where their specs don't say otherwise.

    Parameters
    ----------
    task
        ``"ssd"`` or ``"detectnet_v2"``.
    channels
        1 or 3.
    """
    if task == "detectnet_v2":
        return Preprocessing((0.0,) * channels, divisor=255.0, red_first=True)
    return Preprocessing(GREY_MEAN if channels == 1 else CAFFE_MEAN)


def backbone_of(kind: Kind[Any, Any], file: ModelFile, model: Detector, where: str) -> dict[str, Tensor]:
    """Return the backbone's weights in a file of ours, of whatever network, as they serve this one.

    Parameters
    ----------
    kind, model
        What takes them over; ``model`` is of the spec's architecture.
    file
        With its architecture.
    where
        The file as the person wrote it.

    Raises
    ------
    ModelFileProblem
        The file's backbone is another one.
    """
    stored, wanted = file.architecture or {}, model.architecture
    arch, layers = (stored.get(name) for name in ("arch", "nlayers"))
    if (arch, layers) != (wanted.arch, wanted.nlayers):
        raise kind.other_architecture(f"{arch} {layers}" if layers else f"{arch}", wanted, where)
    weights: Mapping[str, Tensor] = file.weights
    if stored.get("task") != kind.task:
        # An SSD has learned from levels around 0, blue first; a DetectNet_v2 from 0 to 1, red first.
        weights = for_other_images(weights, model, str(stored.get("task")), kind.task)
    return {name: tensor for name, tensor in weights.items() if name.startswith(BACKBONE)}


def for_other_images(
    weights: Mapping[str, Tensor], model: nn.Module, trained_for: str, task: str
) -> dict[str, Tensor]:
    """Return weights whose first convolution, with what follows it, says of other images what it said before.

    The network's layers keep their sizes: where a normalisation follows, it makes up for the scale. That holds except
    at the borders, since the zeros beyond them are another colour.

    Parameters
    ----------
    weights
        By the network's own names; those of the first convolution and its normalisation are changed.
    model
        The network.
    trained_for, task
        The task that the weights come from, and that they will serve. Which mean an SSD's spec had, its file doesn't
        say: the usual one is assumed.
    """
    changed = dict(weights)
    path = next(path for path, layer in model.named_modules() if isinstance(layer, nn.Conv2d))
    norm_path = norms_behind(model).get(path)
    weight = weights.get(f"{path}.weight")
    if weight is None or weight.dim() != 4 or weight.shape[1] not in (1, 3):
        return changed
    before, now = (preprocessing_of(each, int(weight.shape[1])) for each in (trained_for, task))
    old, new = (torch.tensor(means, dtype=weight.dtype) for means in (before.mean, now.mean))
    if before.red_first != now.red_first:
        weight, old = weight.flip(1), old.flip(0)
    # A level is `divisor · pixel + mean`, so the sums are `factor` times those of the new images, and `shift` more.
    factor = now.divisor / before.divisor
    shift = (weight.sum(dim=(2, 3)) * (new - old)).sum(dim=1) / before.divisor
    names = [f"{norm_path}.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    if norm_path is not None and all(name in weights for name in names):
        norm = model.get_submodule(norm_path)
        assert isinstance(norm, nn.BatchNorm2d)
        gamma, beta, mean, var = (weights[name] for name in names)
        tensors = normalisation_of((gamma, beta, mean, var), norm.eps, norm.eps, 1 / factor, shift)
        changed |= {f"{norm_path}.{name}": tensor for name, tensor in tensors.items()}
        changed[f"{path}.weight"] = weight
        if f"{path}.bias" in weights:
            changed[f"{path}.bias"] = weights[f"{path}.bias"] / factor
        return changed
    changed[f"{path}.weight"] = weight * factor
    changed[f"{path}.bias"] = weights.get(f"{path}.bias", torch.zeros_like(shift)) + shift
    return changed
