from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taomagic.errors import UsageProblem
from taomagic.launcher.command import MASK, Command, mask_key, parse_command, reject_empty, split_key


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ssd train -e a", Command("run", "model", "ssd", "train", ("-e", "a"))),
        ("model ssd train -e a", Command("run", "model", "ssd", "train", ("-e", "a"))),
        ("ssd dataset-convert -d a", Command("run", "model", "ssd", "dataset_convert", ("-d", "a"))),
        (
            "ssd --gpus 2 --gpu_index 0 1 train -e a",
            Command("run", "model", "ssd", "train", ("--gpus", "2", "--gpu_index", "0", "1", "-e", "a")),
        ),
        ("deploy ssd gen_trt_engine -m a", Command("run", "deploy", "ssd", "gen_trt_engine", ("-m", "a"))),
        ("yolo-v4 kmeans", Command("run", "model", "yolo_v4", "kmeans")),
        ("converter -k a b", Command("run", "model", "converter", "", ("-k", "a", "b"))),
        ("annotations convert -e a", Command("run", "dataset", "annotations", "convert", ("-e", "a"))),
        ("n_gram anything x", Command("run", "model", "n_gram", "anything", ("x",))),
        ("info --verbose", Command("info", args=("--verbose",))),
        ("list", Command("list")),
        ("stop --container_id a b", Command("stop", args=("--container_id", "a", "b"))),
        ("attach a", Command("attach", args=("a",))),
        ("samples create d", Command("samples", args=("create", "d"))),
        ("--help", Command("help")),
        ("model", Command("help", "model")),
        ("ssd --help", Command("help", "model", "ssd")),
        ("help ssd train", Command("help", "model", "ssd", "train")),
        ("ssd train -e a --help", Command("help", "model", "ssd", "train")),
    ],
)
def test_every_generation_is_understood(line: str, expected: Command) -> None:
    assert parse_command(line.split()) == expected


def test_tao_deploy_means_the_deploy_group() -> None:
    command = parse_command(["ssd", "evaluate", "-m", "x"], prog="tao-deploy")
    assert (command.group, command.label) == ("deploy", "deploy ssd evaluate")


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("sdd train", 'no task "sdd"', "Did you mean ssd?"),
        ("lst", 'no task "lst"', "Did you mean list?"),
        ("model sds train", 'no task "sds"', "Did you mean ssd?"),
        ("ssd trian", 'no sub-task "trian"', "Did you mean train? Sub-tasks: dataset_convert, train"),
        ("deploy ssd train", 'no sub-task "train"', "gen_trt_engine"),
        ("ssd", "needs a sub-task", "dataset_convert, train, evaluate, prune, inference, export"),
        ("", "no command", "tao ssd train"),
    ],
)
def test_mistakes_name_the_nearest_word(line: str, message: str, hint: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        parse_command(line.split())
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "args",
    [
        ["-k", "SECRET"],
        ["--key", "SECRET"],
        ["--key=SECRET"],
        ["-kSECRET"],
        ["--ke", "SECRET"],
        ["--k=SECRET"],
        ["-k=SECRET"],
    ],
)
def test_key_is_found_masked_and_removed_in_every_spelling(args: list[str]) -> None:
    command = Command("run", "model", "ssd", "train", ("-e", "spec", *args, "-r", "out"))
    assert "SECRET" not in command.masked()
    assert MASK in command.masked()
    assert command.key() == "SECRET"
    assert command.without_key().args == ("-e", "spec", "-r", "out")


def test_key_settings_of_newer_tasks_are_masked() -> None:
    assert mask_key(["encryption_key=x", "train.encryption_key=y", "keys=3"]) == (
        f"encryption_key={MASK}",
        f"train.encryption_key={MASK}",
        "keys=3",
    )


def test_command_without_key_has_none() -> None:
    assert split_key(["-e", "x"]) == (("-e", "x"), None)
    assert split_key(["-k"]) == ((), "")


@given(
    st.lists(st.text(min_size=1, max_size=8), max_size=6),
    st.text(alphabet="abcXYZ019", min_size=12, max_size=16),
)
def test_key_never_shows(words: list[str], key: str) -> None:
    args = (*(word for word in words if not word.startswith("-")), "-k", key)
    assert key not in Command("run", "model", "ssd", "train", args).masked()


def test_options_are_found_in_both_spellings() -> None:
    command = Command(args=("-r", "a", "--spec=b"))
    assert command.option("-r", "--results_dir") == "a"
    assert command.option("-e", "--spec") == "b"
    assert command.option("-m") is None


def test_empty_argument_is_an_error_that_names_the_flag() -> None:
    with pytest.raises(UsageProblem, match="value of -e is empty"):
        reject_empty(Command("run", "model", "ssd", "train", ("-e", "", "-r", "x")))
    reject_empty(Command("run", "model", "ssd", "train", ("-e", "x", "-k", "")))


def test_list_takes_no_arguments() -> None:
    with pytest.raises(UsageProblem, match="takes no arguments"):
        parse_command(["list", "ssd", "train"])
