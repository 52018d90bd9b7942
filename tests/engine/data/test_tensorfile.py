"""Calibration tensor files: what is written comes back; what is no such file, or half of one, is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from taomagic.engine.data.tensorfile import read_batches, read_count, write_batches
from taomagic.errors import DataProblem

Array = NDArray[np.float32]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=12),
    image=arrays(np.float32, (3, 5, 7), elements=st.floats(-(2.0**90), 2.0**90, width=32)),
)
def test_batches_come_back_as_written(tmp_path: Path, sizes: list[int], image: Array) -> None:
    path = tmp_path / "calibration.tensor"
    path.unlink(missing_ok=True)
    written = [np.stack([image * (i + 1) for i in range(size)]) for size in sizes]
    assert write_batches(path, iter(written)) == len(sizes) == read_count(path)
    found = list(read_batches(path))
    assert len(found) == len(written)
    assert all(np.array_equal(one, other) for one, other in zip(found, written, strict=True))


def test_the_layout_is_that_of_the_original(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "calibration.tensor"
    write_batches(path, [np.zeros((2, 3, 4, 4), np.float32)] * 3)
    with h5py.File(path) as file:
        assert file.attrs["count"] == 3
        assert list(file) == ["batch_00000", "batch_00001", "batch_00002"]
        assert file["batch_00001/input_1"].compression == "gzip"
        assert file["batch_00001/input_1"].dtype == np.float32


def test_an_existing_file_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "calibration.tensor"
    path.write_bytes(b"mine")
    with pytest.raises(DataProblem, match="exists already"):
        write_batches(path, [np.zeros((1, 3, 4, 4), np.float32)])
    assert path.read_bytes() == b"mine"


def test_a_failure_leaves_no_file(tmp_path: Path) -> None:
    def failing() -> Iterator[Array]:
        yield np.zeros((1, 3, 4, 4), np.float32)
        raise DataProblem("an image is damaged")

    with pytest.raises(DataProblem, match="damaged"):
        write_batches(tmp_path / "calibration.tensor", failing())
    with pytest.raises(DataProblem, match="no batch"):
        write_batches(tmp_path / "calibration.tensor", [])
    assert list(tmp_path.iterdir()) == []


def test_other_names_of_groups_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "other.tensor"
    with h5py.File(path, "w") as file:
        for number in (10, 9, 2):
            file.create_group(str(number)).create_dataset("data", data=np.full((1, 1, 2, 2), number, float))
    assert [batch[0, 0, 0, 0] for batch in read_batches(path)] == [2, 9, 10]


def unusable(path: Path, kind: str) -> None:
    if kind == "no file":
        return
    if kind == "other":
        path.write_bytes(b"a text")
        return
    write_batches(path, [np.random.default_rng(0).random((2, 3, 16, 16), np.float32)] * 2)
    if kind == "cut off":
        path.write_bytes(path.read_bytes()[:-3000])
    elif kind == "flipped":
        content = bytearray(path.read_bytes())
        content[len(content) // 2 : len(content) // 2 + 2000] = b"\xff" * 2000
        path.write_bytes(content)
    else:
        with h5py.File(path, "r+") as file:
            if kind == "one missing":
                del file["batch_00001"]
            elif kind == "not numbers":
                file["batch_00001/input_1"][0, 0, 0, 0] = np.nan
            elif kind == "two inputs":
                file["batch_00001"].create_dataset("input_2", data=np.zeros((1, 3, 4, 4)))
            elif kind == "of another shape":
                del file["batch_00001/input_1"]
                file["batch_00001"].create_dataset("input_1", data=np.zeros((3, 4)))
            elif kind == "empty":
                file.clear()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("no file", "doesn't exist"),
        ("other", "isn't HDF5"),
        ("cut off", "isn't HDF5, or is damaged"),
        ("flipped", "damaged"),
        ("one missing", "has 1 batches and says 2"),
        ("not numbers", "no numbers"),
        ("two inputs", "2 data sets"),
        ("of another shape", "no data set of four dimensions"),
        ("empty", "has 0 batches"),
    ],
)
def test_what_is_no_tensor_file_is_refused(tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / "calibration.tensor"
    unusable(path, kind)
    with pytest.raises(DataProblem, match=message) as caught:
        list(read_batches(path, shown_as="/workspace/calibration.tensor"))
    assert caught.value.where == "/workspace/calibration.tensor"
    assert caught.value.hint
