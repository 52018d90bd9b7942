"""Average precision on cases worked by hand."""

import numpy as np
import pytest

from taomagic.engine.evaluation.average_precision import (
    evaluate_detections,
    integrated_average_precision,
    sampled_average_precision,
)
from taomagic.engine.evaluation.matching import ImageDetections, ImageTruth

BOX, FAR = [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]


def truth(*boxes, labels=None, difficult=None):
    count = len(boxes)
    return ImageTruth(
        np.array(boxes, dtype=float).reshape(-1, 4),
        np.array(labels or [1] * count),
        np.array(difficult or [False] * count, dtype=bool),
    )


def found(*entries):
    return ImageDetections(
        np.array([e[0] for e in entries], dtype=float).reshape(-1, 4),
        np.array([e[1] for e in entries], dtype=float),
        np.array([e[2] if len(e) > 2 else 1 for e in entries], dtype=np.int64),
    )


def average_precision(truths, detections, mode="INTEGRATE", iou=0.5):
    result = evaluate_detections(truths, detections, ["car"], iou_threshold=iou, mode=mode)
    return result.classes["car"].average_precision


@pytest.mark.parametrize("mode", ["SAMPLE", "INTEGRATE"])
def test_perfect_detections_score_one(mode):
    assert average_precision([truth(BOX), truth(FAR)], [found((BOX, 0.9)), found((FAR, 0.3))], mode) == 1.0


def test_sampled_and_integrated_values_of_a_curve_worked_by_hand():
    # Hits: yes, no, yes of two objects -> precision 1, 1/2, 2/3 at recall 1/2, 1/2, 1.
    precision, recall = np.array([1.0, 0.5, 2 / 3]), np.array([0.5, 0.5, 1.0])
    assert sampled_average_precision(precision, recall) == pytest.approx((6 * 1.0 + 5 * 2 / 3) / 11)
    assert integrated_average_precision(precision, recall) == pytest.approx(0.5 * 1.0 + 0.5 * 2 / 3)


@pytest.mark.parametrize("objects", [10, 20, 30, 70])
def test_a_recall_that_equals_a_level_reaches_it(objects):
    for tenths in range(1, 11):
        hits = np.arange(1, objects * tenths // 10 + 1)
        value = sampled_average_precision(np.ones(len(hits)), hits / objects)
        assert value == pytest.approx((tenths + 1) / 11), tenths


def test_a_second_detection_of_the_same_object_is_a_false_positive():
    detections = [found((BOX, 0.9), (BOX, 0.8)), found((FAR, 0.7))]
    assert average_precision([truth(BOX), truth(FAR)], detections) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_a_difficult_object_neither_helps_nor_hurts():
    truths = [truth(BOX, FAR, difficult=[True, False])]
    assert average_precision(truths, [found((BOX, 0.9), (FAR, 0.5))]) == 1.0
    assert average_precision(truths, [found((FAR, 0.5))]) == 1.0


def test_only_the_first_detection_of_a_difficult_object_is_forgiven():
    truths = [truth(BOX, FAR, difficult=[True, False])]
    assert average_precision(truths, [found((BOX, 0.9), (BOX, 0.8), (FAR, 0.5))]) == 0.5


def test_a_class_of_difficult_objects_only_counts_as_zero():
    assert average_precision([truth(BOX, difficult=[True])], [found((BOX, 0.9), (FAR, 0.8))]) == 0.0


def test_a_detection_goes_to_the_next_object_where_a_better_one_took_the_nearest():
    near = [0.0, 0.0, 10.0, 8.0]
    assert average_precision([truth(BOX, near)], [found((BOX, 0.9), (BOX, 0.8))]) == 1.0


def test_sampling_takes_the_best_precision_at_a_recall_or_more_and_nothing_beyond_the_last():
    # 3 of 10 found without a mistake: recalls 0, 0.1, 0.2 and 0.3 are reached.
    precision, recall = np.ones(3), np.array([0.1, 0.2, 3 / 10])
    assert sampled_average_precision(precision, recall) == pytest.approx(4 / 11)
    assert sampled_average_precision(np.empty(0), np.empty(0)) == 0.0


def test_overlap_exactly_at_the_threshold_counts():
    half = [0.0, 0.0, 10.0, 5.0]
    assert average_precision([truth(BOX)], [found((half, 0.9))], iou=0.5) == 1.0
    assert average_precision([truth(BOX)], [found((half, 0.9))], iou=0.51) == 0.0


def test_a_class_without_objects_counts_as_zero_in_the_mean():
    result = evaluate_detections(
        [truth(BOX)], [found((BOX, 0.9))], ["car", "cyclist"], iou_threshold=0.5, mode="INTEGRATE"
    )
    assert result.classes["cyclist"].average_precision == 0.0
    assert result.mean_average_precision == 0.5


def test_nothing_found_and_nothing_there_are_no_errors():
    assert average_precision([truth(BOX)], [found()]) == 0.0
    assert average_precision([truth()], [found()]) == 0.0
    assert average_precision([truth()], [found((BOX, 0.5))]) == 0.0


def test_the_better_overlap_wins_and_classes_do_not_mix():
    near = [1.0, 1.0, 11.0, 11.0]
    truths = [truth(BOX, near)]
    assert average_precision(truths, [found((near, 0.9), (BOX, 0.8))], iou=0.95) == 1.0
    assert average_precision([truth(BOX, labels=[1])], [found((BOX, 0.9, 2))]) == 0.0
