"""Archives that stand-ins write, and how to know them again."""

from __future__ import annotations

import io
import os
import tarfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

#: Endings of archives that can be written.
ENDINGS = (".zip", ".tar.gz", ".tgz", ".tar")
# Begins the comment in an archive of ours; the archive's name follows.
_MARK = b"taomagic stand-in: "


def write_zip(path: Path, content: Mapping[str, bytes | Path], *, executable: bool = False) -> None:
    """Write a ``.zip``, in one step, that is known for ours afterwards."""
    temporary = path.with_suffix(f".{os.getpid()}")
    with zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as file:
        file.comment = _MARK + path.name.encode()
        for name, member in content.items():
            if isinstance(member, Path):
                file.write(member, name)
            else:
                info = zipfile.ZipInfo(name)
                info.external_attr = (0o755 if executable else 0o644) << 16
                file.writestr(info, member)
    temporary.replace(path)


def write_tar(path: Path, content: Mapping[str, bytes | Path]) -> None:
    """Write a ``.tar``, packed where its name says so, in one step."""
    temporary = path.with_suffix(f".{os.getpid()}")
    with tarfile.open(temporary, "w" if path.suffix == ".tar" else "w:gz") as file:
        for name, member in content.items():
            data = member.read_bytes() if isinstance(member, Path) else member
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), int(time.time())
            file.addfile(info, io.BytesIO(data))
    temporary.replace(path)


def is_ours(path: Path) -> bool:
    """Tell whether a file is an archive that a stand-in made."""
    return bool(name_in(path))


def name_in(path: Path) -> str:
    """Return which archive of ours a file is; empty for other files."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.comment.removeprefix(_MARK).decode() if file.comment.startswith(_MARK) else ""
    except (OSError, zipfile.BadZipFile):
        return ""
