"""A comparison's names, boxes, pictures and words."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from taomagic.engine.comparison import timing
from taomagic.engine.comparison.command import table
from taomagic.engine.comparison.contest import Contender, Result, short_names, time_all, verdicts
from taomagic.engine.comparison.pictures import changes, matched, shown, side_by_side
from taomagic.engine.evaluation.matching import ImageDetections


def result(
    name: str,
    mean: float,
    milliseconds: float,
    precision: str = "fp32",
    place: str = "CPU, ONNX Runtime",
    parameters: int = 10,
) -> Result:
    contender = Contender(
        name,
        name,
        Path(name),
        "engine",
        place,
        precision,
        parameters,
        lambda images: [],
        lambda: None,  # type: ignore
    )
    found = Result(contender, mean, {"car": mean, "van": mean - 0.1}, 4.0)
    found.latency_ms = {"median": milliseconds, "p95": milliseconds + 1}
    found.throughput = {1: 1000 / milliseconds}
    return found


def boxes(*rows: tuple[float, float, float, float, float, int]) -> ImageDetections:
    values = np.array(rows, np.float64).reshape(-1, 6)
    return ImageDetections(values[:, :4], values[:, 4], values[:, 5].astype(np.int64))


def test_names_are_as_short_as_they_can_be() -> None:
    assert short_names(["a/x.trt", "b/y.trt"]) == ["x.trt", "y.trt"]
    assert short_names(["r/a/x.trt", "r/b/x.trt"]) == ["a/x.trt", "b/x.trt"]
    assert short_names(["x.trt", "/x.trt"]) == ["x.trt", "//x.trt"]


def test_a_drop_over_the_bound_is_said_with_what_to_try() -> None:
    results = [
        result("m.tlt", 0.8, 20, place="CPU"),
        result("f.trt", 0.8, 10),
        result("i.trt", 0.75, 5, "int8"),
    ]
    words, best = verdicts(results, 0.01)
    assert words[0].startswith("i.trt: mAP 0.750 is 0.050 below m.tlt (0.800), and 0.01 is the bound.")
    assert "enable_qat" in words[0]
    assert best is results[1]
    assert words[-1].startswith("Recommended: f.trt, 2.0 × as fast as m.tlt, mAP +0.000")
    words, best = verdicts(results, 0.1)
    assert len(words) == 1
    assert best is results[2]


def test_int8_that_gains_nothing_is_said() -> None:
    results = [
        result("m.tlt", 0.8, 20, place="CPU"),
        result("f.trt", 0.8, 4),
        result("i.trt", 0.8, 5, "int8"),
    ]
    words, best = verdicts(results, 0.01)
    assert words[0] == (
        "i.trt takes 5.0 ms, f.trt 4.0 ms: this network is too small for int8 to be faster on this processor. "
        "Use fp32 here."
    )
    assert best is results[1]
    # Against PyTorch it would be unfair.
    assert len(verdicts([results[0], results[2]], 0.01)[0]) == 1


def test_a_pruned_model_is_told_from_a_wrong_export() -> None:
    words, _ = verdicts([result("m.tlt", 0.8, 20), result("p.tlt", 0.5, 9, parameters=5)], 0.01)
    assert "train it again after pruning" in words[0]
    words, _ = verdicts([result("m.tlt", 0.8, 20), result("o.onnx", 0.5, 9)], 0.01)
    assert "Check that it was exported" in words[0]


def test_int8_is_measured_against_the_same_network() -> None:
    results = [
        result("m.onnx", 0.8, 20),
        result("p.onnx", 0.8, 4, parameters=5),
        result("i.trt", 0.8, 9, "int8"),
    ]
    assert not any("too small for int8" in sentence for sentence in verdicts(results, 0.01)[0])


def test_the_reference_may_be_the_best() -> None:
    results = [result("m.onnx", 0.8, 4), result("i.trt", 0.7, 2, "int8")]
    words, best = verdicts(results, 0.01)
    assert best is results[0]
    assert words[-1] == "Recommended: m.onnx. Nothing here is faster and as precise."


def test_the_table_has_a_row_for_each() -> None:
    lines = table([result("m.tlt", 0.8, 20), result("long name.trt", 0.75, 5, "int8")], ("car", "van"), [1])
    assert lines[0].split() == [
        "model", "precision", "mAP", "AP", "car", "AP", "van", "MB", "ms", "p95", "ms", "img/s", "b1",
    ]  # fmt: skip
    assert lines[2].split() == ["m.tlt", "fp32", "0.800", "0.800", "0.700", "4.0", "20.0", "21.0", "50.0"]
    assert len({len(line) for line in lines}) == 1


def test_boxes_are_paired_by_overlap_within_a_class() -> None:
    mine = boxes((0, 0, 10, 10, 0.9, 1), (0, 0, 10, 11, 0.8, 1), (50, 50, 60, 60, 0.7, 2))
    theirs = boxes((0, 0, 10, 10, 0.9, 1), (50, 50, 60, 60, 0.7, 1))
    here, there = matched(mine, theirs)
    assert here.tolist() == [True, False, False]
    assert there.tolist() == [True, False]
    assert changes(mine, theirs) == 3
    assert changes(mine, mine) == 0
    assert changes(boxes(), theirs) == 2
    assert len(shown(mine, 0.75).scores) == 2


def test_changed_boxes_are_drawn_in_their_colours() -> None:
    picture = np.zeros((60, 300, 3), np.uint8)
    reference, other = boxes((10, 20, 40, 50, 0.9, 1)), boxes((100, 20, 140, 50, 0.9, 1))
    drawn, share = side_by_side([picture], [[reference], [reference], [other]], ["a", "b", "c"], ["car"])
    assert drawn.shape == (60 + 2 * 22, 3 * 300 + 2 * 4, 3)
    assert share == pytest.approx((60 + 22) / (60 + 2 * 22))
    row = drawn[22 + 50]  # the lower edge of the boxes
    assert row[25].tolist() == [90, 200, 110]
    assert row[304 + 25].tolist() == [90, 200, 110], "the same box"
    assert row[608 + 25].tolist() == [235, 60, 60], "missing"
    assert row[608 + 120].tolist() == [255, 190, 0], "new"


def test_many_contenders_stand_in_rows_that_a_page_can_show() -> None:
    pictures = [np.zeros((60, 480, 3), np.uint8)] * 2
    found = [[boxes(), boxes()] for _ in range(5)]
    drawn, share = side_by_side(pictures, found, list("abcde"), ["car"])
    group = 2 * (60 + 22) + 4
    assert drawn.shape == (2 * group + 14 + 22, 3 * 480 + 2 * 4, 3)
    assert share == pytest.approx(group / len(drawn))


def test_all_have_their_turn_in_every_round(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(timing.time, "sleep", lambda seconds: None)
    order: list[str] = []
    taken = timing.in_turn([lambda: order.append("a"), lambda: order.append("b")], rounds=2)
    assert "".join(order) == "aaaabbbb" * 2, "one that doesn't count, and three that do"
    assert [len(seconds) for seconds in taken] == [6, 6]


def test_latency_is_that_of_one_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "_SECONDS", 0.0)
    monkeypatch.setattr(timing, "_REST_S", 0.0)
    sizes: list[int] = []
    found = result("a", 0.5, 1)
    object.__setattr__(found.contender, "find", lambda images: sizes.append(len(images)))
    found.throughput = {}
    time_all([found], torch.zeros(3, 3, 4, 4), [2, 5])
    assert set(sizes) == {1, 2, 5}
    assert set(found.throughput) == {2, 5}
    assert found.latency_ms["median"] <= found.latency_ms["p95"]
