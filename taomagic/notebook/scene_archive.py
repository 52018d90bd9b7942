"""An archive of drawn scenes in the layout that a notebook's own specs describe, for data sets that nobody knows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"\b(?P<val>validation_)?data_sources\s*:?\s*\{(?P<body>[^{}]*)\}")
_KITTI = re.compile(r"\bkitti_config\s*:?\s*\{(?P<body>[^{}]*)\}")
_CLASS = re.compile(r"\btarget_class_mapping\s*:?\s*\{[^{}]*?\bkey\s*:\s*\"(?P<name>[^\"]+)\"")
# Where a path of a spec begins to lie in the data folder.
_ROOT = re.compile(
    r"^(?:TAO_DATA_PATH|/workspace/(?:tao|tlt)-experiments/data|\$\w*DATA\w*DIR|.*?/(?:\w*_)?data)/+"
)
_COPIED = re.compile(r"\bcp\s+(?:-\w+\s+)*\$\{?\w*DATA_DIR\}?/+(?P<folder>[\w/]+)/[^/\s]*\*")
#: What drawn scenes are labelled with.
_DRAWN = ("Car", "Pedestrian", "Cyclist")


def layout(specs: Iterable[str], cells: str) -> dict[str, Any]:
    """Return where images and labels belong in the data folder, by the specs and cells of a notebook.

    Parameters
    ----------
    specs
        Texts of the spec files.
    cells
        Text of the notebook's cells: images to test with are in no spec, but are copied.

    Returns
    -------
    dict
        ``folders``: pairs of folders for images and labels, those for labels maybe empty, under ``training``, ``val``
        and ``testing``; and ``classes``. Empty where the specs name no images to train with.
    """
    folders: dict[str, tuple[str, str]] = {}
    classes: dict[str, None] = {}
    for text in specs:
        classes |= dict.fromkeys(match["name"].lower() for match in _CLASS.finditer(text))
        for match in _KITTI.finditer(text):
            root = _below(_field(match["body"], "root_directory_path"))
            names = _field(match["body"], "image_dir_name"), _field(match["body"], "label_dir_name")
            if root and all(names):
                folders.setdefault("training", (f"{root}/{names[0]}", f"{root}/{names[1]}"))
        for match in _BLOCK.finditer(text):
            pair = tuple(
                _below(_field(match["body"], f"{kind}_directory_path")) for kind in ("image", "label")
            )
            if all(pair):
                folders.setdefault("val" if match["val"] else "training", (pair[0], pair[1]))
    if "training" not in folders:
        return {}
    copied = _COPIED.search(cells)
    if copied and copied["folder"] not in {images for images, _ in folders.values()}:
        folders["testing"] = (copied["folder"], "")
    return {"folders": folders, "classes": list(classes)}


def _field(body: str, name: str) -> str:
    match = re.search(rf"\b{name}\s*:\s*\"([^\"]+)\"", body)
    return match[1] if match else ""


def _below(path: str) -> str:
    """Return the part of a path below the data folder; empty where none of it is."""
    rest, found = _ROOT.subn("", path)
    return rest.strip("/") if found else ""


def members(data: Path, folders: dict[str, Sequence[str]], classes: Sequence[str]) -> dict[str, Path | bytes]:
    """Return the files of an archive: drawn scenes under the names of a layout, labelled with its classes.

    Parameters
    ----------
    data
        Drawn scenes, in KITTI's layout with ``val``.
    folders, classes
        As from :func:`layout`.
    """
    renamed = classes if not {name.lower() for name in _DRAWN} & set(classes) else ()
    result: dict[str, Path | bytes] = {}
    for split, (images, labels) in folders.items():
        for file in sorted((data / split / "image_2").glob("*.*")):
            result[f"{images}/{file.name}"] = file
            label = data / split / "label_2" / f"{file.stem}.txt"
            if labels and label.is_file():
                result[f"{labels}/{label.name}"] = _renamed(label, renamed)
    return result


def _renamed(label: Path, classes: Sequence[str]) -> Path | bytes:
    """Return a label file with drawn cars and people called after other classes, each kind after its own."""
    if not classes:
        return label
    lines = []
    for number, line in enumerate(label.read_text(encoding="utf-8").splitlines()):
        name, _, rest = line.partition(" ")
        if name in _DRAWN:
            own = classes[_DRAWN.index(name) :: len(_DRAWN)] or classes
            name = own[number % len(own)]
        lines.append(f"{name} {rest}\n")
    return "".join(lines).encode()
