"""Plain model files in the layout of Keras' HDF5 weights, which TAO 5 writes and NGC offers.

::

    /                   attribute `taomagic`: our description as JSON (absent in files from elsewhere)
    /model_weights      attributes `layer_names`, `backend`, `keras_version`
      /<layer>          attribute `weight_names`
        /<layer>        data sets `kernel:0` (HWIO), `bias:0`, `gamma:0`, `beta:0`, `moving_mean:0`, …
    /optimizer_weights  the optimizer's tensors, as PyTorch has them
    /taomagic_state     tensors that Keras has no place for (batch counters)

Layers carry TAO's Keras names and convolution kernels Keras' axis order, so weights can be exchanged by layer
name with files from NGC.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from torch import Tensor

from taomagic.engine.backbones.base import keras_name
from taomagic.engine.storage.atomic import atomic_write
from taomagic.engine.storage.foreign import FIRST_BYTES, Form, describe_foreign, form_of
from taomagic.engine.storage.header import open_model_file
from taomagic.engine.storage.keras_file import from_keras, read_input_shape, read_keras, read_strings
from taomagic.errors import ModelFileProblem

#: HDF5 keeps an attribute in the object's header of 64 KiB. As in Keras, longer ones go into numbered parts.
ATTRIBUTE_BYTES = 60_000
#: What the files say about Keras: the version in NVIDIA's TensorFlow 1 containers, whose layout this is.
KERAS_VERSION = b"2.2.4"

_TO_NORM = {
    "weight": "gamma:0",
    "bias": "beta:0",
    "running_mean": "moving_mean:0",
    "running_var": "moving_variance:0",
}


@dataclass(frozen=True)
class Hdf5Content:
    """What a plain model file holds.

    Attributes
    ----------
    weights
        With a description: the module's ``state_dict()``. Without: ``<layer>.weight``, ``<layer>.bias``,
        ``<layer>.running_mean`` … by Keras layer name, in PyTorch's axis order.
    optimizer
        The optimizer's tensors by name.
    description
        Our JSON data, or ``None`` for a file from elsewhere.
    input_shape
        Channels, height and width of the input that a file from elsewhere tells, if it does.
    """

    weights: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    description: dict[str, Any] | None
    input_shape: tuple[int, int, int] | None = None


def write_hdf5(path: str | Path, content: Hdf5Content) -> None:
    """Write a plain model file, completely or not at all.

    Raises
    ------
    EnvironmentProblem
        The disk is full or the folder can't be written; no half file is left.
    ValueError
        Two tensors would get the same Keras name.
    """
    places = {name: _place(name, content.weights) for name in content.weights}
    if len(set(places.values())) < len(places):
        raise ValueError("two layers of the network have the same Keras name")
    # Built in memory: HDF5 seeks to and fro, and a full disk inside its C library gives no clean error.
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        layers: dict[str, list[str]] = {}
        for name, place in places.items():
            file.create_dataset(place, data=_to_keras(content.weights[name], place))
            root, _, inner = place.partition("/")
            if root == "model_weights":
                layer, _, weight_name = inner.partition("/")
                layers.setdefault(layer, []).append(weight_name)
        group = file.require_group("model_weights")
        group.attrs["backend"] = b"tensorflow"
        group.attrs["keras_version"] = KERAS_VERSION
        _write_strings(group, "layer_names", layers)
        for layer, weight_names in layers.items():
            _write_strings(group[layer], "weight_names", weight_names)
        for name, tensor in content.optimizer.items():
            file.create_dataset(f"optimizer_weights/{name}", data=tensor.numpy())
        described = {**(content.description or {}), "places": places}
        text = json.dumps(described)
        parts = [text[i : i + ATTRIBUTE_BYTES] for i in range(0, len(text), ATTRIBUTE_BYTES)]
        _write_strings(file, "taomagic", parts)
    with atomic_write(path) as target:
        target.write(buffer.getbuffer())


def read_hdf5(path: str | Path, content: bytes | None = None) -> Hdf5Content:
    """Read a plain model file, ours or one in Keras' layout from elsewhere.

    Parameters
    ----------
    path
        The file.
    content
        What is in it, where that has been decrypted; ``path`` is then for messages only.

    Raises
    ------
    ModelFileProblem
        The file is missing, isn't HDF5, is cut short or damaged, or holds no Keras weights.
    """
    path = Path(path)
    with open_model_file(path) if content is None else io.BytesIO(content) as stream:
        head = stream.read(FIRST_BYTES)
        if form_of(head) is not Form.HDF5:
            what, hint = describe_foreign(head)
            raise ModelFileProblem(f"this is not an HDF5 file: {what}", hint=hint, where=str(path))
        stream.seek(0)
        try:
            with h5py.File(stream, "r") as file:
                return _read(file, path)
        # Names and shapes in a damaged file can be anything, and so can what h5py and NumPy say about them.
        except (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError) as error:
            raise ModelFileProblem(
                f"the HDF5 file is cut short or damaged ({error})",
                hint="Copy or download it again, or use the checkpoint of an earlier epoch.",
                where=str(path),
            ) from error


def _read(file: h5py.File, path: Path) -> Hdf5Content:
    parts = read_strings(file, "taomagic")
    if not parts:
        return Hdf5Content(read_keras(file, path), {}, None, read_input_shape(file))
    description = json.loads("".join(parts))
    weights = {name: from_keras(file[place], place) for name, place in description.pop("places").items()}
    optimizer: dict[str, Tensor] = {}

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            optimizer[name] = from_keras(item, name)

    if "optimizer_weights" in file:
        file["optimizer_weights"].visititems(collect)
    return Hdf5Content(weights, optimizer, description)


def _place(name: str, weights: Mapping[str, Tensor]) -> str:
    """Return where in the file the tensor of a state dict belongs."""
    module, _, leaf = name.rpartition(".")
    layer = keras_name(module) or module
    if f"{module}.running_mean" in weights:
        data_set = _TO_NORM.get(leaf)
    elif leaf == "weight":
        depthwise = weights[name].shape[1:2] == (1,) and ("dw" in layer or "depthwise" in layer)
        data_set = "depthwise_kernel:0" if depthwise else "kernel:0"
    else:
        data_set = "bias:0" if leaf == "bias" else None
    return f"model_weights/{layer}/{layer}/{data_set}" if layer and data_set else f"taomagic_state/{name}"


def _to_keras(tensor: Tensor, place: str) -> np.ndarray[Any, Any]:
    """Return the array as Keras stores it under the name ``place``."""
    array: np.ndarray[Any, Any] = tensor.detach().cpu().numpy()
    if place.endswith("depthwise_kernel:0"):
        array = array.transpose(2, 3, 0, 1)
    elif place.endswith("kernel:0"):
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return np.ascontiguousarray(array) if array.ndim else array


def _write_strings(owner: h5py.Group, name: str, strings: Iterable[str]) -> None:
    """Write a list of strings as Keras does: fixed-width bytes, in numbered parts where they are many."""
    encoded = [string.encode() for string in strings]
    width = max((len(string) for string in encoded), default=1)
    per_part = max(1, ATTRIBUTE_BYTES // max(1, width))
    if len(encoded) <= per_part:
        owner.attrs[name] = np.array(encoded, dtype=f"S{width}")
        return
    for number, start in enumerate(range(0, len(encoded), per_part)):
        owner.attrs[f"{name}{number}"] = np.array(encoded[start : start + per_part], dtype=f"S{width}")
