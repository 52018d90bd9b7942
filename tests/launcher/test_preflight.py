from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from taomagic.errors import (
    DataProblem,
    EnvironmentProblem,
    ModelFileProblem,
    SpecProblem,
    TaoError,
    UsageProblem,
)
from taomagic.launcher import disk, preflight
from taomagic.launcher.command import parse_command
from taomagic.launcher.context import Context
from taomagic.project.mounts import MountMap
from taomagic.project.paths import CONTAINER_ROOT
from taomagic.samples import copy_specs

ROOT = CONTAINER_ROOT


@pytest.fixture
def ready(context: Context) -> Context:
    """A project with specs, data and a model, so that every sub-task could start."""
    project = context.project_dir
    copy_specs("ssd", project / "specs", "sample")
    for folder in ("training/image_2", "training/label_2", "testing/image_2"):
        (project / "data" / folder).mkdir(parents=True)
    (project / "data" / "testing" / "image_2" / "000000.png").touch()
    (project / "model.tlt").touch()
    return context


def check(context: Context, *words: str) -> tuple[str, ...]:
    return preflight.check(parse_command(list(words)), context)


def problem(context: Context, *words: str) -> TaoError:
    with pytest.raises(TaoError) as caught:
        check(context, *words)
    return caught.value


def test_command_that_can_start_has_no_complaint(ready: Context) -> None:
    spec = f"{ROOT}/specs/ssd_tfrecords_kitti_train.txt"
    assert check(ready, "ssd", "dataset_convert", "-d", spec, "-o", f"{ROOT}/data/tf/train") == ()


def test_missing_spec_shows_both_paths_and_the_nearest_name(ready: Context) -> None:
    found = problem(
        ready, "ssd", "dataset_convert", "-d", f"{ROOT}/specs/ssd_tfrecord_kitti_train.txt", "-o", "x"
    )
    assert isinstance(found, SpecProblem)
    assert f"{ROOT}/specs/ssd_tfrecord_kitti_train.txt (here: {ready.project_dir}/specs/" in str(found)
    assert "ssd_tfrecords_kitti_train.txt" in found.hint


def test_missing_folder_names_where_the_path_stops(ready: Context) -> None:
    found = problem(ready, "ssd", "train", "-e", f"{ROOT}/spces/a.txt", "-r", f"{ROOT}/out")
    assert found.hint == f"The path exists up to {ready.project_dir}."


def test_container_path_without_a_map_points_to_tao_env(project: Path) -> None:
    bare = Context(project, project, {}, MountMap())
    found = problem(bare, "ssd", "train", "-e", f"{ROOT}/specs/a.txt", "-r", "out")
    assert "%tao_env" in found.hint


def test_missing_model(ready: Context) -> None:
    found = problem(ready, "ssd", "prune", "-m", f"{ROOT}/mode.tlt", "-o", f"{ROOT}/p.tlt", "-k", "key")
    assert isinstance(found, ModelFileProblem)
    assert "model.tlt" in found.hint


@pytest.mark.parametrize("words", [("-m", f"{ROOT}/model.tlt", "-o", f"{ROOT}/p.hdf5")])
def test_encrypted_model_needs_a_key(ready: Context, words: tuple[str, ...]) -> None:
    found = problem(ready, "ssd", "prune", *words)
    assert isinstance(found, UsageProblem)
    assert "encrypted" in found.message
    assert check(ready, "ssd", "prune", *words, "-k", "key") == ()


def test_missing_data_folder_names_the_spec(ready: Context) -> None:
    shutil.rmtree(ready.project_dir / "data" / "training")
    spec = f"{ROOT}/specs/ssd_tfrecords_kitti_train.txt"
    found = problem(ready, "ssd", "dataset_convert", "-d", spec, "-o", f"{ROOT}/data/tf/train")
    assert isinstance(found, DataProblem)
    assert found.where == spec
    assert "testing" in found.hint or "exists up to" in found.hint


def test_missing_tfrecords_say_how_to_make_them(ready: Context) -> None:
    spec = next((ready.project_dir / "specs").glob("ssd_train_*.txt"))
    found = problem(ready, "ssd", "train", "-e", f"{ROOT}/specs/{spec.name}", "-r", f"{ROOT}/out", "-k", "k")
    assert isinstance(found, DataProblem)


def test_spec_that_does_not_parse_names_file_and_line(ready: Context) -> None:
    (ready.project_dir / "specs" / "bad.txt").write_text("random_seed: 42\nssd_confg {}\n")
    found = problem(ready, "ssd", "train", "-e", f"{ROOT}/specs/bad.txt", "-r", f"{ROOT}/out")
    assert isinstance(found, SpecProblem)
    assert found.line == 2


def test_unknown_flag_and_missing_flag_are_usage(ready: Context) -> None:
    assert isinstance(problem(ready, "ssd", "train", "--epocs", "3"), UsageProblem)
    assert isinstance(problem(ready, "ssd", "train", "-r", "x"), UsageProblem)


def test_empty_argument_from_the_shell(ready: Context) -> None:
    assert "value of -e is empty" in problem(ready, "ssd", "train", "-e", "", "-r", "x").message


def test_results_right_below_the_root_folder_smell_of_an_unset_variable(ready: Context) -> None:
    found = problem(ready, "ssd", "prune", "-m", f"{ROOT}/model.tlt", "-o", "/no_such_dir/x.tlt", "-k", "k")
    assert isinstance(found, UsageProblem)
    assert "variable" in found.hint


def test_results_in_a_file_are_refused(ready: Context) -> None:
    found = problem(
        ready, "ssd", "prune", "-m", f"{ROOT}/model.tlt", "-o", f"{ROOT}/model.tlt/x.tlt", "-k", "k"
    )
    assert "is a file" in found.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_that_may_not_be_written_is_refused(ready: Context) -> None:
    folder = ready.project_dir / "theirs"
    folder.mkdir(mode=0o500)
    found = problem(ready, "ssd", "prune", "-m", f"{ROOT}/model.tlt", "-o", f"{ROOT}/theirs/x.tlt", "-k", "k")
    assert "may not write" in found.message


def test_little_space_is_a_warning(ready: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "LOW_DISK_BYTES", 2**62)
    [warning] = check(ready, "ssd", "prune", "-m", f"{ROOT}/model.tlt", "-o", f"{ROOT}/p.tlt", "-k", "k")
    assert "MB are free" in warning


def test_missing_packages_name_the_extra(ready: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(preflight, "find_spec", lambda name: None if name == "torch" else real(name))
    found = problem(ready, "ssd", "train", "-e", "x", "-r", "y")
    assert "torch" in found.message
    assert "taomagic[engine]" in found.hint


def test_what_the_engine_does_not_know_is_said_honestly(ready: Context) -> None:
    found = problem(ready, "yolo_v4", "train", "-e", "x")
    assert isinstance(found, EnvironmentProblem)
    assert "ssd (dataset_convert" in found.hint
    assert "--backend docker" in found.hint


def test_missing_and_empty_image_folders(ready: Context) -> None:
    spec = next((ready.project_dir / "specs").glob("ssd_train_*.txt")).name
    words = (
        "ssd",
        "inference",
        "-m",
        f"{ROOT}/model.tlt",
        "-e",
        f"{ROOT}/specs/{spec}",
        "-r",
        f"{ROOT}/out",
        "-k",
        "k",
    )
    assert check(ready, *words, "-i", f"{ROOT}/data/testing/image_2") == ()
    assert "image_2" in problem(ready, *words, "-i", f"{ROOT}/data/testing/image_3").hint
    (ready.project_dir / "data" / "testing" / "empty").mkdir()
    assert "is empty" in problem(ready, *words, "-i", f"{ROOT}/data/testing/empty").message
