"""Fields of messages that DetectNet_v2 keeps by class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taomagic.spec.parse import SpecFile


def by_class(
    spec: SpecFile[Any], field: str, entries: Mapping[str, Any], classes: tuple[str, ...]
) -> dict[str, tuple[str, Any]]:
    """Return, for each class, the full name of its entry in a map and the entry; every class must have one.

    Raises
    ------
    SpecProblem
        A class has no entry, or two that differ in case only.
    """
    found: dict[str, tuple[str, Any]] = {}
    for key in sorted(entries):
        if key.lower() in found:
            hint = "Upper and lower case make no difference; keep one of them."
            raise spec.problem(f"{field} has two entries for {key.lower()!r}", field=field, hint=hint)
        found[key.lower()] = (f'{field}["{key}"]', entries[key])
    for name in classes:
        if name not in found:
            hint = f"Every class of cost_function_config needs one; there are {', '.join(sorted(found)) or 'none'}."
            raise spec.problem(f"{field} has no entry for the class {name!r}", field=field, hint=hint)
    return found
