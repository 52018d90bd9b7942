"""KITTI's calibration files: how a laser scanner's points are seen by the camera.

Source: the development kit of KITTI's object detection benchmark (``devkit_object/readme.txt``, "Calibration file").
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from taomagic.engine.data.decoding import read_file
from taomagic.errors import DataProblem

#: The matrices that are needed, with their rows and columns: the left colour camera's projection, the rotation that
#: makes all cameras' images parallel, and the scanner's place as camera 0 sees it.
_SHAPES: Mapping[str, tuple[int, int]] = {"P2": (3, 4), "R0_rect": (3, 3), "Tr_velo_to_cam": (3, 4)}
_HINT = "A line is: a name, a colon, the numbers of the matrix row by row; P2, R0_rect and Tr_velo_to_cam are needed."


def read_calibration(
    path: str | Path, *, shown_as: str | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the maps from the scanner to the camera, and on to the image.

    Parameters
    ----------
    path
        The file on this machine.
    shown_as
        Its name in messages.

    Returns
    -------
    ``[4, 4]`` from homogeneous metres of the scanner to those of the rectified camera 0, in which the labels give
    places, and ``[3, 4]`` to homogeneous pixels of camera 2.

    Raises
    ------
    DataProblem
        The file is missing, or a matrix is missing or incomplete; says file and line.
    """
    shown = shown_as or str(path)
    try:
        lines = read_file(path).decode("utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataProblem(
            "the calibration file doesn't exist",
            where=shown,
            hint="Every image needs one of the same name; without calibrations_dir none is read.",
        ) from None
    except UnicodeDecodeError:
        raise DataProblem("the calibration file isn't text in UTF-8", where=shown, hint=_HINT) from None
    except OSError as error:
        raise DataProblem(
            f"the calibration file can't be read: {error.strerror}", where=shown, hint=_HINT
        ) from error
    found: dict[str, NDArray[np.float64]] = {}
    for number, line in enumerate(lines, 1):
        name, _, values = line.partition(":")
        if name.strip() in _SHAPES:
            found[name.strip()] = _matrix(name.strip(), values, f"{shown}:{number}")
    for name in _SHAPES:
        if name not in found:
            raise DataProblem(f"the calibration file has no {name}", where=shown, hint=_HINT)
    to_camera = _square(found["R0_rect"]) @ _square(found["Tr_velo_to_cam"])
    return to_camera, found["P2"] @ to_camera


def _matrix(name: str, text: str, where: str) -> NDArray[np.float64]:
    """Return a matrix of its usual shape."""
    rows, columns = _SHAPES[name]
    try:
        values = list(map(float, text.split()))
    except ValueError:
        values = []
    if len(values) != rows * columns or not all(map(math.isfinite, values)):
        raise DataProblem(f"{name} isn't {rows * columns} numbers", where=where, hint=_HINT)
    return np.array(values).reshape(rows, columns)


def _square(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a rotation, or rotation and shift, as a map of homogeneous coordinates [4, 4]."""
    square = np.eye(4)
    square[: matrix.shape[0], : matrix.shape[1]] = matrix
    return square
