"""Batches: what is in them, their order, and their shares."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from taomagic.engine.detectnet_v2.loading import GridBatch, TrainingData, ValidationData
from taomagic.project.paths import PathMap
from taomagic.spec.detectnet_v2 import read_experiment
from taomagic.spec.settings_detectnet_v2 import DetectNetExperiment

from .conftest import ROOT

SPEC = Path(__file__).parents[3] / "specs" / "detectnet_v2" / "detectnet_v2_train_resnet18_kitti.txt"


def experiment_text(*, sources: int = 1, channels: int = 3, sampling: str = "") -> str:
    text = SPEC.read_text(encoding="utf-8").replace("output_image_width: 1248", "output_image_width: 96")
    text = text.replace("output_image_height: 384", "output_image_height: 64")
    text = text.replace("output_image_channel: 3", f"output_image_channel: {channels}")
    start = text.index("  data_sources {")
    end = text.index("}", start) + 1
    blocks = "".join(
        f'  data_sources {{\n    tfrecords_path: "{ROOT}/tfrecords/set{i}*"\n    image_directory_path: "{ROOT}"\n'
        f"    source_weight: {i + 1}\n  }}\n"
        for i in range(sources)
    )
    mode = f"  sampling_mode: {sampling}\n" if sampling else ""
    return text[:start] + blocks + mode + text[end:]


@pytest.fixture
def experiment(tmp_path: Path) -> Callable[..., DetectNetExperiment]:
    def make(**changes: object) -> DetectNetExperiment:
        path = tmp_path / "spec.txt"
        path.write_text(experiment_text(**changes), encoding="utf-8")  # type: ignore[arg-type]
        return read_experiment(path, purpose="train")

    return make


@pytest.fixture
def data(write: Callable[..., None]) -> None:
    box = ("car", 10.0, 10.0, 60.0, 50.0)
    write("set0-fold-000-of-002", {f"v/{i}": [box] for i in range(3)})
    write("set0-fold-001-of-002", {f"a/{i}": [box] * (i % 3) for i in range(7)})
    write("set1-fold-000-of-002", {"w/0": [box]})
    write("set1-fold-001-of-002", {"b/0": [("cyclist", 0.0, 0.0, 40.0, 40.0)]})


pytestmark = pytest.mark.usefixtures("data")


def names(batches: list[GridBatch]) -> list[str]:
    return [name for batch in batches for name in batch.names]


def test_a_batch_has_pixels_boxes_and_weights(
    experiment: Callable[..., DetectNetExperiment], paths: PathMap
) -> None:
    batch = next(TrainingData(experiment(), paths).epoch(1, 4))
    assert batch.images.shape == (4, 3, 64, 96)
    assert 0 <= float(batch.images.min()) < float(batch.images.max()) <= 1
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert batch.boxes.shape[:1] == batch.labels.shape[:1] == (4,)
    assert batch.weights.tolist() == [1.0] * 4
    assert batch.global_size == 4


def test_batches_run_on_and_every_pass_has_each_image_once(
    experiment: Callable[..., DetectNetExperiment], paths: PathMap
) -> None:
    data = TrainingData(experiment(), paths)
    batches = [batch for epoch in (1, 2, 3, 4) for batch in data.epoch(epoch, 4)]
    assert [len(batch) for batch in batches] == [4] * 8, "two an epoch: seven images in fours"
    shown = names(batches)
    for turn in range(4):
        assert len(set(shown[7 * turn : 7 * turn + 7])) == 7
    assert shown[:7] != shown[7:14]


def test_an_epoch_is_the_same_however_it_is_reached_and_whoever_prepares_it(
    experiment: Callable[..., DetectNetExperiment], paths: PathMap
) -> None:
    plain, threaded = TrainingData(experiment(), paths), TrainingData(experiment(), paths, workers=2)
    first, again = list(plain.epoch(3, 4)), list(threaded.epoch(3, 4))
    assert names(first) == names(again)
    assert all(torch.equal(a.images, b.images) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0].images, next(plain.epoch(1, 4)).images)


@pytest.mark.parametrize("changes", [{"sources": 2, "sampling": "UNIFORM"}, {"channels": 1}])
def test_processes_give_the_same_batches_bit_for_bit(
    experiment: Callable[..., DetectNetExperiment], paths: PathMap, changes: dict[str, object]
) -> None:
    one = experiment(**changes)
    alone = TrainingData(one, paths)
    with closing(TrainingData(one, paths, workers=2, use_multiprocessing=True)) as data:
        for epoch in (1, 2):
            expected, found = list(alone.epoch(epoch, 3)), list(data.epoch(epoch, 3))
            assert names(expected) == names(found)
            for a, b in zip(expected, found, strict=True):
                assert a.source_classes == b.source_classes
                for part in ("images", "boxes", "labels", "difficult", "weights"):
                    assert torch.equal(getattr(a, part), getattr(b, part)), part
    assert alone.workers.count == 0
    assert data.workers.processes


def test_what_a_process_needs_does_not_load_torch() -> None:
    """It would take each of them seconds and hundreds of megabytes."""
    program = "import sys, taomagic.engine.detectnet_v2.samples; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_data_say_what_is_in_them(experiment: Callable[..., DetectNetExperiment], paths: PathMap) -> None:
    training, validation = TrainingData(experiment(), paths), ValidationData(experiment(), paths)
    assert training.class_counts == {"car": 6, "cyclist": 0, "pedestrian": 0}
    assert validation.class_counts == {"car": 3, "cyclist": 0, "pedestrian": 0}
    assert (len(validation), validation.steps(2)) == (3, 2)
    assert training.fingerprint() == TrainingData(experiment(), paths).fingerprint()
    assert training.fingerprint() != validation.fingerprint()


def test_images_that_will_be_cut_are_mentioned_unless_the_spec_wants_it(
    experiment: Callable[..., DetectNetExperiment], paths: PathMap, caplog: pytest.LogCaptureFixture
) -> None:
    one = experiment()
    assert one.augmentation is not None
    for data in (TrainingData, ValidationData):
        caplog.clear()
        count = len(data(one, paths))
        assert f"{count} of {count} images are larger than the network's input, 96×64" in caplog.text
    for change in (
        {"enable_auto_resize": True},
        {"crop": (0, 0, 96, 64)},
        {"scale_width": 96.0, "scale_height": 64.0},
        {"output_width": 128, "output_height": 80},
    ):
        caplog.clear()
        ValidationData(replace(one, augmentation=replace(one.augmentation, **change)), paths)
        assert "larger than" not in caplog.text


def test_images_keep_their_share_of_the_largest_when_scaled(
    experiment: Callable[..., DetectNetExperiment], paths: PathMap, write: Callable[..., None]
) -> None:
    write("set0-fold-000-of-002-b", {"v/small": [("car", 30.0, 20.0, 60.0, 40.0)]}, size=(60, 40))
    plain = experiment()
    assert plain.augmentation is not None
    scaled = replace(plain, augmentation=replace(plain.augmentation, scale_width=60.0, scale_height=40.0))
    # The largest image is 120×80 and becomes 60×40; the small one becomes half as large as it was too.
    batch = next(ValidationData(scaled, paths).batches(4))
    boxes = {
        name.rsplit("/", 1)[1]: box.tolist() for name, box in zip(batch.names, batch.boxes[:, 0], strict=True)
    }
    assert boxes["0.png"] == [5, 5, 30, 25]
    assert boxes["small.png"] == [15, 10, 30, 20]
    small = batch.images[[name.endswith("small.png") for name in batch.names].index(True)]
    assert small[:, :20, :30].min() > 0
    assert small[:, 20:].max() == small[:, :, 30:].max() == 0


def test_the_shares_of_all_processes_make_the_batch(
    experiment: Callable[..., DetectNetExperiment], paths: PathMap
) -> None:
    data = TrainingData(experiment(), paths)
    whole = next(data.epoch(1, 5))
    shares = [next(data.epoch(1, 5, rank=rank, world_size=2)) for rank in range(2)]
    assert names(shares) == names([whole])
    assert torch.equal(torch.cat([share.images for share in shares]), whole.images)
    assert {share.global_size for share in shares} == {5}


def test_uniform_sampling_gives_each_source_the_same_share(
    experiment: Callable[..., DetectNetExperiment], paths: PathMap
) -> None:
    def share_of_b(sampling: str) -> float:
        data = TrainingData(experiment(sources=2, sampling=sampling), paths)
        shown = names([batch for epoch in range(1, 11) for batch in data.epoch(epoch, 4)])
        return sum("/b/" in name for name in shown) / len(shown)

    assert share_of_b("PROPORTIONAL") == share_of_b("USER_DEFINED") == 1 / 8
    assert share_of_b("UNIFORM") == 1 / 2


def test_the_weight_of_a_source_goes_with_its_images(
    experiment: Callable[..., DetectNetExperiment], paths: PathMap
) -> None:
    batch = next(TrainingData(experiment(sources=2), paths).epoch(1, 8))
    weights = dict(zip(batch.names, batch.weights.tolist(), strict=True))
    assert weights[f"{ROOT}/b/0.png"] == 2.0
    assert sum(weight == 1.0 for weight in weights.values()) == 7


def test_validation_images_come_in_order_and_unchanged(
    experiment: Callable[..., DetectNetExperiment], paths: PathMap
) -> None:
    data = ValidationData(experiment(), paths)
    batches = list(data.batches(2))
    assert names(batches) == [f"{ROOT}/v/{i}.png" for i in range(3)]
    assert batches[0].boxes[0, 0].tolist() == [10, 10, 60, 50]
    halves = [list(data.batches(1, rank=rank, world_size=2)) for rank in range(2)]
    assert names(halves[0]) == [f"{ROOT}/v/0.png", f"{ROOT}/v/2.png"]
    assert names(halves[1]) == [f"{ROOT}/v/1.png"]
    training = ValidationData(experiment(), paths, training=True)
    assert len(training) == 7


def test_a_grey_network_gets_grey_images(
    experiment: Callable[..., DetectNetExperiment], paths: PathMap
) -> None:
    colour = next(ValidationData(experiment(), paths).batches(1)).images
    grey = next(ValidationData(experiment(channels=1), paths).batches(1)).images
    assert grey.shape == (1, 1, 64, 96)
    shares = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    assert torch.allclose(grey, (colour * shares).sum(dim=1, keepdim=True), atol=1e-5)


def test_leaving_an_epoch_early_is_harmless(
    experiment: Callable[..., DetectNetExperiment], paths: PathMap
) -> None:
    data = TrainingData(experiment(), paths, workers=2)
    assert len(list(islice(data.epoch(1, 2), 1))) == 1
    data.close()
    assert len(list(data.epoch(1, 4))) == 2
