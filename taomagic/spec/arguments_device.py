"""The flags of ``tao device``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Final

from taomagic.spec.arguments_common import Subtask, add_key, add_verbose

__all__ = ["SUBTASKS"]


def _bundle(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "model",
        metavar="MODEL",
        help="a checkpoint (.tlt, .hdf5), an exported model (.etlt, .onnx), or an engine of ONNX Runtime",
    )
    p.add_argument("-o", "--output", required=True, metavar="FOLDER", help="the folder to write")
    p.add_argument(
        "-e",
        "--experiment_spec",
        "--experiment_spec_file",
        dest="spec",
        metavar="FILE",
        help="the spec of the training, or DetectNet_v2's inference file, which names thresholds and colours by class",
    )
    add_key(p)
    p.add_argument(
        "--data_type",
        choices=("fp32", "fp16", "int8"),
        default="fp16",
        help="precision of the engine that the folder's README.md tells how to build (default: fp16)",
    )
    p.add_argument(
        "--cal_cache_file",
        metavar="FILE",
        help="calibration cache for --data_type int8, as export and gen_trt_engine write it",
    )
    p.add_argument(
        "--force",
        action="store_true",
        help="replace an earlier bundle in FOLDER, with all that lies in it",
    )
    add_verbose(p)


SUBTASKS: Final[Mapping[str, Subtask]] = {
    "bundle": Subtask(
        "Write a folder that runs on a Jetson, or any machine with NumPy, Pillow and ONNX Runtime or TensorRT.\n"
        "It has the model as plain ONNX, its labels and settings, run.py for images, folders and cameras, and\n"
        "README.md with the commands that build a TensorRT engine there. The key is written nowhere.",
        "weights/resnet18_detector.tlt -e specs/train.txt -k $KEY -o bundle",
        _bundle,
    ),
}
