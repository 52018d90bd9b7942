"""`detectnet_v2 evaluate` and `inference` from their command lines, on a network that isn't trained."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from taomagic.engine.cli import main
from taomagic.engine.data.tfrecord import TFRecordWriter
from taomagic.engine.detectnet_v2 import weights
from taomagic.engine.detectnet_v2.fitting import fitted
from taomagic.engine.detectnet_v2.layout import Layout
from taomagic.engine.detectnet_v2.model import Architecture, DetectNet
from taomagic.engine.detectnet_v2.onnx_export import export_with_scales
from taomagic.engine.storage.model_file import write_onnx
from taomagic.errors import ModelFileProblem
from taomagic.spec.detectnet_v2 import read_experiment

from .conftest import ROOT, Row, example
from .test_grid_loading import experiment_text

KEY = "key"
SPECS = Path(__file__).parents[3] / "specs" / "detectnet_v2"
CLASSES = ("car", "cyclist", "pedestrian")


@dataclass
class Place:
    """A project, and commands in it."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def run(self, *words: str) -> tuple[int, str]:
        """Return the exit code and what was printed."""
        self.capture.readouterr()
        code = main(["detectnet_v2", *words])
        return code, self.capture.readouterr().out

    def evaluate(self, model: str, *words: str) -> tuple[int, str]:
        return self.run("evaluate", "-e", f"{ROOT}/spec.txt", "-m", f"{ROOT}/{model}", "-k", KEY, *words)

    def infer(self, *words: str) -> tuple[int, str]:
        more = () if "-i" in words else ("-i", f"{ROOT}/testing")
        return self.run(
            "inference", "-e", f"{ROOT}/inference.txt", "-r", f"{ROOT}/results", "-k", KEY, *more, *words
        )

    def status(self, name: str) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, specs, a network, and the same one exported."""
    folder = tmp_path_factory.mktemp("grid")
    (folder / "tfrecords").mkdir()
    rng = np.random.default_rng(0)
    rows: list[Row] = [("car", 2.0, 2.0, 94.0, 62.0), ("cyclist", 40.0, 4.0, 80.0, 60.0)]
    for fold, names in ((0, ["v/0", "v/1", "v/2", "v/3", "v/4"]), (1, ["a/0"])):
        with TFRecordWriter(folder / "tfrecords" / f"set0-fold-00{fold}-of-002") as writer:
            for name in names:
                writer.write(example(name, rows, (96, 64)))
                (folder / name).parent.mkdir(exist_ok=True)
                cv2.imwrite(str(folder / f"{name}.png"), rng.integers(0, 255, (64, 96, 3), dtype=np.uint8))
    (folder / "labels").mkdir()
    for index in range(5):
        text = "".join(
            f"{name} 0.00 0 0.00 {x1} {y1} {x2} {y2} 0 0 0 0 0 0 0\n" for name, x1, y1, x2, y2 in rows
        )
        (folder / f"labels/{index}.txt").write_text(text)
    (folder / "testing").mkdir()
    for name, size in (("a.png", (128, 192)), ("b.jpg", (64, 96)), ("c.ppm", (50, 90))):
        cv2.imwrite(str(folder / "testing" / name), rng.integers(0, 255, (*size, 3), dtype=np.uint8))
    text = experiment_text().replace("num_layers: 18", "num_layers: 10\n  width_multiplier: 0.125")
    (folder / "spec.txt").write_text(text)
    bare, count = re.subn(r"data_sources \{[^}]*\}|validation_fold: 0", "", text)
    assert count == 2
    (folder / "bare.txt").write_text(bare)
    inference = (SPECS / "detectnet_v2_inference_kitti_tlt.txt").read_text()
    inference = inference.replace("image_width: 1248", "image_width: 96").replace(
        "image_height: 384", "image_height: 64"
    )
    inference = re.sub(r'\bmodel: "[^"]*"', f'model: "{ROOT}/model.tlt"', inference)
    (folder / "inference.txt").write_text(inference)
    torch.manual_seed(1)
    experiment = read_experiment(folder / "spec.txt", purpose="evaluate")
    model = DetectNet(Architecture.from_experiment(experiment)).eval()
    with torch.no_grad():  # every cell says, half sure, that something large is there
        for name, value in (("output_bbox", 60 / 35), ("output_cov", 0.0)):
            model.heads[name].weight.mul_(0.01)
            model.heads[name].bias.fill_(value)
    weights.save(folder / "model.tlt", model, KEY)
    write_onnx(folder / "model.onnx", export_with_scales(model, experiment).model)
    return folder


@pytest.fixture
def place(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Place:
    folder = tmp_path / "data"
    shutil.copytree(prepared, folder)
    mounts = tmp_path / "mounts.json"
    mounts.write_text(json.dumps({"Mounts": [{"source": str(folder), "destination": ROOT}]}))
    monkeypatch.setenv("LAUNCHER_MOUNTS", str(mounts))
    return Place(folder, capsys)


def block(output: str) -> list[str]:
    """Return what is printed about the score, but for the time."""
    lines = output.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("Validation cost"))
    end = next(i for i, line in enumerate(lines) if line.startswith("Median Inference Time"))
    return lines[start:end]


def test_evaluate_prints_taos_block_and_records_it(place: Place) -> None:
    code, output = place.evaluate("model.tlt", "-r", f"{ROOT}/results", "-b", "2")
    assert code == 0, output
    lines = block(output)
    assert re.fullmatch(r"Validation cost: \d+\.\d{6}", lines[0])
    mean = re.fullmatch(r"Mean average_precision \(in %\): (\d+\.\d{4})", lines[1])
    assert mean is not None
    assert lines[3].split("  ")[0] == "class name"
    assert [line.split()[0] for line in lines[5:8]] == list(CLASSES)
    values = [float(line.split()[1]) for line in lines[5:8]]
    assert float(mean[1]) == pytest.approx(sum(values) / 3, abs=1e-4)
    assert values[0] > 70, "all five cars are found"
    assert "step 0 / 3, " in output, "five images in twos: the rest counts here"
    assert output.count("Matching predictions to ground truth, class 3/3.: 100%") == 1
    assert re.search(r"^Median Inference Time: \d+\.\d{6}$", output, re.M)
    assert re.search(r"^Parameters: [\d,]+$", output, re.M)
    assert re.search(r"\nEvaluation complete\.\nTime taken to run \S+:main: 0:\d\d:\d\d\.\d{6}\.\n", output)
    record = place.status("results/status.json")[-1]
    assert (record["status"], record["message"]) == ("SUCCESS", "Evaluation metrics generated.")
    kpi, by_class = record["kpi"], record["categorical"]
    assert isinstance(kpi, dict)
    assert isinstance(by_class, dict)
    assert kpi["mean average precision"] == pytest.approx(float(mean[1]), abs=1e-4)
    assert f"{kpi['validation cost']:f}" == lines[0].split()[-1]
    assert [round(value, 4) for value in by_class["average_precision"].values()] == values
    assert set(record["graphical"]["precision_recall"]) == set(CLASSES)  # type: ignore[index]


def test_an_exported_model_and_folders_of_labels_give_the_same_score(place: Place) -> None:
    _, by_network = place.evaluate("model.tlt")
    code, by_runtime = place.evaluate("model.onnx")
    assert code == 0, by_runtime
    assert "Using the ONNX model for inference on CPU, ONNX Runtime" in by_runtime
    assert block(by_runtime)[1:] == block(by_network)[1:]
    assert float(block(by_runtime)[0].split()[-1]) == pytest.approx(
        float(block(by_network)[0].split()[-1]), rel=1e-3
    )
    flags = ("-i", f"{ROOT}/v", "-l", f"{ROOT}/labels")
    code, by_folders = place.evaluate("model.tlt", *flags, "-e", f"{ROOT}/bare.txt")
    assert code == 0, "the file needs no data of its own"
    assert block(by_folders) == block(by_network)


def test_an_engine_is_known_by_its_content_and_wants_its_flag(place: Place) -> None:
    place.capture.readouterr()
    engine = f"{ROOT}/model.trt.fp32"
    code = main(["converter", f"{ROOT}/model.onnx", "-d", "3,64,96", "-e", engine, "-m", "4"])
    assert code == 0, place.capture.readouterr().out
    code, output = place.evaluate("model.trt.fp32")
    assert code == 1
    assert "HINT: Add -f tensorrt." in output
    code, output = place.evaluate("model.trt.fp32", "-f", "tensorrt", "-b", "2")
    assert code == 0, output
    assert "Using the FP32 engine for inference on" in output
    assert block(output)[1:] == block(place.evaluate("model.tlt", "-b", "2")[1])[1:]
    words = ("-m", engine, "-e", f"{ROOT}/bare.txt", "-i", f"{ROOT}/v", "-l", f"{ROOT}/labels")
    code = main(["deploy", "detectnet_v2", "evaluate", *words, "-r", f"{ROOT}/deployed", "-b", "2"])
    assert code == 0, place.capture.readouterr().out
    results = json.loads((place.folder / "deployed/results.json").read_text())
    assert results["AP_car"] == 1.0, "every car is found, at an overlap of 0.5"
    words = ("-m", engine, "-e", f"{ROOT}/inference.txt", "-i", f"{ROOT}/testing", "-r", f"{ROOT}/deployed")
    assert main(["deploy", "detectnet_v2", "inference", *words]) == 0
    assert (place.folder / "deployed/labels/a.txt").read_text().startswith("car 0.00 0 0.00 ")


def test_the_training_images_can_be_evaluated_too(place: Place) -> None:
    code, output = place.evaluate("model.tlt", "--use_training_set")
    assert code == 0, output
    assert "; images: 1." in output


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (("-f", "tensorrt"), "is no engine, and -f tensorrt is for engines", "Drop -f tensorrt"),
        (("-i", f"{ROOT}/v"), "-i and -l go together", "Give both"),
        (
            ("-i", f"{ROOT}/v", "-l", f"{ROOT}/labels", "--use_training_set"),
            "other images than --use_training_set",
            "Give one",
        ),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    place: Place, words: tuple[str, ...], message: str, hint: str
) -> None:
    code, output = place.evaluate("model.tlt", *words)
    assert code == 1
    assert message in output
    assert f"HINT: {hint}" in output


def test_a_model_of_other_classes_is_refused_and_another_order_is_not(prepared: Path) -> None:
    experiment = read_experiment(prepared / "spec.txt", purpose="evaluate")
    layout = Layout(CLASSES[::-1], (3, 64, 96), 35.0, 0.5)
    reordered = fitted(experiment, layout, "m.tlt")
    assert reordered.classes == tuple(reordered.cost.classes) == CLASSES[::-1]
    assert reordered.cost.classes["car"] == experiment.cost.classes["car"]
    with pytest.raises(ModelFileProblem, match=r"\(car, tram\) and the spec's \(car, cyclist, pedestrian\)"):
        fitted(experiment, replace(layout, classes=("car", "tram")), "m.tlt")


def test_the_models_input_size_counts_unless_the_spec_cuts(prepared: Path) -> None:
    experiment = read_experiment(prepared / "spec.txt", purpose="evaluate")
    layout = Layout(CLASSES, (3, 80, 112), 35.0, 0.5)
    settings = fitted(experiment, layout, "m.tlt").augmentation
    assert settings is not None
    assert (settings.output_height, settings.output_width) == (80, 112)
    assert experiment.augmentation is not None
    cropped = replace(experiment, augmentation=replace(experiment.augmentation, crop=(0, 0, 96, 64)))
    with pytest.raises(ModelFileProblem, match="cuts out 96×64"):
        fitted(cropped, layout, "m.tlt")


def test_classes_in_another_order_give_the_same_score(place: Place) -> None:
    _, before = place.evaluate("model.tlt")
    text = (place.folder / "spec.txt").read_text()
    start = text.index("target_classes {")
    second = text.index("target_classes {", start + 1)
    third = text.index("target_classes {", second + 1)
    (place.folder / "spec.txt").write_text(
        text[:start] + text[second:third] + text[start:second] + text[third:]
    )
    code, after = place.evaluate("model.tlt")
    assert code == 0, after
    assert "matched by name" in after
    assert block(after)[1:] == block(before)[1:]


def test_inference_writes_pictures_and_labels(place: Place) -> None:
    code, output = place.infer()
    assert code == 0, output
    assert sorted(path.name for path in (place.folder / "results/images_annotated").iterdir()) == [
        "a.png",
        "b.jpg",
        "c.ppm",
    ]
    assert sorted(path.name for path in (place.folder / "results/labels").iterdir()) == [
        "a.txt",
        "b.txt",
        "c.txt",
    ]
    rows = (place.folder / "results/labels/a.txt").read_text().splitlines()
    assert rows
    number = r"-?\d+\.\d{3}"
    form = rf"(car|cyclist|pedestrian) 0\.00 0 0\.00( {number}){{4}}( 0\.00){{7}} {number}"
    assert all(re.fullmatch(form, row) for row in rows)
    assert place.status("results/status.json")[-1]["status"] == "SUCCESS"


def test_results_do_not_replace_the_labels_of_a_data_set(place: Place) -> None:
    """Images in ``data/images`` and labels in ``data/labels``, and ``-r data``."""
    before = (place.folder / "labels/0.txt").read_text()
    words = ("inference", "-e", f"{ROOT}/inference.txt", "-k", KEY, "-r", ROOT)
    code, output = place.run(*words, "-i", f"{ROOT}/v")
    assert code == 1
    assert f"{ROOT}/labels/0.txt: this looks like a label file of a data set" in output
    assert (place.folder / "labels/0.txt").read_text() == before
    assert not (place.folder / "images_annotated").exists()
    for _ in range(2):  # the command's own results may be replaced
        code, output = place.run(*words, "-i", f"{ROOT}/testing")
        assert code == 0, output


def test_a_file_in_the_place_of_the_results_folder_is_explained(place: Place) -> None:
    code, output = place.run(
        "inference", "-e", f"{ROOT}/inference.txt", "-i", f"{ROOT}/v", "-r", f"{ROOT}/spec.txt"
    )
    assert code == 1
    assert "a file is where a folder is needed" in output
    assert "HINT: Give another folder" in output


def edited(place: Place, *changes: tuple[str, str]) -> None:
    """Change the inference file."""
    path = place.folder / "inference.txt"
    text = path.read_text()
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new)
    path.write_text(text)


def test_the_file_decides_what_is_written(place: Place) -> None:
    edited(place, ("kitti_dump: true", "kitti_dump: false"))
    assert place.infer()[0] == 0
    assert not (place.folder / "results/labels").exists()
    shutil.rmtree(place.folder / "results")
    edited(
        place, ("kitti_dump: false", "kitti_dump: true"), ("disable_overlay: false", "disable_overlay: true")
    )
    assert place.infer("-i", f"{ROOT}/testing/a.png")[0] == 0
    written = {path.name for path in (place.folder / "results").rglob("*.*")}
    assert written == {"a.txt", "status.json"}
    edited(place, ("kitti_dump: true", "kitti_dump: false"))
    code, output = place.infer()
    assert code == 1
    assert "asks for no results" in output


def test_exported_models_may_stand_in_for_engines_that_are_not_built(place: Place) -> None:
    place.infer()
    wanted = (place.folder / "results/labels/a.txt").read_text()
    text = (place.folder / "inference.txt").read_text()
    block = re.search(r"tlt_config\s*\{[^}]*\}", text)
    assert block is not None
    engine = (
        f'tensorrt_config {{ parser: ETLT trt_engine: "{ROOT}/none.trt" etlt_model: "{ROOT}/model.onnx" }}'
    )
    (place.folder / "inference.txt").write_text(text.replace(block[0], engine))
    code, output = place.infer()
    assert code == 0, output
    assert "none.trt isn't there" in output
    found = (place.folder / "results/labels/a.txt").read_text()
    assert len(found.splitlines()) == len(wanted.splitlines())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("image_width: 96", "image_width: 112"), "the inference file's (3, 64, 112)"),
        (('target_classes: "cyclist"', 'target_classes: "tram"'), "differ"),
        (("image_channels: 3", "image_channels: 3\n  stride: 8"), "stride is 8"),
    ],
)
def test_a_file_that_does_not_fit_the_model_is_refused(
    place: Place, change: tuple[str, str], message: str
) -> None:
    edited(place, change)
    code, output = place.infer()
    assert code == 1
    assert message in output
    assert not (place.folder / "results/labels").exists()


class Square:
    """Sees the white rectangle of an image, as a car; red channel in, maps out."""

    kind, place, parameters = "fake", "here", 0
    classes = CLASSES
    input_shape = (3, 64, 96)
    layout = Layout(CLASSES, (3, 64, 96), 35.0, 0.5)

    def __init__(self, coverage: float = 0.5) -> None:
        self.coverage = coverage

    def share(self, callers: int) -> int:
        return callers

    def raw(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        coverage = torch.zeros(len(images), 3, 4, 6)
        boxes = torch.zeros(len(images), 3, 4, 4, 6)
        rows, columns = torch.arange(4)[:, None] * 16 + 0.5, torch.arange(6)[None] * 16 + 0.5
        for image, cells, sides in zip(images, coverage, boxes, strict=True):
            y, x = torch.nonzero(image[0] > 0.5, as_tuple=True)
            if len(x):
                x1, x2, y1, y2 = int(x.min()), int(x.max()) + 1, int(y.min()), int(y.max()) + 1
                cells[0, 1:3, 1:3] = self.coverage
                for place, value in enumerate((columns - x1, rows - y1, x2 - columns, y2 - rows)):
                    sides[0, place] = value / 35.0
        return coverage, boxes.flatten(1, 2)


@pytest.fixture
def square(place: Place, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Run inference with the fake on an image of twice the input's width and three times its height."""

    def run(coverage: float = 0.5) -> list[str]:
        monkeypatch.setattr(
            "taomagic.engine.detectnet_v2.inference.open_predictor", lambda *_, **__: Square(coverage)
        )
        picture = np.zeros((192, 192, 3), np.uint8)
        picture[60:150, 40:120] = 255
        shutil.rmtree(place.folder / "testing")
        (place.folder / "testing").mkdir()
        cv2.imwrite(str(place.folder / "testing/x.png"), picture)
        cv2.imwrite(str(place.folder / "testing/y.png"), np.zeros_like(picture))
        code, output = place.infer()
        assert code == 0, output
        assert (place.folder / "results/labels/y.txt").read_text() == ""
        return (place.folder / "results/labels/x.txt").read_text().splitlines()

    return run


def test_boxes_are_in_the_pixels_of_the_image_and_the_confidence_is_a_sum(
    place: Place, square: Callable[..., list[str]]
) -> None:
    edited(place, ('output_map: "car"', 'output_map: "auto"'))
    assert square() == ["auto 0.00 0 0.00 40.000 60.000 120.000 150.000" + " 0.00" * 7 + " 2.000"]
    picture = cv2.imread(str(place.folder / "results/images_annotated/x.png"))
    assert picture[150, 80].tolist() == [0, 255, 0], "the outline is green, two pixels wide"
    assert picture[149, 80].tolist() == [0, 255, 0]
    assert picture[140, 80].tolist() == [255, 255, 255]
    assert (picture[45:58, 45:70] == [0, 255, 0]).all(axis=2).mean() > 0.5, "the plate of the text"


def test_the_confidence_must_be_above_the_threshold_and_may_be_a_mean(
    place: Place, square: Callable[..., list[str]]
) -> None:
    edited(place, ("dbscan_confidence_threshold: 0.9", "dbscan_confidence_threshold: 2.0"))
    assert square() == [], "the sum is 2, and not above it"
    assert len(square(0.6)) == 1
    edited(
        place,
        ("dbscan_confidence_threshold: 2.0", "dbscan_confidence_threshold: 0.4"),
        ('confidence_model: "aggregate_cov"', 'confidence_model: "mean_cov"'),
    )
    assert square()[0].endswith(" 0.500")


def test_a_class_without_an_entry_takes_the_default(place: Place, square: Callable[..., list[str]]) -> None:
    text = (place.folder / "inference.txt").read_text()
    edited(place, ('key: "car"', 'key: "tram"'))
    assert "default" in text
    assert square()[0].startswith("car 0.00"), "the default's output_map isn't used as a class"
    picture = cv2.imread(str(place.folder / "results/images_annotated/x.png"))
    assert picture[150, 80].tolist() == [0, 0, 255], "the default is red"
