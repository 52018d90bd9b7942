"""TensorRT's part, against a double of its API: what it is asked to do, and what plans say about themselves."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from taomagic.engine.converter import tensorrt, tensorrt_build
from taomagic.engine.converter.build import prepare
from taomagic.engine.converter.engine_file import is_engine, open_engine
from taomagic.engine.converter.runtime import OnnxEngine, Profile
from taomagic.errors import EnvironmentProblem, ModelFileProblem, UsageProblem
from tests.engine.converter import tensorrt_double
from tests.engine.converter.engine_cases import convolutional, images


@pytest.fixture
def trt(monkeypatch: pytest.MonkeyPatch) -> Any:
    """TensorRT 10.3, and a GPU whose memory is the processor's."""
    return install(monkeypatch)


def install(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    double = tensorrt_double.module(**options)
    monkeypatch.setitem(sys.modules, "tensorrt", double)
    monkeypatch.setattr(tensorrt, "missing", lambda: "")
    chosen = [0]
    monkeypatch.setattr(torch.cuda, "set_device", lambda index: chosen.__setitem__(0, index))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: chosen[0])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "NVIDIA Double")
    stream = type("Stream", (), {"cuda_stream": 0, "synchronize": lambda self: None})()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self)
    return double


def write(
    path: Path, precision: Any = "fp32", options: tensorrt_build.Options | None = None, **more: Any
) -> Any:
    source = prepare(convolutional(metadata={"classes": ["car"]}), shown_as="net.onnx")
    return tensorrt_build.write_plan(
        path, source, precision, Profile(1, 2, 4), more.get("ranges"), options or tensorrt_build.Options()
    )


def test_a_plan_says_what_it_is_and_runs(trt: Any, tmp_path: Path) -> None:
    header = write(tmp_path / "net.trt")
    assert is_engine(tmp_path / "net.trt")
    engine = open_engine(tmp_path / "net.trt")
    assert engine.kind == "FP32 engine"
    assert engine.place == "NVIDIA Double, TensorRT 10.3.0"
    assert engine.metadata["runtime"] == "tensorrt"
    assert engine.metadata["classes"] == ["car"]
    assert engine.metadata["fingerprint"] == header.fingerprint
    assert engine.metadata["batch"] == {"min": 1, "opt": 2, "max": 4}
    expected = OnnxEngine(convolutional(), {}, profile=None).run(images(7))
    found = engine.run(images(7))
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)


def test_the_builder_is_told_shapes_and_memory(trt: Any, tmp_path: Path) -> None:
    write(tmp_path / "net.trt", options=tensorrt_build.Options(workspace_bytes=123))
    assert trt.calls["profiles"] == [("Input", (1, 3, 16, 16), (2, 3, 16, 16), (4, 3, 16, 16))]
    assert trt.calls["workspace"] == ("workspace", 123)
    assert trt.calls["network_flags"] == 1  # explicit batch, which is flag 0
    assert trt.calls["flags"] == []
    assert trt.calls["config"].int8_calibrator is None


@pytest.mark.parametrize(
    ("precision", "options", "flags"),
    [
        ("fp16", tensorrt_build.Options(), ["FP16"]),
        ("fp16", tensorrt_build.Options(strict=True), ["FP16", "PREFER_PRECISION_CONSTRAINTS"]),
        ("fp32", tensorrt_build.Options(strict=True), []),
        ("int8", tensorrt_build.Options(dla_core=1), ["INT8", "GPU_FALLBACK"]),
    ],
)
def test_precision_becomes_flags(
    trt: Any, tmp_path: Path, precision: str, options: tensorrt_build.Options, flags: list[str]
) -> None:
    write(tmp_path / "net.trt", precision, options, ranges={"Input": 1.0})
    assert trt.calls["flags"] == flags
    assert trt.calls["config"].DLA_core == options.dla_core


@pytest.mark.parametrize(
    ("precision", "ranges", "bound"),
    [
        ("fp16", {}, [("conv_0", "HALF"), ("conv_1", "HALF")]),
        ("int8", {"relu_0": 3.0}, [("conv_1", "INT8")]),
    ],
)
def test_strict_types_bind_the_layers_that_multiply(
    trt: Any, tmp_path: Path, precision: str, ranges: dict[str, float], bound: list[tuple[str, str]]
) -> None:
    write(tmp_path / "net.trt", precision, ranges=ranges)
    assert trt.calls["precisions"] == []
    write(tmp_path / "net.trt", precision, tensorrt_build.Options(strict=True), ranges=ranges)
    assert trt.calls["precisions"] == bound
    assert trt.calls["flags"][-1] == "PREFER_PRECISION_CONSTRAINTS"


def test_ranges_reach_tensorrt_as_a_calibration_cache(trt: Any, tmp_path: Path) -> None:
    write(tmp_path / "net.trt", "int8", ranges={"Input": 127.0, "features": 254.0})
    calibrator = trt.calls["config"].int8_calibrator
    assert isinstance(calibrator, trt.IInt8EntropyCalibrator2)
    assert calibrator.read_calibration_cache() == (
        b"TRT-100300-EntropyCalibration2\nInput: 3f800000\nfeatures: 40000000\n"
    )
    assert trt.calls["calibration_profile"] is not None, "sizes are open, and calibration is for some"
    assert calibrator.get_batch(["Input"]) is None
    assert calibrator.get_batch_size() == 2
    assert calibrator.write_calibration_cache(b"") is None


def test_caches_name_a_release_as_tensorrt_counts_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    trt = install(monkeypatch, version="8.6.1.6")
    write(tmp_path / "net.trt", "int8", ranges={"Input": 127.0})
    calibrator = trt.calls["config"].int8_calibrator
    assert calibrator.read_calibration_cache().startswith(b"TRT-8601-EntropyCalibration2\n")


@pytest.mark.parametrize("text", ["x" * 20, "".join(map(chr, range(0x4E00, 0x4E00 + 9000)))])
def test_a_plan_keeps_its_name_within_tensorrts_4096_bytes(trt: Any, tmp_path: Path, text: str) -> None:
    classes = [f"class number {index}" for index in range(400)]
    source = prepare(convolutional(metadata={"classes": classes, "more": text}), shown_as="net.onnx")
    tensorrt_build.write_plan(
        tmp_path / "net.trt", source, "fp32", Profile(1, 2, 4), None, tensorrt_build.Options()
    )
    assert len(trt.calls["network"].name.encode()) < 4096
    metadata = open_engine(tmp_path / "net.trt").metadata
    assert metadata["fingerprint"] == source.fingerprint
    assert metadata.get("classes") == (classes if len(text) < 100 else None)


def test_an_engine_stays_on_the_gpu_it_was_opened_on(trt: Any, tmp_path: Path) -> None:
    write(tmp_path / "net.trt")
    torch.cuda.set_device(3)
    engine = open_engine(tmp_path / "net.trt")
    torch.cuda.set_device(0)
    engine.run(images(1))
    assert torch.cuda.current_device() == 3


def test_releases_without_calibrators_get_a_quantised_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trt = install(monkeypatch, version="11.4.0")
    source = prepare(convolutional(layers=4))
    ranges = {"Input": 4.0, **{f"relu_{index}": 4.0 for index in range(3)}, "features": 4.0}
    tensorrt_build.write_plan(
        tmp_path / "net.trt", source, "int8", Profile(1, 1, 1), ranges, tensorrt_build.Options()
    )
    model = onnx.load_from_string(trt.calls["network"].model)
    assert "QuantizeLinear" in {node.op_type for node in model.graph.node}
    assert trt.calls["flags"] == []
    assert trt.calls["calibration_profile"] is None


def test_releases_that_take_types_from_the_model_get_one_in_half_precision(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trt = install(monkeypatch, version="11.4.0")
    with caplog.at_level("INFO"):
        write(tmp_path / "net.trt", "fp16", tensorrt_build.Options(strict=True))
    assert "always keeps the types of the model" in caplog.text
    model = onnx.load_from_string(trt.calls["network"].model)
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert {kinds[name] for node in convolutions for name in node.input[1:]} == {onnx.TensorProto.FLOAT16}
    found = open_engine(tmp_path / "net.trt").run(images(3))
    expected = OnnxEngine(convolutional(), {}, profile=None).run(images(3))
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], values, atol=0.02)


def test_a_plan_from_elsewhere_is_described_by_its_tensors(trt: Any, tmp_path: Path) -> None:
    name = b"Unnamed Network 0"
    (tmp_path / "other.trt").write_bytes(b"ftrt" + len(name).to_bytes(4, "big") + name + convolutional())
    engine = open_engine(tmp_path / "other.trt")
    assert engine.metadata["input_shape"] == [3, 16, 16]
    assert engine.metadata["batch"] == {"min": 1, "opt": 2, "max": 4}
    assert engine.metadata["precision"] == "unknown"
    assert engine.kind == "TensorRT engine"
    assert engine.run(images(5))["score"].shape == (5, 8)


def test_a_plan_of_a_fixed_batch_size_has_no_profile(trt: Any, tmp_path: Path) -> None:
    (tmp_path / "other.trt").write_bytes(b"ftrt" + (2).to_bytes(4, "big") + b"4x" + convolutional(4))
    engine = open_engine(tmp_path / "other.trt")
    assert engine.metadata["batch"] == {"min": 4, "opt": 4, "max": 4}
    assert engine.run(images(6))["score"].shape == (6, 8)


def test_what_tensorrt_cannot_do_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, parses=False)
    with pytest.raises(ModelFileProblem, match="UNSUPPORTED_NODE"):
        write(tmp_path / "net.trt")
    install(monkeypatch, builds=False)
    with pytest.raises(ModelFileProblem, match="no way to build"):
        write(tmp_path / "net.trt")
    assert not (tmp_path / "net.trt").exists()
    (tmp_path / "old.trt").write_bytes(b"ftrt")
    with pytest.raises(ModelFileProblem, match="can't load this plan") as caught:
        open_engine(tmp_path / "old.trt", shown_as="/workspace/old.trt")
    assert caught.value.where == "/workspace/old.trt"
    install(monkeypatch)
    with pytest.raises(UsageProblem, match="DLA"):
        write(tmp_path / "net.trt", options=tensorrt_build.Options(dla_core=0))
    install(monkeypatch, version="8.2.1")
    with pytest.raises(EnvironmentProblem, match="too old"):
        write(tmp_path / "net.trt")


def test_the_runtime_is_chosen_by_what_is_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "missing", lambda: "no GPU can be used here")
    assert tensorrt.wanted("auto") is False
    with pytest.raises(EnvironmentProblem, match="no GPU"):
        tensorrt.wanted("tensorrt")
    monkeypatch.setattr(tensorrt, "missing", lambda: "")
    assert tensorrt.wanted("auto") is True
    assert tensorrt.wanted("onnxruntime") is False


def test_tensorrt_is_not_imported_where_it_is_not_asked_for() -> None:
    import subprocess

    code = "import sys; import taomagic.engine.converter.command; print('tensorrt' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
