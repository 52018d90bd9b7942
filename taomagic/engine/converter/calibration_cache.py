"""The files that hold the ranges of a network's tensors: TensorRT's calibration cache, and the scales of a QAT export.

A cache is text. Its first line names the release of TensorRT and the method; each line after it a tensor, and the bits
of its scale, a float32, in hexadecimal::

    TRT-8503-EntropyCalibration2
    Input: 3f9ad1f2

A scale is a 127th of the largest magnitude that has to survive. Here they are ranges: that magnitude itself.

The format has no room for the model that a cache was made for, and two trainings of one network have the same tensors.
So a hidden file beside a cache of ours names it. Without one, as with a cache of TensorRT's own, nobody knows.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from taomagic.engine.storage.atomic import atomic_write
from taomagic.errors import DataProblem

#: TensorRT 8.5.3, of TAO 5's deploy container. TensorRT reads caches of other releases; what counts is the method.
CACHE_VERSION: Final = 8503
_STEPS: Final = 127
_LONGEST_HEADER: Final = 200
_HEADER = re.compile(r"TRT-\d+-\w+Calibration\w*")
_HINT: Final = "Make a new one: leave the file out, and give images with --cal_image_dir or --cal_data_file."


def write_cache(
    path: Path, ranges: Mapping[str, float], *, version: int = CACHE_VERSION, model: str = ""
) -> None:
    """Write a calibration cache, completely or not at all.

    Whatever method found the ranges, the header says ``EntropyCalibration2``: NVIDIA's tools read caches with that
    calibrator, and it takes no other.

    Parameters
    ----------
    path
        The destination; replaced in one step.
    ranges
        Largest magnitude by tensor.
    version
        Release of TensorRT: major · 1000 + minor · 100 + patch.
    model
        Fingerprint of the model that it is made for, for :func:`made_for`.

    Raises
    ------
    EnvironmentProblem
        The disk is full or the folder can't be written.
    """
    content = cache_text(ranges, version=version).encode()
    with atomic_write(path) as file:
        file.write(content)
    if model:
        with atomic_write(_owner_file(path)) as file:
            file.write(json.dumps({"model": model, "cache": hashlib.sha256(content).hexdigest()}).encode())


def check_cache(path: Path, *, shown_as: str) -> None:
    """Check that a cache may be read from a path, or written to it: what lies there, if anything, is one.

    Without this a model whose name went to the wrong flag would be replaced.

    Raises
    ------
    DataProblem
        The path is a folder, or a file of something else.
    """
    if path.is_dir():
        raise _is_folder(shown_as)
    if path.is_file() and path.stat().st_size > 0:
        with path.open("rb") as file:
            first = file.readline(_LONGEST_HEADER)
        if not _HEADER.fullmatch(first.decode("latin-1").strip()):
            raise _no_cache(shown_as)


def made_for(path: Path) -> str:
    """Return the fingerprint of the model that a cache was made for; empty where nobody knows.

    Nobody knows it of a cache that another program wrote or changed, or that was copied alone.
    """
    try:
        owner = json.loads(_owner_file(path).read_bytes())
        known = owner["cache"] == hashlib.sha256(path.read_bytes()).hexdigest()
        return str(owner["model"]) if known else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _owner_file(path: Path) -> Path:
    return path.with_name(f".{path.name}.model.json")


def cache_text(ranges: Mapping[str, float], *, version: int = CACHE_VERSION) -> str:
    """Return the content of a calibration cache."""
    lines = [f"TRT-{version}-EntropyCalibration2"]
    lines += [f"{name}: {struct.pack('>f', limit / _STEPS).hex()}" for name, limit in ranges.items()]
    return "\n".join(lines) + "\n"


def as_stored(ranges: Mapping[str, float]) -> dict[str, float]:
    """Return ranges as they come back from a cache, so that an engine is the same without one."""
    return {
        name: struct.unpack(">f", struct.pack(">f", limit / _STEPS))[0] * _STEPS
        for name, limit in ranges.items()
    }


def read_cache(path: Path, *, shown_as: str = "") -> dict[str, float]:
    """Read a calibration cache, ours or one that TensorRT wrote.

    Returns
    -------
    dict of str to float
        Largest magnitude by tensor. Tensors without a scale (0) are left out, as TensorRT writes some.

    Raises
    ------
    DataProblem
        The file can't be read, or isn't a calibration cache.
    """
    place = shown_as or str(path)
    lines = _read(path, place).splitlines()
    if not lines or not _HEADER.fullmatch(lines[0].strip()):
        raise _no_cache(place)
    ranges: dict[str, float] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        # Names of tensors have colons themselves: output_cov/Sigmoid:0
        name, colon, digits = line.rpartition(":")
        digits = digits.strip()
        if not colon or not name.strip() or not re.fullmatch(r"[0-9a-fA-F]{1,8}", digits):
            raise DataProblem(
                f"this line isn't `tensor: scale in hexadecimal`: {line[:80]!r}",
                where=f"{place}:{number}",
                hint=_HINT,
            )
        (scale,) = struct.unpack(">f", bytes.fromhex(digits.zfill(8)))
        if not (math.isfinite(scale) and scale >= 0):
            raise DataProblem(
                f"the scale of {name.strip()} is {scale}", where=f"{place}:{number}", hint=_HINT
            )
        if scale > 0:
            ranges[name.strip()] = scale * _STEPS
    return ranges


def read_scales(path: Path, *, shown_as: str = "") -> dict[str, float]:
    """Read ``--cal_json_file``: what a network that was trained with ``enable_qat`` learned about its tensors.

    Returns
    -------
    dict of str to float
        Largest magnitude by tensor.

    Raises
    ------
    DataProblem
        The file can't be read, or isn't such a file.
    """
    place = shown_as or str(path)
    text = _read(path, place)
    hint = "It is the file that export writes with --cal_json_file for a model trained with enable_qat: true."
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DataProblem(f"this isn't JSON: {error}", where=place, hint=hint) from None
    scales = content.get("tensor_scales") if isinstance(content, dict) else None
    if not isinstance(scales, dict) or not scales:
        raise DataProblem('the file has no "tensor_scales"', where=place, hint=hint)
    ranges = {}
    for name, value in scales.items():
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not (number and math.isfinite(value) and value > 0):
            raise DataProblem(
                f"the scale of {name} is {value!r}, and must be a number above 0", where=place, hint=hint
            )
        ranges[str(name)] = float(value)
    return ranges


def _read(path: Path, place: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataProblem("there is no such file", where=place, hint="Check the path.") from None
    except UnicodeDecodeError:
        raise DataProblem("this isn't a text file", where=place, hint=_HINT) from None
    except IsADirectoryError:
        raise _is_folder(place) from None


def _no_cache(place: str) -> DataProblem:
    return DataProblem(
        "this isn't a calibration cache: its first line must be like TRT-8503-EntropyCalibration2",
        where=place,
        hint=_HINT,
    )


def _is_folder(place: str) -> DataProblem:
    return DataProblem("this is a folder, not a file", where=place, hint="Add the file's name.")
