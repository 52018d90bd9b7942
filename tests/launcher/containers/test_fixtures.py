"""The doubles of NVIDIA's images do what the proofs rely on."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from . import images
from .images import Daemon, Docker, NoDocker


def test_the_replayer_prints_each_argument_as_it_was_given(
    docker_engine: Docker, replayer_image: str
) -> None:
    words = ["train", "-e", "a b", "$HOME", ";", "it's", '"x"', "中文", "", "replay.show=args"]
    lines = docker_engine.run("run", "--rm", replayer_image, "ssd", *words).stdout.splitlines()
    assert lines == ["task [ssd]", *(f"argument [{word}]" for word in words), "Execution status: PASS"]


def test_the_replayer_keeps_to_its_rate_and_loses_nothing(docker_engine: Docker, replayer_image: str) -> None:
    began = time.monotonic()
    done = docker_engine.run(
        "run", "--rm", "--env", "REPLAY=lines=4000 rate=2000 width=30", replayer_image, "yolo_v4"
    )
    assert 1.9 < time.monotonic() - began < 8
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[:-1]] == [str(number) for number in range(4000)]
    assert {len(line) for line in lines[:-1]} == {30}


def test_the_replayer_ends_as_it_is_told(docker_engine: Docker, replayer_image: str) -> None:
    done = docker_engine.run(
        "run", "--rm", replayer_image, "ssd", "replay.exit=3", "replay.stderr=no_such_file", check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "Execution status: FAIL\n", "no such file\n")


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_the_replayer_hears_signals(
    docker_engine: Docker, replayer_image: str, number: str, code: int
) -> None:
    name = docker_engine("run", "-d", replayer_image, "ssd", "replay.sleep=60", "replay.stdout=ready")
    try:
        _wait_for(lambda: "ready" in docker_engine("logs", name))
        docker_engine("kill", "--signal", number, name)
        assert docker_engine("wait", name, timeout=10) == str(code)
        assert docker_engine("logs", name).splitlines()[-1] == "Execution status: FAIL"
    finally:
        docker_engine("rm", "-f", name)


def test_the_replayer_is_killed_where_its_memory_ends(docker_engine: Docker, replayer_image: str) -> None:
    options = ["--memory", "64m", "--memory-swap", "64m", "-d"]
    name = docker_engine("run", *options, replayer_image, "ssd", "replay.memory=0")
    try:
        assert docker_engine("wait", name) == "137"
        assert docker_engine.inspect(name)["State"]["OOMKilled"] is True
    finally:
        docker_engine("rm", "-f", name)


def test_an_entrypoint_hands_over(docker_engine: Docker, nvidia_like_image: str) -> None:
    lines = docker_engine.run("run", "--rm", nvidia_like_image, "ssd", "replay.epochs=2").stdout.splitlines()
    assert "=== TAO Toolkit ===" in lines
    assert "Epoch 2/2" in lines


def test_a_foreign_image_keeps_its_name(docker_engine: Docker, busybox_image: str) -> None:
    foreign = images.archive({"etc/nothing": b""})
    docker_engine.run("import", "-", "taomagic-foreign:1", stdin=foreign)
    try:
        with (
            pytest.raises(NoDocker, match="left alone"),
            images.tagged(docker_engine, busybox_image, "taomagic-foreign:1"),
        ):
            pass
        assert docker_engine.exists("taomagic-foreign:1")
    finally:
        docker_engine("rmi", "taomagic-foreign:1")


def test_a_name_of_nvidias_is_gone_afterwards(docker_engine: Docker, busybox_image: str) -> None:
    name = "nvcr.io/nvidia/tao/tao-toolkit:0.0.0-fixture-test"
    with images.tagged(docker_engine, busybox_image, name):
        assert docker_engine("run", "--rm", name, "echo", "hi") == "hi"
    assert not docker_engine.exists(name)
    assert docker_engine.exists(busybox_image)


def test_an_engine_of_our_own_can_be_killed_and_comes_back(own_daemon: Callable[..., Daemon]) -> None:
    daemon = own_daemon("--live-restore")
    docker = daemon.docker
    image = images.make_replayer(docker)
    name = docker("run", "-d", image, "ssd", "replay.sleep=60", "replay.stdout=ready")
    daemon.kill()
    assert docker.alive() == ""
    daemon.start()
    assert docker.inspect(name)["State"]["Running"] is True
    docker("rm", "-f", name)


def _wait_for(condition: Callable[[], bool], patience: float = 20.0) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_without_a_docker_command_the_reason_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoDocker, match="docker command isn't installed"):
        images.find_engine({})
