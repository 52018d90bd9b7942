from __future__ import annotations

import os

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):
    # Before anything imports torch: workers with a thread for each core would wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

import pytest
from hypothesis import settings

# What CI refuses it must refuse again: there the examples are the same each time. Elsewhere they are new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.hookimpl(tryfirst=True)  # before the workers look for the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell the workers of ``pytest -n`` what belongs together, and let them begin with what takes longest."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    if workers:
        items.sort(key=lambda item: not _group(item).startswith(_LONG))


#: What shares an engine, a server or a training, in groups that one worker does.
_LONG = ("docker", "browser", "notebook")


def _group(item: pytest.Item) -> str:
    if "docker_engine" in getattr(item, "fixturenames", ()):
        return "docker"
    folder, name = item.path.parent.name, item.path.stem
    if folder == "browser":
        return "browser"
    if name == "test_notebook":
        # One for each network: neither waits for the other's training.
        parameters = getattr(item, "callspec", None)
        return f"notebook {parameters.params.get('net', '')}" if parameters else "notebook"
    return f"{folder}/{name}"


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
