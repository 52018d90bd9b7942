"""Calibration: histograms that lose nothing, ranges that make sense, and caches that TensorRT reads."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.engine.converter.build import prepare
from taomagic.engine.converter.calibration import calibrate
from taomagic.engine.converter.calibration_cache import cache_text, read_cache, read_scales, write_cache
from taomagic.engine.converter.calibration_data import Preparation, choose_images
from taomagic.engine.converter.histograms import BINS, METHODS, Histogram
from taomagic.engine.converter.runtime import OnnxEngine, Profile
from taomagic.errors import DataProblem, ModelFileProblem, UsageProblem
from tests.engine.converter.engine_cases import convolutional, images

magnitudes = st.floats(2.0**-10, 2.0**16, width=32)


@given(
    st.lists(st.tuples(magnitudes, st.integers(1, 300)), min_size=1, max_size=6), st.integers(0, 2**32 - 1)
)
@settings(max_examples=50, deadline=None)
def test_histograms_lose_no_count_and_keep_the_largest(parts: list[tuple[float, int]], seed: int) -> None:
    random = np.random.default_rng(seed)
    histogram, values = Histogram(), []
    for scale, count in parts:
        values.append((random.uniform(-1, 1, count) * scale).astype(np.float32))
        histogram.add(values[-1])
    everything = np.abs(np.concatenate(values))
    assert histogram.counts.sum() == everything.size
    assert histogram.largest == everything.max()
    # No value is in a bin below its own, whatever has been merged; rounding may lift one that lies on an edge.
    width = histogram.limit / BINS
    for share in (0.25, 0.5, 0.9):
        edge = int(BINS * share)
        assert histogram.counts[:edge].sum() <= (everything <= (edge + 1) * width).sum()
        assert histogram.counts[:edge].sum() >= (everything < (edge - 1) * width).sum()
    for method in METHODS:
        assert 0 < histogram.range(method) <= histogram.largest
    assert histogram.range("minmax") == histogram.largest


def test_entropy_clips_outliers_and_keeps_even_distributions() -> None:
    random = np.random.default_rng(0)
    bell = random.normal(0, 1, 200_000).astype(np.float32)
    with_outlier = Histogram()
    with_outlier.add(np.append(bell, np.float32(40.0)))
    assert 2.5 < with_outlier.range("entropy") < 8
    assert 3 < with_outlier.range("percentile") < 5
    assert with_outlier.range("minmax") == 40
    even = Histogram()
    even.add(random.uniform(-1, 1, 200_000).astype(np.float32))
    assert even.range("entropy") > 0.98


def test_entropy_beats_min_max_on_a_long_tail() -> None:
    values = np.random.default_rng(1).laplace(0, 1, 300_000).astype(np.float32)
    histogram = Histogram()
    histogram.add(values)

    def error(limit: float) -> float:
        step = limit / 127
        return float(np.mean((np.clip(np.round(values / step), -127, 127) * step - values) ** 2))

    assert error(histogram.range("entropy")) < error(histogram.range("minmax"))


def test_zeros_and_infinities() -> None:
    histogram = Histogram()
    histogram.add(np.zeros(10, np.float32))
    assert histogram.range("entropy") == 0
    histogram.add(np.ones(10, np.float32))
    assert histogram.counts.sum() == 20
    with pytest.raises(ValueError, match="not finite"):
        histogram.add(np.array([np.nan], np.float32))


@pytest.mark.parametrize("method", METHODS)
def test_a_calibration_covers_what_an_engine_stores(method: str) -> None:
    source = prepare(convolutional(layers=3))
    ranges = calibrate(source.simplified, [images(3), images(2, seed=1)], input_name="Input", method=method)
    # What lies between a convolution and its ReLU isn't stored.
    assert list(ranges) == ["Input", "relu_0", "relu_1", "features"]
    seen = np.abs(np.concatenate([images(3), images(2, seed=1)])).max()
    assert 0 < ranges["Input"] <= seen
    if method == "minmax":
        assert ranges["Input"] == pytest.approx(seen)


def test_a_calibration_does_not_depend_on_the_batch_size() -> None:
    source = prepare(convolutional())
    parts = calibrate(source.simplified, [images(4)[:1], images(4)[1:]], input_name="Input")
    whole = calibrate(source.simplified, [images(4)], input_name="Input")
    fixed = prepare(convolutional(batch=3))
    filled = calibrate(fixed.simplified, [images(4)], input_name="Input", method="minmax", batch=3)
    assert parts == whole
    assert filled == pytest.approx(
        calibrate(source.simplified, [images(4)], input_name="Input", method="minmax")
    )


def test_bad_calibration_data_is_refused() -> None:
    source = prepare(convolutional())
    with pytest.raises(DataProblem, match="3 × 8 × 8, and the model's input is 3 × 16 × 16"):
        calibrate(source.simplified, [images(1, size=8)], input_name="Input")
    with pytest.raises(DataProblem, match="no images"):
        calibrate(source.simplified, [], input_name="Input")
    with pytest.raises(DataProblem, match="aren't finite"):
        calibrate(source.simplified, [np.full((1, 3, 16, 16), np.inf, np.float32)], input_name="Input")


def test_a_model_that_wants_more_than_images_is_not_calibrated() -> None:
    model = onnx.load_from_string(convolutional())
    model.graph.input.append(
        onnx.helper.make_tensor_value_info("image_shape", onnx.TensorProto.FLOAT, ["N", 2])
    )
    model.graph.node.append(onnx.helper.make_node("Identity", ["image_shape"], ["size"], "size"))
    model.graph.output.append(onnx.helper.make_tensor_value_info("size", onnx.TensorProto.FLOAT, ["N", 2]))
    source = prepare(model.SerializeToString())
    with pytest.raises(DataProblem, match="image_shape"):
        calibrate(source.simplified, [images(1)], input_name="Input")
    # It runs all the same.
    engine = OnnxEngine(model.SerializeToString(), {}, profile=Profile(1, 1, 2))
    with pytest.raises(UsageProblem, match="image_shape"):
        engine.run(images(1))
    sizes = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert engine.run(images(3), {"image_shape": sizes})["size"].tolist() == sizes.tolist()


@given(
    st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20),
        st.floats(1e-6, 1e6),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=50, deadline=None)
def test_caches_come_back(tmp_path_factory: pytest.TempPathFactory, ranges: dict[str, float]) -> None:
    path = tmp_path_factory.mktemp("cache") / "cal.bin"
    write_cache(path, ranges)
    assert read_cache(path) == pytest.approx(ranges, rel=1e-6)


def test_a_cache_has_the_form_of_tensorrts() -> None:
    text = cache_text({"Input": 127.0, "output_cov/Sigmoid:0": 1.0}, version=8503)
    scale = struct.pack(">f", 1.0 / 127).hex()
    assert text == f"TRT-8503-EntropyCalibration2\nInput: 3f800000\noutput_cov/Sigmoid:0: {scale}\n"


def test_a_cache_that_tensorrt_wrote_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cal.bin"
    path.write_text(
        "TRT-7103-EntropyCalibration2\ninput_1: 3c010a14\n(Unnamed Layer* 3): 0\nrelu:0: 3d2c7b1e\n\n"
    )
    ranges = read_cache(path)
    assert list(ranges) == ["input_1", "relu:0"]
    assert ranges["input_1"] == pytest.approx(1.0, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("", "isn't a calibration cache", ""),
        ("hello\n", "isn't a calibration cache", ""),
        ("TRT-8503-EntropyCalibration2\nInput 3f800000\n", "this line isn't", ":2"),
        ("TRT-8503-EntropyCalibration2\nInput: 3f800000\nb: xyz\n", "this line isn't", ":3"),
        ("TRT-8503-EntropyCalibration2\nInput: 7f800000\n", "scale of Input is inf", ":2"),
    ],
)
def test_damaged_caches_are_refused_with_the_line(tmp_path: Path, text: str, message: str, line: str) -> None:
    (tmp_path / "cal.bin").write_text(text)
    with pytest.raises(DataProblem, match=message) as caught:
        read_cache(tmp_path / "cal.bin", shown_as="/workspace/cal.bin")
    assert caught.value.where == f"/workspace/cal.bin{line}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "isn't JSON"),
        ("[]", "tensor_scales"),
        ('{"tensor_scales": {}}', "tensor_scales"),
        ('{"tensor_scales": {"Input": -1}}', "scale of Input is -1"),
        ('{"tensor_scales": {"Input": true}}', "scale of Input is True"),
        ('{"tensor_scales": {"Input": NaN}}', "scale of Input is nan"),
    ],
)
def test_damaged_scales_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "cal.json").write_text(text)
    with pytest.raises(DataProblem, match=message):
        read_scales(tmp_path / "cal.json")


def test_images_are_prepared_as_the_network_wants_them(tmp_path: Path) -> None:
    import cv2

    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.full((20, 30, 3), (10, 20, 30), np.uint8))  # blue, green, red
    ssd = {"mean": [1.0, 2.0, 3.0], "channel_order": "BGR"}
    found = Preparation.of(ssd, (3, 8, 6))(path)
    assert found.shape == (3, 8, 6)
    assert found[:, 4, 3].tolist() == [9.0, 18.0, 27.0]
    detectnet = {"mean": [0.0] * 3, "channel_order": "RGB", "input_scale": 1 / 255}
    np.testing.assert_allclose(
        Preparation.of(detectnet, (3, 8, 6))(path)[:, 4, 3], np.array([30, 20, 10]) / 255, rtol=1e-6
    )
    grey = Preparation.of({"mean": [5.0], "channel_order": "grey"}, (1, 8, 6))(path)
    assert grey.shape == (1, 8, 6)
    assert grey[0, 4, 3] == pytest.approx(0.299 * 30 + 0.587 * 20 + 0.114 * 10 - 5, abs=0.01)
    with pytest.raises(ModelFileProblem, match="doesn't say how its images are prepared"):
        Preparation.of({}, (3, 8, 6))


def test_images_are_drawn_from_all_folders_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a/image_2/1.png", "a/image_2/2.JPG", "b/3.jpeg", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    folders = [tmp_path / "a", tmp_path / "b"]
    assert len(choose_images(folders, 10, shown_as="x")) == 3
    assert choose_images(folders, 2, shown_as="x") == choose_images(folders, 2, shown_as="x")
    with pytest.raises(DataProblem, match="doesn't exist"):
        choose_images([tmp_path / "none"], 1, shown_as="x")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataProblem, match=r"no \.jpg"):
        choose_images([tmp_path / "empty"], 1, shown_as="x")
