from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from taomagic.errors import EnvironmentProblem
from taomagic.project.paths import CONTAINER_ROOT, PathMap

NESTED = PathMap(
    [
        ("/nb", CONTAINER_ROOT),
        ("/nb/specs", f"{CONTAINER_ROOT}/ssd/specs"),
        ("/big/data", f"{CONTAINER_ROOT}/data"),
    ]
)


@pytest.mark.parametrize(
    ("container", "host"),
    [
        (f"{CONTAINER_ROOT}", "/nb"),
        (f"{CONTAINER_ROOT}/", "/nb"),
        (f"{CONTAINER_ROOT}/ssd/weights/a.tlt", "/nb/ssd/weights/a.tlt"),
        (f"{CONTAINER_ROOT}/ssd/specs/train.txt", "/nb/specs/train.txt"),
        (f"{CONTAINER_ROOT}/ssd/specs_old/train.txt", "/nb/ssd/specs_old/train.txt"),
        (f"{CONTAINER_ROOT}/data/x", "/big/data/x"),
        (f"{CONTAINER_ROOT}//ssd/./a/../b", "/nb/ssd/b"),
        ("/workspace/tao-experiments2/x", "/workspace/tao-experiments2/x"),
        ("/elsewhere/x", "/elsewhere/x"),
        ("relative/x", "relative/x"),
    ],
)
def test_longest_prefix_wins(container: str, host: str) -> None:
    assert str(NESTED.to_host(container)) == host


@pytest.mark.parametrize(
    ("host", "container"),
    [
        ("/nb/ssd/a", f"{CONTAINER_ROOT}/ssd/a"),
        ("/nb/specs/a", f"{CONTAINER_ROOT}/specs/a"),
        ("/big/data/a", f"{CONTAINER_ROOT}/data/a"),
        ("/nb/data/hidden", "/nb/data/hidden"),
        ("/nb/ssd/specs/hidden", "/nb/ssd/specs/hidden"),
        ("/nbx", "/nbx"),
        ("rel", "rel"),
    ],
)
def test_host_paths_get_their_name_in_the_container(host: str, container: str) -> None:
    if host == "/nb/specs/a":
        container = f"{CONTAINER_ROOT}/ssd/specs/a"
    assert NESTED.to_container(host) == container


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert str(PathMap([("~/nb", "/c")]).to_host("/c/x")) == "/home/me/nb/x"
    assert str(PathMap().to_host("~/x")) == "/home/me/x"


def test_one_folder_may_be_mounted_twice() -> None:
    paths = PathMap([("/nb/specs", "/a/specs"), ("/nb/specs", "/b/specs")])
    assert str(paths.to_host("/a/specs/x")) == str(paths.to_host("/b/specs/x")) == "/nb/specs/x"


PARTS = st.lists(st.sampled_from(["a", "b", "数据", "with blank"]), max_size=4)


@given(st.lists(st.tuples(PARTS, PARTS), max_size=4), PARTS)
def test_round_trip_returns_the_same_host_path(
    pairs: list[tuple[list[str], list[str]]], parts: list[str]
) -> None:
    paths = PathMap([("/host/" + "/".join(host), "/container/" + "/".join(inside)) for host, inside in pairs])
    host = Path("/host").joinpath(*parts)
    shown = paths.to_container(host)
    assume(shown != str(host))
    assert paths.to_host(shown) == host


def test_map_comes_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_text(json.dumps({"Mounts": [{"source": "/nb", "destination": "/c"}]}))
    assert PathMap.from_environment({"LAUNCHER_MOUNTS": str(file)}) == PathMap([("/nb", "/c")])
    assert not PathMap.from_environment({"LAUNCHER_MOUNTS": str(file), "TAO_DOCKER_DISABLE": "1"})
    assert not PathMap.from_environment({})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "isn't valid JSON"),
        ("[]", 'no list "Mounts"'),
        ('{"Mounts": [{"source": "/a"}]}', 'no "destination"'),
        ('{"Mounts": ["x"]}', 'no "source"'),
    ],
)
def test_damaged_map_is_an_error_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "m.json"
    file.write_text(text)
    with pytest.raises(EnvironmentProblem, match=message) as caught:
        PathMap.from_environment({"LAUNCHER_MOUNTS": str(file)})
    assert str(file) in caught.value.where


def test_missing_map_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="doesn't exist"):
        PathMap.from_environment({"LAUNCHER_MOUNTS": str(tmp_path / "none.json")})
