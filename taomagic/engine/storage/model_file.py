"""What taomagic keeps of a model, and the files it keeps it in.

=========  ==================================================  =========
suffix     content                                             key
=========  ==================================================  =========
``.tlt``   weights, optimizer and description, encrypted       needed
``.hdf5``  the same in Keras' layout, plain                    ignored
``.etlt``  an exported ONNX model, encrypted                   needed
``.onnx``  an exported ONNX model, plain                       ignored
=========  ==================================================  =========

Where NVIDIA's package for it is installed, files in NVIDIA's own encryption are read as well, and an ``.etlt`` can be
written in it (:mod:`.nvidia_codec`).

Inside a ``.tlt`` is a safetensors file: tensors and JSON. Nothing here can run code on loading.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from taomagic import __version__
from taomagic.engine.storage import nvidia_codec
from taomagic.engine.storage.atomic import atomic_write
from taomagic.engine.storage.container import read_container, write_container
from taomagic.engine.storage.foreign import Form, describe_foreign, looks_like_onnx
from taomagic.engine.storage.hdf5 import Hdf5Content, read_hdf5, write_hdf5
from taomagic.engine.storage.header import Kind, form_of_file, open_model_file
from taomagic.engine.storage.tree import flatten, unflatten
from taomagic.errors import ModelFileProblem

#: Version of the description; raised when an older taomagic could no longer read it.
FORMAT = 1
MODEL_SUFFIXES = (".tlt", ".hdf5")
EXPORT_SUFFIXES = (".etlt", ".onnx")


@dataclass
class ModelFile:
    """A model as it lies on disk.

    Attributes
    ----------
    architecture
        JSON data from which the network can be built (``Architecture.to_json()``); ``None`` in a file that
        taomagic didn't write.
    weights
        The network's ``state_dict()``, on the CPU. Without an architecture: by Keras layer name, e.g.
        ``block_1a_conv_1.weight``, in PyTorch's axis order.
    epoch
        The last complete epoch, 1-based; 0 before training.
    optimizer
        The optimizer's ``state_dict()``: tensors and plain values. ``None`` where training doesn't go on.
    extra
        Any other JSON data. A file that Keras wrote may tell the ``input_shape`` [channels, height, width] here.
    """

    architecture: dict[str, Any] | None
    weights: dict[str, Tensor]
    epoch: int = 0
    optimizer: dict[str, Any] | None = None
    extra: dict[str, Any] = field(default_factory=dict)


def save_model(path: str | Path, model: ModelFile, key: str = "") -> None:
    """Write a model file, completely or not at all. The suffix chooses the form.

    Parameters
    ----------
    path
        ``….tlt`` (encrypted) or ``….hdf5`` (plain, in Keras' layout).
    model
        What to write. Everything comes back bit for bit.
    key
        For ``.tlt``.

    Raises
    ------
    ModelFileProblem
        An unknown suffix, or an empty key for ``.tlt``.
    EnvironmentProblem
        The disk is full or the folder can't be written; no half file is left.
    TypeError
        The optimizer or ``extra`` hold something other than tensors and plain values.
    """
    suffix = _suffix(path, MODEL_SUFFIXES)
    tensors: dict[str, Tensor] = {}
    description = {
        "format": FORMAT,
        "written_by": f"taomagic {__version__}",
        "architecture": model.architecture,
        "epoch": model.epoch,
        "optimizer": flatten(model.optimizer, tensors, "optimizer"),
        "extra": model.extra,
        "weight_order": list(model.weights),
    }
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.weights.items()}
    if suffix == ".hdf5":
        write_hdf5(path, Hdf5Content(weights, tensors, description))
        return
    tensors.update({f"weights/{name}": tensor for name, tensor in weights.items()})
    payload = safetensors.torch.save(tensors, metadata={"taomagic": json.dumps(description)})
    write_container(path, Kind.CHECKPOINT, key, payload)


def load_model(path: str | Path, key: str = "", *, by_content: bool = False) -> ModelFile:
    """Read a model file. The suffix says which form it has.

    Parameters
    ----------
    path
        ``….tlt`` or ``….hdf5``, the latter also from NGC or TAO 5.
    key
        For ``.tlt``.
    by_content
        Take any name, and let the first bytes say which form it is.

    Raises
    ------
    ModelFileProblem
        An unknown suffix; a missing, foreign, cut or damaged file; an empty or a wrong key.
    """
    plain = form_of_file(Path(path)) is Form.HDF5 if by_content else _suffix(path, MODEL_SUFFIXES) == ".hdf5"
    if plain or nvidia_codec.reads(path):
        content = read_hdf5(path, None if plain else nvidia_codec.read_tlt(path, key))
        if content.description is None:
            extra = {} if content.input_shape is None else {"input_shape": list(content.input_shape)}
            return ModelFile(architecture=None, weights=content.weights, extra=extra)
        return _model(path, content.description, content.weights, content.optimizer)
    payload = read_container(path, Kind.CHECKPOINT, key)
    stored = safetensors.torch.load(payload)
    weights = {n.removeprefix("weights/"): tensor for n, tensor in stored.items() if n.startswith("weights/")}
    tensors = {name: tensor for name, tensor in stored.items() if not name.startswith("weights/")}
    return _model(path, _safetensors_metadata(payload), weights, tensors)


def _model(
    path: str | Path, description: dict[str, Any], weights: dict[str, Tensor], tensors: dict[str, Tensor]
) -> ModelFile:
    """Put together what a file holds; the plain form can be edited by anybody, so its description may be anything."""
    try:
        architecture = description["architecture"]
        if description["format"] > FORMAT:
            raise ModelFileProblem(
                f"the file was written by a newer version ({description['written_by']}; this is {__version__})",
                hint="Upgrade taomagic: pip install --upgrade taomagic",
                where=str(path),
            )
        return ModelFile(
            architecture=None if architecture is None else dict(architecture),
            # safetensors sorts tensors by type and name; the network's own order is that of its layers.
            weights={name: weights[name] for name in description["weight_order"]},
            epoch=description["epoch"],
            optimizer=unflatten(description["optimizer"], tensors),
            extra=description["extra"],
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileProblem(
            f"the file's description of its model is damaged ({type(error).__name__}: {error})",
            hint="Copy the file again, or use the checkpoint of an earlier epoch.",
            where=str(path),
        ) from error


def write_onnx(path: str | Path, model: bytes, key: str = "") -> None:
    """Write an exported model, completely or not at all.

    Parameters
    ----------
    path
        ``….etlt`` (encrypted) or ``….onnx`` (plain).
    model
        The serialised ONNX model.
    key
        For ``.etlt``.

    Raises
    ------
    ModelFileProblem
        An unknown suffix, or an empty key for ``.etlt``.
    EnvironmentProblem
        The disk is full or the folder can't be written.
    """
    if _suffix(path, EXPORT_SUFFIXES) == ".etlt":
        write_container(path, Kind.ONNX, key, model)
        return
    with atomic_write(path) as file:
        file.write(model)


def read_onnx(path: str | Path, key: str = "") -> bytes:
    """Return the serialised ONNX model of an exported file.

    Parameters
    ----------
    path
        ``….etlt`` or ``….onnx``.
    key
        For ``.etlt``.

    Raises
    ------
    ModelFileProblem
        An unknown suffix; a missing, foreign, cut or damaged file; an empty or a wrong key.
    """
    if _suffix(path, EXPORT_SUFFIXES) == ".etlt":
        if nvidia_codec.reads(path):
            return nvidia_codec.read_etlt(path, key)
        return read_container(path, Kind.ONNX, key)
    with open_model_file(Path(path)) as file:
        model = file.read()
    if not looks_like_onnx(model[:32]):
        what, hint = describe_foreign(model[:32])
        raise ModelFileProblem(f"this is not an ONNX model: {what}", hint=hint, where=str(path))
    return model


def file_fingerprint(path: str | Path, *, shown_as: str = "") -> str:
    """Return the SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Parameters
    ----------
    path
        The file.
    shown_as
        Its path as the person wrote it, for errors.

    Raises
    ------
    ModelFileProblem
        The file is missing or can't be opened.
    """
    try:
        with open_model_file(Path(path)) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except ModelFileProblem as problem:
        problem.where = shown_as or problem.where
        raise


def _suffix(path: str | Path, valid: tuple[str, ...]) -> str:
    suffix = Path(path).suffix.lower()
    if suffix in valid:
        return suffix
    if suffix == ".h5":
        hint = "Rename the file to .hdf5; as with TAO, .h5 is not a name for model files."
    elif suffix in MODEL_SUFFIXES + EXPORT_SUFFIXES:
        hint = "Checkpoints are .tlt or .hdf5 files, exported models .etlt or .onnx files."
    else:
        hint = f"Use a name that ends in {valid[0]} (encrypted) or {valid[1]} (plain)."
    raise ModelFileProblem(
        f"the name ends in {suffix or 'no suffix'}, and {' or '.join(valid)} is expected here",
        hint=hint,
        where=str(path),
    )


def _safetensors_metadata(payload: bytes) -> dict[str, Any]:
    """Return our description. A safetensors file begins with its JSON header, and that with its length."""
    length = int.from_bytes(payload[:8], "little")
    header = json.loads(payload[8 : 8 + length])
    description: dict[str, Any] = json.loads(header["__metadata__"]["taomagic"])
    return description
