"""``DockerOptions`` of the mount map: which keys there are, and what their values may be.

The keys are those of NVIDIA's launcher. It hands the values on as they are, so a slip in one of them is a traceback
after the image has been fetched; here it is an error when the file is read.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from taomagic.errors import EnvironmentProblem

#: The keys of ``DockerOptions`` in NVIDIA's launcher; ``tty`` since 5.0.
DOCKER_KEYS = ("shm_size", "ulimits", "user", "ports", "privileged", "network", "tty")
#: What `docker run --ulimit` knows (getrlimit(2)).
ULIMITS = (
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
)
# What people try, because `docker run` has it. NVIDIA's launcher refuses it, too.
_REFUSED = {
    "entrypoint": "The image's own entry point is used; to run another program: tao TASK run PROGRAM",
    "runtime": "GPUs are requested for you, for as many as --gpus or --gpu_index name.",
    "gpus": "GPUs are requested for you, for as many as --gpus or --gpu_index name.",
    "ipc": 'For shared memory, use "shm_size": "16G".',
    "workdir": "The image's own folder is used; write absolute paths of the container in the command.",
}
_UNITS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([kmgtp]?)i?b?", re.IGNORECASE | re.ASCII)
_NAME = r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?"
_USER = re.compile(f"{_NAME}(:{_NAME})?")
_PORT = re.compile(r"(\d{1,5})(?:/(tcp|udp|sctp))?", re.ASCII)


def parse_size(value: object) -> int | None:
    """Return a size in bytes, or ``None`` where it isn't one.

    Parameters
    ----------
    value
        Bytes as a number, or text as `docker run` takes it: ``"16G"``, ``"512m"``, ``"1.5 GiB"``. Units are powers of
        1024, with or without ``i`` and ``B``.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value > 0 else None
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    size = int(float(match[1]) * 1024 ** _UNITS[match[2].lower()])
    return size if 0 < size < 1 << 63 else None


def parse_port(value: object) -> tuple[int, str] | None:
    """Return port number and protocol of ``8888``, ``"8888"`` or ``"8888/udp"``; ``None`` where it is no port."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    match = _PORT.fullmatch(str(value).strip())
    if match is None or not 0 < int(match[1]) < 1 << 16:
        return None
    return int(match[1]), match[2] or "tcp"


def check_options(options: object, where: str) -> Mapping[str, Any]:
    """Return ``DockerOptions`` as they are, once every key and value has been checked.

    Parameters
    ----------
    options
        The value in the file.
    where
        The file, for the error.

    Raises
    ------
    EnvironmentProblem
        There is an unknown key, or a value of the wrong kind.
    """
    if not isinstance(options, dict):
        raise EnvironmentProblem(
            '"DockerOptions" must be an object.', where=where, hint='For example {"user": "1000:1000"}.'
        )
    for key, value in options.items():
        if key not in DOCKER_KEYS:
            near = difflib.get_close_matches(key, DOCKER_KEYS, n=1)
            advice = _REFUSED.get(key, f'Did you mean "{near[0]}"?' if near else "")
            raise EnvironmentProblem(
                f'"DockerOptions" has an unknown key "{key}".',
                where=where,
                hint=f"{advice} Known keys: {', '.join(DOCKER_KEYS)}.".strip(),
            )
        right, allowed, example = _RULES[key]
        if not right(value):
            raise EnvironmentProblem(
                f'"{key}" in "DockerOptions" must be {allowed}, not {_shown(value)}.',
                where=where,
                hint=f"For example {example}." + _variable_hint(value),
            )
    for name in options.get("ulimits", {}):
        if name not in ULIMITS:
            near = difflib.get_close_matches(name, ULIMITS, n=1)
            raise EnvironmentProblem(
                f'"ulimits" in "DockerOptions" has an unknown limit "{name}".',
                where=where,
                hint=(f'Did you mean "{near[0]}"? ' if near else "") + f"Limits: {', '.join(ULIMITS)}.",
            )
    return options


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _variable_hint(value: object) -> str:
    return " Variables aren't expanded in this file." if isinstance(value, str) and "$" in value else ""


def _is_limits(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(limit, int) and not isinstance(limit, bool) and limit >= -1 for limit in value.values()
    )


def _is_ports(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    # A host port has no protocol of its own.
    return all(parse_port(inside) and parse_port(f"{outside}/tcp") for inside, outside in value.items())


_RULES: Mapping[str, tuple[Callable[[object], bool], str, str]] = {
    "shm_size": (lambda value: parse_size(value) is not None, "a size", '"16G"'),
    "ulimits": (
        _is_limits,
        "an object of limits, whole numbers (-1: none)",
        '{"memlock": -1, "stack": 67108864}',
    ),
    "user": (
        lambda value: isinstance(value, str) and bool(_USER.fullmatch(value)),
        '"UID:GID"',
        '"1000:1000"',
    ),
    "ports": (_is_ports, "an object of container ports and host ports", '{"8888": 8888, "6006/tcp": 16006}'),
    "privileged": (lambda value: isinstance(value, bool), "true or false", "true"),
    "network": (
        lambda value: isinstance(value, str) and bool(value.strip()),
        "the name of a network",
        '"host"',
    ),
    "tty": (lambda value: isinstance(value, bool), "true or false", "false"),
}
