"""What NVIDIA's notebooks leave to the reader, filled in while their cells run: names, and folders to replace.

The cells stay as they are. IPython hands every cell on as a syntax tree before it runs; what is put in is put there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

from taomagic.project import nets

#: The addresses that KITTI mails, as NVIDIA's notebooks name them.
ADDRESSES = ("KITTI_IMAGES_DOWNLOAD_URL", "KITTI_LABELS_DOWNLOAD_URL")
#: Variables that hold a folder, by their names.
_FOLDER = re.compile(r"(?:DIR|PATH|ROOT|FOLDER)$")
# The folders of this machine; their twins in the container have paths that look like a shipped project's.
_HOST = re.compile(r"(?:LOCAL|HOST)_")
# The project in a path that a notebook ships with, and what lies in it.
_PROJECT = re.compile(
    r"(?P<project>FIXME\d*|/path/to(?:/(?:local|your))?(?:/[\w.-]+)?|YOUR_\w+|<[^<>]*>|"
    + "|".join(re.escape(path) for path in sorted(nets.SHIPPED_PROJECTS))
    + r")(?P<rest>(?:/[^/]+)*)/?$"
)
_ENV = re.compile(r"(?P<head>\s*(?P<name>\w+)\s*[ =]\s*[\"']?)(?P<value>[^\"'\n]+?)(?P<tail>[\"']?\s*)$")


def undefined_names(folder: Path) -> dict[str, str]:
    """Return the names that NVIDIA's notebooks use and leave to the reader, with what they get here.

    Parameters
    ----------
    folder
        The notebook's.
    """
    return {"FIXME": str(folder), **dict.fromkeys(ADDRESSES, "")}


def filled(name: str, text: str, folder: Path) -> str:
    """Return the value of a variable with the notebook's folder in the place of a project that isn't there.

    Parameters
    ----------
    name
        The variable's; only those that hold a folder of this machine are changed.
    text
        As the notebook has it, e.g. ``/path/to/local/tao-experiments/data``.
    folder
        The notebook's.

    Examples
    --------
    >>> filled("LOCAL_DATA_DIR", "YOUR_LOCAL_PROJECT_DIR_PATH/data", Path("/nb"))
    '/nb/data'
    >>> filled("USER_EXPERIMENT_DIR", "/workspace/tao-experiments/ssd", Path("/nb"))
    '/workspace/tao-experiments/ssd'
    """
    match = _PROJECT.match(text.strip())
    if match is None or not _FOLDER.search(name):
        return text
    project = match["project"]
    if (project in nets.SHIPPED_PROJECTS and not _HOST.match(name)) or Path(project).is_dir():
        return text
    return f"{folder}{match['rest']}"


class Fillings(ast.NodeTransformer):
    """Fills in what the cells of a notebook lack; one of IPython's transformers of syntax trees.

    Parameters
    ----------
    namespace
        The notebook's variables; missing names are put there.
    names
        Those that may be missing, with their values.
    folder
        The notebook's.
    tell
        Called with a sentence for each thing that is put in.
    owner
        Who has put it into a shell.
    """

    def __init__(
        self,
        namespace: MutableMapping[str, Any],
        names: Mapping[str, str],
        folder: Path,
        tell: Callable[[str], None],
        owner: object = None,
    ) -> None:
        self._namespace, self._names, self._folder, self._tell = namespace, names, folder, tell
        self.owner = owner
        # The variable whose value is being looked at.
        self._setting = ""

    def visit_Module(self, node: ast.Module) -> ast.AST:
        """Define what a cell uses and nobody has defined, then look at its statements."""
        names = [each for each in ast.walk(node) if isinstance(each, ast.Name)]
        own = {each.id for each in names if not isinstance(each.ctx, ast.Load)}
        own |= {each.asname or each.name for each in ast.walk(node) if isinstance(each, ast.alias)}
        for name in dict.fromkeys(each.id for each in names if each.id in self._names):
            if name not in own and name not in self._namespace:
                value = self._namespace[name] = self._names[name]
                self._tell(
                    f"{name} isn't defined in this notebook; it is now {value or 'empty'}."
                    if value or name not in ADDRESSES
                    else f"{name} isn't defined in this notebook, so that nothing can be downloaded from it."
                )
        return self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """Look at ``os.environ["X"] = "…"`` and ``X = "…"``."""
        # Of `project = os.environ["X"] = "…"`, the variable that programs see tells what it is.
        targets = sorted(node.targets, key=lambda target: isinstance(target, ast.Name))
        name = next(filter(None, map(_name_of, targets)), "")
        if name:
            node.value = self._within(name, node.value)
        else:
            self.generic_visit(node)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """Look at ``X: str = "…"``."""
        if node.value is not None:
            node.value = self._within(_name_of(node.target), node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Look at ``%env X=…``, and at ``os.environ.setdefault("X", "…")``, ``….update(X="…")`` and their like."""
        match node:
            case ast.Call(
                func=ast.Attribute(attr="run_line_magic"),
                args=[ast.Constant(value="env" | "set_env"), ast.Constant(value=str(line))],
            ):
                if match := _ENV.match(line):
                    value = self._filled(match["name"], match["value"])
                    if value != match["value"]:
                        node.args[1] = ast.copy_location(
                            ast.Constant(f"{match['head']}{value}{match['tail']}"), node.args[1]
                        )
            case ast.Call(
                func=ast.Attribute(attr="setdefault" | "get" | "getenv" | "putenv"),
                args=[ast.Constant(value=str(name)), value],
            ):
                node.args[1] = self._within(name, value)
            case ast.Call(func=ast.Attribute(attr="update", value=place)) if _is_environ(place):
                for keyword in node.keywords:
                    keyword.value = self._within(keyword.arg or "", keyword.value)
                for each in (arg for arg in node.args if isinstance(arg, ast.Dict)):
                    names = [key.value if isinstance(key, ast.Constant) else "" for key in each.keys]
                    each.values = [
                        self._within(str(name), value) for name, value in zip(names, each.values, strict=True)
                    ]
            case _:
                self.generic_visit(node)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        """Replace a text in the value of a variable."""
        if not self._setting or not isinstance(node.value, str):
            return node
        value = self._filled(self._setting, node.value)
        return node if value == node.value else ast.copy_location(ast.Constant(value), node)

    def _within(self, name: str, value: ast.expr) -> Any:
        outer, self._setting = self._setting, name
        try:
            return self.visit(value)
        finally:
            self._setting = outer

    def _filled(self, name: str, text: str) -> str:
        value = filled(name, text, self._folder)
        if value != text:
            self._tell(f"{name}: {text.strip()} isn't here; the notebook's folder takes its place: {value}")
        return value


def _name_of(target: ast.expr) -> str:
    """Return the variable that an assignment sets, here or in the environment; empty for other targets."""
    match target:
        case ast.Subscript(value=place, slice=ast.Constant(value=str(name))) if _is_environ(place):
            return name
        case ast.Name(id=name):
            return name
    return ""


def _is_environ(node: ast.expr) -> bool:
    """Tell whether this is ``os.environ``, or ``environ``."""
    return "environ" in (getattr(node, "attr", ""), getattr(node, "id", ""))
