"""Flags that several networks' sub-tasks share, and what a sub-task is described by."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Final, NamedTuple

from taomagic.spec.flag_types import not_negative, number, positive

#: Environment variable that holds the model key where ``-k`` is not given. The launcher passes the key this
#: way, because other people on a machine can read a process's arguments but not its environment.
KEY_VARIABLE: Final = "TAOMAGIC_KEY"

# Flags that are taken, because command lines in the wild have them, and not advertised.
HIDDEN: Final = argparse.SUPPRESS


def add_key(target: argparse.ArgumentParser) -> None:
    """Add ``-k``."""
    target.add_argument(
        "-k",
        "--key",
        default=os.environ.get(KEY_VARIABLE, ""),
        metavar="KEY",
        help="key of encrypted models (.tlt, .etlt); plain .hdf5 and .onnx files need none",
    )


def add_verbose(target: argparse.ArgumentParser) -> None:
    """Add ``-v``."""
    target.add_argument("-v", "--verbose", action="store_true", help="print debugging messages too")


def add_spec(p: argparse.ArgumentParser, *more: str) -> None:
    """Add ``-e`` of the sub-tasks that follow a training; ``more`` are further spellings."""
    p.add_argument(
        "-e",
        "--experiment_spec",
        "--experiment_spec_file",
        *more,
        dest="spec",
        required=True,
        metavar="FILE",
        help="experiment file, the one of the training",
    )


def add_convert_flags(p: argparse.ArgumentParser) -> None:
    """Add ``-d`` and ``-o`` of ``dataset_convert``."""
    p.add_argument(
        "-d",
        "--dataset_export_spec",
        "--dataset-export-spec",
        dest="spec",
        required=True,
        metavar="FILE",
        help="data set export file, with kitti_config or coco_config",
    )
    p.add_argument(
        "-o",
        "--output_filename",
        dest="output",
        required=True,
        metavar="PREFIX",
        help="beginning of the output files' names, folder included",
    )


def add_no_resume(p: argparse.ArgumentParser) -> None:
    """Add our own ``--no-resume``."""
    p.add_argument(
        "--no-resume",
        "--no_resume",
        dest="resume",
        action="store_false",
        help="start anew even if the results folder holds an unfinished training (taomagic only)",
    )


def add_prune_flags(p: argparse.ArgumentParser) -> None:
    """Add the flags of ``prune``, which are the same for every network."""
    p.add_argument(
        "-m",
        "--model",
        "--pretrained_model",
        dest="model",
        required=True,
        metavar="FILE",
        help="model to prune",
    )
    p.add_argument(
        "-o", "--output_file", dest="output", required=True, metavar="FILE", help="the pruned model"
    )
    add_key(p)
    p.add_argument(
        "-n",
        "--normalizer",
        choices=("max", "L2"),
        default="max",
        help="divide a filter's norm by the layer's largest, or by the L2 norm of all of them (default: max)",
    )
    p.add_argument(
        "-eq",
        "--equalization_criterion",
        choices=("arithmetic_mean", "geometric_mean", "union", "intersection"),
        default="union",
        help="how layers that meet in an addition agree on filters to keep (default: union)",
    )
    p.add_argument(
        "-pg",
        "--pruning_granularity",
        dest="granularity",
        type=positive,
        default=8,
        metavar="N",
        help="keep a multiple of this many filters (default: 8)",
    )
    # NVIDIA's documentation prints this flag with one dash.
    p.add_argument("-pruning_granularity", dest="granularity", type=positive, default=HIDDEN, help=HIDDEN)
    threshold = number(float, "a number of at least 0", lambda value: 0 <= value < float("inf"))
    p.add_argument(
        "-pth",
        "--pruning_threshold",
        dest="threshold",
        type=threshold,
        default=0.1,
        metavar="X",
        help="filters with a normalised norm above this stay (default: 0.1); larger prunes more",
    )
    p.add_argument(
        "-nf",
        "--min_num_filters",
        dest="min_filters",
        type=not_negative,
        default=16,
        metavar="N",
        help="filters that every layer keeps (default: 16)",
    )
    p.add_argument(
        "-el", "--excluded_layers", nargs="*", default=[], metavar="LAYER", help="layers to leave alone"
    )
    p.add_argument("--results_dir", metavar="FOLDER", help="folder for status.json")
    add_verbose(p)


def add_export_flags(p: argparse.ArgumentParser, *, batch_size: int, max_batch_size: int | None) -> None:
    """Add the flags of ``export`` behind model, spec and key; the two batch sizes are the network's defaults.

    Those of an engine that have none follow the ones that are given.
    """
    p.add_argument(
        "-o",
        "--output_file",
        dest="output",
        metavar="FILE",
        help=".onnx or .etlt (default: beside the model, with its name); an existing file is replaced",
    )
    p.add_argument(
        "--gen_ds_config",
        action="store_true",
        help="also write nvinfer_config.txt and labels.txt for DeepStream",
    )
    p.add_argument(
        "--cal_json_file", default="", metavar="FILE", help="tensor scales of a model trained with enable_qat"
    )
    p.add_argument(
        "--codec",
        choices=("taomagic", "nvidia"),
        default="taomagic",
        help="encryption of .etlt: taomagic's own, or NVIDIA's, for which the package nvidia-eff-tao-encryption has to "
        "be installed (default: taomagic; taomagic only)",
    )
    p.add_argument("--target_opset", type=positive, default=12, metavar="N", help="ONNX operator set")
    p.add_argument(
        "--batch_size", type=positive, default=batch_size, metavar="N", help="batch size for INT8 calibration"
    )
    fixed = number(int, "-1 or a whole number above 0", lambda value: value == -1 or value > 0)
    p.add_argument("--static_batch_size", type=fixed, default=-1, help=HIDDEN)
    p.add_argument("--results_dir", metavar="FOLDER", help="folder for status.json")
    add_verbose(p)
    p.add_argument("--data_type", choices=("fp32", "fp16", "int8"), default="fp32", help=HIDDEN)
    p.add_argument("-s", "--strict_type_constraints", action="store_true", help=HIDDEN)
    for flag in ("cal_data_file", "cal_image_dir", "cal_cache_file", "engine_file"):
        p.add_argument(f"--{flag}", default="", help=HIDDEN)
    for flag, default in (
        ("batches", 10),
        ("max_batch_size", max_batch_size),
        ("min_batch_size", None),
        ("opt_batch_size", None),
    ):
        p.add_argument(f"--{flag}", type=positive, default=default, help=HIDDEN)
    p.add_argument("--max_workspace_size", type=positive, default=2, help=HIDDEN)
    p.add_argument("--force_ptq", action="store_true", help=HIDDEN)
    p.add_argument("--onnx_route", choices=("keras2onnx", "tf2onnx"), help=HIDDEN)


class Subtask(NamedTuple):
    """A sub-task's help and flags."""

    text: str  #: what it does; the first sentence also stands in the list of sub-tasks
    example: str  #: the words after the sub-task
    add_flags: Callable[[argparse.ArgumentParser], None]
