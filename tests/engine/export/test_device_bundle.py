"""`tao device bundle`: a folder that finds the same objects without taomagic, and keeps no secret."""

from __future__ import annotations

import ast
import ctypes
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from taomagic.engine.cli import main
from taomagic.engine.converter.runtime import OnnxEngine
from taomagic.engine.detectnet_v2 import weights as detectnet_weights
from taomagic.engine.detectnet_v2.clustering import dbscan
from taomagic.engine.detectnet_v2.model import Architecture, DetectNet
from taomagic.engine.detectnet_v2.onnx_export import export_with_scales
from taomagic.engine.device_bundle import command, objects
from taomagic.engine.ssd import weights as ssd_weights
from taomagic.engine.storage.model_file import write_onnx
from tests.engine.converter import tensorrt_double

from .export_cases import network

KEY = "very-secret-key"
CLASSES = ("car", "cyclist", "person")
SSD_SPEC = """
ssd_config { aspect_ratios_global: "[1.0, 2.0, 0.5]" scales: "[0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95]"
             variances: "[0.1, 0.1, 0.2, 0.2]" arch: "resnet" nlayers: 10 two_boxes_for_ar1: true }
eval_config { validation_period_during_training: 1 batch_size: 2 matching_iou_threshold: 0.5 }
nms_config { confidence_threshold: 0.05 clustering_iou_threshold: 0.5 top_k: 40 }
augmentation_config { output_width: 128 output_height: 96 output_channel: 3 }
dataset_config { target_class_mapping { key: "car" value: "car" }
  target_class_mapping { key: "cyclist" value: "cyclist" } target_class_mapping { key: "person" value: "person" } }
"""
HANDLER = """
  classwise_bbox_handler_config {{ key: "{name}" value {{
    confidence_model: "{confidence}" output_map: "{label}" bbox_color {{ R: 0 G: 255 B: 0 }}
    clustering_config {{ clustering_algorithm: {algorithm} coverage_threshold: 0.5 dbscan_eps: 0.5
      dbscan_min_samples: 1 dbscan_confidence_threshold: 0.2 minimum_bounding_box_height: 4
      nms_iou_threshold: 0.3 nms_confidence_threshold: 0.1 }} }} }}
"""
GRID_SPEC = """
inferencer_config {{ target_classes: "car" target_classes: "cyclist" target_classes: "person" image_width: 192
  image_height: 96 image_channels: 3 batch_size: 2 tlt_config {{ model: "{model}" }} }}
bbox_handler_config {{ kitti_dump: true disable_overlay: true
  {handlers} }}
"""
#: Stands in the device's place: nothing of ours, of PyTorch or OpenCV can be imported.
DEVICE = """
import runpy, sys
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"taomagic", "torch", "cv2", "onnx", "h5py", "cryptography"}:
            raise ModuleNotFoundError(f"No module named {name!r}, on the device")
sys.meta_path.insert(0, Guard())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
assert not {"taomagic", "torch", "cv2"} & {name.partition(".")[0] for name in sys.modules}
"""


#: OpenCV as a device with a camera has it: two frames, blue and then green, each in BGR.
CAMERA = """
import sys, types
import numpy as np
class VideoCapture:
    def __init__(self, source):
        print("opened", repr(source))
        self.left = [(255, 0, 0), (0, 255, 0)]
    def isOpened(self):
        return True
    def read(self):
        if not self.left:
            return False, None
        return True, np.full((48, 64, 3), self.left.pop(0), np.uint8)
    def release(self):
        print("released")
sys.modules["cv2"] = types.SimpleNamespace(VideoCapture=VideoCapture)
"""


def on_device(bundle: Path, *words: object, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run the bundle's program in an isolated Python."""
    program = DEVICE.replace(', "cv2"} &', "} &") if before else DEVICE
    call = [sys.executable, "-I", "-c", before + program, str(bundle / "run.py"), *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, check=False, cwd=bundle)


def rows_of(folder: Path) -> dict[str, list[list[str]]]:
    return {path.name: [row.split() for row in path.read_text().splitlines()] for path in folder.iterdir()}


def assert_same_labels(one: Path, other: Path) -> int:
    """Compare two folders of labels, and return how many objects they have."""
    found, wanted = rows_of(one), rows_of(other)
    assert found.keys() == wanted.keys()
    for name, rows in wanted.items():
        # Objects of nearly the same confidence may stand in another order.
        for each in (rows, found[name]):
            each.sort(key=lambda row: [row[0], *(round(float(side)) for side in row[4:8])])
        assert [row[0] for row in found[name]] == [row[0] for row in rows]
        numbers = [[[float(value) for value in row[4:]] for row in each] for each in (found[name], rows)]
        np.testing.assert_allclose(*numbers, rtol=2e-3, atol=0.02)
    return sum(map(len, wanted.values()))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures, specs and models of both networks."""
    folder = tmp_path_factory.mktemp("device")
    rng = np.random.default_rng(3)
    (folder / "pictures").mkdir()
    for name, size in (("a.png", (160, 200)), ("b.png", (96, 128)), ("c.jpg", (300, 90))):
        small = rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(
            folder / "pictures" / name, quality=95
        )
    (folder / "ssd.txt").write_text(SSD_SPEC)
    ssd_weights.save(folder / "ssd.tlt", network(classes=CLASSES, trained=True), KEY)
    torch.manual_seed(5)
    grid = DetectNet(Architecture("resnet", 10, 0.125, (3, 96, 192), CLASSES, True, False, 35.0, 0.5))
    for module in grid.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        images = torch.nn.functional.interpolate(torch.rand(8, 3, 6, 8), (96, 192), mode="bicubic")
        coverage, boxes = grid.train()(images)
        coverage, boxes = grid.eval()(images)
        grid.heads["output_cov"].weight *= 2 / torch.logit(coverage.double()).std().float()
        grid.heads["output_bbox"].weight *= 0.1 / boxes.std()
        grid.heads["output_bbox"].bias.fill_(0.6)
    detectnet_weights.save(folder / "grid.tlt", grid, KEY)
    write_onnx(folder / "bare.onnx", export_with_scales(grid).model)
    ways = [("car", "DBSCAN", "aggregate_cov", "auto"), ("cyclist", "NMS", "aggregate_cov", "bike"),
            ("person", "HYBRID", "mean_cov", "person")]  # fmt: skip
    handlers = "".join(
        HANDLER.format(name=name, algorithm=algorithm, confidence=confidence, label=label)
        for name, algorithm, confidence, label in ways
    )
    (folder / "grid.txt").write_text(GRID_SPEC.format(model=folder / "grid.tlt", handlers=handlers))
    return folder


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAUNCHER_MOUNTS", raising=False)


@pytest.fixture(scope="module")
def bundle(place: Path) -> Callable[..., Path]:
    """Write a bundle, once for the same words."""

    def write(name: str, model: str, *words: str) -> Path:
        target = place / name
        if not target.exists():
            assert main(["device", "bundle", str(place / model), "-o", str(target), "-k", KEY, *words]) == 0
        return target

    return write


@pytest.fixture(scope="module")
def ssd_labels(place: Path, bundle: Callable[..., Path]) -> Path:
    """What the bundle of an SSD finds, as labels; the pictures lie beside them."""
    folder = bundle("ssd", "ssd.tlt", "-e", str(place / "ssd.txt"))
    done = on_device(folder, place / "pictures", "-o", place / "ssd_out", "--threshold", "0.1")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^a\.png: \d+ objects, [\d.]+ ms", done.stdout, re.M)
    assert "3 pictures," in done.stdout
    return place / "ssd_out/labels"


def test_ssd_finds_on_the_device_what_inference_finds(place: Path, ssd_labels: Path) -> None:
    words = [
        "-m",
        place / "ssd.tlt",
        "-e",
        place / "ssd.txt",
        "-i",
        place / "pictures",
        "-t",
        "0.1",
        "-k",
        KEY,
    ]
    assert main(["ssd", "inference", *map(str, words), "-r", str(place / "ssd_ours")]) == 0
    assert assert_same_labels(ssd_labels, place / "ssd_ours/labels") > 5
    for name in ("a.png", "b.png", "c.jpg"):
        with (
            Image.open(place / "ssd_out/images" / name) as drawn,
            Image.open(place / "pictures" / name) as plain,
        ):
            assert drawn.size == plain.size
            assert drawn.tobytes() != plain.tobytes()


def test_detectnet_finds_on_the_device_what_inference_finds(place: Path, bundle: Callable[..., Path]) -> None:
    folder = bundle("grid", "grid.tlt", "-e", str(place / "grid.txt"))
    done = on_device(folder, place / "pictures", "-o", place / "grid_out")
    assert done.returncode == 0, done.stderr
    words = ["-e", place / "grid.txt", "-i", place / "pictures", "-r", place / "grid_ours", "-k", KEY]
    assert main(["detectnet_v2", "inference", *map(str, words)]) == 0
    assert assert_same_labels(place / "grid_out/labels", place / "grid_ours/labels") > 5
    names = {row[0] for rows in rows_of(place / "grid_out/labels").values() for row in rows}
    assert names == {"auto", "bike", "person"}, "each way of clustering has found something"
    assert (folder / "labels.txt").read_text().split() == ["auto", "bike", "person"]


def test_the_engine_of_onnx_runtime_and_the_encrypted_export_give_the_same(
    place: Path, bundle: Callable[..., Path], ssd_labels: Path
) -> None:
    words = ["-m", str(place / "ssd.tlt"), "-e", str(place / "ssd.txt"), "-k", KEY]
    more = ["-o", str(place / "ssd.etlt"), "--engine_file", str(place / "ssd.engine")]
    assert main(["ssd", "export", *words, *more]) == 0
    for kind in ("etlt", "engine"):
        folder = bundle(f"from_{kind}", f"ssd.{kind}")
        done = on_device(folder, place / "pictures", "-o", place / f"{kind}_out", "--threshold", "0.1")
        assert done.returncode == 0, done.stderr
        assert json.loads((folder / "config.json").read_text())["network"] == "ssd"
        assert_same_labels(place / f"{kind}_out/labels", ssd_labels)
    assert "--onnx=model.onnx" in (place / "from_etlt/README.md").read_text()


def test_the_readme_builds_the_engine_of_this_model_and_no_file_has_the_key(
    place: Path, bundle: Callable[..., Path]
) -> None:
    folder = bundle("ssd", "ssd.tlt", "-e", str(place / "ssd.txt"))
    text = (folder / "README.md").read_text()
    shapes = " ".join(f"--{kind}Shapes=Input:1x3x96x128" for kind in ("min", "opt", "max"))
    line = f"trtexec --onnx=model_tensorrt.onnx --saveEngine=model.engine {shapes} --fp16\n"
    assert text.count(line) == 2, "in English and in Chinese"
    assert "| 4.6 | 8.0.1 |" in text
    assert "$" not in text
    for path in filter(Path.is_file, folder.iterdir()):
        assert KEY.encode() not in path.read_bytes()


@pytest.mark.parametrize("name", command.PROGRAMS)
def test_the_programs_are_of_python_3_6(name: str) -> None:
    """JetPack 4 has no newer one."""
    source = (Path(command.__file__).parent / name).read_text()
    for node in ast.walk(ast.parse(source, feature_version=(3, 6))):
        evaluated = isinstance(node, ast.AnnAssign) and not isinstance(node.annotation, ast.Constant)
        assert not evaluated or isinstance(node.annotation, ast.Name)


def test_what_is_wrong_on_the_device_is_told(place: Path, bundle: Callable[..., Path]) -> None:
    folder = bundle("ssd", "ssd.tlt", "-e", str(place / "ssd.txt"))
    done = on_device(folder, "camera:0", "-o", place / "camera_out")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("A camera needs OpenCV")
    done = on_device(folder, place / "ssd.txt", "-o", place / "ssd.txt")
    assert (done.returncode, "ssd.txt can't be written" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr
    (place / "mine/images").mkdir(parents=True)
    original = (place / "pictures/a.png").read_bytes()
    (place / "mine/images/a.png").write_bytes(original)
    for source in ("mine/images", "mine/images/a.png"):
        done = on_device(folder, place / source, "-o", place / "mine")
        assert (done.returncode, "would replace" in done.stderr) == (1, True)
        assert (place / "mine/images/a.png").read_bytes() == original
    done = on_device(folder, place / "pictures", "--model", place / "ssd.txt")
    assert "needs TensorRT" in done.stderr
    assert done.returncode == 1


def test_a_camera_gives_pictures_until_there_are_enough_or_no_more(
    place: Path, bundle: Callable[..., Path], tmp_path: Path
) -> None:
    folder = bundle("ssd", "ssd.tlt", "-e", str(place / "ssd.txt"))
    done = on_device(folder, "camera:1", "-o", tmp_path / "one", "--frames", "1", before=CAMERA)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "opened 1", "a number is a device"
    assert "released" in done.stdout
    assert [path.name for path in (tmp_path / "one" / "labels").iterdir()] == ["frame_000001.txt"]
    done = on_device(folder, "camera:rtsp://x/y", "-o", tmp_path / "all", "--frames", "0", before=CAMERA)
    assert done.stdout.splitlines()[0] == "opened 'rtsp://x/y'"
    assert (done.returncode, "gives no more pictures" in done.stderr) == (1, True)
    drawn = sorted((tmp_path / "all" / "images").iterdir())
    assert [path.name for path in drawn] == ["frame_000001.jpg", "frame_000002.jpg"]
    with Image.open(drawn[0]) as picture:
        assert picture.getpixel((63, 47))[2] > 150, "blue stays blue"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ssd.tlt", "-k", KEY], "a spec is needed"),
        (["bare.onnx"], "a spec is needed"),
        (["ssd.tlt", "-k", "wrong", "-e", "{ssd}"], "key"),
        (["grid.tlt", "-k", KEY, "-e", "{grid}", "--data_type", "int8"], "nothing gives them"),
        (["grid.tlt", "-k", KEY, "-e", "{grid}", "--cal_cache_file", "x"], "is for --data_type int8"),
        (["none.onnx"], "none.onnx"),
    ],
)
def test_what_is_wrong_is_told_and_leaves_nothing(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    more = [word.format(ssd=place / "ssd.txt", grid=place / "grid.txt") for word in words[1:]]
    assert main(["device", "bundle", str(place / words[0]), "-o", str(tmp_path / "new"), *more]) == 1
    said = capsys.readouterr().out
    assert message in said
    assert "HINT: " in said
    assert "unexpected" not in said
    assert not list(tmp_path.iterdir())


def test_a_folder_is_replaced_only_by_force_and_only_if_it_is_a_bundle(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(place / "bare.onnx"), "-e", str(place / "grid.txt")]
    target = tmp_path / "out"
    target.mkdir()
    (target / "work.txt").write_text("of weeks")
    for more in ([], ["--force"]):
        assert main(["device", "bundle", *words, "-o", str(target), *more]) == 1
        assert (target / "work.txt").read_text() == "of weeks"
    (target / "work.txt").unlink()
    assert main(["device", "bundle", *words, "-o", str(target)]) == 0, "an empty folder may be filled"
    (target / "model.onnx").write_bytes(b"old")
    assert main(["device", "bundle", *words, "-o", str(target)]) == 1
    assert (target / "model.onnx").read_bytes() == b"old"
    assert main(["device", "bundle", *words, "-o", str(target), "--force"]) == 0
    assert len((target / "model.onnx").read_bytes()) > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["out"], "nothing is left beside it"


def test_the_devices_clusters_are_those_of_the_engine() -> None:
    rng = np.random.default_rng(0)
    for _ in range(15):
        corners = rng.uniform(0, 60, (30, 2))
        boxes = np.concatenate([corners, corners + rng.choice([0, 10, 25, 40], (30, 2))], 1).astype(
            np.float32
        )
        weights = rng.uniform(0, 1, 30).astype(np.float32)
        for eps, least in ((0.4, 1), (0.7, 2), (0.2, 1), (1.0, 3)):
            mine = objects.dbscan(boxes, weights, eps, least)
            assert mine.tolist() == dbscan(boxes, weights, eps=eps, min_samples=least).tolist()


def test_the_tables_of_tensorrt_plugins_are_read_as_those_of_onnx() -> None:
    config = {"network": "ssd"}
    rows = np.zeros((1, 1, 3, 7), np.float32)
    rows[0, 0, :2] = [[0, 2, 0.9, 0.1, 0.2, 0.3, 0.4], [0, 1, 0.5, 0, 0, 1, 1]]
    count = np.array([2], np.int32)
    ways = [
        {"NMS": rows, "NMS_1": count.reshape(1, 1, 1, 1)},
        {"NMS": rows, "NMS_1": count.view(np.float32).reshape(1, 1, 1, 1)},
        {
            "num_detections": count.reshape(1, 1),
            "detection_boxes": rows[:, 0, :, 3:],
            "detection_scores": rows[:, 0, :, 2],
            "detection_classes": rows[:, 0, :, 1].astype(np.int32),
        },
    ]
    for outputs in ways:
        numbers, scores, boxes = objects.find(outputs, config)
        assert numbers.tolist() == [1, 0]
        np.testing.assert_array_equal(scores, np.float32([0.9, 0.5]))
        np.testing.assert_array_equal(boxes, rows[0, 0, :2, 3:])


def test_a_plan_of_tensorrt_is_no_model_for_other_machines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model.engine").write_bytes(b"ftrt" + bytes(60))
    assert main(["device", "bundle", str(tmp_path / "model.engine"), "-o", str(tmp_path / "b")]) == 1
    assert "builds its own engine" in capsys.readouterr().out


def test_nothing_is_taken_from_elsewhere_without_a_name() -> None:
    """The two READMEs have places for the words that the command has, and no others."""
    templates = Path(command.__file__).parent / "templates"
    contents = SimpleNamespace(
        config={"input": {"channels": 3, "height": 4, "width": 5, "name": "x"}, "network": "detectnet_v2"},
        source=SimpleNamespace(fixed_batch=2),
        labels=["a"],
        for_tensorrt="model.onnx",
    )
    known = command._words(contents, "int8")  # type: ignore[arg-type]
    assert known["flags"] == "--int8 --fp16 --calib=calibration.bin", "a fixed batch size takes no shapes"
    for path in templates.iterdir():
        assert set(re.findall(r"\$(\w+)", path.read_text())) <= set(known)


class _Cuda:
    """CUDA's library, with the host's memory for the GPU's."""

    def __init__(self) -> None:
        self.kept: list[ctypes.Array[ctypes.c_char]] = []

    def cudaMalloc(self, pointer: Any, size: ctypes.c_size_t) -> int:  # noqa: N802 - CUDA's names
        self.kept.append(ctypes.create_string_buffer(size.value))
        pointer._obj.value = ctypes.addressof(self.kept[-1])
        return 0

    def cudaMemcpy(self, target: int, source: int, size: int, kind: int) -> int:  # noqa: N802
        ctypes.memmove(target, source, size)
        return 0

    def cudaDeviceSynchronize(self) -> int:  # noqa: N802
        return 0


class _Numbered:
    """The API of TensorRT before 8.5 on top of the double's."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.num_bindings = engine.num_io_tensors
        self.get_binding_name = engine.get_tensor_name

    def binding_is_input(self, index: int) -> bool:
        return bool(self._engine.get_tensor_name(index) == self._engine.onnx.input_name)

    def get_binding_dtype(self, index: int) -> None:
        return None

    def create_execution_context(self) -> Any:
        engine, context = self._engine, self._engine.create_execution_context()

        def execute_v2(bindings: list[int]) -> bool:
            for index, memory in enumerate(bindings):
                context.set_tensor_address(engine.get_tensor_name(index), memory)
            return bool(context.execute_async_v3(0))

        return SimpleNamespace(
            set_binding_shape=lambda index, shape: context.set_input_shape(
                engine.get_tensor_name(index), shape
            ),
            get_binding_shape=lambda index: context.get_tensor_shape(engine.get_tensor_name(index)),
            execute_v2=execute_v2,
        )


@pytest.mark.parametrize("names", [True, False])
def test_an_engine_of_tensorrt_runs_with_its_old_api_and_its_new_one(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: bool
) -> None:
    """Against the double of the API; no GPU takes part."""
    trt = tensorrt_double.module()
    trt.nptype = lambda _: np.float32
    if not names:
        runtime = trt.Runtime
        trt.Runtime = lambda log: SimpleNamespace(
            deserialize_cuda_engine=lambda plan: _Numbered(runtime(log).deserialize_cuda_engine(plan))
        )
    monkeypatch.setitem(sys.modules, "tensorrt", trt)
    monkeypatch.delitem(sys.modules, "taomagic.engine.device_bundle.tensorrt_engine", raising=False)
    program = importlib.import_module("taomagic.engine.device_bundle.tensorrt_engine")
    monkeypatch.setattr(program, "_cuda", _Cuda)
    model = (place / "bare.onnx").read_bytes()
    (tmp_path / "model.engine").write_bytes(b"ftrt" + bytes(4) + model)
    engine = program.Engine(str(tmp_path / "model.engine"))
    wanted = OnnxEngine(model, {}, profile=None)
    for seed in (1, 2):  # the second image meets the first one's memory
        images = np.random.default_rng(seed).random((1, 3, 96, 192), np.float32)
        found = engine.run(images)
        assert found.keys() == wanted.run(images).keys()
        for name, values in wanted.run(images).items():
            np.testing.assert_array_equal(found[name], values)
    monkeypatch.delitem(sys.modules, "taomagic.engine.device_bundle.tensorrt_engine")


def test_a_model_with_operators_of_tensorrt_alone_is_said_to_need_an_engine(
    place: Path, bundle: Callable[..., Path], tmp_path: Path
) -> None:
    whole = bundle("ssd", "ssd.tlt", "-e", str(place / "ssd.txt"))
    target = tmp_path / "b"
    assert main(["device", "bundle", str(whole / "model_tensorrt.onnx"), "-o", str(target)]) == 0
    assert "TensorRT 8.0 or newer" in (target / "README.md").read_text()
    done = on_device(target, place / "pictures", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert "build an engine" in done.stderr
