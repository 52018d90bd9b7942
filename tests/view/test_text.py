from __future__ import annotations

import io
import re
from collections.abc import Callable

import pytest

from taomagic.launcher.job import Update
from taomagic.launcher.states import JobState
from taomagic.view.text import TextView

PASS = "Execution status: PASS\n"


def written(
    updates: list[Update], *, terminal: bool = False, clock: Callable[[], float] = lambda: 0.0
) -> str:
    stream = io.StringIO()
    view = TextView(stream, terminal=terminal, clock=clock)
    for update in updates:
        view.show(update)
    view.close(updates[-1].snapshot)
    return stream.getvalue()


@pytest.mark.parametrize("block", [0, 29, 4096])
def test_one_line_per_epoch_however_the_log_arrives(
    block: int, updates_of: Callable[..., list[Update]], training_log: Callable[..., str]
) -> None:
    out = written(updates_of(training_log(3) + PASS, JobState.SUCCEEDED, exit_code=0, block=block))
    lines = re.findall(r"^Epoch .*$", out, re.MULTILINE)
    assert [line[:9] for line in lines] == ["Epoch 1/3", "Epoch 2/3", "Epoch 3/3"]
    for wanted in ("loss 3.3084", "val loss", "mAP 0.6550", "saved ssd_resnet18_epoch_003.tlt"):
        assert wanted in lines[2]
    for noise in (
        "25/25",
        "Producing predictions",
        "*" * 31,
        "Start to calculate",
        "Execution status",
        "\r",
        "\x1b",
    ):
        assert noise not in out


def test_the_time_left_is_told_with_each_epoch(
    updates_of: Callable[..., list[Update]], training_log: Callable[..., str]
) -> None:
    out = written(updates_of(training_log(2, total=8) + "Epoch 3/8\n", block=200))
    assert re.search(r"^Epoch 2/8 .* \d+ s left", out, re.MULTILINE)


def test_messages_come_between_the_epochs_without_their_prefix(
    updates_of: Callable[..., list[Update]],
) -> None:
    log = (
        "Epoch 1/2\n4/4 [====] - 1s - loss: 2.0\n"
        "2026-11-21 09:00:00,123 [TAO Toolkit] [INFO] taomagic.engine.ssd.train 42: half way\n"
        "2026-11-21 09:00:00,123 [TAO Toolkit] [WARNING] taomagic.engine.ssd.train 42: little memory\n"
        "Epoch 2/2\n4/4 [====] - 1s - loss: 1.0\n"
    )
    lines = written(updates_of(log + PASS, JobState.SUCCEEDED, exit_code=0)).splitlines()
    assert lines[1:5] == ["half way", "! little memory", "Epoch 1/2  loss 2.0000", "Epoch 2/2  loss 1.0000"]


def test_telemetry_that_claims_success_beside_a_failure_is_left_out(
    updates_of: Callable[..., list[Update]],
) -> None:
    log = (
        "AssertionError: no images\n"
        "Telemetry data couldn't be sent, but the command ran successfully.\n"
        "[WARNING]: <urlopen error [Errno -2] Name or service not known>\nExecution status: FAIL\n"
    )
    out = written(updates_of(log, JobState.FAILED, exit_code=0))
    assert "✗ AssertionError: no images" in out
    assert "successfully" not in out
    assert "urlopen" not in out


def test_repeated_lines_are_counted_not_repeated(updates_of: Callable[..., list[Update]]) -> None:
    log = "".join(f"image {i:06d}.png has no label\n" for i in range(500)) + "all read\n"
    lines = written(updates_of(log + PASS, JobState.SUCCEEDED, exit_code=0, block=999)).splitlines()
    assert lines[1:6] == [
        "image 000000.png has no label",
        "image 000001.png has no label",
        "image 000002.png has no label",
        "  … 497 more lines like this",
        "all read",
    ]


def test_a_failure_ends_with_cause_hint_exit_code_and_log(updates_of: Callable[..., list[Update]]) -> None:
    out = written(
        updates_of("loading\nERROR: no such file\nHINT: look again\n", JobState.FAILED, exit_code=1)
    )
    assert "✗ no such file\n  Hint: look again" in out
    assert out.endswith(
        "  Cause: no such file\n  Hint: look again\n  Exit code: 1\n"
        "  Full log: /home/ada/tao/.tao/jobs/3f2a9c81d0/log.txt\n"
    )


def test_a_terminal_has_a_live_bar_that_leaves_no_trace(
    updates_of: Callable[..., list[Update]], training_log: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    times = iter(range(10_000))
    updates = updates_of(training_log(3) + PASS, JobState.SUCCEEDED, exit_code=0, block=64)
    out = written(updates, terminal=True, clock=lambda: float(next(times)))
    assert "█" in out
    assert " left" in out
    screen = screen_of(out)
    assert "█" not in "\n".join(screen)
    assert [line[:9] for line in screen if line.startswith("Epoch")] == [
        "Epoch 1/3",
        "Epoch 2/3",
        "Epoch 3/3",
    ]
    for drawn in re.findall(r"\x1b\[K([^\r\n]*)", out):
        assert len(drawn) < 60 or drawn.startswith(("Epoch", "tao"))


def test_the_bar_is_redrawn_at_most_five_times_a_second(
    updates_of: Callable[..., list[Update]], training_log: Callable[..., str]
) -> None:
    times = iter(i * 0.01 for i in range(100_000))
    updates = updates_of("".join(f"{i}/999 [>..] - ETA: 3s - loss: 1\r" for i in range(900)), block=40)
    out = written(updates, terminal=True, clock=lambda: next(times))
    assert out.count("█") + out.count("░") > 0
    assert out.count("\x1b[K") <= len(updates) * 0.01 / 0.2 + 3


def screen_of(text: str) -> list[str]:
    """What a terminal shows after all: a carriage return with "clear to end of line" takes the line away."""
    lines = [""]
    for part in re.findall(r"\r\x1b\[K|\n|[^\r\n\x1b]+", text):
        if part == "\n":
            lines.append("")
        elif part.startswith("\r"):
            lines[-1] = ""
        else:
            lines[-1] += part
    return lines
