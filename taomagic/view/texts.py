"""Our texts in the reader's language.

The code writes plain English sentences; :func:`tr` turns a finished one into Chinese where Chinese is wanted, by the
templates of ``locale/zh_CN.po``. What it doesn't know (paths, commands, log lines, NVIDIA's own words) stays as it is.
In English nothing is loaded and nothing is changed.

Who decides, in this order: ``TAO_LANG`` (``zh``, ``zh_CN`` … or ``en``), the page that shows a panel, and for programs
in a terminal its locale.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from taomagic import errors

if TYPE_CHECKING:
    from taomagic.view.locale.catalogue import Catalogue

Language = Literal["en", "zh"]

#: The environment variable that chooses the language.
VARIABLE = "TAO_LANG"

_wishes = {"page": "", "terminal": ""}
_catalogues: list[Catalogue] = []


def language(environ: Mapping[str, str] | None = None) -> Language:
    """Return the language in force; anything but Chinese means English."""
    wish = (os.environ if environ is None else environ).get(VARIABLE)
    return as_language(wish or _wishes["page"] or _wishes["terminal"])


def as_language(name: str) -> Language:
    """Return the language that a name such as ``zh-CN``, ``zh_CN.UTF-8`` or ``en`` means."""
    return "zh" if name.replace("_", "-").lower().split("-")[0] in {"zh", "chinese"} else "en"


def set_page_language(name: object) -> bool:
    """Take the language of the page on which panels are shown, e.g. ``document.documentElement.lang``.

    Returns
    -------
    bool
        Whether the language in force is another one now.
    """
    before = language()
    # From outside: anything may come.
    _wishes["page"] = name[:40] if isinstance(name, str) else ""
    return language() != before


def use_terminal_language(environ: Mapping[str, str] | None = None) -> None:
    """Take the language of the terminal's locale, as command line programs do (POSIX; GNU's ``LANGUAGE``)."""
    environ = os.environ if environ is None else environ
    name = next((value for key in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := environ.get(key))), "")
    if name and name.partition(".")[0] not in {"C", "POSIX"}:
        name = environ.get("LANGUAGE", "").partition(":")[0] or name
    _wishes["terminal"] = name.partition(".")[0]


def install(*, terminal: bool = False) -> None:
    """Let errors speak the reader's language; in a ``terminal`` its locale counts, too."""
    errors.translate = tr
    if terminal:
        use_terminal_language()


def tr(text: str, lang: str | None = None) -> str:
    """Return a text of ours in the language in force, or in ``lang``; an unknown one as it is.

    Parameters
    ----------
    text
        A finished English text: one or several sentences, lines, or facts separated by ``·``.
    lang
        ``en``, ``zh`` or a name such as ``zh-CN``, in place of the language in force.
    """
    if (language() if lang is None else as_language(lang)) == "en" or not text:
        return text
    return _chinese().translate(text)


def _chinese() -> Catalogue:
    if not _catalogues:
        from taomagic.view.locale.catalogue import read

        _catalogues.append(read())
    return _catalogues[0]
