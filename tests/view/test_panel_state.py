from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taomagic.launcher.event_reader import EventReader
from taomagic.launcher.job import Update
from taomagic.launcher.progress import Snapshot
from taomagic.launcher.states import JobState
from taomagic.view import panel_state
from taomagic.view.panel_state import KEPT_LINES, TAIL_BYTES, Lines, Stages


def lines_of(text: str) -> Lines:
    lines, reader = Lines(), EventReader()
    lines.take([*reader.feed(text.encode()), *reader.close()])
    return lines


def test_lines_come_without_their_prefix_and_with_their_numbers() -> None:
    sent = lines_of("one\n2026-11-21 09:00:00,123 [TAO Toolkit] [INFO] a.b 42: two\nthree\n").since(1)
    assert sent == {"first": 1, "lines": ["two", "three"], "marks": ".."}


def test_errors_are_marked_with_their_whole_traceback() -> None:
    text = (
        "fine\nTraceback (most recent call last):\n  File 'x.py', line 1\n    boom()\nValueError: no\nfine\n"
        "ERROR: bad\nWARNING: so so\n2026-11-21 09:00:00,1 [TAO Toolkit] [ERROR] a.b 1: logged\n"
    )
    assert lines_of(text).since(0)["marks"] == ".eeee.ewe"


def test_an_exception_of_unknown_kind_ends_its_traceback() -> None:
    assert (
        lines_of("Traceback (most recent call last):\n  File\nmy.Odd: no\nfine\n").since(0)["marks"] == "eee."
    )


def test_a_progress_line_is_no_line_and_goes_with_the_next() -> None:
    lines = lines_of("1/4 [=>..] - ETA: 3s - loss: 2.0\r")
    assert (lines.count, lines.bar) == (0, "1/4 [=>..] - ETA: 3s - loss: 2.0")
    lines = lines_of("1/4 [=>..] - ETA: 3s - loss: 2.0\rdone\n")
    assert (lines.count, lines.bar) == (1, "")


def test_of_a_fast_log_the_last_lines_are_sent_under_their_own_numbers() -> None:
    lines = lines_of("".join(f"line {i}\n" for i in range(20_000)))
    sent = lines.since(100, most=500)
    assert (sent["first"], sent["lines"][0], sent["lines"][-1]) == (19_500, "line 19500", "line 19999")
    assert lines.since(0, 10**9)["first"] == 20_000 - KEPT_LINES
    assert lines.since(20_000) == {"first": 20_000, "lines": [], "marks": ""}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=3000), max_size=30), st.integers(0, 40))
def test_any_log_gives_a_tail_that_is_small_and_true(texts: list[str], start: int) -> None:
    lines = lines_of("\n".join(text.encode("utf-8", "replace").decode() for text in texts))
    tail = lines.tail()
    assert len(json.dumps(tail["lines"], ensure_ascii=False).encode()) < 2 * TAIL_BYTES
    assert tail["first"] + len(tail["lines"]) == lines.count
    assert len(tail["marks"]) == len(tail["lines"])
    assert tail["lines"] == lines.since(tail["first"])["lines"]
    assert lines.since(start)["first"] + len(lines.since(start)["lines"]) == max(lines.count, start)


def test_the_state_of_a_training_says_what_a_person_asks(running: Snapshot) -> None:
    now = panel_state.now(running, notice="Stopping", bar="10/25 [==>..]", usage=[("memory", "1.2 GB", "")])
    assert now["chip"] == "▶ running"
    assert now["words"].startswith("55% · epoch 5 of 8 · step 10 of 25")
    assert now["fraction"] == pytest.approx(0.55)
    assert now["notes"][-1] == "Stopping"
    assert now["tiles"][0][0] == "mAP"
    assert now["tiles"][-1] == ["memory", "1.2 GB", ""]
    assert now["problem"] is None
    assert json.loads(json.dumps(now)) == now


def test_a_failure_names_cause_and_hint_and_drops_what_was_passing(failed: Snapshot) -> None:
    now = panel_state.now(failed, notice="Stopping", bar="x", usage=[("memory", "1 GB", "")])
    assert now["problem"] == {
        "cause": "specs/ssd_train.txt:14: unknown field `batch_size` in TrainingConfig.",
        "hint": "Did you mean `batch_size_per_gpu`?",
    }
    assert "Stopping" not in now["notes"]
    assert now["bar"] == ""
    assert now["tiles"] == []


def test_curves_are_grouped_and_their_best_points_marked(succeeded: Snapshot) -> None:
    groups = {chart["key"]: chart for chart in panel_state.charts(succeeded)}
    assert [each["name"] for each in groups["loss"]["series"]] == ["loss", "validation_loss"]
    assert [each["label"] for each in groups["precision"]["series"]] == [
        "mAP",
        "AP car",
        "AP cyclist",
        "AP pedestrian",
    ]
    x, y, text, epoch, kind = groups["loss"]["series"][1]["best"]
    assert (epoch, kind, text) == (8, "lowest", f"{y:.4f}")
    assert y == min(value for _, value in succeeded.series["validation_loss"])
    assert x == 8.0
    assert "val loss lowest" in groups["loss"]["told"]


@pytest.mark.parametrize("epochs", [2, 600])
def test_what_is_sent_is_bounded(
    epochs: int, snapshot_of: Callable[..., Snapshot], training_log: Callable[..., str]
) -> None:
    log = training_log(epochs)
    snapshot = snapshot_of(log)
    state = {
        "now": panel_state.now(snapshot),
        "charts": panel_state.charts(snapshot),
        "tail": lines_of(log).tail(),
        "result": panel_state.result(snapshot),
    }
    assert len(json.dumps(state).encode()) < 100_000


def test_the_result_names_files_by_both_paths_and_epochs_of_the_best(succeeded: Snapshot) -> None:
    result = panel_state.result(succeeded)
    assert result["files"] == [
        {
            "kind": "tlt",
            "count": 8,
            "host": "/home/ada/tao/ssd/experiment_dir_unpruned/weights/ssd_resnet18_epoch_008.tlt",
            "container": "/workspace/tao-experiments/ssd/experiment_dir_unpruned/weights/ssd_resnet18_epoch_008.tlt",
        }
    ]
    assert result["metrics"][0] == ["mAP", "0.8568", "0.8568", "8"]
    assert [name for name, _ in result["classes"]] == ["car", "cyclist", "pedestrian"]


def test_stages_say_what_is_done_and_what_is_to_come() -> None:
    stages = Stages(("ssd prune", "ssd train", "ssd evaluate"), 1).for_page()
    assert [stage["part"] for stage in stages] == ["done", "now", "later"]
    assert Stages(("ssd train",), 0).for_page() == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(max_size=300), max_size=30), st.sampled_from(list(JobState)))
def test_any_log_can_be_sent(
    updates_of: Callable[..., list[Update]], texts: list[str], state: JobState
) -> None:
    log = "\n".join(text.encode("utf-8", "replace").decode() for text in texts) + "\n"
    (update,) = updates_of(log, state, exit_code=1)
    json.dumps(
        [panel_state.now(update.snapshot), panel_state.charts(update.snapshot)], allow_nan=False
    ).encode()


def test_the_head_masks_the_key_as_the_record_does() -> None:
    job: Any = SimpleNamespace(
        id="3f2a9c81d0",
        command=SimpleNamespace(label="ssd train"),
        shown="tao ssd train -k ********",
        where="nvcr.io/nvidia/tao/tao-toolkit:5.0.0",
        why="Docker is there",
        log_path="/home/ada/log.txt",
    )
    head = panel_state.head(job, Stages(("a", "b"), 1))
    assert head["command"] == "tao ssd train -k ********"
    assert head["where"] == "nvcr.io/nvidia/tao/tao-toolkit:5.0.0"
    assert head["stage"] == "Stage 2 of 2"
