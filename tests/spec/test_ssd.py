from __future__ import annotations

import contextlib
import copy
import dataclasses
import pickle
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.errors import SpecProblem
from taomagic.spec.settings import (
    AugmentationSettings,
    DatasetSettings,
    DataSource,
    EarlyStoppingSettings,
    EvaluationSettings,
    NMSSettings,
    OptimizerSettings,
    Purpose,
    SSDModelSettings,
    TrainingSettings,
    VisualizerSettings,
)
from taomagic.spec.ssd import SSDExperiment, read_experiment
from taomagic.spec.validate import PREFIX

from .conftest import DOCUMENTED, add, drop, drop_block, put

Problem = Callable[..., SpecProblem]
Read = Callable[..., SSDExperiment]

THIRD = (1.0, 2.0, 0.5, 3.0, 1.0 / 3.0)
SHORT = (1.0, 2.0, 0.5)


def test_the_documented_spec_resolves_to_what_it_says(documented: str, read: Read) -> None:
    experiment = read(documented)
    assert experiment.path == "spec.txt"
    assert experiment.text == documented
    assert experiment.random_seed == 42
    assert experiment.model == SSDModelSettings(
        arch="resnet",
        nlayers=18,
        width_multiplier=1.0,
        aspect_ratios=(SHORT, THIRD, THIRD, THIRD, SHORT, SHORT),
        scales=(0.07, 0.15, 0.33, 0.51, 0.69, 0.87, 1.05),
        two_boxes_for_ar1=True,
        clip_boxes=False,
        variances=(0.1, 0.1, 0.2, 0.2),
        steps=None,
        offsets=None,
        pred_num_channels=0,
        alpha=1.0,
        neg_pos_ratio=3.0,
        pos_iou_thresh=0.5,
        neg_iou_thresh=0.5,
        freeze_blocks=(0,),
        freeze_bn=False,
    )
    assert experiment.training == TrainingSettings(
        batch_size_per_gpu=16,
        num_epochs=80,
        min_learning_rate=5e-5,
        max_learning_rate=2e-2,
        soft_start=0.15,
        annealing=0.8,
        regularizer="L1",
        regularizer_weight=3e-5,
        optimizer=OptimizerSettings("sgd", {"momentum": 0.9, "nesterov": False}),
        checkpoint_interval=1,
        early_stopping=None,
        visualizer=None,
        max_queue_size=20,
        n_workers=None,
        use_multiprocessing=False,
        enable_qat=False,
        cost_scaling=None,
        model_ema=False,
        load_model=None,
    )
    assert experiment.evaluation == EvaluationSettings(10, "SAMPLE", 16, 0.5, visualize_pr_curve=False)
    assert experiment.nms == NMSSettings(0.01, 0.6, 200, 0)
    assert experiment.augmentation == AugmentationSettings(
        output_width=300,
        output_height=300,
        output_channel=3,
        random_crop_min_scale=0.3,
        random_crop_max_scale=1.0,
        random_crop_min_ar=0.5,
        random_crop_max_ar=2.0,
        zoom_out_min_scale=1.0,
        zoom_out_max_scale=4.0,
        brightness=32,
        contrast=0.5,
        saturation=0.5,
        hue=18,
        random_flip=0.5,
        image_mean=(103.9, 116.8, 123.7),
    )
    assert experiment.dataset == DatasetSettings(
        data_sources=(DataSource("/path/to/train/tfrecord", None, None),),
        validation_data_sources=(DataSource(None, "/path/to/val/labels", "/path/to/val/images"),),
        class_mapping={
            "car": "car",
            "pedestrian": "pedestrian",
            "cyclist": "cyclist",
            "van": "car",
            "person_sitting": "pedestrian",
        },
        classes=("car", "cyclist", "pedestrian"),
        include_difficult=True,
    )


def test_settings_are_frozen_and_can_be_copied_and_sent(documented: str, read: Read) -> None:
    experiment = read(documented)
    with pytest.raises(dataclasses.FrozenInstanceError):
        experiment.random_seed = 1  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(experiment)) == experiment
    assert copy.deepcopy(experiment) == experiment


# Presence


@pytest.mark.parametrize(
    ("name", "zero", "default"),
    [
        ("brightness", 0, 32),
        ("contrast", 0.0, 0.5),
        ("saturation", 0.0, 0.5),
        ("hue", 0, 18),
        ("random_flip", 0.0, 0.5),
    ],
)
def test_a_written_zero_switches_augmentation_off_and_nothing_written_is_the_default(
    documented: str, read: Read, name: str, zero: float, default: float
) -> None:
    assert getattr(read(documented).augmentation, name) == default
    assert getattr(read(put(documented, name, "0", block="augmentation_config")).augmentation, name) == zero


def test_unset_augmentation_is_noted_because_containers_differ(documented: str, read: Read) -> None:
    notes = " ".join(read(put(documented, "hue", "18", block="augmentation_config")).notes)
    assert "brightness, contrast, saturation, random_flip not written" in notes
    assert "switch them off" in notes


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha", 1.0), ("neg_pos_ratio", 3.0), ("pos_iou_thresh", 0.5), ("neg_iou_thresh", 0.5)],
)
def test_a_zero_in_the_loss_is_the_default_as_in_the_containers_and_noted(
    documented: str, read: Read, name: str, value: float
) -> None:
    experiment = read(put(documented, name, "0", block="ssd_config"))
    assert getattr(experiment.model, name) == value
    assert any(f"ssd_config.{name}: 0 means the default" in note for note in experiment.notes)


@pytest.mark.parametrize(
    ("name", "zero", "written"),
    [("checkpoint_interval", 1, 5), ("max_queue_size", 20, 3), ("n_workers", None, 8)],
)
def test_zeros_that_mean_automatic(
    documented: str, read: Read, name: str, zero: int | None, written: int
) -> None:
    assert getattr(read(put(documented, name, "0", block="training_config")).training, name) == zero
    assert (
        getattr(read(put(documented, name, str(written), block="training_config")).training, name) == written
    )


# The anchor strings


def test_one_list_of_ratios_serves_all_maps(documented: str, read: Read) -> None:
    text = put(drop(documented, "aspect_ratios"), "aspect_ratios_global", '"(1, 2, 1/2)"', block="ssd_config")
    assert read(text).model.aspect_ratios == (SHORT,) * 6


def test_ratios_for_each_map_win_over_the_one_list(documented: str, read: Read) -> None:
    experiment = read(put(documented, "aspect_ratios_global", '"[9.0]"', block="ssd_config"))
    assert experiment.model.aspect_ratios[0] == SHORT
    assert any("aspect_ratios_global has no effect" in note for note in experiment.notes)


@pytest.mark.parametrize("empty", ['""', '"None"', '"  "'])
def test_an_empty_string_is_nothing_written(documented: str, read: Read, empty: str) -> None:
    text = put(documented, "steps", empty, block="ssd_config")
    text = put(text, "offsets", empty, block="ssd_config")
    text = put(text, "aspect_ratios_global", empty, block="ssd_config")
    assert read(text).model.steps is None
    assert read(text).model.offsets is None


def test_no_ratios_at_all_are_refused(documented: str, problem: Problem) -> None:
    assert "aspect_ratios_global should be set" in problem(drop(documented, "aspect_ratios")).message


def test_scales_spread_between_their_ends(documented: str, read: Read) -> None:
    text = put(drop(documented, "scales"), "min_scale", "0.1", block="ssd_config")
    text = put(text, "max_scale", "0.7", block="ssd_config")
    assert read(text).model.scales == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


def test_scales_win_over_their_ends(documented: str, read: Read) -> None:
    experiment = read(put(documented, "min_scale", "0.5", block="ssd_config"))
    assert experiment.model.scales[0] == 0.07
    assert any("min_scale and max_scale have no effect" in note for note in experiment.notes)


@pytest.mark.parametrize("name", ["min_scale", "max_scale"])
def test_one_end_of_the_scales_is_not_enough(documented: str, problem: Problem, name: str) -> None:
    assert (
        "both min_scale and max_scale"
        in problem(put(drop(documented, "scales"), name, "0.5", block="ssd_config")).message
    )


def test_steps_are_numbers_or_pairs_of_vertical_and_horizontal(documented: str, read: Read) -> None:
    text = put(documented, "steps", '"[8, 16, (32, 30), [64, 60], 100, 300/2]"', block="ssd_config")
    assert read(text).model.steps == ((8, 8), (16, 16), (32, 30), (64, 60), (100, 100), (150, 150))


def test_offsets_are_fractions_of_a_step(documented: str, read: Read) -> None:
    text = put(documented, "offsets", '"[0.5, 0.5, 0.5, 0.5, 0.5, 1/4]"', block="ssd_config")
    assert read(text).model.offsets == (0.5, 0.5, 0.5, 0.5, 0.5, 0.25)


SEVEN = "0.1, 0.2, 0.3, 0.4, 0.5, 0.6"


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        (
            "aspect_ratios",
            "[[1.0], [1.0]]",
            "The length of aspect_ratios should be 6, but ssd_config.aspect_ratios has 2",
        ),
        ("aspect_ratios", "[1, 2, 3, 4, 5, 6]", "six lists of at least one number"),
        ("aspect_ratios", "[[1], [1], [1], [1], [1], []]", "six lists of at least one number"),
        ("aspect_ratios", "[[1], [1], [1], [1], [1], [[1]]]", "six lists of at least one number"),
        ("aspect_ratios", "[[1], [1], [1], [1], [1], [0]]", "> 0 in every place"),
        ("aspect_ratios", "1.0", "a list of length 6"),
        ("aspect_ratios", "[[1], [x]]", "can't read the list of numbers"),
        ("scales", f"[{SEVEN}]", "The length of scales should be 7"),
        ("scales", f"[{SEVEN}, 0]", "> 0 in every place"),
        ("scales", f"[1.2, {SEVEN}]", "<= 1 except for the last"),
        ("scales", f"[[1], {SEVEN}]", "a flat list of 7 numbers"),
        ("variances", "[0.1, 0.1, 0.2]", "The length of variances should be 4"),
        ("variances", "[0.1, 0.1, 0.2, 0]", "> 0 in every place"),
        ("variances", "[0.1, 0.1, 0.2, -0.2]", "> 0 in every place"),
        ("steps", "[1, 2]", "The length of steps should be 6"),
        ("steps", "[1, 2, 3, 4, 5, (1, 2, 3)]", "pairs (vertical, horizontal)"),
        ("steps", "[1, 2, 3, 4, 5, 0]", "> 0 in every place"),
        ("offsets", "[0.5, 0.5, 0.5, 0.5, 0.5]", "The length of offsets should be 6"),
        ("offsets", "[0.5, 0.5, 0.5, 0.5, 0.5, 1]", "> 0 and < 1 for each map"),
        ("offsets", "[0.5, 0.5, 0.5, 0.5, 0.5, 0]", "> 0 and < 1 for each map"),
        ("scales", f"[{SEVEN}, {'*'.join(['9' * 40] * 20)}]", "made of smaller numbers"),
    ],
)
def test_anchor_strings_are_checked(
    documented: str, problem: Problem, name: str, value: str, what: str
) -> None:
    text = put(documented, name, f'"{value}"', block="ssd_config")
    found = problem(text)
    assert what in found.message
    assert found.line is not None
    assert text.split("\n")[found.line - 1].startswith(f"{name}:")
    assert found.hint


def test_the_one_list_of_ratios_is_checked(documented: str, problem: Problem) -> None:
    text = put(drop(documented, "aspect_ratios"), "aspect_ratios_global", '"[]"', block="ssd_config")
    assert "a list of at least one number" in problem(text).message


@pytest.mark.parametrize(
    ("low", "high", "what"),
    [("0", "0.5", "min_scale should be > 0"), ("0.6", "0.5", ">= min_scale"), ("0.5", "1.5", "<= 1")],
)
def test_the_ends_of_the_scales_are_checked(
    documented: str, problem: Problem, low: str, high: str, what: str
) -> None:
    text = put(drop(documented, "scales"), "min_scale", low, block="ssd_config")
    assert what in problem(put(text, "max_scale", high, block="ssd_config")).message


def test_variances_must_be_written(documented: str, problem: Problem) -> None:
    assert (
        problem(drop(documented, "variances")).message
        == f"{PREFIX}ssd_config.variances should be set in experiment spec file."
    )


def test_blocks_to_freeze_are_sorted_and_once(documented: str, read: Read) -> None:
    assert read(put(documented, "freeze_blocks", "[4, 0, 1, 0]", block="ssd_config")).model.freeze_blocks == (
        0,
        1,
        4,
    )


def test_a_block_that_does_not_exist_cannot_be_frozen(documented: str, problem: Problem) -> None:
    found = problem(put(documented, "freeze_blocks", "5", block="ssd_config"))
    assert "freeze_blocks[0] should be 0 to 4 for resnet" in found.message


def test_the_width_is_taomagics_extension_and_noted(documented: str, read: Read) -> None:
    experiment = read(put(documented, "width_multiplier", "0.25", block="ssd_config"))
    assert experiment.model.width_multiplier == 0.25
    assert any("width_multiplier is taomagic's extension" in note for note in experiment.notes)


# Training


def test_rise_must_end_before_the_fall(documented: str, problem: Problem) -> None:
    found = problem(put(documented, "soft_start", "0.8", block="soft_start_annealing_schedule"))
    assert "soft_start should be < annealing (0.8)" in found.message
    assert found.line is not None


def test_the_smallest_learning_rate_may_not_be_the_largest(documented: str, problem: Problem) -> None:
    found = problem(put(documented, "min_learning_rate", "0.1", block="soft_start_annealing_schedule"))
    assert "min_learning_rate should be <= max_learning_rate (0.02)" in found.message


@pytest.mark.parametrize(("kind", "weight"), [("L1", "0"), ("L2", "1"), ("L1", "-1e-3")])
def test_a_regularizer_needs_a_weight_between_0_and_1(
    documented: str, problem: Problem, kind: str, weight: str
) -> None:
    text = put(put(documented, "type", kind, block="regularizer"), "weight", weight, block="regularizer")
    assert f"weight should be > 0 and < 1 with {kind}" in problem(text).message


def test_a_regularizer_needs_its_weight(documented: str, problem: Problem) -> None:
    assert "regularizer.weight should be set" in problem(drop(documented, "weight")).message


@pytest.mark.parametrize("weight", ["3e-9", "0", "7"])
def test_without_regularisation_the_weight_does_not_matter(documented: str, read: Read, weight: str) -> None:
    text = put(put(documented, "type", "NO_REG", block="regularizer"), "weight", weight, block="regularizer")
    training = read(text).training
    assert training is not None
    assert (training.regularizer, training.regularizer_weight) == ("NO_REG", 0.0)


@pytest.mark.parametrize(
    ("written", "name", "parameters"),
    [
        ("", "sgd", {"momentum": 0.9, "nesterov": False}),
        ("sgd {}", "sgd", {"momentum": 0.9, "nesterov": False}),
        ("sgd { momentum: 0 }", "sgd", {"momentum": 0.0, "nesterov": False}),
        ("sgd { nesterov: true }", "sgd", {"momentum": 0.9, "nesterov": True}),
        ("adam {}", "adam", {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7, "amsgrad": False}),
        (
            "adam { epsilon: 1e-8 beta1: 0.5 amsgrad: true }",
            "adam",
            {"beta1": 0.5, "beta2": 0.999, "epsilon": 1e-8, "amsgrad": True},
        ),
        (
            "rmsprop { rho: 0.8 }",
            "rmsprop",
            {"rho": 0.8, "momentum": 0.0, "epsilon": 1e-7, "centered": False},
        ),
    ],
)
def test_the_optimizer_is_taken_with_keras_defaults(
    documented: str, read: Read, written: str, name: str, parameters: dict[str, float]
) -> None:
    experiment = read(add(documented, f"optimizer {{ {written} }}", block="training_config"))
    assert experiment.training is not None
    assert experiment.training.optimizer == OptimizerSettings(name, parameters)  # type: ignore[arg-type]
    assert any("NVIDIA's SSD always trains with SGD" in note for note in experiment.notes)


def test_nesterov_needs_momentum(documented: str, problem: Problem) -> None:
    text = add(documented, "optimizer { sgd { momentum: 0 nesterov: true } }", block="training_config")
    assert "momentum should be > 0 with nesterov: true" in problem(text).message


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", EarlyStoppingSettings("loss", 0.0, 0)),
        ('monitor: "loss" patience: 3 min_delta: 0.01', EarlyStoppingSettings("loss", 0.01, 3)),
    ],
)
def test_early_stopping(documented: str, read: Read, written: str, expected: EarlyStoppingSettings) -> None:
    training = read(add(documented, f"early_stopping {{ {written} }}", block="training_config")).training
    assert training is not None
    assert training.early_stopping == expected


@pytest.mark.parametrize("monitor", ["val_loss", "validation_loss"])
def test_early_stopping_on_the_validation_loss(
    documented: str, read: Read, problem: Problem, monitor: str
) -> None:
    text = add(documented, f'early_stopping {{ monitor: "{monitor}" }}', block="training_config")
    assert "needs it every epoch" in problem(text).message
    text = put(text, "validation_period_during_training", "1", block="eval_config")
    training = read(text).training
    assert training is not None
    assert training.early_stopping == EarlyStoppingSettings("validation_loss", 0.0, 0)
    assert "needs validation data" in problem(drop_block(text, "validation_data_sources")).message


def test_the_visualizer(documented: str, read: Read) -> None:
    def visualizer(written: str) -> VisualizerSettings | None:
        training = read(add(documented, f"visualizer {{ {written} }}", block="training_config")).training
        assert training is not None
        return training.visualizer

    assert visualizer("") == VisualizerSettings(enabled=False, num_images=3, weight_histograms=False)
    assert visualizer("enabled: true num_images: 0 weight_histograms: 1") == VisualizerSettings(True, 0, True)


# NMS and augmentation


def test_the_documented_name_of_the_nms_threshold_is_an_alias(documented: str, read: Read) -> None:
    text = documented.replace("clustering_iou_threshold", "cluster_iou_threshold")
    experiment = read(text)
    assert experiment.nms is not None
    assert experiment.nms.clustering_iou_threshold == 0.6
    assert any("NVIDIA's containers know clustering_iou_threshold only" in note for note in experiment.notes)


def test_alias_and_name_must_agree(documented: str, read: Read, problem: Problem) -> None:
    same = add(documented, "cluster_iou_threshold: 0.6", block="nms_config")
    assert read(same).nms == read(documented).nms
    found = problem(add(documented, "cluster_iou_threshold: 0.5", block="nms_config"))
    assert "cluster_iou_threshold should be the same as clustering_iou_threshold (0.6)" in found.message
    assert "cluster_iou_threshold is 0.5" in found.message


def test_the_alias_has_the_range_of_the_name(documented: str, problem: Problem) -> None:
    text = documented.replace("clustering_iou_threshold: 0.6", "cluster_iou_threshold: 1.5")
    assert "cluster_iou_threshold should be > 0 and < 1" in problem(text).message


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("random_crop_max_scale", "0.2", "random_crop_max_scale should be >= random_crop_min_scale (0.3)"),
        ("random_crop_min_ar", "3", "random_crop_min_ar should be <= random_crop_max_ar (2)"),
        ("zoom_out_min_scale", "5", "zoom_out_min_scale should be <= zoom_out_max_scale (4)"),
    ],
)
def test_ends_of_a_range_must_be_in_order(
    documented: str, problem: Problem, name: str, value: str, what: str
) -> None:
    found = problem(put(documented, name, value, block="augmentation_config"))
    assert what in found.message
    assert found.line is not None


def test_without_a_mean_the_pipeline_chooses(documented: str, read: Read) -> None:
    augmentation = read(drop_block(documented, "image_mean")).augmentation
    assert augmentation is not None
    assert augmentation.image_mean is None


def test_a_grey_network_takes_the_mean_l(documented: str, read: Read, problem: Problem) -> None:
    grey = put(documented, "output_channel", "1", block="augmentation_config")
    assert "image_mean has no value for l" in problem(grey).message
    augmentation = read(
        add(grey, "image_mean { key: 'l' value: 117.5 }", block="augmentation_config")
    ).augmentation
    assert augmentation is not None
    assert augmentation.image_mean == (117.5,)


@pytest.mark.parametrize(
    ("entry", "what"),
    [
        ("image_mean { key: 'x' value: 1 }", "given for the keys b, g, r or l"),
        ("image_mean { key: 'l' value: 256 }", ">= 0 and <= 255"),
        ("image_mean { key: 'l' value: nan }", ">= 0 and <= 255"),
    ],
)
def test_means_are_checked(documented: str, problem: Problem, entry: str, what: str) -> None:
    assert what in problem(add(documented, entry, block="augmentation_config")).message


def test_a_colour_network_needs_all_three_means(documented: str, problem: Problem) -> None:
    text = add(
        drop_block(documented, "image_mean"), "image_mean { key: 'b' value: 1 }", block="augmentation_config"
    )
    assert "image_mean has no value for g, r" in problem(text).message


# Data


def test_classes_are_compared_in_lower_case(documented: str, read: Read) -> None:
    entry = 'target_class_mapping { key: "Truck" value: "Lorry" }\ntarget_class_mapping { key: "CAR" value: "Car" }'
    dataset = read(add(documented, entry, block="dataset_config")).dataset
    assert dataset is not None
    assert dataset.class_mapping["truck"] == "lorry"
    assert dataset.classes == ("car", "cyclist", "lorry", "pedestrian")


def test_a_class_with_two_targets_is_refused(documented: str, problem: Problem) -> None:
    text = add(documented, 'target_class_mapping { key: "CAR" value: "van" }', block="dataset_config")
    assert "sends 'car' both to 'van' and to 'car'" in problem(text).message


@pytest.mark.parametrize(
    "entry", ['{ key: "" value: "car" }', '{ key: "bus" value: "" }', '{ key: "bus" }', "{}"]
)
def test_a_class_without_a_name_is_refused(documented: str, problem: Problem, entry: str) -> None:
    text = add(documented, f"target_class_mapping {entry}", block="dataset_config")
    assert "has no name" in problem(text).message


@pytest.mark.parametrize("purpose", ["train", "evaluate", "inference", "export"])
def test_a_data_set_needs_classes(documented: str, problem: Problem, purpose: str) -> None:
    found = problem(drop_block(documented, "target_class_mapping"), purpose)
    assert (
        found.message == f"{PREFIX}dataset_config.target_class_mapping should be set in experiment spec file."
    )


def test_training_needs_data_and_the_others_do_not(documented: str, read: Read, problem: Problem) -> None:
    text = drop_block(documented, "data_sources")
    assert "dataset_config.data_sources should be set" in problem(text).message
    for purpose in ("evaluate", "inference", "export"):
        read(text, purpose)


FOLDERS = 'data_sources { label_directory_path: "/l" image_directory_path: "/i" }'


def test_folders_of_images_and_labels(documented: str, read: Read) -> None:
    dataset = read(
        add(drop_block(documented, "data_sources"), f"{FOLDERS}\n{FOLDERS}", block="dataset_config")
    ).dataset
    assert dataset is not None
    assert dataset.data_sources == (DataSource(None, "/l", "/i"),) * 2


@pytest.mark.parametrize(
    ("sources", "what"),
    [
        ('data_sources { label_directory_path: "/l" }', "data_sources[0].image_directory_path should be set"),
        ('data_sources { image_directory_path: "/i" }', "data_sources[0].label_directory_path should be set"),
        ('data_sources { tfrecords_path: "" }', "data_sources[0].label_directory_path should be set"),
        (
            f'data_sources {{ tfrecords_path: "/t" }}\n{FOLDERS}',
            "data_sources[1].tfrecords_path should be set",
        ),
        (f'{FOLDERS}\ndata_sources {{ tfrecords_path: "/t" }}', "tfrecords_path stands beside folders"),
    ],
)
def test_training_sources_are_of_one_kind_and_complete(
    documented: str, problem: Problem, sources: str, what: str
) -> None:
    text = add(drop_block(documented, "data_sources"), sources, block="dataset_config")
    found = problem(text)
    assert what in found.message
    assert found.line is not None
    assert "data_sources" in text.split("\n")[found.line - 1]


def test_evaluation_needs_validation_data(documented: str, read: Read, problem: Problem) -> None:
    text = drop_block(documented, "validation_data_sources")
    assert "validation_data_sources should be set" in problem(text, "evaluate").message
    read(text, "inference")
    experiment = read(text)
    assert experiment.dataset is not None
    assert experiment.dataset.validation_data_sources == ()
    assert any("no validation data" in note for note in experiment.notes)


def test_incomplete_validation_data_is_left_out_of_training_and_refused_in_evaluation(
    documented: str, read: Read, problem: Problem
) -> None:
    text = add(documented, 'validation_data_sources { tfrecords_path: "/v" }', block="dataset_config")
    experiment = read(text)
    assert experiment.dataset is not None
    assert len(experiment.dataset.validation_data_sources) == 1
    assert any("validation_data_sources[0] is left out" in note for note in experiment.notes)
    found = problem(text, "evaluate")
    assert "validation_data_sources[0].label_directory_path should be set" in found.message


@pytest.mark.parametrize(
    ("line", "block"),
    [
        ("force_on_cpu: true", "nms_config"),
        ('type: "kitti"', "dataset_config"),
        ('root_path: "/data"', "data_sources"),
        ('mean_color: "[0, 0, 0]"', "ssd_config"),
    ],
)
def test_fields_without_effect_are_noted(documented: str, read: Read, line: str, block: str) -> None:
    name = line.partition(":")[0]
    assert not any(name in note for note in read(documented).notes)
    assert any(
        name in note and "no effect" in note for note in read(add(documented, line, block=block)).notes
    )


# Anything

SCALARS = [
    line.partition(":")[0]
    for line in DOCUMENTED.read_text(encoding="utf-8").split("\n")
    if line.partition(":")[2].strip(" {")
]
VALUES = st.one_of(
    st.sampled_from(
        [
            "0",
            "-1",
            "1e39",
            "nan",
            "-inf",
            "true",
            "L2",
            '""',
            '"[]"',
            '"()"',
            '"[[]]"',
            '"None"',
            "[]",
            "[1, 2]",
            "{}",
        ]
    ),
    st.text("0123456789.,[]()/*+-eE ", max_size=30).map(lambda text: f'"{text}"'),
    st.floats().map(repr),
    st.integers(-(2**33), 2**33).map(str),
    st.text(max_size=10),
)


@given(st.sampled_from(SCALARS), VALUES, st.sampled_from(["train", "evaluate", "inference", "export"]))
@settings(max_examples=200, deadline=None)
@pytest.mark.filterwarnings("ignore:invalid escape sequence")  # protobuf warns of "\\q" and takes it
def test_any_value_of_any_field_is_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: str, purpose: Purpose
) -> None:
    text = DOCUMENTED.read_text(encoding="utf-8")
    start = text.index(f"{name}:") + len(name) + 1
    path = tmp_path_factory.getbasetemp() / "any_value.txt"
    path.write_bytes((text[:start] + value + text[text.index("\n", start) :]).encode("utf-8", "replace"))
    with contextlib.suppress(SpecProblem):
        assert read_experiment(path, purpose=purpose).summary()


# The summary


def test_the_summary_shows_every_setting_and_marks_defaults(documented: str, read: Read) -> None:
    lines = read(documented).summary().split("\n")
    assert lines[0] == "Experiment spec.txt"
    shown = {line.split()[0]: line for line in lines if line.startswith("  ")}
    assert shown["num_epochs"].split() == ["num_epochs", "80"]
    assert shown["max_learning_rate"].split() == ["max_learning_rate", "0.02"]
    assert shown["brightness"].split() == ["brightness", "32", "[default]"]
    assert shown["optimizer"].endswith("sgd (momentum 0.9, nesterov false)   [default]")
    assert shown["classes"].split() == ["classes", "car,", "cyclist,", "pedestrian"]
    assert "  " + " " * 34 + "van -> car" in lines
    assert "width_multiplier" not in shown
    for kind in (
        SSDModelSettings,
        TrainingSettings,
        EvaluationSettings,
        NMSSettings,
        AugmentationSettings,
        DatasetSettings,
    ):
        for field in dataclasses.fields(kind):
            assert field.name in shown or field.name == "width_multiplier"


def test_the_summary_marks_extensions_and_ends_with_the_notes(documented: str, read: Read) -> None:
    text = put(documented, "width_multiplier", "0.25", block="ssd_config")
    summary = read(text).summary()
    assert "0.25   [taomagic's extension, unknown to NVIDIA's containers]" in summary
    assert summary.split("\nnotes\n")[1].count("\n") >= 1


def test_the_summary_of_a_part_shows_that_part(documented: str, read: Read) -> None:
    summary = read(drop_block(documented, "training_config"), "evaluate").summary()
    assert "training_config" not in summary
    assert "eval_config" in summary


def test_the_summary_shows_other_kinds_of_settings(documented: str, read: Read) -> None:
    text = add(
        documented,
        "early_stopping { patience: 2 }\n"
        'visualizer { enabled: true wandb_config { enabled: true key: "k" project: "birds" tags: ["a", "b"] } }\n'
        'pruned_model_path: "/models/small.tlt"\ncost_scaling { enabled: true initial_exponent: 15 }',
        block="training_config",
    )
    text = put(text, "steps", '"[8, 16, 32, 64, (100, 90), 300]"', block="ssd_config")
    summary = read(text).summary()
    assert "monitor loss, min_delta 0, patience 2" in summary
    assert "enabled true, num_images 3, weight_histograms false, wandb (key ***, project birds, " in summary
    assert "kind pruned, path /models/small.tlt\n" in summary
    assert "initial_exponent 15, increment 0.005, decrement 1\n" in summary
    assert "100, 90" in summary
