"""Tables of the environment and of jobs, as text and as HTML from the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import zip_longest

from taomagic.launcher.job import Job
from taomagic.project.environment import Environment, Variable
from taomagic.view import markup
from taomagic.view.format import STATE_SIGN, clean, display_width, duration, pad
from taomagic.view.markup import Markup, tag
from taomagic.view.summary import progress_words
from taomagic.view.texts import tr


@dataclass(frozen=True)
class Table:
    """A table that IPython draws as HTML in a page and as text elsewhere.

    Parameters
    ----------
    title
        What the table shows.
    header
        The names of the columns.
    rows
        One tuple of strings per row.
    notes
        Sentences below the table.
    code
        The columns that hold paths or commands.
    tight
        The columns that are not wrapped on a page.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    code: tuple[int, ...] = ()
    tight: tuple[int, ...] = ()

    def __str__(self) -> str:
        """Return the table as text."""
        lines = [tr(self.title)] if self.title else []
        lines += text_table([tr(name) for name in self.header], self._said()) if self.rows else []
        return "\n".join([*lines, *(("", *map(tr, self.notes)) if self.notes else ())])

    def __repr__(self) -> str:
        """Return the text: this is what a terminal and a saved notebook without HTML show."""
        return str(self)

    def _said(self) -> list[list[str]]:
        """Return the rows in the reader's language; paths and commands stay."""
        return [[value if i in self.code else tr(value) for i, value in enumerate(row)] for row in self.rows]

    def _repr_html_(self) -> str:
        rows = (
            [_cell(value) if i in self.code else value for i, value in enumerate(row)] for row in self._said()
        )
        notes = (tag("div", note, style=f"margin-top:4px;color:{markup.MUTED}") for note in self.notes)
        title = tag("strong", self.title, style="display:block;margin-bottom:6px;font-size:14px")
        body = markup.table(self.header, rows, tight=self.tight) if self.rows else ""
        return markup.card(title if self.title else Markup(""), body, *notes, label=self.title)


def _cell(value: str) -> Markup:
    """Return a path or command in the code font; of two lines the first is the name of what the second says."""
    name, _, path = value.rpartition("\n")
    title = tag("div", name, style=f"font-size:11.5px;color:{markup.MUTED}") if name else ""
    return markup.join((title, markup.code(path)))


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table whose columns are as wide as their widest line, in terminal columns."""
    cells = [[clean(value).split("\n") for value in row] for row in (header, *rows)]
    widths = [max(display_width(line) for row in cells for line in row[i]) for i in range(len(header))]
    lines = []
    for row in cells:
        for parts in zip_longest(*row, fillvalue=""):
            lines.append(
                "  ".join(pad(part, width) for part, width in zip(parts, widths, strict=True)).rstrip()
            )
    return [lines[0], "  ".join("─" * width for width in widths), *lines[1:]]


def environment_table(environment: Environment, *, backend: str = "auto") -> Table:
    """Return the variables with the path on this computer beside the path in the container.

    Each path says whether the folder is there (✓ or ✗) and where its value comes from. ``backend`` is where
    commands will run.
    """
    found = environment.variables
    rows = []
    for folder in environment.folders:
        host, container = found.get(folder.host), found.get(folder.container)
        here = f"{host.name}\n{host.shown}" if host else folder.source
        twin = f"{container.name}\n{container.shown}" if container else folder.destination
        rows.append((folder.what, here, _exists(host) if host else "", twin, _sources(host, container)))
    paired = {name for folder in environment.folders for name in (folder.host, folder.container)}
    for name, variable in found.items():
        if name not in paired:
            rows.append(
                (_SETTINGS.get(name, "setting"), f"{name}\n{variable.shown}", "", "", variable.source)
            )
    mount_map = f"Mount map: {environment.mount_file}" if environment.has_map else "Mount map: none"
    notes = (*environment.notes, mount_map, f"Commands run on: {backend}")
    header = ("", "on this computer", "there?", "in the container", "value from")
    return Table(
        f"TAO environment for {environment.net}", header, tuple(rows), notes, code=(1, 3), tight=(0, 2)
    )


_SETTINGS = {"KEY": "key", "NUM_GPUS": "GPUs", "GPU_INDEX": "GPU index"}


def _exists(variable: Variable) -> str:
    return "" if variable.exists is None else "✓ yes" if variable.exists else "✗ no"


def _sources(host: Variable | None, container: Variable | None) -> str:
    if host is None:
        return "default"
    if container is None or container.source == host.source:
        return host.source
    return f"{host.source}; in the container: {container.source}"


def job_table(jobs: Iterable[Job], *, title: str = "TAO jobs") -> Table:
    """Return the jobs of a project, the newest first, each with its state and how far it is."""
    rows = []
    for job in jobs:
        now = job.snapshot()
        state = f"{STATE_SIGN[now.state]} {now.state}"
        rows.append(
            (job.id, state, progress_words(now), duration(now.elapsed_s), ago(job.started), job.shown)
        )
    header = ("job", "state", "progress", "time", "started", "command")
    notes = () if rows else ("None.",)
    return Table(title, header, tuple(rows), notes, code=(0, 5), tight=(0, 1, 2, 3, 4))


def ago(moment: datetime) -> str:
    """Return how long ago a moment was: ``just now``, ``5 min ago``, or the date."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 86_400:
        return f"{duration(seconds)} ago" if seconds < 3600 else f"{seconds // 3600:.0f} h ago"
    return f"{moment.astimezone():%Y-%m-%d %H:%M}"
