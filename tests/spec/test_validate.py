from __future__ import annotations

from collections.abc import Callable

import pytest

from taomagic.errors import SpecProblem
from taomagic.spec.ssd import SSDExperiment
from taomagic.spec.validate import PREFIX, RULES, as_written

from .conftest import add, drop, drop_block, put

Problem = Callable[..., SpecProblem]
Read = Callable[..., SSDExperiment]

SCHEDULE = "soft_start_annealing_schedule"
AUGMENTATION = "augmentation_config"

# Field, the block it stands in, its full name, values that are refused, values that are taken.
RANGES = [
    ("arch", "ssd_config", "ssd_config.arch", ['"resnet18"', '""'], ['"resnet"']),
    (
        "pred_num_channels",
        "ssd_config",
        "ssd_config.pred_num_channels",
        ["1", "128"],
        ["0"],
    ),
    ("alpha", "ssd_config", "ssd_config.alpha", ["-0.1", "nan", "inf"], ["0", "2.5"]),
    ("neg_pos_ratio", "ssd_config", "ssd_config.neg_pos_ratio", ["-1", "inf"], ["0", "2.5"]),
    ("pos_iou_thresh", "ssd_config", "ssd_config.pos_iou_thresh", ["-0.1", "1", "nan"], ["0", "0.7"]),
    ("neg_iou_thresh", "ssd_config", "ssd_config.neg_iou_thresh", ["-0.1", "1"], ["0", "0.4"]),
    (
        "width_multiplier",
        "ssd_config",
        "ssd_config.width_multiplier",
        ["0", "-1", "4.1", "nan"],
        ["0.25", "4"],
    ),
    ("batch_size_per_gpu", "training_config", "training_config.batch_size_per_gpu", ["0"], ["1"]),
    ("num_epochs", "training_config", "training_config.num_epochs", ["0"], ["1"]),
    ("n_workers", "training_config", "training_config.n_workers", ["257", "4294967295"], ["0", "256"]),
    (
        "max_queue_size",
        "training_config",
        "training_config.max_queue_size",
        ["1001", "4294967295"],
        ["0", "1000"],
    ),
    (
        "min_learning_rate",
        SCHEDULE,
        f"training_config.learning_rate.{SCHEDULE}.min_learning_rate",
        ["0", "-1", "nan"],
        ["1e-6"],
    ),
    (
        "max_learning_rate",
        SCHEDULE,
        f"training_config.learning_rate.{SCHEDULE}.max_learning_rate",
        ["0", "-1", "inf"],
        ["1"],
    ),
    (
        "soft_start",
        SCHEDULE,
        f"training_config.learning_rate.{SCHEDULE}.soft_start",
        ["0", "1", "-0.5"],
        ["0.7"],
    ),
    (
        "annealing",
        SCHEDULE,
        f"training_config.learning_rate.{SCHEDULE}.annealing",
        ["0", "1", "1.5"],
        ["0.99"],
    ),
    (
        "validation_period_during_training",
        "eval_config",
        "eval_config.validation_period_during_training",
        ["0"],
        ["1"],
    ),
    ("batch_size", "eval_config", "eval_config.batch_size", ["0"], ["1"]),
    (
        "matching_iou_threshold",
        "eval_config",
        "eval_config.matching_iou_threshold",
        ["0", "1", "nan"],
        ["0.7"],
    ),
    ("confidence_threshold", "nms_config", "nms_config.confidence_threshold", ["0", "1", "-1"], ["0.5"]),
    (
        "clustering_iou_threshold",
        "nms_config",
        "nms_config.clustering_iou_threshold",
        ["0", "1", "2"],
        ["0.5"],
    ),
    ("top_k", "nms_config", "nms_config.top_k", ["0"], ["1"]),
    ("output_width", AUGMENTATION, f"{AUGMENTATION}.output_width", ["0", "32", "-300"], ["33", "1248"]),
    ("output_height", AUGMENTATION, f"{AUGMENTATION}.output_height", ["0", "32"], ["33", "384"]),
    ("output_channel", AUGMENTATION, f"{AUGMENTATION}.output_channel", ["0", "2", "4"], ["3"]),
    (
        "random_crop_min_scale",
        AUGMENTATION,
        f"{AUGMENTATION}.random_crop_min_scale",
        ["0", "1.1", "-1"],
        ["0.1", "1"],
    ),
    (
        "random_crop_max_scale",
        AUGMENTATION,
        f"{AUGMENTATION}.random_crop_max_scale",
        ["0", "1.1"],
        ["0.3", "1"],
    ),
    ("random_crop_min_ar", AUGMENTATION, f"{AUGMENTATION}.random_crop_min_ar", ["0", "-1"], ["0.1", "2"]),
    ("random_crop_max_ar", AUGMENTATION, f"{AUGMENTATION}.random_crop_max_ar", ["0", "inf"], ["0.5", "9"]),
    ("zoom_out_min_scale", AUGMENTATION, f"{AUGMENTATION}.zoom_out_min_scale", ["0.9", "1e30"], ["1", "4"]),
    ("zoom_out_max_scale", AUGMENTATION, f"{AUGMENTATION}.zoom_out_max_scale", ["0.9", "101"], ["1", "100"]),
    ("brightness", AUGMENTATION, f"{AUGMENTATION}.brightness", ["-1"], ["0", "64"]),
    ("contrast", AUGMENTATION, f"{AUGMENTATION}.contrast", ["-0.1", "1"], ["0", "0.9"]),
    ("saturation", AUGMENTATION, f"{AUGMENTATION}.saturation", ["-0.1", "1"], ["0", "0.9"]),
    ("hue", AUGMENTATION, f"{AUGMENTATION}.hue", ["-1"], ["0", "90"]),
    ("random_flip", AUGMENTATION, f"{AUGMENTATION}.random_flip", ["-0.1", "1"], ["0", "0.9"]),
]
REFUSED = [(name, block, field, value) for name, block, field, values, _ in RANGES for value in values]
TAKEN = [(name, block, value) for name, block, _, _, values in RANGES for value in values]
REQUIRED = [(name, field) for name, _, field, _, _ in RANGES if RULES[name].required]


@pytest.mark.parametrize(
    ("name", "block", "field", "value"), REFUSED, ids=[f"{n}-{v}" for n, _, _, v in REFUSED]
)
def test_a_value_outside_its_range_is_refused(
    documented: str, problem: Problem, name: str, block: str, field: str, value: str
) -> None:
    text = put(documented, name, value, block=block)
    found = problem(text)
    assert found.message.startswith(f"{PREFIX}{name} should be ")
    assert field in found.message
    assert found.line == _line_of(text, name)
    assert found.where == f"spec.txt:{found.line}"
    assert found.hint


@pytest.mark.parametrize(("name", "block", "value"), TAKEN, ids=[f"{n}-{v}" for n, _, v in TAKEN])
def test_a_value_inside_its_range_is_taken(
    documented: str, read: Read, name: str, block: str, value: str
) -> None:
    read(put(documented, name, value, block=block))


@pytest.mark.parametrize(("name", "field"), REQUIRED, ids=[name for name, _ in REQUIRED])
def test_a_field_that_must_be_above_zero_must_be_written(
    documented: str, problem: Problem, name: str, field: str
) -> None:
    found = problem(drop(documented, name))
    assert found.message == f"{PREFIX}{field} should be set in experiment spec file."
    assert found.line == _line_of(documented, field.split(".")[-2], "{")
    assert RULES[name].example in found.hint


def test_the_table_of_these_tests_has_every_rule_of_an_experiment() -> None:
    elsewhere = {
        "epsilon",
        "beta1",
        "beta2",
        "rho",
        "momentum",
        "monitor",
        "min_delta",
        "cluster_iou_threshold",
        "num_partitions",
        "num_shards",
        "val_split",
        "num_duplicates",
        "initial_exponent",
        "increment",
        "decrement",
    }
    assert set(RULES) == {name for name, *_ in RANGES} | elsewhere


@pytest.mark.parametrize(
    ("name", "optimizer", "value"),
    [
        ("epsilon", "adam", "0"),
        ("beta1", "adam", "1"),
        ("beta2", "adam", "-0.1"),
        ("rho", "rmsprop", "1"),
        ("epsilon", "rmsprop", "-1"),
        ("momentum", "sgd", "1"),
    ],
)
def test_optimizer_parameters_have_ranges(
    documented: str, problem: Problem, name: str, optimizer: str, value: str
) -> None:
    text = add(documented, f"optimizer {{\n {optimizer} {{ {name}: {value} }}\n}}", block="training_config")
    found = problem(text)
    assert f"training_config.optimizer.{optimizer}.{name} is {value}" in found.message
    assert found.line == _line_of(text, optimizer, "{")


@pytest.mark.parametrize(("name", "value"), [("monitor", '"mAP"'), ("min_delta", "-1")])
def test_early_stopping_fields_have_ranges(documented: str, problem: Problem, name: str, value: str) -> None:
    found = problem(add(documented, f"early_stopping {{\n {name}: {value}\n}}", block="training_config"))
    assert f"{name} should be " in found.message


@pytest.mark.parametrize(
    ("name", "value"),
    [("initial_exponent", "-1"), ("initial_exponent", "128"), ("increment", "-0.1"), ("decrement", "0")],
)
def test_cost_scaling_fields_have_ranges(documented: str, problem: Problem, name: str, value: str) -> None:
    found = problem(
        add(documented, f"cost_scaling {{\n enabled: true\n {name}: {value}\n}}", block="training_config")
    )
    assert f"training_config.cost_scaling.{name} is {float(value):g}" in found.message


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_fields_without_a_range_must_be_finite(documented: str, problem: Problem, value: str) -> None:
    text = add(documented, f"cost_scaling {{ increment: {value} }}", block="training_config")
    assert "should be a finite number" in problem(text).message


@pytest.mark.parametrize(
    ("name", "block", "value"),
    [("type", "regularizer", "7"), ("average_precision_mode", "eval_config", "-1")],
)
def test_numbers_that_are_no_value_of_an_enum_are_refused(
    documented: str, problem: Problem, name: str, block: str, value: str
) -> None:
    found = problem(put(documented, name, value, block=block))
    assert f"{name} should be one of " in found.message


BLOCKS = [
    "ssd_config",
    "training_config",
    "eval_config",
    "nms_config",
    "augmentation_config",
    "dataset_config",
]
NEEDED = {
    "train": set(BLOCKS),
    "evaluate": set(BLOCKS) - {"training_config"},
    "inference": set(BLOCKS) - {"training_config"},
    "export": {"ssd_config", "nms_config"},
}


@pytest.mark.parametrize("purpose", NEEDED)
@pytest.mark.parametrize("block", BLOCKS)
def test_the_purpose_decides_which_blocks_must_be_there(
    documented: str, read: Read, problem: Problem, purpose: str, block: str
) -> None:
    text = drop_block(documented, block)
    if block in NEEDED[purpose]:
        found = problem(text, purpose)
        assert found.message == f"{PREFIX}{block} should be set in experiment spec file."
        assert found.line is None
    else:
        read(text, purpose)


def test_blocks_that_are_not_needed_are_checked_all_the_same(documented: str, problem: Problem) -> None:
    assert (
        "num_epochs"
        in problem(put(documented, "num_epochs", "0", block="training_config"), "evaluate").message
    )


@pytest.mark.parametrize("block", ["learning_rate", "regularizer"])
def test_training_needs_learning_rate_and_regularizer(documented: str, problem: Problem, block: str) -> None:
    found = problem(drop_block(documented, block))
    assert found.message == f"{PREFIX}training_config.{block} should be set in experiment spec file."
    assert found.line == _line_of(documented, "training_config", "{")


def test_the_schedule_must_be_there(documented: str, problem: Problem) -> None:
    assert f"{SCHEDULE} should be set" in problem(drop_block(documented, SCHEDULE)).message


@pytest.mark.parametrize("channels", ["256", "512", "1024"])
def test_the_prediction_module_of_dssd_is_refused_with_the_reason(
    documented: str, problem: Problem, channels: str
) -> None:
    text = put(documented, "pred_num_channels", channels, block="ssd_config")
    found = problem(text)
    assert "pred_num_channels is not supported: " in found.message
    assert "DSSD" in found.message
    assert found.line == _line_of(text, "pred_num_channels")


@pytest.mark.parametrize(
    "line",
    [
        "enable_qat: false",
        "model_ema: false",
        "cost_scaling { enabled: false initial_exponent: 8 }",
        'pruned_model_path: ""',
        "visualizer { enabled: true wandb_config { enabled: false } }",
    ],
)
def test_what_is_switched_off_is_taken(documented: str, read: Read, line: str) -> None:
    read(add(drop(documented, "enable_qat"), line, block="training_config"))


def test_dssd_is_refused_with_the_reason(documented: str, problem: Problem) -> None:
    found = problem(documented.replace("ssd_config {", "dssd_config {"))
    assert "not yet DSSD" in found.message
    assert found.line == 2


def test_the_cosine_schedule_is_refused_with_the_reason(documented: str, problem: Problem) -> None:
    text = drop_block(documented, SCHEDULE)
    text = add(
        text,
        "soft_start_cosine_annealing_schedule { max_learning_rate: 1e-2 soft_start: 0.1 }",
        block="learning_rate",
    )
    assert "SSD trains with soft_start_annealing_schedule only" in problem(text).message


@pytest.mark.parametrize(
    ("arch", "layers"),
    [
        ("resnet", (10, 18, 34, 50, 101)), ("vgg", (16, 19)), ("darknet", (19, 53)), ("googlenet", ()),
        ("mobilenet_v1", ()), ("mobilenet_v2", ()), ("squeezenet", ()), ("efficientnet_b0", ()),
    ],
)  # fmt: skip
def test_every_backbone_of_the_document_is_accepted_with_its_numbers_of_layers(
    documented: str, read: Read, problem: Problem, arch: str, layers: tuple[int, ...]
) -> None:
    text = put(
        put(documented, "arch", f'"{arch}"', block="ssd_config"), "freeze_blocks", "1", block="ssd_config"
    )
    for number in layers:
        model = read(put(text, "nlayers", str(number), block="ssd_config")).model
        assert (model.arch, model.nlayers) == (arch, number)
    if layers:
        assert f"nlayers: {layers[0]} or " in problem(drop(text, "nlayers")).hint
        wrong = problem(put(text, "nlayers", "17", block="ssd_config")).message
        assert f"nlayers should be one of {', '.join(map(str, layers))} for {arch}" in wrong
    else:
        assert read(drop(text, "nlayers")).model.nlayers == 0


def test_a_number_of_layers_where_there_is_one_size_is_noted(documented: str, read: Read) -> None:
    experiment = read(put(documented, "arch", '"mobilenet_v1"', block="ssd_config"))
    assert experiment.model.nlayers == 0
    assert "ssd_config.nlayers has no effect: mobilenet_v1 has one size" in experiment.notes


def test_an_architecture_without_a_network_is_refused(documented: str, problem: Problem) -> None:
    found = problem(put(documented, "arch", '"efficientnet_b1"', block="ssd_config"))
    assert 'arch "efficientnet_b1" is not supported' in found.message
    assert "efficientnet_b0" in found.hint


def test_freezing_the_batch_normalisation_of_squeezenet_is_noted(documented: str, read: Read) -> None:
    text = put(drop(documented, "nlayers"), "arch", '"squeezenet"', block="ssd_config")
    notes = read(put(text, "freeze_bn", "true", block="ssd_config")).notes
    assert any("squeezenet has no batch normalisation" in note for note in notes)


@pytest.mark.parametrize(
    ("arch", "first", "last"),
    [
        ("vgg", 1, 5), ("darknet", 0, 5), ("googlenet", 0, 9), ("mobilenet_v1", 0, 11), ("mobilenet_v2", 0, 13),
        ("squeezenet", 0, 8), ("efficientnet_b0", 0, 8),
    ],
)  # fmt: skip
def test_blocks_to_freeze_are_those_of_the_backbone(
    documented: str, read: Read, problem: Problem, arch: str, first: int, last: int
) -> None:
    text = put(put(documented, "arch", f'"{arch}"', block="ssd_config"), "nlayers", "19", block="ssd_config")
    every = list(range(first, last + 1))
    assert read(put(text, "freeze_blocks", str(every), block="ssd_config")).model.freeze_blocks == tuple(
        every
    )
    found = problem(put(text, "freeze_blocks", str(last + 1), block="ssd_config"))
    assert f"freeze_blocks[0] should be {first} to {last} for {arch}" in found.message
    if first:
        assert problem(put(text, "freeze_blocks", "0", block="ssd_config")).line is not None


@pytest.mark.parametrize("nlayers", ["0", "12", "152"])
def test_resnets_that_do_not_exist_are_refused(documented: str, problem: Problem, nlayers: str) -> None:
    found = problem(put(documented, "nlayers", nlayers, block="ssd_config"))
    assert "nlayers should be one of 10, 18, 34, 50, 101 for resnet" in found.message


def test_a_resnet_needs_its_number_of_layers(documented: str, problem: Problem) -> None:
    assert "ssd_config.nlayers should be set" in problem(drop(documented, "nlayers")).message


@pytest.mark.parametrize("value", [0.02, 5e-5, 0.1, 1 / 3, 3e-9, 103.939, 0.0, -2.5, 1e30])
def test_single_precision_values_are_shown_as_written(value: float) -> None:
    import struct

    stored = struct.unpack("f", struct.pack("f", value))[0]
    assert as_written(stored) == pytest.approx(value, rel=1e-7)
    assert struct.pack("f", as_written(stored)) == struct.pack("f", value)
    if len(repr(value)) < 8:
        assert as_written(stored) == value


def _line_of(text: str, name: str, follows: str = ":") -> int:
    for number, line in enumerate(text.split("\n"), 1):
        words = line.split("{" if follows == "{" else ":")
        if len(words) > 1 and words[0].strip(" :") == name:
            return number
    raise AssertionError(f"no {name} in the text")
