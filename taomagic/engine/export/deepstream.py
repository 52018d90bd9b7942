"""The files that DeepStream's ``nvinfer`` wants beside an exported model: ``nvinfer_config.txt`` and ``labels.txt``."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taomagic.engine.storage.atomic import atomic_write

logger = logging.getLogger(__name__)

#: ``network-mode`` of nvinfer.
_NETWORK_MODES = {"fp32": 0, "int8": 1, "fp16": 2}
#: ``model-color-format`` of nvinfer.
_COLOUR_FORMATS = {"RGB": 0, "BGR": 1, "grey": 2}


@dataclass(frozen=True)
class DeepStreamModel:
    """What DeepStream has to know about a model.

    Attributes
    ----------
    input_shape
        Channels, height and width.
    scale, mean
        What the network sees is ``scale · (level - mean)``, with a mean for each channel in ``colours``' order.
    colours
        Order of the channels.
    labels
        Lines of ``labels.txt``: the names of the network's classes by number, the background among them where the
        network has one.
    outputs
        Names of the output tensors.
    settings
        Further lines for nvinfer's ``[property]`` group: how the outputs are read and clustered.
    notes
        Comments at the end: what nvinfer can't take from this file alone.
    """

    input_shape: tuple[int, int, int]
    scale: float
    mean: tuple[float, ...]
    colours: Literal["RGB", "BGR", "grey"]
    labels: Sequence[str]
    outputs: Sequence[str]
    settings: Sequence[str] = ()
    notes: Sequence[str] = ()


def write_deepstream_files(
    target: str | Path,
    model: DeepStreamModel,
    *,
    codec: Literal["taomagic", "nvidia"] = "taomagic",
    data_type: str = "fp32",
    calibration: Path | None = None,
) -> tuple[Path, Path]:
    """Write ``nvinfer_config.txt`` and ``labels.txt`` into the folder of an exported model.

    Parameters
    ----------
    target
        The exported model.
    model
        What the files have to say.
    codec
        How an ``.etlt`` is encrypted. The key isn't written: files like these are shared.
    data_type
        Precision of the engine that nvinfer shall build.
    calibration
        The calibration cache, for ``int8``.

    Returns
    -------
    tuple of Path
        The two files.

    Raises
    ------
    EnvironmentProblem
        The folder can't be written.
    """
    folder = Path(target).parent
    config, labels = folder / "nvinfer_config.txt", folder / "labels.txt"
    with atomic_write(labels) as file:
        file.write("".join(f"{name}\n" for name in model.labels).encode())
    with atomic_write(config) as file:
        lines = [*_model_file(Path(target), codec), *_precision(data_type, calibration, folder)]
        file.write(_config(lines, model).encode())
    return config, labels


def _model_file(target: Path, codec: str) -> list[str]:
    """Return the lines that name the model."""
    if target.suffix != ".etlt":
        return [f"onnx-file={target.name}"]
    if codec == "nvidia":
        return [
            f"tlt-encoded-model={target.name}",
            "# Add the key, which is written nowhere: tlt-model-key=…",
        ]
    plain = target.with_suffix(".onnx").name
    logger.warning(
        "DeepStream can't open %s, which only taomagic decrypts: nvinfer_config.txt names no model. Export to %s for "
        "it.",
        target.name,
        plain,
    )
    return [
        f"# nvinfer can't open {target.name}, which only taomagic decrypts. Export to {plain}, and then add:",
        f"# onnx-file={plain}",
    ]


def _precision(data_type: str, calibration: Path | None, folder: Path) -> list[str]:
    """Return the lines that choose a precision; nvinfer's own choice is float32."""
    if data_type == "fp32":
        return []
    mode = f"network-mode={_NETWORK_MODES[data_type]}"
    if data_type != "int8":
        return [mode]
    if calibration is None:
        return [f"# For int8 nvinfer needs a calibration cache: {mode} and int8-calib-file=…"]
    # nvinfer looks for relative paths from the folder of its configuration.
    return [mode, f"int8-calib-file={os.path.relpath(calibration, folder)}"]


def _config(lines: Sequence[str], model: DeepStreamModel) -> str:
    lines = [
        "# For the [property] group of nvinfer's configuration.",
        *lines,
        f"net-scale-factor={model.scale!r}",
        f"offsets={';'.join(f'{value}' for value in model.mean)}",
        f"infer-dims={';'.join(map(str, model.input_shape))}",
        "network-type=0",
        f"num-detected-classes={len(model.labels)}",
        "labelfile-path=labels.txt",
        f"output-blob-names={';'.join(model.outputs)}",
        f"model-color-format={_COLOUR_FORMATS[model.colours]}",
        "maintain-aspect-ratio=0",
        "output-tensor-meta=0",
        *model.settings,
        *(f"# {note}" for note in model.notes),
    ]
    return "\n".join(lines) + "\n"
