from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taomagic.cli import tao, tao_deploy
from taomagic.errors import EnvironmentProblem
from taomagic.launcher import catalog
from taomagic.launcher.catalog import Image
from taomagic.launcher.catalog_config import read_config
from taomagic.launcher.command import parse_command
from taomagic.launcher.info import info

OLD = {
    "format_version": 2.0,
    "dockers": {"lab/tf": {"v1": {"docker_registry": "registry.lab", "tasks": ["ssd", "unet"]}}},
    "toolkit_version": "4.0.1",
    "published_date": "01/02/2023",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("TAOMAGIC_RELEASE", "OVERRIDE_REGISTRY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def put(home: Path, name: str, content: Any) -> Path:
    file = home / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return file


def three(**groups: Any) -> dict[str, Any]:
    return {
        "format_version": 3.0,
        "task_group": {name: {"dockers": dockers} for name, dockers in groups.items()},
        "toolkit_version": "5.5.0-lab",
        "published_date": "01/02/2025",
    }


def test_format_1_has_one_tag_for_each_image(home: Path) -> None:
    entry = {"docker_tag": "v3.0-py3", "docker_registry": "nvcr.io", "tasks": ["ssd", "dssd"]}
    put(home, ".tao/config.json", {"format_version": 1.0, "dockers": {"nvidia/tlt": entry}})
    release = catalog.release()
    assert release.images == (Image("model", "nvcr.io", "nvidia/tlt", "v3.0-py3", ("ssd", "dssd")),)
    assert (release.name, release.published, release.format_version) == ("config", "unknown", "1.0")
    assert not release.grouped
    assert catalog.image_for("model", "ssd").name == "nvcr.io/nvidia/tlt:v3.0-py3"


def test_format_2_has_several_tags(home: Path) -> None:
    tags = {
        "a": {"docker_registry": "r", "tasks": ["ssd"], "docker_digest": "sha256:1"},
        "b": {"docker_registry": "", "tasks": ["annotations"]},
    }
    put(home, ".tao/config.json", {"format_version": 2.0, "dockers": {"x/y": tags}})
    assert catalog.image_for("model", "ssd") == Image("model", "r", "x/y", "a", ("ssd",), "sha256:1")
    # Without groups, the data services are among the others; without a registry, the image is one of this machine.
    assert catalog.image_for("dataset", "annotations").name == "x/y:b"


@pytest.mark.parametrize("version", [3.0, 3])
def test_format_3_has_groups(home: Path, version: float) -> None:
    entry = {"docker_registry": "r", "tasks": ["ssd"]}
    tree = {**three(model={"x/y": {"a": entry}}, deploy={"x/y": {"b": entry}}), "format_version": version}
    put(home, ".tao/config.json", tree)
    assert catalog.image_for("model", "ssd").name == "r/x/y:a"
    assert catalog.image_for("deploy", "ssd").name == "r/x/y:b"
    assert catalog.release().format_version == str(version)
    assert catalog.release().grouped


def test_of_two_images_with_a_task_the_later_one_counts(home: Path) -> None:
    tags = {tag: {"docker_registry": "r", "tasks": ["ssd", tag]} for tag in ("a", "c", "b")}
    put(
        home,
        ".tao/config.json",
        three(model={"x/y": tags, "x/z": {"d": {"docker_registry": "r", "tasks": ["c"]}}}),
    )
    assert catalog.image_for("model", "ssd").tag == "b"
    assert catalog.image_for("model", "c").repository == "x/z"


def test_task_of_ones_own_is_a_task(home: Path) -> None:
    assert "my_net" not in catalog.tasks("model")
    put(
        home,
        ".tao/config.json",
        three(model={"me/nets": {"v1": {"docker_registry": "r", "tasks": ["my_net"]}}}),
    )
    command = parse_command(["my-net", "fit", "-e", "x"])
    assert (command.group, command.container_argv) == ("model", ("my_net", "fit", "-e", "x"))
    with pytest.raises(EnvironmentProblem, match=r"TAO 5\.5\.0-lab has no task ssd") as caught:
        catalog.image_for("model", "ssd")
    assert f"Add it to {home}/.tao/config.json." in caught.value.hint


def test_release_that_is_chosen_comes_before_any_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(
        home, ".tao/config.json", three(model={"me/nets": {"v1": {"docker_registry": "r", "tasks": ["ssd"]}}})
    )
    assert catalog.image_for("model", "ssd").repository == "me/nets"
    assert catalog.release("5.5.0").require_image("model", "ssd").repository == "nvidia/tao/tao-toolkit"
    monkeypatch.setenv("TAOMAGIC_RELEASE", "3.22.05")
    assert catalog.image_for("model", "ssd").tag == "v3.22.05-tf1.15.5-py3"


def test_files_of_the_older_launchers_count_where_there_is_no_new_one(home: Path) -> None:
    put(home, ".tlt/config.json", OLD)
    assert catalog.image_for("model", "ssd").name == "registry.lab/lab/tf:v1"
    # The deploy images of that release remain, as with NVIDIA's launcher.
    assert catalog.image_for("deploy", "ssd").tag == "4.0.0-deploy"
    put(
        home, ".tao/config.json", three(model={"me/nets": {"v1": {"docker_registry": "r", "tasks": ["ssd"]}}})
    )
    assert catalog.image_for("model", "ssd").name == "r/me/nets:v1"


def test_config_deploy_replaces_the_deploy_images(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dockers = {"lab/trt": {"v2": {"docker_registry": "registry.lab", "tasks": ["ssd"]}}}
    file = put(home, ".tlt/config_deploy.json", {**OLD, "dockers": dockers})
    assert catalog.image_for("deploy", "ssd").name == "registry.lab/lab/trt:v2"
    assert catalog.image_for("model", "ssd").tag == "5.0.0-tf1.15.5"
    put(home, ".tlt/config.json", OLD)
    assert catalog.image_for("deploy", "ssd").name == "registry.lab/lab/trt:v2"
    assert catalog.image_for("model", "ssd").name == "registry.lab/lab/tf:v1"
    assert tao_deploy(["info"]) == 0
    out, err = capsys.readouterr()
    assert "dockers: ['lab/trt']" in out
    assert str(file) in err
    assert tao(["info", "--verbose"]) == 0
    assert (
        "\tlab/tf: \t\t\t\n\t\tv1: \t\t\t\t\n\t\t\tdocker_registry: registry.lab\n" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"format_version": 2.0,\n "dockers" 3}', "config.json:2: The file isn't JSON"),
        ("[]", "The content must be an object"),
        ("{}", "format_version must be 1.0, 2.0 or 3.0"),
        ({"format_version": "2.0"}, "format_version must be 1.0, 2.0 or 3.0"),
        ({"format_version": True}, "format_version must be 1.0, 2.0 or 3.0"),
        ({"format_version": 4}, "format_version must be 1.0, 2.0 or 3.0"),
        ({"format_version": 2}, "dockers must be an object"),
        ({"format_version": 2, "dockers": {}}, "dockers must be an object with at least one entry"),
        ({"format_version": 2, "dockers": {"a": {"t": []}}}, "dockers.a.t must be an object"),
        (
            {"format_version": 2, "dockers": {"a": {"t": {"tasks": ["x"]}}}},
            "dockers.a.t.docker_registry must be text",
        ),
        (
            {"format_version": 2, "dockers": {"a": {"t": {"docker_registry": "r", "tasks": "ssd"}}}},
            "dockers.a.t.tasks must be a list of task names",
        ),
        (
            {"format_version": 2, "dockers": {"a": {"t": {"docker_registry": "r", "tasks": [1]}}}},
            "dockers.a.t.tasks must be a list of task names",
        ),
        (
            {
                "format_version": 2,
                "dockers": {"a": {"t": {"docker_registry": "r", "tasks": [], "docker_digest": 1}}},
            },
            "dockers.a.t.docker_digest must be text",
        ),
        (
            {"format_version": 1, "dockers": {"a": {"docker_registry": "r", "tasks": []}}},
            "dockers.a.docker_tag must be text",
        ),
        ({"format_version": 3, "dockers": {}}, "task_group must be an object"),
        (
            {"format_version": 3, "task_group": {"modle": {}}},
            "task_group.modle must be one of the groups model, dataset",
        ),
        ({"format_version": 3, "task_group": {"model": {}}}, "task_group.model must be an object"),
        (
            {"format_version": 3, "task_group": {"model": {"x": 1}}},
            "task_group.model.dockers must be an object",
        ),
    ],
)
def test_wrong_file_is_an_error_with_its_place(
    home: Path, content: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = put(home, ".tao/config.json", content)
    with pytest.raises(EnvironmentProblem) as caught:
        catalog.release()
    assert words in str(caught.value)
    assert str(file) in caught.value.where
    assert "rename the file" in caught.value.hint
    assert tao(["info"]) == 1
    assert tao(["ssd", "train"]) == 1
    assert tao(["info", "--release", "5.5.0"]) == 0


def test_file_that_cannot_be_read_is_an_error(home: Path) -> None:
    (home / ".tao").mkdir()
    (home / ".tao" / "config.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(EnvironmentProblem, match="isn't UTF-8"):
        catalog.release()


NAMES = st.text("abcxyz019_-./", min_size=1, max_size=10)
ENTRIES = st.fixed_dictionaries(
    {"docker_registry": st.text("abc.:0", max_size=8), "tasks": st.lists(NAMES, unique=True, max_size=4)},
    optional={"docker_digest": NAMES},
)
TAGGED = st.dictionaries(
    NAMES, st.dictionaries(NAMES, ENTRIES, min_size=1, max_size=3), min_size=1, max_size=3
)
HEADS = st.fixed_dictionaries({}, optional={"toolkit_version": NAMES, "published_date": NAMES})


@given(st.dictionaries(st.sampled_from(catalog.GROUPS), TAGGED, min_size=1), HEADS, st.sampled_from([3, 3.0]))
def test_every_file_of_format_3_comes_back(
    tmp_path_factory: pytest.TempPathFactory, groups: dict[str, Any], head: dict[str, str], version: float
) -> None:
    tree = {
        "task_group": {name: {"dockers": dockers} for name, dockers in groups.items()},
        "format_version": version,
    }
    assert_comes_back(tmp_path_factory.getbasetemp() / "3.json", {**tree, **head}, groups)


@given(TAGGED, HEADS)
def test_every_file_of_format_2_comes_back(
    tmp_path_factory: pytest.TempPathFactory, dockers: dict[str, Any], head: dict[str, str]
) -> None:
    tree = {"dockers": dockers, "format_version": 2.0, **head}
    assert_comes_back(tmp_path_factory.getbasetemp() / "2.json", tree, {"model": dockers})


@given(st.dictionaries(NAMES, st.tuples(NAMES, ENTRIES), min_size=1, max_size=3))
def test_every_file_of_format_1_comes_back(
    tmp_path_factory: pytest.TempPathFactory, images: dict[str, Any]
) -> None:
    dockers = {name: {"docker_tag": tag, **entry} for name, (tag, entry) in images.items()}
    same = {name: {tag: entry} for name, (tag, entry) in images.items()}
    tree = {"dockers": dockers, "format_version": 1.0}
    assert_comes_back(tmp_path_factory.getbasetemp() / "1.json", tree, {"model": same})


def assert_comes_back(file: Path, tree: dict[str, Any], groups: dict[str, Any]) -> None:
    """Write a file, read it, and build the tree again from what was read."""
    file.write_text(json.dumps(tree), encoding="utf-8")
    release = read_config(file)
    built: dict[str, Any] = {}
    for image in release.images:
        entry: dict[str, Any] = {"docker_registry": image.registry, "tasks": list(image.tasks)}
        if image.digest:
            entry["docker_digest"] = image.digest
        built.setdefault(image.group, {}).setdefault(image.repository, {})[image.tag] = entry
    assert built == groups
    assert release.name == tree.get("toolkit_version", file.stem)
    assert f"format_version: {tree['format_version']}" in info(release).splitlines()
