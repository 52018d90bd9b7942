"""Which view suits where we run, and the view for pages without widgets: one output that is redrawn as HTML.

What is on the page is replaced through its ``display_id``, at most five times a second. So the notebook holds one small
output however long the run is, and that output is true at the end.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from taomagic.launcher.job import Job, Update
from taomagic.launcher.progress import Snapshot
from taomagic.view import static, text
from taomagic.view.closing import closing
from taomagic.view.tables import Table
from taomagic.view.waiting import View

#: Seconds between two updates of the page.
REFRESH_S = 0.2


def choose_view(
    shell: Any,
    job: Job,
    *,
    raw: bool = False,
    stages: Sequence[str] = (),
    index: int = 0,
    answers: bool = False,
    **options: Any,
) -> View:
    """Return the view that suits where we run.

    Parameters
    ----------
    shell
        The InteractiveShell.
    job
        The job to show.
    raw
        Print the log as it is.
    stages, index
        The labels of all stages of the cell, and which of them this job is.
    answers
        Whether the cell awaits the job.
    options
        More for :class:`taomagic.view.panel.PanelView`.

    Returns
    -------
    View
        The live panel on a page that draws widgets; HTML on any other page (``TAO_PANEL=html``, or a notebook that is
        run without one); text in a terminal, or wherever ``TAO_PANEL=text`` is set.
    """
    if raw:
        return text.RawView(job, sys.stdout, explain=False)
    if not in_notebook(shell):
        return text.TextView(sys.stdout, explain=False)
    if not on_page(shell):
        return LiveView(job)
    from taomagic.view.panel import PanelView
    from taomagic.view.panel_state import Stages

    return PanelView(
        job,
        stages=Stages(tuple(stages), index),
        kernel=kernel_id(),
        answers=answers and answers_while_awaiting(),
        **options,
    )


def in_notebook(shell: Any) -> bool:
    """Tell whether the shell's outputs are shown on a page that can draw HTML."""
    return getattr(shell, "kernel", None) is not None and os.environ.get("TAO_PANEL", "").lower() != "text"


def on_page(shell: Any) -> bool:
    """Tell whether a page asked for this cell, rather than a program that runs notebooks (nbclient, papermill).

    Pages name the cell in the request. It matters because such programs save the state of all widgets.
    """
    wanted = os.environ.get("TAO_PANEL", "").lower()
    if wanted in {"html", "widget"}:
        return wanted == "widget"
    if "google.colab" in sys.modules:
        return True
    try:
        parent = shell.kernel.get_parent()
    except AttributeError:  # an ipykernel that keeps it elsewhere
        parent = getattr(shell, "parent_header", None) or {}
    return "cellId" in (parent.get("metadata") or {})


def answers_while_awaiting() -> bool:
    """Tell whether the kernel takes messages of widgets while a cell awaits: ipykernel does so from 7.4 on."""
    try:
        from ipykernel._version import version_info
    except ImportError:
        return False
    return tuple(version_info[:2]) >= (7, 4)


def kernel_id() -> str:
    """Return the kernel's id on its Jupyter server, which is part of its connection file's name; else empty."""
    try:
        from ipykernel.connect import get_connection_file

        name = Path(get_connection_file()).stem
    except (ImportError, RuntimeError):
        return ""
    return name.removeprefix("kernel-") if name.startswith("kernel-") else ""


def show_in_background(shell: Any, job: Job) -> None:
    """Show a job that nobody waits for, where that can be done: a panel on a page, fed by a thread.

    Elsewhere nothing is shown; ``%tao attach`` shows the job at any time.
    """
    if not (in_notebook(shell) and on_page(shell)):
        return
    from taomagic.view.panel import PanelView

    view = PanelView(job, foreground=False, kernel=kernel_id())
    updates = job.updates()
    first = next(updates)
    # Here, not in the thread: an output belongs to the cell whose thread shows it.
    view.show(first)
    if first.snapshot.state.finished:
        view.close(first.snapshot)
        return

    def follow() -> None:
        snapshot = first.snapshot
        try:
            for update in updates:
                snapshot = update.snapshot
                view.show(update)
        finally:
            view.close(snapshot)

    threading.Thread(target=follow, name=f"panel of {job.id}", daemon=True).start()


def show_table(shell: Any, table: Table) -> None:
    """Show a table where we are: HTML on a page, text elsewhere."""
    if in_notebook(shell):
        from IPython.display import display

        display(table)  # type: ignore[no-untyped-call]
    else:
        print(table)


class LiveView:
    """Shows a job in the output of the cell that waits for it.

    Parameters
    ----------
    job
        The job.
    clock
        Monotonic seconds.
    """

    def __init__(self, job: Job, clock: Callable[[], float] = time.monotonic) -> None:
        self._job = job
        self._clock = clock
        self._next = float("-inf")
        self._handle: Any = None
        self._notice = ""

    def show(self, update: Update) -> None:
        """Redraw, unless the page has just been redrawn; what is skipped comes with the next update."""
        now = self._clock()
        if now < self._next or update.snapshot.state.finished:
            return
        self._next = now + REFRESH_S
        self._draw(static.bundle(update.snapshot, live=True, notice=self._notice))

    def notice(self, text: str) -> None:
        """Show a sentence of ours from the next redrawing on."""
        self._notice = text
        self._next = float("-inf")

    def close(self, snapshot: Snapshot) -> None:
        """Replace what is on the page by what stays in the saved notebook."""
        self._draw(closing(self._job, snapshot).bundle)

    def _draw(self, bundle: dict[str, str]) -> None:
        if self._handle is None:
            from IPython.display import display

            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)
