"""The outputs of an exported SSD: their names, and how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

#: Outputs of NVIDIA's node, and of the standard operators in its place.
DETECTIONS: Final = "NMS"
COUNTS: Final = "NMS_1"
#: Columns of a detection: image, class, confidence, x1, y1, x2, y2.
ROW: Final = 7
#: Outputs of ``EfficientNMS_TRT``, under the names of its document.
EFFICIENT_OUTPUTS: Final = ("num_detections", "detection_boxes", "detection_scores", "detection_classes")

Rows = npt.NDArray[np.float32]


def rows_of(outputs: Mapping[str, npt.NDArray[Any]]) -> list[Rows]:
    """Return what was found in each image, whatever suppressed the rest.

    Parameters
    ----------
    outputs
        By name: ``NMS`` and ``NMS_1``, or those of ``EfficientNMS_TRT``.

    Returns
    -------
    list of numpy.ndarray
        For each image [D, 6] float32: class from 1, confidence, x1, y1, x2, y2 in shares of the image.

    Raises
    ------
    KeyError
        These are the outputs of something else.
    """
    if DETECTIONS in outputs:
        counts = outputs[COUNTS]
        if counts.dtype.kind == "f":
            # TensorRT's plugin writes the bits of an int32, and calls them float32.
            counts = np.ascontiguousarray(counts, np.float32).view(np.int32)
        rows = outputs[DETECTIONS].reshape(len(counts), -1, ROW)[:, :, 1:]
    else:
        counts, boxes, scores, classes = (outputs[name] for name in EFFICIENT_OUTPUTS)
        labelled = (classes[..., None], scores[..., None], boxes)
        rows = np.concatenate([part.astype(np.float32) for part in labelled], axis=2)
    return [found[:count] for found, count in zip(rows, counts.reshape(-1), strict=True)]
