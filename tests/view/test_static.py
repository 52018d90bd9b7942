from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taomagic.launcher.progress import Snapshot
from taomagic.launcher.states import JobState
from taomagic.view import static
from taomagic.view.draw_types import Drawing

VOID = {"img", "br", "hr"}
ALLOWED = {
    "div",
    "span",
    "strong",
    "code",
    "pre",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "details",
    "summary",
    "img",
}


class Reader(HTMLParser):
    """Collects text and attributes, and checks that elements close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def check(html: str) -> Reader:
    """Every card: below the limit, well formed, no element and no attribute that could run anything."""
    assert len(html.encode()) <= static.MAX_HTML_BYTES
    reader = Reader(html)
    assert reader.seen <= ALLOWED
    names = {name for name, _ in reader.attributes}
    assert not [name for name in names if name.startswith("on")]
    assert names <= {
        "style",
        "role",
        "aria-label",
        "aria-valuemin",
        "aria-valuemax",
        "aria-valuenow",
        "scope",
        "open",
        "alt",
        "src",
    }
    assert all(
        (value or "").startswith("data:image/svg+xml") for name, value in reader.attributes if name == "src"
    )
    return reader


def test_the_card_of_a_training_says_what_a_person_asks(succeeded: Snapshot) -> None:
    reader = check(static.run_html(succeeded))
    text = " ".join(reader.text)
    for wanted in (
        "✓ succeeded",
        "ssd train",
        "-k ********",
        "job 3f2a9c81d0",
        "3 min 12 s",
        "epoch 8 of 8",
        "0.8568",
        "pedestrian",
        "/home/ada/tao/ssd/experiment_dir_unpruned/weights/ssd_resnet18_epoch_008.tlt",
        "/workspace/tao-experiments/ssd/experiment_dir_unpruned/weights/ssd_resnet18_epoch_008.tlt",
        "Last 20 lines of the log",
        "/home/ada/tao/.tao/jobs/3f2a9c81d0/log.txt",
    ):
        assert wanted in text
    assert len([1 for name, _ in reader.attributes if name == "src"]) == 2, "losses and precisions"


def test_checkpoints_are_told_by_the_last_one(succeeded: Snapshot) -> None:
    html = static.run_html(succeeded)
    assert "tlt, last of 8" in html
    assert "epoch_007.tlt" not in re.sub(r"<details.*?</details>", "", html, flags=re.DOTALL)


def test_a_failure_shows_cause_hint_and_the_end_of_the_log(failed: Snapshot) -> None:
    text = " ".join(check(static.run_html(failed)).text)
    assert "✗ failed" in text
    assert "specs/ssd_train.txt:14: unknown field `batch_size` in TrainingConfig." in text
    assert "Did you mean `batch_size_per_gpu`?" in text
    assert "exit code 1" in text
    assert "Execution status: FAIL" in text


def test_quick_mode_is_loud_in_both_forms(snapshot_of: Callable[..., Snapshot]) -> None:
    line = "2026-11-21 09:00:00,1 [TAO Toolkit] [WARNING] a.b 1: QUICK MODE: the metrics mean nothing.\n"
    bundle = static.bundle(snapshot_of(line + "Epoch 1/2 (quick mode)\n", JobState.SUCCEEDED, exit_code=0))
    assert "! QUICK MODE" in bundle["text/html"]
    assert "! QUICK MODE" in bundle["text/plain"]
    assert "epoch 1 of 2" in bundle["text/html"]


def test_text_has_a_line_for_every_epoch_and_is_true_at_the_end(succeeded: Snapshot) -> None:
    text = static.bundle(succeeded)["text/plain"]
    for epoch in range(1, 9):
        assert len(re.findall(rf"^Epoch {epoch}/8  loss ", text, re.MULTILINE)) == 1
    assert "✓ tao ssd train succeeded in 3 min 12 s (job 3f2a9c81d0)" in text
    assert "left" not in text


def test_a_running_job_tells_progress_and_time_left_in_one_line(running: Snapshot) -> None:
    bundle = static.bundle(running, live=True)
    assert bundle["text/plain"].count("\n") == 0
    assert "epoch 5 of 8 · step 10 of 25" in bundle["text/plain"]
    assert " left" in bundle["text/plain"]
    assert 'aria-valuenow="55"' in bundle["text/html"]
    assert len(bundle["text/html"].encode()) <= static.MAX_HTML_BYTES


def test_an_unknown_total_never_claims_a_false_percentage(snapshot_of: Callable[..., Snapshot]) -> None:
    html = static.run_html(snapshot_of("Loading the model\n"), live=True)
    assert "aria-valuenow" not in html
    assert "0%" not in static.bundle(snapshot_of("Loading\n"), live=True)["text/plain"]


@pytest.mark.parametrize("epochs", [1, 80, 600])
def test_any_length_of_run_stays_below_the_limit(
    epochs: int, snapshot_of: Callable[..., Snapshot], training_log: Callable[..., str]
) -> None:
    bundle = static.bundle(snapshot_of(training_log(epochs), JobState.SUCCEEDED, exit_code=0))
    check(bundle["text/html"])
    assert len(bundle["text/plain"].encode()) < 60_000


LINES = st.lists(st.text(max_size=400), max_size=40)
STATES = st.sampled_from(list(JobState))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LINES, STATES, st.text(max_size=3000), st.booleans())
def test_any_log_text_stays_escaped_and_small(
    snapshot_of: Callable[..., Snapshot], lines: list[str], state: JobState, command: str, live: bool
) -> None:
    log = "\n".join(line.encode("utf-8", "replace").decode() for line in lines) + "\n"
    snapshot = snapshot_of(log, state, command=command, exit_code=3)
    html = static.run_html(snapshot, live=live)
    assert len(html.encode()) <= static.MAX_HTML_BYTES
    if not live:
        check(html)
    static.bundle(snapshot)["text/plain"].encode()


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "</pre></details><b>",
        "&lt;script&gt;",
        "]]><svg onload=x>",
    ],
)
def test_markup_in_every_field_is_shown_not_run(attack: str, snapshot_of: Callable[..., Snapshot]) -> None:
    log = (
        f"Epoch 1/2\n5/5 [=====] - 1s - loss: 2.0\n{attack}       AP    0.5\nEpoch 2/2\n5/5 [=====] - 1s - loss: 1.0\n"
        f"{attack}       AP    0.6\nSaved: /w/{attack}.tlt\nERROR: {attack}\nHINT: {attack}\n"
        f"Estimated time: {attack}\n{attack}\n"
    )
    html = static.run_html(snapshot_of(log, JobState.FAILED, command=attack, exit_code=1))
    reader = check(html)
    assert attack in "".join(reader.text)


def test_huge_values_everywhere_still_fit(snapshot_of: Callable[..., Snapshot]) -> None:
    rows = "".join(f"{'&' * 190}{i}  AP    0.5\n" for i in range(300))
    saved = "".join(f"Saved: /w/{'<' * 3000}{chr(65 + i % 26) * (i + 1)}.tlt\n" for i in range(100))
    log = f"Epoch 1/2\n{rows}Epoch 2/2\n{rows}{saved}" + "".join(
        f"ERROR: {'&' * 7000}{i}\n" for i in range(30)
    )
    check(static.run_html(snapshot_of(log, JobState.FAILED, command='"' * 9000, exit_code=1)))


def test_next_commands_stand_on_the_card_as_text(succeeded: Snapshot) -> None:
    html = static.bundle(succeeded, steps=[("Evaluate <it>", "%tao ssd evaluate -m $M -k $KEY")])["text/html"]
    text = " ".join(check(html).text)
    assert "Evaluate <it>" in text
    assert "%tao ssd evaluate -m $M -k $KEY" in text


def test_pictures_are_shown_as_far_as_there_is_room(succeeded: Snapshot) -> None:
    small = Drawing(
        "Average precision by class", "<svg xmlns='http://www.w3.org/2000/svg'/>", "bars <of> car"
    )
    huge = Drawing("Everything", f"<svg xmlns='http://www.w3.org/2000/svg'>{'x' * 40_000}</svg>", "all")
    html = static.run_html(succeeded, drawings=[huge, small])
    text = " ".join(check(html).text)
    assert "Average precision by class" in text
    assert "Everything" not in text
    assert 'alt="bars &lt;of&gt; car"' in html
