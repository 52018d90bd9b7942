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
            Command(
                "run",
                "model",
                "ssd",
                "train",
                ("--gpus", "2", "--gpu_index", "0", "1", "-e", "a"),
                ("--gpus", "2", "--gpu_index", "0", "1", "train", "-e", "a"),
            ),
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
        ("deploy ssd train", 'no sub-task "train"', "Did you mean tao model ssd train?"),
        (
            "model ssd gen-trt-engine",
            'no sub-task "gen-trt-engine"',
            "Did you mean tao deploy ssd gen_trt_engine?",
        ),
        ("ssd --gpus 2", "needs a sub-task", "dataset_convert, train, evaluate, prune, inference, export"),
        ("yolo_v4 trian", 'no sub-task "trian"', "Did you mean train?"),
        ("dino --gpus 2 eval-uate", 'no sub-task "eval-uate"', "as it is: tao model dino run dino eval-uate"),
        ("ssd run", "run needs a program", "tao ssd run"),
        ("ssd train --volume", "--volume needs a value", "/data/kitti:/data"),
        ("ssd train --volume /a", "isn't SOURCE:DESTINATION", "/data/kitti:/data"),
        ("ssd train --volume=:/a", "isn't SOURCE:DESTINATION", "/data/kitti:/data"),
        ("ssd train --volume=/a:b", "isn't SOURCE:DESTINATION", "/data/kitti:/data"),
        ("ssd train --volume=/a:/b:ro:rw", "isn't SOURCE:DESTINATION", "/data/kitti:/data"),
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


def test_key_is_masked_and_removed_from_what_a_container_gets() -> None:
    command = parse_command(["ssd", "--gpus", "2", "train", "-k", "SECRET", "-e", "a b"])
    assert command.container_argv == ("ssd", "--gpus", "2", "train", "-k", "SECRET", "-e", "a b")
    assert command.masked() == f"tao ssd --gpus 2 train -k {MASK} -e 'a b'"
    assert command.without_key().typed == ("--gpus", "2", "train", "-e", "a b")
    assert command.without_key().args == ("--gpus", "2", "-e", "a b")


@pytest.mark.parametrize(
    "words",
    [
        ["sh", "-c", "ssd train -k SECRET -e x"],
        ["sh", "-c", "ssd train -kSECRET; ls"],
        ["bash", "-c", "cd /x && ssd train --key='SECRET' && ls"],
        ["sh", "-c", "NGC_API_KEY=SECRET ngc registry model list"],
        ["env", "NGC_API_KEY=SECRET", "ngc"],
        ["ssd", "train", "-k", "SECRET"],
        ["dino", "train", "encryption_key=SECRET"],
    ],
)
def test_key_in_a_program_that_run_starts_is_found_and_masked(words: list[str]) -> None:
    command = parse_command(["ssd", "run", *words])
    assert command.container_argv == tuple(words)
    assert command.key() == "SECRET"
    assert "SECRET" not in command.masked()
    assert MASK in command.masked()
    assert "SECRET" not in repr(command.without_key())


def test_words_that_only_look_like_a_key_stay() -> None:
    words = ["sh", "-c", "ls --keep x; monkey=3 keys=4 kettle -x"]
    command = parse_command(["ssd", "run", *words])
    assert command.key() is None
    assert command.without_key() == command
    assert MASK not in command.masked()


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


@pytest.mark.parametrize(
    ("line", "argv"),
    [
        ("ssd train -e a", ["ssd", "train", "-e", "a"]),
        ("model yolo-v4 dataset-convert -d a", ["yolo_v4", "dataset_convert", "-d", "a"]),
        (
            "detectnet_v2 --gpu_index 0 1 --use_amp train",
            ["detectnet_v2", "--gpu_index", "0", "1", "--use_amp", "train"],
        ),
        ("dino --new-flag 3 train -e x", ["dino", "--new-flag", "3", "train", "-e", "x"]),
        ("dino --new-flag", ["dino", "--new-flag"]),
        ("dino quantize -e x", ["dino", "quantize", "-e", "x"]),
        ("dino some-thing -e x", ["dino", "some-thing", "-e", "x"]),
        ("speech_to_text infer_onnx a=b", ["speech_to_text", "infer_onnx", "a=b"]),
        ("converter -d 3,300,300 m.etlt", ["converter", "-d", "3,300,300", "m.etlt"]),
        ("deploy ssd gen_trt_engine -m a", ["ssd", "gen_trt_engine", "-m", "a"]),
        ("ssd run ls -l --help", ["ls", "-l", "--help"]),
        ("model ssd run ssd train --volume /h:/c -e x", ["ssd", "train", "-e", "x"]),
        ("n_gram", ["/bin/bash"]),
        ("model converter", ["/bin/bash"]),
    ],
)
def test_container_gets_the_words_as_typed(line: str, argv: list[str]) -> None:
    assert list(parse_command(line.split()).container_argv) == argv


@given(st.lists(st.text(max_size=12), min_size=1, max_size=6))
def test_run_passes_any_words_on_untouched(words: list[str]) -> None:
    if any(word.startswith("--volume") for word in words):
        return
    command = parse_command(["ssd", "run", *words])
    assert command.container_argv == tuple(words)
    assert reject_empty(command) is command
    assert not command.wants_shell


def test_labels_of_programs_and_shells() -> None:
    assert parse_command(["model", "ssd", "run", "ls"]).label == "ssd run"
    assert parse_command(["ssd"]).label == "ssd"
    assert parse_command(["ssd"]).masked() == "tao ssd"
    assert parse_command(["ssd"]).wants_shell
    assert not parse_command(["ssd", "train"]).wants_shell
    assert not parse_command(["list"]).wants_shell
    assert parse_command(["ssd", "run", "echo", "a b"]).masked() == "tao ssd run echo 'a b'"
    assert parse_command(["ssd", "gen_trt_engine", "-m", "x"], prog="tao-deploy").masked() == (
        "tao deploy ssd gen_trt_engine -m x"
    )


def test_volumes_are_taken_out_wherever_they_stand() -> None:
    command = parse_command(
        [
            "ssd",
            "--volume=/a b:/c",
            "train",
            "-e",
            "x",
            "--volume",
            "~/d:/e:ro",
            "-r",
            "y",
            "--volume=/a b:/f",
        ]
    )
    assert command.volumes == (("/a b", "/c"), ("~/d", "/e"), ("/a b", "/f"))
    assert command.typed == ("train", "-e", "x", "-r", "y")
    assert command.args == ("-e", "x", "-r", "y")
    assert command.masked().endswith("-r y '--volume=/a b:/c' '--volume=~/d:/e' '--volume=/a b:/f'")
    assert command.without_key().volumes == command.volumes
