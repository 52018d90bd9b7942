"""The first view in a notebook: one output that is redrawn while the cell waits, and stays as static HTML.

No widget: what is on the page is replaced through its ``display_id``, at most five times a second. So the notebook
holds one small output however long the run is, and that output is true at the end.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from taomagic.launcher.job import Job, Update
from taomagic.launcher.progress import Snapshot
from taomagic.view import static, text
from taomagic.view.tables import Table
from taomagic.view.waiting import View

#: Seconds between two updates of the page.
REFRESH_S = 0.2


def choose_view(shell: Any, job: Job, *, raw: bool = False) -> View:
    """Return the view that suits where we run.

    Parameters
    ----------
    shell
        The InteractiveShell.
    job
        The job to show.
    raw
        Print the log as it is.

    Returns
    -------
    View
        HTML in a notebook (a shell with a kernel); text in a terminal, or wherever ``TAO_PANEL=text`` is set.
    """
    if raw:
        return text.RawView(job, sys.stdout, explain=False)
    if in_notebook(shell):
        return LiveView()
    return text.TextView(sys.stdout, explain=False)


def in_notebook(shell: Any) -> bool:
    """Tell whether the shell's outputs are shown on a page that can draw HTML."""
    return getattr(shell, "kernel", None) is not None and os.environ.get("TAO_PANEL", "").lower() != "text"


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
    clock
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
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
        self._draw(static.bundle(snapshot))

    def _draw(self, bundle: dict[str, str]) -> None:
        if self._handle is None:
            from IPython.display import display

            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)
