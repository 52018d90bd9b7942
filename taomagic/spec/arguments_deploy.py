"""The flags of ``tao deploy`` and of ``tao converter``: engines built from exported models, and what runs them."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Final

from taomagic.spec.arguments_common import HIDDEN, Subtask, add_key, add_verbose
from taomagic.spec.flag_types import not_negative, number, positive

__all__ = ["CONVERTER", "NETWORKS"]

_GIBIBYTE: Final = 2**30
#: ``--max_workspace_size`` is in GiB with `tao deploy`; people write bytes, as with `export` and the converter.
_MOST_GIBIBYTES: Final = 4096


def _dimensions(word: str) -> tuple[int, ...]:
    """Read ``-d C,H,W``."""
    parts = word.replace("x", ",").split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"{word!r} is not channels, height and width, such as 3,300,300")
    return tuple(int(part) for part in parts)


def _names(word: str) -> tuple[str, ...]:
    """Read ``-o NAME,NAME``."""
    names = tuple(part.strip() for part in word.split(",") if part.strip())
    if not names:
        raise argparse.ArgumentTypeError("there is no name; outputs are given as NAME,NAME")
    return names


def _profile(word: str) -> tuple[str, tuple[tuple[int, ...], ...]]:
    """Read ``-p INPUT,MIN,OPT,MAX`` with shapes like 1x3x300x300."""
    name, *shapes = word.split(",")
    sizes = []
    for shape in shapes:
        parts = shape.strip().lower().split("x")
        if not all(part.isdigit() and int(part) > 0 for part in parts):
            break
        sizes.append(tuple(int(part) for part in parts))
    if not name or len(shapes) != 3 or len(sizes) != 3 or len({len(shape) for shape in sizes}) != 1:
        raise argparse.ArgumentTypeError(
            f"{word!r} is not an input and its smallest, usual and largest shape, such as "
            "Input,1x3x300x300,8x3x300x300,16x3x300x300"
        )
    return name.strip(), tuple(sizes)


def _workspace(word: str) -> int:
    """Read ``--max_workspace_size``, GiB or bytes, and return bytes."""
    if not word.isdigit() or int(word) == 0:
        raise argparse.ArgumentTypeError(f"{word!r} is not a whole number above 0, in GiB")
    size = int(word)
    return size * _GIBIBYTE if size <= _MOST_GIBIBYTES else size


_dla: Final = number(int, "-1 or the number of a DLA core", lambda value: value >= -1)


def _add_calibration(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--cal_image_dir",
        default="",
        metavar="FOLDER",
        help="int8: images to calibrate with, in this folder and those in it",
    )
    p.add_argument(
        "--cal_data_file",
        default="",
        metavar="FILE",
        help="int8: tensor file to calibrate with; with --cal_image_dir it is written if it doesn't exist",
    )
    p.add_argument(
        "--cal_cache_file",
        default="",
        metavar="FILE",
        help="int8: calibration cache in TensorRT's format; written from images, read where there are none",
    )
    p.add_argument(
        "--cal_json_file",
        default="",
        metavar="FILE",
        help="int8: tensor scales that export wrote for a model trained with enable_qat, in place of images",
    )
    p.add_argument(
        "--cal_method",
        choices=("entropy", "minmax", "percentile"),
        default="entropy",
        help="int8: how far a tensor's range reaches (default: entropy, as in TensorRT; taomagic only)",
    )
    p.add_argument(
        "--force_ptq", action="store_true", help="int8: calibrate even if --cal_json_file is given"
    )


def _add_runtime(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "--runtime",
        choices=("auto", "onnxruntime", "tensorrt"),
        default="auto",
        help="what the engine is for (default: TensorRT where it and a GPU are here, else ONNX Runtime; taomagic only)",
    )


def _gen_trt_engine(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "-m", "--model_path", "--model", dest="model", required=True, metavar="FILE",
        help="exported model, .onnx or .etlt",
    )  # fmt: skip
    p.add_argument(
        "-e", "--experiment_spec", "--experiment_spec_file", dest="spec", required=True, metavar="FILE",
        help="experiment file, the one of the training; its images calibrate where no others are given",
    )  # fmt: skip
    p.add_argument(
        "-r", "--results_dir", metavar="FOLDER", help="folder for status.json (default: the engine's folder)"
    )
    add_key(p)
    p.add_argument(
        "--engine_file", default="", metavar="FILE", help="the engine (default: in -r, with the model's name)"
    )
    p.add_argument(
        "--data_type", choices=("fp32", "fp16", "int8"), default="fp32", help="precision (default: fp32)"
    )
    _add_calibration(p)
    for flag, text in (
        ("max_batch_size", "images that the engine takes at once, at most (default: 1)"),
        ("opt_batch_size", "images at once for which it is tuned (default: as --min_batch_size)"),
        ("min_batch_size", "images at once, at least (default: 1)"),
    ):
        p.add_argument(f"--{flag}", type=positive, metavar="N", help=text)
    p.add_argument(
        "--batch_size",
        type=positive,
        default=1,
        metavar="N",
        help="int8: images in a batch of the calibration (default: 1)",
    )
    p.add_argument(
        "--batches",
        type=positive,
        default=10,
        metavar="N",
        help="int8: batches of the calibration (default: 10)",
    )
    p.add_argument(
        "--max_workspace_size",
        type=_workspace,
        default=2 * _GIBIBYTE,
        metavar="GIB",
        help="memory for TensorRT's algorithms, in GiB (default: 2)",
    )
    p.add_argument(
        "-s",
        "--strict_type_constraints",
        action="store_true",
        help="TensorRT: compute every layer in the precision asked for",
    )
    _add_runtime(p)
    add_verbose(p)


def _add_model(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "-m", "--model_path", "--model", dest="model", required=True, metavar="FILE",
        help="engine that gen_trt_engine or the converter built (.onnx and .etlt work too)",
    )  # fmt: skip


def _add_spec(p: argparse.ArgumentParser, text: str) -> None:
    p.add_argument(
        "-e",
        "--experiment_spec",
        "--experiment_spec_file",
        dest="spec",
        required=True,
        metavar="FILE",
        help=text,
    )


def _inference(text: str, *, threshold: bool) -> Callable[[argparse.ArgumentParser], None]:
    def add(p: argparse.ArgumentParser) -> None:
        _add_model(p)
        _add_spec(p, text)
        p.add_argument(
            "-i", "--image_dir", required=True, metavar="FOLDER", help="folder with the images, or one image"
        )
        p.add_argument(
            "-r",
            "--results_dir",
            required=True,
            metavar="FOLDER",
            help="folder for images_annotated, labels, status.json",
        )
        p.add_argument(
            "-b", "--batch_size", type=positive, default=1, metavar="N", help="images at once (default: 1)"
        )
        if threshold:
            share = number(float, "a number between 0 and 1", lambda value: 0 < value < 1)
            p.add_argument(
                "-t",
                "--threshold",
                type=share,
                default=0.3,
                metavar="X",
                help="least confidence shown (default: 0.3)",
            )
        add_key(p)
        add_verbose(p)

    return add


def _evaluate(p: argparse.ArgumentParser) -> None:
    _add_model(p)
    _add_spec(p, "experiment file, the one of the training")
    p.add_argument(
        "-i",
        "--image_dir",
        default="",
        metavar="FOLDER",
        help="images (default: the validation images of the spec)",
    )
    p.add_argument(
        "-l",
        "--label_dir",
        default="",
        metavar="FOLDER",
        help="their KITTI labels (default: those of the spec)",
    )
    p.add_argument(
        "-r", "--results_dir", metavar="FOLDER",
        help="folder for results.json, status.json (default: the model's folder)",
    )  # fmt: skip
    p.add_argument(
        "-b", "--batch_size", type=positive, default=1, metavar="N", help="images at once (default: 1)"
    )
    add_key(p)
    add_verbose(p)


def _converter(p: argparse.ArgumentParser) -> None:
    p.add_argument("model", metavar="MODEL", help="exported model, .etlt or .onnx; also one of another tool")
    add_key(p)
    p.add_argument(
        "-d", "--input_dims", dest="input_dims", type=_dimensions, metavar="C,H,W",
        help="channels, height and width of the input; needed where the model leaves them open",
    )  # fmt: skip
    p.add_argument(
        "-o", "--output_names", dest="output_names", type=_names, default=(), metavar="NAME,NAME",
        help="outputs that the model must have",
    )  # fmt: skip
    p.add_argument(
        "-e",
        "--engine_file",
        dest="output",
        default="saved.engine",
        metavar="FILE",
        help="the engine (default: saved.engine)",
    )
    p.add_argument(
        "-t",
        "--data_type",
        choices=("fp32", "fp16", "int8"),
        default="fp32",
        help="precision (default: fp32)",
    )
    p.add_argument(
        "-m", "--max_batch_size", type=positive, metavar="N",
        help="images that the engine takes at once, at most (default: 16)",
    )  # fmt: skip
    p.add_argument(
        "-b",
        "--batch_size",
        type=positive,
        default=8,
        metavar="N",
        help="int8: images in a batch of the calibration (default: 8)",
    )
    p.add_argument("--batches", type=positive, default=10, metavar="N", help=HIDDEN)
    p.add_argument(
        "-c", "--cal_cache", dest="cal_cache_file", default="", metavar="FILE",
        help="int8: calibration cache, of TensorRT or of export",
    )  # fmt: skip
    for flag in ("cal_image_dir", "cal_data_file", "cal_json_file"):
        kind = "FOLDER" if flag.endswith("dir") else "FILE"
        texts = {
            "cal_image_dir": "int8: images to calibrate with (taomagic only)",
            "cal_data_file": "int8: tensor file to calibrate with (taomagic only)",
            "cal_json_file": "int8: tensor scales of a model trained with enable_qat (taomagic only)",
        }
        p.add_argument(f"--{flag}", default="", metavar=kind, help=texts[flag])
    p.add_argument(
        "--cal_method", choices=("entropy", "minmax", "percentile"), default="entropy",
        help="int8: how far a tensor's range reaches (default: entropy; taomagic only)",
    )  # fmt: skip
    p.add_argument(
        "-i", "--input_order", dest="input_order", choices=("nchw", "nhwc", "nc"), default="nchw",
        help="order of the input's dimensions (default: nchw)",
    )  # fmt: skip
    p.add_argument(
        "-p", "--profile", dest="profiles", type=_profile, action="append", default=[], metavar="INPUT,MIN,OPT,MAX",
        help="smallest, usual and largest shape of an input, such as Input,1x3x300x300,8x3x300x300,16x3x300x300",
    )  # fmt: skip
    p.add_argument(
        "-s",
        "--strict_type_constraints",
        action="store_true",
        help="TensorRT: every layer in the precision asked for",
    )
    p.add_argument(
        "-u", "--use_dla_core", dest="dla_core", type=_dla, default=-1, metavar="N",
        help="TensorRT: DLA core for the layers that it can compute (default: -1, none)",
    )  # fmt: skip
    p.add_argument(
        "-w", "--max_workspace_size", dest="max_workspace_size", type=positive, default=_GIBIBYTE, metavar="BYTES",
        help="memory for TensorRT's algorithms, in bytes (default: 1073741824)",
    )  # fmt: skip
    _add_runtime(p)
    add_verbose(p)


def _compare(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "-m", "--models", "--model", dest="models", nargs="+", required=True, metavar="FILE",
        help="what to compare: checkpoints, exported models and engines; the first is the reference",
    )  # fmt: skip
    _add_spec(p, "experiment file, the one of the training, with the validation images")
    p.add_argument(
        "-r",
        "--results_dir",
        required=True,
        metavar="FOLDER",
        help="folder for comparison.json, pictures, status.json",
    )
    p.add_argument(
        "-b", "--batch_sizes", dest="batch_sizes", type=positive, nargs="+", default=[1, 4, 16], metavar="N",
        help="batch sizes to time (default: 1 4 16)",
    )  # fmt: skip
    p.add_argument(
        "--max_drop", type=number(float, "a number of at least 0", lambda value: 0 <= value <= 1), default=0.01,
        metavar="X", help="loss of mAP that is named with what to try (default: 0.01)",
    )  # fmt: skip
    p.add_argument(
        "-n", "--pictures", dest="pictures", type=not_negative, default=4, metavar="N",
        help="images to draw side by side, those whose boxes differ most (default: 4)",
    )  # fmt: skip
    add_key(p)
    add_verbose(p)


_BUILD: Final = Subtask(
    "Build an engine from an exported model. It is for TensorRT where that and a GPU are here, else for ONNX Runtime.",
    "-m model.onnx -e spec.txt -r results --data_type int8 --cal_image_dir images --engine_file model.engine",
    _gen_trt_engine,
)
_EVALUATE: Final = Subtask(
    "Measure an engine's average precision on labelled images.",
    "-m model.engine -e spec.txt -r results",
    _evaluate,
)
_COMPARE: Final = Subtask(
    "Compare precision, size and speed of checkpoints, exported models and engines. taomagic only.",
    "-m model.hdf5 fp32.engine int8.engine -e spec.txt -r results",
    _compare,
)
_EXAMPLE: Final = "-m model.engine -e spec.txt -i images -r results"
_INFERENCE_TEXT: Final = "Draw an engine's boxes on images, and write them as KITTI labels."

#: What `tao deploy` does with each network.
NETWORKS: Final[Mapping[str, Mapping[str, Subtask]]] = {
    "ssd": {
        "gen_trt_engine": _BUILD,
        "evaluate": _EVALUATE,
        "inference": Subtask(
            _INFERENCE_TEXT, _EXAMPLE, _inference("experiment file, the one of the training", threshold=True)
        ),
        "compare": _COMPARE,
    },
    "detectnet_v2": {
        "gen_trt_engine": _BUILD,
        "evaluate": _EVALUATE,
        "inference": Subtask(
            _INFERENCE_TEXT,
            _EXAMPLE,
            _inference("inference file, with inferencer_config and bbox_handler_config", threshold=False),
        ),
        "compare": _COMPARE,
    },
}

#: `tao converter MODEL …`, which has no sub-tasks.
CONVERTER: Final = Subtask(
    "Build an engine from an exported model, of taomagic or of another tool.",
    "model.etlt -k KEY -d 3,300,300 -o NMS -t int8 -c cal.bin -e model.engine",
    _converter,
)
