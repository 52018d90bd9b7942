"""What the person has set, and what only looks like it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from taomagic.project import nets, remembered

Side = Literal["host", "container", "both"]
Source = Literal["default", "user", "argument", "placeholder replaced"]


class Given:
    """Finds the values that variables have, or ought to have.

    Parameters
    ----------
    environ, namespace
        Where variables may be set; ``$NAME`` in a cell means the Python variable first, so it counts first here too.
    overrides
        Values from arguments, by variable.
    derived
        What an earlier ``%tao_env`` has derived: a variable that still has such a value counts as not set.
    here
        Where relative paths begin.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        namespace: Mapping[str, Any],
        overrides: Mapping[str, str],
        derived: Mapping[str, str],
        here: Path,
    ) -> None:
        self._environ, self._namespace, self._overrides = environ, namespace, dict(overrides)
        self._derived, self._here = derived, here
        self._false_project = ""

    def rename(self, names: Mapping[str, str]) -> None:
        """Let arguments mean other variables: old name -> new one."""
        self._overrides = {names.get(name, name): value for name, value in self._overrides.items()}

    def find(self, name: str, side: Side, default: str) -> tuple[str, Source]:
        """Return the value of a variable and where it comes from."""
        if name in self._overrides:
            return self._absolute(side, self._overrides[name]), "argument"
        replaced = False
        for text in self._set(name):
            if self._is_placeholder(name, side, text):
                replaced = True
                continue
            return self._absolute(side, text), "user"
        return default, "placeholder replaced" if replaced else "default"

    def is_assigned(self, name: str) -> bool:
        """Tell whether somebody other than ``%tao_env`` has set a variable, if only to a placeholder."""
        return any(text != "0" for text in self._set(name))

    def _set(self, name: str) -> list[str]:
        """Return the values that a variable has been given by others, the one that counts first."""
        mine = self._namespace.get(name)
        if remembered.is_outdated(name, mine, self._environ):
            mine = None
        values = [
            str(value).strip().strip("\"'")
            for value in (mine, self._environ.get(name))
            if isinstance(value, str | os.PathLike) and str(value).strip()
        ]
        return [text for text in values if text != self._derived.get(name)]

    def _is_placeholder(self, name: str, side: Side, text: str) -> bool:
        false = nets.is_shipped_project(text) if name == "LOCAL_PROJECT_DIR" else nets.is_placeholder(text)
        if false and name == "LOCAL_PROJECT_DIR":
            self._false_project = text.rstrip("/")
        built = bool(self._false_project) and text.startswith(self._false_project + "/")
        return false or (side == "host" and built)

    def _absolute(self, side: Side, text: str) -> str:
        if side == "host":
            return os.path.normpath(self._here / Path(text).expanduser())
        return text.rstrip("/") or text if side == "container" else text
