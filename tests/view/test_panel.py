"""What a page receives, and what it is answered, without a page."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taomagic.launcher.command import Command
from taomagic.launcher.job import Update
from taomagic.launcher.states import JobState
from taomagic.view import panel, texts
from taomagic.view.panel import MIME_WIDGET, PATIENCE_S, TICK_S, PanelView, end_of
from taomagic.view.panel_state import SENT_LINES
from taomagic.view.waiting import KILLED, STOPPING, Stopping

Updates = Callable[..., list[Update]]


class FakeJob:
    """A job on nobody's disk."""

    def __init__(self, directory: Path) -> None:
        self.id, self.where, self.why, self.backend = "3f2a9c81d0", "embedded engine", "", "process"
        self.command = Command(group="model", task="ssd", subtask="train", args=("-k", "secret"))
        self.shown = "tao ssd train -k ********"
        self.directory, self.log_path = directory, directory / "log.txt"
        self.state = JobState.RUNNING
        self.wishes: list[str] = []

    def result(self, now: Any) -> Any:
        return SimpleNamespace(ok=False)

    def request_stop(self) -> None:
        self.wishes.append("stop")

    def request_kill(self) -> None:
        self.wishes.append("kill")


class FakePage:
    """What the page is sent, in order: ``bundle``, ``state`` and messages."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.panel: Any = None
        page = self

        class Spy(panel.Panel):
            def __init__(self, **traits: Any) -> None:
                super().__init__(**traits)
                page.panel = self
                self.observe(lambda change: page.sent.append(("state", change["new"])), "state")

            def send(self, content: Any, buffers: Any = None) -> None:
                page.sent.append((content["kind"], content))

        monkeypatch.setattr(panel, "Panel", Spy)
        monkeypatch.setattr("IPython.display.display", self._display)

    def _display(self, bundle: dict[str, Any], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        self.sent.append(("bundle", bundle))
        return SimpleNamespace(update=lambda bundle, raw: self.sent.append(("bundle", bundle)))

    def all(self, kind: str) -> list[Any]:
        return [content for name, content in self.sent if name == kind]

    def says(self, view: PanelView, **content: Any) -> None:
        view._take(self.panel, content, [])


@pytest.fixture
def job(tmp_path: Path) -> FakeJob:
    return FakeJob(tmp_path)


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> FakePage:
    return FakePage(monkeypatch)


@pytest.fixture
def clock() -> Callable[[], float]:
    return iter_clock(0.01)


def iter_clock(step: float) -> Callable[[], float]:
    times: Iterator[float] = iter(i * step for i in range(10**6))
    return lambda: next(times)


def test_a_run_is_told_in_few_messages_and_its_last_lines_come_last(
    job: Any, page: FakePage, updates_of: Updates, training_log: Callable[..., str]
) -> None:
    updates = updates_of(training_log(8) + "THE END\n", JobState.SUCCEEDED, exit_code=0, block=40)
    view = PanelView(job, clock=iter_clock(0.01))
    for update in updates:
        view.show(update)
    view.close(updates[-1].snapshot)
    ticks = page.all("tick")
    assert len(ticks) <= len(updates) * 0.01 / TICK_S + 2
    numbers = [tick["first"] + i for tick in ticks for i in range(len(tick["lines"]))]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)), "no line twice, none missing"
    assert ticks[-1]["lines"][-1] == "THE END"
    assert ticks[-1]["now"]["state"] == "succeeded"
    kinds = [kind for kind, _ in page.sent]
    assert kinds[-3:] == ["tick", "state", "bundle"]
    assert page.all("state")[-1]["result"]["files"][0]["count"] == 8
    assert page.all("state")[-1]["tail"]["lines"][-1] == "THE END"


def test_the_output_is_a_widget_while_it_runs_and_html_afterwards(
    job: Any, page: FakePage, updates_of: Updates, clock: Callable[[], float]
) -> None:
    (update,) = updates_of("loading\n")
    view = PanelView(job, clock=clock)
    view.show(update)
    (first,) = page.all("bundle")
    assert first[MIME_WIDGET]["model_id"] == page.panel.model_id
    assert "<div" in first["text/html"]
    (ended,) = updates_of("loading\n", JobState.FAILED, exit_code=1)
    view.close(ended.snapshot)
    assert set(page.all("bundle")[-1]) == {"text/html", "text/plain"}


def test_a_fast_log_is_sent_in_pieces_of_bounded_size(job: Any, page: FakePage, updates_of: Updates) -> None:
    updates = updates_of(
        "".join(f"line {i}\n" for i in range(30_000)), JobState.SUCCEEDED, exit_code=0, block=40_000
    )
    view = PanelView(job, clock=iter_clock(0.2))
    for update in updates:
        view.show(update)
    view.close(updates[-1].snapshot)
    assert max(len(tick["lines"]) for tick in page.all("tick")) <= SENT_LINES
    assert page.all("tick")[-1]["lines"][-1] == "line 29999"


def test_a_page_that_says_hello_gets_the_log_so_far(
    job: Any, page: FakePage, updates_of: Updates, clock: Callable[[], float]
) -> None:
    (update,) = updates_of("".join(f"line {i}\n" for i in range(1000)))
    view = PanelView(job, clock=clock)
    view.show(update)
    page.says(view, kind="hello", next=0)
    assert len(page.all("hello")[0]["lines"]) == 1000
    page.says(view, kind="hello", next=990)
    assert page.all("hello")[1]["first"] == 990
    page.says(view, kind="hello", next="nonsense")
    assert page.all("hello")[2]["first"] == 0


def test_the_first_page_chooses_the_language_once(
    job: Any,
    page: FakePage,
    updates_of: Updates,
    clock: Callable[[], float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(texts, "_wishes", {"page": "", "terminal": ""})
    (update,) = updates_of("loading\n")
    view = PanelView(job, clock=clock)
    view.show(update)
    assert page.panel.texts["stop"] == "Stop"
    page.says(view, kind="hello", next=0, lang="zh-CN")
    assert page.panel.texts["stop"] == "停止"
    assert page.panel.state["now"]["chip"] == "▶ 正在运行"
    assert page.panel.head["card"] == "TAO 任务 3f2a9c81d0"
    assert len(page.all("bundle")) == 2, "a new output makes the page draw the widget anew"
    # A second page in another language, and the first one's new view.
    page.says(view, kind="hello", next=0, lang="en")
    page.says(view, kind="hello", next=0, lang="zh-CN")
    assert len(page.all("bundle")) == 2
    assert page.panel.texts["stop"] == "停止"


def test_where_nobody_answers_the_output_becomes_html(job: Any, page: FakePage, updates_of: Updates) -> None:
    (update,) = updates_of("loading\n")
    view = PanelView(job, clock=iter_clock(PATIENCE_S / 3))
    for _ in range(12):
        view.show(update)
    assert MIME_WIDGET in page.all("bundle")[0]
    assert MIME_WIDGET not in page.all("bundle")[-1]
    ticks = len(page.all("tick"))
    view.show(update)
    assert len(page.all("tick")) == ticks, "no messages to a page that has no widgets"


@pytest.mark.parametrize("heard", [True, False])
def test_silence_of_a_page_that_cannot_be_heard_means_nothing(
    heard: bool, job: Any, page: FakePage, updates_of: Updates
) -> None:
    (update,) = updates_of("loading\n")
    view = PanelView(job, answers=heard, clock=iter_clock(PATIENCE_S / 3))
    for _ in range(12):
        view.show(update)
        if heard:
            page.says(view, kind="hello", next=0)
    assert len(page.all("bundle")) == 1


def test_the_stop_button_stops_then_kills(
    job: Any, page: FakePage, updates_of: Updates, clock: Callable[[], float]
) -> None:
    (update,) = updates_of("loading\n")
    view = PanelView(job, clock=clock)
    view.show(update)
    page.says(view, kind="stop")
    assert job.wishes == ["stop"]
    view.show(update)
    assert page.all("tick")[-1]["now"]["notes"][-1] == STOPPING
    page.says(view, kind="stop")
    assert job.wishes == ["stop", "kill"]
    view.show(update)
    assert page.all("tick")[-1]["now"]["notes"][-1] == KILLED
    assert len(page.all("stop")) == 2, "each click is answered"


def test_a_click_that_comes_by_both_ways_counts_once() -> None:
    job: Any = SimpleNamespace(state=JobState.RUNNING, request_stop=lambda: None, request_kill=lambda: None)
    times = iter([0.0, 0.5, 5.0])
    stopping = Stopping(job, clock=lambda: next(times))
    assert [stopping.ask("interrupt"), stopping.ask("button"), stopping.ask("button")] == ["stop", "", "kill"]
    job.state = JobState.STOPPED
    times = iter([9.0])
    assert stopping.ask("button") == ""


@pytest.mark.parametrize(
    "content", [None, [], "stop", {}, {"kind": "eval"}, {"kind": "picture", "id": "../../etc"}]
)
def test_messages_that_mean_nothing_do_nothing(
    content: Any, job: Any, page: FakePage, updates_of: Updates, clock: Callable[[], float]
) -> None:
    (update,) = updates_of("loading\n")
    view = PanelView(job, clock=clock)
    view.show(update)
    before = len(page.sent)
    view._take(page.panel, content, [])
    assert len(page.sent) == before
    assert job.wishes == []


def test_the_full_log_is_its_end_where_it_is_long(job: Any, tmp_path: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_text("".join(f"line {i}\n" for i in range(100)))
    assert end_of(path).startswith("line 0\n")
    assert end_of(path, 100).splitlines()[0].startswith("[the last 9")
    assert end_of(path, 100).splitlines()[1] == "line 88"
    assert end_of(tmp_path / "none") == ""


def test_a_panel_costs_little_time_per_update(
    job: Any, page: FakePage, updates_of: Updates, training_log: Callable[..., str]
) -> None:
    updates = updates_of(training_log(60), block=400)
    view = PanelView(job, clock=iter_clock(0.1))
    began = time.process_time()
    for update in updates:
        view.show(update)
    spent = time.process_time() - began
    assert spent / len(updates) < 0.01, "a tenth of the time between two updates"
