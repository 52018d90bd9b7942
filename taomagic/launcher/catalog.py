"""Tasks, sub-tasks and images of each TAO release, and what the embedded engine runs. The data is ``catalog.toml``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from taomagic.errors import EnvironmentProblem

GROUPS = ("model", "dataset", "deploy")


class Image(NamedTuple):  # a named tuple is made in a fifth of the time of a dataclass, at each start
    """A container image and the tasks that it holds.

    Parameters
    ----------
    group
        ``"model"``, ``"dataset"`` or ``"deploy"``.
    registry, repository, tag
        The parts of its name. The registry may be empty: an image of this machine only.
    tasks
        In NVIDIA's order.
    digest
        From a person's own configuration file. NVIDIA's launcher shows it and doesn't use it; so do we.
    """

    group: str
    registry: str
    repository: str
    tag: str
    tasks: tuple[str, ...]
    digest: str = ""

    @property
    def name(self) -> str:
        """The full name, as ``docker pull`` takes it; ``OVERRIDE_REGISTRY`` replaces the registry, as with NVIDIA's."""
        registry = (os.environ.get("OVERRIDE_REGISTRY") or self.registry).rstrip("/")
        return f"{registry}/{self.repository}:{self.tag}" if registry else f"{self.repository}:{self.tag}"


class Release(NamedTuple):
    """A TAO release, or what a person's own configuration file makes of it.

    Parameters
    ----------
    name
        The version of the toolkit.
    wheels
        The versions of ``nvidia-tao`` on PyPI that brought it.
    published
        ``MM/DD/YYYY``, or ``"unknown"``.
    format_version
        Of NVIDIA's configuration file, as `tao info` prints it.
    images
        In NVIDIA's order.
    note
        What isn't certain about it; empty where all of it is.
    source
        The configuration files that it comes from; empty for the catalog.
    tree, deploy_tree
        The content of those files (of ``config_deploy.json``), which ``tao info`` (``tao-deploy info``) shows as it is.
    """

    name: str
    wheels: tuple[str, ...]
    published: str
    format_version: str
    images: tuple[Image, ...]
    note: str = ""
    source: tuple[str, ...] = ()
    tree: Mapping[str, Any] | None = None
    deploy_tree: Mapping[str, Any] | None = None

    @property
    def grouped(self) -> bool:
        """Whether commands name a group (``tao model ssd …``), as from release 5 on."""
        return self.format_version.startswith("3")

    def image(self, group: str, task: str) -> Image | None:
        """Return the image for a task; of several the last one, as NVIDIA's launcher does.

        A release without groups has all but its deploy tasks in one.
        """
        if not self.grouped and group == "dataset":
            group = "model"
        found = [image for image in self.images if image.group == group and task in image.tasks]
        return found[-1] if found else None

    def require_image(self, group: str, task: str) -> Image:
        """Return the image for a task.

        Raises
        ------
        EnvironmentProblem
            The release doesn't have the task. The hint has its other name, or the releases that have it.
        """
        image = self.image(group, task)
        if image is not None:
            return image
        new_name = _data()["renamed"].get(task, "")
        old_name = next((old for old, new in _data()["renamed"].items() if new == task), "")
        other = next((name for name in (new_name, old_name) if name and self._has(name)), "")
        having = [name for name in release_names() if _catalog_release(name).image(group, task)]
        hints = [f"It calls it {other}." if other else ""]
        if self.source:
            hints.append(f"Add it to {self.source[0]}.")
        if having:
            shown = f"tao --release {having[-1]} {'deploy ' if group == 'deploy' else ''}{task} …"
            hints.append(f"Releases that have it: {', '.join(having)}; choose one: {shown}")
        hints.append(f"({self.note})" if self.note else "")
        task_shown = f"deploy task {task}" if group == "deploy" else f"task {task}"
        raise EnvironmentProblem(f"TAO {self.name} has no {task_shown}.", hint=" ".join(filter(None, hints)))

    def _has(self, task: str) -> bool:
        return any(task in image.tasks for image in self.images)


@cache
def _data() -> Mapping[str, Any]:
    content: Mapping[str, Any] = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return content


@cache
def _expand(words: str) -> tuple[str, ...]:
    """Return the words, each ``@NAME`` replaced by what the set holds."""
    sets = _data()["sets"]
    return tuple(
        task
        for word in words.split()
        for task in (_expand(sets[word[1:]]) if word.startswith("@") else (word,))
    )


def release_names() -> tuple[str, ...]:
    """Return the releases in the catalog, oldest first (in the order of their versions)."""
    return tuple(_data()["releases"])


def release_name(wish: str) -> str:
    """Return the name in the catalog of the release that is meant.

    Parameters
    ----------
    wish
        The version of the toolkit (``3.22.05``, also ``v3.22.05``), that of the wheel (``0.1.24``, ``5.5.1``), or the
        beginning of one that only one release has (``5.5``).

    Raises
    ------
    EnvironmentProblem
        There is no such release, or there are several.
    """
    releases = _data()["releases"]
    name = wish.strip().removeprefix("v")
    if name in releases:
        return name
    found = [each for each, entry in releases.items() if name in entry.get("wheels", "").split()]
    found = found or [each for each in releases if name and each.startswith(name + ".")]
    if len(found) == 1:
        return str(found[0])
    raise EnvironmentProblem(
        f'Several TAO releases begin with "{wish}".'
        if found
        else f'There is no TAO release "{wish}" in the catalog.',
        hint=f"Releases: {', '.join(found or releases)}.",
    )


@cache
def _catalog_release(name: str) -> Release:
    data = _data()
    entry = data["releases"][name]
    default = entry.get("repository", data["repository"])
    images = []
    for group in GROUPS:
        for key, words in entry.get(group, {}).items():
            repository, _, tag = key.rpartition(":")
            images.append(Image(group, data["registry"], repository or default, tag, _expand(words)))
    wheels = tuple(entry.get("wheels", "").split())
    return Release(
        name, wheels, entry["published"], str(entry["format_version"]), tuple(images), entry.get("note", "")
    )


def release(name: str | None = None) -> Release:
    """Return a release.

    Parameters
    ----------
    name
        As for :func:`release_name`. By default the one that ``TAOMAGIC_RELEASE`` names (which ``tao --release`` and
        ``%tao_env --release`` set): an explicit wish for this command or session comes before any file. Without it,
        what a configuration file of the person's says (see :mod:`taomagic.launcher.catalog_config`), else the catalog's
        default.

    Raises
    ------
    EnvironmentProblem
        There is no such release, or the configuration file is wrong.
    """
    wish = name or os.environ.get("TAOMAGIC_RELEASE", "")
    if wish:
        return _catalog_release(release_name(wish))
    default = str(_data()["default_release"])
    folder = os.path.expanduser("~")  # noqa: PTH111 - half a millisecond faster than Path, at each start
    if any(os.path.exists(f"{folder}/{name}") for name in CONFIG_FILES):  # noqa: PTH110
        from taomagic.launcher import catalog_config

        return catalog_config.overridden(_catalog_release(default), Path(folder))
    return _catalog_release(default)


def image_for(group: str, task: str) -> Image:
    """Return the image for a task in the release in force; see :meth:`Release.require_image`."""
    return release().require_image(group, task)


#: A person's own configuration files, below the home folder: of NVIDIA's launchers from 5 on, of those before, and of
#: their `tao-deploy`.
CONFIG_FILES = (".tao/config.json", ".tlt/config.json", ".tlt/config_deploy.json")


def tasks(group: str) -> frozenset[str]:
    """Return the tasks of a group in any release: a notebook of any generation may name them."""
    known = _catalog_tasks(group)
    chosen = release()
    if not chosen.source:
        return known
    groups = {group} if chosen.grouped or group == "deploy" else {"model"}
    return known.union(*(image.tasks for image in chosen.images if image.group in groups))


def networks() -> frozenset[str]:
    """Return the networks that ``%tao_env`` knows: those with a row of their own, and all tasks of the catalog."""
    from taomagic.project.layouts import NAMES

    tasks = _catalog_tasks("model") - {"converter", "augment"}
    return frozenset(task.replace("-", "_") for task in tasks).union(NAMES)


@cache
def _catalog_tasks(group: str) -> frozenset[str]:
    entries = _data()["releases"].values()
    return frozenset(
        task for entry in entries for words in entry.get(group, {}).values() for task in _expand(words)
    )


def subtasks(group: str, task: str) -> tuple[str, ...] | None:
    """Return the sub-tasks of a task; ``()`` where it has none, ``None`` where they aren't known."""
    known = container_subtasks(group, task)
    if not known:
        return known
    return (*known, *(word for word in engine_subtasks(group, task) if word not in known))


@cache
def container_subtasks(group: str, task: str) -> tuple[str, ...] | None:
    """Return the sub-tasks that NVIDIA documents; otherwise as :func:`subtasks`."""
    table: Mapping[str, str] = _data()["subtasks"][group]
    if task in table:
        return tuple(table[task].split())
    for name, words in table.items():
        if name.startswith("@") and task in _expand(name):
            return tuple(words.split())
    return tuple(table["default"].split()) if "default" in table else None


@cache
def engine_tasks() -> Mapping[str, tuple[str, ...]]:
    """Return the networks that the embedded engine runs: task -> sub-tasks of the model group."""
    return {task: tuple(words.split()) for task, words in _data()["engine"].items()}


def engine_subtasks(group: str, task: str) -> tuple[str, ...]:
    """Return the sub-tasks of a task that the embedded engine runs: none, or an empty one where the task has none."""
    if group == "model":
        return ("",) if task in _data()["engine_tools"].split() else engine_tasks().get(task, ())
    words: str = _data()["engine_deploy"].get(task, "") if group == "deploy" else ""
    return tuple(words.split())


def engine_summary() -> str:
    """Return what the embedded engine runs, in one line."""
    deploy: Mapping[str, str] = _data()["engine_deploy"]
    tasks = [f"{task} ({', '.join(words)})" for task, words in engine_tasks().items()]
    tasks += [f"deploy {task} ({', '.join(words.split())})" for task, words in deploy.items()]
    return "; ".join([*tasks, *_data()["engine_tools"].split()])


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``"Did you mean X? "``, or nothing where no known word is near."""
    import difflib

    near = difflib.get_close_matches(word, sorted(known), n=1)
    return f"Did you mean {near[0]}? " if near else ""
