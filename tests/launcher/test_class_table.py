from __future__ import annotations

import pytest

from taomagic.launcher.class_table import ClassTable
from taomagic.launcher.event_reader import EventReader
from taomagic.launcher.events import Metric

RELEASE_3 = """\
Mean average_precision (in %): 41.4135

class name      average precision (in %)
------------  --------------------------
car                              82.8270
person sitting                    0.0000
cyclist                              nan

Median Inference Time: 0.010700
dog                               10.0
"""
RELEASE_5 = """\
+----------------+--------------------------+
|   class name   | average precision (in %) |
+----------------+--------------------------+
|      car       |    82.82700000000001     |
| person sitting |           0.0            |
|    cyclist     |           nan            |
+----------------+--------------------------+

Median Inference Time: 0.010700
| dog | 10.0 |
"""


@pytest.mark.parametrize("text", [RELEASE_3, RELEASE_5])
def test_rows_are_read_from_the_title_to_the_end_of_the_table(text: str) -> None:
    table = ClassTable()
    rows = [row for line in text.splitlines() if (row := table.read(line)) is not None]
    assert rows == [
        ("car", pytest.approx(0.82827)),
        ("person sitting", 0.0),
        ("cyclist", pytest.approx(float("nan"), nan_ok=True)),
    ]
    assert not table.open


@pytest.mark.parametrize("line", ["car      82.8", "| car | 82.8 |", "the class name is car  1.0"])
def test_without_a_title_no_line_is_a_row(line: str) -> None:
    table = ClassTable()
    assert table.read(line) is None
    assert table.read(line) is None


@pytest.mark.parametrize("text", [RELEASE_3, RELEASE_5])
def test_rows_become_the_average_precisions_of_the_job(text: str) -> None:
    metrics = [event for event in EventReader().feed(text.encode()) if isinstance(event, Metric)]
    by_class = {event.class_name: event.value for event in metrics if event.class_name}
    assert by_class["car"] == pytest.approx(0.82827)
    assert {event.name for event in metrics} - {"mAP", "ms_per_image"} == {
        "AP_car",
        "AP_person sitting",
        "AP_cyclist",
    }
