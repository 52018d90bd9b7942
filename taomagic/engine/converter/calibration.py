"""Calibration: the ranges of a network's tensors, from images like those it will see."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from taomagic.engine.converter.graph import tensors_to_calibrate
from taomagic.engine.converter.histograms import Histogram, Method
from taomagic.engine.converter.runtime import open_session
from taomagic.errors import DataProblem

logger = logging.getLogger(__name__)


def calibrate(
    model: onnx.ModelProto,
    batches: Iterable[npt.NDArray[np.float32]],
    *,
    input_name: str,
    method: Method = "entropy",
    batch: int | None = None,
    shown_as: str = "",
) -> dict[str, float]:
    """Return the range of each tensor that an int8 engine stores.

    The images go through the network one by one (or as many as it takes at once): the activations of one image of a
    large network take hundreds of megabytes.

    Parameters
    ----------
    model
        In float32; not changed.
    batches
        Preprocessed images, [N, C, H, W] float32 each; N may vary.
    input_name
        The input that takes them.
    method
        ``entropy``, ``minmax`` or ``percentile``.
    batch
        Batch size of a model that takes no other one.
    shown_as
        Where the images come from, for messages.

    Returns
    -------
    dict of str to float
        Largest magnitude to keep, by tensor, in the order of the network.

    Raises
    ------
    DataProblem
        There are no images, they have another shape, or a tensor has values that aren't finite.
    """
    names = tensors_to_calibrate(model)
    watched = _with_outputs(model, [name for name in names if name != input_name])
    session = open_session(watched.SerializeToString(), shown_as=shown_as)
    wanted = [entry.name for entry in session.get_outputs() if entry.name in set(names)]
    inputs = {entry.name: entry.shape for entry in session.get_inputs()}
    if len(inputs) > 1:
        raise DataProblem(
            f"the model wants more than images ({', '.join(name for name in inputs if name != input_name)}), so it "
            "can't be calibrated here",
            where=shown_as,
            hint="Give a finished cache with --cal_cache_file, or build fp32 or fp16.",
        )
    shape = [size if isinstance(size, int) and size > 0 else None for size in inputs[input_name][1:]]
    histograms = {name: Histogram() for name in names}
    count = 0
    for images in batches:
        _check(images, shape, shown_as)
        for start in range(0, len(images), batch or 1):
            part = images[start : start + (batch or 1)]
            if (
                batch and len(part) < batch
            ):  # fill up with images that have been there: zeros would be counted
                part = np.concatenate([part, np.resize(images, (batch - len(part), *images.shape[1:]))])
            values = dict(
                zip(wanted, session.run(wanted, {input_name: np.ascontiguousarray(part)}), strict=True)
            )
            values[input_name] = part
            _count(values, histograms, shown_as)
            count += len(part)
    if not count:
        raise DataProblem(
            "there are no images for the calibration", where=shown_as, hint="Give at least one."
        )
    logger.info("Calibrated %d tensors with %d images (%s).", len(histograms), count, method)
    return {name: histogram.range(method) for name, histogram in histograms.items() if histogram.largest > 0}


def _count(
    values: Mapping[str, npt.NDArray[Any]], histograms: Mapping[str, Histogram], shown_as: str
) -> None:
    for name, histogram in histograms.items():
        try:
            histogram.add(values[name])
        except ValueError:
            raise DataProblem(
                f"the tensor {name} has values that aren't finite",
                where=shown_as,
                hint="Check that the images are preprocessed as the network's training did it.",
            ) from None


def _with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """Return a copy that also returns these tensors."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in copy.graph.output}
    for name in names:
        if name not in present:
            copy.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return copy


def _check(images: npt.NDArray[np.float32], shape: list[int | None], shown_as: str) -> None:
    fits = images.ndim == len(shape) + 1 and all(
        size is None or size == mine for size, mine in zip(shape, images.shape[1:], strict=True)
    )
    if not fits:
        wanted = " × ".join("any" if size is None else str(size) for size in shape)
        given = " × ".join(map(str, images.shape[1:]))
        raise DataProblem(
            f"the images are {given}, and the model's input is {wanted}",
            where=shown_as,
            hint="Make the calibration data with the spec that the model was exported with.",
        )
