"""The live panel in a notebook: a widget that a page draws (``panel.js``), and the view that feeds it.

What a page needs to draw the whole panel is one small trait, ``state``, renewed every other second. So a page that is
opened in the middle of a run shows the panel at once, even while the cell blocks the kernel. What is new in between
goes in one message a tick, at most five a second; the last message before the end always holds the last lines.

A page that has drawn the panel says hello. Where nobody does, because there is no widget manager, the output is redrawn
as HTML, as in :class:`taomagic.view.live.LiveView`. At the end the output becomes static HTML in any case.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from taomagic.launcher.job import Job, Update
from taomagic.launcher.progress import Snapshot
from taomagic.view import panel_state, static
from taomagic.view.closing import closing
from taomagic.view.panel_state import Lines, Stages
from taomagic.view.panel_texts import TEXTS
from taomagic.view.pictures import Gallery
from taomagic.view.texts import set_page_language, tr
from taomagic.view.usage import UsageMeter
from taomagic.view.waiting import KILLED, STOPPING, Stopping

#: Seconds between two messages to the page, between two renewals of the state, and between two drawings of the curves.
TICK_S, STATE_S, CHARTS_S = 0.2, 2.0, 1.0
#: Seconds after which a page that hasn't said hello gets HTML instead of a widget.
PATIENCE_S = 6.0
#: Bytes of the log that "Open full log" sends at most: its end.
LOG_BYTES = 2_000_000
MIME_WIDGET = "application/vnd.jupyter.widget-view+json"
_HERE = Path(__file__).parent


class Panel(anywidget.AnyWidget):
    """The widget. Only the view writes its traits; what the page sends reaches the view as messages."""

    _esm = _HERE / "panel.js"
    _css = _HERE / "panel.css"

    head = traitlets.Dict().tag(sync=True)
    texts = traitlets.Dict().tag(sync=True)
    state = traitlets.Dict().tag(sync=True)
    #: Whether a cell waits for the job, so that an interrupt of the kernel stops it.
    foreground = traitlets.Bool(False).tag(sync=True)
    #: The kernel's id on its Jupyter server; empty where it has none.
    kernel = traitlets.Unicode("").tag(sync=True)

    def bundle(self, snapshot: Snapshot) -> dict[str, Any]:
        """Return what the output holds while the job runs: the widget, and HTML and text for pages without widgets."""
        view = {"version_major": 2, "version_minor": 0, "model_id": self.model_id}
        return {**static.bundle(snapshot, live=True), MIME_WIDGET: view}


class PanelView:
    """Shows a job in a panel.

    Parameters
    ----------
    job
        The job.
    stages
        The stages of the cell, if it has several.
    foreground
        Whether an interrupt of the kernel stops the job.
    kernel
        The kernel's id.
    answers
        Whether the kernel takes messages from the page while the job runs; if not, silence means nothing.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        job: Job,
        *,
        stages: Stages | None = None,
        foreground: bool = True,
        kernel: str = "",
        answers: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.stopping = Stopping(job)
        self._job = job
        self._stages = stages or Stages()
        self._foreground, self._kernel, self._answers = foreground, kernel, answers
        self._clock = clock
        self._lines = Lines()
        self._sent = 0
        self._notice = ""
        self._heard = False
        self._plain = False
        self._opened = 0.0
        self._shown: Snapshot | None = None
        self._next = {"tick": float("-inf"), "state": float("-inf"), "charts": float("-inf")}
        self._panel: Panel | None = None
        self._handle: Any = None
        self._usage = UsageMeter(job)
        self._gallery = Gallery()
        # Messages of the page may come in another thread than updates.
        self._lock = threading.RLock()

    # ------------------------------------------------------------ the view

    def show(self, update: Update) -> None:
        """Take in what is new, and tell the page unless it has just been told."""
        with self._lock:
            self._lines.take(update.events)
            if update.snapshot.state.finished:
                return
            self._shown = update.snapshot
            if self._panel is None:
                self._open(update.snapshot)
            now = self._clock()
            if self._plain:
                self._draw_plain(update.snapshot, now)
            elif self._due("tick", now, TICK_S):
                self._tick(update.snapshot, now)

    def notice(self, text: str) -> None:
        """Show a sentence of ours at the next update."""
        with self._lock:
            self._notice = text
            self._next["tick"] = float("-inf")

    def close(self, snapshot: Snapshot) -> None:
        """Tell the page how it ended, and replace the output by what stays in the saved notebook."""
        with self._lock:
            self._usage.close()
            self._shown = None
            if self._panel is None:
                self._open(snapshot)
            assert self._panel is not None
            # First what is known; pictures may take a moment.
            self._send_lines(snapshot, with_charts=True)
            end = closing(self._job, snapshot)
            pictures = self._gallery.take(end.drawings)
            # A picture that the page shows large isn't drawn small as well.
            drawings = () if any(each["large"] for each in pictures) else end.drawings
            result = {
                **panel_state.result(snapshot),
                "next": [list(each) for each in end.steps],
                "drawings": [{"title": tr(each.title), "svg": each.svg} for each in drawings],
                "pictures": pictures,
                "figures": [panel_state.figures(each) for each in end.figures],
            }
            self._panel.state = self._state(snapshot, result)
            self._handle.update(end.bundle, raw=True)
            # The log is on disk; kernels live long.
            self._lines.forget()
            if self._plain:
                self._panel.close()

    def _open(self, snapshot: Snapshot) -> None:
        from IPython.display import display

        self._panel = Panel(
            head=panel_state.head(self._job, self._stages),
            texts=words(),
            state=self._state(snapshot),
            foreground=self._foreground,
            kernel=self._kernel,
        )
        self._panel.on_msg(self._take)
        self._sent = self._lines.count
        self._opened = self._clock()
        self._handle = display(self._panel.bundle(snapshot), raw=True, display_id=True)  # type: ignore[no-untyped-call]

    # ------------------------------------------------------------ to the page

    def _due(self, what: str, now: float, period: float) -> bool:
        if now < self._next[what]:
            return False
        self._next[what] = now + period
        return True

    def _tick(self, snapshot: Snapshot, now: float) -> None:
        assert self._panel is not None
        self._send_lines(snapshot, with_charts=self._due("charts", now, CHARTS_S))
        if self._due("state", now, STATE_S):
            self._panel.state = self._state(snapshot)
        if self._answers and not self._heard and now - self._opened > PATIENCE_S:
            self._plain = True

    def _send_lines(self, snapshot: Snapshot, *, with_charts: bool) -> None:
        assert self._panel is not None
        lines = self._lines.since(self._sent)
        self._sent = self._lines.count
        message = {"kind": "tick", **lines, "now": self._now(snapshot)}
        if with_charts:
            message["charts"] = panel_state.charts(snapshot)
        self._panel.send(message)

    def _now(self, snapshot: Snapshot) -> dict[str, Any]:
        usage = [] if snapshot.state.finished else self._usage.read(snapshot)
        return panel_state.now(snapshot, notice=self._notice, bar=self._lines.bar, usage=usage)

    def _state(self, snapshot: Snapshot, result: dict[str, Any] | None = None) -> dict[str, Any]:
        return {
            "now": self._now(snapshot),
            "charts": panel_state.charts(snapshot),
            "tail": self._lines.tail(),
            "result": result,
        }

    def _draw_plain(self, snapshot: Snapshot, now: float) -> None:
        if self._due("state", now, STATE_S):
            self._handle.update(static.bundle(snapshot, live=True, notice=self._notice), raw=True)

    # ------------------------------------------------------------ from the page

    def _take(self, _panel: Any, content: Any, _buffers: Any) -> None:
        """Answer a page. What it sends is checked like anything from outside."""
        kind = content.get("kind") if isinstance(content, dict) else None
        match kind:
            case "hello":
                self._hello(content)
            case "stop":
                self._stop()
            case "log":
                self._answer({"kind": "log", "text": end_of(self._job.log_path)})
            case "picture":
                self._picture(content)

    def _hello(self, content: dict[str, Any]) -> None:
        with self._lock:
            # The first page decides: two of different languages would else redraw each other without end.
            if not self._heard and set_page_language(content.get("lang")):
                self._change_language()
            self._heard = True
            first = content.get("next")
            lines = self._lines.since(
                first if isinstance(first, int) and first >= 0 else 0, panel_state.KEPT_LINES
            )
        self._answer({"kind": "hello", **lines})

    def _change_language(self) -> None:
        """Tell the page everything anew, in the language that is in force now."""
        snapshot = self._shown
        if self._panel is None or snapshot is None:
            return
        self._panel.head = panel_state.head(self._job, self._stages)
        self._panel.state = self._state(snapshot)
        self._panel.texts = words()
        # A new output is a new view of the widget, which draws itself with these.
        self._handle.update(self._panel.bundle(snapshot), raw=True)

    def _stop(self) -> None:
        self._answer(
            {"kind": "stop"}
        )  # at once: the page waits for it, and takes silence for a kernel that is busy
        wish = self.stopping.ask("button")
        if wish:
            self.notice(STOPPING if wish == "stop" else KILLED)

    def _picture(self, content: dict[str, Any]) -> None:
        name = str(content.get("id"))
        data = self._gallery.read(name)
        if data is not None and self._panel is not None:
            self._panel.send({"kind": "picture", "id": name}, buffers=[data])

    def _answer(self, content: dict[str, Any]) -> None:
        if self._panel is not None:
            self._panel.send(content)


def words() -> dict[str, str]:
    """Return the words of the page's script in the language in force."""
    return {name: tr(text) for name, text in TEXTS.items()}


def end_of(path: Path, limit: int = LOG_BYTES) -> str:
    """Return the end of a file as text, from the beginning of a line; empty where there is none."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - limit))
            data = file.read()
    except OSError:
        return ""
    if size > limit:
        data = data[data.find(b"\n") + 1 :]
        return f"[the last {len(data):,} of {size:,} bytes of {path}]\n" + data.decode("utf-8", "replace")
    return data.decode("utf-8", "replace")
