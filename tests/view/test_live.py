from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from taomagic.launcher.command import Command
from taomagic.launcher.job import Update
from taomagic.launcher.states import JobState
from taomagic.view.live import REFRESH_S, LiveView, answers_while_awaiting, choose_view, on_page
from taomagic.view.text import RawView, TextView

#: A job of which only the snapshots are looked at.
JOB: Any = SimpleNamespace(
    id="3f2a9c81d0",
    command=Command(group="model", task="ssd", subtask="train"),
    shown="tao ssd train",
    result=lambda _now: SimpleNamespace(ok=False),
)


class Page:
    """What a page receives: the bundles of one output, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bundles: list[dict[str, str]] = []
        self.outputs = 0
        monkeypatch.setattr("IPython.display.display", self._display)

    def _display(self, bundle: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        self.outputs += 1
        self.bundles.append(bundle)
        return SimpleNamespace(update=lambda bundle, raw: self.bundles.append(bundle))


def test_the_page_gets_at_most_five_updates_a_second_and_the_last_one_always(
    updates_of: Callable[..., list[Update]], training_log: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(monkeypatch)
    updates = updates_of(training_log(8), JobState.SUCCEEDED, exit_code=0, block=60)
    times = iter(i * 0.01 for i in range(100_000))
    view = LiveView(JOB, clock=lambda: next(times))
    for update in updates:
        view.show(update)
    view.close(updates[-1].snapshot)
    assert page.outputs == 1
    assert len(page.bundles) <= len(updates) * 0.01 / REFRESH_S + 3
    assert "✓ succeeded" in page.bundles[-1]["text/html"]
    assert page.bundles[-1]["text/plain"].count("\nEpoch ") == 8
    assert all(len(bundle["text/html"].encode()) <= 30_000 for bundle in page.bundles)


def test_a_job_that_ended_at_once_is_shown_too(
    updates_of: Callable[..., list[Update]], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(monkeypatch)
    view = LiveView(JOB)
    (update,) = updates_of("ERROR: no\n", JobState.FAILED, exit_code=1)
    view.show(update)
    view.close(update.snapshot)
    assert page.outputs == len(page.bundles) == 1
    assert "✗ failed" in page.bundles[0]["text/html"]


def test_a_notice_is_on_the_page_with_the_next_update(
    updates_of: Callable[..., list[Update]], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(monkeypatch)
    view = LiveView(JOB, clock=lambda: 0.0)
    (update,) = updates_of("loading\n")
    view.show(update)
    view.notice("Stopping <now>")
    view.show(update)
    assert "Stopping &lt;now&gt;" in page.bundles[-1]["text/html"]


@pytest.mark.parametrize(
    ("kernel", "panel", "raw", "kind"),
    [
        (True, "", False, LiveView),
        (True, "text", False, TextView),
        (False, "", False, TextView),
        (True, "", True, RawView),
    ],
)
def test_the_view_suits_where_we_run(
    kernel: bool, panel: str, raw: bool, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAO_PANEL", panel)
    shell = SimpleNamespace(kernel=object()) if kernel else SimpleNamespace()
    job: Any = SimpleNamespace(log_path=sys.executable)
    assert type(choose_view(shell, job, raw=raw)) is kind


@pytest.mark.parametrize(
    ("version", "answers"), [((6, 29, 5), False), ((7, 3, 0), False), ((7, 4, 0), True), ((8, 0, 0), True)]
)
def test_silence_of_a_page_counts_only_where_the_kernel_would_hear_it(
    version: tuple[int, ...], answers: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ipykernel._version.version_info", version)
    assert answers_while_awaiting() is answers


@pytest.mark.parametrize(
    ("parent", "panel", "page"),
    [
        ({"metadata": {"cellId": "c1"}}, "", True),
        ({"metadata": {}}, "", False),
        ({}, "", False),
        ({"metadata": {"cellId": "c1"}}, "html", False),
        ({}, "widget", True),
    ],
)
def test_programs_that_run_notebooks_get_no_widgets(
    parent: dict[str, Any], panel: str, page: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TAO_PANEL", panel)
    shell = SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda: parent))
    assert on_page(shell) is page
