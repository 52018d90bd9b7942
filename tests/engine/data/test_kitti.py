"""Label files: strict for conversion, lenient for training, and errors that name file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from taomagic.engine.data.kitti import Objects, TrainingLabels, read_labels, read_training_labels
from taomagic.errors import DataProblem

ROW = "Car 0.10 2 -1.57 10.5 20 60 70 1.5 1.6 4.0 2.0 1.7 12.5 -1.4"
IDS = {"car": 1, "van": 1, "pedestrian": 2}


def write(folder: Path, text: str) -> Path:
    path = folder / "000000.txt"
    path.write_text(text)
    return path


def test_all_fifteen_fields_are_read(tmp_path: Path) -> None:
    found = read_labels(write(tmp_path, f"\n{ROW}\n\nVan {' '.join('0' * 14)}\n"))
    first = [column[0] for column in found]
    assert first == ["Car", 0.1, 2, -1.57, 10.5, 20, 60, 70, 1.5, 1.6, 4.0, 2.0, 1.7, 12.5, -1.4, 0]
    assert [column[1] for column in found] == ["Van", *[0] * 14, 1]
    assert [column[0] for column in found.keep([False, True])] == ["Van", *[0] * 14, 1]


@pytest.mark.parametrize("text", [f"{ROW} 0.99", ROW.rsplit(" ", 1)[0], "Car"])
def test_a_wrong_number_of_fields_names_file_and_line(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, f"{ROW}\n{text}\n")
    with pytest.raises(DataProblem, match="fields instead of 15") as caught:
        read_labels(path, shown_as="/workspace/label_2/000000.txt")
    assert caught.value.where == "/workspace/label_2/000000.txt:2"


@pytest.mark.parametrize("wrong", ["x", "nan", "inf"])
def test_what_is_no_number_names_file_and_line(tmp_path: Path, wrong: str) -> None:
    path = write(tmp_path, ROW.replace("10.5", wrong))
    for read in (read_labels, lambda p: read_training_labels(p, IDS)):
        with pytest.raises(DataProblem, match="isn't a number") as caught:
            read(path)
        assert caught.value.where == f"{path}:1"


def test_missing_and_binary_files_are_data_problems(tmp_path: Path) -> None:
    with pytest.raises(DataProblem, match="doesn't exist"):
        read_labels(tmp_path / "none.txt")
    path = tmp_path / "binary.txt"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataProblem, match="isn't text"):
        read_labels(path)


def test_training_skips_and_counts_short_rows_and_unknown_classes(tmp_path: Path) -> None:
    text = f"{ROW}\nCar 0 0 0 1 2 3 4\nTram 0 0 0 1 2 3 4 5\nPEDESTRIAN 0 0 0 1 2 3 4 5\n"
    read = read_training_labels(write(tmp_path, text), IDS)
    np.testing.assert_array_equal(read.classes, [1, 2])
    np.testing.assert_array_equal(read.difficult, [True, False])
    np.testing.assert_array_equal(read.boxes, np.array([[10.5, 20, 60, 70], [1, 2, 3, 4]], np.float32))
    assert read.short_rows == 1
    assert dict(read.unknown) == {"tram": 1}


def test_an_empty_file_has_no_boxes(tmp_path: Path) -> None:
    read = read_training_labels(write(tmp_path, "\n"), IDS)
    assert read.boxes.shape == (0, 4)
    assert read_labels(write(tmp_path, "")) == Objects()


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("\ufeff" + ROW, ["Car"]),  # a byte order mark
        (ROW.replace(" ", "\t") + "\r\n" + ROW + "  \r\n\r\n", ["Car", "Car"]),
        (f"  {ROW}", ["Car"]),
        (ROW.replace("Car", "CAR"), ["CAR"]),
        (ROW.replace("Car", "Auto\u00e9"), ["Auto\u00e9"]),
        (ROW.replace("10.5", "-10.5").replace(" 60 ", " 1e4 "), ["Car"]),  # beyond the image
    ],
)
def test_ways_to_write_a_file_that_are_fine(tmp_path: Path, text: str, names: list[str]) -> None:
    path = tmp_path / "000000.txt"
    path.write_bytes(text.encode())
    assert list(read_labels(path).names) == names
    read = read_training_labels(path, IDS)
    assert len(read.classes) + sum(read.unknown.values()) == len(names)


@pytest.mark.parametrize("wrong", ["1e300", "-1e39", "1_0x", "--1", "0x10"])
def test_numbers_that_nobody_can_mean_are_named(tmp_path: Path, wrong: str) -> None:
    path = write(tmp_path, f"{ROW}\n{ROW.replace('70', wrong)}\n")
    for read in (read_labels, lambda p: read_training_labels(p, IDS)):
        with pytest.raises(DataProblem, match="isn't a number") as caught:
            read(path)
        assert caught.value.where == f"{path}:2"


def test_large_numbers_that_are_ones_stay(tmp_path: Path) -> None:
    found = read_labels(write(tmp_path, ROW.replace("10.5", "1.5e9").replace("60", "2e9")))
    assert (found.x1, found.x2) == ([1.5e9], [2e9])


WORDS = st.one_of(
    st.sampled_from(["Car", "car", "DontCare", "0", "-1", "nan", "inf", "1e999", "\x00", "\ufeff", "3.7"]),
    st.floats(-1e6, 1e6).map(str),
    st.text(max_size=5),
)
LINES = st.lists(WORDS, max_size=17).map(" ".join)


@hypothesis_settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.one_of(st.lists(LINES, max_size=6).map(lambda rows: "\n".join(rows).encode()), st.binary()))
def test_random_text_gives_objects_or_one_clear_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "random.txt"
    path.write_bytes(content)
    for read in (read_labels, lambda p: read_training_labels(p, IDS)):
        said = None
        try:
            found = read(path)
            boxes = found.boxes if isinstance(found, TrainingLabels) else np.array([found.x1, found.y2])
            assert np.isfinite(boxes).all()
        except DataProblem as problem:
            said = problem
        assert said is None or (said.where.startswith(str(path)) and said.hint)
