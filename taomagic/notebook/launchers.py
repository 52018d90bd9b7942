"""The programs ``tao``, ``tao-deploy`` and ``tlt`` that notebooks call, as scripts of this installation.

And old Pythons, where there are none: TAO 3's SSD notebook runs a helper with ``python3.6``, the edition for Colab
with ``python3.8``.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import sys
import tempfile
from pathlib import Path

#: Name -> function in :mod:`taomagic.cli`. ``tlt`` is TLT 3.0's.
_PROGRAMS = {"tao": "tao", "tlt": "tao", "tao-deploy": "tao_deploy"}
OLD_PYTHONS = ("python3.6", "python3.8")
# 141: the reader of a pipe has had enough. Flags may hold a key.
_NOTED = """\
from itertools import takewhile
if code not in (0, 141):
    with open({failures!r}, "a", encoding="utf-8") as file:
        print(code, {name!r}, *takewhile(lambda word: word[:1] != "-", sys.argv[1:]), file=file)
"""


def write(folder: Path, failures: Path | None = None) -> Path:
    """Write the scripts into a new folder and return it.

    Parameters
    ----------
    folder
        Is made.
    failures
        Where the scripts note down how they failed: code, name and the words before the flags. In a pipe, a script, or
        a call of Python's, nothing else keeps that.
    """
    folder.mkdir()
    for name, function in _PROGRAMS.items():
        script = folder / name
        noted = _NOTED.format(failures=str(failures), name=name) if failures else ""
        script.write_text(
            f"#!{sys.executable} -P\nimport sys\nfrom taomagic.cli import {function}\ncode = {function}()\n{noted}"
            "sys.exit(code)\n",
            encoding="utf-8",
        )
        script.chmod(0o755)
    for name in OLD_PYTHONS:
        # A version manager has a program of every name, which only says that there is no such version.
        if "/shims/" in (shutil.which(name) or "/shims/"):
            write_python(folder, name)
    return folder


def write_python(folder: Path, name: str, before: str = "") -> None:
    """Write a program that runs this Python; under the name of an old one it says so.

    Parameters
    ----------
    folder, name
        Of the program.
    before
        Lines of a shell script that come first.
    """
    told = f'echo "[stand-in for {name}] {sys.executable}" >&2\n' if name in OLD_PYTHONS else ""
    script = folder / name
    script.write_text(f'#!/bin/sh\n{before}{told}exec "{sys.executable}" "$@"\n', encoding="utf-8")
    script.chmod(0o755)


@functools.cache
def of_this_process() -> Path:
    """Return a folder with the scripts that lasts as long as this process."""
    place = Path(tempfile.mkdtemp(prefix="taomagic-launchers-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return write(place / "bin")
