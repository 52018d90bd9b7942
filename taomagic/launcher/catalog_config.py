"""A person's own ``~/.tao/config.json``: tasks and images in place of the catalog's, in NVIDIA's three formats.

======  ==================================================================================================
format  where the images are
======  ==================================================================================================
1.0     ``dockers`` > image > ``docker_tag``, ``docker_registry``, ``tasks``
2.0     ``dockers`` > image > tag > ``docker_registry``, ``tasks``
3.0     ``task_group`` > ``model``, ``dataset`` or ``deploy`` > ``dockers`` > as in 2.0; also the integer 3
======  ==================================================================================================

Beside the tasks an image may have a ``docker_digest``, which NVIDIA's launchers show and don't use; so do we. Other
fields (``toolkit_version``, ``published_date``, remarks) are shown by ``tao info``. A task in two images comes from the
later one. The formats are those of the configuration files in NVIDIA's wheels.

Which file counts: ``~/.tao/config.json``, the one of NVIDIA's launchers from 5.0 on. Where there is none, those of the
launchers before: ``~/.tlt/config.json`` replaces the release, and ``~/.tlt/config_deploy.json`` its group ``deploy``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taomagic.errors import EnvironmentProblem
from taomagic.launcher import catalog
from taomagic.launcher.catalog import GROUPS, Image, Release

_ADVICE = "See `tao info --verbose` for the layout, or rename the file to use the releases of the catalog."


def overridden(default: Release, home: Path) -> Release:
    """Return what the files below a home folder make of a release.

    Raises
    ------
    EnvironmentProblem
        A file can't be read or is wrong; file, place and what is allowed are named.
    """
    new, old, old_deploy = (home / name for name in catalog.CONFIG_FILES)
    if new.is_file():
        return read_config(new)
    chosen = default
    if old.is_file():
        chosen = read_config(old)
        if not any(image.group == "deploy" for image in chosen.images):
            # TAO 4.0 has two files; where only one is replaced, the other one is that of the release.
            chosen = chosen._replace(images=(*chosen.images, *_deploy_images(chosen.name)))
    if old_deploy.is_file():
        deploy = read_config(old_deploy, group="deploy")
        kept = tuple(image for image in chosen.images if image.group != "deploy")
        source = (*chosen.source, *deploy.source)
        chosen = chosen._replace(images=(*kept, *deploy.images), source=source, deploy_tree=deploy.tree)
    return chosen


def _deploy_images(name: str) -> tuple[Image, ...]:
    if name not in catalog.release_names():
        return ()
    return tuple(image for image in catalog.release(name).images if image.group == "deploy")


def read_config(path: Path, *, group: str = "model") -> Release:
    """Return what a configuration file says.

    Parameters
    ----------
    path
        The file.
    group
        The group of the tasks where the format (1.0, 2.0) has no groups.

    Raises
    ------
    EnvironmentProblem
        It can't be read, isn't JSON, or isn't in one of the formats.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise EnvironmentProblem(
            f"The file can't be read: {error.strerror}.", where=str(path), hint=_ADVICE
        ) from None
    except UnicodeDecodeError:
        raise EnvironmentProblem("The file isn't UTF-8 text.", where=str(path), hint=_ADVICE) from None
    except json.JSONDecodeError as error:
        raise EnvironmentProblem(
            f"The file isn't JSON: {error.msg}.", where=f"{path}:{error.lineno}", hint=_ADVICE
        ) from None
    reader = _Reader(path)
    reader.need(isinstance(tree, dict), "", "an object")
    version = tree.get("format_version")
    # True == 1.0 in Python.
    allowed = isinstance(version, int | float) and not isinstance(version, bool) and version in {1, 2, 3}
    reader.need(allowed, "format_version", "1.0, 2.0 or 3.0")
    images: list[Image] = []
    if version == 3:
        groups = reader.table(tree, "task_group")
        for name in groups:
            reader.need(name in GROUPS, f"task_group.{name}", f"one of the groups {', '.join(GROUPS)}")
            content = reader.table(groups, name, "task_group")
            dockers = reader.table(content, "dockers", f"task_group.{name}")
            images += reader.tagged(dockers, name, f"task_group.{name}.dockers")
    else:
        dockers = reader.table(tree, "dockers")
        images += (
            reader.tagged(dockers, group, "dockers")
            if version == 2
            else reader.untagged(dockers, group, "dockers")
        )
    return Release(
        name=_text(tree, "toolkit_version") or path.stem,
        wheels=(),
        published=_text(tree, "published_date") or "unknown",
        format_version=str(version),
        images=tuple(images),
        source=(str(path),),
        tree=tree,
    )


def _text(tree: Mapping[str, Any], key: str) -> str:
    value = tree.get(key, "")
    return str(value) if isinstance(value, str | int | float) else ""


class _Reader:
    """Takes a file apart and says where it isn't as it should be."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def need(self, good: bool, place: str, allowed: str) -> None:
        if not good:
            raise EnvironmentProblem(
                f"{place or 'The content'} must be {allowed}.", where=str(self._path), hint=_ADVICE
            )

    def table(self, parent: Mapping[str, Any], key: str, place: str = "") -> Mapping[str, Any]:
        value = parent.get(key)
        self.need(
            isinstance(value, dict) and bool(value), _join(place, key), "an object with at least one entry"
        )
        assert isinstance(value, dict)
        return value

    def tagged(self, dockers: Mapping[str, Any], group: str, place: str) -> list[Image]:
        images = []
        for repository in dockers:
            tags = self.table(dockers, repository, place)
            for tag in tags:
                entry = self.table(tags, tag, f"{place}.{repository}")
                images.append(self._image(group, repository, tag, entry, f"{place}.{repository}.{tag}"))
        return images

    def untagged(self, dockers: Mapping[str, Any], group: str, place: str) -> list[Image]:
        images = []
        for repository in dockers:
            entry = self.table(dockers, repository, place)
            tag = self._string(entry, "docker_tag", f"{place}.{repository}")
            self.need(bool(tag), f"{place}.{repository}.docker_tag", "the tag of an image")
            images.append(self._image(group, repository, tag, entry, f"{place}.{repository}"))
        return images

    def _image(self, group: str, repository: str, tag: str, entry: Mapping[str, Any], place: str) -> Image:
        registry = self._string(entry, "docker_registry", place)
        tasks = entry.get("tasks")
        right = isinstance(tasks, list) and all(isinstance(task, str) and task for task in tasks)
        self.need(right, f"{place}.tasks", "a list of task names")
        assert isinstance(tasks, list)
        digest = entry.get("docker_digest") or ""
        self.need(isinstance(digest, str), f"{place}.docker_digest", "text")
        return Image(group, registry, repository, tag, tuple(tasks), digest)

    def _string(self, entry: Mapping[str, Any], key: str, place: str) -> str:
        value = entry.get(key)
        self.need(isinstance(value, str), _join(place, key), "text")
        return str(value)


def _join(place: str, key: str) -> str:
    return f"{place}.{key}" if place else key
