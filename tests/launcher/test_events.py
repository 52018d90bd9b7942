from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taomagic.launcher.events import (
    LINE_LIMIT,
    Activity,
    EpochStarted,
    Estimated,
    EventReader,
    Finished,
    Hint,
    Line,
    LineReader,
    Metric,
    Problem,
    Resumed,
    Saved,
    Step,
    clean,
    duration,
)


def events_of(text: str | bytes) -> list[Any]:
    reader = EventReader()
    data = text.encode() if isinstance(text, str) else text
    return [*reader.feed(data), *reader.close()]


def meanings(text: str) -> list[Any]:
    return [event for event in events_of(text) if not isinstance(event, Line)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Epoch 3/80\n", [EpochStarted(3, 80)]),
        ("Epoch 3/80 (quick mode)\n", [EpochStarted(3, 80)]),
        (
            " 12/25 [=============>................] - ETA: 4s - loss: 4.9549\r",
            [Step(12, 25, 4.0, None, (("loss", 4.9549),))],
        ),
        (
            "25/25 [==============================] - 9s 351ms/step - loss: 4.9549 - lr: 1e-3\n",
            [Step(25, 25, None, 9.0, (("loss", 4.9549), ("lr", 0.001)))],
        ),
        (
            "3/9 [=>.] - ETA: 1:02 - loss: nan\r",
            [Step(3, 9, 62.0, None, (("loss", pytest.approx(float("nan"), nan_ok=True)),))],
        ),
        ("Epoch 00003: saving model to /w/a b/ssd_003.tlt\n", [Saved("/w/a b/ssd_003.tlt", "tlt")]),
        ("Saved: /w/ssd.etlt\n", [Saved("/w/ssd.etlt", "etlt")]),
        (
            "Producing predictions:  40%|████      | 4/10 [00:01<00:02]\r",
            [Activity("Producing predictions", 4, 10, 2.0)],
        ),
        (
            "Producing predictions:  40%|████      | 4/10 [00:01<00:02,  3.10it/s]\r",
            [Activity("Producing predictions", 4, 10, 2.0)],
        ),
        ("car           AP    0.91234\n", [Metric("AP_car", 0.91234, "car")]),
        (
            "traffic light AP    nan\n",
            [Metric("AP_traffic light", pytest.approx(float("nan"), nan_ok=True), "traffic light")],
        ),
        ("              mAP   0.84567\n", [Metric("mAP", 0.84567)]),
        ("Validation loss: 1.23456\n", [Metric("validation_loss", 1.23456)]),
        ("Pruning ratio (pruned model / original model): 0.33\n", [Metric("pruning_ratio", 0.33)]),
        (
            "2026-11-21 09:00:00,123 [TAO Toolkit] [INFO] a.b 4: Pruning ratio (pruned model / original model): 0.33\n",
            [Metric("pruning_ratio", 0.33)],
        ),
        ("Parameters: 458,512\n", [Metric("parameters", 458512.0)]),
        ("Model file: 1.94 MB\n", [Metric("model_mb", 1.94)]),
        ("Median inference time: 3.1 ms per image (batch size 1)\n", [Metric("ms_per_image", 3.1)]),
        ("Mean average_precision (in %): 40.5\n", [Metric("mAP", pytest.approx(0.405))]),
        (
            "Epoch 3/120: loss: 0.5 learning rate: 1e-5 Time taken: 0:00:12.5 ETA: 0:10:00\n",
            [EpochStarted(3, 120), Step(1, 1, None, 12.5, (("loss", 0.5), ("lr", 1e-5)))],
        ),
        ("ERROR: no file\nHINT: look\n", [Problem("error", "no file", "marked"), Hint("look")]),
        (
            "2026-11-21 09:00:00,123 [TAO Toolkit] [WARNING] taomagic.engine 42: odd\n",
            [Problem("warning", "odd", "log")],
        ),
        ("ValueError: bad\n", [Problem("error", "ValueError: bad", "traceback")]),
        ("Execution status: PASS\n", [Finished(passed=True)]),
        ("Execution status: FAIL", [Finished(passed=False)]),
        ("Resuming from epoch 7: ssd_007.tlt\n", [Resumed(7, "Resuming from epoch 7: ssd_007.tlt")]),
        ("Estimated time: 3 min 10 s (25 steps)\n", [Estimated(190.0, "3 min 10 s (25 steps)")]),
        ("Epoch of man 3/4\nloss: 3\nAP\n mAP\n", []),
    ],
)
def test_line_means(text: str, expected: list[Any]) -> None:
    assert meanings(text) == expected


def test_final_bar_after_carriage_return_replaces_transient_one() -> None:
    lines = [event for event in events_of("a\rbb\rccc\nd\r\n") if isinstance(event, Line)]
    assert [(line.text, line.transient) for line in lines] == [
        ("a", True),
        ("bb", True),
        ("ccc", False),
        ("d", True),
        ("d", False),
    ]


def test_colours_and_control_characters_go() -> None:
    assert clean("\x1b[1;31mred\x1b[0m \x1b]0;title\x07tab\there\x08 \x1b[") == "red tab    here"


def test_log_level_is_kept() -> None:
    [line, *_] = events_of("2026-11-21 09:00:00,123 [TAO Toolkit] [ERROR] x 1: no\n")
    assert line.level == "ERROR"


def test_huge_line_is_cut_and_says_so() -> None:
    [line] = list(LineReader().feed(b"x" * (LINE_LIMIT + 100) + b"\n"))
    assert line.text == "x" * LINE_LIMIT + " … [100 characters more]"


def test_duration_reads_units() -> None:
    assert duration("1 h 3 min 10 s") == 3790
    assert duration("351ms") == pytest.approx(0.351)
    assert duration("soon") == 0


PIECES = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        [
            "\r",
            "\n",
            "\r\n",
            "\x1b[31m",
            "Epoch 1/2\n",
            "3/4 [==>.] - ETA: 1s - loss: 1.5\r",
            "Saved: /a.tlt\n",
            "é",
            "ü\r\n",
        ]
    ),
)


@given(st.lists(PIECES, max_size=20), st.lists(st.integers(0, 200), max_size=10))
def test_any_chunking_gives_the_same_events(pieces: list[str], cuts: list[int]) -> None:
    data = "".join(pieces).encode("utf-8", "surrogatepass")
    reader = EventReader()
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    chunked = [event for start, end in pairwise(places) for event in reader.feed(data[start:end])]
    chunked += reader.close()
    assert repr(chunked) == repr(events_of(data))


@given(st.binary(max_size=400))
def test_any_bytes_are_read_without_error(data: bytes) -> None:
    for event in events_of(data):
        if isinstance(event, Line):
            assert "\n" not in event.text
            assert "\x1b" not in event.text


@pytest.mark.parametrize(
    "text", [" " * 20000, "a " * 9000, "a." * 9000, "%|" * 5000, "1/" * 9000 + " [", "x" * 9000 + " AP "]
)
def test_odd_long_lines_take_no_time(text: str) -> None:
    began = time.process_time()
    events_of(text + "\n")
    assert time.process_time() - began < 0.2
