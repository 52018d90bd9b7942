"""The files that DeepStream's ``nvinfer`` wants beside an exported model: ``nvinfer_config.txt`` and ``labels.txt``."""

from __future__ import annotations

from pathlib import Path

from taomagic.engine.export.onnx import input_mean
from taomagic.engine.ssd.model import Architecture
from taomagic.engine.storage.atomic import atomic_write
from taomagic.spec.settings import SSDExperiment

#: ``model-color-format`` of nvinfer.
_BGR, _GREY = 1, 2


def write_deepstream_files(
    target: str | Path, architecture: Architecture, experiment: SSDExperiment, *, key: str = ""
) -> tuple[Path, Path]:
    """Write ``nvinfer_config.txt`` and ``labels.txt`` into the folder of an exported model.

    Parameters
    ----------
    target
        The exported model.
    architecture
        Its classes and input.
    experiment
        Its mean.
    key
        Whether the model is encrypted. The key itself isn't written: files like these are shared.

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
        file.write("".join(f"{name}\n" for name in ("background", *architecture.classes)).encode())
    with atomic_write(config) as file:
        file.write(_config(Path(target).name, architecture, experiment, encrypted=bool(key)).encode())
    return config, labels


def _config(name: str, architecture: Architecture, experiment: SSDExperiment, *, encrypted: bool) -> str:
    channels, height, width = architecture.input_shape
    mean = input_mean(architecture, experiment)
    plain = Path(name).with_suffix(".onnx").name
    lines = [
        "# For the [property] group of nvinfer's configuration.",
        f"onnx-file={plain}",
        "net-scale-factor=1.0",
        f"offsets={';'.join(f'{value}' for value in mean)}",
        f"infer-dims={channels};{height};{width}",
        "network-type=0",
        f"num-detected-classes={len(architecture.classes) + 1}",
        "labelfile-path=labels.txt",
        "output-blob-names=NMS;NMS_1",
        f"model-color-format={_GREY if channels == 1 else _BGR}",
        "maintain-aspect-ratio=0",
        "output-tensor-meta=0",
        "# The rows of NMS are read by the parser of NVIDIA's deepstream_tao_apps:",
        "# parse-bbox-func-name=NvDsInferParseCustomNMSTLT",
        "# custom-lib-path=/path/to/libnvds_infercustomparser_tao.so",
    ]
    if encrypted:
        lines.insert(
            1, f"# nvinfer can't open {name}, which only taomagic decrypts: export to {plain} for DeepStream."
        )
    return "\n".join(lines) + "\n"
