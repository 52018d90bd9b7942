"""The names in a command: ``$NAME``, ``$NAME.attribute``, ``{expression}``; from Python first, then the environment."""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.project.remembered import is_outdated

NAME = re.compile(r"[A-Za-z_]\w*")
# What may stand behind an expression in braces: !r, :.4f.
_FORMAT = re.compile(r"(?:!([rsa]))?(?::|$)")
_CONVERSIONS: Mapping[str, Callable[[Any], str]] = {"r": repr, "s": str, "a": ascii}


class Names:
    """Looks names up: in the namespace first, then in the environment.

    Parameters
    ----------
    namespace
        The person's Python variables.
    environ
        The environment; ``os.environ`` by default.
    """

    def __init__(
        self, namespace: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None
    ) -> None:
        self.namespace = {} if namespace is None else namespace
        self.environ = os.environ if environ is None else environ

    def lookup(self, name: str) -> Any:
        """Return the value of ``$name``.

        Raises
        ------
        EnvironmentProblem
            It isn't set, or it is empty, or it holds nothing that can stand in a command.
        """
        value = self._find(name)
        if value is None:
            known = {*self.environ, *(key for key in self.namespace if not key.startswith("_"))}
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
            raise EnvironmentProblem(
                f"${name} isn't set.",
                hint=f"Did you mean ${near[0]}?"
                if near
                else f"Run %tao_env, or set it: %env {name}=… ($$ stands for a dollar sign).",
            )
        return self._checked(f"${name}", value)

    def get(self, name: str) -> str:
        """Return the value of ``$name`` where it is a text or a path, else an empty text."""
        value = self._find(name)
        return str(value) if isinstance(value, str | os.PathLike) else ""

    def _find(self, name: str) -> Any:
        value = self.namespace.get(name)
        useless = value is None or isinstance(value, ModuleType) or callable(value)
        return self.environ.get(name) if useless or is_outdated(name, value, self.environ) else value

    def lookup_dotted(self, dotted: str) -> tuple[Any, int]:
        """Return the value of ``$name.attribute…``, as far as the dots mean attributes, and the length of that part.

        IPython reads ``$args.lr`` so. In ``$MODEL.tlt`` the dot belongs to the text.
        """
        name, *attributes = dotted.split(".")
        start = self.namespace.get(name)
        plain = start is None or isinstance(start, str | int | float)
        for count in range(0 if plain else len(attributes), 0, -1):
            try:
                value = functools.reduce(getattr, attributes[:count], start)
            except Exception:
                continue  # a property may raise anything: then the dot belongs to the text
            if not (value is None or isinstance(value, ModuleType) or callable(value)):
                shown = ".".join((name, *attributes[:count]))
                return self._checked(f"${shown}", value), len(shown)
        return self.lookup(name), len(name)

    def lookup_outside(self, name: str) -> str:
        """Return the value of ``$$name`` in a ``!`` line: the environment's, whatever Python's is.

        Raises
        ------
        EnvironmentProblem
            It isn't set, or it is empty.
        """
        return str(Names({}, self.environ).lookup(name))

    def evaluate(self, expression: str) -> Any:
        """Return the value of ``{expression}``, computed in the namespace as IPython does; ``{x:.3f}`` formats it.

        Raises
        ------
        EnvironmentProblem
            It is a name that isn't set, or its value is empty.
        UsageProblem
            It isn't Python, or it raises.
        """
        if NAME.fullmatch(expression):
            return self.lookup(expression)
        code, conversion, spec = split_format(expression)
        try:
            # The person's own code, in the person's own kernel.
            value = eval(code, dict(self.namespace))
            value = _CONVERSIONS[conversion](value) if conversion else value
            value = format(value, spec) if spec else value
        except Exception as error:
            raise UsageProblem(
                f"{{{expression}}} can't be computed: {type(error).__name__}: {error}",
                hint="Write {{ and }} for braces that mean themselves, or put the text into single quotes.",
            ) from None
        return self._checked(f"{{{expression}}}", value)

    @staticmethod
    def _checked(shown: str, value: Any) -> Any:
        if value is None or (isinstance(value, str | list | tuple) and not value):
            raise EnvironmentProblem(
                f"{shown} is empty.", hint='Give it a value; to pass an empty argument on purpose, write "".'
            )
        return value


def split_format(expression: str) -> tuple[str, str, str]:
    """Split ``value!r:spec`` as str.format does: expression, conversion, specification.

    What is an expression as a whole stays one: in ``{a != b}`` and ``{d[1:2]}`` nothing is split.
    """
    if not is_expression(expression):
        for match in _FORMAT.finditer(expression):
            value = expression[: match.start()]
            if match.group() and is_expression(value):
                return value, match[1] or "", expression[match.end() :]
    return expression, "", ""


def is_expression(text: str) -> bool:
    """Tell whether a text is a Python expression."""
    try:
        compile(text, "<cell>", "eval")
    except (SyntaxError, ValueError):
        return False
    return True
