"""Engine files: they come back as they were written, are told by their content, and say what is wrong with them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.engine.converter import graph, runtime
from taomagic.engine.converter.engine_file import (
    EngineHeader,
    is_engine,
    open_engine,
    read_engine,
    read_exported,
    versions,
    write_engine,
)
from taomagic.engine.converter.runtime import OnnxEngine, Profile
from taomagic.engine.storage.model_file import write_onnx
from taomagic.errors import EnvironmentProblem, ModelFileProblem, UsageProblem
from tests.engine.converter.engine_cases import convolutional, images


def header() -> EngineHeader:
    return EngineHeader(
        runtime="onnxruntime",
        precision="fp32",
        input_name="Input",
        input_shape=(3, 16, 16),
        batch=Profile(1, 2, 4),
        outputs=("features", "score"),
        fingerprint="ab" * 32,
        versions=versions(onnxruntime="1.0"),
        model={"classes": ["car", "骑车人"], "parameters": 7},
        notes={"calibration": "entropy"},
    )


@pytest.fixture
def engine_path(tmp_path: Path) -> Path:
    path = tmp_path / "net.trt.int8"  # a name of NVIDIA's notebooks; no suffix says what it is
    write_engine(path, header(), convolutional())
    return path


def test_an_engine_comes_back_as_it_was_written(engine_path: Path) -> None:
    found, model = read_engine(engine_path)
    assert found == header()
    assert model == convolutional()
    assert is_engine(engine_path)


def test_an_engine_is_no_exported_model(engine_path: Path, tmp_path: Path) -> None:
    plan = tmp_path / "net.etlt"
    plan.write_bytes(b"ftrt" + bytes(100))
    for path in (engine_path, plan):
        with pytest.raises(ModelFileProblem, match="an engine already") as caught:
            read_exported(path, "key", shown_as="/workspace/net")
        assert caught.value.where == "/workspace/net"
        assert ".onnx or .etlt" in caught.value.hint


def test_weights_in_a_file_beside_a_model_are_read(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    whole = onnx.load_from_string(convolutional())
    onnx.save_model(whole, path, save_as_external_data=True, location="net.data", size_threshold=0)
    found = open_engine(path).run(images(2))
    expected = OnnxEngine(convolutional(), {}, profile=None).run(images(2))
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-6)
    (tmp_path / "net.data").write_bytes(b"short")
    with pytest.raises(ModelFileProblem, match=r"in net\.data, which can't be read"):
        read_exported(path)
    (tmp_path / "net.data").unlink()
    with pytest.raises(ModelFileProblem, match=r"in net\.data, which can't be read"):
        read_exported(path)


def test_a_full_disk_of_temporary_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf serialization failed.")

    monkeypatch.setattr(graph.ort, "InferenceSession", refuse)
    with pytest.raises(EnvironmentProblem, match="can't be written into") as caught:
        graph.optimised(graph.load(convolutional()), shown_as="net.onnx")
    assert "TMPDIR" in caught.value.hint


def test_an_engine_says_what_it_is(engine_path: Path) -> None:
    engine = open_engine(engine_path)
    assert engine.metadata["classes"] == ["car", "骑车人"]
    assert engine.metadata["runtime"] == "onnxruntime"
    assert engine.metadata["batch"] == {"min": 1, "opt": 2, "max": 4}
    assert engine.metadata["input_shape"] == [3, 16, 16]
    assert engine.metadata["fingerprint"] == "ab" * 32
    assert set(engine.metadata["versions"]) == {"taomagic", "onnxruntime"}
    assert engine.kind == "FP32 engine"


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("profile", [None, Profile(1, 2, 4), Profile(3, 3, 3), Profile(2, 4, 8)])
def test_any_number_of_images_goes_through_any_profile(profile: Profile | None, count: int) -> None:
    whole = OnnxEngine(convolutional(), {}, profile=None).run(images(count))
    found = OnnxEngine(convolutional(), {}, profile=profile).run(images(count))
    assert list(found) == ["features", "score"]
    for name, values in whole.items():
        np.testing.assert_allclose(found[name], values, atol=1e-5)


def test_a_model_of_a_fixed_batch_size_takes_any_number_of_images() -> None:
    fixed = OnnxEngine(convolutional(batch=2), {}, profile=Profile(1, 4, 8))
    free = OnnxEngine(convolutional(), {}, profile=None)
    np.testing.assert_allclose(fixed.run(images(5))["score"], free.run(images(5))["score"], atol=1e-5)


def test_a_model_that_takes_images_in_half_precision_runs() -> None:
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Relu", ["Input"], ["score"])],
            "half",
            [onnx.helper.make_tensor_value_info("Input", onnx.TensorProto.FLOAT16, ["N", 3, 16, 16])],
            [onnx.helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT16, ["N", 3, 16, 16])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 17)],
        ir_version=8,
    )
    found = OnnxEngine(model.SerializeToString(), {}, profile=Profile(1, 2, 2)).run(images(3))["score"]
    np.testing.assert_allclose(found, np.maximum(images(3), 0), rtol=1e-3, atol=1e-3)


def test_callers_share_an_engines_threads_and_get_what_one_would(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    real = runtime.open_session

    def open_session(model: bytes, *, threads: int, exact: bool, shown_as: str) -> ort.InferenceSession:
        opened.append(threads)
        return real(model, threads=threads, exact=exact, shown_as=shown_as)

    monkeypatch.setattr(runtime, "open_session", open_session)
    engine = OnnxEngine(convolutional(), {}, profile=Profile(1, 1, 2), threads=6)
    batches = [images(count) for count in (5, 2, 1, 3)]
    alone = [engine.run(batch)["score"] for batch in batches]
    assert engine.share(4) == 4
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda batch: engine.run(batch)["score"], batches))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (engine.share(9), engine.share(1)) == (9, 1)
    assert opened == [6, 1, 1, 6]


def test_images_of_another_size_are_refused_with_both_sizes() -> None:
    engine = OnnxEngine(convolutional(), {}, profile=None, shown_as="net.engine")
    with pytest.raises(UsageProblem, match="N × 3 × 16 × 16, and the images are 1 × 3 × 8 × 8") as caught:
        engine.run(images(1, size=8))
    assert caught.value.where == "net.engine"
    with pytest.raises(UsageProblem):
        engine.run(images(0))


@pytest.mark.parametrize(
    ("name", "key"), [("net.onnx", ""), ("net.etlt", "nvidia_tlt"), ("strange.name", "")]
)
def test_exported_models_open_like_engines(tmp_path: Path, name: str, key: str) -> None:
    model = convolutional(metadata={"classes": ["car"], "input_shape": [3, 16, 16]})
    path = tmp_path / name
    if name == "strange.name":
        path.write_bytes(model)
    else:
        write_onnx(path, model, key)
    assert not is_engine(path)
    engine = open_engine(path, key)
    assert engine.metadata["classes"] == ["car"]
    assert engine.metadata["precision"] == "fp32"
    assert engine.run(images(2))["score"].shape == (2, 8)


def test_an_exported_model_with_the_wrong_key_says_so(tmp_path: Path) -> None:
    write_onnx(tmp_path / "net.etlt", convolutional(), "right")
    with pytest.raises(ModelFileProblem, match="key is not the one") as caught:
        open_engine(tmp_path / "net.etlt", "wrong", shown_as="/workspace/net.etlt")
    assert caught.value.where == "/workspace/net.etlt"


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_every_changed_byte_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    write_engine(folder / "whole", header(), b"payload of an engine")
    content = bytearray((folder / "whole").read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    (folder / "changed").write_bytes(content)
    with pytest.raises(ModelFileProblem):
        read_engine(folder / "changed")


@given(st.integers(0, 400))
@settings(max_examples=40, deadline=None)
def test_every_cut_is_noticed(tmp_path_factory: pytest.TempPathFactory, size: int) -> None:
    folder = tmp_path_factory.mktemp("cuts")
    write_engine(folder / "whole", header(), b"payload of an engine")
    (folder / "cut").write_bytes((folder / "whole").read_bytes()[:size])
    with pytest.raises(ModelFileProblem):
        read_engine(folder / "cut")


@pytest.mark.parametrize(
    ("content", "message", "hint"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(40), "plain HDF5", "Export the checkpoint first"),
        (b"", "it is empty", "make the file again"),
        (b"version https://git-lfs.github.com", "Git LFS", "git lfs pull"),
        (bytes(range(100, 164)), "isn't in the format of taomagic's engines", "gen_trt_engine"),
    ],
)
def test_what_is_no_engine_is_named(tmp_path: Path, content: bytes, message: str, hint: str) -> None:
    path = tmp_path / "x.engine"
    path.write_bytes(content)
    assert not is_engine(path)
    with pytest.raises(ModelFileProblem, match=message) as caught:
        open_engine(path, shown_as="/workspace/x.engine")
    assert hint in caught.value.hint
    assert caught.value.where == "/workspace/x.engine"


def test_a_missing_engine_is_no_engine(tmp_path: Path) -> None:
    assert not is_engine(tmp_path / "none.trt")
    with pytest.raises(ModelFileProblem, match="no such model file"):
        open_engine(tmp_path / "none.trt")


def test_a_plan_of_tensorrt_is_known_by_its_content(tmp_path: Path) -> None:
    path = tmp_path / "model.trt"
    path.write_bytes(b"ftrt" + bytes(100))
    assert is_engine(path)
    with pytest.raises(EnvironmentProblem, match="TensorRT"):
        open_engine(path)
