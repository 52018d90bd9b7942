"""What a run with sample data, or with data from another folder, puts on its PATH and into the kernel's names."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

from taomagic.errors import DataProblem
from taomagic.notebook import launchers, stand_ins
from taomagic.notebook.scene_archive import layout

#: KITTI's own size, but for a few pixels.
_SIZE = (1248, 384)
_ADDRESS = "https://kitti.invalid/"
_DATA_PROGRAMS = ("wget", "curl", "sha256sum", "sudo")
_OTHER_PROGRAMS = ("gdown", "ngc", "pip", "pip3")
_WIDTH = re.compile(r"^\s*output_(?:image_)?width\s*:\s*(\d+)", re.MULTILINE)
_HEIGHT = re.compile(r"^\s*output_(?:image_)?height\s*:\s*(\d+)", re.MULTILINE)
_MULTIPLIER = re.compile(r"^\s*width_multiplier\s*:\s*(\d*\.?\d+)", re.MULTILINE)


def put_in(place: Path, notebook_folder: Path, data: Path | None, cells: str = "") -> Path:
    """Write the scripts of the stand-ins.

    Parameters
    ----------
    place
        An existing folder of the run.
    notebook_folder
        Its specs tell in which size scenes are drawn, and how wide networks are.
    data
        Where KITTI's two archives lie, or its folders; ``None`` for drawn scenes, and stand-ins for all downloads.
    cells
        The text of the notebook's cells.

    Returns
    -------
    Path
        The folder for PATH.

    Raises
    ------
    DataProblem
        ``data`` holds neither.
    """
    if data is not None:
        _check(data)
    specs = notebook_folder / "specs"
    config = {
        "size": size_in(specs),
        "width": width_in(specs),
        "data": str(data) if data else "",
        "layout": layout(_texts(specs), cells),
    }
    (place / stand_ins.CONFIG).write_text(json.dumps(config), encoding="utf-8")
    programs = place / "bin"
    programs.mkdir()
    names = [*_DATA_PROGRAMS, *(() if data else _OTHER_PROGRAMS)]
    if shutil.which("unzip") is None:
        names.append("unzip")
    for name in names:
        _script(
            programs / name,
            f"#!{sys.executable} -P\nimport sys\nfrom taomagic.notebook.stand_ins import main\n"
            f"sys.exit(main({name!r}, {str(place)!r}))\n",
        )
    pip = (
        "" if data else f'if [ "$1" = -m ] && [ "$2" = pip ]; then shift 2; exec "{programs}/pip" "$@"; fi\n'
    )
    for name in ("python", "python3", *launchers.OLD_PYTHONS):
        launchers.write_python(programs, name, pip)
    return programs


def addresses() -> dict[str, str]:
    """Return the two addresses that KITTI mails, as the stand-ins know them."""
    return {
        "KITTI_IMAGES_DOWNLOAD_URL": _ADDRESS + stand_ins.IMAGES,
        "KITTI_LABELS_DOWNLOAD_URL": _ADDRESS + stand_ins.LABELS,
    }


def size_in(specs: Path) -> tuple[int, int]:
    """Return the largest size that the specs of a folder have for images; KITTI's where none has one."""
    widths: list[int] = []
    heights: list[int] = []
    for text in _texts(specs):
        widths += map(int, _WIDTH.findall(text))
        heights += map(int, _HEIGHT.findall(text))
    return (max(widths), max(heights)) if widths and heights else _SIZE


def width_in(specs: Path) -> float:
    """Return the ``width_multiplier`` in the specs of a folder, since weights of another width don't fit; else 1."""
    found = [float(match[1]) for text in _texts(specs) for match in _MULTIPLIER.finditer(text)]
    return min(found, default=1.0)


def _texts(specs: Path) -> list[str]:
    return [file.read_text(encoding="utf-8", errors="replace") for file in sorted(specs.glob("*.txt"))]


def _check(data: Path) -> None:
    archives = all((data / name).is_file() for name in (stand_ins.IMAGES, stand_ins.LABELS))
    folders = all(
        (data / name).is_dir() for name in ("training/image_2", "training/label_2", "testing/image_2")
    )
    if not archives and not folders:
        raise DataProblem(
            "This is no KITTI data set.",
            where=str(data),
            hint=f"It has {stand_ins.IMAGES} and {stand_ins.LABELS}, or training/image_2, training/label_2 and "
            "testing/image_2.",
        )


def _script(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
