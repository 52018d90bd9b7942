from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taomagic.errors import EnvironmentProblem
from taomagic.project.docker_options import parse_port, parse_size
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
        ({"Mounts": [], "DockerOptions": {"gpus": "all"}}, 'unknown key "gpus"', "--gpu_index"),
        (
            {"Mounts": [], "DockerOptions": {"runtime": "nvidia"}},
            'unknown key "runtime"',
            "GPUs are requested",
        ),
        ({"Mounts": [], "DockerOptions": {"entrypoint": "x"}}, 'unknown key "entrypoint"', "tao TASK run"),
        ({"Mounts": [], "DockerOptions": {"ipc": "host"}}, 'unknown key "ipc"', '"shm_size"'),
        ({"Mounts": [], "DockerOptions": {"workdir": "/x"}}, 'unknown key "workdir"', "absolute paths"),
        ({"Mounts": [], "DockerOptions": {"shmsize": "1G"}}, 'unknown key "shmsize"', 'mean "shm_size"?'),
        ({"Mounts": [], "DockerOptions": {"shm_size": "16 giga"}}, 'be a size, not "16 giga"', '"16G"'),
        ({"Mounts": [], "DockerOptions": {"shm_size": True}}, "be a size, not true", '"16G"'),
        ({"Mounts": [], "DockerOptions": {"shm_size": -1}}, "be a size, not -1", '"16G"'),
        ({"Mounts": [], "DockerOptions": {"ulimits": {"stack": "1"}}}, "whole numbers", "memlock"),
        ({"Mounts": [], "DockerOptions": {"ulimits": {"stack": -2}}}, "whole numbers", "memlock"),
        ({"Mounts": [], "DockerOptions": {"ulimits": {"memlok": -1}}}, 'limit "memlok"', 'mean "memlock"?'),
        ({"Mounts": [], "DockerOptions": {"user": 1000}}, 'must be "UID:GID", not 1000', '"1000:1000"'),
        ({"Mounts": [], "DockerOptions": {"user": "$(id -u)"}}, 'not "$(id -u)"', "aren't expanded"),
        ({"Mounts": [], "DockerOptions": {"ports": {"http": 80}}}, "container ports and host ports", "8888"),
        (
            {"Mounts": [], "DockerOptions": {"ports": {"80": "80/udp"}}},
            "container ports and host ports",
            "8888",
        ),
        ({"Mounts": [], "DockerOptions": {"ports": {"80": 70000}}}, "container ports and host ports", "8888"),
        ({"Mounts": [], "DockerOptions": {"ports": [8888]}}, "container ports and host ports", "8888"),
        ({"Mounts": [], "DockerOptions": {"privileged": "true"}}, 'be true or false, not "true"', "true"),
        ({"Mounts": [], "DockerOptions": {"tty": 1}}, "be true or false, not 1", "false"),
        ({"Mounts": [], "DockerOptions": {"network": None}}, "name of a network, not null", '"host"'),
        ({"Mounts": [], "DockerOptions": []}, "must be an object", "user"),
        ({"Mounts": [], "Envs": {}}, "must be a list", "variable"),
        ({"Mounts": [], "Envs": [{"variable": "A"}]}, 'needs "variable" and "value"', "NAME"),
        ({"Mounts": [], "Envs": [{"variable": "A=B", "value": "c"}]}, 'needs "variable" and "value"', "NAME"),
        (
            {"Mounts": [], "Envs": [{"variable": "A", "value": True}]},
            "must be text, not true",
            "quotation marks",
        ),
        (
            {"Mounts": [], "Envs": [{"variable": "A", "value": None}]},
            "must be text, not null",
            "quotation marks",
        ),
        ({"Mounts": [{"source": "/a", "destination": "b"}]}, "isn't an absolute path", "/workspace"),
        (
            {"Mounts": [{"source": "/a", "destination": "/"}]},
            "isn't an absolute path of a folder",
            "/workspace",
        ),
        ({"Mounts": [{"source": "/a", "destination": "$SPECS_DIR"}]}, "isn't an absolute", "aren't expanded"),
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


def test_every_option_of_nvidias_launcher_is_accepted(tmp_path: Path) -> None:
    options = {
        "shm_size": 1,
        "ulimits": {},
        "user": "tao",
        "ports": {"8888/tcp": 8888, "53/udp": "53", "1": 1},
        "privileged": False,
        "network": "container:other",
        "tty": True,
    }
    file = tmp_path / "m.json"
    file.write_text(json.dumps({"Mounts": [], "DockerOptions": options}))
    assert read_mounts(file).docker_options == options


def test_tilde_is_expanded_in_destinations_and_nothing_else_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/mei")
    monkeypatch.setenv("NET", "ssd")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    link = str(tmp_path / "link")
    file = tmp_path / "m.json"
    pairs = [("~/data", "~/data"), ("$NET", "/w/$NET"), (link, link)]
    file.write_text(json.dumps({"Mounts": [{"source": a, "destination": b} for a, b in pairs]}))
    mounts = read_mounts(file)
    assert mounts.mounts == (("~/data", "/home/mei/data"), ("$NET", "/w/$NET"), (link, link))
    assert mounts.resolve(Path("/here")).mounts == (
        ("/home/mei/data", "/home/mei/data"),
        ("/here/$NET", "/w/$NET"),
        (link, link),
    )


def test_volumes_come_on_top_when_a_map_is_resolved() -> None:
    mounts = MountMap((("a/../b", "/b"), ("/c", "/c/")), {"A": "1"}, {"user": "0:0"})
    resolved = mounts.resolve(Path("/here"), (("d", "/c"), ("/c", "/e")))
    assert resolved == MountMap(
        (("/here/b", "/b"), ("/here/d", "/c"), ("/c", "/e")), {"A": "1"}, {"user": "0:0"}
    )
    assert resolved.resolve(Path("/other"), (("/here/d", "/c"), ("/c", "/e"))) == resolved


_CHARACTERS = st.characters(codec="utf-8")
_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1)
_FOLDERS = st.lists(_NAMES.filter(lambda name: name not in {".", ".."}), min_size=1).map(
    lambda names: "/" + "/".join(names)
)


@given(
    pairs=st.lists(st.tuples(_FOLDERS, _FOLDERS), unique_by=lambda pair: pair[1]),
    envs=st.dictionaries(_NAMES.filter(lambda name: "=" not in name), st.text(_CHARACTERS)),
)
def test_any_map_survives_writing_and_reading(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]], envs: dict[str, str]
) -> None:
    mounts = MountMap(tuple(pairs), envs)
    file = tmp_path_factory.mktemp("maps", numbered=True) / "m.json"
    mounts.write(file)
    assert read_mounts(file) == mounts
    assert read_mounts(file).resolve(Path("/x")).mounts == tuple(pairs)


@given(
    number=st.integers(1, 4096),
    unit=st.sampled_from("bkmgtBKMGT"),
    suffix=st.sampled_from(["", "b", "B", "ib", "iB"]),
)
def test_sizes_are_powers_of_1024_as_with_docker(number: int, unit: str, suffix: str) -> None:
    power = " kmgt".index(unit.lower()) if unit.lower() != "b" else 0
    text = f"{number}{unit}{suffix if unit.lower() != 'b' else ''}"
    assert parse_size(text) == number * 1024**power
    assert parse_size(number) == parse_size(str(number)) == number


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1.5g", 3 << 29),
        ("16 GiB", 1 << 34),
        ("0.5k", 512),
        ("0", None),
        (0, None),
        ("-1g", None),
        ("1e3", None),
        ("", None),
        ("g", None),
        ("1gg", None),
        ("９g", None),
        ("9" * 30 + "g", None),
        (1.5, None),
        (None, None),
        (False, None),
    ],
)
def test_sizes_at_the_edge(text: object, size: int | None) -> None:
    assert parse_size(text) == size


@given(text=st.text("0123456789/tcpudp -", max_size=9))
def test_ports_are_numbers_with_or_without_protocol(text: str) -> None:
    number, _, protocol = text.strip().partition("/")
    right = (
        number.isdigit()
        and len(number) <= 5
        and 0 < int(number) < 65536
        and ("/" not in text or protocol in {"tcp", "udp", "sctp"})
    )
    assert (parse_port(text) is not None) == right


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
