"""What a training needs to go on, in a file beside the model: TAO's ``.ckzip``, a zip archive.

NVIDIA's holds TensorFlow's checkpoint, ``model.ckpt-<step>.*``. Ours has members of the same names, with other content:
``.json`` describes the state of the optimiser and whatever else changes, and ``.safetensors`` has its tensors. The
weights lie in the model file, which so stays as small as the final model.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from taomagic import __version__
from taomagic.engine.storage.atomic import atomic_write
from taomagic.engine.storage.header import open_model_file
from taomagic.engine.storage.tree import flatten, unflatten
from taomagic.errors import ModelFileProblem

SUFFIX = ".ckzip"
#: Version of the description; raised when an older taomagic could no longer read it.
_FORMAT = 1


def write_state(path: Path, state: Mapping[str, Any], *, step: int, epoch: int) -> None:
    """Write a state, completely or not at all.

    Parameters
    ----------
    path
        ``….ckzip``.
    state
        From :func:`taomagic.engine.training.state.collect`.
    step, epoch
        How many of them are done.

    Raises
    ------
    EnvironmentProblem
        The disk is full or the folder can't be written.
    """
    tensors: dict[str, Tensor] = {}
    description = {
        "format": _FORMAT,
        "written_by": f"taomagic {__version__}",
        "epoch": epoch,
        "step": step,
        "state": flatten(dict(state), tensors, "state"),
    }
    # Moments of gradients can't be compressed.
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        name = f"model.ckpt-{step}"
        archive.writestr(f"{name}.json", json.dumps(description))
        archive.writestr(f"{name}.safetensors", safetensors.torch.save(tensors))


def read_state(path: Path) -> dict[str, Any]:
    """Return what :func:`write_state` wrote.

    Raises
    ------
    ModelFileProblem
        The file is missing, cut, damaged, or NVIDIA's.
    """
    try:
        with open_model_file(path) as file, zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            described = [name for name in names if name.endswith(".json")]
            if not described:
                raise ModelFileProblem(
                    "this .ckzip holds no state of a training by taomagic",
                    where=str(path),
                    hint="A training that NVIDIA's container began can't go on here; its model can be the "
                    "pretrained_model_file of a new one.",
                )
            description = json.loads(archive.read(described[0]))
            stored = archive.read(described[0].removesuffix(".json") + ".safetensors")
        state: dict[str, Any] = unflatten(description["state"], safetensors.torch.load(stored))
    except (
        zipfile.BadZipFile,
        safetensors.SafetensorError,
        LookupError,
        ValueError,
        TypeError,
        EOFError,
        RuntimeError,  # of zipfile for members that are encrypted or packed by an unknown method
        zlib.error,
    ) as error:
        raise ModelFileProblem(
            f"the state of the training is damaged ({type(error).__name__}: {error})",
            where=str(path),
            hint="Remove it: the training then goes on from the checkpoint before it.",
        ) from error
    return state
