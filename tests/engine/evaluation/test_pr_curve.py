"""The recorded curve: what was found, nothing more, and never too much of it."""

from __future__ import annotations

import numpy as np

from taomagic.engine.evaluation.average_precision import ClassResult
from taomagic.engine.evaluation.pr_curve import MAX_POINTS, curve_points


def result(hits: list[bool], objects: int) -> ClassResult:
    found = np.cumsum(hits)
    return ClassResult(0.0, found / np.arange(1, len(hits) + 1), found / objects, objects)


def test_each_object_found_is_a_point_and_the_end_of_the_curve_is_one_too() -> None:
    points = curve_points(result([True, False, True, False, False], 4))
    assert points == [(0.25, 1.0), (0.5, 0.6667), (0.5, 0.4)]


def test_a_curve_that_ends_with_an_object_has_no_point_twice() -> None:
    assert curve_points(result([False, True], 1)) == [(1.0, 0.5)]


def test_detections_that_found_nothing_leave_one_point_and_no_detections_none() -> None:
    assert curve_points(result([False, False], 3)) == [(0.0, 0.0)]
    assert curve_points(result([], 3)) == []


def test_a_long_curve_is_thinned_and_keeps_both_ends() -> None:
    points = curve_points(result([True, True, False] * 2000, 5000))
    assert len(points) == MAX_POINTS
    assert points[0] == (0.0002, 1.0)
    assert points[-1] == (0.8, 0.6667)
