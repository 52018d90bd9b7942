"""``export`` of both networks from its command line: files, names, calibrations, engines, and what is refused."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from torch import nn

from taomagic.engine.cli import main
from taomagic.engine.converter.calibration_cache import read_cache
from taomagic.engine.converter.engine_file import is_engine, open_engine
from taomagic.engine.detectnet_v2 import weights as detectnet_weights
from taomagic.engine.detectnet_v2.model import Architecture as DetectNetArchitecture
from taomagic.engine.detectnet_v2.model import DetectNet
from taomagic.engine.ssd import weights as ssd_weights
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.storage.model_file import read_onnx
from tests.engine.export.export_cases import ANCHORS
from tests.engine.storage.nvidia_double import Double, nvidia_package  # noqa: F401 - a fixture

KEY = "tiny_key"
ROOT = "/workspace/tao-experiments"
SPECS = Path(__file__).parents[3] / "specs"
CLASSES = ("car", "cyclist", "pedestrian")
NETWORKS = ("ssd", "detectnet_v2")
OUTPUTS = {"ssd": {"NMS", "NMS_1"}, "detectnet_v2": {"output_cov/Sigmoid", "output_bbox/BiasAdd"}}

Run = Callable[..., tuple[int, str]]


def network(task: str, *, quantized: bool = False) -> nn.Module:
    torch.manual_seed(5)
    shape = (3, 64, 96)
    if task == "ssd":
        return SSD(Architecture("resnet", 10, 0.125, shape, CLASSES, ANCHORS, quantized=quantized))
    return DetectNet(
        DetectNetArchitecture(
            "resnet", 10, 0.125, shape, CLASSES, True, False, 35.0, 0.5, quantized=quantized
        )
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make models of both networks, float and quantisation-aware, their specs, and images."""
    folder = tmp_path_factory.mktemp("made")
    for task in NETWORKS:
        save = ssd_weights.save if task == "ssd" else detectnet_weights.save
        for name, quantized in (("model", False), ("qat", True)):
            built = network(task, quantized=quantized)
            with torch.no_grad():
                built.train()(torch.rand(4, 3, 64, 96) * (255 if task == "ssd" else 1))
            save(folder / f"{task}_{name}.tlt", built, KEY)
            save(folder / f"{task}_{name}.hdf5", built, "")
    text = (SPECS / "ssd" / "ssd_train_resnet18_kitti.txt").read_text()
    # Without images in the spec there is nothing to calibrate with but what the command gives.
    (folder / "ssd.txt").write_text(text[: text.index("dataset_config {")])
    text = (SPECS / "detectnet_v2" / "detectnet_v2_train_resnet18_kitti.txt").read_text()
    (folder / "detectnet_v2.txt").write_text(text)
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        cv2.imwrite(
            str(folder / "images" / f"{number}.png"), rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)
        )
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder for results; what was made before lies beside it."""
    results = tmp_path / "results"
    results.mkdir()
    mounts = [
        {"source": str(made), "destination": f"{ROOT}/made"},
        {"source": str(results), "destination": f"{ROOT}/out"},
    ]
    (tmp_path / "mounts.json").write_text(json.dumps({"Mounts": mounts}))
    monkeypatch.setenv("LAUNCHER_MOUNTS", str(tmp_path / "mounts.json"))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield results
    torch.set_num_threads(threads)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def export(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(task: str, *words: str, model: str = "model.tlt", spec: bool = True) -> tuple[int, str]:
        given = ["-e", f"{ROOT}/made/{task}.txt"] if spec else []
        capsys.readouterr()
        code = main([task, "export", "-m", f"{ROOT}/made/{task}_{model}", *given, *words])
        return code, capsys.readouterr().out

    return run


@pytest.mark.parametrize("task", NETWORKS)
def test_both_generations_write_what_their_notebooks_expect(export: Run, folder: Path, task: str) -> None:
    code, output = export(
        task, "-k", KEY, "-o", f"{ROOT}/out/final/model.etlt", "--results_dir", f"{ROOT}/out"
    )
    assert code == 0, output
    assert f"Saved: {ROOT}/out/final/model.etlt" in output
    assert set(open_engine(folder / "final" / "model.etlt", KEY).outputs) == OUTPUTS[task]
    words = ("-o", f"{ROOT}/out/final/model.onnx", "--onnx_route", "tf2onnx", "--gen_ds_config")
    code, output = export(task, *words, model="model.hdf5")
    assert code == 0, output
    assert {p.name for p in (folder / "final").iterdir()} == {
        "model.etlt", "model.onnx", "nvinfer_config.txt", "labels.txt",
    }  # fmt: skip
    names = (folder / "final" / "labels.txt").read_text().split()
    assert names == ([*CLASSES] if task == "detectnet_v2" else ["background", *CLASSES])
    assert read_onnx(folder / "final" / "model.etlt", KEY) == (folder / "final" / "model.onnx").read_bytes()
    records = [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]
    assert [record["status"] for record in records] == ["STARTED", "SUCCESS"]
    assert records[-1]["size"] > 0
    assert records[-1]["param_count"] > 0


@pytest.mark.parametrize(
    ("model", "key", "written"), [("model.tlt", KEY, ".etlt"), ("model.hdf5", "", ".onnx")]
)
def test_without_a_name_it_lies_beside_the_model_and_takes_an_earlier_ones_place(
    export: Run, made: Path, model: str, key: str, written: str
) -> None:
    beside = made / f"detectnet_v2_model{written}"
    beside.write_bytes(b"from an earlier export")
    code, output = export("detectnet_v2", *(("-k", key) if key else ()), model=model, spec=False)
    assert code == 0, output
    assert onnx.load_from_string(read_onnx(beside, key)).producer_name == "taomagic"


def test_a_fixed_batch_and_another_operator_set(export: Run, folder: Path) -> None:
    words = ("-k", KEY, "-o", f"{ROOT}/out/m.onnx", "--static_batch_size", "2", "--target_opset", "15")
    assert export("detectnet_v2", *words)[0] == 0
    model = onnx.load(folder / "m.onnx")
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 2
    assert model.opset_import[0].version == 15
    words = (
        "-k",
        KEY,
        "-o",
        f"{ROOT}/out/m.onnx",
        "--static_batch_size",
        "32",
        "--engine_file",
        f"{ROOT}/out/m.engine",
    )
    code, output = export("detectnet_v2", *words)
    assert code == 0, output
    assert open_engine(folder / "m.engine").metadata["batch"] == {"min": 32, "opt": 32, "max": 32}


@pytest.mark.parametrize("task", NETWORKS)
def test_int8_calibrates_with_images_and_builds_an_engine(export: Run, folder: Path, task: str) -> None:
    code, output = export(
        task, "-k", KEY, "-o", f"{ROOT}/out/model.etlt", "--data_type", "int8",
        "--cal_image_dir", f"{ROOT}/made/images", "--cal_data_file", f"{ROOT}/out/cal.tensor",
        "--batches", "2", "--batch_size", "2", "--max_batch_size", "4",
        "--cal_cache_file", f"{ROOT}/out/calibration.bin", "--engine_file", f"{ROOT}/out/model.trt.int8", "--verbose",
    )  # fmt: skip
    assert code == 0, output
    assert {p.name for p in folder.iterdir()} == {
        "model.etlt",
        "cal.tensor",
        "calibration.bin",
        ".calibration.bin.model.json",
        "model.trt.int8",
    }
    assert is_engine(folder / "model.trt.int8")
    engine = open_engine(folder / "model.trt.int8")
    assert engine.metadata["precision"] == "int8"
    assert engine.metadata["batch"] == {"min": 1, "opt": 1, "max": 4}
    exported = onnx.load_from_string(read_onnx(folder / "model.etlt", KEY))
    assert engine.metadata["fingerprint"] == json.loads(
        next(entry.value for entry in exported.metadata_props if entry.key == "fingerprint")
    )
    tensors = {name for node in exported.graph.node for name in node.output} | {exported.graph.input[0].name}
    ranges = read_cache(folder / "calibration.bin")
    assert len(ranges) > 20
    assert len(tensors.intersection(ranges)) > 20, "the cache has names of the exported model"
    images = np.random.default_rng(1).random((2, 3, 64, 96), np.float32)
    assert set(engine.run(images)) == OUTPUTS[task]


def test_the_tensor_file_of_an_earlier_command_calibrates_as_well(export: Run, folder: Path) -> None:
    first = (
        "--cal_image_dir",
        f"{ROOT}/made/images",
        "--cal_data_file",
        f"{ROOT}/out/cal.tensor",
        "--batches",
        "2",
    )
    words = ("-k", KEY, "--data_type", "int8", "--batch_size", "2")
    code, output = export("detectnet_v2", "-o", f"{ROOT}/out/1.etlt", *words, *first, spec=False)
    assert code == 0, output
    assert f"Saved: {ROOT}/out/cal.bin" in output, "without --cal_cache_file it lies beside the export"
    before = (folder / "cal.bin").read_text()
    again = (
        "--cal_data_file",
        f"{ROOT}/out/cal.tensor",
        "--cal_cache_file",
        f"{ROOT}/out/again.bin",
        "--batches",
        "2",
    )
    code, output = export("detectnet_v2", "-o", f"{ROOT}/out/2.etlt", *words, *again, spec=False)
    assert code == 0, output
    assert (folder / "again.bin").read_text() == before
    # And that cache builds an engine without any image.
    engine = ("--cal_cache_file", f"{ROOT}/out/again.bin", "--engine_file", f"{ROOT}/out/m.engine")
    code, output = export("detectnet_v2", "-o", f"{ROOT}/out/3.etlt", *words, *engine, spec=False)
    assert code == 0, output
    assert "Calibrat" not in output
    assert open_engine(folder / "m.engine").metadata["precision"] == "int8"


@pytest.mark.parametrize("task", NETWORKS)
def test_a_quantised_network_needs_no_calibration(export: Run, folder: Path, task: str) -> None:
    words = (
        "-k", KEY, "-o", f"{ROOT}/out/qat.etlt", "--data_type", "int8", "--batch_size", "64", "--max_batch_size", "64",
        "--engine_file", f"{ROOT}/out/qat.trt.int8", "--cal_cache_file", f"{ROOT}/out/calibration_qat.bin",
        "--cal_json_file", f"{ROOT}/out/calibration_qat.json",
    )  # fmt: skip
    code, output = export(task, *words, model="qat.tlt")
    assert code == 0, output
    assert "are lost" not in output
    scales = json.loads((folder / "calibration_qat.json").read_text())["tensor_scales"]
    assert next(iter(scales)) == ("Input" if task == "ssd" else "input_1")
    assert read_cache(folder / "calibration_qat.bin") == pytest.approx(scales, rel=1e-6)
    assert open_engine(folder / "qat.trt.int8").metadata["precision"] == "int8"


def test_a_quantised_network_without_its_scales_is_warned_of(export: Run) -> None:
    code, output = export("detectnet_v2", "-k", KEY, "-o", f"{ROOT}/out/q.etlt", model="qat.tlt")
    assert code == 0
    assert "its tensor scales are lost" in output


def test_an_engine_of_fp32_or_fp16_needs_no_calibration(export: Run, folder: Path) -> None:
    words = (
        "-k",
        KEY,
        "-o",
        f"{ROOT}/out/m.etlt",
        "--data_type",
        "fp16",
        "--engine_file",
        f"{ROOT}/out/m.engine",
    )
    code, output = export("detectnet_v2", *words, "--cal_cache_file", f"{ROOT}/out/cal.bin")
    assert code == 0, output
    assert "--cal_cache_file is not used" in output
    assert open_engine(folder / "m.engine").metadata["precision"] == "fp16"
    assert not (folder / "cal.bin").exists()
    code, output = export("detectnet_v2", "-k", KEY, "-o", f"{ROOT}/out/m2.etlt", "--data_type", "fp16")
    assert code == 0
    assert "the exported model is in float32" in output


INT8 = ("--data_type", "int8")
REFUSED = {
    "nothing to calibrate with": (INT8, "needs the ranges"),
    "no tensor file": ((*INT8, "--cal_data_file", f"{ROOT}/out/no.tensor"), "the tensor file doesn't exist"),
    "no folder of images": ((*INT8, "--cal_image_dir", f"{ROOT}/out/no"), "the folder with images"),
    "no images": ((*INT8, "--cal_image_dir", f"{ROOT}/out"), "there is no .jpg"),
    "no cache": ((*INT8, "--cal_cache_file", f"{ROOT}/made/detectnet_v2.txt"), "isn't a calibration cache"),
    "a folder for a file": (("--engine_file", f"{ROOT}/out"), "--engine_file is a folder"),
    "a folder for the export": (("-o", f"{ROOT}/out"), "-o is a folder"),
    "one name for two files": (
        (*INT8, "--cal_image_dir", f"{ROOT}/made/images", "--engine_file", f"{ROOT}/out/m.etlt"), "same file",
    ),
    "batch sizes that fall": (
        ("--engine_file", f"{ROOT}/out/m.engine", "--min_batch_size", "4", "--opt_batch_size", "2"), "must not",
    ),
    "scales of a float model": (("--cal_json_file", f"{ROOT}/out/cal.json"), "wasn't trained with enable_qat"),
    "an operator set of the past": (("--target_opset", "9"), "12 to 20"),
    "an encryption that isn't installed": (("--codec", "nvidia"), "nvidia-eff-tao-encryption, which isn't installed"),
    "an encrypted plain file": (("--codec", "nvidia", "-o", f"{ROOT}/out/m.onnx"), "for .etlt files, and m.onnx is"),
    "a batch of nothing": (("--static_batch_size", "0"), "-1 or a whole number above 0"),
}  # fmt: skip


@pytest.mark.parametrize("flags", [INT8, ("--engine_file", f"{ROOT}/out/m.engine")])
def test_a_plugin_of_tensorrt_needs_tensorrt_for_an_engine(
    export: Run, folder: Path, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taomagic.engine.converter.tensorrt.missing", lambda: "TensorRT isn't installed here")
    code, output = export("ssd", "-k", KEY, "-o", f"{ROOT}/out/m.etlt", "--nms", "nms_dynamic_trt", *flags)
    assert code == 1
    assert "--nms nms_dynamic_trt" in output
    assert "HINT: Leave" in output
    assert not list(folder.iterdir())
    code, output = export("ssd", "-k", KEY, "-o", f"{ROOT}/out/m.onnx", "--nms", "efficient_nms_trt")
    assert code == 0, output
    assert onnx.load(folder / "m.onnx").graph.node[-1].op_type == "EfficientNMS_TRT"


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_before_anything_is_written(export: Run, folder: Path, case: str) -> None:
    words, message = REFUSED[case]
    target = () if "-o" in words else ("-o", f"{ROOT}/out/m.etlt")
    code, output = export("detectnet_v2", "-k", KEY, *target, *words, spec=False)
    assert code == 1
    assert message in output
    assert "HINT: " in output
    assert "Traceback" not in output
    assert not list(folder.iterdir())


def test_nvidias_encryption_is_used_where_it_is_installed(export: Run, folder: Path, package: Double) -> None:
    words = ("-k", KEY, "-o", f"{ROOT}/out/m.etlt", "--codec", "nvidia", "--gen_ds_config")
    code, output = export("detectnet_v2", *words)
    assert code == 0, output
    assert package.calls == ["encrypt"]
    assert (folder / "m.etlt").read_bytes()[:4] == bytes(4)
    assert set(open_engine(folder / "m.etlt", KEY).outputs) == OUTPUTS["detectnet_v2"]
    config = (folder / "nvinfer_config.txt").read_text()
    assert "tlt-encoded-model=m.etlt" in config
    assert KEY not in config


def test_another_models_spec_is_refused(export: Run, made: Path, folder: Path) -> None:
    text = (made / "detectnet_v2.txt").read_text()
    (folder / "other.txt").write_text(text.replace("cyclist", "rider"))
    words = ("-k", KEY, "-o", f"{ROOT}/out/m.etlt", "-e", f"{ROOT}/out/other.txt")
    code, output = export("detectnet_v2", *words, spec=False)
    assert code == 1
    assert "rider" in output
    assert "cyclist" in output


@pytest.mark.parametrize("task", NETWORKS)
def test_a_wrong_key_a_cut_file_and_another_kind_of_file_are_three_errors(
    export: Run, made: Path, folder: Path, task: str
) -> None:
    out = ("-o", f"{ROOT}/out/m.etlt")
    messages = []
    code, output = export(task, "-k", "another", *out)
    assert code == 1
    messages.append(output)
    whole = (made / f"{task}_model.tlt").read_bytes()
    cases = {"cut": whole[:-100], "export": b"", "other": b"", "nvidia": b"\x8c\x12 something else"}
    assert (
        main(
            [
                task,
                "export",
                "-m",
                f"{ROOT}/made/{task}_model.tlt",
                "-k",
                KEY,
                "-e",
                f"{ROOT}/made/{task}.txt",
                *out,
            ]
        )
        == 0
    )
    cases["export"] = (folder / "m.etlt").read_bytes()
    cases["other"] = (made / f"{NETWORKS[1 - NETWORKS.index(task)]}_model.tlt").read_bytes()
    for name, content in cases.items():
        (made / f"{task}_{name}.tlt").write_bytes(content)
        code, output = export(task, "-k", KEY, *out, model=f"{name}.tlt")
        assert code == 1
        messages.append(output)
    causes = (
        "key is not the one",
        "cut short",
        "an exported ONNX model",
        "is a model of",
        "not a taomagic model file",
    )
    found = [[cause for cause in causes if cause in message] for message in messages]
    assert found == [[cause] for cause in causes]
    assert all("HINT: " in message and "Traceback" not in message for message in messages)
