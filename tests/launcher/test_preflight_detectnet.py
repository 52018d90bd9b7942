"""What is checked before a command of DetectNet_v2 starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from taomagic.errors import DataProblem, ModelFileProblem, SpecProblem, TaoError, UsageProblem
from taomagic.launcher import preflight
from taomagic.launcher.command import parse_command
from taomagic.launcher.context import Context
from taomagic.project.mounts import MountMap
from taomagic.project.paths import CONTAINER_ROOT as ROOT

SPECS = Path(__file__).parents[2] / "specs" / "detectnet_v2"
PRETRAINED = "detectnet_v2/pretrained_resnet18/pretrained_detectnet_v2_vresnet18/resnet18.hdf5"
TRAIN = f"{ROOT}/detectnet_v2/specs/detectnet_v2_train_resnet18_kitti.txt"
RETRAIN = f"{ROOT}/detectnet_v2/specs/detectnet_v2_retrain_resnet18_kitti.txt"
INFERENCE = f"{ROOT}/detectnet_v2/specs/detectnet_v2_inference_kitti_tlt.txt"
RECORDS = "data/tfrecords/kitti_trainval/kitti_trainval-fold-000-of-002-shard-00000-of-00010"


@pytest.fixture
def ready(context: Context) -> Context:
    """A project in which NVIDIA's specs find everything that they name."""
    project = context.project_dir
    shutil.copytree(SPECS, project / "detectnet_v2" / "specs")
    for folder in ("training/image_2", "training/label_2", "test_samples"):
        (project / "data" / folder).mkdir(parents=True)
    for name in (
        PRETRAINED, RECORDS, "data/test_samples/000000.png", "model.tlt",
        "detectnet_v2/experiment_dir_retrain/weights/resnet18_detector_pruned.tlt",
    ):  # fmt: skip
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).touch()
    return context


def check(context: Context, *words: str) -> tuple[str, ...]:
    return preflight.check(parse_command(["detectnet_v2", *words]), context)


def problem(context: Context, *words: str) -> TaoError:
    with pytest.raises(TaoError) as caught:
        check(context, *words)
    return caught.value


def test_commands_of_nvidias_notebook_can_start(ready: Context) -> None:
    convert = f"{ROOT}/detectnet_v2/specs/detectnet_v2_tfrecords_kitti_trainval.txt"
    model, key = f"{ROOT}/model.tlt", ("-k", "key")
    tensor = f"{ROOT}/detectnet_v2/experiment_dir_final/calibration.tensor"
    for words in (
        ("dataset_convert", "-d", convert, "-o", f"{ROOT}/data/tfrecords/kitti_trainval/kitti_trainval"),
        ("train", "-e", TRAIN, "-r", f"{ROOT}/out", "-n", "resnet18_detector", *key),
        ("evaluate", "-e", TRAIN, "-m", model, *key),
        ("prune", "-m", model, "-o", f"{ROOT}/pruned.tlt", "-eq", "union", "-pth", "0.0000052", *key),
        ("inference", "-e", INFERENCE, "-i", f"{ROOT}/data/test_samples", "-r", f"{ROOT}/out", *key),
        ("inference", "-e", INFERENCE, "-i", f"{ROOT}/data/test_samples", "-o", f"{ROOT}/out", *key),
        ("export", "-m", model, "-e", RETRAIN, "-o", f"{ROOT}/final.onnx", *key),
        ("calibration_tensorfile", "-e", TRAIN, "-m", "10", "-o", tensor),
    ):
        assert check(ready, *words) == (), words


def test_a_mistake_in_the_spec_names_its_line(ready: Context) -> None:
    path = ready.host(TRAIN)
    lines = path.read_text().splitlines()
    [number] = [i for i, line in enumerate(lines, 1) if "output_image_width" in line]
    path.write_text("\n".join(lines).replace("output_image_width: 1248", "output_image_width: 1250"))
    found = problem(ready, "train", "-e", TRAIN, "-r", f"{ROOT}/out", "-k", "key")
    assert isinstance(found, SpecProblem)
    assert (found.path, found.line) == (TRAIN, number)


@pytest.mark.parametrize("subtask", ["train", "evaluate", "calibration_tensorfile"])
def test_missing_records_say_how_to_make_them(ready: Context, subtask: str) -> None:
    (ready.project_dir / RECORDS).unlink()
    output = {"train": ("-r", f"{ROOT}/out"), "evaluate": ("-m", f"{ROOT}/model.tlt")}
    words = (*output.get(subtask, ("-o", f"{ROOT}/a.tensor")), *(("-k", "k") if subtask in output else ()))
    found = problem(ready, subtask, "-e", TRAIN, *words)
    assert isinstance(found, DataProblem)
    pattern = "data/tfrecords/kitti_trainval/*"
    assert f"{ROOT}/{pattern} (here: {ready.project_dir}/{pattern})" in found.message
    assert found.where == TRAIN
    assert "tao detectnet_v2 dataset_convert" in found.hint


def test_flags_take_the_place_of_the_specs_images(ready: Context) -> None:
    (ready.project_dir / RECORDS).unlink()
    folders = ("-i", f"{ROOT}/data/training/image_2", "-l", f"{ROOT}/data/training/label_2")
    assert check(ready, "evaluate", "-e", TRAIN, "-m", f"{ROOT}/model.tlt", "-k", "key", *folders) == ()


def test_missing_images_name_what_is_near(ready: Context) -> None:
    (ready.project_dir / "data" / "training").rename(ready.project_dir / "data" / "trainings")
    found = problem(ready, "train", "-e", TRAIN, "-r", f"{ROOT}/out", "-k", "key")
    assert isinstance(found, DataProblem)
    assert "trainings" in found.hint


def test_a_pretrained_model_that_is_missing_is_named_with_the_spec(ready: Context) -> None:
    (ready.project_dir / PRETRAINED).rename(ready.project_dir / PRETRAINED.replace("18.hdf5", "34.hdf5"))
    found = problem(ready, "train", "-e", TRAIN, "-r", f"{ROOT}/out", "-k", "key")
    assert isinstance(found, ModelFileProblem)
    assert f"{ROOT}/{PRETRAINED}" in found.message
    assert (found.where, found.hint) == (TRAIN, "Did you mean resnet34.hdf5?")


def test_a_spec_that_names_an_encrypted_model_asks_for_the_key(ready: Context) -> None:
    pruned = "detectnet_v2/experiment_dir_pruned/resnet18_nopool_bn_detectnet_v2_pruned.tlt"
    (ready.project_dir / pruned).parent.mkdir()
    (ready.project_dir / pruned).touch()
    for words in (
        ("train", "-e", RETRAIN, "-r", f"{ROOT}/out"),
        ("inference", "-e", INFERENCE, "-i", f"{ROOT}/data/test_samples", "-r", f"{ROOT}/out"),
    ):
        found = problem(ready, *words)
        assert isinstance(found, UsageProblem)
        assert "-k $KEY" in found.hint
        assert check(ready, *words, "-k", "key") == ()


def test_the_model_of_an_inference_file_must_be_there_unless_another_is_given(ready: Context) -> None:
    shutil.rmtree(ready.project_dir / "detectnet_v2" / "experiment_dir_retrain")
    words = ("inference", "-e", INFERENCE, "-i", f"{ROOT}/data/test_samples", "-r", f"{ROOT}/out", "-k", "k")
    found = problem(ready, *words)
    assert isinstance(found, ModelFileProblem)
    assert "resnet18_detector_pruned" in found.message
    assert check(ready, *words, "-m", f"{ROOT}/model.tlt") == ()


def test_a_training_spec_is_no_inference_spec(ready: Context) -> None:
    found = problem(ready, "inference", "-e", TRAIN, "-i", f"{ROOT}/data/test_samples", "-r", f"{ROOT}/out")
    assert isinstance(found, SpecProblem)
    assert found.line


def test_relative_patterns_begin_where_nvidias_loader_begins_them(
    ready: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ready.host(TRAIN)
    path.write_text(path.read_text().replace(f"{ROOT}/data/tfrecords/kitti_trainval/", "kitti/"))
    words = ("train", "-e", TRAIN, "-r", f"{ROOT}/out", "-k", "key")
    assert "~/datasets/kitti/*" in problem(ready, *words).message
    environ = {**ready.environ, "DATA_BASE_PATH": str(tmp_path / "base")}
    based = Context(ready.project_dir, ready.cwd, environ, ready.mounts)
    (tmp_path / "base" / "kitti").mkdir(parents=True)
    (tmp_path / "base" / "kitti" / "fold").touch()
    assert check(based, *words) == ()


def test_container_paths_without_a_map_point_to_tao_env(ready: Context) -> None:
    bare = Context(ready.project_dir, ready.cwd, ready.environ, MountMap())
    spec = str(ready.host(TRAIN))
    found = problem(bare, "train", "-e", spec, "-r", str(ready.project_dir / "out"), "-k", "key")
    assert "%tao_env" in found.hint
