"""What the engine knows about an image that is here.

Apart from :mod:`taomagic.launcher.containers.images`, because what it takes to pull one needs 20 ms to load, and most
images are here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from taomagic.launcher.containers.api import Engine, EngineProblem


@dataclass(frozen=True)
class ImageFacts:
    """What the engine knows about an image.

    Parameters
    ----------
    id
        Its digest, which no other image has.
    entrypoint, command
        What it runs by itself.
    stop_signal
        What asks it to end; empty for SIGTERM.
    user
        Whom it runs as; empty for root.
    size
        Bytes, unpacked.
    labels
        What its maker wrote on it.
    architecture
        Of the processor that it is for: ``amd64``, ``arm64``.
    """

    id: str
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    stop_signal: str = ""
    user: str = ""
    size: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    architecture: str = ""

    @classmethod
    def from_inspect(cls, answer: Mapping[str, Any]) -> ImageFacts:
        """Read the engine's answer to ``GET /images/NAME/json``."""
        config = answer.get("Config") or {}
        return cls(
            id=str(answer["Id"]),
            entrypoint=_words(config.get("Entrypoint")),
            command=_words(config.get("Cmd")),
            stop_signal=str(config.get("StopSignal") or ""),
            user=str(config.get("User") or ""),
            size=int(answer.get("Size") or 0),
            labels=dict(config.get("Labels") or {}),
            architecture=str(answer.get("Architecture") or ""),
        )


def find(engine: Engine, name: str) -> ImageFacts | None:
    """Return what the engine knows about an image; ``None`` where it isn't here. Needs no network and no login.

    Raises
    ------
    EngineProblem
        The engine can't be reached, or the name is none.
    """
    try:
        return ImageFacts.from_inspect(engine.get(f"/images/{name}/json"))
    except EngineProblem as problem:
        if problem.status == 404:
            return None
        raise


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(str(word) for word in value) if isinstance(value, list) else ()
