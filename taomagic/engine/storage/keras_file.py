"""HDF5 files that Keras wrote: NVIDIA's pretrained networks from NGC, and the models of TAO's TensorFlow containers.

::

    /model_weights        or the root itself, where `save_weights` wrote the file; attribute `layer_names`
      /<layer>            attribute `weight_names`: paths below this group
        …/kernel:0        [height, width, inputs, outputs]; `depthwise_kernel:0`, `bias:0`, `gamma:0`, `beta:0`, …
    /                     attribute `model_config`: the network as JSON
    /optimizer_weights    not read

Only names and numbers are read. A Keras model may bring code along (`Lambda` layers); nothing of it is run, because no
layer is built from the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from taomagic.errors import ModelFileProblem

#: Keras' names of a layer's arrays and PyTorch's. Keras writes ":0" behind them, version 3 leaves it out.
TORCH_NAMES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "bias": "bias",
}
#: A data set may be larger than the file by what compression and fill values save; beyond this, its size is a lie.
MOST_EXPANSION = 2000


def read_strings(owner: h5py.Group, name: str) -> list[str]:
    """Return a list of strings that is an attribute, or lies in numbered parts; empty where there is none.

    Keras' versions wrote fixed-width bytes, byte strings or texts; a single one may stand without a list.
    """
    parts = [owner.attrs[name]] if name in owner.attrs else []
    while f"{name}{len(parts)}" in owner.attrs:
        parts.append(owner.attrs[f"{name}{len(parts)}"])
    strings = [value for part in parts for value in np.asarray(part, dtype=object).ravel()]
    return [value.decode() if isinstance(value, bytes) else str(value) for value in strings]


def from_keras(data: Any, place: str) -> Tensor:
    """Return a data set as a tensor in PyTorch's axis order.

    Parameters
    ----------
    data
        The data set.
    place
        Its path, which ends in Keras' name of the array.

    Raises
    ------
    ValueError
        It isn't an array of numbers that lies in the file.
    """
    if not isinstance(data, h5py.Dataset) or data.dtype.kind not in "fiub":
        raise ValueError(f"{place} is no array of numbers")
    if data.is_virtual or data.external:
        raise ValueError(f"{place} lies in another file")
    if data.nbytes > MOST_EXPANSION * max(data.file.id.get_filesize(), 1):
        raise ValueError(f"{place} claims a size of {data.nbytes:,} bytes")
    array = np.array(data[()])
    leaf = _leaf(place)
    if leaf == "depthwise_kernel" and array.ndim == 4:
        # [h, w, inputs, multiplier] -> [inputs · multiplier, 1, h, w]
        array = array.transpose(2, 3, 0, 1).reshape(-1, 1, *array.shape[:2])
    elif leaf == "kernel":
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
    return torch.from_numpy(np.ascontiguousarray(array) if array.ndim else array)


def read_keras(file: h5py.File, path: Path) -> dict[str, Tensor]:
    """Return the weights of a Keras file, from ``model.save`` or ``model.save_weights``, by layer name.

    Parameters
    ----------
    file
        The open file.
    path
        For errors.

    Returns
    -------
    dict of str to Tensor
        ``<layer>.weight``, ``<layer>.bias``, ``<layer>.running_mean``, … with the layer's own name also where it is
        part of a nested model; arrays that PyTorch has no name for keep theirs.

    Raises
    ------
    ModelFileProblem
        It holds no Keras weights, or those of a layout without layer names.
    KeyError, ValueError, TypeError
        It is damaged.
    """
    group = file.get("model_weights", file)
    if not isinstance(group, h5py.Group):
        raise TypeError("model_weights is no group")
    layers = read_strings(group, "layer_names")
    if not layers:
        raise _no_layers(file, path)
    nested = _nested_layers(file)
    weights: dict[str, Tensor] = {}
    for layer in layers:
        names = read_strings(group[layer], "weight_names")
        for name in names:
            owner = _owner(layer, name, names, nested)
            leaf = _leaf(name)
            weights[f"{owner}.{TORCH_NAMES.get(leaf, leaf)}"] = from_keras(group[layer][name], name)
    return weights


def read_input_shape(file: h5py.File) -> tuple[int, int, int] | None:
    """Return channels, height and width of the input that a Keras file's network was built for.

    ``None`` where the file has no description of the network, or one that leaves the size open.
    """
    if "model_config" not in file.attrs:
        return None
    text = file.attrs["model_config"]
    for layer in _layers_of(json.loads(text.decode() if isinstance(text, bytes) else str(text))):
        config = layer.get("config")
        shape = config.get("batch_input_shape") if isinstance(config, dict) else None
        if isinstance(shape, list) and len(shape) == 4 and all(isinstance(side, int) for side in shape[1:]):
            first, second, third = shape[1:]
            # Channels come first in TAO's networks. Height and width are never as small as 1 or 3.
            return (
                (third, first, second) if first not in (1, 3) and third in (1, 3) else (first, second, third)
            )
    return None


def _leaf(name: str) -> str:
    return name.rpartition("/")[2].partition(":")[0]


def _owner(layer: str, name: str, names: list[str], nested: dict[str, set[str]]) -> str:
    """Return the name of the layer that an array belongs to.

    Usually that is ``layer``, whatever the prefix says: TensorFlow made that unique, so it may be ``conv1_1``. A nested
    model appears as one layer; its own layers are told apart by the prefixes.
    """
    prefix = name.rpartition("/")[0].rpartition("/")[2]
    inner = nested.get(layer)
    if inner is not None:
        made_unique = re.sub(r"_\d+$", "", prefix)
        return made_unique if prefix not in inner and made_unique in inner else prefix
    if len({other.rpartition("/")[0] for other in names}) > 1:
        return prefix
    return layer


def _nested_layers(file: h5py.File) -> dict[str, set[str]]:
    """Return the names of the layers inside each nested model, as far as the file has its network's description."""
    if "model_config" not in file.attrs:
        return {}
    text = file.attrs["model_config"]
    return dict(_nested_in(json.loads(text.decode() if isinstance(text, bytes) else str(text))))


def _nested_in(config: Any) -> Iterator[tuple[str, set[str]]]:
    for layer in _layers_of(config):
        inner = list(_layers_of(layer))
        if inner:
            yield (
                _name_of(layer),
                {name for child in inner for name in (_name_of(child), *_names_below(child))},
            )
            yield from _nested_in(layer)


def _names_below(layer: Any) -> Iterator[str]:
    for child in _layers_of(layer):
        yield _name_of(child)
        yield from _names_below(child)


def _layers_of(model: Any) -> Iterator[dict[str, Any]]:
    """Yield the layers of a model's description; nothing for a plain layer. Old sequential models are a bare list."""
    config = model.get("config") if isinstance(model, dict) else None
    layers = config.get("layers") if isinstance(config, dict) else config
    if isinstance(layers, list):
        yield from (layer for layer in layers if isinstance(layer, dict))


def _name_of(layer: dict[str, Any]) -> str:
    config = layer.get("config")
    name = layer.get("name") or (config.get("name") if isinstance(config, dict) else None)
    return str(name)


def _no_layers(file: h5py.File, path: Path) -> ModelFileProblem:
    if "layers" in file or "_layer_checkpoint_dependencies" in file:
        return ModelFileProblem(
            "the HDF5 file is in the layout of Keras 3's save_weights, which doesn't keep the layers' names",
            hint="Save the model in Keras' older layout: model.save('model.h5'), then rename the file to .hdf5.",
            where=str(path),
        )
    return ModelFileProblem(
        "the HDF5 file holds no Keras weights (there is no attribute `layer_names`)",
        hint="Use a .hdf5 model from NGC, from TAO 5, or from taomagic.",
        where=str(path),
    )
