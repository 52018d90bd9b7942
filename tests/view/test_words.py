from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taomagic.view.fold import Folded, Folder, fold, is_progress
from taomagic.view.format import bar, clean, display_width, duration, number, pad, without_prefix
from taomagic.view.summary import epoch_line, folded_tail
from taomagic.view.tables import Table, text_table


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"),
        (math.nan, "–"),
        (-1, "–"),
        (0, "0 s"),
        (1.25, "1.2 s"),
        (9.97, "10 s"),
        (59.6, "1 min 00 s"),
        (190, "3 min 10 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("value", "name", "said"),
    [
        (1.0, "mAP", "1.0000"),
        (0.84567, "mAP", "0.8457"),
        (0.0002, "lr", "2.00e-04"),
        (math.nan, "mAP", "–"),
        (1234567.0, "parameters", "1,234,567"),
        (0.33, "pruning_ratio", "0.33"),
        (math.inf, "loss", "inf"),
        (4.9549, "loss", "4.9549"),
        (0.000264, "validation_loss", "0.000264"),
        (0.0, "loss", "0.0000"),
    ],
)
def test_numbers_have_the_digits_that_matter(value: float, name: str, said: str) -> None:
    assert number(value, name) == said


def test_folding_keeps_the_last_of_a_run_and_its_length() -> None:
    lines = ["start", "step 1 of 3", "step 2 of 3", "step 3 of 3", "", "", "end"]
    assert list(fold(lines)) == [Folded("start"), Folded("step 3 of 3", 3), Folded(""), Folded("end")]


@given(st.lists(st.sampled_from(["a 1", "a 2", "b", ""]), max_size=40))
def test_folding_loses_no_line_that_is_not_counted(lines: list[str]) -> None:
    folded = list(fold(lines))
    assert sum(each.count for each in folded if each.text) == len([line for line in lines if line])


@given(st.lists(st.sampled_from(["a 1", "a 2", "b", "c 0x1f"]), max_size=40), st.integers(1, 4))
def test_a_growing_log_shows_or_counts_every_line(lines: list[str], keep: int) -> None:
    folder = Folder(keep)
    shown = [out for line in lines for out in folder.feed(line)] + folder.flush()
    counted = sum(int(out.split()[1]) if out.startswith("  … ") else 1 for out in shown)
    assert counted == len(lines)


def test_a_short_run_is_shown_rather_than_counted() -> None:
    folder = Folder()
    shown = [out for n in range(6) for out in folder.feed(f"ratio {n}")] + folder.feed("end")
    assert shown == [*(f"ratio {n}" for n in range(6)), "end"]


def test_bars_of_keras_and_tqdm_are_progress() -> None:
    assert is_progress("12/25 [=============>................] - ETA: 4s - loss: 4.9549")
    assert is_progress("Producing predictions:  40%|████      | 4/10 [00:01<00:02]")
    assert not is_progress("Validation loss: 1.23456")


def test_the_tail_of_a_log_is_folded_and_cut() -> None:
    tail = folded_tail(
        ["x" * 50, "img 1", "img 2", "2026-11-21 09:00:00,1 [TAO Toolkit] [INFO] a.b 3: hello"], 3, 20
    )
    assert tail == ["x" * 19 + "…", "img 2  ×2", "hello"]


@given(st.text())
def test_cleaned_text_can_be_written_anywhere(text: str) -> None:
    cleaned = clean(text + "\x1b[31mred\x1b[0m\x07\ud800")
    cleaned.encode()
    assert "\x1b" not in cleaned
    assert "\x07" not in cleaned


def test_levels_other_than_info_stay_in_front() -> None:
    assert without_prefix("2026-11-21 09:00:00,123 [TAO Toolkit] [ERROR] a.b 42: broken") == "ERROR: broken"
    assert without_prefix("2026-11-21 09:00:00,123 [INFO] a.b: old style") == "old style"
    assert without_prefix("2026-11-21 09:00:00,123 [TAO Toolkit] [INFO] a.b 42:") == ""
    assert without_prefix("2026-11-21 09:00:00,123 - [TAO Toolkit] - INFO - TAO 6 (train.py:12)") == "TAO 6"
    assert (
        without_prefix("[2026-11-21 09:00:00,123 - TAO Toolkit - root - WARNING] PyTorch")
        == "WARNING: PyTorch"
    )
    assert without_prefix("INFO:root:plain") == "plain"
    assert without_prefix("no prefix") == "no prefix"


@pytest.mark.parametrize(
    ("fraction", "drawn"), [(0, "░░░░"), (0.5, "██░░"), (1, "████"), (7, "████"), (0.3, "█▎░░")]
)
def test_the_bar_is_drawn_in_eighths(fraction: float, drawn: str) -> None:
    assert bar(fraction, 4) == drawn


def test_an_epoch_that_was_not_evaluated_shows_no_empty_metric() -> None:
    row = {"epoch": 2, "loss": math.nan, "mAP": math.nan, "lr": 2e-4}
    assert epoch_line(row, 80) == "Epoch  2/80  loss –  lr 2.00e-04"


def test_tables_line_up_with_chinese_text_and_several_lines_in_a_cell() -> None:
    lines = text_table(("name", "path"), [("训练集", "A\n/a"), ("x", "/b")])
    assert [display_width(line.partition("/")[0]) for line in lines if "/" in line] == [8, 8]
    assert pad("训", 4) == "训  "


def test_an_empty_table_says_so_in_both_forms() -> None:
    table = Table("TAO jobs", ("job",), (), ("None.",))
    assert str(table) == "TAO jobs\n\nNone."
    assert "<table" not in table._repr_html_()
