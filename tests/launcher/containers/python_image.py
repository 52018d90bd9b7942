"""A base image with this machine's Python and the packages of the engine, in place of ``python:3.11-slim``.

There is no registry to take that from. The files keep their paths, so that nothing needs to be told where it lies now.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import IO

from packaging.requirements import Requirement

from .images import LABEL, Docker, archive, busybox_tree

#: What the build of our own wheel needs; pip has no network there.
_BUILD = ("pip", "hatchling")
#: Parts of packages that nothing needs when they run.
_UNUSED = re.compile(
    r"(^|/)(tests?|include|idlelib|tkinter|ensurepip|config-3[^/]*|__pycache__|lib2to3)/|(\.(a|h|pyi)|_tkinter.*\.so)$"
)
#: Asks the interpreter behind this virtual environment where its files are.
_ASK = """
import json, sys, sysconfig
print(json.dumps([sys.executable, sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")]))
"""


def closure(name: str, extras: Iterable[str] = ()) -> dict[str, Distribution]:
    """Return an installed distribution and all that it needs here, by normalised name."""
    found: dict[str, Distribution] = {}
    done: set[tuple[str, str]] = set()

    def add(name: str, extras: frozenset[str]) -> None:
        key = re.sub(r"[-_.]+", "-", name).lower()
        news = [extra for extra in ("", *sorted(extras)) if (key, extra) not in done]
        done.update((key, extra) for extra in news)
        if not news:
            return
        found[key] = distribution(name)
        for line in found[key].requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in news):
                add(needed.name, frozenset(needed.extras))

    add(name, frozenset(extras))
    return found


class _Base:
    """The files of the image: path in it -> path here."""

    def __init__(self) -> None:
        python = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
        done = subprocess.run([python, "-I", "-c", _ASK], capture_output=True, text=True, check=True)
        self.python, stdlib, purelib = (Path(name) for name in json.loads(done.stdout))
        self.files: dict[str, Path] = {str(self.python): self.python.resolve()}
        for path in stdlib.rglob("*"):
            inner = path.relative_to(stdlib).as_posix()
            if (
                not inner.startswith(("site-packages/", "dist-packages/"))
                and path.name != "EXTERNALLY-MANAGED"
            ):
                self._add(stdlib / inner, path, inner)
        packages = closure("taomagic", ["engine"])
        packages.pop("taomagic")
        for name in _BUILD:
            packages |= closure(name)
        for package in packages.values():
            for file in package.files or ():
                inner = file.as_posix()
                if not inner.startswith("../"):
                    self._add(purelib / inner, Path(str(package.locate_file(file))), inner)
        self._libraries()
        self.digest = hashlib.sha256(
            repr((sys.version, sorted((name, found.version) for name, found in packages.items()))).encode()
        ).hexdigest()[:12]

    def _add(self, target: Path, source: Path, inner: str) -> None:
        if not _UNUSED.search(inner) and source.is_file():
            self.files[str(target)] = source

    def _libraries(self) -> None:
        """Add the system's libraries that the program and the packages are linked to."""
        linked = [
            str(path) for name, path in self.files.items() if ".so" in path.name or name == str(self.python)
        ]
        done = subprocess.run(["ldd", *linked], capture_output=True, text=True, check=False)
        own = {path.name for path in self.files.values()}
        for match in re.finditer(r"^\t(?:(\S+) => )?(/\S+) \(0x", done.stdout, re.MULTILINE):
            path = Path(match[2])
            if path.name not in own:
                self.files[str(path)] = path.resolve()

    def write(self, pipe: IO[bytes]) -> None:
        """Write everything as a tar."""
        links = {"usr/local/bin/python3": f"-> {self.python}", "usr/local/bin/python": f"-> {self.python}"}
        with tarfile.open(fileobj=pipe, mode="w|", format=tarfile.PAX_FORMAT, copybufsize=1 << 20) as tar:
            with tarfile.open(fileobj=io.BytesIO(archive({**busybox_tree(), **links}))) as small:
                for entry in small:
                    if entry.name == "root":
                        entry.mode = 0o755  # Python may lie below it, and any user runs it
                    tar.addfile(entry, small.extractfile(entry) if entry.isreg() else None)
            for folder in sorted({parent for name in self.files for parent in _parents(name)}):
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(entry)
            for name, path in sorted(self.files.items()):
                entry = tarfile.TarInfo(name.lstrip("/"))
                entry.size, entry.mode = path.stat().st_size, 0o755
                with path.open("rb") as file:
                    tar.addfile(entry, file)


def _parents(name: str) -> Iterator[str]:
    for parent in Path(name).parents:
        if str(parent) not in {"/", "/root", "/tmp", "/bin"}:
            yield str(parent).lstrip("/")


def make_python(docker: Docker) -> str:
    """Return an image with Python, the engine's packages and pip, in which pip takes nothing from a network."""
    base = _Base()
    tag = f"taomagic-test/python:{base.digest}"
    if docker.exists(tag):
        return tag
    # What pip needs lies in the image already; no network, no fresh environment to build our wheel in.
    pip = "ENV PIP_NO_INDEX=1 PIP_NO_BUILD_ISOLATION=0"
    changes = ("ENV PATH=/usr/local/bin:/bin:/usr/bin", pip, f"LABEL {LABEL}=1")
    words = [word for change in changes for word in ("--change", change)]
    process = subprocess.Popen(
        ["docker", "import", *words, "-", tag],
        env=docker.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    errors: list[bytes] = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read()))  # type: ignore[union-attr]
    reader.start()
    with process.stdin as pipe:
        base.write(pipe)
    reader.join()
    if process.wait():
        raise AssertionError(f"docker import: {b''.join(errors).decode()}")
    return tag
