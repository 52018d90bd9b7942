from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.launcher import backends
from taomagic.launcher.command import parse_command
from taomagic.launcher.containers import engine as engines
from taomagic.launcher.containers import image_facts
from taomagic.launcher.containers.api import EngineProblem
from taomagic.launcher.containers.container import EngineFacts
from taomagic.launcher.context import Context
from taomagic.project.mounts import MountMap

TRAIN = ("ssd", "train", "-e", "x", "-r", "y")


def choose(tmp_path: Path, *words: str, wish: str | None = None, **environ: str) -> backends.Choice:
    context = Context(tmp_path, tmp_path, {"PATH": "", **environ}, MountMap())
    return backends.choose(parse_command(list(words)), context, wish)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """What there is on the machine that ``auto`` looks at."""
    has = {"engine": True, "gpu": True, "image": True}

    def facts(_engine: object) -> EngineFacts:
        if not has["engine"]:
            raise EngineProblem("nobody there", 0)
        return EngineFacts(has_gpus=has["gpu"])

    monkeypatch.setattr(engines, "facts", facts)
    monkeypatch.setattr(image_facts, "find", lambda *_: object() if has["image"] else None)
    return has


def test_backend_comes_from_the_argument_then_the_environment() -> None:
    assert backends.wished(None, {}) == "auto"
    assert backends.wished(None, {"TAOMAGIC_BACKEND": "process"}) == "process"
    assert backends.wished("docker", {"TAOMAGIC_BACKEND": "process"}) == "docker"
    with pytest.raises(UsageProblem, match="no backend"):
        backends.wished("dokcer", {})


def test_auto_prefers_nvidias_container_where_everything_for_it_is_here(
    tmp_path: Path, machine: Mapping[str, bool]
) -> None:
    choice = choose(tmp_path, *TRAIN)
    assert choice.backend == "docker"
    assert choice.image == "nvcr.io/nvidia/tao/tao-toolkit:5.0.0-tf1.15.5"
    assert choice.why


@pytest.mark.parametrize(
    ("missing", "said"),
    [("engine", "no Docker engine"), ("gpu", "no GPU"), ("image", "tao-toolkit:5.0.0-tf1.15.5 isn't here")],
)
def test_auto_takes_the_embedded_engine_otherwise_and_says_why(
    tmp_path: Path, machine: dict[str, bool], missing: str, said: str
) -> None:
    machine[missing] = False
    choice = choose(tmp_path, *TRAIN)
    assert choice.backend == "process"
    assert said in choice.why


def test_auto_takes_a_container_for_what_the_embedded_engine_does_not_know(
    tmp_path: Path, machine: dict[str, bool]
) -> None:
    machine["gpu"] = machine["image"] = False
    for words in (("yolo_v4", "train", "-e", "x"), ("ssd", "run", "echo", "hi")):
        assert choose(tmp_path, *words).backend == "docker"


def test_what_only_the_embedded_engine_has_runs_there_unless_our_image_is_wished_for(
    tmp_path: Path, machine: Mapping[str, bool]
) -> None:
    show = ("detectnet_v2", "show", "-e", "x", "-r", "y")
    assert choose(tmp_path, *show).backend == "process"
    with pytest.raises(EnvironmentProblem, match="containers have no detectnet_v2 show"):
        choose(tmp_path, *show, wish="docker")
    assert choose(tmp_path, *show, wish="docker", TAOMAGIC_IMAGE="mine:1").image == "mine:1"
    assert choose(tmp_path, "detectnet_v2", "train", "-e", "x").backend == "docker"


def test_a_comparison_of_engines_never_goes_into_an_image(
    tmp_path: Path, machine: Mapping[str, bool]
) -> None:
    compare = ("deploy", "ssd", "compare", "-m", "x", "y", "-e", "z", "-r", "w")
    for own in ({}, {"TAOMAGIC_IMAGE": "mine:1"}):
        assert choose(tmp_path, *compare, **own).backend == "process"
        with pytest.raises(EnvironmentProblem, match="containers have no deploy ssd compare"):
            choose(tmp_path, *compare, wish="docker", **own)


def test_a_wish_is_followed_or_refused(tmp_path: Path, machine: dict[str, bool]) -> None:
    assert choose(tmp_path, *TRAIN, wish="process").backend == "process"
    machine["gpu"] = machine["image"] = False
    assert choose(tmp_path, *TRAIN, wish="docker").backend == "docker"
    assert choose(tmp_path, *TRAIN, TAOMAGIC_BACKEND="docker").backend == "docker"
    with pytest.raises(EnvironmentProblem, match="can't run yolo_v4 train") as caught:
        choose(tmp_path, "yolo_v4", "train", wish="process")
    assert "--backend docker" in caught.value.hint


def test_own_image_serves_what_the_embedded_engine_knows_and_nothing_else(tmp_path: Path) -> None:
    own = {"TAOMAGIC_IMAGE": "taomagic/engine:1"}
    assert choose(tmp_path, *TRAIN, wish="docker", **own).image == "taomagic/engine:1"
    assert "nvcr.io" in choose(tmp_path, "yolo_v4", "train", wish="docker", **own).image


def test_disabled_docker_runs_the_program_of_this_machine_or_the_embedded_engine(tmp_path: Path) -> None:
    assert choose(tmp_path, *TRAIN, TAO_DOCKER_DISABLE="1").backend == "process"
    with pytest.raises(EnvironmentProblem, match='no program "yolo_v4"'):
        choose(tmp_path, "yolo_v4", "train", TAO_DOCKER_DISABLE="1")
    program = tmp_path / "ssd"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    assert choose(tmp_path, *TRAIN, TAO_DOCKER_DISABLE="1", PATH=str(tmp_path)).backend == "host"
