"""Calibration tensor files: batches of a network's input, from which an INT8 engine learns the ranges of its layers.

::

    /                attribute `count`: the number of batches
    /batch_00000     a group for each batch, numbered from 0 in five digits or more
      /input_1       float32 [N, C, H, W] as the network takes it, packed with gzip

``count`` and the packed group for each batch are those of NVIDIA's files (section 4.3 of the reference), whose names of
groups and data sets aren't documented. So the reader takes any names: the groups in the order of their numbers, and in
each the one data set of four dimensions; data sets that lie at the root count as batches too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from taomagic.engine.storage.atomic import atomic_write
from taomagic.errors import DataProblem

__all__ = ["INPUT", "read_batches", "read_count", "write_batches"]

#: Name of the data set in each batch: the network's input.
INPUT = "input_1"
_COUNT = "count"
_HINT = "calibration_tensorfile writes such files; write this one again."


def write_batches(
    path: Path, batches: Iterable[NDArray[np.float32]], *, name: str = INPUT, shown_as: str | None = None
) -> int:
    """Write a new file; it appears only when it is complete.

    Parameters
    ----------
    path
        The file on this machine; its folder is made.
    batches
        ``[N, C, H, W]`` float32 each, all alike but for N.
    name
        What the network calls its input.
    shown_as
        The file's name in messages.

    Returns
    -------
    The number of batches written.

    Raises
    ------
    DataProblem
        The file exists already, or there is no batch.
    EnvironmentProblem
        The disk is full, or the folder can't be written.
    ValueError
        A batch isn't of four dimensions, or of another shape than the first.
    """
    shown = shown_as or str(path)
    check_is_new(path, shown)
    count = 0
    shape: tuple[int, ...] | None = None
    with atomic_write(path) as stream:
        with h5py.File(stream, "w") as file:
            for batch in batches:
                if batch.ndim != 4 or batch.shape[1:] != (shape or batch.shape[1:]):
                    raise ValueError(f"batch {count} has the shape {batch.shape} after {shape}")
                shape = batch.shape[1:]
                group = file.create_group(f"batch_{count:05d}")
                # A chunk an image: the packer works on a few megabytes at a time, whatever the batch.
                group.create_dataset(
                    name,
                    data=np.ascontiguousarray(batch, np.float32),
                    chunks=(1, *shape),
                    compression="gzip",
                    shuffle=True,
                )
                count += 1
            file.attrs[_COUNT] = count
        if not count:
            raise DataProblem("there is no batch to write", where=shown, hint="Look at the data set.")
    return count


def check_is_new(path: Path, shown: str) -> None:
    """Raise DataProblem where a file of that name exists: as in TAO, none is overwritten."""
    if path.exists():
        raise DataProblem(
            "the tensor file exists already", where=shown, hint="Remove it, or choose another name with -o."
        )


def read_count(path: Path, *, shown_as: str | None = None) -> int:
    """Return how many batches a file has; raises as :func:`read_batches`."""
    shown = shown_as or str(path)
    with _opened(path, shown) as file:
        return len(_batches(file, shown))


@contextmanager
def _damage_named(shown: str) -> Iterator[None]:
    """Turn what h5py raises for bytes that it can't follow into one error."""
    try:
        yield
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise DataProblem("the tensor file is damaged", where=shown, hint=_HINT) from error


def read_batches(path: Path, *, shown_as: str | None = None) -> Iterator[NDArray[np.float32]]:
    """Yield the batches of a file in order, ``[N, C, H, W]`` float32 each.

    Parameters
    ----------
    path
        The file on this machine.
    shown_as
        Its name in messages.

    Raises
    ------
    DataProblem
        The file is missing, damaged, incomplete, or something else.
    """
    shown = shown_as or str(path)
    with _opened(path, shown) as file:
        for name, data in _batches(file, shown):
            with _damage_named(shown):
                batch = np.asarray(data[()], np.float32)
            if not np.isfinite(batch).all():
                raise DataProblem(
                    f"{name} of the tensor file has values that are no numbers", where=shown, hint=_HINT
                )
            yield batch


def _opened(path: Path, shown: str) -> h5py.File:
    """Open a file for reading."""
    try:
        return h5py.File(path, "r")
    except FileNotFoundError:
        raise DataProblem(
            "the tensor file doesn't exist",
            where=shown,
            hint="`detectnet_v2 calibration_tensorfile` writes one from the training images.",
        ) from None
    except OSError as error:
        raise DataProblem("the tensor file isn't HDF5, or is damaged", where=shown, hint=_HINT) from error


def _batches(file: h5py.File, shown: str) -> list[tuple[str, Any]]:
    """Return (name, data set) of every batch, in order."""
    found = []
    with _damage_named(shown):
        contents = [
            (name, [file[name]] if isinstance(file[name], h5py.Dataset) else list(file[name].values()))
            for name in sorted(file, key=_number)
        ]
        count = file.attrs.get(_COUNT)
        count = None if count is None else int(count)
    for name, data in contents:
        inputs = [one for one in data if isinstance(one, h5py.Dataset) and one.ndim == 4 and one.size]
        if len(inputs) != 1:
            what = "no data set" if not inputs else f"{len(inputs)} data sets"
            raise DataProblem(
                f"{name} of the tensor file has {what} of four dimensions", where=shown, hint=_HINT
            )
        found.append((name, inputs[0]))
    if not found or (count is not None and count != len(found)):
        raise DataProblem(
            f"the tensor file has {len(found)} batches{'' if count is None else f' and says {count}'}",
            where=shown,
            hint=_HINT,
        )
    return found


def _number(name: str) -> tuple[int, str]:
    """Return what a name is sorted by: the last number in it."""
    numbers = re.findall(r"\d+", name)
    return (int(numbers[-1]) if numbers else -1), name
