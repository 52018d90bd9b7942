"""Creating a container and starting it."""

from __future__ import annotations

import contextlib
from typing import Any

from taomagic.launcher.containers.api import Engine, EngineProblem


def create(engine: Engine, name: str, body: dict[str, Any]) -> None:
    """Create a container.

    Raises
    ------
    EngineProblem
        The engine refuses.
    """
    engine.post("/containers/create", body, name=name)


def start(engine: Engine, name: str, body: dict[str, Any]) -> str:
    """Start a container.

    Returns
    -------
    str
        The engine's words where the image doesn't hold the command: that is how the command ended, as in a shell, and
        not a failure to start it. Otherwise empty.

    Raises
    ------
    EngineProblem
        The engine refuses; the container is removed.
    """
    try:
        engine.post(f"/containers/{name}/start")
    except EngineProblem as problem:
        words = str(problem).lower()
        host = body.get("HostConfig", {})
        if "docker-init" in words and host.get("Init"):
            # Debian's package only recommends it. Without it the command is process 1, and some ignore signals then.
            engine.delete(f"/containers/{name}", force=True, v=True)
            body = {**body, "HostConfig": {**host, "Init": False}}
            create(engine, name, body)
            return start(engine, name, body)
        if _is_no_program(words):
            return str(problem)
        remove(engine, name)
        raise
    return ""


def remove(engine: Engine, name: str) -> None:
    """Remove a container, running or not; harmless where there is none."""
    with contextlib.suppress(EngineProblem):
        engine.delete(f"/containers/{name}", force=True, v=True)


def _is_no_program(words: str) -> bool:
    # An NVIDIA runtime that isn't installed properly is missed in the same words.
    if "mount" in words or "nvidia" in words or "exec" not in words:
        return False
    return any(
        part in words
        for part in ("executable file not found", "no such file or directory", "permission denied")
    )
