"""Twelve map files with every key there is: what they ask for, written by hand, and what the engine then has."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from taomagic.launcher.command import parse_command
from taomagic.launcher.containers import container
from taomagic.launcher.containers.container import EngineFacts, create_body
from taomagic.launcher.context import Context
from taomagic.project.docker_options import DOCKER_KEYS
from taomagic.project.mounts import KEYS, read_mounts
from taomagic.project.paths import CONTAINER_ROOT as ROOT

from .images import Docker

MIB, GIB = 1 << 20, 1 << 30
CALLER = "1234:4321"
HOME = {"/home/mei": "exec,mode=0700,uid=1234,gid=4321"}
PERSON = {"HOME": "/home/mei", "USER": "mei", "LOGNAME": "mei"}


@dataclass(frozen=True)
class Expected:
    """What a container must have, in plain terms. ``P`` in a path is the project's folder, ``~`` the home folder."""

    mounts: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=lambda: PERSON)
    user: str = CALLER
    home: Mapping[str, str] = field(default_factory=lambda: HOME)
    shm_size: int = 64 * MIB
    ulimits: Mapping[str, int] = field(default_factory=dict)
    ports: Mapping[str, str] = field(default_factory=dict)
    privileged: bool = False
    network: str = "default"


MAPS: dict[str, tuple[dict[str, Any], Expected]] = {
    "the notebooks of detection": (
        {
            "Mounts": [
                {"source": "P", "destination": ROOT},
                {"source": "P/specs", "destination": f"{ROOT}/ssd/specs"},
            ],
            "DockerOptions": {"user": "1000:1000"},
        },
        Expected(
            mounts={ROOT: "P", f"{ROOT}/ssd/specs": "P/specs"},
            env={"HOME": "/home/tao", "USER": "tao", "LOGNAME": "tao"},
            user="1000:1000",
            home={"/home/tao": "exec,mode=0700,uid=1000,gid=1000"},
        ),
    ),
    "the notebooks of PyTorch": (
        {
            "Mounts": [
                {"source": "P", "destination": ROOT},
                {"source": "P/data", "destination": "/data"},
                {"source": "P/specs", "destination": "/specs"},
                {"source": "P/results", "destination": "/results"},
            ],
            "DockerOptions": {
                "shm_size": "16G",
                "ulimits": {"memlock": -1, "stack": 67108864},
                "user": CALLER,
                "network": "host",
            },
        },
        Expected(
            mounts={ROOT: "P", "/data": "P/data", "/specs": "P/specs", "/results": "P/results"},
            shm_size=16 * GIB,
            ulimits={"memlock": -1, "stack": 67108864},
            network="host",
        ),
    ),
    "one folder at two places": (
        {"Mounts": [{"source": "P", "destination": ROOT}, {"source": "P", "destination": "/data"}]},
        Expected(mounts={ROOT: "P", "/data": "P"}),
    ),
    "a cache and a variable for it": (
        {
            "Mounts": [{"source": "~/.cache", "destination": "/.cache"}],
            "Envs": [{"variable": "TAO_TOOLKIT_CACHE", "value": "/.cache"}],
            "DockerOptions": {"shm_size": "64g"},
        },
        Expected(
            mounts={"/.cache": "~/.cache"}, env={**PERSON, "TAO_TOOLKIT_CACHE": "/.cache"}, shm_size=64 * GIB
        ),
    ),
    "variables that a shell would change": (
        {
            "Mounts": [],
            "Envs": [
                {"variable": "LITERAL", "value": "$HOME `id` a=b \"q\" 'p' ü"},
                {"variable": "EMPTY", "value": ""},
                {"variable": "NUMBER", "value": 7},
                {"variable": "TELEMETRY_OPT_OUT", "value": "yes"},
            ],
        },
        Expected(
            env={
                **PERSON,
                "LITERAL": "$HOME `id` a=b \"q\" 'p' ü",
                "EMPTY": "",
                "NUMBER": "7",
                "TELEMETRY_OPT_OUT": "yes",
            }
        ),
    ),
    "ports": (
        {
            "Mounts": [],
            "DockerOptions": {"ports": {"8888": 18888, "6006/tcp": "16006", "5000/udp": 15000}},
        },
        Expected(ports={"8888/tcp": "18888", "6006/tcp": "16006", "5000/udp": "15000"}),
    ),
    "privileged, memory in bytes": (
        {"Mounts": [], "DockerOptions": {"privileged": True, "shm_size": 134217728}},
        Expected(privileged=True, shm_size=128 * MIB),
    ),
    "no network, no terminal": (
        {"Mounts": [], "DockerOptions": {"network": "none", "tty": False, "privileged": False}},
        Expected(network="none"),
    ),
    "paths from home and from here": (
        {
            "Mounts": [
                {"source": "~", "destination": "~"},
                {"source": "./data", "destination": "/data/"},
                {"source": "specs/../results", "destination": "/results"},
            ]
        },
        Expected(mounts={"~": "~", "/data": "P/data", "/results": "P/results"}),
    ),
    "odd names": (
        {
            "Mounts": [
                {"source": "P/a: b,ro", "destination": "/in:put dir"},
                {"source": "P/数据", "destination": "/数据"},
            ]
        },
        Expected(mounts={"/in:put dir": "P/a: b,ro", "/数据": "P/数据"}),
    ),
    "root with a terminal": (
        {
            "Mounts": [{"source": "P", "destination": "/root/project"}],
            "Envs": [{"variable": "HOME", "value": "/root/project"}],
            "DockerOptions": {
                "user": "0:0",
                "tty": True,
                "shm_size": "1.5GiB",
                "ulimits": {"nofile": 4096, "core": 0},
            },
        },
        Expected(
            mounts={"/root/project": "P"},
            env={"HOME": "/root/project"},
            user="0:0",
            home={},
            shm_size=3 * GIB // 2,
            ulimits={"nofile": 4096, "core": 0},
        ),
    ),
    "a user by name, a mounted home": (
        {
            "Mounts": [{"source": "P", "destination": "/home/tao"}],
            "DockerOptions": {"user": "nobody:nogroup", "network": "bridge", "shm_size": "512m"},
        },
        Expected(
            mounts={"/home/tao": "P"},
            env={},
            user="nobody:nogroup",
            home={},
            network="bridge",
            shm_size=512 * MIB,
        ),
    ),
}


@pytest.fixture
def project(project: Path) -> Path:
    for name in ("data", "specs", "results", "a: b,ro", "数据"):
        (project / name).mkdir()
    (Path(os.environ["HOME"]) / ".cache").mkdir()
    return project


def made_of(content: dict[str, Any], context: Context, image: str) -> dict[str, Any]:
    """Write the map, read it as a command does, and return what its container would be created with."""
    file = context.project_dir / "map.json"
    file.write_text(json.dumps(content).replace('"P', f'"{context.project_dir}'), encoding="utf-8")
    context = replace(context, environ={"USER": "mei"}, mounts=read_mounts(file))
    command = parse_command(["ssd", "train", "-e", "/x", "-k", "SECRET"])
    return create_body(command, context, image, job_id="maps", engine=EngineFacts())


def whole(path: str, context: Context) -> str:
    home = os.environ["HOME"]
    return home + path[1:] if path.startswith("~") else path.replace("P", str(context.project_dir), 1)


def limits(entries: list[dict[str, Any]] | None) -> dict[str, int]:
    assert all(entry["Soft"] == entry["Hard"] for entry in entries or [])
    return {entry["Name"]: entry["Hard"] for entry in entries or []}


def bindings(host: Mapping[str, Any]) -> dict[str, str]:
    return {inside: entry["HostPort"] for inside, [entry] in (host.get("PortBindings") or {}).items()}


def described(content: Mapping[str, Any], mounts: Mapping[str, str]) -> dict[str, Any]:
    """Return the plain terms of :class:`Expected` from ``Config`` and ``HostConfig``."""
    config, host = content["Config"], content["HostConfig"]
    return {
        "mounts": dict(mounts),
        "env": dict(entry.split("=", 1) for entry in config["Env"] or []),
        "user": config["User"],
        "home": host.get("Tmpfs") or {},
        "shm_size": host.get("ShmSize") or 64 * MIB,
        "ulimits": limits(host.get("Ulimits")),
        "ports": bindings(host),
        "privileged": bool(host.get("Privileged")),
        "network": host.get("NetworkMode") or "default",
    }


@pytest.fixture(params=MAPS)
def case(
    request: pytest.FixtureRequest, context: Context, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, Any], dict[str, Any]]:
    monkeypatch.setattr(container, "caller_id", lambda: CALLER)
    content, expected = MAPS[request.param]
    terms = dict(vars(expected))
    terms["mounts"] = {
        whole(target, context): whole(source, context) for target, source in expected.mounts.items()
    }
    return content, terms


def test_twelve_files_use_every_key() -> None:
    assert len(MAPS) == 12
    assert {key for content, _ in MAPS.values() for key in content} == set(KEYS)
    assert {key for content, _ in MAPS.values() for key in content.get("DockerOptions", {})} == set(
        DOCKER_KEYS
    )


def test_request_is_what_the_file_asks_for(
    case: tuple[dict[str, Any], dict[str, Any]], context: Context
) -> None:
    content, expected = case
    made = made_of(content, context, "image")
    mounts = made["HostConfig"]["Mounts"]
    assert {mount["Type"] for mount in mounts} <= {"bind"}
    found = described({"Config": made, **made}, {mount["Target"]: mount["Source"] for mount in mounts})
    assert found == expected
    assert set(made.get("ExposedPorts", {})) == set(expected["ports"])


def test_container_is_what_the_file_asks_for(
    case: tuple[dict[str, Any], dict[str, Any]],
    context: Context,
    docker_engine: Docker,
    busybox_image: str,
) -> None:
    from taomagic.launcher.containers.api import Engine
    from taomagic.launcher.containers.endpoint import Endpoint

    content, expected = case
    engine = Engine(Endpoint(docker_engine.host))
    name = engine.post("/containers/create", made_of(content, context, busybox_image))["Id"]
    try:
        found = docker_engine.inspect(name)
    finally:
        engine.delete(f"/containers/{name}", force=True, v=True)
    config, host = found["Config"], found["HostConfig"]
    config["Env"] = [entry for entry in config["Env"] if not entry.startswith("PATH=")]  # the image's own
    assert all(mount["Type"] == "bind" and mount["RW"] for mount in found["Mounts"])
    mounts = {mount["Destination"]: mount["Source"] for mount in found["Mounts"]}
    assert described(found, mounts) == expected
    assert host["ShmSize"] == expected["shm_size"]
    assert set(config.get("ExposedPorts") or {}) == set(expected["ports"])
    assert config["Cmd"] == ["ssd", "train", "-e", "/x", "-k", "SECRET"]
    assert (config["Tty"], config["OpenStdin"], config["AttachStdout"]) == (False, False, False)
    assert (config["Entrypoint"], config["WorkingDir"]) == (None, "")
    assert (host["Init"], host["AutoRemove"]) == (True, False)
    assert config["Labels"] == {
        "taomagic.job": "maps",
        "taomagic.project": str(context.project_dir),
        "taomagic.test": "1",
    }
    assert "SECRET" not in json.dumps([config["Labels"], config["Env"], host, found["Name"]])
