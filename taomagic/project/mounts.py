"""The mount map (``.tao_mounts.json``): read, check, merge, write.

The file is NVIDIA's, with NVIDIA's keys and layout, so that NVIDIA's own launcher and ours can share it. Two
things differ on purpose: a mistake in it is an error with a place, not a traceback; and one host folder may
be mounted at several places (NVIDIA's launcher keeps only the last of them).
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taomagic.errors import EnvironmentProblem
from taomagic.project.docker_options import check_options
from taomagic.project.paths import PathMap, is_missing, read_pairs

#: The top-level keys; any other is a KeyError in NVIDIA's launcher.
KEYS = ("Mounts", "Envs", "DockerOptions")
#: The name of the file, in the project and in the home folder.
FILE_NAME = ".tao_mounts.json"
#: Names the file that takes the place of ``~/.tao_mounts.json``: a notebook that is executed has one of its own.
HOME_MAP_VARIABLE = "TAOMAGIC_HOME_MAP"


@dataclass(frozen=True)
class MountMap:
    """What a container sees of this machine.

    Parameters
    ----------
    mounts
        ``(host, container)`` folders.
    envs
        Environment variables for the container.
    docker_options
        As in NVIDIA's file, e.g. ``{"user": "1000:1000", "shm_size": "16G"}``.
    """

    mounts: tuple[tuple[str, str], ...] = ()
    envs: Mapping[str, str] = field(default_factory=dict)
    docker_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def paths(self) -> PathMap:
        """The translation table of these mounts."""
        return PathMap(self.mounts)

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file; empty ``Envs`` and ``DockerOptions`` are left out."""
        content: dict[str, Any] = {
            "Mounts": [{"source": source, "destination": destination} for source, destination in self.mounts]
        }
        if self.envs:
            content["Envs"] = [{"variable": name, "value": value} for name, value in self.envs.items()]
        if self.docker_options:
            content["DockerOptions"] = dict(self.docker_options)
        return content

    def merge(self, newer: MountMap) -> MountMap:
        """Return both maps as one.

        ``newer`` wins: a destination it mounts is dropped here, and so are variables and options that it
        sets. Its mounts come first.
        """
        destinations = {destination.rstrip("/") for _, destination in newer.mounts}
        kept = tuple(mount for mount in self.mounts if mount[1].rstrip("/") not in destinations)
        return MountMap(
            (*newer.mounts, *kept),
            {**self.envs, **newer.envs},
            {**self.docker_options, **newer.docker_options},
        )

    def resolve(self, cwd: Path, volumes: Sequence[tuple[str, str]] = ()) -> MountMap:
        """Return the map as an engine needs it: whole paths, one mount a destination.

        Parameters
        ----------
        cwd
            Where a relative source begins; NVIDIA's launcher takes the working folder, too.
        volumes
            More mounts, from ``--volume``; they win over those of the file.
        """
        pairs = [
            (str(cwd / os.path.expanduser(source)), destination)  # noqa: PTH111 - "~nobody" stays as it is
            for source, destination in (*self.mounts, *volumes)
        ]
        return MountMap(PathMap(pairs).pairs, self.envs, self.docker_options)

    def missing_sources(self) -> tuple[str, ...]:
        """Return the host folders that don't exist. A container can't start while there are any."""
        return tuple(source for source, _ in self.mounts if is_missing(os.path.expanduser(source)))  # noqa: PTH111

    def write(self, path: Path) -> None:
        """Write the file in one step, indented as NVIDIA's notebooks do.

        Raises
        ------
        EnvironmentProblem
            The folder can't be written.
        """
        import tempfile

        text = json.dumps(self.to_json(), indent=4)
        try:
            target = path.resolve()  # a link stays a link
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(prefix=f"{target.name}.", dir=target.parent)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                Path(temporary).chmod(0o644)
                Path(temporary).replace(target)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise EnvironmentProblem(
                f"The mount map can't be written: {error.strerror}.",
                where=str(path),
                hint="Choose a folder that you may write with --project-dir.",
            ) from None


def read_mounts(path: Path) -> MountMap:
    """Read and check a mount file.

    Raises
    ------
    EnvironmentProblem
        The file can't be read, isn't JSON, has a key that NVIDIA's launcher doesn't know, a mount without
        source or destination, two sources for one destination, or a variable without name or value.
    """
    pairs = read_pairs(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    _known_keys(content, path)
    mounts: dict[str, tuple[str, str]] = {}
    for source, written in pairs:
        destination = _destination(written, path)
        other = mounts.setdefault(destination.rstrip("/"), (source, destination))
        if other[0] != source:
            raise EnvironmentProblem(
                f'Two folders are mounted at "{destination}": "{other[0]}" and "{source}".',
                where=str(path),
                hint="Delete one of them, or give it another destination.",
            )
    envs = _envs(content.get("Envs", []), path)
    options = check_options(content.get("DockerOptions", {}), str(path))
    return MountMap(tuple(mounts.values()), envs, options)


def _destination(written: str, path: Path) -> str:
    """Return a destination; ``~`` means what it means for a source, as with NVIDIA's launcher.

    Nothing else is resolved: NVIDIA's launcher puts a destination through the links and the working folder of this
    machine, which changes it without a word.
    """
    destination = os.path.expanduser(written)  # noqa: PTH111
    if not destination.startswith("/") or not destination.strip("/"):
        variable = " Variables aren't expanded in this file." if "$" in written else ""
        raise EnvironmentProblem(
            f'The destination "{written}" isn\'t an absolute path of a folder.',
            where=str(path),
            hint="A destination is a folder in the container, e.g. /workspace/tao-experiments." + variable,
        )
    return destination


def _envs(entries: object, path: Path) -> dict[str, str]:
    if not isinstance(entries, list):
        raise EnvironmentProblem(
            '"Envs" must be a list.',
            where=str(path),
            hint='For example [{"variable": "NAME", "value": "text"}].',
        )
    envs: dict[str, str] = {}
    for number, entry in enumerate(entries, 1):
        name = entry.get("variable") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name or "=" in name or "value" not in entry:
            raise EnvironmentProblem(
                f'Entry {number} of "Envs" needs "variable" and "value".',
                where=str(path),
                hint='For example {"variable": "NAME", "value": "text"}.',
            )
        value = entry["value"]
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            # True or true, None or nothing: which one is meant only its author knows.
            raise EnvironmentProblem(
                f'The value of "{name}" in "Envs" must be text, not {json.dumps(value)}.',
                where=str(path),
                hint=f'Put it in quotation marks: {{"variable": "{name}", "value": "1"}}.',
            )
        envs[name] = str(value)
    return envs


def _known_keys(content: Mapping[str, object], path: Path) -> None:
    for key in content:
        if key not in KEYS:
            near = difflib.get_close_matches(key, KEYS, n=1)
            raise EnvironmentProblem(
                f'The mount map has an unknown key "{key}".',
                where=str(path),
                hint=(f'Did you mean "{near[0]}"? ' if near else "") + f"Known keys: {', '.join(KEYS)}.",
            )


def home_folder(environ: Mapping[str, str]) -> Path:
    """Return the home folder that ``environ`` names, else the one the system knows."""
    home = environ.get("HOME", "")
    return Path(home) if home.startswith("/") else Path.home()


def home_map(environ: Mapping[str, str]) -> Path:
    """Return where the map for everything lies: ``~/.tao_mounts.json``, or what :data:`HOME_MAP_VARIABLE` names."""
    own = environ.get(HOME_MAP_VARIABLE, "")
    return Path(own) if own else home_folder(environ) / FILE_NAME


def find_mounts(environ: Mapping[str, str]) -> Path | None:
    """Return the mount file in force: what ``LAUNCHER_MOUNTS`` names, else :func:`home_map` if there is one."""
    if environ.get("TAO_DOCKER_DISABLE", "0") not in {"", "0"}:
        return None  # paths are those of this machine, as with NVIDIA's launcher
    if name := environ.get("LAUNCHER_MOUNTS", ""):
        return Path(name).expanduser()
    path = home_map(environ)
    return path if path.is_file() else None


def keep_foreign(path: Path) -> list[str]:
    """Copy a ``~/.tao_mounts.json`` that someone else wrote to ``….bak`` before it is replaced, and say so.

    A map is ours when a folder that it mounts, the project, holds all of its mounts in a map of its own.
    """
    if not path.is_file():
        return []
    try:
        text = path.read_bytes()
    except OSError:
        return []
    if _is_ours(path):
        return []
    number = 1
    while True:
        backup = path.with_name(f"{path.name}.bak" + (str(number) if number > 1 else ""))
        if not backup.exists():
            break
        if backup.read_bytes() == text:
            return []
        number += 1
    backup.write_bytes(text)
    return [f"Kept your earlier {path} as {backup.name}"]


def _is_ours(path: Path) -> bool:
    try:
        mounts = read_mounts(path).mounts
    except EnvironmentProblem:
        return False
    for source, _ in mounts:
        own = Path(source) / FILE_NAME
        try:
            if own.resolve() == path.resolve() or set(mounts) <= set(read_mounts(own).mounts):
                return True
        except EnvironmentProblem:
            continue
    return False
