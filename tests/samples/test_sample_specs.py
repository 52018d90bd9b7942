"""DetectNet_v2's specs at sample scale: a twin for each of NVIDIA's seven, that teaches the same with less."""

from __future__ import annotations

from pathlib import Path

import pytest

from taomagic.spec.dataset_export import read_dataset_export
from taomagic.spec.detectnet_v2 import read_experiment, read_inference
from taomagic.spec.detectnet_v2_pb2 import Experiment
from taomagic.spec.parse import read_spec
from taomagic.spec.validate import fields_of

KITTI = Path(__file__).parents[2] / "specs" / "detectnet_v2"
SAMPLE = KITTI / "sample"
FILES = sorted(path.name for path in SAMPLE.iterdir())
EXPERIMENTS = [name for name in FILES if "train_resnet" in name]
INFERENCES = [name for name in FILES if "inference" in name]
CLASSES = ("car", "cyclist", "pedestrian")


def twin(name: str) -> Path:
    return KITTI / name.replace("resnet10_sample", "resnet18_kitti")


def test_each_file_of_nvidias_has_a_twin() -> None:
    assert sorted(twin(name).name for name in FILES) == sorted(path.name for path in KITTI.glob("*.txt"))
    assert len(FILES) == 7


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("purpose", ["train", "evaluate", "export"])
def test_an_experiment_judges_by_nvidias_rules(name: str, purpose: str) -> None:
    small = read_experiment(SAMPLE / name, purpose=purpose)  # type: ignore[arg-type]
    large = read_experiment(twin(name), purpose=purpose)  # type: ignore[arg-type]
    assert small.classes == large.classes == CLASSES
    assert small.evaluation is not None
    assert large.evaluation is not None
    assert small.evaluation.overlaps == large.evaluation.overlaps
    assert small.evaluation.average_precision_mode == large.evaluation.average_precision_mode


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_does_what_its_twin_does(name: str) -> None:
    small, large = (read_experiment(path, purpose="train") for path in (SAMPLE / name, twin(name)))
    assert small.training is not None
    assert large.training is not None
    assert small.training.enable_qat == large.training.enable_qat == ("qat" in name)
    assert small.model is not None
    assert large.model is not None
    assert small.model.load_graph == large.model.load_graph == ("retrain" in name)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_one_extension_is_marked(name: str) -> None:
    spec = read_spec(SAMPLE / name, Experiment)
    extensions = [field for field, descriptor, _ in fields_of(spec.message) if descriptor.number >= 1000]
    assert extensions == ["model_config.width_multiplier"]
    before, _, _ = (SAMPLE / name).read_text(encoding="utf-8").partition("width_multiplier:")
    comment = " ".join(before.split("\n")[-3:])
    assert "taomagic's extension" in comment
    assert "NVIDIA's containers" in comment


def test_the_scenes_are_drawn_in_the_size_that_every_file_names() -> None:
    for name in EXPERIMENTS:
        augmentation = read_experiment(SAMPLE / name, purpose="train").augmentation
        assert augmentation is not None
        assert (augmentation.output_width, augmentation.output_height) == (480, 160)
        assert not augmentation.enable_auto_resize
    for name in INFERENCES:
        inference = read_inference(SAMPLE / name)
        assert (inference.image_width, inference.image_height) == (480, 160)


@pytest.mark.parametrize("name", INFERENCES)
def test_an_inference_file_runs_what_its_twin_runs(name: str) -> None:
    small, large = read_inference(SAMPLE / name), read_inference(twin(name))
    assert (small.model is None, small.engine is None) == (large.model is None, large.engine is None)
    assert small.data_type == large.data_type
    assert {*small.handlers} == {*large.handlers}


def test_a_part_of_the_images_is_kept_apart() -> None:
    path = SAMPLE / "detectnet_v2_tfrecords_kitti_trainval.txt"
    export = read_dataset_export(path, network="detectnet_v2")
    assert export.kitti is not None
    assert export.kitti.val_split == 27


@pytest.mark.parametrize("name", FILES)
def test_paths_are_those_of_the_container_and_lines_are_short(name: str) -> None:
    for line in (SAMPLE / name).read_text(encoding="ascii").split("\n"):
        if "_path:" in line or "_file:" in line or "engine:" in line:
            assert '"/workspace/tao-experiments/' in line
        assert len(line) <= 120 or "_model_file:" in line
