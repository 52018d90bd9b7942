"""Archives that a notebook only looks for, since the reader is to place them: put where a shell line needs them."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from taomagic.errors import translate
from taomagic.notebook import stand_ins

_DOWNLOAD = re.compile(r"\b(?:wget|curl|gdown|aria2c|kaggle|ngc)\b")
_WORD = r"(?P<quote>[\"']?)(?P<path>[^\s\"';|&()<>\]]+\.(?:zip|tar|tgz|tar\.gz))(?P=quote)"
# What a line does with an archive that must be there already.
_NEEDED = (
    re.compile(rf"(?:\[|\btest)\s+(?:!\s+)?-[efrs]\s+{_WORD}"),
    re.compile(rf"\bunzip\s+(?:-\w+\s+)*{_WORD}"),
    re.compile(rf"\btar\s[^;|&\n]*?(?<!\S){_WORD}"),
)


def needed(line: str, environ: Mapping[str, str]) -> list[Path]:
    """Return the archives that a shell line looks for or unpacks.

    Parameters
    ----------
    line
        What stands behind ``!``, Python's names in it expanded.
    environ
        Values of the variables that the shell expands.

    Returns
    -------
    list of Path
        Whether they are there or not. Empty for a line that fetches something itself.

    Examples
    --------
    >>> needed("if [ ! -f $D/images.zip ]; then echo missing; fi", {"D": "/data"})
    [PosixPath('/data/images.zip')]
    >>> needed("unzip -u $D/data_object_*.zip -d $D", {"D": "/data"})
    [PosixPath('/data/data_object_image_2.zip'), PosixPath('/data/data_object_label_2.zip')]
    >>> needed("wget -P $D http://images.zip; unzip $D/images.zip", {"D": "/data"})
    []
    """
    if _DOWNLOAD.search(line):
        return []
    text = re.sub(r"\$\{?(\w+)\}?", lambda match: environ.get(match[1]) or match[0], line)
    found: dict[Path, None] = {}
    for pattern in _NEEDED:
        for match in pattern.finditer(text):
            path = Path(match["path"]).expanduser()
            if "$" in str(path):
                continue
            if not set("*?[") & set(path.name):
                found[path] = None
                continue
            names = (stand_ins.IMAGES, stand_ins.LABELS)
            found |= dict.fromkeys(path.with_name(name) for name in names if fnmatch.fnmatch(name, path.name))
    return list(found)


def place(line: str, here: Path, say: Callable[[str], None] = print) -> None:
    """Put the archives that a line needs and that aren't there into their places, and say so.

    Parameters
    ----------
    line
        As for :func:`needed`.
    here
        The folder of the run, made by :func:`taomagic.notebook.sample_data.put_in`.
    say
        Shows a line in the cell.

    Notes
    -----
    A file that is there already, whoever's it is, is not touched. Nor is a folder made: where it is missing, the line
    of the notebook that should have made it has failed.
    """
    for path in needed(line, os.environ):
        if path.exists() or not path.parent.is_dir():
            continue
        found = stand_ins.by_name(here, path.name)
        if found is None:
            continue
        source, what = found
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            shutil.copyfile(source, temporary)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        say(
            translate(
                f"[stand-in for an archive that you place yourself] {path} wasn't there. It holds {what}."
            )
        )
