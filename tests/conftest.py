from __future__ import annotations

import os

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    # Before anything imports torch: workers with a thread for each core would wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

# What CI refuses it must refuse again: there the examples are the same each time. Elsewhere they are new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


#: What shares an engine, a server or a training, and takes longest: one worker does it, and begins with it.
_LONG = ("docker", "browser", "notebook")


def _group(nodeid: str) -> str:
    """Return what a test belongs to; the tests of a group stay in one worker of ``pytest -n``."""
    module, _, test = nodeid.partition("::")
    if module.startswith("tests/launcher/containers/"):
        return "docker"
    if module.startswith("tests/browser/"):
        return "browser"
    if module == "tests/test_notebook.py":
        # One for each network: neither waits for the other's training.
        return f"notebook {test.partition('[')[2]}"
    return module


class _ByGroup(LoadScopeScheduling):
    """Hands groups to workers. xdist's own groups (3.8) are lost on pytest 9.2, whose node ids can't be extended."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _ByGroup:
    return _ByGroup(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if workers:
        items.sort(key=lambda item: not _group(item.nodeid).startswith(_LONG))


@pytest.fixture(autouse=True)
def no_docker_by_chance(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the machine's Docker engine from tests that don't ask for one: other people's jobs may run there."""
    if "docker_engine" not in request.fixturenames:
        monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")


@pytest.fixture(autouse=True)
def english_unless_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the language of the tests from themselves, not from the person who runs them."""
    monkeypatch.delenv("TAO_LANG", raising=False)
    monkeypatch.delenv("LANGUAGE", raising=False)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
