"""The flags of DetectNet_v2's sub-tasks, of all generations."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Final

from taomagic.spec.arguments_common import (
    HIDDEN,
    Subtask,
    add_convert_flags,
    add_export_flags,
    add_key,
    add_no_resume,
    add_prune_flags,
    add_verbose,
)
from taomagic.spec.flag_types import not_negative, number, positive

__all__ = ["SUBTASKS"]


def _dataset_convert(p: argparse.ArgumentParser) -> None:
    add_convert_flags(p)
    p.add_argument(
        "-f",
        "--validation_fold",
        type=not_negative,
        metavar="N",
        help="fold that sample_modifier_config leaves alone",
    )
    p.add_argument("-r", "--results_dir", metavar="FOLDER", help="folder for status.json")
    add_verbose(p)


def _train(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "-e", "--experiment_spec_file", "--experiment_spec", dest="spec", required=True, metavar="FILE",
        help="experiment file",
    )  # fmt: skip
    p.add_argument(
        "-r",
        "--results_dir",
        required=True,
        metavar="FOLDER",
        help="folder for weights, logs and status.json",
    )
    p.add_argument(
        "-n",
        "--model_name",
        default="model",
        metavar="NAME",
        help="name of the final model, weights/NAME.tlt or weights/NAME.hdf5 (default: model)",
    )
    add_key(p)
    p.add_argument(
        "--enable_determinism",
        action="store_true",
        help="take only algorithms that give the same result each time",
    )
    add_no_resume(p)
    add_verbose(p)


def _add_spec(p: argparse.ArgumentParser, text: str, *more: str) -> None:
    p.add_argument(
        "-e",
        "--experiment_spec",
        "--experiment_spec_file",
        *more,
        dest="spec",
        required=True,
        metavar="FILE",
        help=text,
    )


def _evaluate(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "-m", "--model_path", "--model", dest="model", required=True, metavar="FILE", help="model to evaluate"
    )
    _add_spec(p, "experiment file, the one of the training")
    add_key(p)
    p.add_argument(
        "-r", "--results_dir", metavar="FOLDER", help="folder for status.json (default: the model's folder)"
    )
    p.add_argument(
        "--use_training_set",
        action="store_true",
        help="evaluate on the training images, not those of validation",
    )
    p.add_argument(
        "-f",
        "--framework",
        choices=("tlt", "tensorrt"),
        default="tlt",
        help="tlt for a checkpoint, tensorrt for an engine (default: tlt)",
    )
    for flag in ("-i", "-l"):
        name = {"-i": "--image_dir", "-l": "--label_dir"}[flag]
        p.add_argument(flag, name, metavar="FOLDER", help=HIDDEN)
    p.add_argument("-b", "--batch_size", type=positive, help=HIDDEN)
    add_verbose(p)


def _inference(p: argparse.ArgumentParser) -> None:
    _add_spec(p, "inference file, with inferencer_config and bbox_handler_config", "--inference_spec")
    p.add_argument(
        "-i",
        "--image_dir",
        "--inference_input",
        dest="image_dir",
        required=True,
        metavar="FOLDER",
        help="folder with the images, or one image (.jpg, .jpeg, .png, .ppm)",
    )
    p.add_argument(
        "-r",
        "-o",
        "--results_dir",
        "--inference_output",
        dest="results_dir",
        required=True,
        metavar="FOLDER",
        help="folder for the results: images_annotated/ and labels/",
    )
    p.add_argument(
        "-m",
        "--model_path",
        "--model",
        dest="model",
        metavar="FILE",
        help="model to use in place of the file's",
    )
    # No default of its own: that of -k counts.
    p.add_argument("--enc_key", dest="key", default=argparse.SUPPRESS, help=HIDDEN)
    add_key(p)
    p.add_argument("-b", "--batch_size", type=positive, metavar="N", help="in place of the file's batch_size")
    add_verbose(p)


def _export(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "-m", "--model", "--model_path", dest="model", required=True, metavar="FILE", help="model to export"
    )
    p.add_argument(
        "-e",
        "--experiment_spec",
        "--experiment_spec_file",
        dest="spec",
        metavar="FILE",
        help="experiment file, for the class names of --gen_ds_config",
    )
    add_key(p)
    add_export_flags(p, batch_size=8, max_batch_size=16)


def _calibration_tensorfile(p: argparse.ArgumentParser) -> None:
    _add_spec(p, "experiment file, the one of the training")
    p.add_argument(
        "-o", "--output_path", dest="output", required=True, metavar="FILE", help="tensor file to write"
    )
    batches = number(int, "-1 or a whole number above 0", lambda value: value == -1 or value > 0)
    p.add_argument(
        "-m", "--max_batches", type=batches, default=-1, metavar="N", help="batches to write (default: all)"
    )
    p.add_argument(
        "--use_validation_set", action="store_true", help="take the validation images, not those of training"
    )
    add_verbose(p)


def _show(p: argparse.ArgumentParser) -> None:
    _add_spec(p, "experiment file, the one of the training")
    p.add_argument(
        "-r",
        "--results_dir",
        required=True,
        metavar="FOLDER",
        help="folder for the pictures, images/targets_*.png and images/coverage_*.png",
    )
    p.add_argument(
        "-m",
        "--model_path",
        "--model",
        dest="model",
        metavar="FILE",
        help="model whose coverage is drawn beside what it shall learn",
    )
    add_key(p)
    p.add_argument(
        "-n", "--num_images", type=positive, default=4, metavar="N", help="images to draw (default: 4)"
    )
    p.add_argument(
        "--use_training_set",
        action="store_true",
        help="draw training images, changed at random as in training, not those of validation",
    )
    add_verbose(p)


#: In the order in which they are used.
SUBTASKS: Final[Mapping[str, Subtask]] = {
    "dataset_convert": Subtask(
        "Convert KITTI or COCO labels to TFRecords. They name the images, which stay where they are; every\n"
        "label is checked on the way.",
        "-d specs/detectnet_v2_tfrecords_kitti_trainval.txt -o data/tfrecords/kitti_trainval/kitti_trainval",
        _dataset_convert,
    ),
    "train": Subtask(
        "Train a network, from scratch, from a pretrained or from a pruned model, which the experiment file\n"
        "names. Writes checkpoints, the final model, and a log of loss and average precision.",
        "-e specs/detectnet_v2_train_resnet18_kitti.txt -r experiment_dir_unpruned -n resnet18_detector -k $KEY",
        _train,
    ),
    # Ours alone; NVIDIA's containers have nothing like it.
    "show": Subtask(
        "Draw what the network learns: objects, their ellipses and dead zones, and the coverage of each\n"
        "class; with a model, its own coverage beside it. A sub-task of taomagic alone.",
        "-e specs/detectnet_v2_train_resnet18_kitti.txt -r pictures -m weights/resnet18_detector.tlt -k $KEY",
        _show,
    ),
    "evaluate": Subtask(
        "Measure a model's average precision on the validation images. Prints one line for each\n"
        "class and their mean.",
        "-e specs/detectnet_v2_train_resnet18_kitti.txt -m weights/resnet18_detector.tlt -k $KEY",
        _evaluate,
    ),
    "prune": Subtask(
        "Remove the filters of a model that contribute least. The result is smaller and faster, less\n"
        "accurate at first, and meant to be trained again with load_graph: true.",
        "-m weights/resnet18_detector.tlt -o resnet18_pruned.tlt -eq union -pth 0.0000052 -k $KEY",
        add_prune_flags,
    ),
    "inference": Subtask(
        "Detect objects in a folder of images. Draws the boxes and writes them as KITTI labels.",
        "-e specs/detectnet_v2_inference_kitti_tlt.txt -i data/test_samples -r tlt_infer_testing -k $KEY",
        _inference,
    ),
    "export": Subtask(
        "Write a model as ONNX for deployment. With --gen_ds_config also what DeepStream needs to run it.",
        "-m weights/resnet18_detector_pruned.tlt -o experiment_dir_final/resnet18_detector.etlt -k $KEY",
        _export,
    ),
    "calibration_tensorfile": Subtask(
        "Write preprocessed images to a file, from which an INT8 engine is calibrated.",
        "-e specs/detectnet_v2_retrain_resnet18_kitti.txt -m 10 -o experiment_dir_final/calibration.tensor",
        _calibration_tensorfile,
    ),
}
