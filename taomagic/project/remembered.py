"""What the last ``%tao_env`` has set, kept in one environment variable.

So a later call can tell its own values from the person's, and ``$NAME`` can tell which of two values is the newer one
when a person changes the environment (``%env NAME=…``) after ``%tao_env`` has set the Python variable of that name too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

#: The variable. Its JSON has ``net``, ``folder``, ``family``, ``values`` (derived ones only, so no secrets) and ``set``
#: (digests).
VARIABLE = "TAOMAGIC_DERIVED"


def write(
    net: str, folder: str, derived: Mapping[str, str], values: Mapping[str, str], *, family: str = ""
) -> str:
    """Return the text to remember.

    Parameters
    ----------
    net, folder
        The network and the project.
    derived
        The values that no person has chosen.
    values
        All values that are set; only digests of them are kept, because a key may be among them.
    family
        The path family that somebody has asked for; empty where nobody has.
    """
    digests = {name: _digest(value) for name, value in values.items()}
    return json.dumps(
        {"net": net, "folder": folder, "family": family, "values": dict(derived), "set": digests}
    )


def read(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return what is remembered; nothing where nothing is, or where it is damaged."""
    try:
        content = json.loads(environ.get(VARIABLE, "{}"))
    except ValueError:
        return {}
    proper = isinstance(content, dict) and all(
        isinstance(content.get(key, {}), dict) for key in ("values", "set")
    )
    return content if proper else {}


def is_outdated(name: str, value: object, environ: Mapping[str, str]) -> bool:
    """Tell whether a Python variable still holds what ``%tao_env`` set while the environment has changed since."""
    if not isinstance(value, str) or environ.get(name, value) == value:
        return False
    return bool(read(environ).get("set", {}).get(name) == _digest(value))


def _digest(value: str) -> str:
    import hashlib

    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()[:16]
