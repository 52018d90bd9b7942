from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.errors import UsageProblem
from taomagic.spec.arguments import (
    SUBTASKS,
    canonical_subtask,
    help_text,
    parse_arguments,
    parser,
    split_common,
)

MINIMAL = {
    "dataset_convert": "-d export.txt -o records",
    "train": "-e spec.txt -r results",
    "evaluate": "-m model.tlt -e spec.txt",
    "prune": "-m model.tlt -o pruned.tlt",
    "inference": "-m model.tlt -i images -e spec.txt -r results",
    "export": "-m model.tlt -e spec.txt",
}
COMMON = {"gpus": 1, "gpu_index": None, "num_processes": -1, "use_amp": False, "log_file": None}
DEFAULTS: dict[str, dict[str, object]] = {
    "dataset_convert": {
        "spec": "export.txt",
        "output": "records",
        "results_dir": None,
        "verbose": False,
        "class_names_file": None,
        "validation_fold": None,
    },
    "train": {
        "spec": "spec.txt",
        "results_dir": "results",
        "key": "",
        "model": None,
        "initial_epoch": 1,
        "resume": True,
        "use_multiprocessing": False,
        "arch": None,
    },
    "evaluate": {
        "model": "model.tlt",
        "spec": "spec.txt",
        "key": "",
        "results_dir": None,
        "image_dir": None,
        "label_dir": None,
        "batch_size": None,
    },
    "prune": {
        "model": "model.tlt",
        "output": "pruned.tlt",
        "key": "",
        "normalizer": "max",
        "equalization_criterion": "union",
        "granularity": 8,
        "threshold": 0.1,
        "min_filters": 16,
        "excluded_layers": [],
        "results_dir": None,
        "verbose": False,
    },
    "inference": {
        "model": "model.tlt",
        "image_dir": "images",
        "spec": "spec.txt",
        "key": "",
        "threshold": 0.3,
        "results_dir": "results",
        "image_output_dir": None,
        "label_output_dir": None,
        "batch_size": None,
    },
    "export": {
        "model": "model.tlt",
        "key": "",
        "spec": "spec.txt",
        "output": None,
        "cal_json_file": "",
        "gen_ds_config": False,
        "batch_size": 16,
        "target_opset": 12,
        "static_batch_size": -1,
        "results_dir": None,
        "verbose": False,
        "data_type": "fp32",
        "strict_type_constraints": False,
        "cal_data_file": "",
        "cal_image_dir": "",
        "cal_cache_file": "",
        "engine_file": "",
        "batches": 10,
        "max_batch_size": None,
        "min_batch_size": None,
        "opt_batch_size": None,
        "max_workspace_size": 2,
        "force_ptq": False,
        "onnx_route": None,
        "nms": "onnx",
        "codec": "taomagic",
    },
}


@pytest.fixture(autouse=True)
def _without_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAOMAGIC_KEY", raising=False)


def _parse(words: str) -> argparse.Namespace:
    return parse_arguments("ssd", words.split())


def _refused(words: str) -> UsageProblem:
    with pytest.raises(UsageProblem) as caught:
        _parse(words)
    return caught.value


def test_the_subtasks_in_the_order_of_use() -> None:
    first, *rest = ("dataset_convert", "train"), "evaluate", "prune", "inference", "export"
    deploy = ("gen_trt_engine", "evaluate", "inference", "compare")
    assert dict(SUBTASKS) == {
        "ssd": (*first, *rest),
        "detectnet_v2": (*first, "show", *rest, "calibration_tensorfile"),
        "deploy ssd": deploy,
        "deploy detectnet_v2": deploy,
        "converter": ("",),
        "key": ("check",),
        "device": ("bundle",),
    }


@pytest.mark.parametrize("subtask", MINIMAL)
def test_defaults(subtask: str) -> None:
    values = vars(_parse(f"{subtask} {MINIMAL[subtask]}"))
    hidden = {"mpirun_arg": None, "multi_node": False, "launch_cuda_blocking": False}
    assert values == DEFAULTS[subtask] | COMMON | hidden | {"task": "ssd", "subtask": subtask}


# Sub-task, words, attribute, value: every spelling of every flag in TAO 3.x, 4.0 and 5.x.
SPELLINGS = [
    ("dataset_convert", "-d x", "spec", "x"),
    ("dataset_convert", "--dataset_export_spec x", "spec", "x"),
    ("dataset_convert", "--dataset-export-spec x", "spec", "x"),
    ("dataset_convert", "-o x", "output", "x"),
    ("dataset_convert", "--output_filename x", "output", "x"),
    ("dataset_convert", "-v", "verbose", True),
    ("dataset_convert", "--verbose", "verbose", True),
    ("dataset_convert", "-r x", "results_dir", "x"),
    ("dataset_convert", "--results_dir x", "results_dir", "x"),
    ("dataset_convert", "-c x", "class_names_file", "x"),
    ("dataset_convert", "--class_names_file x", "class_names_file", "x"),
    ("dataset_convert", "-f 0", "validation_fold", 0),
    ("dataset_convert", "--validation_fold 1", "validation_fold", 1),
    ("train", "-e x", "spec", "x"),
    ("train", "--experiment_spec_file x", "spec", "x"),
    ("train", "--experiment_spec x", "spec", "x"),
    ("train", "-r x", "results_dir", "x"),
    ("train", "--results_dir x", "results_dir", "x"),
    ("train", "-k x", "key", "x"),
    ("train", "--key x", "key", "x"),
    ("train", "--key=x", "key", "x"),
    ("train", "-kx", "key", "x"),
    ("train", "-m x", "model", "x"),
    ("train", "--resume_model_weights x", "model", "x"),
    ("train", "--initial_epoch 5", "initial_epoch", 5),
    ("train", "--use_multiprocessing", "use_multiprocessing", True),
    ("train", "--arch ssd", "arch", "ssd"),
    ("train", "--arch dssd", "arch", "dssd"),
    ("train", "--no-resume", "resume", False),
    ("train", "--no_resume", "resume", False),
    ("train", "--gpus 1", "gpus", 1),
    ("train", "--use_amp", "use_amp", True),
    ("train", "-np 2", "num_processes", 2),
    ("train", "--num_processes -1", "num_processes", -1),
    ("train", "--log_file x", "log_file", "x"),
    ("train", "--gpu_index 3", "gpu_index", [3]),
    ("train", "--gpu_index=3", "gpu_index", [3]),
    ("train", "--gpus 2 --gpu_index 0 1", "gpu_index", [0, 1]),
    ("train", "--mpirun-arg x", "mpirun_arg", "x"),
    ("train", "--multi-node", "multi_node", True),
    ("train", "--launch_cuda_blocking", "launch_cuda_blocking", True),
    ("evaluate", "-m x", "model", "x"),
    ("evaluate", "--model x", "model", "x"),
    ("evaluate", "--model_path x", "model", "x"),
    ("evaluate", "--experiment_spec x", "spec", "x"),
    ("evaluate", "--experiment_spec_file x", "spec", "x"),
    ("evaluate", "-k x", "key", "x"),
    ("evaluate", "-r x", "results_dir", "x"),
    ("evaluate", "-i x", "image_dir", "x"),
    ("evaluate", "--image_dir x", "image_dir", "x"),
    ("evaluate", "-l x", "label_dir", "x"),
    ("evaluate", "--label_dir x", "label_dir", "x"),
    ("evaluate", "-b 4", "batch_size", 4),
    ("evaluate", "--batch_size 4", "batch_size", 4),
    ("inference", "--model x", "model", "x"),
    ("inference", "--model_path x", "model", "x"),
    ("inference", "--image_dir x", "image_dir", "x"),
    ("inference", "--in_image_dir x", "image_dir", "x"),
    ("inference", "--experiment_spec x", "spec", "x"),
    ("inference", "--experiment_spec_file x", "spec", "x"),
    ("inference", "--config_path x", "spec", "x"),
    ("inference", "-k x", "key", "x"),
    ("inference", "-t 0.4", "threshold", 0.4),
    ("inference", "--threshold 0.4", "threshold", 0.4),
    ("inference", "--results_dir x", "results_dir", "x"),
    ("inference", "-o x", "image_output_dir", "x"),
    ("inference", "--out_image_dir x", "image_output_dir", "x"),
    ("inference", "-l x", "label_output_dir", "x"),
    ("inference", "--out_label_dir x", "label_output_dir", "x"),
    ("inference", "-b 2", "batch_size", 2),
    ("inference", "--batch_size 2", "batch_size", 2),
    ("prune", "--model x", "model", "x"),
    ("prune", "--pretrained_model x", "model", "x"),
    ("prune", "--output_file x", "output", "x"),
    ("prune", "-k x", "key", "x"),
    ("prune", "-n L2", "normalizer", "L2"),
    ("prune", "--normalizer max", "normalizer", "max"),
    ("prune", "-eq intersection", "equalization_criterion", "intersection"),
    ("prune", "--equalization_criterion geometric_mean", "equalization_criterion", "geometric_mean"),
    ("prune", "-pg 4", "granularity", 4),
    ("prune", "--pruning_granularity 4", "granularity", 4),
    ("prune", "-pruning_granularity 4", "granularity", 4),
    ("prune", "-pth 0.7", "threshold", 0.7),
    ("prune", "-pth 0.0000052", "threshold", 5.2e-6),
    ("prune", "--pruning_threshold 0.7", "threshold", 0.7),
    ("prune", "-nf 4", "min_filters", 4),
    ("prune", "--min_num_filters 4", "min_filters", 4),
    ("prune", "-el a b", "excluded_layers", ["a", "b"]),
    ("prune", "--excluded_layers a", "excluded_layers", ["a"]),
    ("prune", "--results_dir x", "results_dir", "x"),
    ("prune", "-v", "verbose", True),
    ("export", "--model x", "model", "x"),
    ("export", "--experiment_spec x", "spec", "x"),
    ("export", "--experiment_spec_file x", "spec", "x"),
    ("export", "--key x", "key", "x"),
    ("export", "-o x", "output", "x"),
    ("export", "--output_file x", "output", "x"),
    ("export", "--cal_json_file x", "cal_json_file", "x"),
    ("export", "--gen_ds_config", "gen_ds_config", True),
    ("export", "-v", "verbose", True),
    ("export", "--verbose", "verbose", True),
    ("export", "--target_opset 17", "target_opset", 17),
    ("export", "--static_batch_size 1", "static_batch_size", 1),
    ("export", "--static_batch_size -1", "static_batch_size", -1),
    ("export", "--results_dir x", "results_dir", "x"),
    ("export", "--data_type int8", "data_type", "int8"),
    ("export", "-s", "strict_type_constraints", True),
    ("export", "--strict_type_constraints", "strict_type_constraints", True),
    ("export", "--cal_data_file x", "cal_data_file", "x"),
    ("export", "--cal_image_dir x", "cal_image_dir", "x"),
    ("export", "--cal_cache_file x", "cal_cache_file", "x"),
    ("export", "--batches 20", "batches", 20),
    ("export", "--batch_size 8", "batch_size", 8),
    ("export", "--max_batch_size 64", "max_batch_size", 64),
    ("export", "--min_batch_size 2", "min_batch_size", 2),
    ("export", "--opt_batch_size 4", "opt_batch_size", 4),
    ("export", "--max_workspace_size 4", "max_workspace_size", 4),
    ("export", "--engine_file x", "engine_file", "x"),
    ("export", "--force_ptq", "force_ptq", True),
    ("export", "--onnx_route tf2onnx", "onnx_route", "tf2onnx"),
    ("export", "--nms nms_dynamic_trt", "nms", "nms_dynamic_trt"),
    ("export", "--codec nvidia", "codec", "nvidia"),
]


@pytest.mark.parametrize(
    ("subtask", "words", "name", "value"), SPELLINGS, ids=[f"{s}{w}" for s, w, _, _ in SPELLINGS]
)
def test_every_spelling_of_every_flag(subtask: str, words: str, name: str, value: object) -> None:
    assert getattr(_parse(f"{subtask} {MINIMAL[subtask]} {words}"), name) == value


@pytest.mark.parametrize("subtask", MINIMAL)
def test_the_table_of_these_tests_has_every_flag(subtask: str) -> None:
    tested = {word for s, words, _, _ in SPELLINGS if s in (subtask, "train") for word in words.split()}
    tested |= {word.partition("=")[0] for word in tested} | set(MINIMAL[subtask].split())
    other_spellings = {
        "-h",
        "--help",
        "--key",
        "-v",
        "--verbose",
        "--mpirun_arg",
        "--multi_node",
        "--model_path",
    }
    flags = {option for action in parser("ssd", subtask)._actions for option in action.option_strings}
    assert flags - other_spellings <= tested


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        ("evaluate --mod m --exper e", "spec", "e"),
        ("prune --pre m --out o --norm L2", "normalizer", "L2"),
        (
            "train --exp e --res r --res_model m" if False else "train --exp e --results r --resume m",
            "model",
            "m",
        ),
        ("export --mod m --exp e --gen", "gen_ds_config", True),
    ],
)
def test_unique_beginnings_of_flags_are_enough(words: str, name: str, value: object) -> None:
    assert getattr(_parse(words), name) == value


def test_a_beginning_of_several_flags_is_refused() -> None:
    assert "ambiguous" in _refused("train -e e -r r --gpu 1").message


@pytest.mark.parametrize("spelling", ["dataset_convert", "dataset-convert"])
def test_both_spellings_of_the_converter(spelling: str) -> None:
    assert _parse(f"{spelling} -d a -o b").subtask == "dataset_convert"


@pytest.mark.parametrize(
    "words",
    [
        "--gpus 2 --gpu_index 0 1 --log_file l train -e e -r r",
        "train -e e -r r --gpus 2 --gpu_index 0 1 --log_file l",
        "--gpus=2 train --gpu_index 0 1 -e e --log_file=l -r r",
        "--gpu_i 0 1 --log l train -e e -r r --gpus 2",
    ],
)
def test_shared_flags_stand_before_or_after_the_subtask(words: str) -> None:
    arguments = _parse(words)
    assert (arguments.gpus, arguments.gpu_index, arguments.log_file, arguments.spec) == (2, [0, 1], "l", "e")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("train -e e", ([], "train", ["-e", "e"])),
        ("--gpus 1 --use_amp train -e e", (["--gpus", "1", "--use_amp"], "train", ["-e", "e"])),
        ("--gpu_index 0 1 train", (["--gpu_index", "0", "1"], "train", [])),
        ("--gpu_index=0 train", (["--gpu_index=0"], "train", [])),
        ("-np 2 train", (["-np", "2"], "train", [])),
        ("--gpus", (["--gpus"], None, [])),
        ("", ([], None, [])),
        ("--help", ([], None, ["--help"])),
    ],
)
def test_words_are_split_at_the_subtask(
    words: str, expected: tuple[list[str], str | None, list[str]]
) -> None:
    assert split_common(words.split()) == expected


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (
            "train --experiment_spec_fle a -r b",
            "unknown flag --experiment_spec_fle",
            "Did you mean --experiment_spec_file?",
        ),
        (
            "train -e a -r b --initial-epoch 3",
            "unknown flag --initial-epoch",
            "Did you mean --initial_epoch?",
        ),
        ("train -e a -r b --Gpus=2", "unknown flag --Gpus", "Did you mean --gpus?"),
        ("train -e a -r b -pth 0.1", "unknown flag -pth", "Valid flags: "),
        ("train -e a -r b -n name", "unknown flag -n", "Valid flags: "),
        ("evaluate -m a -e b --threshold 3", "unknown flag --threshold", "Valid flags: "),
        ("train -e a -r b c d", "can't place the argument 'c'", "quotes"),
        ("train -r b", "the following arguments are required: -e/--experiment_spec_file", "--help"),
        ("prune -m a", "required: -o/--output_file", "--help"),
        ("train -e a -r", "expected one argument", "--help"),
        ("train -e a -r b --initial_epoch 0", "'0' is not a whole number above 0", "--help"),
        ("train -e a -r b --initial_epoch x", "'x' is not a whole number above 0", "--help"),
        ("train -e a -r b --arch yolo", "invalid choice: 'yolo'", "--help"),
        ("train -e a -r b --gpus 0", "'0' is not a whole number above 0", "--help"),
        ("train -e a -r b --gpu_index -1", "'-1' is not a whole number of at least 0", "--help"),
        ("train -e a -r b -np 0", "'0' is not -1 or a whole number above 0", "--help"),
        ("train -e a -r b --gpus 2 --gpu_index 0", "--gpu_index names 1 GPU(s), --gpus says 2", "--gpus 1"),
        ("train -e a -r b --gpu_index 0 1", "--gpu_index names 2 GPU(s), --gpus says 1", "--gpus 2"),
        ("train -e a -r b --gpus 2 --gpu_index 1 1", "--gpu_index names 1 GPU(s)", "different"),
        ("evaluate -m a -e b --gpus 2", "only train runs on more than one GPU", "--gpus 2"),
        ("export -m a -e b --use_amp", "mixed precision is for train only", "--use_amp"),
        ("inference -m a -i b -e c", "needs a folder for its results", "-r FOLDER"),
        ("inference -m a -i b -e c", "needs a folder for its results", "-l FOLDER"),
        ("inference -m a -i b -e c -r d -t 1", "'1' is not a number between 0 and 1", "--help"),
        ("inference -m a -i b -e c -r d -t nan", "'nan' is not a number between 0 and 1", "--help"),
        ("prune -m a -o b -pth -0.1", "'-0.1' is not a number of at least 0", "--help"),
        ("prune -m a -o b -eq mean", "invalid choice: 'mean'", "--help"),
        ("prune -m a -o b -n l2", "invalid choice: 'l2'", "--help"),
        ("trian -e a", "ssd has no sub-task 'trian'", "Did you mean train?"),
        ("kmeans", "ssd has no sub-task 'kmeans'", "dataset_convert, train"),
        ("", "needs a sub-task", "dataset_convert, train"),
        ("-e a train -r b", "-e can't stand before the sub-task", "after the sub-task"),
        ("--gpu 1 train -e a -r b", "--gpu may mean several flags", "--gpus"),
    ],
)
def test_mistakes_are_explained(words: str, message: str, hint: str) -> None:
    problem = _refused(words)
    assert message in problem.message
    assert hint in problem.hint


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(UsageProblem, match="unknown network 'sdd'"):
        parse_arguments("sdd", ["train"])
    with pytest.raises(UsageProblem, match="unknown network"):
        canonical_subtask("yolo_v3", "train")


WORDS = [
    "-e",
    "-r",
    "-m",
    "-k",
    "-h",
    "-pth",
    "0.1",
    "--gpus",
    "2",
    "train",
    "prune",
    "--gpu_index=0",
    "--",
    "--x=",
    "=",
]


@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=8))))
@settings(max_examples=200, deadline=None)
def test_any_words_are_parsed_or_refused(words: list[str]) -> None:
    with contextlib.suppress(UsageProblem, SystemExit):
        parse_arguments("ssd", words)


def test_the_key_comes_from_the_environment_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAOMAGIC_KEY", "from the environment")
    assert _parse("train -e a -r b").key == "from the environment"
    assert _parse("train -e a -r b -k given").key == "given"


def test_the_help_never_shows_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAOMAGIC_KEY", "nvidia_tlt_secret")
    for subtask in SUBTASKS["ssd"]:
        assert "nvidia_tlt_secret" not in help_text("ssd", subtask)


@pytest.mark.parametrize("subtask", MINIMAL)
def test_the_help_describes_every_advertised_flag_and_has_an_example(subtask: str) -> None:
    text = help_text("ssd", subtask)
    for action in parser("ssd", subtask)._actions:
        advertised = action.help != argparse.SUPPRESS
        for option in action.option_strings:
            if option.startswith("--"):
                assert (
                    f"{option} " in text or f"{option}\n" in text or f"{option}," in text
                ) or not advertised
        assert action.help, action.dest
    assert f"Example:\n  tao ssd {subtask} " in text
    assert "--data_type" not in text


@pytest.mark.parametrize("subtask", MINIMAL)
def test_the_example_in_the_help_is_right(subtask: str) -> None:
    example = help_text("ssd", subtask).split("Example:\n  tao ssd ")[1]
    parse_arguments("ssd", example.split())


def test_the_help_of_the_network_lists_its_subtasks() -> None:
    text = help_text("ssd")
    for subtask in SUBTASKS["ssd"]:
        assert f"\n  {subtask} " in text


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["train", "-h"], ["--gpus", "1", "prune", "--help"]])
def test_help_is_printed_and_ends_without_error(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments("ssd", words, prog="tao model ssd")
    assert ended.value.code == 0
    assert "usage: tao model ssd" in capsys.readouterr().out


def test_importing_the_arguments_imports_nothing_heavy() -> None:
    code = (
        "import sys; import taomagic.spec.arguments; "
        "print(sorted({'torch', 'numpy', 'google.protobuf', 'nbformat', 'IPython'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"
