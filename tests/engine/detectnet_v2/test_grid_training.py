"""`detectnet_v2 train` from its command line: what it prints and writes, and how it goes on after a stop."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from taomagic.engine.cli import main
from taomagic.engine.data.tfrecord import TFRecordWriter
from taomagic.engine.signals import Stopped
from taomagic.engine.storage.model_file import load_model
from taomagic.engine.training.quick_mode import QUICK_MODE_VARIABLE

from .conftest import example
from .test_grid_loading import experiment_text

ROOT = "/workspace/tao-experiments"
KEY = "key"
STEPS = 3


def training_text() -> str:
    """Return the spec of a training of four epochs with three steps each, validated after 2 and 4."""
    text = experiment_text().replace("num_layers: 18", "num_layers: 10\n  width_multiplier: 0.125")
    text = re.sub(r"  pretrained_model_file.*\n", "", text)
    for name, value in {
        "num_epochs": 4,
        "validation_period_during_training": 3,
        "first_validation_epoch": 2,
        "checkpoint_interval": 3,
        "scalar_logging_frequency": 2,
        "infrequent_logging_frequency": 2,
        "enable_autoweighting": "true",
        "min_learning_rate": 1e-4,
        "max_learning_rate": 1e-2,
    }.items():
        text, found = re.subn(rf"{name}: \S+", f"{name}: {value}", text)
        assert found == 1, name
    return text


@dataclass
class Place:
    """A project, and trainings in it."""

    folder: Path

    def spec(self, name: str = "train.txt", replace: Mapping[str, str] | None = None) -> str:
        """Write the spec with texts replaced; return its container path."""
        text = training_text()
        for old, new in (replace or {}).items():
            assert old in text, old
            text = text.replace(old, new)
        (self.folder / "specs" / name).write_text(text)
        return f"{ROOT}/specs/{name}"

    def words(self, results: str, *more: str, spec: str | None = None) -> list[str]:
        """Return a command line."""
        spec = spec or self.spec()
        return ["detectnet_v2", "train", "-e", spec, "-r", f"{ROOT}/{results}", "-n", "tiny", *more]

    def train(self, results: str, *more: str, spec: str | None = None) -> tuple[int, str]:
        """Return the exit code and what was printed."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = main(self.words(results, *more, spec=spec))
        return code, printed.getvalue()

    def record(self, results: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / results / "training_run.json").read_text())
        return content

    def status(self, results: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / results / "status.json").read_text().splitlines()]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("training")
    (folder / "specs").mkdir()
    (folder / "data/tfrecords").mkdir(parents=True)
    rng = np.random.default_rng(1)
    for fold, prefix, count in ((0, "v", 3), (1, "a", 9)):
        (folder / "data" / prefix).mkdir()
        with TFRecordWriter(folder / f"data/tfrecords/set0-fold-00{fold}-of-002") as writer:
            for i in range(count):
                left = 10 + 3 * i
                writer.write(example(f"{prefix}/{i}", [("car", left, 10, left + 50, 50)]))
                image = rng.integers(0, 60, (80, 120, 3), dtype=np.uint8)
                image[10:50, left : left + 50] = 200
                cv2.imwrite(str(folder / f"data/{prefix}/{i}.png"), image)
    mounts = folder / "mounts.json"
    mounts.write_text(json.dumps({"Mounts": [{"source": str(folder), "destination": ROOT}]}))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAUNCHER_MOUNTS", str(mounts))
        yield Place(folder)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def straight(place: Place) -> str:
    """Train without a break; return what was printed."""
    code, output = place.train("straight", "-k", KEY)
    assert code == 0, output
    return output


def weights_of(place: Place, results: str) -> dict[str, torch.Tensor]:
    return load_model(place.folder / results / "weights/tiny.tlt", KEY).weights


def same_as_straight(place: Place, results: str) -> None:
    expected = weights_of(place, "straight")
    for name, tensor in weights_of(place, results).items():
        assert torch.equal(tensor, expected[name]), name
    rows = [place.record(one)["history"] for one in ("straight", results)]
    assert rows[0] == rows[1]


def test_the_files_are_those_of_tao(place: Place, straight: str) -> None:
    folder = place.folder / "straight"
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    steps = (0, 3 * STEPS, 4 * STEPS)  # before the first epoch, every third one, and the last
    expected = {f"model.step-{step}{suffix}" for step in steps for suffix in (".tlt", ".ckzip")}
    expected |= {
        "weights/tiny.tlt",
        "experiment_spec.txt",
        "status.json",
        "monitor.json",
        "training_run.json",
    }
    assert {name for name in names if not name.startswith("events/")} == expected
    assert any(name.startswith("events/events.out.tfevents") for name in names)
    with zipfile.ZipFile(folder / "model.step-12.ckzip") as archive:
        assert archive.namelist() == ["model.ckpt-12.json", "model.ckpt-12.safetensors"]
    assert (folder / "experiment_spec.txt").read_text() == training_text()
    assert load_model(folder / "weights/tiny.tlt", KEY).optimizer is None
    monitor = json.loads((folder / "monitor.json").read_text())
    assert set(monitor) == {"loss", "cur_epoch", "max_epoch", "time_per_epoch", "ETA"}
    assert (monitor["cur_epoch"], monitor["max_epoch"], monitor["ETA"]) == (4, 4, "0:00:00")


#: Lines of section 4.2 of the reference, in their order.
LINES = (
    r".* \[INFO\] .*: Found 9 samples in training set$",
    r".* \[INFO\] .*: Found 3 samples in validation set$",
    r".* \[INFO\] .*: Checkpoint interval: 3$",
    r".* \[INFO\] .*: Scalars logged at every 2 steps$",
    r".* \[INFO\] .*: Images logged at every 6 steps$",
    r"conv1 \(Conv2D\) +\(None, 8, 32, 48\) +1184$",
    r"Total params: 80,471$",
    r"Estimated time: .* \(epochs: 4, steps in each: 3, images in a step: 4; without validation\)$",
    r".*: Saving checkpoints for step-0\.$",
    r".*: Epoch 0/4: loss: \d\.\d{5} learning rate: 0\.0001 Time taken: 0:00:00 ETA: 0:00:00$",
    r"INFO:tensorflow:epoch = 0\.3\d*, learning_rate = 0\.0001, loss = \d\.\d+, step = 1$",
    r".*: Epoch 1/4: loss: \d\.\d{5} learning rate: \S+ Time taken: \d:\d\d:\d\d\.\d+ ETA: \d:\d\d:\d\d\.\d+$",
    r"Epoch 2/4$",
    r"={25}$",
    r"$",
    r"Validation cost: \d\.\d{6}$",
    r"Mean average_precision \(in %\): \d+\.\d{4}$",
    r"class name +average precision \(in %\)$",
    r"car +\d+\.\d{4}$",
    r"cyclist +0\.0000$",
    r"Median Inference Time: 0\.\d{6}$",
    r".*: Epoch 2/4: ",
    r".*: Saving checkpoints for step-9\.$",
    r".*: Saving checkpoints for step-12\.$",
    r"Epoch 4/4$",
    r".*: Epoch 4/4: loss: \d\.\d{5} .* ETA: 0:00:00$",
    rf"Saved: {ROOT}/straight/weights/tiny\.tlt$",
    r"Time taken to run taomagic\.engine\.detectnet_v2\.train:main: 0:\d\d:\d\d\.\d{6}\.$",
    r"Execution status: PASS$",
)


def test_the_lines_are_those_of_tao(straight: str) -> None:
    lines = iter(line.rpartition("\r")[2] for line in straight.splitlines())
    for pattern in LINES:
        assert any(re.match(pattern, line) for line in lines), pattern
    assert not re.search(r"^Epoch [13]/4$", straight, re.MULTILINE), "validated after epochs 2 and 4 only"


def test_the_records_come_in_the_order_of_tao(place: Place, straight: str) -> None:
    records = place.status("straight")
    messages = [record["message"] for record in records]
    before = [
        "Starting DetectNet_v2 Training job", "Training gridbox model", "Building DetectNet V2 model",
        "DetectNet V2 model built.", "Building rasterizer.", "Rasterizers built.", "Building training graph.",
        "Rasterizing tensors.", "Tensors rasterized.", "Training graph built.", "Building validation graph.",
        "Validation graph built.", "Running training loop.",
    ]  # fmt: skip
    after = [
        "Training loop completed.",
        "Saving trained model.",
        "Model saved.",
        "DetectNet_v2 training job complete.",
    ]
    assert messages[: len(before)] == before
    assert messages[-len(after) :] == after
    epochs = [record for record in records if "epoch" in record]
    assert [(r["epoch"], r["max_epoch"]) for r in epochs] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert re.fullmatch(r"0:00:\d\d\.\d+", epochs[0]["time_per_epoch"])
    assert set(epochs[0]["graphical"]) == {"loss", "learning_rate"}
    validations = [record for record in records if record["message"] == "Evaluation metrics generated."]
    assert len(validations) == 2
    assert set(validations[0]["kpi"]) == {"validation cost", "mean average precision"}
    assert set(validations[0]["categorical"]["average_precision"]) == {"car", "cyclist", "pedestrian"}
    assert set(records[-1]["kpi"]) == {"size", "param_count"}
    assert records[-1]["kpi"]["param_count"] == pytest.approx(0.080471)


def test_tensorboard_has_curves_and_what_the_network_sees(place: Place, straight: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(place.folder / "straight/events"))
    events.Reload()
    assert [point.step for point in events.Scalars("loss")] == [0, 2, 4, 6, 8, 10]
    assert [point.step for point in events.Scalars("validation_loss")] == [2, 4]
    for tag in ("batch_imgs/2", "predictions/0"):
        assert [image.step for image in events.Images(tag)] == [1, 3]
    assert (events.Images("predictions/0")[0].width, events.Images("predictions/0")[0].height) == (96, 64)


def test_objectives_are_weighed_anew_after_each_epoch(place: Place, straight: str) -> None:
    found = re.findall(r"Objective weight of (\S+): (\d\.\d{4})", straight)
    assert len(found) == 4 * 6
    for epoch in range(4):
        weights = {name: float(value) for name, value in found[6 * epoch : 6 * epoch + 6]}
        assert weights["car/cov"] + weights["car/bbox"] == pytest.approx(1.0, abs=2e-4)
        assert weights["car/cov"] != pytest.approx(1 / 11, abs=1e-3)
    # What a checkpoint keeps is what the next epoch begins with.
    with zipfile.ZipFile(place.folder / "straight/model.step-9.ckzip") as archive:
        text = archive.read("model.ckpt-9.json").decode()
    value = float(found[2 * 6][1])
    kept = re.search(r'\["car/cov", ([\d.]+)\]', text)
    assert kept is not None
    assert float(kept[1]) == pytest.approx(value, abs=1e-4)


KILLED = """
import os, signal, sys
from taomagic.engine import cli
from taomagic.engine.detectnet_v2.report import EstimatorReport

def step(self, result, original=EstimatorReport.step):
    original(self, result)
    if (self._epoch, result.index) == (4, 1):
        os.kill(os.getpid(), signal.SIGKILL)

EstimatorReport.step = step
cli.main(sys.argv[1:])
"""


def test_a_training_killed_within_an_epoch_ends_with_the_same_weights_bit_for_bit(
    place: Place, straight: str
) -> None:
    threads = str(torch.get_num_threads())
    environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    words = place.words("killed", "-k", KEY)
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *words], check=False, env=environment, capture_output=True
    )
    assert killed.returncode == -signal.SIGKILL, killed.stdout.decode()
    assert place.record("killed")["epoch"] == 3
    assert not (place.folder / "killed/weights/tiny.tlt").exists()
    code, output = place.train("killed", "-k", KEY)
    assert code == 0, output
    assert f"Resuming from epoch 3: {ROOT}/killed/model.step-9.tlt" in output
    assert "Epoch 3/4: loss" in output
    assert "Epoch 2/4: loss" not in output
    same_as_straight(place, "killed")


@pytest.fixture
def stop_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what has the training stopped in the second step of an epoch."""
    from taomagic.engine.detectnet_v2.report import EstimatorReport

    original = EstimatorReport.step

    def prepare(epoch: int) -> None:
        def step(self: EstimatorReport, result: Any) -> None:
            original(self, result)
            if (self._epoch, result.index) == (epoch, 1):
                raise Stopped(signal.SIGTERM)

        monkeypatch.setattr(EstimatorReport, "step", step)

    return prepare


def test_a_stopped_training_leaves_the_model_as_it_is_and_goes_on_from_the_last_sound_checkpoint(
    place: Place, straight: str, stop_in: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = place.spec("often.txt", replace={"checkpoint_interval: 3": "checkpoint_interval: 1"})
    stop_in(4)
    code, output = place.train("stopped", "-k", KEY, spec=spec)
    monkeypatch.undo()
    assert code == 128 + signal.SIGTERM
    assert f"Saved: {ROOT}/stopped/weights/tiny.tlt" in output
    assert output.splitlines()[-1] == "Execution status: FAIL"
    assert place.record("stopped")["state"] == "interrupted"
    assert place.status("stopped")[-1]["status"] == "FAILURE"
    model = weights_of(place, "stopped")
    last = load_model(place.folder / "stopped/model.step-9.tlt", KEY).weights
    assert any(not torch.equal(model[name], tensor) for name, tensor in last.items()), "newer than that"

    # Meanwhile the state beside the newest checkpoint has been cut off.
    state = place.folder / "stopped/model.step-9.ckzip"
    state.write_bytes(state.read_bytes()[:-100])
    code, output = place.train("stopped", "-k", KEY, spec=spec)
    assert code == 0, output
    assert "The checkpoint of epoch 3 can't be used (the state of the training is damaged" in output
    assert "Resuming from epoch 2" in output
    same_as_straight(place, "stopped")
    assert place.record("stopped")["state"] == "finished"


def test_a_finished_model_waits_aside_until_another_one_has_finished(
    place: Place, straight: str, stop_in: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(place.folder / "straight", place.folder / "twice")
    other = place.spec("other.txt", replace={"random_seed: 42": "random_seed: 43"})
    stop_in(1)
    assert place.train("twice", "-k", KEY, spec=other)[0] == 143
    monkeypatch.undo()
    aside = place.folder / "twice/previous_run"
    for name in ("weights/tiny.tlt", "model.step-12.tlt", "model.step-12.ckzip"):
        assert (aside / name).read_bytes() == (place.folder / "straight" / name).read_bytes()


def test_without_a_key_files_are_plain_and_count_epochs(place: Place) -> None:
    spec = place.spec("plain.txt", replace={"num_epochs: 4": "num_epochs: 2"})
    code, output = place.train("plain", "--no-resume", "--enable_determinism", spec=spec)
    assert code == 0, output
    names = {path.name for path in (place.folder / "plain").glob("model.*")}
    assert names == {f"model.epoch-{n}{suffix}" for n in (0, 2) for suffix in (".hdf5", ".ckzip")}
    assert (place.folder / "plain/weights/tiny.hdf5").is_file()
    assert "| class name | average precision (in %) |" in output, "as release 5, which writes such files"
    assert torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)


def test_early_stopping_anneals_and_ends(place: Place) -> None:
    # With a rate of nearly nothing and statistics that stay, the validation cost is the same after each epoch.
    schedule = """early_stopping_annealing_schedule {
      min_learning_rate: 1e-30
      max_learning_rate: 2e-30
      soft_start_epochs: 1
      annealing_epochs: 1
      patience_steps: 1
    }"""
    text = re.sub(r"soft_start_annealing_schedule \{[^}]*\}", schedule, training_text())
    for old, new in (
        ("num_epochs: 4", "num_epochs: 9"),
        ("enable_autoweighting: true", "enable_autoweighting: false"),
        ("use_batch_norm", "freeze_bn: true\n  use_batch_norm"),
    ):
        assert old in text
        text = text.replace(old, new)
    for name in ("validation_period_during_training: 3", "first_validation_epoch: 2"):
        text = text.replace(name, f"{name[:-1]}1")
    (place.folder / "specs/early.txt").write_text(text)
    code, output = place.train("early", spec=f"{ROOT}/specs/early.txt")
    assert code == 0, output
    history = place.record("early")["history"]
    # The first validation is the best one, the second one no better, and one epoch is left for annealing.
    assert [row["epoch"] for row in history] == [1, 2, 3]
    assert history[0]["validation_loss"] == history[1]["validation_loss"]
    assert history[1]["lr"] == pytest.approx(2e-30, rel=1e-6)
    assert history[2]["lr"] == pytest.approx(2e-30 / 2 ** (2 / 3), rel=1e-6)
    assert "The validation cost no longer falls: the training ends after epoch 3." in output
    lines = [line for line in output.splitlines() if "Epoch 3/9" in line and "ETA" in line]
    assert lines
    assert all(line.endswith("ETA: 0:00:00") for line in lines), "it doesn't count to an epoch that won't be"
    assert (place.folder / "early/model.epoch-3.hdf5").is_file()
    assert (place.folder / "early/weights/tiny.hdf5").is_file()


def test_scalars_less_often_than_once_an_epoch_are_refused_but_not_in_quick_mode(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    rare = {"scalar_logging_frequency: 2": "scalar_logging_frequency: 50", "num_epochs: 4": "num_epochs: 2"}
    spec = place.spec("rare.txt", replace=rare)
    code, output = place.train("rare", spec=spec)
    assert code == 1
    line = 1 + (place.folder / "specs/rare.txt").read_text().partition("scalar_logging")[0].count("\n")
    assert f"{spec}:{line}: scalar_logging_frequency is 50, and an epoch has 3 steps" in output
    assert "HINT: Set it to at most 3, or remove it" in output
    monkeypatch.setenv(QUICK_MODE_VARIABLE, "1")
    code, output = place.train("rare", spec=spec)
    assert code == 0, output
    assert "Scalars logged at every 1 steps" in output
    quick = (
        "QUICK MODE: TAOMAGIC_STEPS_PER_EPOCH=1; steps in an epoch: 1, images in a step: 1; learning rate: 0."
    )
    assert quick in output
    assert quick in (place.folder / "rare/status.json").read_text()
    assert "every 10th" not in output, "the state is a file of its own, which has to be there"
    assert (place.folder / "rare/model.epoch-2.ckzip").is_file()


@pytest.mark.parametrize("name", ["a/b", "", "..", "a" * 250, "a\nb", "a\0b"])
def test_a_name_that_is_none_is_refused(place: Place, name: str) -> None:
    words = place.words("named")
    words[words.index("tiny")] = name
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main(words) == 1
    assert "is no name for a file" in printed.getvalue()


def test_a_training_does_not_overwrite_what_it_starts_from(place: Place, straight: str) -> None:
    shutil.copytree(place.folder / "straight", place.folder / "own")
    start = f'model_config {{\n  pretrained_model_file: "{ROOT}/own/weights/tiny.tlt"'
    spec = place.spec("own.txt", replace={"model_config {": start})
    code, output = place.train("own", "-k", KEY, spec=spec)
    assert code == 1
    assert (
        "model_config.pretrained_model_file: this training would overwrite the weights it starts from"
        in output
    )
    assert (place.folder / "own/weights/tiny.tlt").is_file()


def test_a_start_that_fails_leaves_the_spec_of_the_finished_training(place: Place, straight: str) -> None:
    shutil.copytree(place.folder / "straight", place.folder / "kept")
    start = f'model_config {{\n  pretrained_model_file: "{ROOT}/nothing.tlt"'
    code, output = place.train("kept", "-k", KEY, spec=place.spec("kept.txt", {"model_config {": start}))
    assert code == 1
    assert f"{ROOT}/nothing.tlt: there is no such model file" in output
    for name in ("experiment_spec.txt", "weights/tiny.tlt", "training_run.json"):
        assert (place.folder / "kept" / name).read_bytes() == (place.folder / "straight" / name).read_bytes()


def test_services_that_are_missing_do_not_matter(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "clearml", None)
    blocks = 'visualizer {\n    wandb_config { enabled: true }\n    clearml_config { project: "TAO" }'
    changes = {"visualizer {": blocks, "num_epochs: 4": "num_epochs: 2"}
    code, output = place.train("alone", spec=place.spec("services.txt", replace=changes))
    assert code == 0, output
    assert output.count("the package wandb is not installed; training without it.") == 1
    assert output.count("the package clearml is not installed; training without it.") == 1
