"""The programs ``tao``, ``tao-deploy`` and ``tlt`` that notebooks call, as scripts of this installation."""

from __future__ import annotations

import atexit
import functools
import shutil
import sys
import tempfile
from pathlib import Path

#: Name -> function in :mod:`taomagic.cli`. ``tlt`` is TLT 3.0's.
_PROGRAMS = {"tao": "tao", "tlt": "tao", "tao-deploy": "tao_deploy"}


def write(folder: Path) -> Path:
    """Write the scripts into a new folder and return it."""
    folder.mkdir()
    for name, function in _PROGRAMS.items():
        script = folder / name
        script.write_text(
            f"#!{sys.executable} -P\nimport sys\nfrom taomagic.cli import {function}\nsys.exit({function}())\n",
            encoding="utf-8",
        )
        script.chmod(0o755)
    return folder


@functools.cache
def of_this_process() -> Path:
    """Return a folder with the scripts that lasts as long as this process."""
    place = Path(tempfile.mkdtemp(prefix="taomagic-launchers-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return write(place / "bin")
