from __future__ import annotations

import json
from pathlib import Path

import pytest

from taomagic.errors import EnvironmentProblem
from taomagic.project.mounts import MountMap, find_mounts, read_mounts

CONTENT = {
    "Mounts": [
        {"source": "/proj", "destination": "/workspace/tao-experiments"},
        {"source": "/proj/specs", "destination": "/workspace/tao-experiments/ssd/specs"},
        {"source": "/proj/specs", "destination": "/specs"},
    ],
    "Envs": [{"variable": "A", "value": "b"}],
    "DockerOptions": {"shm_size": "16G", "ulimits": {"memlock": -1}, "user": "1000:1000", "network": "host"},
}


def test_file_is_read_and_written_unchanged(tmp_path: Path) -> None:
    file = tmp_path / ".tao_mounts.json"
    file.write_text(json.dumps(CONTENT, indent=4))
    mounts = read_mounts(file)
    copy = tmp_path / "deeper" / "copy.json"
    mounts.write(copy)
    assert copy.read_text() == file.read_text()
    assert str(mounts.paths.to_host("/specs/x")) == "/proj/specs/x"
    assert not [path for path in copy.parent.iterdir() if path != copy]


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        ({"Mounts": [], "DockerOption": {}}, 'unknown key "DockerOption"', 'Did you mean "DockerOptions"?'),
        ({"Mounts": [], "DockerOptions": {"gpus": "all"}}, 'unknown key "gpus"', "shm_size, ulimits"),
        ({"Mounts": [], "DockerOptions": []}, "must be an object", "user"),
        ({"Mounts": [], "Envs": {}}, "must be a list", "variable"),
        ({"Mounts": [], "Envs": [{"variable": "A"}]}, 'needs "variable" and "value"', "NAME"),
        ({"Mounts": [{"source": "/a", "destination": "b"}]}, "isn't an absolute path", "/workspace"),
        (
            {"Mounts": [{"source": "/a", "destination": "/c"}, {"source": "/b", "destination": "/c/"}]},
            "Two folders are mounted",
            "Delete one",
        ),
        ({}, 'no list "Mounts"', "%tao_env"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, content: object, message: str, hint: str) -> None:
    file = tmp_path / "m.json"
    file.write_text(json.dumps(content))
    with pytest.raises(EnvironmentProblem) as caught:
        read_mounts(file)
    assert message in caught.value.message
    assert hint in caught.value.hint


def test_newer_map_wins_when_merged() -> None:
    old = MountMap((("/old", "/w"), ("/x", "/x")), {"A": "1", "B": "1"}, {"user": "0:0", "network": "host"})
    merged = old.merge(MountMap((("/new", "/w"),), {"A": "2"}, {"user": "1:1"}))
    assert merged == MountMap(
        (("/new", "/w"), ("/x", "/x")), {"A": "2", "B": "1"}, {"user": "1:1", "network": "host"}
    )


def test_missing_sources_are_listed(tmp_path: Path) -> None:
    assert MountMap(((str(tmp_path), "/a"), ("/no/such", "/b"))).missing_sources() == ("/no/such",)


def test_link_stays_a_link(tmp_path: Path) -> None:
    target = tmp_path / "target.json"
    link = tmp_path / "link.json"
    link.symlink_to(target)
    MountMap((("/a", "/b"),)).write(link)
    assert link.is_symlink()
    assert read_mounts(target).mounts == (("/a", "/b"),)


def test_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="can't be written"):
        MountMap().write(tmp_path / "file" / "m.json")


def test_file_in_force_is_launcher_mounts_then_the_one_at_home(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert find_mounts(home) is None
    (tmp_path / ".tao_mounts.json").write_text("{}")
    assert find_mounts(home) == tmp_path / ".tao_mounts.json"
    assert find_mounts({**home, "LAUNCHER_MOUNTS": "/x"}) == Path("/x")
    assert find_mounts({**home, "TAO_DOCKER_DISABLE": "1"}) is None
