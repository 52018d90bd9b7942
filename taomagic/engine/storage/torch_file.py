"""Weights that PyTorch programs saved: ``.pth``, ``.pt`` and ``.safetensors`` files, read without running code.

A ``.pth`` is a pickle, and a pickle can run any code when it is read. So PyTorch's restricted reader is used, which
builds tensors and plain containers and nothing else. Files that need more, such as a whole module that was pickled, are
refused.
"""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from taomagic.engine.storage.foreign import Form, describe
from taomagic.engine.storage.header import form_of_file
from taomagic.errors import ModelFileProblem

#: What such a file can be, by its first bytes.
STATE_DICT_FORMS = (Form.TORCH, Form.ZIP, Form.SAFETENSORS)
#: Under these names programs keep the state dict of the network in a larger checkpoint; the first that is there counts.
WRAPPERS = ("state_dict", "model_state_dict", "model", "net")

_SAVE_WEIGHTS = (
    "In the program that made it, write the weights alone: torch.save(model.state_dict(), 'weights.pth'), "
    "or safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
)
_GLOBAL = re.compile(r"GLOBAL ([A-Za-z_][\w.]*)")
_REASON = re.compile(r"WeightsUnpickler error: (.*)")
_PLACE = re.compile(r"\[enforce fail at [^]]*\]\s*\.?")


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Return the tensors of a state dict, by name, on the CPU.

    Parameters
    ----------
    path
        What ``torch.save`` or safetensors wrote: a state dict, or a dictionary that has one under one of
        :data:`WRAPPERS`. Entries that aren't plain tensors are left out.

    Returns
    -------
    dict of str to Tensor
        In the order of the file, not copied where a copy isn't needed.

    Raises
    ------
    ModelFileProblem
        The file is missing, isn't one of these, is cut short or damaged, holds a program (a pickled module or
        TorchScript), or no tensors.
    """
    path = Path(path)
    form = form_of_file(path)
    if form is Form.SAFETENSORS:
        content: Any = _read_safetensors(path)
    elif form in STATE_DICT_FORMS:
        content = _read_pickle(path)
    else:
        what, hint = describe(form)
        raise ModelFileProblem(
            f"this is not a file of weights from PyTorch: {what}", hint=hint, where=str(path)
        )
    tensors = {name: value for name, value in _unwrap(content).items() if _is_plain(value)}
    if not tensors:
        found = f"a {type(content).__name__}"
        if isinstance(content, Mapping):
            names = ", ".join(str(name) for name in list(content)[:6])
            found = f"a dictionary of {names}" if names else "an empty dictionary"
        raise ModelFileProblem(
            f"the file holds no weights by name, but {found}", hint=_SAVE_WEIGHTS, where=str(path)
        )
    return tensors


def _unwrap(content: Any) -> dict[str, Any]:
    """Return the innermost state dict of a checkpoint; names that aren't texts are left out."""
    for _ in range(3):
        inner = next(
            (content[name] for name in WRAPPERS if _is_mapping(content) and _is_mapping(content.get(name))),
            None,
        )
        if inner is None:
            break
        content = inner
    if not _is_mapping(content):
        return {}
    return {name: value for name, value in content.items() if isinstance(name, str)}


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_plain(value: Any) -> bool:
    """Return whether this is a tensor of numbers that lie in memory: not sparse, quantised or without content."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.device.type == "cpu"
        and not (value.is_quantized or value.is_complex())
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # about TorchScript and pickle protocols: what they lead to is said below
            # torchvision's training scripts put their arguments beside the weights; a Namespace only holds values.
            with torch.serialization.safe_globals([argparse.Namespace]):
                return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from None
    except MemoryError:
        raise
    except Exception as error:
        if "TorchScript" in str(error):
            raise ModelFileProblem(
                "the file holds a TorchScript program, and reading it would run code from it",
                hint=_SAVE_WEIGHTS,
                where=str(path),
            ) from None
        # On damaged bytes PyTorch's reader raises whatever its code happens to meet.
        raise _damaged(path, error) from error


def _refused(path: Path, error: pickle.UnpicklingError) -> ModelFileProblem:
    """Return the error for a pickle that the restricted reader would not read."""
    found = _GLOBAL.search(str(error))
    if found is None:
        return _damaged(path, error)
    return ModelFileProblem(
        f"the file holds a pickled object of {found[1]}, and reading it would run code from it",
        hint=_SAVE_WEIGHTS,
        where=str(path),
    )


def _damaged(path: Path, error: BaseException) -> ModelFileProblem:
    # Some messages go on for lines with advice that doesn't fit here.
    found = _REASON.search(str(error))
    text = _PLACE.sub("", found[1] if found else str(error)).strip()
    reason = text.splitlines()[0].split(". ")[0][:160] if text else type(error).__name__
    return ModelFileProblem(
        f"the file of weights is cut short or damaged, or isn't one ({reason})",
        hint="Copy or download it again.",
        where=str(path),
    )
