"""A mount map for each notebook, though all of NVIDIA's notebooks write the same file, ``~/.tao_mounts.json``.

A notebook that is executed by ``tao notebook run`` writes another file, and the person's isn't touched
(:class:`Redirected`). In JupyterLab the notebook writes where it says, and goes on with a copy of what it wrote
(:class:`Copied`), so that another notebook's map doesn't take its place.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from taomagic.project import remembered
from taomagic.project.mounts import FILE_NAME, HOME_MAP_VARIABLE, home_folder

#: TAO's, and that of TLT 3.0.
NAMES = (FILE_NAME, ".tlt_mounts.json")
_NAMES = "|".join(re.escape(name) for name in NAMES)
_WRITTEN = re.compile(rf"(?:~|\$HOME|\$\{{HOME\}})/(?:{_NAMES})(?![\w.])")
_HOME = re.compile(r"home|~", re.IGNORECASE)
_FOLDER = Path(".tao") / "maps"


class Redirected(ast.NodeTransformer):
    """Puts another file in the place of ``~/.tao_mounts.json``, wherever a cell names it.

    Parameters
    ----------
    file
        The other one.
    """

    def __init__(self, file: Path) -> None:
        self._file = str(file)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Replace the path in a text; shell lines are texts, too."""
        if not isinstance(node.value, str) or "_mounts.json" not in node.value:
            return node
        return ast.copy_location(ast.Constant(_WRITTEN.sub(lambda _: self._file, node.value)), node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Replace ``os.path.join(HOME, ".tao_mounts.json")`` and ``HOME.joinpath(".tao_mounts.json")``."""
        return self._whole(node) if _names_map(node.args[-1:]) else self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Replace ``Path.home() / ".tao_mounts.json"`` and ``HOME + "/.tao_mounts.json"``."""
        return self._whole(node) if _names_map([node.right]) else self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        """Replace ``f"{home}/.tao_mounts.json"``."""
        if len(node.values) == 2 and _names_map(node.values[1:]):
            return self._whole(node)
        return self.generic_visit(node)

    def _whole(self, node: ast.expr) -> ast.AST:
        first = ast.unparse(node).partition("_mounts.json")[0]
        if not _HOME.search(first):
            return self.generic_visit(node)
        text: ast.expr = ast.Constant(self._file)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            # A Path stays one.
            node.right = ast.copy_location(text, node.right)
            return node
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") != "join":
            node.args[-1] = ast.copy_location(text, node.args[-1])
            return node
        return ast.copy_location(text, node)


def _names_map(nodes: list[ast.expr]) -> bool:
    return any(
        isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.lstrip("/") in NAMES
        for node in nodes
    )


class Copied:
    """Keeps for a notebook what its cells write to ``~/.tao_mounts.json``.

    Parameters
    ----------
    folder
        The notebook's; copies are kept in it.
    name
        What tells this notebook from others in the same folder.
    namespace
        The notebook's variables.
    tell
        Called with a sentence.
    """

    def __init__(
        self, folder: Path, name: str, namespace: Mapping[str, Any], tell: Callable[[str], None]
    ) -> None:
        self._copy = folder / _FOLDER / (re.sub(r"[^\w.-]+", "_", name) + ".json")
        self._namespace, self._tell = namespace, tell
        # Somebody has chosen a map for all that is started here, before there was a notebook.
        self._chosen = bool(os.environ.get("LAUNCHER_MOUNTS")) and remembered.VARIABLE not in os.environ
        self._before: dict[Path, tuple[int, ...]] = {}

    def before_cell(self, source: str) -> None:
        """Look at the maps that a cell may change."""
        maps = [] if self._chosen else _home_maps()
        # A cell may have put the path into a variable that another one opens. No other cell is looked at: while one
        # runs for hours, another notebook may write the file.
        named = [name for name, value in self._namespace.items() if _is_path(value) and Path(value) in maps]
        mentioned = "_mounts.json" in source or any(re.search(rf"\b{name}\b", source) for name in named)
        self._before = {file: _stamp(file) for file in maps} if mentioned else {}

    def after_cell(self) -> None:
        """Copy the map that a cell has written, and go on with the copy."""
        for file, before in self._before.items():
            # Not what it says: to look at another notebook's map is not to write one.
            if _stamp(file) in (before, ()):
                continue
            with suppress(OSError):  # a folder that can't be written: the home map stays in force
                now = file.read_bytes()
                self._copy.parent.mkdir(parents=True, exist_ok=True)
                temporary = self._copy.with_name(f"{self._copy.name}.{os.getpid()}")
                temporary.write_bytes(now)
                temporary.replace(self._copy)
                os.environ["LAUNCHER_MOUNTS"] = str(self._copy)
                self._tell(
                    f"~/{file.name}: this notebook goes on with its own copy, {self._copy}, so that another notebook's "
                    "map doesn't take its place."
                )
        self._before = {}


def _home_maps() -> list[Path]:
    home = home_folder(os.environ)
    return [home / name for name in NAMES] if not os.environ.get(HOME_MAP_VARIABLE) else []


def _is_path(value: object) -> bool:
    return isinstance(value, str | Path) and str(value).endswith(NAMES)


def _stamp(file: Path) -> tuple[int, ...]:
    """Return what changes whenever a file is written; nothing where there is none."""
    try:
        facts = file.stat()
    except OSError:
        return ()
    return facts.st_ino, facts.st_mtime_ns, facts.st_size
