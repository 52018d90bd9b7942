"""The files that DeepStream's ``nvinfer`` wants beside an exported model: ``nvinfer_config.txt`` and ``labels.txt``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taomagic.engine.storage.atomic import atomic_write

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
    target: str | Path, model: DeepStreamModel, *, codec: Literal["taomagic", "nvidia"] = "taomagic"
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
        file.write(_config(Path(target), model, codec).encode())
    return config, labels


def _config(target: Path, model: DeepStreamModel, codec: str) -> str:
    plain = target.with_suffix(".onnx").name
    lines = ["# For the [property] group of nvinfer's configuration."]
    if target.suffix != ".etlt":
        lines.append(f"onnx-file={plain}")
    elif codec == "nvidia":
        lines += [
            f"tlt-encoded-model={target.name}",
            "# Add the key, which is written nowhere: tlt-model-key=…",
        ]
    else:
        lines += [
            f"# nvinfer can't open {target.name}, which only taomagic decrypts: export to {plain} for DeepStream.",
            f"onnx-file={plain}",
        ]
    lines += [
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
