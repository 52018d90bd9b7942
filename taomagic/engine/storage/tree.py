"""Nested Python data with tensors in it, as JSON plus a flat table of tensors; no pickle.

An optimizer's ``state_dict()`` is such data: dictionaries with integer keys, tuples, numbers, ``None`` and
tensors. JSON alone would turn the keys into strings and the tuples into lists.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def flatten(value: Any, tensors: dict[str, Tensor], prefix: str) -> Any:
    """Return ``value`` as JSON data, and put its tensors into ``tensors``.

    Parameters
    ----------
    value
        Nested dictionaries, lists, tuples, tensors, numbers, strings, booleans and ``None``.
    tensors
        Gets the tensors, on the CPU and contiguous, under names that begin with ``prefix``.
    prefix
        The path so far.

    Raises
    ------
    TypeError
        For anything else: a model file holds data, never objects.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Tensor):
        name = f"{prefix}/{len(tensors)}"
        tensors[name] = value.detach().cpu().contiguous()
        # The layout in memory is kept, because some kernels are much faster on the one that training chose.
        channels_last = not value.is_contiguous() and value.is_contiguous(memory_format=torch.channels_last)
        return {"tensor": name, "channels_last": True} if channels_last else {"tensor": name}
    if isinstance(value, dict):
        return {"items": [[_plain_key(k), flatten(v, tensors, prefix)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [flatten(v, tensors, prefix) for v in value]}
    if isinstance(value, list):
        return [flatten(v, tensors, prefix) for v in value]
    raise TypeError(f"a model file can't hold {type(value).__name__} objects")


def unflatten(node: Any, tensors: dict[str, Tensor]) -> Any:
    """Return what :func:`flatten` was given.

    Parameters
    ----------
    node
        JSON data from :func:`flatten`.
    tensors
        The tensors by name.
    """
    if isinstance(node, list):
        return [unflatten(v, tensors) for v in node]
    if not isinstance(node, dict):
        return node
    if "items" in node:
        return {k: unflatten(v, tensors) for k, v in node["items"]}
    if "tuple" in node:
        return tuple(unflatten(v, tensors) for v in node["tuple"])
    tensor = tensors[node["tensor"]]
    return tensor.contiguous(memory_format=torch.channels_last) if node.get("channels_last") else tensor


def _plain_key(key: Any) -> int | str:
    if not isinstance(key, int | str) or isinstance(key, bool):
        raise TypeError(f"a model file can't hold {type(key).__name__} keys")
    return key
