"""HTML that is escaped by construction: text becomes markup only through :func:`tag`.

Everything is styled inline, because notebooks are read where style sheets are stripped. Colours come from JupyterLab's
variables with a fallback, or are half transparent, so that light and dark pages both work; there is no script.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from html import escape

from taomagic.launcher.states import JobState
from taomagic.view.format import STATE_SIGN, clean
from taomagic.view.texts import tr

LINE = "rgba(128,128,128,.32)"
SOFT = "rgba(128,128,128,.10)"
INK = "var(--jp-ui-font-color1, inherit)"
MUTED = "var(--jp-ui-font-color2, #767676)"
MONO = "var(--jp-code-font-family, ui-monospace, Menlo, Consolas, monospace)"
SANS = "var(--jp-ui-font-family, system-ui, -apple-system, 'Segoe UI', sans-serif)"

#: In front of the best value of several: not by colour alone, and read aloud.
BEST = "★ "

#: Middle tones: at least 4:1 against white and against JupyterLab's dark grey.
STATE_COLOUR = {
    JobState.STARTING: "#2b7fc4",
    JobState.RUNNING: "#2b7fc4",
    JobState.SUCCEEDED: "#1f8a4c",
    JobState.FAILED: "#d1434b",
    JobState.STOPPED: "#b3701a",
    JobState.LOST: "#8b6bb1",
}


class Markup(str):
    """Text that is HTML already and must not be escaped again."""

    __slots__ = ()


def text(value: object) -> Markup:
    """Return any value as escaped text in the reader's language, without control characters."""
    return value if isinstance(value, Markup) else verbatim(tr(str(value)))


def verbatim(value: object) -> Markup:
    """Return what isn't ours (paths, names, log lines) as escaped text, as it is."""
    return value if isinstance(value, Markup) else Markup(escape(clean(str(value))))


#: A blank between two elements (a text of one blank would be trimmed as the end of a log line).
BLANK = Markup(" ")


def join(children: Iterable[object], separator: str = "") -> Markup:
    """Return several pieces one after the other, each escaped unless it is markup."""
    return Markup(separator.join(text(child) for child in children))


def tag(name: str, *children: object, style: str = "", **attributes: str) -> Markup:
    """Return one element. Attribute names may end in ``_`` and use ``_`` for ``-`` (``aria_label``)."""
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
    if "aria-label" in named:
        named["aria-label"] = tr(named["aria-label"])
    if style:
        named["style"] = style
    opening = "".join(f' {key}="{escape(clean(value))}"' for key, value in named.items())
    return Markup(f"<{name}{opening}>{join(children)}</{name}>")


def card(*children: object, label: str) -> Markup:
    """Return the frame that every view of ours has."""
    style = (
        f"border:1px solid {LINE};border-radius:8px;padding:12px 14px;margin:4px 0;max-width:900px;"
        f"box-sizing:border-box;font-family:{SANS};font-size:13px;line-height:1.5;color:{INK}"
    )
    return tag("div", *children, style=style, role="group", aria_label=label)


def state_chip(state: JobState) -> Markup:
    """Return the state as a sign and a word on a coloured ground."""
    style = (
        f"display:inline-block;padding:1px 9px;border-radius:10px;font-weight:600;font-size:12px;color:#fff;"
        f"background:{STATE_COLOUR[state]}"
    )
    return tag("span", f"{STATE_SIGN[state]} {state.value.lower()}", style=style)


def heading(title: str) -> Markup:
    """Return the small title above a part of a card."""
    style = f"font-size:11.5px;font-weight:600;letter-spacing:.02em;color:{MUTED};margin:0 0 2px"
    return tag("div", title, style=style)


def code(value: str, style: str = "") -> Markup:
    """Return a path or command in the code font, breaking anywhere rather than overflowing."""
    return tag(
        "code",
        verbatim(value),
        style=f"font-family:{MONO};font-size:12px;background:none;padding:0;color:inherit;overflow-wrap:anywhere;{style}",
    )


def pre(lines: Sequence[str], *, height: str = "", colour: str = "inherit") -> Markup:
    """Return lines of a log, wrapped, on a soft ground."""
    limit = f"height:{height};overflow:auto;" if height else ""
    style = (
        f"{limit}margin:4px 0 0;padding:8px 10px;border-radius:6px;background:{SOFT};color:{colour};"
        f"font-family:{MONO};font-size:11.5px;line-height:1.45;white-space:pre-wrap;overflow-wrap:anywhere"
    )
    return tag("pre", verbatim("\n".join(lines)), style=style)


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numeric: Sequence[int] = (),
    tight: Sequence[int] = (),
) -> Markup:
    """Return a table; columns in ``numeric`` are set to the right, those in ``tight`` are not wrapped.

    The header is ours and put into the reader's language, the rows are shown as they are.
    """

    def cell(name: str, index: int, value: object) -> Markup:
        side = "right" if index in numeric else "left"
        weight = f"font-weight:600;color:{MUTED};" if name == "th" else ""
        wrap = "white-space:nowrap;" if name == "th" or index in tight else ""
        style = (
            f"text-align:{side};padding:3px 12px 3px 0;vertical-align:top;border:0;border-bottom:1px solid {LINE};"
            f"background:none;{weight}{wrap}"
        )
        return tag(name, value, style=style, **({"scope": "col"} if name == "th" else {}))

    head = tag("tr", *(cell("th", i, title) for i, title in enumerate(header)), style="background:none")
    body = (
        tag("tr", *(cell("td", i, verbatim(v)) for i, v in enumerate(row)), style="background:none")
        for row in rows
    )
    style = "border-collapse:collapse;margin:0;font-size:12.5px;color:inherit;border:0"
    drawn = tag("table", tag("thead", head, style="border:0"), tag("tbody", *body), style=style)
    # Readers that strip the wrapping of long paths get a scroll bar rather than a torn frame.
    return tag("div", drawn, style="overflow:auto")


def figures(names: Sequence[str], rows: Iterable[tuple[str, Sequence[str], Collection[int]]]) -> Markup:
    """Return a table of figures with a column for each thing measured; the best of a row has a sign and is bold.

    Its cells are many, so they carry as little style as can be: saved notebooks keep all of it.
    """

    def row(name: str, values: Sequence[str], winners: Collection[int]) -> Markup:
        cells = (
            tag("td", tag("strong", verbatim(BEST + value)) if index in winners else verbatim(value))
            for index, value in enumerate(values)
        )
        return tag(
            "tr", tag("th", verbatim(name), scope="row", style="text-align:left;font-weight:400"), *cells
        )

    head = tag(
        "tr",
        tag("td"),
        *(tag("th", verbatim(name), scope="col", style="overflow-wrap:anywhere") for name in names),
    )
    style = f"border-collapse:collapse;font-size:12.5px;text-align:right;font-variant-numeric:tabular-nums;color:{INK}"
    drawn = tag(
        "table",
        tag("thead", head),
        tag("tbody", *(row(*each) for each in rows)),
        style=style,
        cellpadding="4",
    )
    return tag("div", drawn, style="overflow:auto")


def progress_bar(fraction: float | None, label: str, colour: str) -> Markup:
    """Return a bar with its text beside it; without a known end it is empty and says only what is known."""
    percent = 0.0 if fraction is None else min(max(fraction, 0.0), 1.0) * 100
    filled = tag("div", style=f"width:{percent:.1f}%;height:100%;border-radius:4px;background:{colour}")
    track = tag(
        "div",
        filled,
        style=f"flex:1 1 160px;height:8px;border-radius:4px;background:{LINE};overflow:hidden",
        role="progressbar",
        aria_label=label,
        aria_valuemin="0",
        aria_valuemax="100",
        **({} if fraction is None else {"aria_valuenow": f"{percent:.0f}"}),
    )
    words = tag("span", label, style="flex:0 0 auto;font-variant-numeric:tabular-nums")
    return tag(
        "div", track, words, style="display:flex;flex-wrap:wrap;align-items:center;gap:4px 12px;margin:8px 0"
    )
