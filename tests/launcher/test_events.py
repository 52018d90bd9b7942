from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taomagic.launcher.event_reader import EventReader
from taomagic.launcher.events import (
    Activity,
    EpochStarted,
    Estimated,
    Finished,
    Hint,
    Line,
    Metric,
    Noise,
    Problem,
    Resumed,
    Saved,
    Step,
)
from taomagic.launcher.lines import LINE_LIMIT, LineReader, clean
from taomagic.launcher.log_forms import without_noise
from taomagic.launcher.log_numbers import duration


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


@pytest.mark.parametrize(
    "prefix",
    [
        "2026-11-21 09:00:00,123 [TAO Toolkit] [{}] nvidia_tao_tf1.cv.common.entrypoint 42: ",
        "2026-11-21 09:00:00,123 [{}] iva.common.logging: ",
        "2026-11-21 09:00:00,123 - [TAO Toolkit] - {} - ",
        "[2026-11-21 09:00:00,123 - TAO Toolkit - root - {}] ",
        "[2026-11-21 09:00:00,123 - TAO Toolkit - TAO Toolkit - {}] ",
        "[2026-11-21 09:00:00,123][nvidia_tao_pytorch.core][{}] - ",
        "{}:root:",
    ],
)
def test_records_of_every_release_are_read(prefix: str) -> None:
    assert meanings(prefix.format("INFO") + "Execution status: PASS") == [Finished(passed=True)]
    # A level doesn't make the status a problem of its own.
    assert meanings(prefix.format("ERROR") + "Execution status: FAIL") == [Finished(passed=False)]
    assert meanings(prefix.format("ERROR") + "no images") == [Problem("error", "no images", "log")]
    assert meanings(prefix.format("WARNING") + "few images") == [Problem("warning", "few images", "log")]
    assert meanings(prefix.format("INFO") + "many images") == []
    assert [line.level for line in events_of(prefix.format("CRITICAL") + "x")[:1]] == ["ERROR"]


def test_a_record_of_tao_6_names_its_place_at_the_end() -> None:
    prefix = "2026-04-30 15:40:41,906 - [TAO Toolkit] - "
    assert meanings(prefix + "INFO - Execution status: PASS (entrypoint.py:376)") == [Finished(passed=True)]
    assert meanings(prefix + "ERROR - no images (in /data) (train.py:12)") == [
        Problem("error", "no images (in /data)")
    ]


def test_a_record_behind_an_unfinished_bar_is_read() -> None:
    log = (
        "Epoch 29: 100%|██████████| 1/1 [00:01<00:00,  0.99it/s, v_num=1, val_loss=0.086]"
        "2026-04-30 15:40:41,162 - [TAO Toolkit] - INFO - Execution status: FAIL (entrypoint.py:355)\n"
    )
    assert meanings(log) == [Activity("Epoch 29", 1, 1, 0.0), Finished(passed=False)]


def noise_in(text: str) -> list[str]:
    found = events_of(text)
    return [
        line.text for line, event in pairwise(found) if isinstance(event, Noise) and isinstance(line, Line)
    ]


# As the entry points of TF1, TF2, PyTorch and deploy and nvidia_tao_core.telemetry print them.
NOT_SENT = "Telemetry data couldn't be sent, but the command ran successfully."
PYTORCH = "[2026-11-21 09:00:00,123 - TAO Toolkit - root - WARNING] "
TAO_6 = "2026-11-21 09:00:00,123 - [TAO Toolkit] - WARNING - "


@pytest.mark.parametrize(
    "text",
    [
        f"{NOT_SENT}\n[WARNING]: <urlopen error [Errno -2] Name or service not known>\n",
        f"{NOT_SENT}\n[Error]: HTTPSConnectionPool(host='api.tao.ngc.nvidia.com', port=443): Max retries exceeded\n",
        f"{NOT_SENT}\n\n[Error]: 'str' object has no attribute 'decode'\n",
        f"WARNING:root:{NOT_SENT}\nWARNING:root:[Error]: timed out\n",
        f"{PYTORCH}{NOT_SENT}\n{PYTORCH}[Error]: timed out\n",
        f"{TAO_6}{NOT_SENT} (entrypoint.py:355)\n" * 3
        + f"{TAO_6}[Error]: timed out (entrypoint.py:356)\n" * 3,
        f"[1,0]<stdout>:{NOT_SENT}\n[1,0]<stdout>:[WARNING]: <urlopen error timed out>\n",
        f"{PYTORCH}Telemetry reporting script cannot import with [Error]: No module named 'x'\n",
        "INFO:root:================> Start Reporting Telemetry <================\n"
        "INFO:root:Sending {'version': '5.3.0', 'action': 'train'} to https://api.tao.ngc.nvidia.com.\n"
        "ERROR:root:Failed with reponse: <Response [502]>\n"
        "INFO:root:================> End Reporting Telemetry <================\n",
        "Sending telemetry data.\n",
        "Could not send telemetry: timeout\n",
    ],
)
def test_telemetry_is_noise_and_no_problem(text: str) -> None:
    found = events_of(text + "Execution status: FAIL\n")
    lines = [event for event in found if isinstance(event, Line)]
    assert noise_in(text) == [line for line in text.splitlines() if line]
    assert [event for event in found if not isinstance(event, (Line, Noise))] == [Finished(passed=False)]
    assert {line.level for line in lines} == {""}
    assert [line.text for line in lines] == [
        *text.splitlines(),
        "Execution status: FAIL",
    ]  # the log stays as it is
    assert without_noise(line.text for line in lines if line.text) == ["Execution status: FAIL"]


@pytest.mark.parametrize(
    "text",
    [
        "ModuleNotFoundError: No module named 'nvidia_tao_core.telemetry'\n",
        "ERROR: the telemetry of the robot couldn't be read\n",
        "2026-11-21 09:00:00,123 [TAO Toolkit] [ERROR] x.telemetry 1: no images\n",
    ],
)
def test_a_failure_that_only_names_telemetry_is_a_failure(text: str) -> None:
    assert noise_in(text) == []
    assert [event.severity for event in meanings(text)] == ["error"]


def test_what_comes_after_telemetry_counts_again() -> None:
    log = f"{NOT_SENT}\n[Error]: timed out\n[ERROR]: disk full\n"
    assert len(noise_in(log)) == 3  # such a line right behind belongs to it
    log = f"{NOT_SENT}\nValueError: bad\n[Error]: x\n"
    assert len(noise_in(log)) == 1
    assert Problem("error", "ValueError: bad", "traceback") in meanings(log)


def test_a_report_that_never_ends_hides_no_failure() -> None:
    start = "INFO:root:================> Start Reporting Telemetry <================\n"
    assert Problem("error", "ValueError: bad", "traceback") in meanings(
        start + "Traceback (most recent call last):\n  File x\nValueError: bad\n"
    )
    assert Problem("error", "bad", "marked") in meanings(start + "line\n" * 20 + "ERROR: bad\n")
    assert Finished(passed=False) in meanings(start + "Execution status: FAIL\n")


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
            "Telemetry data couldn't be sent\n",
            "[Error]: x\n",
            "Epoch 1/4: loss: 0.5 learning rate: 1e-5 Time taken: 0:00:12.5 ETA: 0:10:00\n",
            "INFO:tensorflow:epoch = 0.5, learning_rate = 1e-05, loss = 0.25, step = 5 (5.1 sec)\n",
            "Epoch 1/4\n",
            "class name      average precision (in %)\n",
            "car                              82.7706\n",
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
