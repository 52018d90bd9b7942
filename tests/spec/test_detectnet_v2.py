"""DetectNet_v2's experiment and inference files: what NVIDIA's seven files mean, and every mistake with its line."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.errors import SpecProblem
from taomagic.spec._rules_detectnet_v2 import INFERENCE_RULES, RULES
from taomagic.spec.detectnet_v2 import read_experiment, read_inference
from taomagic.spec.settings_detectnet_v2 import (
    DetectNetExperiment,
    EarlyStoppingScheduleSettings,
    InferenceSettings,
    SoftStartSettings,
)

SPECS = Path(__file__).parents[2] / "specs" / "detectnet_v2"
TRAIN = (SPECS / "detectnet_v2_train_resnet18_kitti.txt").read_text(encoding="utf-8")
INFERENCE = (SPECS / "detectnet_v2_inference_kitti_tlt.txt").read_text(encoding="utf-8")


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., DetectNetExperiment]:
    def read_text(text: str, purpose: str = "train") -> DetectNetExperiment:
        path = tmp_path / "spec.txt"
        path.write_text(text, encoding="utf-8")
        return read_experiment(path, purpose=purpose, shown_as="spec.txt")  # type: ignore[arg-type]

    return read_text


@pytest.fixture
def infer(tmp_path: Path) -> Callable[[str], InferenceSettings]:
    def read_text(text: str) -> InferenceSettings:
        path = tmp_path / "spec.txt"
        path.write_text(text, encoding="utf-8")
        return read_inference(path, shown_as="spec.txt")

    return read_text


def changed(old: str, new: str, text: str = TRAIN) -> str:
    assert old in text, old
    return text.replace(old, new, 1)


def line(part: str, text: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_a_number_of_layers_has_no_effect_on_networks_of_one_size(
    read: Callable[..., DetectNetExperiment],
) -> None:
    experiment = read(changed('arch: "resnet"', 'arch: "mobilenet_v1"'))
    assert experiment.model is not None
    assert experiment.model.num_layers == 0
    assert "model_config.num_layers has no effect; mobilenet_v1 has one size" in experiment.notes


def test_the_training_file_has_the_values_of_nvidias(read: Callable[..., DetectNetExperiment]) -> None:
    experiment = read(TRAIN)
    assert experiment.classes == ("car", "cyclist", "pedestrian")
    assert experiment.model is not None
    assert (experiment.model.bbox_scale, experiment.model.bbox_offset) == (35.0, 0.5)
    assert experiment.model.num_layers == 18
    assert experiment.training is not None
    assert experiment.training.schedule == SoftStartSettings(5e-7, 5e-5, 0.1, 0.7)
    assert experiment.training.optimizer.parameters["epsilon"] == 1e-8
    assert experiment.training.cost_scaling is None, "its numbers are there, but it is not enabled"
    assert experiment.clustering["pedestrian"].dbscan_eps == 0.23
    assert experiment.cost.classes["cyclist"].weight_targets == {"cov": 1.0, "bbox": 1.0}
    assert experiment.rasterizer is not None
    assert experiment.rasterizer.classes["car"].cov_radius_x == 0.4
    assert experiment.evaluation is not None
    assert experiment.evaluation.overlaps == {"car": 0.7, "cyclist": 0.5, "pedestrian": 0.5}
    assert experiment.evaluation.boxes["car"].minimum_width == 10
    assert experiment.dataset is not None
    assert experiment.dataset.class_mapping["van"] == "car"
    assert experiment.dataset.validation_fold == 0
    assert experiment.augmentation is not None
    assert experiment.augmentation.crop is None
    assert experiment.notes == ()


@pytest.mark.parametrize(
    ("old", "new", "note"),
    [
        ('arch: "resnet"', 'arch: "googlenet" all_projections: true', "only resnet has projections"),
        ("use_batch_norm: true", "use_batch_norm: true dropout_rate: 0.5", "only mobilenet_v1 has dropout"),
        ("use_batch_norm: true", "freeze_bn: true", "freeze_bn has no effect"),
        ('arch: "resnet"', 'arch: "squeezenet"', "squeezenet never has it"),
        ("num_layers: 18", 'num_layers: 19 arch: "darknet"', "darknet has stride 16 here"),
    ],
)
def test_what_a_network_does_not_have_is_noted(
    read: Callable[..., DetectNetExperiment], old: str, new: str, note: str
) -> None:
    text = TRAIN.replace('arch: "resnet"', "") if "darknet" in new else TRAIN
    assert any(note in each for each in read(changed(old, new, text)).notes)


def test_blocks_are_frozen_by_their_numbers_once(read: Callable[..., DetectNetExperiment]) -> None:
    model = read(
        changed("use_batch_norm: true", "freeze_blocks: 1.0 freeze_blocks: 0 freeze_blocks: 1.0")
    ).model
    assert model is not None
    assert model.freeze_blocks == (0, 1)


def test_the_retraining_files_differ_in_the_model_and_in_qat_only(
    read: Callable[..., DetectNetExperiment],
) -> None:
    files = [(SPECS / f"detectnet_v2_retrain_resnet18_kitti{end}.txt").read_text() for end in ("", "_qat")]
    plain, qat = (read(text) for text in files)
    assert plain.model is not None
    assert plain.model.load_graph
    assert plain.model.pretrained_model_file is not None
    assert plain.model.pretrained_model_file.endswith("resnet18_nopool_bn_detectnet_v2_pruned.tlt")
    assert plain.training is not None
    assert qat.training is not None
    assert (plain.training.enable_qat, qat.training.enable_qat) == (False, True)
    assert plain.cost == qat.cost == read(TRAIN).cost


def test_the_inference_files_name_a_checkpoint_or_an_engine() -> None:
    names = ("tlt", "etlt", "etlt_qat")
    plain, engine, qat = (
        read_inference(SPECS / f"detectnet_v2_inference_kitti_{name}.txt") for name in names
    )
    assert plain.model is not None
    assert plain.model.endswith("resnet18_detector_pruned.tlt")
    assert engine.engine is not None
    assert engine.engine.endswith("resnet18_detector.trt")
    assert qat.data_type == "INT8"
    assert plain.handlers["cyclist"].color == (0, 255, 255)
    assert (plain.image_width, plain.image_height, plain.stride, plain.batch_size) == (1248, 384, 16, 16)


MISTAKES = [
    ("output_image_width: 1248", "output_image_width: 1250", "a multiple of 16", "output_image_width"),
    ("output_image_height: 384", "", "output_image_height should be set", "preprocessing {"),
    ("output_image_channel: 3", "output_image_channel: 2", "one of 0, 1, 3", "output_image_channel"),
    ("hflip_probability: 0.5", "hflip_probability: 1.5", ">= 0 and <= 1", "hflip_probability"),
    ("zoom_min: 1.0", "zoom_min: 1.5", "<= zoom_max", "zoom_min"),
    ("zoom_min: 1.0", "", "zoom_min should be set", "spatial_augmentation {"),
    ("coverage_threshold: 0.0075", "coverage_threshold: 7", ">= 0 and <= 1", "coverage_threshold: 7"),
    ("dbscan_eps: 0.23", "dbscan_eps: -1", ">= 0 and <= 1", "dbscan_eps: -1"),
    ("clustering_algorithm: DBSCAN", "clustering_algorithm: HYBRID", "inference files only", "HYBRID"),
    ("clustering_algorithm: DBSCAN", "clustering_algorithm: KMEANS", "no value", "KMEANS"),
    ('arch: "resnet"', 'arch: "densenet"', "one of resnet, vgg", "densenet"),
    ("num_layers: 18", "num_layers: 20", "one of 10, 18, 34, 50, 101, 152, 200", "num_layers"),
    ("use_batch_norm: true", "use_pooling: true", "stride is not 16", "use_pooling"),
    ("use_batch_norm: true", "freeze_blocks: 5.0", "0 to 4 for resnet", "freeze_blocks"),
    ("use_batch_norm: true", "freeze_blocks: 0.5", "0 to 4 for resnet", "freeze_blocks"),
    ('arch: "resnet"', 'arch: "darknet"', "one of 19, 53", "num_layers"),
    ("scale: 35.0", "scale: 0", "> 0", "scale: 0"),
    ("cov {\n    }", "", "objective_set.cov should be set", "objective_set {"),
    ("first_validation_epoch: 30", "first_validation_epoch: 0", "> 0", "first_validation_epoch"),
    ("    value: 0.7", "    value: 1.7", "> 0 and <= 1", "    value: 1.7"),
    ("minimum_height: 20", "minimum_height: 99999", "<= maximum_height (9999)", "minimum_height: 99999"),
    ("class_weight: 8.0", "class_weight: 0", "> 0", "class_weight: 0"),
    (
        "coverage_foreground_weight: 0.05",
        "coverage_foreground_weight: 1.0",
        "> 0 and < 1",
        "_foreground_weight",
    ),
    ('name: "cov"', 'name: "depth"', "one of cov, bbox", 'name: "depth"'),
    (
        'name: "cov"',
        'name: "bbox"',
        "has the objective 'bbox' twice",
        'name: "bbox"\n      initial_weight: 10',
    ),
    ('name: "pedestrian"', 'name: "Car"', "has the class 'car' twice", 'name: "Car"'),
    ("batch_size_per_gpu: 4", "", "batch_size_per_gpu should be set", "training_config {"),
    ("soft_start: 0.1", "soft_start: 0.8", "< annealing (0.7)", "soft_start: 0.8"),
    ("min_learning_rate: 5e-7", "min_learning_rate: 5e-3", "<= max_learning_rate", "min_learning_rate"),
    ("    adam {", "    sgd {", "unknown field 'epsilon'", "epsilon"),
    ("initial_exponent: 20.0", "initial_exponent: 0", "> 0", "initial_exponent"),
    ("infrequent_logging_frequency: 5", "infrequent_logging_frequency: 500", "<= num_epochs", "infrequent_"),
    ("cov_radius_x: 0.4", "cov_radius_x: 0", "> 0 and <= 1", "cov_radius_x"),
    ("deadzone_radius: 0.4", "deadzone_radius: 1.4", ">= 0 and <= 1", "deadzone_radius"),
    (
        'tfrecords_path: "/workspace/tao-experiments/data/tfrecords/kitti_trainval/*"',
        "",
        "tfrecords_path should be",
        "",
    ),
    ('    value: "cyclist"', '    value: "bike"', "no class of the labels becomes 'cyclist'", ""),
    ("num_epochs: 120", "num_epochs: 120\n  num_epoch: 3", "unknown field 'num_epoch'", "num_epoch: 3"),
]


@pytest.mark.parametrize(
    ("old", "new", "message", "at"), MISTAKES, ids=[f"{m[0][:24]}-{m[1][:24]}" for m in MISTAKES]
)
def test_a_mistake_is_named_with_its_line(
    read: Callable[..., DetectNetExperiment], old: str, new: str, message: str, at: str
) -> None:
    text = changed(old, new)
    with pytest.raises(SpecProblem) as caught:
        read(text)
    assert message in caught.value.message
    assert caught.value.hint
    if at:
        assert caught.value.line == line(at, text)


def test_every_block_that_training_needs_is_asked_for(read: Callable[..., DetectNetExperiment]) -> None:
    for block in (
        "dataset_config",
        "augmentation_config",
        "postprocessing_config",
        "model_config",
        "evaluation_config",
        "cost_function_config",
        "training_config",
        "bbox_rasterizer_config",
    ):
        start = TRAIN.index(f"\n{block} {{")
        end = TRAIN.index("\n}\n", start) + 2
        with pytest.raises(SpecProblem, match=f"{block} should be set in experiment spec file"):
            read(TRAIN[:start] + TRAIN[end:])


@pytest.mark.parametrize(
    ("block", "field"),
    [
        ("bbox_rasterizer_config", "bbox_rasterizer_config.target_class_config"),
        ("postprocessing_config", "postprocessing_config.target_class_config"),
    ],
)
def test_every_class_needs_its_entry(
    read: Callable[..., DetectNetExperiment], block: str, field: str
) -> None:
    start = TRAIN.index(f"\n{block} {{")
    text = TRAIN[:start] + TRAIN[start:].replace('key: "cyclist"', 'key: "bike"', 1)
    with pytest.raises(SpecProblem, match=f"{field} has no entry for the class 'cyclist'"):
        read(text)


def test_classes_keep_the_order_of_the_cost_function(read: Callable[..., DetectNetExperiment]) -> None:
    shuffled = TRAIN.replace('name: "car"', 'name: "@"').replace('name: "cyclist"', 'name: "car"')
    experiment = read(shuffled.replace('name: "@"', 'name: "cyclist"'))
    assert experiment.classes == ("cyclist", "car", "pedestrian")
    assert tuple(experiment.clustering) == experiment.classes


def test_both_forms_of_min_samples_are_taken(read: Callable[..., DetectNetExperiment]) -> None:
    assert read(TRAIN).clustering["car"].dbscan_min_samples == 1
    older = TRAIN.replace("dbscan_min_samples: 1", "dbscan_min_samples: 0.05")
    assert read(older).clustering["car"].dbscan_min_samples == 0.05


def test_the_early_stopping_schedule_is_read_and_its_patience_checked(
    read: Callable[..., DetectNetExperiment],
) -> None:
    start = TRAIN.index("soft_start_annealing_schedule {")
    end = TRAIN.index("}", start) + 1
    schedule = (
        "early_stopping_annealing_schedule { min_learning_rate: 1e-6 max_learning_rate: 1e-4 "
        "soft_start_epochs: 2 annealing_epochs: 5 patience_steps: %d }"
    )
    experiment = read(TRAIN[:start] + schedule % 20 + TRAIN[end:])
    assert experiment.training is not None
    assert experiment.training.schedule == EarlyStoppingScheduleSettings(1e-6, 1e-4, 2, 5, 20)
    with pytest.raises(
        SpecProblem, match=r"patience_steps should be >= validation_period_during_training \(10\)"
    ):
        read(TRAIN[:start] + schedule % 5 + TRAIN[end:])


def test_what_a_purpose_does_not_need_may_be_absent(read: Callable[..., DetectNetExperiment]) -> None:
    start = TRAIN.index("\ncost_function_config {")
    cost = TRAIN[start : TRAIN.index("\n}\n", start) + 2]
    experiment = read(cost, "export")
    assert experiment.classes == ("car", "cyclist", "pedestrian")
    assert experiment.model is None
    with pytest.raises(SpecProblem, match="dataset_config should be set"):
        read(cost, "evaluate")


def test_label_filters_are_read(read: Callable[..., DetectNetExperiment]) -> None:
    text = TRAIN + (
        "loss_mask_label_filter {\n  mask_multiplier: 0.5\n  objective_label_filter_configs {\n"
        "    label_filter { bbox_dimensions_label_filter { min_width: 4 max_height: 99.5 } }\n"
        '    target_class_names: "Car"\n    objective_names: "bbox"\n  }\n'
        "  objective_label_filter_configs {\n"
        '    label_filter { source_class_label_filter { source_class_names: "van" } }\n  }\n}\n'
    )
    mask = read(text).loss_mask
    assert mask is not None
    assert mask.mask_multiplier == 0.5
    first, second = mask.filters
    assert (first.kind, first.limits) == ("dimensions", {"min_width": 4.0, "max_height": 99.5})
    assert (first.target_classes, first.objectives) == (("car",), ("bbox",))
    assert (second.kind, second.source_classes) == ("source_class", ("van",))
    with pytest.raises(SpecProblem, match="one of car, cyclist, pedestrian"):
        read(text.replace('"Car"', '"bus"'))


INFERENCE_MISTAKES = [
    ("image_width: 1248", "", "image_width should be set", "inferencer_config {"),
    ("image_channels: 3", "image_channels: 4", "one of 1, 3", "image_channels"),
    (
        'target_classes: "car"',
        'target_classes: "car"\n  postproc_class: 3',
        "unknown field 'postproc_class'",
        "postproc",
    ),
    ("R: 0", "R: 256", ">= 0 and <= 255", "R: 256"),
    ('"aggregate_cov"', '"best_cov"', "one of aggregate_cov, mean_cov", '"best_cov"'),
    ("dbscan_eps: 0.3", "dbscan_eps: 3", ">= 0 and <= 1", "dbscan_eps: 3"),
]


@pytest.mark.parametrize(
    ("old", "new", "message", "at"), INFERENCE_MISTAKES, ids=[m[1][:24] for m in INFERENCE_MISTAKES]
)
def test_a_mistake_in_an_inference_file_is_named_with_its_line(
    infer: Callable[[str], InferenceSettings], old: str, new: str, message: str, at: str
) -> None:
    text = changed(old, new, INFERENCE)
    with pytest.raises(SpecProblem) as caught:
        infer(text)
    assert message in caught.value.message
    assert caught.value.line == line(at, text)


def test_a_class_without_an_entry_takes_the_default(infer: Callable[[str], InferenceSettings]) -> None:
    assert infer(INFERENCE.replace('key: "cyclist"', 'key: "bike"')).handlers["cyclist"].color == (255, 0, 0)
    none = INFERENCE.replace('key: "cyclist"', 'key: "bike"').replace('key: "default"', 'key: "other"')
    with pytest.raises(SpecProblem, match="no entry for the class 'cyclist'"):
        infer(none)


def test_every_rule_has_an_example_that_keeps_it() -> None:
    for rules in (RULES, INFERENCE_RULES):
        for name, rule in rules.items():
            value = rule.example.strip('"') if rule.example.startswith('"') else float(rule.example)
            assert rule.test(value), name


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, TRAIN.count("\n")),
    st.sampled_from(["delete", "double", "swap", "nan", "huge", "brace"]),
    st.sampled_from(["train", "evaluate", "export", "calibration"]),
)
def test_a_damaged_file_gives_settings_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, index: int, damage: str, purpose: str
) -> None:
    lines = TRAIN.split("\n")
    head, _, _ = lines[index].partition(":")
    lines[index : index + 1] = {
        "delete": [],
        "double": [lines[index], lines[index]],
        "swap": [*lines[index + 1 : index + 2], lines[index]],
        "nan": [f"{head}: nan"],
        "huge": [f"{head}: 1e38"],
        "brace": [lines[index] + "{"],
    }[damage]
    path = tmp_path_factory.getbasetemp() / "damaged.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    with contextlib.suppress(SpecProblem):  # any other exception fails
        read_experiment(path, purpose=purpose)  # type: ignore[arg-type]
