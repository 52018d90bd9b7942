from __future__ import annotations

from pathlib import Path

import pytest

from taomagic.launcher import hints
from taomagic.launcher.events import EventReader
from taomagic.launcher.progress import SERIES_POINTS, JobState, Progress, Snapshot


def snapshot_of(text: str, *, state: JobState = JobState.RUNNING, elapsed_s: float = 0.0) -> Snapshot:
    progress = Progress(lambda path: Path("/host" + path))
    reader = EventReader()
    for event in [*reader.feed(text.encode()), *reader.close()]:
        progress.add(event)
    return progress.snapshot(
        state=state,
        command="tao ssd train",
        job_id="0",
        label="ssd train",
        exit_code=None,
        elapsed_s=elapsed_s,
    )


def test_eta_counts_the_epochs_to_come() -> None:
    bar = "4/4 [====] - 10s 2s/step - loss: 1.0\n"
    running = " 2/4 [==>.] - ETA: 5s - loss: 1.0\r"
    assert snapshot_of(f"Epoch 1/4\n{bar}Epoch 2/4\n{running}").eta_s == pytest.approx(25)
    assert snapshot_of(f"Epoch 1/4\n{running}").eta_s == pytest.approx(35)


def test_eta_before_the_first_step_is_the_engines_estimate() -> None:
    assert snapshot_of("Estimated time: 2 min 0 s (x)\n", elapsed_s=20).eta_s == pytest.approx(100)
    assert snapshot_of("hello\n").eta_s is None


def test_loss_is_drawn_by_fractions_of_epochs() -> None:
    snapshot = snapshot_of("Epoch 2/4\n 1/4 [>...] - ETA: 5s - loss: 3.0\r4/4 [====] - 1s - loss: 2.0\n")
    assert snapshot.series["loss"] == [(1.25, 3.0), (2.0, 2.0)]
    assert snapshot.fraction == pytest.approx(0.5)
    assert snapshot.history == ({"epoch": 2, "loss": 2.0},)


def test_metrics_without_epochs_make_no_curve() -> None:
    snapshot = snapshot_of("car           AP    0.9\n              mAP   0.9\n")
    assert snapshot.metrics == {"AP_car": 0.9, "mAP": 0.9}
    assert snapshot.per_class_ap == {"car": 0.9}
    assert snapshot.series == {}


def test_nan_is_a_metric_but_no_point() -> None:
    snapshot = snapshot_of("Epoch 1/1\ncar           AP    nan\n")
    assert "AP_car" in snapshot.metrics
    assert snapshot.series == {}


def test_long_series_keep_their_ends() -> None:
    steps = "".join(f"{step}/9999 [=>..] - ETA: 5s - loss: {step}.0\r" for step in range(1, 5000))
    points = snapshot_of("Epoch 1/1\n" + steps).series["loss"]
    assert len(points) <= 2 * SERIES_POINTS
    assert points[0][1] == 1.0
    assert points[-1][1] == 4999.0


def test_transient_line_is_apart_from_the_log() -> None:
    snapshot = snapshot_of("one\n 1/4 [>...] - ETA: 5s\r")
    assert snapshot.lines == ("one",)
    assert snapshot.bar == " 1/4 [>...] - ETA: 5s"


def test_only_the_last_lines_are_kept_and_the_rest_counted() -> None:
    snapshot = snapshot_of("".join(f"{number}\n" for number in range(500)))
    assert len(snapshot.lines) == 200
    assert snapshot.dropped == 300
    assert snapshot.lines[0] == "300"


def test_engines_own_summary_is_the_cause() -> None:
    text = "ValueError: deep inside\nERROR: the spec is wrong\nHINT: mend it\n"
    snapshot = snapshot_of(text, state=JobState.FAILED)
    assert snapshot.cause == "the spec is wrong"
    assert snapshot.errors == ("ValueError: deep inside", "the spec is wrong")
    assert snapshot.hints == ("mend it",)


def test_artefacts_are_listed_once_with_their_place_here() -> None:
    [artefact] = snapshot_of("Saved: /w/a.onnx\nSaved: /w/a.onnx\n").artefacts
    assert (artefact.host, artefact.container, artefact.kind) == (Path("/host/w/a.onnx"), "/w/a.onnx", "onnx")


@pytest.mark.parametrize(
    ("code", "text", "word"),
    [
        (-9, "", "memory"),
        (137, "", "memory"),
        (1, "RuntimeError: CUDA out of memory. Tried", "GPU"),
        (1, "MemoryError", "memory"),
        (1, "OSError: [Errno 28] No space left on device", "disk is full"),
        (1, "ModuleNotFoundError: No module named 'torch'", "taomagic[engine]"),
    ],
)
def test_known_causes_have_a_hint(code: int, text: str, word: str) -> None:
    assert word in hints.guess(code, text)[0]


def test_unknown_causes_have_none() -> None:
    assert hints.guess(1, "something else") == ()
