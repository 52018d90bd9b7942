from __future__ import annotations

from pathlib import Path

import pytest

from taomagic.spec.parse import read_spec
from taomagic.spec.ssd import read_dataset_export, read_experiment
from taomagic.spec.ssd_pb2 import Experiment
from taomagic.spec.validate import fields_of

SPECS = Path(__file__).parents[2] / "specs" / "ssd"
FILES = sorted(path.relative_to(SPECS).as_posix() for path in SPECS.rglob("*.txt"))
EXPORTS = [name for name in FILES if "tfrecords" in name]
EXPERIMENTS = [name for name in FILES if name not in EXPORTS]
KITTI_SCALE = [name for name in FILES if not name.startswith("sample/")]


def test_the_files_have_nvidias_names() -> None:
    assert set(KITTI_SCALE) == {
        "ssd_tfrecords_kitti_train.txt",
        "ssd_train_resnet18_kitti.txt",
        "ssd_train_resnet18_kitti_seq.txt",
        "ssd_train_resnet18_kitti_qat.txt",
        "ssd_retrain_resnet18_kitti.txt",
        "ssd_retrain_resnet18_kitti_seq.txt",
        "ssd_retrain_resnet18_kitti_qat.txt",
    }


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("purpose", ["train", "evaluate", "inference", "export"])
def test_every_experiment_can_be_used_for_every_purpose(name: str, purpose: str) -> None:
    experiment = read_experiment(SPECS / name, purpose=purpose)  # type: ignore[arg-type]
    assert experiment.dataset is not None
    assert experiment.dataset.classes == ("car", "cyclist", "pedestrian")
    assert experiment.summary()


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_only_quantisation_aware_experiments_ask_for_it(name: str) -> None:
    training = read_experiment(SPECS / name, purpose="train").training
    assert training is not None
    assert training.enable_qat == ("qat" in name)


@pytest.mark.parametrize("name", EXPORTS)
def test_every_export_file_can_be_read(name: str) -> None:
    export = read_dataset_export(SPECS / name)
    assert export.kitti is not None
    assert export.kitti.val_split == 0
    assert export.classes == ("car", "cyclist", "pedestrian")


@pytest.mark.parametrize("name", [name for name in KITTI_SCALE if name not in EXPORTS])
def test_kitti_scale_files_use_no_extension(name: str) -> None:
    spec = read_spec(SPECS / name, Experiment)
    assert [field for field, descriptor, _ in fields_of(spec.message) if descriptor.number >= 1000] == []


@pytest.mark.parametrize(
    "name", [name for name in FILES if name.startswith("sample/") and "tfrecords" not in name]
)
def test_sample_scale_files_mark_their_extension(name: str) -> None:
    lines = (SPECS / name).read_text(encoding="utf-8").split("\n")
    line = next(number for number, text in enumerate(lines) if "width_multiplier:" in text)
    comment = " ".join(lines[line - 2 : line])
    assert "taomagic's extension" in comment
    assert "NVIDIA's containers" in comment


@pytest.mark.parametrize("name", FILES)
def test_paths_are_container_paths(name: str) -> None:
    for line in (SPECS / name).read_text(encoding="utf-8").split("\n"):
        if "_path:" in line:
            assert '"/workspace/tao-experiments/' in line


@pytest.mark.parametrize("name", FILES)
def test_files_are_plain_ascii_with_short_lines(name: str) -> None:
    data = (SPECS / name).read_bytes()
    assert data.isascii()
    assert data.endswith(b"}\n")
    assert max(map(len, data.split(b"\n"))) <= 120


def test_retraining_follows_pruning_and_takes_nvidias_changes() -> None:
    train = read_experiment(SPECS / "ssd_train_resnet18_kitti.txt", purpose="train")
    retrain = read_experiment(SPECS / "ssd_retrain_resnet18_kitti.txt", purpose="train")
    assert train.training is not None
    assert retrain.training is not None
    assert (train.training.batch_size_per_gpu, retrain.training.batch_size_per_gpu) == (16, 32)
    assert (train.training.soft_start, retrain.training.soft_start) == (0.15, 0.1)
    assert (train.training.annealing, retrain.training.annealing) == (0.8, 0.6)
    assert (train.training.regularizer, retrain.training.regularizer) == ("L1", "NO_REG")
    assert (train.model.freeze_blocks, retrain.model.freeze_blocks) == ((0,), ())
    assert train.dataset == retrain.dataset
    assert train.augmentation == retrain.augmentation


def test_seq_files_read_folders_and_the_others_records() -> None:
    records = read_experiment(SPECS / "ssd_train_resnet18_kitti.txt", purpose="train").dataset
    folders = read_experiment(SPECS / "ssd_train_resnet18_kitti_seq.txt", purpose="train").dataset
    assert records is not None
    assert folders is not None
    assert (
        records.data_sources[0].tfrecords_path == "/workspace/tao-experiments/data/ssd/tfrecords/kitti_train*"
    )
    assert folders.data_sources[0].tfrecords_path is None
    assert (
        folders.data_sources[0].label_directory_path
        == "/workspace/tao-experiments/data/kitti_split/training/label"
    )
