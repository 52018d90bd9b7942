from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taomagic.launcher.cells import Names, split_words
from taomagic.launcher.command import CONTROL_WORDS
from taomagic.launcher.completion import Completion, Facts, complete
from taomagic.launcher.context import Context
from taomagic.project.mounts import MountMap
from taomagic.spec.arguments import SUBTASKS, parser

ROOT = "/workspace/tao-experiments"
Words = Callable[[str], list[str]]


@pytest.fixture
def facts(tmp_path: Path) -> Facts:
    project = tmp_path / "nb"
    for number, file in enumerate(
        (
            "ssd/run1/weights/ssd_resnet10_epoch_001.tlt",
            "ssd/run1/weights/ssd_resnet10_epoch_002.tlt",
            "ssd/run1/weights/notes.csv",
            "ssd/pruned.hdf5",
            "specs/ssd_train.txt",
            "specs/ssd eval.yaml",
            "specs/README.md",
            "data/training/image_2/0.png",
            "data/my images/0.png",
            ".tao/jobs/0000000001/job.json",
            ".tao/jobs/00000000a2/job.json",
            ".tao/jobs/00000000a2/exit.json",
            ".tao/jobs/broken/nothing",
        )
    ):
        path = project / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
        os.utime(path, (1_000_000 + number, 1_000_000 + number))
    environ = {
        "HOME": str(tmp_path),
        "SPECS_DIR": f"{ROOT}/ssd/specs",
        "LOCAL_SPECS_DIR": str(project / "specs"),
        "USER_EXPERIMENT_DIR": f"{ROOT}/ssd",
        "DATA_DOWNLOAD_DIR": f"{ROOT}/data",
        "KEY": "secret-key",
        "NUM_GPUS": "2",
    }
    mounts = MountMap(((str(project), ROOT), (str(project / "specs"), f"{ROOT}/ssd/specs")))
    names = Names({"model": f"{ROOT}/ssd/run1", "own": Path("/nowhere"), "KEY": "secret-key"}, environ)
    return Facts(names, Context(project, project, environ, mounts))


@pytest.fixture
def words(facts: Facts) -> Words:
    def ask(text: str) -> list[str]:
        found = complete(text, facts)
        assert found is not None
        assert text.endswith(found.fragment)
        return list(found.words)

    return ask


def test_a_command_begins_with_a_task_a_group_or_a_control_word(words: Words) -> None:
    every = words("%tao ")
    assert every[0] == "ssd", "what runs here comes first"
    assert {"detectnet_v2", "annotations", "model", "deploy", *CONTROL_WORDS} <= set(every)
    assert words("%tao det") == ["detectnet_v2"]
    assert "trtexec" in words("%tao deploy ")
    assert "trtexec" not in words("%tao model ")
    assert words("%tao nonsense ") == []


@pytest.mark.parametrize(
    "before",
    [
        "%tao ssd ",
        "%tao model ssd ",
        "x = %tao ssd ",
        "a.b['c'] = %tao ssd ".replace("'", ""),
        "%time %tao ssd ",
        "for i in x:\n    %tao ssd ",
        "%tao -o r --backend process ssd ",
        "%tao --release=5.5.0 --volume /a:/b ssd ",
        "%tao ssd --gpus 1 --gpu_index 0 ",
        "!tao ssd ",
        "! tao model ssd ",
        "!tlt ssd ",
        "%tao \\\n  ssd \\\n   ",
        "%%tao\nssd train -e a\n  -r b\nssd ",
        "%%tao -o both\nssd ",
        "%%tao ssd ",
        "print(1)\n!tao ssd ",
    ],
)
def test_sub_tasks_are_offered_wherever_a_command_may_stand(before: str, words: Words) -> None:
    assert words(before) == [*SUBTASKS["ssd"], "run"]
    assert words(before + "tr") == ["train"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "%ta",
        "%tao",
        "print(1)",
        "x = 1",
        "%%bash\nls ",
        "!tao ssd train -e x | tee ",
        "!echo tao ssd ",
        "%tao ssd train -e x # and ",
        "text = '%tao ssd ",
        "%taoist ssd ",
        "%tao ssd train -e x\n",
    ],
)
def test_elsewhere_nothing_is_said(text: str, facts: Facts) -> None:
    assert complete(text, facts) is None


def test_fields_are_offered_in_a_spec(words: Words) -> None:
    assert words("%%tao_spec detectnet_v2_train.txt\nbbox_rasterizer_config {\n  dead") == ["deadzone_radius"]
    assert words("%%tao_spec ssd_train.txt\nrandom_seed: ") == []


@pytest.mark.parametrize("subtask", SUBTASKS["ssd"])
def test_every_flag_of_every_generation_is_offered(subtask: str, words: Words) -> None:
    actions = [action for action in parser("ssd", subtask)._actions if action.dest != "help"]
    shown = {
        option for action in actions if action.help != "==SUPPRESS==" for option in action.option_strings
    }
    assert set(words(f"%tao ssd {subtask} -")) == shown
    first = [action.option_strings[0] for action in actions if action.required]
    assert words(f"%tao ssd {subtask} ")[: len(first)] == first, "what is needed comes first"


def test_flags_that_are_given_are_not_offered_again_and_hidden_ones_only_when_typed(words: Words) -> None:
    left = words("%tao ssd train --experiment_spec_file x --gpus=2 -")
    assert not {"-e", "--experiment_spec_file", "--gpus"} & set(left)
    assert words("%tao ssd evaluate --m") == ["--model", "--model_path"]
    assert words("%tao ssd train --mpi") == ["--mpirun-arg", "--mpirun_arg"]


def test_flags_of_tasks_that_only_containers_know_are_the_usual_ones(words: Words) -> None:
    assert {"-e", "-r", "-k", "--gpus"} <= set(words("%tao faster_rcnn train -"))
    assert words("!tao-deploy ssd ") == ["gen_trt_engine", "evaluate", "inference", "compare", "run"]
    assert "--engine_file" in words("!tao-deploy ssd gen_trt_engine --")
    assert words("%tao ssd run ls ") == [], "what a program takes is its own affair"


def test_values_are_what_the_flag_takes(words: Words) -> None:
    assert words("%tao ssd prune -eq ") == ["arithmetic_mean", "geometric_mean", "union", "intersection"]
    assert words("%tao ssd prune -eq=un") == ["-eq=union"]
    assert words("%tao ssd train --gpus ") == ["$NUM_GPUS"]
    assert words("%tao ssd train --initial_epoch ") == []
    assert words("%tao --backend d") == ["docker"]
    assert words("%tao --backend=pro") == ["--backend=process"]
    assert "5.5.0" in words("%tao --release ")
    assert "--volume" in words("%tao --")


def test_lines_of_flags_below_a_command_belong_to_it(words: Words) -> None:
    assert words("%tao ssd prune\n  -m x\n  -eq un") == ["union"]


def test_the_keys_value_is_never_shown(words: Words, facts: Facts) -> None:
    assert words("%tao ssd train -k ") == ["$KEY"]
    for text in (
        "%tao ",
        "%tao ssd train -e $",
        "%tao_env --key ",
        "%tao ssd train -k s",
        "%tao ssd train -e ",
    ):
        assert "secret-key" not in str(complete(text, facts))


def test_specs_are_offered_by_the_variable_that_people_use(words: Words) -> None:
    assert words("%tao ssd train -e ")[:2] == [r"$SPECS_DIR/ssd\ eval.yaml", "$SPECS_DIR/ssd_train.txt"]
    assert words("%tao ssd dataset_convert -d $SPECS_DIR/ssd_") == ["$SPECS_DIR/ssd_train.txt"]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("$SPECS_DIR/ssd_t", "$SPECS_DIR/ssd_train.txt"),
        ("${SPECS_DIR}/ssd_t", "${SPECS_DIR}/ssd_train.txt"),
        ("{SPECS_DIR}/ssd_t", "{SPECS_DIR}/ssd_train.txt"),
        (f"{ROOT}/ssd/specs/ssd_t", f"{ROOT}/ssd/specs/ssd_train.txt"),
        ("specs/ssd_t", "specs/ssd_train.txt"),
        ("./specs/ssd_t", "./specs/ssd_train.txt"),
        ("~/nb/specs/ssd_t", "~/nb/specs/ssd_train.txt"),
        ('"$SPECS_DIR/ssd e', '"$SPECS_DIR/ssd eval.yaml'),
        (r"$SPECS_DIR/ssd\ e", r"$SPECS_DIR/ssd\ eval.yaml"),
        ("'specs/ssd e", "'specs/ssd eval.yaml"),
        ("$SPEC", "$SPECS_DIR/"),
        ("/workspace/tao", "/workspace/tao-experiments/"),
        ("/works", "/workspace/"),
        (f"{ROOT}/ssd/sp", f"{ROOT}/ssd/specs/"),
        ("$USER_EXPERIMENT_DIR/sp", "$USER_EXPERIMENT_DIR/specs/"),
    ],
)
def test_paths_keep_the_spelling_in_which_they_are_typed(
    typed: str, expected: str, words: Words, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expected in words(f"%tao ssd train -e {typed}")


def test_models_are_found_below_the_results_the_newest_first(words: Words) -> None:
    models = words("%tao ssd evaluate -m ")
    assert models[:3] == [
        "$USER_EXPERIMENT_DIR/pruned.hdf5",
        "$USER_EXPERIMENT_DIR/run1/weights/ssd_resnet10_epoch_002.tlt",
        "$USER_EXPERIMENT_DIR/run1/weights/ssd_resnet10_epoch_001.tlt",
    ]
    assert not any("notes.csv" in model for model in models)
    assert "$model/weights/ssd_resnet10_epoch_001.tlt" in words("%tao ssd evaluate -m $model/we")
    assert words("%tao ssd evaluate -m $own/") == []


def test_folders_are_offered_for_results_and_images(words: Words) -> None:
    assert words("%tao ssd train -r ")[:2] == ["$USER_EXPERIMENT_DIR/", "$USER_EXPERIMENT_DIR/run1/"]
    assert words("%tao ssd inference -i $DATA_DOWNLOAD_DIR/") == [
        r"$DATA_DOWNLOAD_DIR/my\ images/",
        "$DATA_DOWNLOAD_DIR/training/",
    ]


def test_what_is_offered_is_read_as_the_file_that_it_names(words: Words, facts: Facts) -> None:
    for typed in ("$SPECS_DIR/", '"$SPECS_DIR/', "specs/", "{SPECS_DIR}/"):
        for word in words(f"%tao ssd train -e {typed}"):
            closed = word + ('"' if word.startswith('"') else "")
            [path] = split_words(closed, facts.names)
            assert facts.context.host(path).is_file()


def test_jobs_are_offered_by_id_the_newest_first(words: Words) -> None:
    assert words("%tao attach ") == ["00000000a2", "0000000001"]
    assert words("%tao logs 00000000a") == ["00000000a2"]
    assert words("%tao stop ") == ["0000000001"], "what has ended can't be stopped"
    assert words("%tao stop --") == ["--all"]
    assert words("%tao attach 0000000001 ") == []


def test_control_words_have_arguments_of_their_own(words: Words) -> None:
    assert words("%tao help ssd ") == [*SUBTASKS["ssd"]]
    assert "detectnet_v2" in words("%tao help de")
    assert words("%tao info --v") == ["--verbose"]
    assert words("%tao samples ") == ["create", "specs", "notebook", "weights"]
    assert words("%tao samples specs s") == ["ssd"]
    assert words("%tao key ") == ["check"]
    assert words("%tao samples weights m") == ["mobilenet_v2"]
    assert "data/" in words("%tao samples create d")
    assert words("%tao list ") == []


def test_a_quote_that_is_open_since_an_earlier_line_has_no_words(facts: Facts) -> None:
    assert complete("%tao '\n -a", facts) is None


def test_the_environments_arguments(words: Words) -> None:
    assert words("%tao_env ")[0] == "ssd"
    assert words("%tao_env det") == ["detectnet_v2"]
    assert words("%tao_env --") == [
        "--project-dir",
        "--data-dir",
        "--family",
        "--key",
        "--gpus",
        "--backend",
        "--release",
        "--lang",
        "--for-nvidia-notebooks",
        "--show",
    ]
    assert words("%tao_env rtd") == ["rtdetr"]
    assert words("%tao_env ssd --family ") == ["a", "b", "c"]
    assert words("%tao_env ssd --lang ") == ["en", "zh"]
    assert words("%tao_env --release 5.5") == ["5.5.0"]
    assert words("%tao_env --backend=d") == ["--backend=docker"]
    assert words("%tao_env --data-dir da") == ["data/"]
    assert "det" not in "".join(words("%tao_env ssd --"))


def test_spec_cells_name_the_files_that_there_are(words: Words) -> None:
    assert words("%%tao_spec ssd_") == ["ssd_train.txt"]


def test_nothing_of_the_persons_is_computed(facts: Facts) -> None:
    touched: list[str] = []
    facts.names.namespace["touch"] = lambda: touched.append("x")  # type: ignore[index]
    complete("%tao ssd train -e {touch()}/", facts)
    complete("%tao {touch()} ", facts)
    assert not touched


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(alphabet="ab -=/$\\\"'{}#\n%", max_size=25),
    start=st.sampled_from(["%tao ", "%%tao ", "!tao ssd train -e ", "%tao_env "]),
)
def test_any_text_is_answered(text: str, start: str, facts: Facts) -> None:
    found = complete(start + text, facts)
    assert found is None or (isinstance(found, Completion) and (start + text).endswith(found.fragment))


def test_an_answer_takes_less_than_20_ms_of_work_among_hundreds_of_files(facts: Facts) -> None:
    weights = facts.context.project_dir / "ssd"
    for run in range(10):
        (weights / f"run_{run}" / "weights").mkdir(parents=True)
        for epoch in range(40):
            (weights / f"run_{run}" / "weights" / f"e_{epoch:03d}.tlt").touch()
    for text in ("%tao ", "%tao ssd evaluate -m ", "%tao ssd train -e $SPECS_DIR/", "%tao attach "):
        complete(text, facts)
        took = []
        for _ in range(5):
            began = time.process_time()
            complete(text, facts)
            took.append(time.process_time() - began)
        assert min(took) < 0.02, text
