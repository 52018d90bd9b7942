"""What ``tao info`` prints, in the layout of NVIDIA's launchers, to the byte."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from taomagic.launcher import catalog
from taomagic.launcher.catalog import Release

_TITLE = "Configuration of the TAO Toolkit Instance"


def info(chosen: Release | None = None, *, verbose: bool = False, deploy: bool = False) -> str:
    """Return what ``tao info`` prints on stdout.

    Parameters
    ----------
    chosen
        The release; by default the one in force.
    verbose
        The whole tree of groups, images and tasks.
    deploy
        That of ``tao-deploy info``, which TAO 4.0 has: only the images of the group ``deploy``.
    """
    chosen = chosen or catalog.release()
    tree = _tree(chosen, "deploy" if deploy else "model")
    if not verbose:
        shown = (f"{key}: {list(value) if isinstance(value, dict) else value}" for key, value in tree.items())
        return "\n".join((_TITLE, *shown))
    return "\n".join((_TITLE, "", *_branches(tree, "    " if "task_group" in tree else "\t", 0)))


def remarks(chosen: Release | None = None, *, verbose: bool = False) -> list[str]:
    """Return what we have to say beside it, on stderr: where the data comes from, and what isn't certain.

    Parameters
    ----------
    chosen
        The release; by default the one in force.
    verbose
        Also what the embedded engine runs.
    """
    wished = chosen is not None or bool(os.environ.get("TAOMAGIC_RELEASE"))
    chosen = chosen or catalog.release()
    lines: list[str] = []
    if chosen.source:
        lines.append(f"From {', '.join(chosen.source)}; --release NAME shows a release of NVIDIA's.")
    elif wished and (home := os.path.expanduser("~")):  # noqa: PTH111
        ignored = [f"~/{name}" for name in catalog.CONFIG_FILES if os.path.exists(f"{home}/{name}")]  # noqa: PTH110
        if ignored:
            lines.append(f"{', '.join(ignored)} doesn't count, because a release is chosen.")
    if chosen.note:
        lines.append(f"Note: {chosen.note}")
    if registry := os.environ.get("OVERRIDE_REGISTRY"):
        lines.append(f"OVERRIDE_REGISTRY: images come from {registry}.")
    if verbose:
        lines.append(f"Embedded engine of taomagic, without containers: {catalog.engine_summary()}")
    return lines


def _tree(chosen: Release, group: str) -> Mapping[str, Any]:
    # A person's own file is shown as it is, with fields that mean nothing to us, as NVIDIA's launchers do.
    if (own := chosen.deploy_tree if group == "deploy" else chosen.tree) is not None:
        return own
    groups: dict[str, Any] = {}
    for image in chosen.images:
        dockers = groups.setdefault(image.group, {"dockers": {}})["dockers"]
        dockers.setdefault(image.repository, {})[image.tag] = {
            "docker_registry": image.registry,
            "tasks": list(image.tasks),
        }
    head = {"task_group": groups} if chosen.grouped else groups.get(group, {"dockers": {}})
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
