"""The flags of SSD's sub-tasks."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from taomagic.spec.flag_types import not_negative, number, positive

#: Environment variable that holds the model key where ``-k`` is not given. The launcher passes the key this
#: way, because other people on a machine can read a process's arguments but not its environment.
KEY_VARIABLE: Final = "TAOMAGIC_KEY"

# Flags that are taken, because command lines in the wild have them, and not advertised.
_HIDDEN: Final = argparse.SUPPRESS


def _add_key(target: argparse.ArgumentParser) -> None:
    target.add_argument(
        "-k",
        "--key",
        default=os.environ.get(KEY_VARIABLE, ""),
        metavar="KEY",
        help="key of encrypted models (.tlt, .etlt); plain .hdf5 and .onnx files need none",
    )


def _add_verbose(target: argparse.ArgumentParser) -> None:
    target.add_argument("-v", "--verbose", action="store_true", help="print debugging messages too")


def _dataset_convert(p: argparse.ArgumentParser) -> None:
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
    p.add_argument("-r", "--results_dir", metavar="FOLDER", help="folder for status.json")
    p.add_argument(
        "-c",
        "--class_names_file",
        metavar="FILE",
        help="class names, one a line, where the export file maps none",
    )
    p.add_argument("-f", "--validation_fold", type=not_negative, metavar="N", help=_HIDDEN)
    _add_verbose(p)


def _train(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "-e", "--experiment_spec_file", dest="spec", required=True, metavar="FILE", help="experiment file"
    )
    p.add_argument(
        "-r",
        "--results_dir",
        required=True,
        metavar="FOLDER",
        help="folder for weights, logs and status.json",
    )
    _add_key(p)
    p.add_argument(
        "-m",
        "--resume_model_weights",
        dest="model",
        metavar="FILE",
        help="model to start from: pretrained, pruned, or, with --initial_epoch, one to continue",
    )
    p.add_argument(
        "--initial_epoch",
        type=positive,
        default=1,
        metavar="N",
        help="epoch to run next, counted from 1 (default: 1); more than 1 continues the training of -m",
    )
    p.add_argument(
        "--no-resume",
        "--no_resume",
        dest="resume",
        action="store_false",
        help="start anew even if the results folder holds an unfinished training (taomagic only)",
    )
    p.add_argument("--use_multiprocessing", action="store_true", help="load data in processes of their own")
    p.add_argument(
        "--arch", choices=("ssd", "dssd"), help="check that the experiment file describes this network"
    )


def _evaluate(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "-m", "--model", "--model_path", dest="model", required=True, metavar="FILE", help="model to evaluate"
    )
    _add_spec(p)
    _add_key(p)
    p.add_argument(
        "-r", "--results_dir", metavar="FOLDER", help="folder for status.json (default: the model's folder)"
    )
    p.add_argument("-i", "--image_dir", help=_HIDDEN)
    p.add_argument("-l", "--label_dir", help=_HIDDEN)
    p.add_argument("-b", "--batch_size", type=positive, help=_HIDDEN)


def _add_spec(p: argparse.ArgumentParser, *more: str) -> None:
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


def _inference(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "-m", "--model", "--model_path", dest="model", required=True, metavar="FILE", help="model to use"
    )
    p.add_argument(
        "-i",
        "--image_dir",
        "--in_image_dir",
        dest="image_dir",
        required=True,
        metavar="FOLDER",
        help="folder with the images (.jpg, .jpeg, .png)",
    )
    _add_spec(p, "--config_path")
    _add_key(p)
    fraction = number(float, "a number between 0 and 1", lambda value: 0 < value < 1)
    p.add_argument(
        "-t",
        "--threshold",
        type=fraction,
        default=0.3,
        metavar="X",
        help="lowest score of a box that is drawn and written, between 0 and 1 (default: 0.3)",
    )
    p.add_argument(
        "-r", "--results_dir", metavar="FOLDER", help="folder for the results: images_annotated/ and labels/"
    )
    p.add_argument(
        "-o",
        "--out_image_dir",
        dest="image_output_dir",
        metavar="FOLDER",
        help="folder for the annotated images",
    )
    p.add_argument(
        "-l", "--out_label_dir", dest="label_output_dir", metavar="FOLDER", help="folder for the KITTI labels"
    )
    p.add_argument("-b", "--batch_size", type=positive, help=_HIDDEN)


def _prune(p: argparse.ArgumentParser) -> None:
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
    _add_key(p)
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
    p.add_argument("-pruning_granularity", dest="granularity", type=positive, default=_HIDDEN, help=_HIDDEN)
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
    _add_verbose(p)


def _export(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "-m", "--model", "--model_path", dest="model", required=True, metavar="FILE", help="model to export"
    )
    _add_spec(p)
    _add_key(p)
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
    p.add_argument("--target_opset", type=positive, default=12, metavar="N", help="ONNX operator set")
    p.add_argument(
        "--batch_size", type=positive, default=16, metavar="N", help="batch size for INT8 calibration"
    )
    p.add_argument("--static_batch_size", type=int, default=-1, help=_HIDDEN)
    p.add_argument("--results_dir", metavar="FOLDER", help="folder for status.json")
    _add_verbose(p)
    p.add_argument("--data_type", choices=("fp32", "fp16", "int8"), default="fp32", help=_HIDDEN)
    p.add_argument("-s", "--strict_type_constraints", action="store_true", help=_HIDDEN)
    for flag in ("cal_data_file", "cal_image_dir", "cal_cache_file", "engine_file"):
        p.add_argument(f"--{flag}", default="", help=_HIDDEN)
    for flag, default in (
        ("batches", 10),
        ("max_batch_size", 1),
        ("min_batch_size", 1),
        ("opt_batch_size", 1),
    ):
        p.add_argument(f"--{flag}", type=positive, default=default, help=_HIDDEN)
    p.add_argument("--max_workspace_size", type=positive, default=2, help=_HIDDEN)
    p.add_argument("--force_ptq", action="store_true", help=_HIDDEN)
    p.add_argument("--onnx_route", choices=("keras2onnx", "tf2onnx"), default="keras2onnx", help=_HIDDEN)


class Subtask(NamedTuple):
    """A sub-task's help and flags."""

    text: str  #: what it does; the first sentence also stands in the list of sub-tasks
    example: str  #: the words after the sub-task
    add_flags: Callable[[argparse.ArgumentParser], None]


#: In the order in which they are used.
SUBTASKS: Final[Mapping[str, Subtask]] = {
    "dataset_convert": Subtask(
        "Convert KITTI or COCO images and labels to TFRecords. Training reads TFRecords faster than loose\n"
        "files, and every label is checked on the way.",
        "-d specs/ssd_tfrecords_kitti_train.txt -o data/ssd/tfrecords/kitti_train",
        _dataset_convert,
    ),
    "train": Subtask(
        "Train a network, from scratch, from a pretrained or from a pruned model. Writes a model for every\n"
        "checkpoint and a log of loss and average precision.",
        "-e specs/ssd_train_resnet18_kitti.txt -r ssd/experiment_dir_unpruned -k $KEY",
        _train,
    ),
    "evaluate": Subtask(
        "Measure a model's average precision on the validation images. Prints one line for each\n"
        "class and their mean.",
        "-e specs/ssd_train_resnet18_kitti.txt -m weights/ssd_resnet18_epoch_080.tlt -k $KEY",
        _evaluate,
    ),
    "prune": Subtask(
        "Remove the filters of a model that contribute least. The result is smaller and faster, less\n"
        "accurate at first, and meant to be trained again with `train -m`.",
        "-m weights/ssd_resnet18_epoch_080.tlt -o ssd_resnet18_pruned.tlt -eq intersection -pth 0.1 -k $KEY",
        _prune,
    ),
    "inference": Subtask(
        "Detect objects in a folder of images. Draws the boxes and writes them as KITTI labels.",
        "-i data/test_samples -r ssd -e specs/ssd_train_resnet18_kitti.txt -m ssd_resnet18.tlt -k $KEY",
        _inference,
    ),
    "export": Subtask(
        "Write a model as ONNX for deployment. With --gen_ds_config also what DeepStream needs to run it.",
        "-m ssd_resnet18_epoch_080.tlt -o ssd.etlt -e specs/ssd_train_resnet18_kitti.txt -k $KEY",
        _export,
    ),
}
