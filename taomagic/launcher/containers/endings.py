"""Why a container ended, in a person's words, from what its watcher has noted in ``exit.json``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

# The engine's words, and those of docker-init, which is tini.
_NO_PROGRAM = re.compile(r'exec: "?([^":]+)"?: (?:executable|stat|permission)|exec (.+) failed: ')
_KILLED, _TERMINATED = 137, 143


def explain(  # noqa: PLR0911 - one for each kind of end
    ended: Mapping[str, Any], image: str
) -> tuple[str, str]:
    """Return cause and hint of an end that the command's own output can't explain.

    Parameters
    ----------
    ended
        The content of ``exit.json``.
    image
        What the container was made of.

    Returns
    -------
    tuple of str
        Both empty where there is nothing to say beyond exit code and log.
    """
    code = ended.get("exit_code")
    if ended.get("removed"):
        return (
            "the container was removed while it ran, and its result with it.",
            "Somebody ran `docker rm -f` or `docker system prune`. What was written to mounted folders is there.",
        )
    if ended.get("oom_killed") and code != 0:
        return (
            "memory ran out: the system killed a process in the container.",
            "Lower batch_size_per_gpu in the spec, close other programs, or give Docker more memory.",
        )
    if code in {126, 127} and ended.get("engine_error"):
        return _no_program(str(ended["engine_error"]), image)
    if ended.get("stopped"):
        return "", ""
    if ended.get("engine_away") and code != 0:
        return (
            "the Docker engine was stopped or restarted while the command ran, which ends its containers.",
            "Run it again; a training goes on from its last checkpoint. "
            '"live-restore": true in /etc/docker/daemon.json keeps containers alive next time.',
        )
    if code == _KILLED:
        return (
            "the container was killed (SIGKILL) by somebody else, or by the system for want of memory.",
            "If nobody ran `docker kill` or `docker stop`: lower batch_size_per_gpu in the spec, and see `dmesg`.",
        )
    if ended.get("engine_error"):
        return f"the Docker engine says: {str(ended['engine_error']).strip()}", ""
    return "", ""


def _no_program(words: str, image: str) -> tuple[str, str]:
    found = _NO_PROGRAM.search(words)
    program = (found[1] or found[2]) if found else ""
    if not program:
        return f"the command can't be run in the container: {words.strip()}", ""
    if "permission denied" in words.lower():
        return f'"{program}" in the image {image} may not be executed.', "Is it a program? Is it executable?"
    return (
        f'the image {image} has no program "{program}".',
        "`tao info --verbose` shows which image holds which task; --release chooses another one.",
    )
