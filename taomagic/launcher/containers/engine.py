"""The engine in force, and what it offers."""

from __future__ import annotations

from collections.abc import Mapping

from taomagic.launcher.containers.api import Engine
from taomagic.launcher.containers.container import EngineFacts
from taomagic.launcher.containers.endpoint import BadEndpoint, find_endpoint


def connect(environ: Mapping[str, str]) -> Engine:
    """Return the engine that the environment means; nothing is sent yet.

    Raises
    ------
    EnvironmentProblem
        ``DOCKER_HOST`` or the Docker context is wrong.
    """
    try:
        return Engine(find_endpoint(environ))
    except BadEndpoint as problem:
        from taomagic.launcher.containers.problems import explain

        raise explain(problem, "be found") from None


def facts(engine: Engine) -> EngineFacts:
    """Ask the engine what it offers.

    Raises
    ------
    EngineProblem
        It can't be reached.
    """
    return EngineFacts.from_info(engine.get("/info"), local=engine.endpoint.local)
