"""Names of networks: what is meant by one, and how to guess it; values that notebooks ship with to be replaced."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from taomagic.errors import EnvironmentProblem
from taomagic.project.paths import is_folder

#: Project folders that NVIDIA's notebooks ship with; they count only where they exist.
SHIPPED_PROJECTS = frozenset({"/data/tlt-experiments", "/workspace/tao-experiments"})
_PLACEHOLDER = re.compile(r"(?i:FIXME)(?:/|$)|(?:/\w+)?/path/to(?:/|$)|YOUR_|<[^>]*>|\.\.\.$")


def is_placeholder(text: str) -> bool:
    """Tell whether a value is one that a notebook ships with for the reader to replace."""
    return _PLACEHOLDER.match(text) is not None


def is_shipped_project(text: str) -> bool:
    """Tell whether a project folder is what notebooks ship with: a placeholder, or NVIDIA's own, and there is none."""
    shipped = text.rstrip("/") in SHIPPED_PROJECTS and not is_folder(text)
    return shipped or is_placeholder(text)


def canonical(name: str) -> str:
    """Return a name as networks are written: small letters, and ``_`` between words."""
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def find(name: str, known: Collection[str]) -> str | None:
    """Return which of the known networks a name means, written with underscores, dashes or neither."""
    net = canonical(name)
    if net in known:
        return net
    return next((each for each in sorted(known) if each.replace("_", "") == net.replace("_", "")), None)


def choose(name: str, known: Collection[str]) -> str:
    """Return the network that is meant by ``name``: dashes count as underscores, capitals as small letters.

    Raises
    ------
    EnvironmentProblem
        There is no such network.
    """
    if (net := find(name, known)) is not None:
        return net
    near = difflib.get_close_matches(canonical(name), sorted(known), n=1)
    raise EnvironmentProblem(
        f'There is no network "{name}".',
        hint=(f"Did you mean {near[0]}? " if near else "")
        + f"Networks: {', '.join(sorted(known))}. One of a later release: add its path family, --family b.",
    )


def guess(clues: Iterable[str], known: Collection[str]) -> str | None:
    """Return the network that the notebook's name, its folder or its specs name; ``None`` where they don't.

    Parameters
    ----------
    clues
        From :func:`clues`.
    known
        Networks to choose from.
    """
    first: str | None = None
    for clue in clues:
        words = canonical(clue)
        # The longest name counts: yolo_v4_tiny is not yolo_v4. "maskrcnn" means mask_rcnn.
        for net in sorted(known, key=lambda name: (-len(name), name)):
            if f"_{net}_" in f"_{words}_" or f"_{net.replace('_', '')}_" in f"_{words}_":
                # classification.ipynb in classification_tf2: the folder tells more.
                if first is None or net.startswith(f"{first}_"):
                    first = net
                break
    return first


def clues(cwd: Path, environ: Mapping[str, str], namespace: Mapping[str, Any]) -> Iterator[str]:
    """Return names that may tell the network, the best first: of the notebook, its folders, its specs."""
    # Jupyter Server and VS Code tell the kernel the notebook's path in these two ways.
    for notebook in (environ.get("JPY_SESSION_NAME"), namespace.get("__vsc_ipynb_file__")):
        if isinstance(notebook, str) and notebook.endswith(".ipynb"):
            yield Path(notebook).stem
    yield cwd.name
    yield cwd.parent.name
    notebooks = sorted(cwd.glob("*.ipynb"))
    if len(notebooks) == 1:
        yield notebooks[0].stem
    specs = sorted((cwd / "specs").glob("*_train_*.txt"))
    if specs:
        yield specs[0].stem
