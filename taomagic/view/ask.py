"""Asking for secrets: in a terminal without echo, in a notebook in the page's field for passwords."""

from __future__ import annotations

import sys

from taomagic.view.texts import tr


def ask_secret(prompt: str) -> str:
    """Ask for something that isn't shown while it is typed, and isn't kept.

    In a kernel, `getpass` asks the page for it.

    Parameters
    ----------
    prompt
        What is asked for, e.g. ``"NGC API key: "``.

    Returns
    -------
    str
        What was typed; empty where nobody can answer: no terminal, or a notebook that runs unattended.
    """
    from getpass import getpass

    if not _in_kernel() and not (sys.stdin is not None and sys.stdin.isatty()):
        return ""  # getpass would read the next line of a script, and show it
    try:
        return getpass(tr(prompt))
    except (EOFError, NotImplementedError):
        # A kernel whose client takes no questions raises StdinNotImplementedError.
        return ""


def _in_kernel() -> bool:
    """Tell whether this process is a notebook's kernel, without importing IPython where nobody else has."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
