"""Any text for a label file: converting and training end well or with one clear error that names the file."""

from __future__ import annotations

import contextlib
import io
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taomagic.engine import cli
from taomagic.engine.detectnet_v2.records import collect
from taomagic.project.paths import PathMap
from taomagic.samples import create
from taomagic.spec.settings_detectnet_v2 import DetectNetDatasetSettings, DetectNetSource

from .conftest import EXPORT_SPEC, SPEC

WHOLE = "Car 0.0 0 1.5 10 10 50 40 1.5 1.6 3.9 1.0 1.5 20.0 1.6"
names = st.one_of(
    st.sampled_from(["car", "Car", "pedestrian", "dontcare", "van", "车", "-1", '"car"']), st.text(max_size=5)
)
numbers = st.one_of(
    st.sampled_from(
        [
            "0",
            "-1",
            "1",
            "3",
            "10",
            "50.5",
            "nan",
            "inf",
            "-inf",
            "1e400",
            "1e30",
            "x",
            "",
            "9" * 40,
            "0x10",
            "1_0",
        ]
    ),
    st.floats(-100, 400).map(str),
)


@st.composite
def rows(draw: st.DrawFn) -> str:
    """Draw a row: mostly as it should be, with some fields replaced, dropped or added."""
    fields = WHOLE.split(" ")
    fields[0] = draw(names)
    for _ in range(draw(st.integers(0, 3))):
        fields[draw(st.integers(1, len(fields) - 1))] = draw(numbers)
    if draw(st.integers(0, 3)) == 0:
        del fields[draw(st.integers(0, len(fields))) :]
    fields += draw(st.lists(numbers, max_size=2)) if draw(st.booleans()) else []
    return draw(st.sampled_from([" ", " ", " ", "\t", "  ", ","])).join(fields)


labels = st.one_of(
    st.lists(rows(), max_size=4).flatmap(
        lambda lines: st.sampled_from(["\n", "\r\n", "\n\n", "\r"]).map(lambda end: end.join(lines).encode())
    ),
    st.binary(max_size=60),
    st.sampled_from([b"", b"\n", b"\xef\xbb\xbf" + WHOLE.encode(), WHOLE.encode("utf-16"), b"\0" * 20]),
)


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A small data set whose first label is what each test writes."""
    place = tmp_path_factory.mktemp("labels")
    create(place / "data", training=2, val=1, testing=1, size=(64, 64), seed=3)
    (place / "convert.txt").write_text(EXPORT_SPEC.replace("/workspace/tao-experiments", str(place)))
    train = SPEC.replace("/workspace/tao-experiments", str(place)).replace(
        f'tfrecords_path: "{place}/data/ssd/tfrecords/train*"',
        f'label_directory_path: "{place}/data/training/label_2" image_directory_path: "{place}/data/training/image_2"',
    )
    for old, new in (
        ("num_epochs: 3", "num_epochs: 1"),
        ("output_width: 144 output_height: 48", "output_width: 64 output_height: 64"),
    ):
        assert old in train
        train = train.replace(old, new)
    (place / "train.txt").write_text(train)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    logger = logging.getLogger("taomagic")
    before, level, propagates = list(logger.handlers), logger.level, logger.propagate
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAOMAGIC_STEPS_PER_EPOCH", "1")
        patch.delenv("LAUNCHER_MOUNTS", raising=False)
        yield place
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logger.handlers[:], logger.propagate = before, propagates
    logger.setLevel(level)


def check(folder: Path, content: bytes, *words: str) -> int:
    """Write the label, run the command, and look at how it ended; return its exit code."""
    (folder / "data/training/label_2/000000.txt").write_bytes(content)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = cli.main(list(words))
    output = printed.getvalue()
    assert code in {0, 1}, content
    assert "Traceback" not in output, (content, output)
    assert "This is a mistake in taomagic" not in output, (content, output)
    errors = [line for line in output.splitlines() if line.startswith("ERROR: ")]
    assert len(errors) == code, (content, output)
    # What the label makes impossible is told with its place: the file, or where no objects are left, the data.
    assert not code or "000000" in errors[0] or "train" in errors[0], (content, errors)
    return code


@pytest.mark.parametrize("network", ["ssd", "detectnet_v2"])
@settings(max_examples=25, deadline=None)
@given(content=labels)
@example(content=b"car 0 0 0 50 40 10 10 1 1 1 1 1 1 1\n")
@example(content=b"car 0 0 0 nan nan nan nan 1 1 1 1 1 1 1\n")
def test_no_label_ends_a_conversion_in_a_traceback(folder: Path, network: str, content: bytes) -> None:
    output = folder / network / "train"
    check(folder, content, network, "dataset_convert", "-d", str(folder / "convert.txt"), "-o", str(output))
    assert not list(output.parent.glob(".converting-*")), content


@settings(max_examples=25, deadline=None)
@given(content=labels)
@example(content=b"car 0 0 0 -1e30 -1e30 1e30 1e30 1 1 1 1 1 1 1\n")
@example(content=b"car -1 -1 0 0.2 0.1 60.9 60.9 0 0 0 0 0 0 0\n")
def test_what_was_converted_can_be_read(folder: Path, content: bytes) -> None:
    words = ("-d", str(folder / "convert.txt"), "-o", str(folder / "again/train"))
    if check(folder, content, "detectnet_v2", "dataset_convert", *words) == 1:
        return
    source = DetectNetSource(f"{folder}/again/*", f"{folder}/data", 1.0)
    names = ("car", "pedestrian", "cyclist")
    dataset = DetectNetDatasetSettings(
        data_sources=(source,),
        image_extension="jpg",
        class_mapping={name: name for name in names},
        validation_fold=None,
        validation_source=None,
        sampling_mode="USER_DEFINED",
    )
    frames = collect(dataset, names, PathMap(), validation=False)
    assert len(frames.frames) == 2, content
    for frame in frames.frames:
        boxes = frame.objects.boxes
        assert np.isfinite(boxes).all(), content
        assert (boxes[:, 2:] > boxes[:, :2]).all(), content


@settings(max_examples=10, deadline=None)
@given(content=labels)
@example(content=b"car 0 0 0 50 40 10 10 1 1 1 1 1 1 1\n")
@example(content=b"car 0 0 0 -1e30 -1e30 1e30 1e30 1 1 1 1 1 1 1\n")
def test_no_label_ends_a_training_in_a_traceback(folder: Path, content: bytes) -> None:
    check(
        folder,
        content,
        "ssd",
        "train",
        "-e",
        str(folder / "train.txt"),
        "-r",
        str(folder / "run"),
        "--no-resume",
    )
