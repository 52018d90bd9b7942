from __future__ import annotations

import io
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from taomagic.launcher.containers.pulling import Layer, PullProgress
from taomagic.view import pulling
from taomagic.view.pulling import LivePullView, TextPullView, choose_pull_view, pull_html, summary

IMAGE = "nvcr.io/nvidia/tao/tao-toolkit:5.0.0-tf1.15.5"
GB = 10**9
LAYERS = (
    Layer("aaaaaaaaaaaa", "here"),
    Layer("bbbbbbbbbbbb", "unpacking", 2 * GB, 2 * GB, 0.5),
    Layer("cccccccccccc", "downloading", GB, 4 * GB),
    Layer("dddddddddddd", "waiting", 0, 3 * GB),
)
RUNNING = PullProgress(
    IMAGE,
    "pulling",
    LAYERS,
    done_bytes=3 * GB,
    total_bytes=9 * GB,
    complete=True,
    rate=50e6,
    eta_s=120.0,
    elapsed_s=60.0,
    notes=("Only 20.0 GB are free on /var/lib/docker.",),
)
DONE = PullProgress(IMAGE, "done", done_bytes=9 * GB, total_bytes=9 * GB, complete=True, elapsed_s=180.0)
FAILED = PullProgress(IMAGE, "failed", done_bytes=GB, elapsed_s=5.0)
ASKING = PullProgress(IMAGE)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def screen_of(text: str) -> list[str]:
    """What a terminal shows in the end: our codes only move up, return, and erase to the end."""
    lines, row = [""], 0
    for part in re.split(r"(\x1b\[\d*[AJ]|\r|\n)", text):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            row -= int(part[2:-1])
        elif part == "\x1b[J":
            lines[row:] = [""]
        elif part not in {"", "\r"}:
            assert lines[row] == "", "drawn over text that wasn't erased"
            lines[row] = part
    return lines


def test_a_log_gets_a_line_every_few_seconds(clock: Clock) -> None:
    stream = io.StringIO()
    view = TextPullView(stream, terminal=False, clock=clock)
    view(ASKING)
    for second in range(12):
        clock.now = float(second)
        view(RUNNING)
    view(DONE)
    assert stream.getvalue().splitlines() == [
        f"The image {IMAGE} isn't here yet and is pulled now, once. It is a download of 9.0 GB. It may be interrupted.",
        "! Only 20.0 GB are free on /var/lib/docker.",
        *["3.0 GB of 9.0 GB · 1 of 4 layers · 50.0 MB/s · 2 min 00 s left"] * 3,
        f"Pulled {IMAGE}: 9.0 GB in 3 min 00 s",
    ]


def test_a_terminal_shows_the_layers_under_way_and_keeps_one_line(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "40")
    stream = io.StringIO()
    view = TextPullView(stream, terminal=True, clock=clock)
    view(ASKING)
    for step in range(5):
        clock.now = float(step)
        view(RUNNING)
    shown = screen_of(stream.getvalue())
    assert shown[0].startswith(f"The image {IMAGE}")
    assert shown[2].startswith("██████░")
    assert "3.0 GB of 9.0 GB · 1 of 4 layers" in shown[2]
    assert [line[19:] for line in shown[3:]] == [
        "bbbbbbbbbbbb unpacking 50%",
        "cccccccccccc downloading 1.0 GB of 4.0 GB",
    ]
    view(DONE)
    assert screen_of(stream.getvalue())[2:] == [f"Pulled {IMAGE}: 9.0 GB in 3 min 00 s", ""]


@pytest.mark.parametrize(("columns", "lines"), [("20", "40"), ("100", "5"), ("1", "1")])
def test_a_small_terminal_gets_no_more_than_fits(
    clock: Clock, monkeypatch: pytest.MonkeyPatch, columns: str, lines: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("LINES", lines)
    stream = io.StringIO()
    view = TextPullView(stream, terminal=True, clock=clock)
    view(RUNNING)
    drawn = stream.getvalue().splitlines()[2:]
    assert len(drawn) <= max(1, int(lines) - 1)
    assert all(len(line) <= max(1, int(columns) - 1) for line in drawn)


def test_a_terminal_isnt_redrawn_faster_than_eyes_see(clock: Clock) -> None:
    stream = io.StringIO()
    view = TextPullView(stream, terminal=True, clock=clock)
    view(RUNNING)
    size = len(stream.getvalue())
    clock.now = 0.1
    view(RUNNING)
    assert len(stream.getvalue()) == size


def test_a_failure_leaves_the_word_to_the_exception(clock: Clock) -> None:
    stream = io.StringIO()
    view = TextPullView(stream, terminal=True, clock=clock)
    view(ASKING)
    view(FAILED)
    assert [line for line in screen_of(stream.getvalue()) if line] == []


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (ASKING, "asking the registry"),
        (RUNNING, "3.0 GB of 9.0 GB · 1 of 4 layers · 50.0 MB/s · 2 min 00 s left"),
        (PullProgress(IMAGE, "pulling", LAYERS, GB, 5 * GB), "1.0 GB of at least 5.0 GB · 1 of 4 layers"),
        (
            PullProgress(IMAGE, "pulling", LAYERS, GB, GB, complete=True),
            "1.0 GB of 1.0 GB · 1 of 4 layers · unpacking",
        ),
        (
            PullProgress(IMAGE, "pulling", LAYERS, GB, 5 * GB, message="cccc: Retrying in 5 seconds"),
            "a download broke off: cccc: Retrying in 5 seconds",
        ),
        (DONE, "9.0 GB in 3 min 00 s"),
        (PullProgress(IMAGE, "done", (LAYERS[0],)), "all layers were here"),
        (FAILED, "has failed after 1.0 GB"),
        (PullProgress(IMAGE, "stopped", done_bytes=GB), "was stopped after 1.0 GB"),
    ],
)
def test_a_pull_is_told_in_one_line(progress: PullProgress, words: str) -> None:
    assert words in summary(progress)
    assert IMAGE in summary(progress)
    assert words.capitalize() in str(pull_html(progress)) or words in str(pull_html(progress))


class Page:
    """Takes the place of IPython's display."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bundles: list[dict[str, str]] = []
        self.displays = 0
        monkeypatch.setattr("IPython.display.display", self.display)

    def display(self, bundle: dict[str, str], *, raw: bool, display_id: bool) -> Any:
        assert raw
        assert display_id
        self.displays += 1
        self.bundles.append(bundle)
        return SimpleNamespace(update=lambda new, raw: self.bundles.append(new))


def test_a_notebook_gets_one_output_that_ends_as_one_line(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = Page(monkeypatch)
    view = LivePullView(clock)
    for tick in range(100):
        clock.now = tick / 50
        view(RUNNING)
    view(DONE)
    assert page.displays == 1
    assert 8 <= len(page.bundles) <= 12
    html = page.bundles[0]["text/html"]
    for words in (
        "cccccccccccc",
        "downloading 1.0 GB of 4.0 GB",
        "unpacking 50%",
        "Only 20.0 GB are free",
        IMAGE,
    ):
        assert words in html
    assert 'aria-valuenow="33"' in html
    assert "aaaaaaaaaaaa" not in html
    last = page.bundles[-1]
    assert last["text/plain"] == f"Pulled {IMAGE}: 9.0 GB in 3 min 00 s"
    assert len(last["text/html"]) < 800
    assert "<script" not in html


def test_what_a_registry_says_cant_become_html() -> None:
    evil = PullProgress(
        "x/<img src=x onerror=alert(1)>",
        "pulling",
        (Layer("<b>layer</b>", "downloading", 1, 2),),
        message="<b>: Retrying",
        notes=("<i>note</i>",),
    )
    html = str(pull_html(evil))
    for markup in ("<img", "<b>", "<i>"):
        assert markup not in html


def test_the_view_suits_where_we_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAO_PANEL", raising=False)
    kernel = SimpleNamespace(kernel=object())
    assert isinstance(choose_pull_view(kernel), LivePullView)
    assert isinstance(choose_pull_view(SimpleNamespace()), TextPullView)
    assert isinstance(choose_pull_view(), TextPullView)
    monkeypatch.setenv("TAO_PANEL", "text")
    assert isinstance(choose_pull_view(kernel), TextPullView)


@pytest.mark.parametrize("make", [lambda: TextPullView(io.StringIO(), terminal=True), LivePullView])
def test_the_key_is_asked_for_by_the_field_for_secrets(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulling, "ask_secret", lambda prompt: f"answer to {prompt}")
    assert make().ask("NGC API key: ") == "answer to NGC API key: "


def test_the_question_stands_below_a_cleared_line(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(pulling, "ask_secret", lambda prompt: str(stream.write(prompt)))
    view = TextPullView(stream, terminal=True, clock=clock)
    view(ASKING)
    view.ask("NGC API key: ")
    assert screen_of(stream.getvalue()) == ["NGC API key: "]
