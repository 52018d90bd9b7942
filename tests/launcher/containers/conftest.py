from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .images import (
    Daemon,
    Docker,
    NoDocker,
    find_engine,
    make_busybox,
    make_replayer,
    may_start_engine,
    tagged,
)


def _give_up(reason: object) -> None:
    """Skip, or fail where an engine is promised: a proof that silently doesn't run proves nothing."""
    if os.environ.get("TAOMAGIC_REQUIRE_DOCKER", "0") not in {"", "0"}:
        pytest.fail(f"TAOMAGIC_REQUIRE_DOCKER is set, and {reason}", pytrace=False)
    pytest.skip(f"needs Docker: {reason}")


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[Docker]:
    """A running Docker engine: the one that is there, else the machine's own, started for these tests."""
    with contextlib.ExitStack() as stack:
        docker: Docker | None = None
        try:
            docker = find_engine(os.environ)
        except NoDocker as reason:
            if not may_start_engine(os.environ):
                _give_up(reason)
        if docker is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taomagic-dockerd-")))
            daemon = Daemon(folder, system=True)
            stack.callback(daemon.dispose)
            try:
                docker = daemon.start()
            except NoDocker as reason:
                _give_up(reason)
        assert docker is not None
        yield docker


@pytest.fixture(scope="session")
def busybox_image(docker_engine: Docker) -> str:
    """An image with a shell and every applet of busybox."""
    return _make(lambda: make_busybox(docker_engine))


@pytest.fixture(scope="session")
def replayer_image(docker_engine: Docker) -> str:
    """An image whose `ssd`, `detectnet_v2`, … print what ``REPLAY`` tells; see ``replay.sh``."""
    return _make(lambda: make_replayer(docker_engine))


@pytest.fixture(scope="session")
def nvidia_like_image(docker_engine: Docker) -> str:
    """The replaying image with an entrypoint as in NVIDIA's images, which prints a banner first."""
    return _make(lambda: make_replayer(docker_engine, entrypoint=True))


def _make(make: Callable[[], str]) -> str:
    try:
        return make()
    except NoDocker as reason:
        _give_up(reason)
        raise


@pytest.fixture
def tag_as(docker_engine: Docker) -> Iterator[Callable[[str, str], str]]:
    """``tag_as(image, name)`` gives an image a name such as NVIDIA's until the test ends, and returns the name."""
    with contextlib.ExitStack() as stack:

        def tag(image: str, name: str) -> str:
            try:
                return stack.enter_context(tagged(docker_engine, image, name))
            except NoDocker as reason:
                pytest.skip(str(reason))

        yield tag


@pytest.fixture
def own_daemon() -> Iterator[Callable[..., Daemon]]:
    """``own_daemon(*options)`` starts an engine that a test may stop, kill and start again; it has no network."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None:
        _give_up("starting an engine needs dockerd and root")
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> Daemon:
            # Not below pytest's own folder, whose name is too long for a socket.
            folder = Path(tempfile.mkdtemp(prefix="tao-d-", dir="/var/tmp"))
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            daemon = Daemon(folder, options)
            stack.callback(daemon.dispose)
            try:
                daemon.start()
            except NoDocker as reason:
                _give_up(reason)
            return daemon

        yield start


@pytest.fixture
def clean_docker(docker_engine: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """The engine; at the test's end its jobs' containers are removed, and nobody else's."""
    before = set(docker_engine.containers())
    yield docker_engine
    ours = str(tmp_path_factory.getbasetemp())
    for name in set(docker_engine.containers()) - before:
        found = docker_engine.run(
            "inspect", "--format", '{{index .Config.Labels "taomagic.project"}}', name, check=False
        )
        if found.stdout.startswith(ours):
            docker_engine.run("rm", "-f", "-v", name, check=False)
