"""What an exported SSD answers, in each of its forms."""

from __future__ import annotations

import numpy as np
import pytest

from taomagic.engine.export.detections import rows_of

# Two images: two detections in the first, none in the second.
ROWS = np.zeros((2, 1, 3, 7), np.float32)
ROWS[0, 0, :2] = [[0, 1, 0.9, 0.1, 0.2, 0.3, 0.4], [0, 2, 0.8, 0.5, 0.5, 0.6, 0.6]]
COUNTS = np.array([2, 0], np.int32).reshape(2, 1, 1, 1)


def check(found: list[np.ndarray]) -> None:
    assert [len(rows) for rows in found] == [2, 0]
    np.testing.assert_array_equal(found[0], ROWS[0, 0, :2, 1:])
    assert found[0].dtype == np.float32


def test_nvidias_rows() -> None:
    check(rows_of({"NMS": ROWS, "NMS_1": COUNTS}))


def test_the_plugins_count_is_an_integer_in_a_floats_clothes() -> None:
    check(rows_of({"NMS": ROWS, "NMS_1": COUNTS.view(np.float32)}))


def test_the_four_outputs_of_efficient_nms() -> None:
    outputs = {
        "num_detections": COUNTS.reshape(2, 1),
        "detection_boxes": ROWS[:, 0, :, 3:],
        "detection_scores": ROWS[:, 0, :, 2],
        "detection_classes": ROWS[:, 0, :, 1].astype(np.int32),
    }
    check(rows_of(outputs))


def test_something_else_is_no_detection() -> None:
    with pytest.raises(KeyError):
        rows_of({"output_cov/Sigmoid": ROWS})
