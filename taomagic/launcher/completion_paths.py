"""Files and folders for completion: written as a container path or a variable, looked up on this machine."""

from __future__ import annotations

import contextlib
import os
import re
from collections import deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from taomagic.launcher.context import Context
from taomagic.launcher.names import Names

#: What an experiment file may be called, and a model.
SPECS = (".txt", ".yaml", ".yml", ".json", ".toml", ".cfg")
MODELS = (".tlt", ".hdf5", ".etlt", ".onnx", ".pth", ".pt", ".safetensors", ".engine", ".trt")
#: The variables of NVIDIA's notebooks that hold a container path, by what people look for there.
_HOMES = {
    "spec": ("SPECS_DIR",),
    "model": ("USER_EXPERIMENT_DIR", "EXPERIMENT_DIR", "RESULTS_DIR", "MODEL_DIR"),
    "folder": ("USER_EXPERIMENT_DIR", "EXPERIMENT_DIR", "RESULTS_DIR"),
    "images": ("DATA_DOWNLOAD_DIR", "DATA_DIR"),
    "file": ("USER_EXPERIMENT_DIR", "DATA_DOWNLOAD_DIR", "RESULTS_DIR", "DATA_DIR"),
}
PLACES = tuple(dict.fromkeys(name for names in _HOMES.values() for name in names))
#: Limits that keep the answer quick in a project of any size.
MOST_WORDS = 200
MOST_ENTRIES = 3000
MOST_IN_FOLDER = 1000
DEPTH = 5
NEWEST_MODELS = 50
# What a backslash must stand before, in double quotes and outside them.
_QUOTED = re.compile(r'(["\\${}`])')
_BARE = re.compile(r"([\s\"'\\${}#&;|<>()*?\[`])")
_VARIABLE = re.compile(r"(?P<name>\$(?P<plain>\w+)|\$?\{(?P<braced>[A-Za-z_]\w*)\})(?P<rest>/.*)?", re.DOTALL)


class Paths:
    """Completes one word that is a path.

    Parameters
    ----------
    context
        Where relative paths begin, and the mount map.
    names
        The values of variables.
    fragment
        The word as typed so far.
    quote
        The quote that is open at its end.
    """

    def __init__(self, context: Context, names: Names, fragment: str, quote: str) -> None:
        self._context, self._names, self._quote = context, names, quote
        self._fragment = fragment
        self._budget = MOST_ENTRIES

    def candidates(self, kind: str) -> Iterator[str]:
        """Yield the words that may stand here, at most 200; folders end with a slash."""
        for number, word in enumerate(self._words(kind)):
            if number >= MOST_WORDS:
                return
            yield word

    def spec_names(self) -> Iterator[str]:
        """Yield the names of the experiment files in ``LOCAL_SPECS_DIR``."""
        folder = self._names.get("LOCAL_SPECS_DIR")
        if not folder:
            return iter(())
        names = (name for name, is_folder in self._entries(folder) if not is_folder and name.endswith(SPECS))
        return map(self._escape, sorted(names))

    def _words(self, kind: str) -> Iterator[str]:
        typed = self._fragment.lstrip("'\"")
        opened = self._fragment[: len(self._fragment) - len(typed)]
        match = _VARIABLE.fullmatch(typed)
        if not typed:
            yield from self._homes(kind, opened)
        elif match and match["rest"] is None and not match["braced"]:
            yield from self._variables(match["plain"], kind, opened)
        elif typed in {"$", "${", "{"}:
            yield from self._variables("", kind, opened, typed)
        else:
            folder, _, name = typed.rpartition("/")
            folder += "/" if "/" in typed else ""
            yield from self._inside(opened + folder, self._plain(folder), self._plain(name), kind)

    def _homes(self, kind: str, opened: str) -> Iterator[str]:
        """Yield what lies where people keep things of this kind, then the other places."""
        homes = [name for name in _HOMES[kind] if self._names.get(name)]
        for name in homes:
            folder = f"${name}/"
            if kind in {"folder", "images"}:
                yield f"{opened}{folder}"
            yield from self._inside(f"{opened}{folder}", folder, "", kind)
        yield from (f"{opened}${name}/" for name in PLACES if name not in homes and self._names.get(name))

    def _variables(self, start: str, kind: str, opened: str, sign: str = "$") -> Iterator[str]:
        """Yield the variables that begin so: the places of the notebook, then the person's own texts and paths."""
        own = [
            name
            for name, value in self._names.namespace.items()
            if isinstance(value, str | Path) and str(value) and not name.startswith("_") and name != "KEY"
        ]
        close = "}" if sign.endswith("{") else ""
        for name in dict.fromkeys((*(_HOMES[kind]), *PLACES, *sorted(own))):
            value = self._names.get(name) if name.startswith(start) else ""
            if value:
                slash = "/" if self._context.host(value).is_dir() else ""
                yield f"{opened}{sign}{name}{close}{slash}"

    def _inside(self, shown: str, folder: str, start: str, kind: str) -> Iterator[str]:
        """Yield what lies in a folder and begins so; ``shown`` is the folder as typed."""
        place = self._resolve(folder)
        if place is None:
            return
        found = dict(self._entries(self._context.host(place or "."), start))
        found |= dict.fromkeys(self._mounted(place, start), True)
        endings = {"spec": SPECS, "model": MODELS}.get(kind)
        deep: list[str] = []
        if kind == "model":
            # Models lie some folders below; whoever looks for one shouldn't have to know where.
            deep = self._models(place, start)
        yield from (shown + self._escape(name) for name in deep)
        for name, is_folder in sorted(found.items()):
            if is_folder:
                yield f"{shown}{self._escape(name)}/"
            elif kind == "file" or (endings and name.endswith(endings)):
                yield shown + self._escape(name)

    def _resolve(self, folder: str) -> str | None:
        """Return a folder without variables: a path as a container or this machine knows it."""
        match = _VARIABLE.fullmatch(folder)
        if match is None:
            return None if "$" in folder or "{" in folder else folder
        value = self._names.get(match["plain"] or match["braced"])
        return value + (match["rest"] or "") if value else None

    def _entries(self, folder: str | Path, start: str = "") -> Iterator[tuple[str, bool]]:
        """Yield name and whether it is a folder."""
        return ((entry.name, entry.is_dir()) for entry in self._scan(folder, start))

    def _scan(self, folder: str | Path, start: str) -> Iterator[os.DirEntry[str]]:
        """Yield what begins so; hidden entries only where a dot is typed."""
        try:
            with os.scandir(folder) as entries:
                for entry in islice(entries, min(self._budget, MOST_IN_FOLDER)):
                    self._budget -= 1
                    if entry.name.startswith(start) and (start or not entry.name.startswith(".")):
                        yield entry
        except OSError:
            return

    def _mounted(self, place: str, start: str) -> Iterator[str]:
        """Yield the folders that only the mount map puts here: /workspace needn't exist on this machine."""
        if not place.startswith("/"):
            return
        parts = [part for part in place.split("/") if part]
        for _, container in self._context.paths:
            below = [part for part in container.split("/") if part]
            if (
                below[: len(parts)] == parts
                and len(below) > len(parts)
                and below[len(parts)].startswith(start)
            ):
                yield below[len(parts)]

    def _models(self, place: str, start: str) -> list[str]:
        """Return the newest models below a folder of the project, the newest first."""
        top = str(self._context.host(place or "."))
        if not any(Path(top).is_relative_to(each) for each in self._known_folders()):
            return []  # not the whole disk
        found: list[tuple[float, str]] = []
        todo = deque([(top, "")])
        while todo:
            folder, prefix = todo.popleft()
            for entry in self._scan(folder, "" if prefix else start):
                if entry.name.endswith(MODELS):
                    with contextlib.suppress(OSError):
                        found.append((-entry.stat().st_mtime, prefix + entry.name))
                elif prefix.count("/") < DEPTH and entry.is_dir(follow_symlinks=False):
                    todo.append((entry.path, f"{prefix}{entry.name}/"))
        return [name for _, name in sorted(found)[:NEWEST_MODELS]]

    def _known_folders(self) -> Iterator[str]:
        yield str(self._context.project_dir)
        yield str(self._context.cwd)
        yield from (host for host, _ in self._context.paths)

    def _plain(self, text: str) -> str:
        """Return what a typed text means."""
        if self._quote == "'":
            return text
        return re.sub(r"\\(.)", r"\1", text)

    def _escape(self, name: str) -> str:
        """Return a name as it must be typed here."""
        if self._quote == "'":
            return name
        return (_QUOTED if self._quote else _BARE).sub(r"\\\1", name)
