"""DetectNet_v2's average precision against worked examples and a slow reference written from section 5.7."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.engine.detectnet_v2.average_precision import Mode, average_precision, class_result
from taomagic.engine.detectnet_v2.clustering import Detections
from taomagic.spec.settings_detectnet_v2 import BoxFilterSettings

ANY_SIZE = BoxFilterSettings(0, 9999, 0, 9999)


def found(*boxes: tuple[float, float, float, float, float]) -> Detections:
    rows = np.array(boxes, np.float32).reshape(-1, 5)
    return Detections(rows[:, :4], rows[:, 4])


def slow(
    truths: list[np.ndarray],
    detections: list[Detections],
    limits: BoxFilterSettings,
    overlap: float,
    mode: Mode,
) -> float:
    def fits(box: list[float]) -> bool:
        w, h = box[2] - box[0], box[3] - box[1]
        return (
            limits.minimum_width <= w <= limits.maximum_width
            and limits.minimum_height <= h <= limits.maximum_height
        )

    wanted = [[[round(v) for v in box] for box in truth.tolist() if fits(box)] for truth in truths]
    objects = sum(map(len, wanted))
    ranked = sorted(
        (
            (-float(score), image, [round(v) for v in box])
            for image, one in enumerate(detections)
            for box, score in zip(one.boxes.tolist(), one.confidence.tolist(), strict=True)
            if fits(box)
        ),
        key=lambda entry: entry[0],
    )
    free = [[True] * len(boxes) for boxes in wanted]
    hits = []
    for _, image, box in ranked:
        best, place = 0.0, -1
        for j, truth in enumerate(wanted[image]):
            w = min(box[2], truth[2]) - max(box[0], truth[0]) + 1
            h = min(box[3], truth[3]) - max(box[1], truth[1]) + 1
            shared = max(w, 0) * max(h, 0)
            area = (box[2] - box[0] + 1) * (box[3] - box[1] + 1) + (truth[2] - truth[0] + 1) * (
                truth[3] - truth[1] + 1
            )
            if shared / (area - shared) > best:
                best, place = shared / (area - shared), j
        hit = place >= 0 and best >= overlap and free[image][place]
        if hit:
            free[image][place] = False
        hits.append(hit)
    if not objects or not hits:
        return 0.0
    points = [(sum(hits[: i + 1]) / objects, sum(hits[: i + 1]) / (i + 1)) for i in range(len(hits))]
    if mode == "SAMPLE":
        return sum(max((p for r, p in points if r >= t / 10 - 1e-12), default=0.0) for t in range(11)) / 11
    area, levels = 0.0, sorted({r for r, _ in points})
    for low, high in pairwise(levels):
        area += (high - low) * max((p for r, p in points[:-1] if r >= low), default=0.0)
    return area


def test_a_perfect_result_has_one_by_samples_and_all_but_the_first_step_by_area() -> None:
    truth = [np.array([[0, 0, 50, 50], [100, 0, 150, 50]], float)]
    detections = [found((0, 0, 50, 50, 2.0), (100, 0, 150, 50, 1.0))]
    assert value_of(truth, detections, ANY_SIZE, overlap=0.5, mode="SAMPLE") == 1.0
    # From recall 0.5 to 1: what lies before the first recall isn't counted.
    assert value_of(truth, detections, ANY_SIZE, overlap=0.5, mode="INTEGRATE") == 0.5


def test_a_second_detection_of_an_object_is_wrong_even_beside_a_free_one() -> None:
    truth = [np.array([[0, 0, 50, 50], [8, 0, 58, 50]], float)]
    detections = [found((0, 0, 50, 50, 3.0), (1, 0, 51, 50, 2.0))]
    value = value_of(truth, detections, ANY_SIZE, overlap=0.5, mode="SAMPLE")
    assert value == pytest.approx(6 / 11), "recall stays at a half"


def test_boxes_outside_the_size_limits_do_not_exist() -> None:
    truth = [np.array([[0, 0, 50, 19], [100, 0, 150, 50]], float)]
    detections = [found((0, 0, 50, 19, 3.0), (100, 0, 150, 50, 1.0))]
    limits = BoxFilterSettings(20, 9999, 10, 9999)
    assert value_of(truth, detections, limits, overlap=0.7, mode="SAMPLE") == 1.0


def test_no_objects_and_no_detections_count_as_zero() -> None:
    nothing, boxes = np.zeros((0, 4)), np.array([[0, 0, 9, 9.0]])
    for truth, detections in ((nothing, found((0, 0, 9, 9, 1.0))), (boxes, found()), (nothing, found())):
        assert value_of([truth], [detections], ANY_SIZE, overlap=0.5, mode="INTEGRATE") == 0.0
    assert average_precision(np.zeros(0), np.zeros(0), "SAMPLE") == 0.0


def value_of(
    truths: list[np.ndarray], detections: list[Detections], limits: BoxFilterSettings, **more: Any
) -> float:
    return class_result(zip(truths, detections, strict=True), limits, **more).average_precision


BOX = st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(1, 30), st.integers(1, 30)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
IMAGE = st.tuples(st.lists(BOX, max_size=4), st.lists(BOX, max_size=6))


@settings(max_examples=120, deadline=None)
@given(
    st.lists(IMAGE, min_size=1, max_size=3),
    st.permutations(list(range(18))),
    st.sampled_from([0.3, 0.5, 0.7]),
    st.sampled_from(["SAMPLE", "INTEGRATE"]),
    st.sampled_from([ANY_SIZE, BoxFilterSettings(8, 25, 4, 28)]),
)
def test_the_value_is_that_of_the_slow_reference(
    images: list[tuple[list, list]], order: list[int], overlap: float, mode: Mode, limits: BoxFilterSettings
) -> None:
    scores = iter(order)
    truths = [np.array(truth, float).reshape(-1, 4) for truth, _ in images]
    detections = [found(*((*box, float(next(scores))) for box in boxes)) for _, boxes in images]
    value = value_of(truths, detections, limits, overlap=overlap, mode=mode)
    assert value == pytest.approx(slow(truths, detections, limits, overlap, mode), abs=1e-6)
