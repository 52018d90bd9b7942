"""What differs from network to network in NVIDIA's notebooks: key, data folder; and how to guess the network."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from taomagic.errors import EnvironmentProblem

#: The networks whose notebooks use the nine variables, with their data folder below the project.
_DATA = {
    "detectnet_v2": "data",
    "ssd": "data",
    "dssd": "data",
    "retinanet": "data",
    "faster_rcnn": "data",
    "yolo_v3": "data",
    "yolo_v4": "data",
    "yolo_v4_tiny": "data",
    "classification_tf1": "data",
    "classification_tf2": "data",
    "mask_rcnn": "data",
    "unet": "data",
    "efficientdet_tf1": "data",
    "efficientdet_tf2": "data",
    "lprnet": "data/openalpr",
    "multitask_classification": "data/myntradataset",
    "pointpillars": "data/pointpillars",
    "emotionnet": "emotionnet/orgData",
    "facenet": "facenet/data",
    "fpenet": "fpenet/data",
    "gazenet": "gazenet/data",
    "gesturenet": "gesturenet/data",
    "heartratenet": "heartratenet/data",
}
FAMILY_A = frozenset(_DATA)
_KEYS = {"detectnet_v2": "tlt_encode", "pointpillars": "tlt_encode"}

#: Project folders that NVIDIA's notebooks ship with; they count only where they exist.
SHIPPED_PROJECTS = frozenset({"/data/tlt-experiments", "/workspace/tao-experiments"})
_PLACEHOLDER = re.compile(r"(?i:FIXME)(?:/|$)|/path/to(?:/|$)|YOUR_|<[^>]*>|\.\.\.$")


def is_placeholder(text: str) -> bool:
    """Tell whether a value is one that a notebook ships with for the reader to replace."""
    return _PLACEHOLDER.match(text) is not None


def default_key(net: str) -> str:
    """Return the key that NVIDIA's notebook for this network uses."""
    return _KEYS.get(net, "nvidia_tlt")


def data_folder(net: str) -> str:
    """Return where below the project NVIDIA's notebook for this network keeps its data."""
    return _DATA.get(net, "data")


def choose(name: str, known: Collection[str]) -> str:
    """Return the network that is meant by ``name``: dashes count as underscores, capitals as small letters.

    Raises
    ------
    EnvironmentProblem
        There is no such network.
    """
    net = name.strip().lower().replace("-", "_")
    if net in known:
        return net
    near = difflib.get_close_matches(net, sorted(known), n=1)
    raise EnvironmentProblem(
        f'There is no network "{name}".',
        hint=(f"Did you mean {near[0]}? " if near else "") + f"Networks: {', '.join(sorted(known))}.",
    )


def guess(
    cwd: Path, environ: Mapping[str, str], namespace: Mapping[str, Any], known: Collection[str]
) -> str | None:
    """Return the network that the notebook's name, its folder or its specs name; ``None`` where they don't."""
    for text in _clues(cwd, environ, namespace):
        words = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
        # The longest name counts: yolo_v4_tiny is not yolo_v4. "maskrcnn" means mask_rcnn.
        for net in sorted(known, key=lambda name: (-len(name), name)):
            if f"_{net}_" in f"_{words}_" or f"_{net.replace('_', '')}_" in f"_{words}_":
                return net
    return None


def _clues(cwd: Path, environ: Mapping[str, str], namespace: Mapping[str, Any]) -> Iterator[str]:
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
