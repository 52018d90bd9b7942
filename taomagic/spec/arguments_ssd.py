"""The flags of SSD's sub-tasks."""

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
    add_spec,
    add_verbose,
)
from taomagic.spec.flag_types import not_negative, number, positive

__all__ = ["SUBTASKS"]


def _dataset_convert(p: argparse.ArgumentParser) -> None:
    add_convert_flags(p)
    p.add_argument("-r", "--results_dir", metavar="FOLDER", help="folder for status.json")
    p.add_argument(
        "-c",
        "--class_names_file",
        metavar="FILE",
        help="class names, one a line, where the export file maps none",
    )
    p.add_argument("-f", "--validation_fold", type=not_negative, metavar="N", help=HIDDEN)
    add_verbose(p)


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
    add_key(p)
    p.add_argument(
        "-m",
        "--resume_model_weights",
        dest="model",
        metavar="FILE",
        help="model to start from: pretrained (.tlt, .hdf5 in Keras' layout, or torchvision's .pth and .safetensors), "
        "pruned, or, with --initial_epoch, one to continue",
    )
    p.add_argument(
        "--initial_epoch",
        type=positive,
        default=1,
        metavar="N",
        help="epoch to run next, counted from 1 (default: 1); more than 1 continues the training of -m",
    )
    add_no_resume(p)
    p.add_argument("--use_multiprocessing", action="store_true", help="load data in processes of their own")
    p.add_argument(
        "--arch", choices=("ssd", "dssd"), help="check that the experiment file describes this network"
    )


def _evaluate(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "-m", "--model", "--model_path", dest="model", required=True, metavar="FILE", help="model to evaluate"
    )
    add_spec(p)
    add_key(p)
    p.add_argument(
        "-r", "--results_dir", metavar="FOLDER", help="folder for status.json (default: the model's folder)"
    )
    p.add_argument("-i", "--image_dir", help=HIDDEN)
    p.add_argument("-l", "--label_dir", help=HIDDEN)
    p.add_argument("-b", "--batch_size", type=positive, help=HIDDEN)


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
    add_spec(p, "--config_path")
    add_key(p)
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
    p.add_argument("-b", "--batch_size", type=positive, help=HIDDEN)


def _export(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "-m", "--model", "--model_path", dest="model", required=True, metavar="FILE", help="model to export"
    )
    add_spec(p)
    add_key(p)
    add_export_flags(p, batch_size=16, max_batch_size=None)
    p.add_argument(
        "--nms",
        choices=("onnx", "nms_dynamic_trt", "efficient_nms_trt"),
        default="onnx",
        help="how overlapping boxes are suppressed: by standard operators, which run anywhere, or by a plugin of "
        "TensorRT (default: onnx; taomagic only)",
    )


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
        add_prune_flags,
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
