from __future__ import annotations

from pathlib import Path

import pytest

from taomagic.errors import EnvironmentProblem
from taomagic.launcher import catalog, catalog_build

#: How many tasks each release has, counted as its images list them (NVIDIA's configuration files).
COUNTS = {
    "3.21.08": 23,
    "3.21.11": 33,
    "3.22.02": 33,
    "3.22.05": 36,
    "4.0.0": 59,
    "4.0.1": 61,
    "5.0.0": 61,
    "5.1.0": 63,
    "5.2.0": 65,
    "5.2.0.1": 65,
    "5.3.0": 65,
    "5.5.0": 72,
    "6.0.0": 79,
    "6.0.1": 53,
    "6.25.7": 64,
    "6.25.9": 81,
    "6.25.10": 81,
    "6.25.11": 83,
    "6.25.11.1": 85,
    "6.26.3": 89,
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without configuration files."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("TAOMAGIC_RELEASE", "OVERRIDE_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_catalog_json_is_current() -> None:
    assert catalog_build.TARGET.read_text(encoding="utf-8") == catalog_build.build(), (
        "catalog.toml has changed: python -m taomagic.launcher.catalog_build"
    )


def test_all_releases_are_there_with_all_their_tasks() -> None:
    assert {
        name: sum(len(image.tasks) for image in catalog.release(name).images)
        for name in catalog.release_names()
    } == COUNTS


@pytest.mark.parametrize("name", COUNTS)
def test_every_task_of_every_release_has_an_image(name: str) -> None:
    release = catalog.release(name)
    assert release.grouped == (int(name.partition(".")[0]) >= 5)
    for image in release.images:
        assert len(set(image.tasks)) == len(image.tasks)
        assert image.name == f"nvcr.io/{image.repository}:{image.tag}"
        for task in image.tasks:
            assert task in catalog.tasks(image.group)
            assert release.require_image(image.group, task).tag


@pytest.mark.parametrize(
    ("name", "group", "task", "image"),
    [
        ("3.21.08", "model", "ssd", "tao/tao-toolkit-tf:v3.21.08-py3"),
        ("3.21.11", "model", "vocoder", "tao/tao-toolkit-pyt:v3.21.11-py3"),
        ("3.22.02", "model", "vocoder", "tao/tao-toolkit-pyt:v3.22.02-py3"),
        ("3.22.02", "model", "n_gram", "tao/tao-toolkit-lm:v3.21.08-py3"),
        ("3.22.02", "model", "faster_rcnn", "tao/tao-toolkit-tf:v3.21.11-tf1.15.4-py3"),
        ("3.22.05", "model", "faster_rcnn", "tao/tao-toolkit-tf:v3.22.05-tf1.15.5-py3"),
        ("3.22.05", "model", "detectnet_v2", "tao/tao-toolkit-tf:v3.22.05-tf1.15.4-py3"),
        ("3.22.05", "model", "question_answering", "tao/tao-toolkit-pyt:v3.21.11-py3"),
        ("4.0.0", "model", "unet", "tao/tao-toolkit:4.0.0-tf1.15.5"),
        ("4.0.1", "model", "unet", "tao/tao-toolkit:4.0.1-tf1.15.5"),
        ("4.0.1", "deploy", "unet", "tao/tao-toolkit:4.0.0-deploy"),
        ("5.1.0", "deploy", "classification_pyt", "tao/tao-toolkit:5.1.0-deploy"),
        ("5.1.0", "deploy", "ssd", "tao/tao-toolkit:5.0.0-deploy"),
        ("5.2.0.1", "model", "segformer", "tao/tao-toolkit:5.2.0.1-pyt1.14.0"),
        ("5.5.0", "model", "ssd", "tao/tao-toolkit:5.0.0-tf1.15.5"),
        ("5.5.0", "deploy", "ssd", "tao/tao-toolkit:5.5.0-deploy"),
        ("6.0.1", "model", "mae", "tao-pb25h2:6.0.1-pytorch-stig-fips-x86"),
        ("6.25.7", "dataset", "annotations", "tao/tao-toolkit:6.25.7-data-services"),
        ("6.25.7", "dataset", "analytics", "tao/tao-toolkit:6.0.0-data-services"),
        ("6.25.11.1", "model", "depth_net", "tao/tao-toolkit:6.25.11-pyt"),
        ("6.26.3", "model", "cosmos-embed1", "tao/tao-toolkit:6.26.3-cosmos-embed"),
        ("6.26.3", "dataset", "skin_tone", "tao/tao-toolkit:6.26.3-data-services"),
    ],
)
def test_image_of_a_task(name: str, group: str, task: str, image: str) -> None:
    assert catalog.release(name).require_image(group, task).name == f"nvcr.io/nvidia/{image}"


def test_what_is_inferred_is_said() -> None:
    noted = [name for name in catalog.release_names() if catalog.release(name).note]
    assert noted == ["3.21.08", "3.21.11"]
    assert catalog.release("3.21.08").published == "unknown"


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        ("3.22.05", "3.22.05"),
        ("v3.22.05", "3.22.05"),
        ("0.1.21", "3.22.02"),
        ("0.1.23", "3.22.05"),
        ("0.1.24", "3.22.05"),
        ("5.5.1", "5.5.0"),
        ("5.5", "5.5.0"),
        ("5.2.0", "5.2.0"),
        ("6.25.11", "6.25.11"),
        ("6.26", "6.26.3"),
    ],
)
def test_release_by_any_of_its_names(wish: str, name: str) -> None:
    assert catalog.release_name(wish) == name
    assert catalog.release(wish).name == name


@pytest.mark.parametrize("wish", ["9", "", "x", "5.5.2", ".", "3.22.0"])
def test_unknown_release_lists_the_known_ones(wish: str) -> None:
    with pytest.raises(EnvironmentProblem, match="There is no TAO release") as caught:
        catalog.release_name(wish)
    assert all(name in caught.value.hint for name in COUNTS)


def test_ambiguous_release_lists_those_that_are_meant() -> None:
    with pytest.raises(EnvironmentProblem, match="Several TAO releases") as caught:
        catalog.release("4.0")
    assert caught.value.hint == "Releases: 4.0.0, 4.0.1."


def test_release_follows_the_variable_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert catalog.release().name == "5.5.0"
    monkeypatch.setenv("TAOMAGIC_RELEASE", "0.1.24")
    assert catalog.release().name == "3.22.05"
    monkeypatch.setenv("TAOMAGIC_RELEASE", "6.26.3")
    assert catalog.release().name == "6.26.3"


def test_registry_is_replaced_by_the_variable_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    image = catalog.release("5.5.0").require_image("model", "ssd")
    monkeypatch.setenv("OVERRIDE_REGISTRY", "mirror.school.cn:5000/")
    assert image.name == "mirror.school.cn:5000/nvidia/tao/tao-toolkit:5.0.0-tf1.15.5"
    monkeypatch.delenv("OVERRIDE_REGISTRY")
    assert image.name == "nvcr.io/nvidia/tao/tao-toolkit:5.0.0-tf1.15.5"


@pytest.mark.parametrize(
    ("name", "group", "task", "words"),
    [
        (
            "5.5.0",
            "model",
            "classification",
            "It calls it classification_tf1. | tao --release 3.22.05 classification",
        ),
        (
            "3.22.05",
            "model",
            "efficientdet_tf1",
            "It calls it efficientdet. | --release 6.26.3 efficientdet_tf1",
        ),
        ("3.22.05", "deploy", "ssd", "4.0.0, 4.0.1 | tao --release 6.26.3 deploy ssd"),
        ("6.0.1", "model", "ssd", "Releases that have it: 3.21.08 | 6.26.3"),
        ("3.21.08", "model", "vocoder", "3.21.11, 3.22.02 | isn't known"),
        (
            "5.5.0",
            "model",
            "n_gram",
            "3.21.08, 3.21.11, 3.22.02, 3.22.05, 4.0.0, 4.0.1; | --release 4.0.1 n_gram",
        ),
    ],
)
def test_task_of_another_release_tells_which(name: str, group: str, task: str, words: str) -> None:
    release = catalog.release(name)
    assert release.image(group, task) is None
    with pytest.raises(EnvironmentProblem, match=f"TAO {name} has no") as caught:
        release.require_image(group, task)
    assert all(word in caught.value.hint for word in words.split(" | ")), caught.value.hint


def test_engine_and_spec_agree_on_the_sub_tasks() -> None:
    from taomagic.spec.arguments import SUBTASKS

    assert {task: set(words) for task, words in catalog.engine_tasks().items()} == {
        task: set(words) for task, words in SUBTASKS.items() if task in catalog.engine_tasks()
    }


def test_sub_tasks_of_all_kinds_of_tasks() -> None:
    assert catalog.subtasks("model", "converter") == ()
    assert catalog.subtasks("deploy", "trtexec") == ()
    assert catalog.subtasks("deploy", "clip") == ("gen_trt_engine", "evaluate", "inference")
    assert catalog.subtasks("model", "n_gram") is None
    assert catalog.subtasks("model", "rtdetr") == ("train", "evaluate", "inference", "export")
    assert "infer_onnx" in (catalog.subtasks("model", "speech_to_text") or ())
