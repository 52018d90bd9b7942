"""`deploy`, `converter` and what runs engines, from their command lines, for both networks."""

from __future__ import annotations

import hashlib
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

from taomagic.engine.cli import main
from taomagic.engine.comparison import timing
from taomagic.engine.converter.calibration_cache import read_cache, write_cache
from taomagic.engine.converter.engine_file import open_engine, read_engine
from taomagic.engine.data.tensorfile import write_batches
from taomagic.engine.data.tfrecord import TFRecordWriter
from taomagic.engine.detectnet_v2 import weights as detectnet_weights
from taomagic.engine.detectnet_v2.model import Architecture as DetectNetArchitecture
from taomagic.engine.detectnet_v2.model import DetectNet
from taomagic.engine.detectnet_v2.onnx_export import export_with_scales
from taomagic.engine.ssd import weights as ssd_weights
from taomagic.engine.ssd.model import SSD, Architecture
from taomagic.engine.ssd.onnx_export import export_onnx
from taomagic.engine.storage.model_file import read_onnx, write_onnx
from taomagic.spec.detectnet_v2 import read_experiment as read_detectnet
from taomagic.spec.ssd import read_experiment as read_ssd
from tests.engine.commands.conftest import SPEC
from tests.engine.converter.engine_cases import convolutional, yolo
from tests.engine.detectnet_v2.conftest import example
from tests.engine.detectnet_v2.test_grid_loading import experiment_text

ROOT = "/workspace/tao-experiments"
KEY = "tiny_key"
NETWORKS = ("ssd", "detectnet_v2")
INPUTS = {"ssd": "Input", "detectnet_v2": "input_1"}
INFERENCE = Path(__file__).parents[3] / "specs/detectnet_v2/detectnet_v2_inference_kitti_etlt.txt"

Run = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with labels, specs, and both networks as checkpoints and exported."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    for part in ("data/image_2", "data/label_2", "data/tfrecords", "empty"):
        (folder / part).mkdir(parents=True)
    with TFRecordWriter(folder / "data/tfrecords/set0-fold-000-of-002") as writer:
        for index in range(4):
            picture = rng.integers(0, 80, (64, 96, 3), dtype=np.uint8)
            picture[10:50, 20:80] = 220
            cv2.imwrite(str(folder / f"data/image_2/{index}.png"), picture)
            row = "car 0.00 0 0.00 20 10 80 50 0 0 0 0 0 0 0\n"
            (folder / f"data/label_2/{index}.txt").write_text(row)
            writer.write(example(f"image_2/{index}", [("car", 20.0, 10.0, 80.0, 50.0)], (96, 64)))
    text = SPEC.replace("data/val/", "data/").replace("output_width: 144", "output_width: 96")
    (folder / "ssd.txt").write_text(text.replace("output_height: 48", "output_height: 64"))
    text = experiment_text().replace("num_layers: 18", "num_layers: 10\n  width_multiplier: 0.125")
    (folder / "detectnet_v2.txt").write_text(text)
    text = INFERENCE.read_text().replace("image_width: 1248", "image_width: 96")
    (folder / "inference.txt").write_text(text.replace("image_height: 384", "image_height: 64"))
    torch.manual_seed(1)
    ssd_spec = read_ssd(folder / "ssd.txt", purpose="evaluate")
    assert ssd_spec.dataset is not None
    ssd = SSD(Architecture.from_experiment(ssd_spec, ssd_spec.dataset.classes))
    detectnet_spec = read_detectnet(folder / "detectnet_v2.txt", purpose="evaluate")
    detectnet = DetectNet(DetectNetArchitecture.from_experiment(detectnet_spec))
    with torch.no_grad():
        ssd.train()(torch.randn(4, 3, 64, 96) * 60)
        detectnet.train()(torch.rand(4, 3, 64, 96))
        for name, value in (("output_bbox", 40 / 35), ("output_cov", 0.0)):
            detectnet.heads[name].weight.mul_(0.01)
            detectnet.heads[name].bias.fill_(value)
    ssd_weights.save(folder / "ssd.hdf5", ssd.eval(), "")
    detectnet_weights.save(folder / "detectnet_v2.hdf5", detectnet.eval(), "")
    exported = {
        "ssd": export_onnx(
            ssd, ssd_spec, opset=12
        ),  # the default of export, in which int8 has no channels yet
        "detectnet_v2": export_with_scales(detectnet, detectnet_spec).model,
    }
    for task, model in exported.items():
        write_onnx(folder / f"{task}.onnx", model)
        write_onnx(folder / f"{task}.etlt", model, KEY)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a folder for results; what was made before lies beside it in the container."""
    results = tmp_path / "results"
    results.mkdir()
    pairs = {"made": made, "data": made / "data", "out": results}
    mounts = [{"source": str(path), "destination": f"{ROOT}/{name}"} for name, path in pairs.items()]
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
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def command(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        code = main([word.replace("@", f"{ROOT}/") for word in words])
        return code, capsys.readouterr().out

    return command


@pytest.fixture
def build(run: Run) -> Run:
    def command(task: str, *words: str, model: str = "") -> tuple[int, str]:
        model = model or f"{task}.onnx"
        return run(
            "deploy",
            task,
            "gen_trt_engine",
            "-m",
            f"@made/{model}",
            "-e",
            f"@made/{task}.txt",
            "-r",
            "@out",
            *words,
        )

    return command


def confidences(outputs: dict[str, np.ndarray]) -> np.ndarray:
    """Return coverage, or the confidences of an SSD's boxes: among many that are equal the order says nothing."""
    if "NMS" in outputs:
        return np.sort(outputs["NMS"][..., 2], axis=-1)
    return outputs["output_cov/Sigmoid"]


@pytest.mark.parametrize("task", NETWORKS)
def test_engines_of_every_precision_say_what_they_are_and_agree(
    build: Run, run: Run, folder: Path, made: Path, task: str
) -> None:
    reference = open_engine(made / f"{task}.onnx")
    images = np.random.default_rng(5).uniform(0, 1, (2, 3, 64, 96)).astype(np.float32)
    images = images * 255 - 120 if task == "ssd" else images
    expected = reference.run(images)
    for precision, bound in (("fp32", 1e-4), ("fp16", 0.01), ("int8", 0.25)):
        engine_file = f"@out/{precision}.trt"
        words = ("--cal_image_dir", "@data/image_2", "--batches", "2", "--batch_size", "2")
        words = (*words, "--max_batch_size", "2") if precision == "int8" else ("--max_batch_size", "2")
        code, output = build(task, "--data_type", precision, "--engine_file", engine_file, *words)
        assert code == 0, output
        assert f"Saved: {ROOT}/out/{precision}.trt" in output
        engine = open_engine(folder / f"{precision}.trt")
        assert engine.metadata["precision"] == precision
        assert engine.metadata["batch"] == {"min": 1, "opt": 1, "max": 2}
        assert engine.metadata["fingerprint"] == reference.metadata["fingerprint"]
        found = engine.run(images)
        assert np.abs(confidences(found) - confidences(expected)).max() < bound
    code, output = run(
        "deploy", task, "evaluate", "-m", "@out/int8.trt", "-e", f"@made/{task}.txt", "-r", "@out/scored",
        "-i", "@data/image_2", "-l", "@data/label_2", "-b", "3",
    )  # fmt: skip
    assert code == 0, output
    assert "INT8 engine" in output
    assert set(json.loads((folder / "scored" / "results.json").read_text())) > {"mAP"}
    spec = "inference" if task == "detectnet_v2" else task
    code, output = run(
        "deploy", task, "inference", "-m", "@out/int8.trt", "-e", f"@made/{spec}.txt", "-r", "@out/found",
        "-i", "@data/image_2",
    )  # fmt: skip
    assert code == 0, output
    assert len(list((folder / "found" / "labels").iterdir())) == 4
    assert len(list((folder / "found" / "images_annotated").iterdir())) == 4
    records = [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]
    assert [record["status"] for record in records] == ["STARTED", "SUCCESS"] * 3


def test_calibration_leaves_a_tensor_file_and_a_cache_which_are_used_again(
    build: Run, run: Run, folder: Path, made: Path
) -> None:
    words = ("--data_type", "int8", "--cal_cache_file", "@out/cal.bin", "--engine_file", "@out/a.trt")
    data = ("--cal_image_dir", "@data/image_2", "--cal_data_file", "@out/cal.tensor")
    code, output = build("ssd", *words, *data, "--batches", "2", "--batch_size", "2")
    assert code == 0, output
    assert "Calibrated" in output
    ranges = read_cache(folder / "cal.bin")
    assert "Input" in ranges
    # The tensor file in place of the images: the same ranges to the last bit.
    first = (folder / "cal.bin").read_bytes()
    code, output = build("ssd", *words, *data, "--batches", "2")
    assert code == 0, output
    assert "exists and is used" in output
    assert (folder / "cal.bin").read_bytes() == first
    # The cache alone, in the other command and from the encrypted model.
    code, output = run(
        "converter", "@made/ssd.etlt", "-k", KEY, "-d", "3,64,96", "-o", "NMS", "-e", "@out/b.trt", "-t", "int8",
        "-c", "@out/cal.bin", "-m", "4", "-b", "2", "-w", "1073741824", "-i", "nchw",
    )  # fmt: skip
    assert code == 0, output
    assert "Reading the calibration cache" in output
    a, b = read_engine(folder / "a.trt"), read_engine(folder / "b.trt")
    assert a[1] == b[1]
    assert (a[0].batch, b[0].batch) == ((1, 1, 1), (1, 4, 4))
    assert a[0].fingerprint == b[0].fingerprint


@pytest.mark.parametrize("task", NETWORKS)
def test_without_data_the_images_of_the_spec_calibrate(build: Run, folder: Path, task: str) -> None:
    code, output = build(task, "--data_type", "int8", "--cal_cache_file", "@out/cal.bin", "--batches", "1")
    assert code == 0, output
    assert "Calibrating with images of the spec" in output
    assert INPUTS[task] in read_cache(folder / "cal.bin")


def test_scales_of_a_training_replace_the_calibration(build: Run, folder: Path, made: Path) -> None:
    model = onnx.load(made / "detectnet_v2.onnx")
    names = [INPUTS["detectnet_v2"], *(name for node in model.graph.node for name in node.output)]
    (folder / "cal.json").write_text(json.dumps({"tensor_scales": dict.fromkeys(names, 6.0)}))
    words = ("--data_type", "int8", "--cal_json_file", "@out/cal.json", "--cal_cache_file", "@out/cal.bin")
    code, output = build("detectnet_v2", *words)
    assert code == 0, output
    assert "Calibrated" not in output
    assert list(read_cache(folder / "cal.bin").values()) == pytest.approx([6.0] * len(set(names)))
    code, output = build("detectnet_v2", *words, "--force_ptq", "--cal_image_dir", "@data/image_2")
    assert code == 0, output
    assert "Calibrated" in output
    assert read_cache(folder / "cal.bin")[INPUTS["detectnet_v2"]] == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cal_json_file", "@made/x.json"), "--cal_json_file has the scales for int8"),
        (("--data_type", "int8", "--cal_image_dir", "@made/none"), "doesn't exist"),
        (("--data_type", "int8", "--cal_image_dir", "@made/empty"), "no .jpg, .jpeg or .png"),
        (("--data_type", "int8", "--cal_data_file", "@made/none.tensor"), "doesn't exist"),
        (("--data_type", "int8", "--cal_json_file", "@made/ssd.txt"), "isn't JSON"),
        (("--min_batch_size", "4", "--max_batch_size", "2"), "must not decrease"),
        (("--engine_file", "/proc/1/model.engine"), "/proc/1"),
        (("--engine_file", "@made"), "is a folder"),
        (("--engine_file", "@made/ssd.onnx"), "would replace the model"),
        (("--runtime", "tensorrt"), "TensorRT isn't installed here"),
        (("--data_type", "int4"), "invalid choice"),
        (("--max_workspace_size", "0"), "in GiB"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    build: Run, folder: Path, words: tuple[str, ...], message: str
) -> None:
    code, output = build("ssd", *words)
    assert code == 1
    assert "Traceback" not in output
    assert message in next(line for line in output.splitlines() if line.startswith("ERROR: "))
    assert not list(folder.glob("*.engine"))


def test_a_cache_of_another_model_is_refused(build: Run, folder: Path) -> None:
    write_cache(folder / "cal.bin", {"other": 1.0})
    code, output = build("ssd", "--data_type", "int8", "--cal_cache_file", "@out/cal.bin")
    assert code == 1
    assert "none of the model's" in output
    assert "Input" in output


def test_a_model_whose_name_went_to_the_flag_of_the_cache_survives(run: Run, folder: Path) -> None:
    model = convolutional()
    (folder / "net.onnx").write_bytes(model)
    (folder / "cal.json").write_text('{"tensor_scales": {"Input": 1.0}}')
    for words in (("--cal_image_dir", "@made/data"), ("--cal_json_file", "@out/cal.json")):
        code, output = run(
            "converter", "@out/net.onnx", "-t", "int8", "-c", "@out/net.onnx", "-e", "@out/e", *words
        )
        assert (code, "this isn't a calibration cache" in output) == (1, True), output
        assert (folder / "net.onnx").read_bytes() == model


def test_a_cache_of_an_earlier_training_is_made_anew_or_refused(
    build: Run, run: Run, folder: Path, made: Path
) -> None:
    words = (
        "--data_type",
        "int8",
        "--cal_cache_file",
        "@out/cal.bin",
        "--batches",
        "1",
        "--engine_file",
        "@out/a",
    )
    code, output = build("ssd", *words)
    assert code == 0, output
    right = (folder / "cal.bin").read_bytes()
    code, output = build("ssd", *words)
    assert (code, "Reading the calibration cache" in output, "Nothing says" in output) == (0, True, False)
    # The same tensors and another training.
    write_cache(
        folder / "cal.bin",
        {name: 2 * value for name, value in read_cache(folder / "cal.bin").items()},
        model="x",
    )
    code, output = run("converter", "@made/ssd.onnx", "-t", "int8", "-c", "@out/cal.bin", "-e", "@out/b")
    assert (code, "made for another model" in output) == (1, True)
    code, output = build("ssd", *words)
    assert (code, "it is made anew" in output) == (0, True), output
    assert (folder / "cal.bin").read_bytes() == right
    # TensorRT's own say nothing, and neither does one that was changed.
    (folder / "cal.bin").write_bytes(right.replace(b"8503", b"8601"))
    code, output = run("converter", "@made/ssd.onnx", "-t", "int8", "-c", "@out/cal.bin", "-e", "@out/b")
    assert (code, "Nothing says which model" in output) == (0, True), output


def test_a_cache_that_knows_a_part_of_the_model_is_warned_of(run: Run, folder: Path) -> None:
    write_onnx(folder / "net.onnx", convolutional(layers=4))
    whole = {"Input": 4.0, **{f"relu_{index}": 4.0 for index in range(3)}, "features": 4.0}
    part = dict(list(whole.items())[:3])
    own = read_onnx(folder / "net.onnx")
    # A network that was trained with enable_qat has no scales for what it doesn't quantise.
    for ranges, model, warns in (
        (whole, "", False),
        (part, "", True),
        (part, hashlib.sha256(own).hexdigest(), False),
    ):
        write_cache(folder / "cal.bin", ranges, model=model)
        words = ("converter", "@out/net.onnx", "-t", "int8", "-c", "@out/cal.bin", "-e", "@out/net.engine")
        code, output = run(*words)
        assert code == 0, output
        assert ("no range for 2 of the model's 5 tensors" in output) is warns


def test_another_networks_model_is_refused(build: Run) -> None:
    code, output = build("ssd", model="detectnet_v2.onnx")
    assert code == 1
    assert "this is a model of detectnet_v2, not of ssd" in output


def test_a_model_of_bytes_is_not_calibrated(run: Run, folder: Path) -> None:
    model = onnx.load_from_string(convolutional())
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    model.graph.node.insert(
        0, onnx.helper.make_node("Cast", ["Input"], ["floats"], to=onnx.TensorProto.FLOAT)
    )
    model.graph.node[1].input[0] = "floats"
    (folder / "bytes.onnx").write_bytes(model.SerializeToString())
    write_batches(folder / "cal.tensor", [np.ones((1, 3, 16, 16), np.float32)], name="Input")
    code, output = run(
        "converter", "@out/bytes.onnx", "-t", "int8", "--cal_data_file", "@out/cal.tensor", "-e", "@out/e"
    )
    assert (code, "takes images in uint8" in output, "Traceback" in output) == (1, True, False)


def test_a_model_from_elsewhere_converts(run: Run, folder: Path, made: Path) -> None:
    (folder / "yolo.onnx").write_bytes(convolutional(batch="None", size="side", input_name="000_net"))
    code, output = run("converter", "@out/yolo.onnx", "-e", "@out/yolo.trt")
    assert code == 1
    assert "doesn't say how large its images are (000_net: 3,?,?)" in output
    profile = "000_net,1x3x32x32,2x3x32x32,4x3x32x32"
    code, output = run("converter", "@out/yolo.onnx", "-e", "@out/yolo.trt", "-p", profile)
    assert code == 0, output
    engine = open_engine(folder / "yolo.trt")
    assert engine.metadata["batch"] == {"min": 1, "opt": 2, "max": 4}
    assert "-m" not in output
    code, output = run("converter", "@out/yolo.onnx", "-e", "@out/yolo.trt", "-p", profile, "-m", "8")
    assert (code, "-m 8 is not used: -p says how many images" in output) == (0, True)
    images = np.random.default_rng(0).normal(0, 1, (6, 3, 32, 32)).astype(np.float32)
    expected = open_engine(folder / "yolo.onnx").run(images)
    np.testing.assert_allclose(engine.run(images)["score"], expected["score"], atol=1e-5)
    # Without metadata nobody knows how to prepare images for it; a tensor file says it.
    words = ("converter", "@out/yolo.onnx", "-d", "3,32,32", "-t", "int8", "-e", "@out/int8.trt")
    code, output = run(*words, "--cal_image_dir", "@data/image_2")
    assert code == 1
    assert "doesn't say how its images are prepared" in output
    write_batches(folder / "cal.tensor", [images[:3], images[3:]], name="000_net")
    code, output = run(*words, "--cal_data_file", "@out/cal.tensor", "--batches", "2")
    assert code == 0, output
    assert open_engine(folder / "int8.trt").metadata["notes"]["layers_in_int8"] >= 1


def test_a_yolo_of_other_tools_converts_and_runs_in_every_precision(run: Run, folder: Path) -> None:
    (folder / "yolov3.onnx").write_bytes(yolo())
    seen = np.random.default_rng(0).normal(0, 1, (4, 3, 64, 96)).astype(np.float32)
    write_batches(folder / "cal.tensor", [seen], name="000_net")
    wanted = open_engine(folder / "yolov3.onnx").run(seen)
    assert {name: values.shape for name, values in wanted.items()} == {
        "082_convolutional": (4, 21, 8, 12),
        "094_convolutional": (4, 21, 16, 24),
    }
    for precision, bound in (("fp32", 1e-5), ("fp16", 0.005), ("int8", 0.15)):
        code, output = run(
            "converter", "@out/yolov3.onnx", "-d", "3,64,96", "-o", "082_convolutional,094_convolutional", "-m", "2",
            "-t", precision, "-e", f"@out/{precision}.trt",
            *(("--cal_data_file", "@out/cal.tensor", "--batches", "1") if precision == "int8" else ()),
        )  # fmt: skip
        assert code == 0, output
        found = open_engine(folder / f"{precision}.trt").run(seen)  # four images, in two parts
        for name, values in wanted.items():
            error = np.sqrt(np.mean((found[name] - values) ** 2)) / values.std()
            assert error < bound, (precision, name, error)
    # Nobody knows here what its maps mean, so there is no program to go along with it.
    code, output = run("device", "bundle", "@out/fp32.trt", "-o", "@out/bundle")
    assert (code, "doesn't say what it is" in output) == (1, True), output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-o", "NMS,boxes"), "no output boxes"),
        (("-d", "3,300,300"), "-d is 3,300,300, and the model's input Input is 3,64,96"),
        (("-d", "3,300"), "is not channels, height and width"),
        (("-i", "nhwc"), "N × C × H × W"),
        (("-p", "Input,4x3x64x96,2x3x64x96,8x3x64x96"), "must not decrease"),
        (("-p", "Input,1x3x64x96,2x3x32x96,8x3x64x96"), "differ in more than the number"),
        (("-p", "data,1x3x64x96,2x3x64x96,8x3x64x96"), "no input data"),
        (("-p", "Input,1x3"), "such as"),
        (("-e", "@made"), "is a folder"),
        (("-t", "int8"), "nothing gives them"),
        (("-t", "int8", "-c", "@out/none.bin"), "doesn't exist yet"),
        (("-t", "int8", "-c", "@made"), "this is a folder"),
        (("-t", "int8", "-c", "@out/x.trt", "--cal_image_dir", "@made/data"), "would replace the file of"),
        (("-u", "-2"), "DLA"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_conversion_is_said(run: Run, words: tuple[str, ...], message: str) -> None:
    code, output = run(
        "converter", "@made/ssd.onnx", *(() if "-e" in words else ("-e", "@out/x.trt")), *words
    )
    assert code == 1
    assert "Traceback" not in output
    error = next(line for line in output.splitlines() if line.startswith("ERROR: "))
    hint = next((line for line in output.splitlines() if line.startswith("HINT: ")), "")
    assert message in error + hint


def test_a_wrong_key_and_a_checkpoint_are_named(run: Run) -> None:
    code, output = run("converter", "@made/ssd.etlt", "-k", "wrong", "-e", "@out/x.trt")
    assert (code, "the key is not the one" in output) == (1, True)
    code, output = run("converter", "@made/ssd.hdf5", "-e", "@out/x.trt")
    assert (code, "Export the checkpoint first" in output) == (1, True)


def test_a_model_of_a_fixed_batch_size_keeps_it(run: Run, folder: Path) -> None:
    (folder / "fixed.onnx").write_bytes(convolutional(batch=2))
    code, output = run("converter", "@out/fixed.onnx", "-e", "@out/fixed.trt", "-m", "4")
    assert code == 0, output
    assert open_engine(folder / "fixed.trt").metadata["batch"] == {"min": 2, "opt": 2, "max": 2}
    code, output = run("converter", "@out/fixed.onnx", "-e", "@out/fixed.trt", "-m", "1")
    assert code == 0, output
    code, output = run(
        "converter", "@out/fixed.onnx", "-e", "@out/x.trt", "-p", "Input,4x3x16x16,4x3x16x16,8x3x16x16"
    )
    assert code == 1
    assert "fixed batch size 2" in output


def test_batch_sizes_that_are_not_named_follow_the_ones_that_are(build: Run, folder: Path) -> None:
    for words, sizes in (
        (("--min_batch_size", "4"), (4, 4, 4)),
        (("--opt_batch_size", "2"), (1, 2, 2)),
        (("--max_batch_size", "8"), (1, 1, 8)),
        ((), (1, 1, 1)),
    ):
        code, output = build("detectnet_v2", "--engine_file", "@out/a.trt", *words)
        assert code == 0, output
        assert read_engine(folder / "a.trt")[0].batch == sizes


@pytest.mark.parametrize("task", NETWORKS)
def test_models_are_compared(
    build: Run, run: Run, folder: Path, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_SECONDS", "_REST_S"):
        monkeypatch.setattr(timing, name, 0.0)
    code, output = build(task, "--engine_file", "@out/fp32.trt")
    assert code == 0, output
    code, output = run(
        "deploy", task, "compare", "-e", f"@made/{task}.txt", "-r", "@out/compared", "-b", "1", "2", "-m",
        f"@made/{task}.hdf5", f"@made/{task}.onnx", "@out/fp32.trt",
    )  # fmt: skip
    assert code == 0, output
    content = json.loads((folder / "compared" / "comparison.json").read_text())
    assert content["reference"] == f"{task}.hdf5"
    assert [model["kind"] for model in content["models"]] == ["TAO model", "ONNX model", "FP32 engine"]
    assert len({model["parameters"] for model in content["models"]}) == 1
    assert content["recommended"] in {model["name"] for model in content["models"]}
    for model in content["models"]:
        assert model["mAP"] == pytest.approx(content["models"][0]["mAP"], abs=1e-3)
        assert set(model["images_per_second"]) == {"1", "2"}
        assert 0 < model["latency_ms"]["median"] <= model["latency_ms"]["p95"]
        assert model["changed_boxes"] == 0
        assert model["name"] in output
    assert any(sentence.startswith("Recommended: ") for sentence in content["words"])
    picture = cv2.imread(str(folder / "compared" / "comparison.png"))
    assert picture.shape[1] > 3 * 96
    record = json.loads((folder / "compared" / "status.json").read_text().splitlines()[-1])
    assert record["status"] == "SUCCESS"
    assert set(record["categorical"]["mAP"]) == {model["name"] for model in content["models"]}
    told = record["graphical"]["comparison"]
    assert 0 < told.pop("first_image_share") < 1
    assert told == content


def test_a_comparison_needs_two_different_models(run: Run) -> None:
    words = ("deploy", "ssd", "compare", "-e", "@made/ssd.txt", "-r", "@out", "-m", "@made/ssd.onnx")
    code, output = run(*words)
    assert (code, "compared with nothing" in output) == (1, True)
    for again in ("@made/ssd.onnx", "@made/../made/ssd.onnx"):
        code, output = run(*words, again)
        assert (code, "more than once" in output) == (1, True)
