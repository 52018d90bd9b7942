"""What a run leaves in the saved notebook: HTML with drawn curves, and text that says the same.

Both survive reload, a kernel restart, nbconvert and readers that show no HTML. The HTML has no script, is styled
inline, and is kept below :data:`MAX_HTML_BYTES` by drawing and quoting less, never by cutting markup.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from taomagic.launcher.progress import Artefact, Snapshot
from taomagic.launcher.states import JobState
from taomagic.view import markup, summary
from taomagic.view.chart import Point, as_image, chart_svg, describe, is_rising
from taomagic.view.format import clean, duration, number, short_name
from taomagic.view.markup import Markup, tag
from taomagic.view.texts import tr

if TYPE_CHECKING:
    from taomagic.view.draw_types import Drawing, Figures

#: The most that one run may put into a notebook as HTML, in bytes of UTF-8.
MAX_HTML_BYTES = 30_000
MIME_HTML, MIME_TEXT = "text/html", "text/plain"


@dataclass(frozen=True)
class Detail:
    """How much of everything is shown; the first that fits into the limit is taken."""

    points: int
    log_lines: int
    log_width: int
    items: int
    text_width: int


#: Lines of the log that a live view shows: as many as fit into its fixed height.
_LIVE_LINES = 9
_BREAK = "overflow-wrap:anywhere"

_DETAILS = (
    Detail(points=500, log_lines=20, log_width=300, items=40, text_width=2000),
    Detail(points=200, log_lines=20, log_width=160, items=24, text_width=800),
    Detail(points=100, log_lines=20, log_width=100, items=16, text_width=300),
    Detail(points=60, log_lines=12, log_width=60, items=8, text_width=120),
    Detail(points=30, log_lines=4, log_width=40, items=4, text_width=60),
)


def bundle(
    snapshot: Snapshot,
    *,
    live: bool = False,
    notice: str = "",
    drawings: Sequence[Drawing] = (),
    steps: Sequence[tuple[str, str]] = (),
    figures: Sequence[Figures] = (),
) -> dict[str, str]:
    """Return the MIME bundle of a run: HTML for people with a page, text for everybody else.

    Parameters
    ----------
    snapshot
        The state to show.
    live
        While the job runs: the log's tail is open, and the curves take the theme's colours. The final form, ``False``,
        keeps the log folded away and draws the curves as images that sanitisers let through.
    notice
        A sentence on top, e.g. that the job has been asked to stop.
    drawings
        Pictures of what the stage did; those that fit into the limit are shown.
    steps
        What makes sense next, as ``(what it does, command)``.
    figures
        What was measured, side by side.
    """
    text = summary.one_line(snapshot) if live else summary.run_text(snapshot)
    if figures:
        from taomagic.view.figures import figure_lines

        text = "\n".join([text, *figure_lines(figures)])
    html = run_html(snapshot, live=live, notice=notice, drawings=drawings, steps=steps, figures=figures)
    return {MIME_HTML: html, MIME_TEXT: text}


def run_html(
    snapshot: Snapshot,
    *,
    live: bool = False,
    notice: str = "",
    drawings: Sequence[Drawing] = (),
    steps: Sequence[tuple[str, str]] = (),
    figures: Sequence[Figures] = (),
) -> str:
    """Return the card of a run as HTML of at most :data:`MAX_HTML_BYTES` bytes; parameters as in :func:`bundle`."""
    html = ""
    for detail in _DETAILS:
        html = _card(snapshot, detail, live, notice, (), steps, figures)
        if len(html.encode()) <= MAX_HTML_BYTES:
            break
    # Pictures come on top of the words: as many as there is room for, the most telling ones first.
    shown: list[Drawing] = []
    for drawing in drawings:
        more = _card(snapshot, detail, live, notice, [*shown, drawing], steps, figures)
        if len(more.encode()) <= MAX_HTML_BYTES:
            shown.append(drawing)
            html = more
    return html


def _card(
    snapshot: Snapshot,
    detail: Detail,
    live: bool,
    notice: str,
    drawings: Sequence[Drawing],
    steps: Sequence[tuple[str, str]],
    figures: Sequence[Figures],
) -> Markup:
    return markup.card(
        _header(snapshot, detail),
        _progress(snapshot),
        _notes(snapshot, detail, notice),
        _problem(snapshot, detail),
        _key_numbers(snapshot, detail),
        _curves(snapshot, detail, live),
        _figures(figures, detail),
        _pictures(drawings),
        _results(snapshot, detail),
        _steps(steps, detail),
        _log(snapshot, detail, live),
        label=card_label(snapshot.job_id),
    )


def card_label(job_id: str) -> str:
    """Return the name of a job's card; the live panel finds the card by it."""
    return tr(f"TAO job {job_id}")


def _header(snapshot: Snapshot, detail: Detail) -> Markup:
    first = tag(
        "div",
        markup.state_chip(snapshot.state),
        tag("strong", clean(snapshot.label, width=60), style="font-size:14px"),
        tag(
            "span",
            " · ".join(_facts(snapshot)),
            style=f"margin-left:auto;color:{markup.MUTED};font-variant-numeric:tabular-nums",
        ),
        style="display:flex;flex-wrap:wrap;align-items:center;gap:4px 10px",
    )
    command = clean(snapshot.command, width=detail.text_width)
    return markup.join(
        (first, markup.code(command, style=f"display:block;margin-top:5px;color:{markup.MUTED}"))
    )


def _facts(snapshot: Snapshot) -> list[str]:
    failed = snapshot.exit_code if snapshot.state is JobState.FAILED else None
    return [
        duration(snapshot.elapsed_s),
        *([] if failed is None else [f"exit code {failed}"]),
        f"job {snapshot.job_id}",
    ]


def _progress(snapshot: Snapshot) -> Markup:
    words = summary.progress_words(snapshot)
    if snapshot.state.finished and not words:
        return Markup("")
    label = words or "working…"
    return markup.progress_bar(snapshot.fraction, label, markup.STATE_COLOUR[snapshot.state])


def _notes(snapshot: Snapshot, detail: Detail, notice: str) -> Markup:
    blocks = []
    for note in (*summary.notes(snapshot), notice):
        # A warning (quick mode above all) must not pass for small print.
        loud = (
            f"font-weight:600;color:{markup.STATE_COLOUR[JobState.STOPPED]};" if note.startswith("! ") else ""
        )
        style = f"color:{markup.MUTED};{loud}{_BREAK}"
        blocks += [tag("div", clean(note, width=detail.text_width), style=style)] if note else []
    return markup.join(blocks)


def _problem(snapshot: Snapshot, detail: Detail) -> Markup:
    bad = snapshot.state in (JobState.FAILED, JobState.LOST)
    if not bad and not snapshot.errors:
        return Markup("")
    colour, width = markup.STATE_COLOUR[JobState.FAILED], detail.text_width
    ending = (
        "The job was lost."
        if snapshot.state is JobState.LOST
        else f"Ended with exit code {snapshot.exit_code}."
    )
    cause = snapshot.cause or (snapshot.errors[-1] if snapshot.errors else ending)
    parts = [tag("div", f"✗ {clean(cause, width=width)}", style=f"font-weight:600;color:{colour};{_BREAK}")]
    parts += [
        tag("div", tag("strong", "Hint:"), markup.BLANK, clean(hint, width=width), style=_BREAK)
        for hint in snapshot.hints[:1]
    ]
    style = (
        f"border-left:3px solid {colour};border-radius:0 6px 6px 0;padding:6px 10px;margin:8px 0;"
        f"background:{markup.SOFT}"
    )
    return tag("div", *parts, style=style, role="alert")


def _key_numbers(snapshot: Snapshot, detail: Detail) -> Markup:
    tiles = []
    for name in summary.watched_names(snapshot)[: min(detail.items, 6)]:
        value, note = summary.latest_and_best(name, snapshot)
        tiles.append(
            tag(
                "div",
                markup.heading(clean(short_name(name), width=24)),
                tag("div", value, style="font-size:17px;font-weight:600;font-variant-numeric:tabular-nums"),
                tag("div", note, style=f"font-size:11.5px;color:{markup.MUTED}"),
                style="min-width:86px",
            )
        )
    return (
        tag("div", *tiles, style="display:flex;flex-wrap:wrap;gap:6px 26px;margin:10px 0")
        if tiles
        else Markup("")
    )


def _curves(snapshot: Snapshot, detail: Detail, live: bool) -> Markup:
    charts = []
    for title, series in curve_groups(snapshot.series):
        svg = chart_svg(series, title=title, max_points=detail.points, live=live)
        if svg:
            drawn = svg if live else as_image(svg, clean(describe(title, series), width=detail.text_width))
            charts.append(tag("div", Markup(drawn), style="flex:1 1 320px;max-width:430px;min-width:0"))
    return tag("div", *charts, style="display:flex;flex-wrap:wrap;gap:4px 16px") if charts else Markup("")


def curve_groups(series: Mapping[str, Sequence[Point]]) -> list[tuple[str, dict[str, Sequence[Point]]]]:
    """Return the charts worth drawing: losses, and precisions; a series needs two points to be a curve."""
    curves = {name: points for name, points in series.items() if len(points) > 1}
    losses: dict[str, Sequence[Point]] = {n: curves[n] for n in ("loss", "validation_loss") if n in curves}
    # mAP first, then the classes by name.
    precisions = {n: curves[n] for n in sorted(curves, key=lambda n: (n != "mAP", n)) if is_rising(n)}
    groups = (("Loss", losses), ("Average precision", precisions))
    return [(title, group) for title, group in groups if group]


def _figures(figures: Sequence[Figures], detail: Detail) -> Markup:
    blocks = []
    for each in figures:
        rows = each.rows[: max(detail.items, 12)]
        told = ((tr(name), [tr(value) for value in values], best) for name, values, best in rows)
        table = markup.figures(each.names, told)
        notes = [tag("div", note, style=f"margin-top:3px;{_BREAK}") for note in each.notes]
        blocks.append(tag("div", markup.heading(each.title), table, *notes, style="margin-top:8px"))
    return markup.join(blocks)


def _pictures(drawings: Sequence[Drawing]) -> Markup:
    shown = (
        tag(
            "div",
            markup.heading(drawing.title),
            Markup(as_image(drawing.svg, tr(drawing.alt))),
            style="flex:1 1 320px;min-width:0",
        )
        for drawing in drawings
    )
    blocks = list(shown)
    style = "display:flex;flex-wrap:wrap;gap:10px 16px;margin-top:8px"
    return tag("div", *blocks, style=style) if blocks else Markup("")


def _steps(steps: Sequence[tuple[str, str]], detail: Detail) -> Markup:
    blocks = [
        tag(
            "div",
            tag("div", title),
            # One click selects the whole command.
            markup.code(
                clean(command, width=detail.text_width), style=f"color:{markup.MUTED};user-select:all"
            ),
            style="margin-top:4px",
        )
        for title, command in steps
    ]
    heading = markup.heading("What you can do next")
    return tag("div", heading, *blocks, style="margin-top:10px") if blocks else Markup("")


def _results(snapshot: Snapshot, detail: Detail) -> Markup:
    parts = []
    per_class = list(snapshot.per_class_ap.items())[: detail.items]
    if per_class:
        rows = [(clean(name, width=60), number(value, "AP_")) for name, value in per_class]
        table = markup.table(("class", "average precision"), rows, numeric=(1,))
        parts.append(tag("div", markup.heading("By class"), table))
    files = summary.grouped(snapshot.artefacts)[-detail.items :]
    if files:
        header = ("kind", "on this computer", "in the container")
        table = markup.table(
            header, (_file_row(artefact, count, detail) for artefact, count in files), tight=(0,)
        )
        parts.append(tag("div", markup.heading("Files written"), table, style="flex:1 1 380px;min-width:0"))
    return (
        tag("div", *parts, style="display:flex;flex-wrap:wrap;gap:10px 30px;margin:10px 0 4px")
        if parts
        else Markup("")
    )


def _file_row(artefact: Artefact, count: int, detail: Detail) -> tuple[object, ...]:
    width = min(detail.text_width, 400)
    host, container = clean(str(artefact.host), width=width), clean(artefact.container, width=width)
    kind = summary.kind_of(artefact)
    kind = tr(f"{kind}, last of {count}") if count > 1 else tr(kind)
    return kind, markup.code(host), tr("the same") if host == container else markup.code(container)


def _log(snapshot: Snapshot, detail: Detail, live: bool) -> Markup:
    lines = summary.folded_tail(snapshot.lines, detail.log_lines, detail.log_width)
    if live:
        # Open and of fixed height: a <details> would close, and the page would jump, at every update.
        now = [clean(snapshot.bar, width=detail.log_width)] if snapshot.bar else []
        return markup.pre(
            ([*lines, *now] or [tr("waiting for the first line…")])[-_LIVE_LINES:], height="12em"
        )
    path = clean(str(snapshot.log_path or ""), width=detail.text_width)
    where = (
        tag("div", "Full log:", markup.BLANK, markup.code(path), style=f"margin-top:6px;color:{markup.MUTED}")
        if path
        else ""
    )
    if not lines:
        return markup.text(where)
    summary_line = tag(
        "summary", f"Last {len(lines)} lines of the log", style=f"cursor:pointer;color:{markup.MUTED}"
    )
    return tag("details", summary_line, markup.pre(lines), where, style="margin-top:8px")
