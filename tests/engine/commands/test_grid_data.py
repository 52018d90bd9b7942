"""`detectnet_v2 dataset_convert` and `calibration_tensorfile` from their command lines, and what a training reads."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from taomagic.engine.cli import main
from taomagic.engine.data.tensorfile import read_batches
from taomagic.engine.detectnet_v2.loading import TrainingData, ValidationData
from taomagic.engine.detectnet_v2.targets import Rasterizer
from taomagic.project.paths import PathMap
from taomagic.samples import create
from taomagic.spec.detectnet_v2 import read_experiment

ROOT = "/workspace/tao-experiments"
SPECS = Path(__file__).parents[3] / "specs" / "detectnet_v2"
CLASSES = ("car", "cyclist", "pedestrian")


def experiment_text() -> str:
    """Return NVIDIA's experiment at the size of the sample scenes, which are JPEGs."""
    text = (SPECS / "detectnet_v2_train_resnet18_kitti.txt").read_text(encoding="utf-8")
    for old, new in (
        ("output_image_width: 1248", "output_image_width: 128"),
        ("output_image_height: 384", "output_image_height: 64"),
        ('image_extension: "png"', 'image_extension: "jpg"'),
    ):
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    create(folder / "data", training=11, val=1, testing=1, size=(128, 64), seed=3)
    export = (SPECS / "detectnet_v2_tfrecords_kitti_trainval.txt").read_text(encoding="utf-8")
    export = export.replace(".png", ".jpg").replace("val_split: 14", "val_split: 28")
    (folder / "convert.txt").write_text(export)
    (folder / "train.txt").write_text(experiment_text())
    return folder


@dataclass
class Place:
    """A project, and commands in it."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def run(self, *words: str) -> tuple[int, str]:
        self.capture.readouterr()
        code = main(["detectnet_v2", *words])
        return code, self.capture.readouterr().out

    def convert(self, *words: str) -> tuple[int, str]:
        output = f"{ROOT}/data/tfrecords/kitti_trainval/kitti_trainval"
        return self.run("dataset_convert", "-d", f"{ROOT}/convert.txt", "-o", output, *words)

    def tensors(self, *words: str) -> tuple[int, str]:
        words = ("-e", f"{ROOT}/train.txt", "-o", f"{ROOT}/final/calibration.tensor", *words)
        return self.run("calibration_tensorfile", *words)

    @property
    def paths(self) -> PathMap:
        return PathMap([(str(self.folder), ROOT)])


@pytest.fixture
def place(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Place:
    folder = tmp_path / "project"
    shutil.copytree(prepared, folder)
    mounts = tmp_path / "mounts.json"
    mounts.write_text(json.dumps({"Mounts": [{"source": str(folder), "destination": ROOT}]}))
    monkeypatch.setenv("LAUNCHER_MOUNTS", str(mounts))
    monkeypatch.delenv("TAOMAGIC_STATUS_DIR", raising=False)
    return Place(folder, capsys)


def test_the_notebooks_conversion_feeds_the_notebooks_training(place: Place) -> None:
    code, output = place.convert("-r", f"{ROOT}/results")
    assert code == 0, output
    records = sorted(path.name for path in (place.folder / "data/tfrecords/kitti_trainval").iterdir())
    assert records == [
        f"kitti_trainval-fold-00{fold}-of-002-shard-0000{shard}-of-00010"
        for fold in (0, 1)
        for shard in range(10)
    ]
    texts = [re.sub(r"^.*?\d+: ", "", line) for line in output.splitlines()]
    assert texts[:2] == [
        "Instantiating a kitti converter",
        f"Creating output directory {ROOT}/data/tfrecords/kitti_trainval",
    ]
    assert texts[-1] == "Execution status: PASS"
    assert "b'DontCare': b'dontcare'" in output
    started, ended = map(json.loads, (place.folder / "results/status.json").read_text().splitlines())
    assert (started["status"], ended["status"]) == ("STARTED", "SUCCESS")
    assert ended["kpi"] == {"num_images": 11}
    objects = ended["categorical"]["num_objects"]
    assert set(objects) == {*CLASSES, "dontcare"}
    experiment = read_experiment(place.folder / "train.txt", purpose="train")
    training, validation = TrainingData(experiment, place.paths), ValidationData(experiment, place.paths)
    assert (len(training), len(validation)) == (8, 3)
    found = {name: training.class_counts[name] + validation.class_counts[name] for name in CLASSES}
    assert found == {name: objects[name] for name in CLASSES}
    assert len(next(training.epoch(1, 4))) == 4
    # Fold 0 holds the first of the sorted names.
    names = sorted(name for batch in validation.batches(4) for name in batch.names)
    assert names == [f"{ROOT}/data/training/image_2/00000{number}.jpg" for number in range(3)]


def test_a_second_conversion_takes_the_place_of_the_first(place: Place) -> None:
    place.convert()
    text = (place.folder / "convert.txt").read_text()
    (place.folder / "convert.txt").write_text(text.replace("num_shards: 10", "num_shards: 2"))
    # What other networks' conversion left, NVIDIA's glob would read.
    (place.folder / "data/tfrecords/kitti_trainval/idx-kitti_trainval-fold-000-of-002").write_text("0 1\n")
    code, output = place.convert()
    assert code == 0, output
    assert re.search(r"Files of an earlier conversion to .*, removed: 21$", output, re.MULTILINE)
    assert len(list((place.folder / "data/tfrecords/kitti_trainval").iterdir())) == 4


def test_what_has_no_effect_is_said(place: Place) -> None:
    with (place.folder / "convert.txt").open("a") as file:
        file.write('target_class_mapping { key: "car" value: "car" }\n')
    code, output = place.convert("-f", "0")
    assert code == 0, output
    assert "target_class_mapping has no effect here" in output
    assert "--validation_fold 0 has no effect without sample_modifier_config" in output


def test_the_sample_modifier_leaves_the_validation_fold_alone(place: Place) -> None:
    with (place.folder / "convert.txt").open("a") as file:
        file.write("sample_modifier_config { max_training_samples: 5 }\n")
    assert place.convert("-r", f"{ROOT}/a", "-f", "0")[0] == 0
    assert place.convert("-r", f"{ROOT}/b", "-f", "1")[0] == 0
    counts = [
        json.loads((place.folder / f"{name}/status.json").read_text().splitlines()[-1])["kpi"]["num_images"]
        for name in "ab"
    ]
    assert counts == [3 + 5, 3 + 8]


def test_a_damaged_label_is_one_error_with_its_line(place: Place) -> None:
    label = place.folder / "data/training/label_2/000004.txt"
    label.write_text(label.read_text() + "Car 0.0 0\n")
    code, output = place.convert("-r", f"{ROOT}/results")
    assert code == 1
    number = len(label.read_text().splitlines())
    errors = [line for line in output.splitlines() if line.startswith("ERROR")]
    assert errors == [
        f"ERROR: {ROOT}/data/training/label_2/000004.txt:{number}: a label row has 3 fields instead of 15"
    ]
    assert (
        json.loads((place.folder / "results/status.json").read_text().splitlines()[-1])["status"] == "FAILURE"
    )
    assert list((place.folder / "data/tfrecords/kitti_trainval").iterdir()) == []


@pytest.mark.parametrize("order", list(permutations(CLASSES))[1:4])
def test_classes_come_in_the_order_of_the_target_classes(place: Place, order: tuple[str, ...]) -> None:
    """From records to targets, channel by channel, whatever the order of the blocks in the file."""
    place.convert()
    text = (place.folder / "train.txt").read_text()
    start = text.index("  target_classes {")
    blocks = re.findall(r"  target_classes \{\n.*?\n  \}\n", text[start:], re.DOTALL)
    by_name = {name: next(block for block in blocks if f'name: "{name}"' in block) for name in CLASSES}
    shuffled = text.replace("".join(blocks), "".join(by_name[name] for name in order))
    (place.folder / "shuffled.txt").write_text(shuffled)
    coverage = {}
    for file in ("train.txt", "shuffled.txt"):
        experiment = read_experiment(place.folder / file, purpose="train")
        assert experiment.rasterizer is not None
        assert experiment.model is not None
        rasterizer = Rasterizer(
            experiment.rasterizer,
            experiment.classes,
            (4, 8),
            scale=experiment.model.bbox_scale,
            offset=experiment.model.bbox_offset,
        )
        batch = next(iter(ValidationData(experiment, place.paths, training=True).batches(8)))
        targets = rasterizer(batch.boxes, batch.labels)
        coverage[file] = {name: targets.coverage[:, i] for i, name in enumerate(experiment.classes)}
    assert tuple(coverage["shuffled.txt"]) == order
    for name in CLASSES:
        assert coverage["train.txt"][name].any(), name
        assert torch.equal(coverage["train.txt"][name], coverage["shuffled.txt"][name]), name


# -- calibration_tensorfile --------------------------------------------------------------------------------------------


def test_tensors_are_the_training_images_as_the_network_sees_them(place: Place) -> None:
    place.convert()
    code, output = place.tensors()
    assert code == 0, output
    assert "Wrote 2 batches, 8 images in all" in output
    assert f"Saved: {ROOT}/final/calibration.tensor\n" in output
    batches = list(read_batches(place.folder / "final/calibration.tensor"))
    assert [batch.shape for batch in batches] == [(4, 3, 64, 128)] * 2
    experiment = read_experiment(place.folder / "train.txt", purpose="calibration")
    data = ValidationData(experiment, place.paths, training=True)
    images = {image.numpy().tobytes() for batch in data.batches(4) for image in batch.images}
    found = [np.ascontiguousarray(image).tobytes() for batch in batches for image in batch]
    assert set(found) == images, "unchanged, each once"
    before = (place.folder / "final/calibration.tensor").read_bytes()
    code, output = place.tensors("-m", "1")
    assert code == 1
    assert f"ERROR: {ROOT}/final/calibration.tensor: the tensor file exists already" in output
    assert (place.folder / "final/calibration.tensor").read_bytes() == before
    (place.folder / "final/calibration.tensor").unlink()
    assert place.tensors("-m", "1")[0] == 0
    (first,) = read_batches(place.folder / "final/calibration.tensor")
    assert np.array_equal(first, batches[0]), "the same images each time"


def test_validation_images_and_too_many_batches(place: Place) -> None:
    place.convert()
    code, output = place.tensors("--use_validation_set", "-m", "10")
    assert code == 0, output
    assert "-m asks for 10. All of them are written." in output
    (only,) = read_batches(place.folder / "final/calibration.tensor")
    assert only.shape == (3, 3, 64, 128)
    text = (place.folder / "train.txt").read_text()
    (place.folder / "train.txt").write_text(text.replace("  validation_fold: 0\n", ""))
    (place.folder / "final/calibration.tensor").unlink()
    code, output = place.tensors("--use_validation_set")
    assert code == 1
    assert "ERROR: " in output
    assert "the spec has no validation images" in output
    assert list((place.folder / "final").iterdir()) == []
