"""Cells that wait without blocking the kernel.

A magic is a function: while it waits, the kernel answers nobody, and a page that is reloaded has nothing to show. A
cell can wait with ``await`` instead. So, in a kernel, ``%tao …`` and ``%%tao`` at the top level of a cell become
``await …tao_awaited(…)``; in functions, in other magics and outside kernels they stay what they are.
"""

from __future__ import annotations

import ast
from typing import Any

#: The calls that IPython makes of magics.
_CALLS = {"run_line_magic", "run_cell_magic"}
_AWAITED = "await get_ipython().magics_manager.registry['TaoMagics'].tao_awaited"


class Awaiting:
    """Rewrites cells of one shell.

    Parameters
    ----------
    shell
        The InteractiveShell.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._depth = 0

    def install(self) -> None:
        """Begin, if there is a kernel."""
        if getattr(self._shell, "kernel", None) is None:
            return
        self._shell.input_transformers_post.append(self)
        self._shell.events.register("pre_execute", self._begin)
        self._shell.events.register("post_execute", self._end)

    @staticmethod
    def remove(shell: Any) -> None:
        """Undo :meth:`install`; harmless where nothing was installed."""
        for hook in [each for each in shell.input_transformers_post if isinstance(each, Awaiting)]:
            shell.input_transformers_post.remove(hook)
            shell.events.unregister("pre_execute", hook._begin)
            shell.events.unregister("post_execute", hook._end)

    def _begin(self) -> None:
        self._depth += 1

    def _end(self) -> None:
        self._depth = max(0, self._depth - 1)

    def __call__(self, lines: list[str]) -> list[str]:
        """Rewrite a cell that IPython has made Python of."""
        # A magic that runs cells itself (%%time, %%capture) can't await them.
        if self._depth or not getattr(self._shell, "autoawait", False):
            return lines
        text = "".join(lines)
        return rewrite(text).splitlines(keepends=True) if "'tao'" in text else lines


def rewrite(text: str) -> str:
    """Return Python code in which ``%tao`` at the top level is awaited; code that isn't Python as it is."""
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError):
        return text
    places = sorted((place for node in module.body for place in _places(node)), reverse=True)
    # Positions are in bytes of UTF-8.
    data = text.encode()
    starts = [0]
    for each in data.split(b"\n"):
        starts.append(starts[-1] + len(each) + 1)
    for line, column, end_line, end_column in places:
        begin, end = starts[line - 1] + column, starts[end_line - 1] + end_column
        arguments = data[begin:end].decode().partition("_magic(")[2].partition(",")[2]
        data = data[:begin] + f"{_AWAITED}({arguments.lstrip()}".encode() + data[end:]
    return data.decode()


def _places(node: ast.AST) -> list[tuple[int, int, int, int]]:
    """Return where a statement calls ``%tao`` for its own value or a variable's, outside functions and classes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return []
    if isinstance(node, ast.Expr | ast.Assign | ast.AnnAssign):
        call = node.value
        if call is not None and _is_tao(call):
            return [(call.lineno, call.col_offset, call.end_lineno or 0, call.end_col_offset or 0)]
        return []
    bodies = (getattr(node, name, []) for name in ("body", "orelse", "finalbody", "handlers", "cases"))
    return [place for body in bodies if isinstance(body, list) for each in body for place in _places(each)]


def _is_tao(node: ast.expr) -> bool:
    match node:
        case ast.Call(
            func=ast.Attribute(value=ast.Call(func=ast.Name(id="get_ipython")), attr=attribute),
            args=[ast.Constant(value="tao"), *_],
        ):
            return attribute in _CALLS
    return False
