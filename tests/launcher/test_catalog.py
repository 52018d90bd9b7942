from __future__ import annotations

import subprocess
import sys

import pytest

from taomagic.errors import EnvironmentProblem
from taomagic.launcher import catalog


def test_info_has_nvidias_layout() -> None:
    assert catalog.info(catalog.release("5.5.0")).splitlines() == [
        "Configuration of the TAO Toolkit Instance",
        "task_group: ['model', 'dataset', 'deploy']",
        "format_version: 3.0",
        "toolkit_version: 5.5.0",
        "published_date: 08/26/2024",
    ]


def test_info_of_release_3_lists_its_images() -> None:
    lines = catalog.info(catalog.release("3.22.02")).splitlines()
    assert lines[1] == (
        "dockers: ['nvidia/tao/tao-toolkit-tf', 'nvidia/tao/tao-toolkit-pyt', 'nvidia/tao/tao-toolkit-lm']"
    )


def test_verbose_info_is_a_tree_with_numbered_tasks() -> None:
    lines = catalog.info(catalog.release("5.5.0"), verbose=True).splitlines()
    assert lines[:3] == ["Configuration of the TAO Toolkit Instance", "", "task_group: " + " " * 8]
    assert "    model: " + " " * 12 in lines
    assert "                    docker_registry: nvcr.io" in lines
    assert "                        1. action_recognition" in lines
    assert "ssd (dataset_convert, train, evaluate, prune, inference, export)" in lines[-1]
    assert any(
        line.startswith("\t\t")
        for line in catalog.info(catalog.release("3.22.05"), verbose=True).splitlines()
    )


@pytest.mark.parametrize(("name", "count"), [("3.22.02", 33), ("3.22.05", 36)])
def test_number_of_tasks_is_that_of_the_wheel(name: str, count: int) -> None:
    assert sum(len(image.tasks) for image in catalog.release(name).images) == count


@pytest.mark.parametrize(
    ("name", "group", "task", "image"),
    [
        ("3.22.05", "model", "detectnet_v2", "nvcr.io/nvidia/tao/tao-toolkit-tf:v3.22.05-tf1.15.4-py3"),
        ("5.5.0", "model", "ssd", "nvcr.io/nvidia/tao/tao-toolkit:5.0.0-tf1.15.5"),
        ("5.5.0", "deploy", "ssd", "nvcr.io/nvidia/tao/tao-toolkit:5.5.0-deploy"),
    ],
)
def test_image_of_a_task(name: str, group: str, task: str, image: str) -> None:
    found = catalog.release(name).image(group, task)
    assert found is not None
    assert found.name == image


def test_unknown_release_lists_the_known_ones() -> None:
    with pytest.raises(EnvironmentProblem, match="There is no TAO release") as caught:
        catalog.release("9")
    assert "5.5.0" in caught.value.hint


def test_engine_and_spec_agree_on_the_sub_tasks() -> None:
    from taomagic.spec.arguments import SUBTASKS

    assert {task: set(words) for task, words in catalog.engine_tasks().items()} == {
        task: set(words) for task, words in SUBTASKS.items()
    }


def test_tao_info_imports_nothing_heavy() -> None:
    program = (
        "import sys; from taomagic.cli import tao; tao(['info']);"
        "heavy = ('numpy', 'torch', 'IPython', 'nbformat', 'google.protobuf', 'psutil', 'subprocess');"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
