from __future__ import annotations

import os

import pytest
from hypothesis import settings

# What CI refuses it must refuse again: there the examples are the same each time. Elsewhere they are new ones.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


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
