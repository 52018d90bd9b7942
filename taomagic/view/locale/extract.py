"""Finds every text of ours in the source, so that the catalogue stays complete.

::

    python -m taomagic.view.locale.extract [--write]

Looks at the syntax trees of all modules that speak to a person. A text is a string, an f-string or a sum of both that
reads like words: several of them, one that ends like a sentence, or one beside a place. Places of f-strings get names;
a condition inside gives one text for each outcome. What the search can't tell is listed: single words in :data:`SHORT`
and :data:`WORDS`, texts that come from elsewhere in :data:`FOREIGN`, strings that nobody reads in ``not_texts.txt``.

Prints what the catalogue lacks and what it has too much; ``--write`` puts it in order, with a gap for what it lacks.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from taomagic.view.locale.catalogue import CHINESE, Template, entries, places, unescaped

ROOT: Final = Path(__file__).parents[2]
NOT_TEXTS: Final = Path(__file__).with_name("not_texts.txt")

#: Modules whose texts nobody reads in the course of work, that are documents of their own (the sample notebooks), or
#: programs that speak English wherever they run: those on a device, and those that answer in another program's place.
_OTHERS: Final = re.compile(
    r"_pb2\.py$|/generate\.py$|^view/locale/|^samples/(notebook|build|gallery|scene|layout|people|cars|canvas)"
    r"|catalog_build|^view/(markup|draw_svg|awaiting)\.py$|^deferred\.py$|^engine/export/deepstream\.py$"
    r"|^engine/device_bundle/(run|pictures|objects|tensorrt_engine)\.py$|^notebook/stand_ins\.py$"
)

#: Modules in which single words are texts as well, and where: assigned names, keyword arguments, called functions.
SHORT: Final = {
    "errors.py": {"title"},
    "view/panel_texts.py": {"TEXTS"},
    "view/static.py": {"header", "heading", "groups"},
    "view/tables.py": {"header", "_SETTINGS"},
    "view/panel_state.py": {"groups"},
    "project/layout_table.py": {"FOLDER_KINDS"},
}

#: Single words that stand alone in a table or a card.
WORDS: Final = (
    *("yes", "no", "default", "user", "argument", "setting", "none"),
    *("Image", "layer", "waiting", "downloaded", "ready", "unpacking", "downloading", "memory"),
    *("precision", "recall", "folder"),
)

#: Texts of others that are shown among ours: argparse's, the operating system's, and the engine's notes.
FOREIGN: Final = (
    "usage:",
    "options",
    "positional arguments",
    "show this help message and exit",
    "the following arguments are required: {names}",
    "one of the arguments {names} is required",
    "argument {name}: expected one argument",
    "argument {name}: expected at least one argument",
    "argument {name}: expected {count} arguments",
    "argument {name}: invalid choice: {value} (choose from {choices})",
    "argument {name}: invalid int value: {value}",
    "argument {name}: invalid {kind} value: {value}",
    "argument {name}: ignored explicit argument {value}",
    "argument {name}: not allowed with argument {other}",
    "argument {name}: {problem}",
    "ambiguous option: {name} could match {names}",
    "unrecognized arguments: {words}",
    "No such file or directory",
    "Permission denied",
    "Is a directory",
    "Not a directory",
    "File exists",
    "No space left on device",
    "Read-only file system",
    "Connection refused",
    "Producing predictions",
    "Running inference",
    "Resuming from epoch {epoch}: {path} (--no-resume starts afresh)",
    "{time} ({epochs} epochs of {steps} steps of {images} images, without validation)",
    "{time} ({epochs} epochs of {steps} steps of {images} images)",
)

#: Calls whose words are no texts of ours: patterns, names, and log lines, which stay English like NVIDIA's.
_NOT_FOR_PEOPLE: Final = frozenset(
    """
    compile match fullmatch search sub findall finditer split rsplit partition rpartition startswith endswith
    removeprefix removesuffix replace strip lstrip rstrip encode getattr setattr hasattr get pop setdefault TypeVar cast
    defer rule run_line_magic Thread RuntimeError AssertionError TypeError AttributeError
    """.split()  # noqa: SIM905 - a list would take a page
)
#: The same in the engine.
_LOGGED: Final = {"debug", "info", "say", "write"}
_NOT_FOR_PEOPLE_BY_NAME: Final = frozenset(
    "style dest metavar example encoding mode role prog name thread_name_prefix choices".split()  # noqa: SIM905
)

_PRINTF: Final = re.compile(r"%[-\d.,]*[sdfr]")
_MARKUP: Final = re.compile(
    r"<\w+[ >]|\w+='|[a-z-]+:[^ ][^;]*;|\\[.bdsSw]|\(\?|\.\*|\w\|\w.*\||^translate\(|%\("
)


def sources(root: Path = ROOT) -> dict[str, set[str]]:
    """Return all templates, each with the modules that it stands in."""
    found = _everything(root)
    for text in (*FOREIGN, *WORDS):
        found.setdefault(text, set()).add("elsewhere")
    for text in not_texts():
        found.pop(text, None)
    return found


def _everything(root: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root).as_posix()
        if not _OTHERS.search(name):
            logged = _LOGGED if name.startswith("engine/") else ()
            for text in templates(path.read_text("utf-8"), {*SHORT.get(name, ()), "JobState"}, logged):
                found.setdefault(text, set()).add(name)
    return found


def unused_not_texts(root: Path = ROOT) -> list[str]:
    """Return the listed strings that stand in the source no more."""
    return sorted(set(not_texts()) - set(_everything(root)))


def not_texts() -> list[str]:
    """Return the listed strings that look like texts and are none."""
    lines = NOT_TEXTS.read_text("utf-8").splitlines()
    return [unescaped(line) for line in lines if line]


def templates(source: str, short: Iterable[str] = (), passed_over: Iterable[str] = ()) -> set[str]:
    """Return the templates of the texts in a module.

    Parameters
    ----------
    source
        The module.
    short
        Names of assignments, keyword arguments, functions and enumerations in which single words count, too.
    passed_over
        Names of functions whose arguments aren't texts, besides the usual ones.
    """
    finder = _Finder(set(short), {*_NOT_FOR_PEOPLE, *passed_over})
    finder.visit(ast.parse(source))
    return finder.found


class _Finder(ast.NodeVisitor):
    def __init__(self, short: set[str], passed_over: set[str]) -> None:
        self.found: set[str] = set()
        self._short = short
        self._passed_over = passed_over
        self._words_count = False

    # ---- what is passed over

    def _visit_body(self, node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for child in ast.iter_child_nodes(node):
            docstring = isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)
            if isinstance(child, ast.arguments):
                for default in (*child.defaults, *child.kw_defaults):
                    if default is not None:
                        self.visit(default)
            elif not docstring:
                self.visit(child)

    visit_Module = visit_FunctionDef = visit_AsyncFunctionDef = _visit_body  # noqa: N815 - names of ast's

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._inside(node.name in self._short, lambda: self._visit_body(node))

    def visit_Compare(self, node: ast.Compare) -> None:
        self.visit(node.left) if not isinstance(node.left, ast.Constant) else None

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.visit(node.value)

    def visit_MatchValue(self, node: ast.MatchValue) -> None:
        pass

    def visit_Dict(self, node: ast.Dict) -> None:
        for value in node.values:
            self.visit(value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._inside(_named(node.target) in self._short, lambda: self.visit(node.value))

    def visit_Assign(self, node: ast.Assign) -> None:
        self._inside(
            any(_named(each) in self._short for each in node.targets), lambda: self.visit(node.value)
        )

    def visit_Call(self, node: ast.Call) -> None:
        name = _named(node.func)
        if isinstance(node.func, ast.Attribute) and (
            name == "format" or not isinstance(node.func.value, ast.Constant)
        ):
            self.visit(node.func.value)
        if name in self._passed_over:
            # Their own arguments may be calls that make texts; dataclasses' `replace` has texts by name.
            for each in node.args:
                if isinstance(each, ast.Call):
                    self.visit(each)
        else:
            self._inside(name in self._short, lambda: [self.visit(each) for each in node.args])
        for keyword in node.keywords:
            if keyword.arg not in _NOT_FOR_PEOPLE_BY_NAME:
                self._inside(keyword.arg in self._short, lambda value=keyword.value: self.visit(value))

    # ---- what is taken

    def visit_Constant(self, node: ast.Constant) -> None:
        self._take(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        self._take(node)
        for part in node.values:
            if isinstance(part, ast.FormattedValue) and _texts(part.value) is None:
                self.visit(part.value)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if _texts(node) is None:
            self.generic_visit(node)
            return
        self._take(node)
        for side in (node.left, node.right):
            if _texts(side) is None:
                self.visit(side)

    def _inside(self, short: bool, work: object) -> None:
        before, self._words_count = self._words_count, self._words_count or short
        work()  # type: ignore[operator]
        self._words_count = before

    def _take(self, node: ast.expr) -> None:
        for text in _texts(node) or ():
            tidy = _tidy(text)
            counts = self._words_count and re.search("[A-Za-z]{2}", _fixed(tidy)) is not None
            if tidy and (counts or _reads_like_words(tidy)):
                self.found.add(tidy)


def _named(node: ast.expr) -> str:
    """Return the last name of ``name``, ``a.name`` or ``name(…)``."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=function):
            return _named(function)
        case ast.Subscript(value=value) | ast.Await(value=value):
            return _named(value)
    return ""


def _texts(node: ast.expr) -> list[str] | None:
    """Return the templates that an expression can give; ``None`` where it isn't a string for certain."""
    match node:
        case ast.Constant(value=str(text)):
            return [re.sub(r"(\{[a-z]\w*\})|([{}])", lambda part: part[1] or part[2] * 2, text)]
        case ast.JoinedStr(values=parts):
            found = [""]
            for part in parts:
                choices = _part(part)
                found = [text + choice for text in found for choice in choices]
            return found
        case ast.IfExp(body=body, orelse=orelse):
            first, second = _texts(body), _texts(orelse)
            return [*first, *second] if first is not None and second is not None else None
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            sides = [_texts(left), _texts(right)]
            if sides == [None, None]:
                return None
            first, second = (
                side if side is not None else [f"{{{_place(each)}}}"]
                for side, each in zip(sides, (left, right), strict=True)
            )
            return [a + b for a in first for b in second]
    return None


def _part(part: ast.expr) -> list[str]:
    if isinstance(part, ast.Constant):
        return [str(part.value).replace("{", "{{").replace("}", "}}")]
    assert isinstance(part, ast.FormattedValue)
    if isinstance(part.value, ast.IfExp) and (texts := _texts(part.value)) is not None:
        return texts
    return [f"{{{_place(part.value)}}}"]


def _place(node: ast.expr) -> str:
    """Return a name for what an expression gives."""
    match node:
        case ast.Call(
            func=ast.Name(id="len" | "sorted" | "str" | "repr" | "clean" | "max" | "min"), args=[first, *_]
        ):
            return _place(first)
        case ast.Call(func=ast.Attribute(attr="join"), args=[first, *_]):
            return _place(first)
        case ast.GeneratorExp(elt=element) | ast.ListComp(elt=element):
            return _place(element)
        case ast.BinOp(left=left):
            return _place(left)
        case ast.Subscript(value=value):
            return _place(value)
    return _named(node).strip("_").lower() or "value"


def _tidy(text: str) -> str:
    """Return a template as the catalogue has it: without sentences of others around, its places told apart."""
    text = _PRINTF.sub("{value}", text)
    # A place right before a capital is a sentence of its own (`{hint}Valid flags: …`), a sign before it is decoration.
    text = re.sub(r"^(?:\{\w+\})+(?=[A-Z`])", "", text.strip())
    text = re.sub(r"^(?:[✓✗■▶!?•…]|- |[;,:]|\{state_sign\}) ", "", text).strip()
    seen: dict[str, int] = {}

    def numbered(match: re.Match[str]) -> str:
        name = match[1]
        seen[name] = seen.get(name, 0) + 1
        return f"{{{name}}}" if seen[name] == 1 else f"{{{name}{seen[name]}}}"

    return re.sub(r"(?<!\{)\{(\w+)\}", numbered, text)


def _fixed(text: str) -> str:
    return " ".join(Template.of(text).fixed)


def _reads_like_words(text: str) -> bool:
    if _MARKUP.search(text):
        return False
    if re.search(r"\} [A-Za-z]{1,20}\b(?!=)|\b[A-Za-z]{3,20}:? \$?\{", text):
        return True
    words = " ".join(Template.of(text).fixed)
    several = len(re.findall(r"(?<![\w$/-])[A-Za-z][A-Za-z']+", words)) >= 2 and " " in text.strip()
    return several or bool(re.search(r"[A-Za-z]{3,}\b[.?!:]$", text))


def shape(template: str) -> str:
    """Return a template without the names of its places: two of the same shape need one translation."""
    return "\0".join(Template.of(template).fixed)


def lacking(found: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return the templates that have no translation, one of each shape."""
    shapes = {shape(text) for text in known}
    return sorted({shape(text): text for text in sorted(found) if shape(text) not in shapes}.values())


def left_over(found: Iterable[str], known: Iterable[str]) -> list[str]:
    """Return the entries that no source has, and that aren't special cases of a template either."""
    shapes = {shape(text) for text in found}
    general = [Template.of(text) for text in found if places(text)]
    return sorted(
        text
        for text in known
        if shape(text) not in shapes and not any(each.values(text) is not None for each in general)
    )


def in_order(found: Mapping[str, set[str]], known: Mapping[str, str]) -> str:
    """Return the catalogue as a file: by module and alphabet, with gaps for what isn't translated yet."""
    general = {shape(text): where for text, where in sorted(found.items())}
    chapters: dict[str, list[str]] = {}
    for text in [*known, *lacking(found, known)]:
        chapter = min(general.get(shape(text), {"special cases"}))
        chapters.setdefault(chapter, []).append(as_entry(text, known.get(text, "")))
    told = [f"# ---- {chapter}\n\n" + "\n".join(sorted(chapters[chapter])) for chapter in sorted(chapters)]
    return "\n".join((_HEAD, *told))


_HEAD: Final = """\
# Our texts in Chinese, by the modules that they stand in; see catalogue.py for how they are applied.
# A text and its translation stand on one line each. `python -m taomagic.view.locale.extract --write` keeps the order.
msgid ""
msgstr "Language: zh_CN\\nContent-Type: text/plain; charset=UTF-8\\n"
"""


def as_entry(source: str, target: str = "") -> str:
    """Return an entry of the catalogue as text."""
    return f'msgid "{_escaped(source)}"\nmsgstr "{_escaped(target)}"\n'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")


def report(found: dict[str, set[str]], known: dict[str, str]) -> Iterator[str]:
    """Yield a line for each text that lacks a translation, and for each translation that lacks its text."""
    for text in lacking(found, known):
        yield f"not translated: {text!r} ({', '.join(sorted(found[text]))})"
    for text in left_over(found, known):
        yield f"no longer in the source: {text!r}"


def main() -> int:
    """Report, and write where asked to; the exit code says whether anything is missing."""
    parser = argparse.ArgumentParser(description="Compare the source's texts with the Chinese catalogue.")
    parser.add_argument("--write", action="store_true", help="append what is missing to the catalogue")
    options = parser.parse_args()
    found, known = sources(), entries(CHINESE.read_text("utf-8"))
    lines = list(report(found, known))
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    if options.write:
        CHINESE.write_text(in_order(found, known), encoding="utf-8")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
