"""Tasks, sub-tasks and images of each TAO release, and what the embedded engine runs. The data is ``catalog.toml``."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from taomagic.errors import EnvironmentProblem

GROUPS = ("model", "dataset", "deploy")
_TITLE = "Configuration of the TAO Toolkit Instance"


@dataclass(frozen=True)
class Image:
    """A container image and the tasks that it holds."""

    group: str
    registry: str
    repository: str
    tag: str
    tasks: tuple[str, ...]

    @property
    def name(self) -> str:
        """The full name, as ``docker pull`` takes it."""
        return f"{self.registry}/{self.repository}:{self.tag}"


@dataclass(frozen=True)
class Release:
    """A TAO release: version of the toolkit, its wheel on PyPI, date (``MM/DD/YYYY``), images in NVIDIA's order."""

    name: str
    wheel: str
    published: str
    format_version: str
    images: tuple[Image, ...]

    @property
    def grouped(self) -> bool:
        """Whether commands name a group (``tao model ssd …``), as from release 5 on."""
        return int(self.name.partition(".")[0]) >= 5

    def image(self, group: str, task: str) -> Image | None:
        """Return the image for a task; of several the last one, as NVIDIA's launcher does."""
        found = [image for image in self.images if image.group == group and task in image.tasks]
        return found[-1] if found else None


@cache
def _data() -> Mapping[str, Any]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


def _expand(names: Iterable[str]) -> tuple[str, ...]:
    sets = _data()["sets"]
    return tuple(task for name in names for task in (sets[name[1:]] if name.startswith("@") else (name,)))


def release_names() -> tuple[str, ...]:
    """Return the releases in the catalog, oldest first."""
    return tuple(_data()["releases"])


@cache
def release(name: str | None = None) -> Release:
    """Return a release; by default the one that ``TAOMAGIC_RELEASE`` names, else the catalog's default.

    Raises
    ------
    EnvironmentProblem
        The catalog has no such release.
    """
    data = _data()
    name = name or os.environ.get("TAOMAGIC_RELEASE") or str(data["default_release"])
    entry = data["releases"].get(name)
    if entry is None:
        raise EnvironmentProblem(
            f'There is no TAO release "{name}" in the catalog.',
            hint=f"Releases: {', '.join(release_names())}.",
        )
    images = tuple(
        Image(image["group"], data["registry"], image["repository"], image["tag"], _expand(image["tasks"]))
        for image in entry["images"]
    )
    return Release(name, entry["wheel"], entry["published"], entry["format_version"], images)


@cache
def tasks(group: str) -> frozenset[str]:
    """Return the tasks of a group in any release: a notebook of any generation may name them."""
    releases = (release(name) for name in release_names())
    return frozenset(
        task for each in releases for image in each.images if image.group == group for task in image.tasks
    )


def subtasks(group: str, task: str) -> tuple[str, ...] | None:
    """Return the sub-tasks of a task; ``()`` where it has none, ``None`` where they aren't known."""
    table: Mapping[str, list[str]] = _data()["subtasks"][group]
    if task in table:
        return tuple(table[task])
    for name, words in table.items():
        if name.startswith("@") and task in _expand([name]):
            return tuple(words)
    return tuple(table["default"]) if "default" in table else None


def engine_tasks() -> Mapping[str, tuple[str, ...]]:
    """Return what the embedded engine runs: task -> sub-tasks."""
    return {task: tuple(words) for task, words in _data()["engine"].items()}


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"Did you mean X? "``, or nothing where no known word is near."""
    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f"Did you mean {near[0]}? " if near else ""


def info(chosen: Release | None = None, *, verbose: bool = False) -> str:
    """Return what ``tao info`` prints, in NVIDIA's layout.

    Parameters
    ----------
    chosen
        The release; by default the one in force.
    verbose
        The whole tree of groups, images and tasks, and a closing line about the embedded engine.
    """
    chosen = chosen or release()
    tree = _tree(chosen)
    if not verbose:
        shown = (f"{key}: {list(value) if isinstance(value, dict) else value}" for key, value in tree.items())
        return "\n".join((_TITLE, *shown))
    lines = [_TITLE, "", *_branches(tree, "    " if chosen.grouped else "\t", 0), ""]
    engine = "; ".join(f"{task} ({', '.join(words)})" for task, words in engine_tasks().items())
    return "\n".join((*lines, f"Embedded engine of taomagic, without containers: {engine}"))


def _tree(chosen: Release) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    for image in chosen.images:
        dockers = groups.setdefault(image.group, {"dockers": {}})["dockers"]
        dockers.setdefault(image.repository, {})[image.tag] = {
            "docker_registry": image.registry,
            "tasks": list(image.tasks),
        }
    head = {"task_group": groups} if chosen.grouped else {"dockers": groups["model"]["dockers"]}
    return {
        **head,
        "format_version": chosen.format_version,
        "toolkit_version": chosen.name,
        "published_date": chosen.published,
    }


def _branches(tree: Mapping[str, Any], unit: str, level: int) -> list[str]:
    lines: list[str] = []
    for key, value in tree.items():
        indent = unit * level
        if isinstance(value, dict):
            # NVIDIA's printer leaves one unit and the children's indent behind the colon.
            lines += [f"{indent}{key}: {unit * (level + 2)}", *_branches(value, unit, level + 1)]
        elif isinstance(value, list):
            lines.append(f"{indent}{key}: ")
            lines += [f"{indent}{unit}{number}. {item}" for number, item in enumerate(value, 1)]
        else:
            lines.append(f"{indent}{key}: {value}")
    return lines
