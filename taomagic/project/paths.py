"""Host path <-> container path. The only place that translates.

A person keeps the paths of NVIDIA's notebooks (``/workspace/tao-experiments/…``) in specs and arguments. A
container mounts them; the embedded engine reads them through a :class:`PathMap`. Mounts may be nested (the
specs folder usually is), so the longest prefix wins, by whole path components: ``/data`` never matches
``/database``.
"""

from __future__ import annotations

import json
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from taomagic.errors import EnvironmentProblem

#: Where NVIDIA's notebooks mount the project.
CONTAINER_ROOT = "/workspace/tao-experiments"
#: Where the notebook of nvdinov2 does.
OTHER_ROOT = "/tao-pt/tao-experiments"
#: Where they mount data, specs, results and models in family B; see :mod:`taomagic.project.layouts`.
SHORT_PLACES = ("/data", "/specs", "/results", "/model")


def is_notebook_place(path: str) -> bool:
    """Tell whether a path in a container lies where NVIDIA's notebooks mount things."""
    return any(f"{path}/".startswith(f"{place}/") for place in (CONTAINER_ROOT, OTHER_ROOT, *SHORT_PLACES))


def is_container_path(path: str) -> bool:
    """Tell whether a path is surely one of a container: it lies where notebooks mount things, and nothing is there."""
    if path.startswith(f"{CONTAINER_ROOT}/"):
        return True
    # Many a machine has a /data of its own.
    return is_notebook_place(path) and not is_folder(f"/{path.split('/')[1]}")


def exists(path: Path | str) -> bool:
    """Tell whether something is there, as far as we may look. `Path.exists` raises where we may not (Python < 3.14)."""
    return os.path.exists(path)  # noqa: PTH110


def is_folder(path: Path | str) -> bool:
    """Tell whether a folder is there, as far as we may look."""
    return os.path.isdir(path)  # noqa: PTH112


def is_missing(path: Path | str) -> bool:
    """Tell whether something surely isn't there; what we may not see may be."""
    try:
        os.stat(path)  # noqa: PTH116
    except PermissionError:
        return False
    except (OSError, ValueError):
        return True
    return False


def _parts(path: str) -> tuple[str, ...]:
    """Split a normalised absolute path: ``/a/b`` -> ``("a", "b")``."""
    return tuple(part for part in path.split("/") if part)


def _normal(path: str) -> str:
    """Remove ``.``, ``..``, doubled and trailing slashes without touching the disk."""
    normal = posixpath.normpath(path)
    return normal[1:] if normal.startswith("//") else normal


class PathMap:
    """A translation table between the paths of this machine and the paths in a container.

    Parameters
    ----------
    pairs
        ``(host, container)`` folders, both absolute; ``~`` on the host side is expanded. Where one container
        folder is given twice, the later pair counts; one host folder may be seen under several container
        folders.

    Examples
    --------
    >>> root = "/workspace/tao-experiments"
    >>> paths = PathMap([("/home/me/nb", root), ("/home/me/nb/specs", f"{root}/ssd/specs")])
    >>> str(paths.to_host("/workspace/tao-experiments/ssd/specs/train.txt"))
    '/home/me/nb/specs/train.txt'
    >>> paths.to_container("/home/me/nb/data")
    '/workspace/tao-experiments/data'
    """

    def __init__(self, pairs: Sequence[tuple[str, str]] = ()) -> None:
        by_container: dict[str, str] = {}
        for host, container in pairs:
            destination = _normal(container)
            by_container.pop(destination, None)
            by_container[destination] = _normal(os.path.expanduser(host))  # noqa: PTH111
        self.pairs: tuple[tuple[str, str], ...] = tuple((host, dest) for dest, host in by_container.items())

    def __repr__(self) -> str:
        return f"PathMap({list(self.pairs)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PathMap) and set(self.pairs) == set(other.pairs)

    def __hash__(self) -> int:
        return hash(frozenset(self.pairs))

    def __bool__(self) -> bool:
        return bool(self.pairs)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.pairs)

    def to_host(self, path: str | Path) -> Path:
        """Return where a path of the container lies on this machine.

        Parameters
        ----------
        path
            A path as written in a spec or an argument.

        Returns
        -------
        Path
            The translation by the longest mounted prefix; the path itself (``~`` expanded) where no mount
            covers it.
        """
        text = str(path)
        wanted = _parts(_normal(text)) if text.startswith("/") else None
        if wanted is not None:
            best: tuple[int, str] | None = None
            for host, container in self.pairs:
                prefix = _parts(container)
                if wanted[: len(prefix)] == prefix and (best is None or len(prefix) > best[0]):
                    best = (len(prefix), host)
            if best is not None:
                return Path(best[1]).joinpath(*wanted[best[0] :])
        return Path(text).expanduser()

    def to_container(self, path: str | Path) -> str:
        """Return what a path of this machine is called in the container.

        Parameters
        ----------
        path
            An absolute path on this machine.

        Returns
        -------
        str
            The translation by the longest mounted host prefix. A path that no mount covers, or that lies
            hidden under a nested mount, is returned unchanged: the container doesn't see it.
        """
        text = os.path.expanduser(str(path))  # noqa: PTH111
        if not text.startswith("/"):
            return text
        wanted = _parts(_normal(text))
        candidates = [(len(_parts(host)), host, container) for host, container in self.pairs]
        # sorted() is stable, so of two folders for the same host path the first one given is used.
        for length, host, container in sorted(candidates, key=lambda item: -item[0]):
            if wanted[:length] == _parts(host):
                shown = posixpath.join(container, *wanted[length:])
                if _parts(str(self.to_host(shown))) == wanted:
                    return shown
        return text

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> PathMap:
        """Read the map that ``LAUNCHER_MOUNTS`` names.

        Parameters
        ----------
        environ
            The environment; ``os.environ`` by default.

        Returns
        -------
        PathMap
            The map; an empty one (paths mean themselves) with ``TAO_DOCKER_DISABLE=1``, as with NVIDIA's
            launcher, or where ``LAUNCHER_MOUNTS`` isn't set.

        Raises
        ------
        EnvironmentProblem
            The file is named but can't be read, or isn't a mount map.
        """
        environ = os.environ if environ is None else environ
        name = environ.get("LAUNCHER_MOUNTS", "")
        if not name or environ.get("TAO_DOCKER_DISABLE", "0") not in {"", "0"}:
            return cls()
        return cls(read_pairs(Path(name).expanduser()))


def read_pairs(path: Path) -> list[tuple[str, str]]:
    """Return the ``(source, destination)`` pairs of a mount file.

    Parameters
    ----------
    path
        A ``.tao_mounts.json``.

    Raises
    ------
    EnvironmentProblem
        The file can't be read, isn't JSON, or has no proper ``Mounts`` list.
    """
    hint = "Run %tao_env to write it anew."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise EnvironmentProblem("The mount map doesn't exist.", where=str(path), hint=hint) from None
    except OSError as error:
        raise EnvironmentProblem(
            f"The mount map can't be read: {error.strerror}.", where=str(path), hint=hint
        ) from None
    except UnicodeDecodeError:
        raise EnvironmentProblem("The mount map isn't UTF-8 text.", where=str(path), hint=hint) from None
    except json.JSONDecodeError as error:
        raise EnvironmentProblem(
            f"The mount map isn't valid JSON: {error.msg}.", where=f"{path}:{error.lineno}", hint=hint
        ) from None
    mounts = content.get("Mounts") if isinstance(content, dict) else None
    if not isinstance(mounts, list):
        raise EnvironmentProblem('The mount map has no list "Mounts".', where=str(path), hint=hint)
    pairs: list[tuple[str, str]] = []
    for number, mount in enumerate(mounts, 1):
        for name in ("source", "destination"):
            value = mount.get(name) if isinstance(mount, dict) else None
            if not isinstance(value, str) or not value.strip():
                raise EnvironmentProblem(
                    f'Mount {number} has no "{name}".',
                    where=str(path),
                    hint='Each mount needs "source" (a folder here) and "destination" (its place in the container).',
                )
        pairs.append((mount["source"], mount["destination"]))
    return pairs
