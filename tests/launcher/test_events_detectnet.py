"""DetectNet_v2's console, of NVIDIA's containers of both generations and of the engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from taomagic.launcher.event_reader import EventReader
from taomagic.launcher.events import (
    Activity,
    EpochEnded,
    EpochStarted,
    Finished,
    Line,
    Metric,
    Problem,
    Saved,
    Step,
)
from taomagic.launcher.progress import Progress, Snapshot
from taomagic.launcher.states import JobState

TAO_3 = "2021-11-21 09:00:00,123 [INFO] iva.detectnet_v2.evaluation.evaluation: "
TAO_5 = "2023-11-21 09:00:00,123 [TAO Toolkit] [INFO] nvidia_tao_tf1.cv.detectnet_v2.x 84: "
BEGINS = "Epoch {}/3: loss: {} learning rate: {} Time taken: {} ETA: 0:01:00\n"


def meanings(text: str) -> list[Any]:
    reader = EventReader()
    events = [*reader.feed(text.encode()), *reader.close()]
    return [event for event in events if not isinstance(event, Line)]


def snapshot_of(text: str, state: JobState = JobState.RUNNING) -> Snapshot:
    progress = Progress(lambda path: Path("/host" + path))
    reader = EventReader()
    for event in [*reader.feed(text.encode()), *reader.close()]:
        progress.add(event)
    return progress.snapshot(
        state=state, command="tao detectnet_v2 train", job_id="0", label="detectnet_v2 train", exit_code=None,
        elapsed_s=100.0,
    )  # fmt: skip


def near(value: float) -> Any:
    return pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Epoch 0/120: loss: 0.5 learning rate: 5e-07 Time taken: 0:00:00 ETA: 0:00:00\n",
            [EpochStarted(1, 120), Step(0, 0, None, None, (("loss", 0.5), ("lr", 5e-7)))],
        ),
        (
            f"{TAO_5}Epoch 3/120: loss: 0.5 learning rate: 1e-5 Time taken: 0:00:12.5 ETA: 0:10:00\n",
            [
                EpochEnded(3, 12.5, (("loss", 0.5), ("lr", 1e-5))),
                EpochStarted(4, 120),
                Step(0, 0, 12.5, None, (("loss", 0.5), ("lr", 1e-5))),
            ],
        ),
        (
            "Epoch 3/120: loss: 0.00123 Time taken: 0:00:12.5 ETA: 0:10:00\n",  # TAO 3
            [
                EpochEnded(3, 12.5, (("loss", 0.00123),)),
                EpochStarted(4, 120),
                Step(0, 0, 12.5, None, (("loss", 0.00123),)),
            ],
        ),
        ("Epoch 2/2: loss: 0.5 Time taken: 0:00:12.5 ETA: 0:00:00\n", [EpochEnded(2, 12.5, (("loss", 0.5),))]),
        (
            "INFO:tensorflow:epoch = 0.05, learning_rate = 1.27e-05, loss = 0.0509326, step = 113 (5.164 sec)\n",
            [EpochStarted(1, 0), Step(113, 2260, None, None, (("loss", 0.0509326), ("lr", 1.27e-5)))],
        ),
        (
            "INFO:tensorflow:epoch = 0.0, learning_rate = 5e-07, loss = 0.06, step = 0\n",
            [EpochStarted(1, 0), Step(0, 0, None, None, (("loss", 0.06), ("lr", 5e-7)))],
        ),
        (
            "[1,0]<stdout>:INFO:tensorflow:epoch = 0.5, loss = 0.06, step = 5 (5.0 sec)\n",
            [EpochStarted(1, 0), Step(5, 10, None, None, (("loss", 0.06),))],
        ),
        (f"{TAO_3}Train Samples / sec: 12.345\n", [Metric("images_per_second", 12.345)]),
        (f"{TAO_3}step 10 / 32, 0.25s/step\n", [Activity("Evaluating images", 10, 32, 5.5)]),
        (
            "Matching predictions to ground truth, class 2/3.:  50%|█████     | 5/10 [00:01<00:01, 4.0it/s]\r",
            [Activity("Matching predictions to ground truth, class 2/3.", 5, 10, 1.0)],
        ),
        (
            "Matching predictions to ground truth, class 2/3.\n",
            [Activity("Matching predictions to ground truth", 2, 3, None)],
        ),
        (f"{TAO_5}Writing partition 0, shard 3\n", [Activity("Writing partition 0, shard 3", 0, 0, None)]),
        ("Validation cost: 0.000264\n", [Metric("validation_loss", 0.000264)]),
        ("Mean average_precision (in %): 77.6394\n", [Metric("mAP", near(0.776394))]),
        ("Median Inference Time: 0.012500\n", [Metric("ms_per_image", near(12.5))]),
        (
            f"{TAO_5}Pruning ratio (pruned model / original model): 0.1\n",
            [Metric("pruning_ratio", near(0.1))],
        ),
        ("Saved: /w/experiment/model.epoch-3.tlt\n", [Saved("/w/experiment/model.epoch-3.tlt", "tlt")]),
        (f"{TAO_3}Evaluation complete.\nTime taken to run iva.x:main: 0:00:44.123456.\n", []),
        ("INFO:tensorflow:Saving checkpoints for step-112.\n", []),
        ("b'car': 783\n", []),
        ("Epoch 3/120: loss: soon\nepoch = 1\nstep one / two\nINFO:tensorflow:epoch = , loss = x, step = 1\n", []),
        ("INFO:tensorflow:epoch = nan, loss = 0.5, step = 1\n", []),
    ],
)  # fmt: skip
def test_line_means(text: str, expected: list[Any]) -> None:
    assert meanings(text) == expected


def test_epochs_of_the_steps_agree_with_the_counting_from_nought() -> None:
    steps = "INFO:tensorflow:epoch = {}, learning_rate = 1e-05, loss = 0.5, step = {} (5.0 sec)\n"
    log = BEGINS.format(0, 0.9, 1e-6, "0:00:00") + steps.format(0.5, 10) + steps.format(1.0, 20)
    log += BEGINS.format(1, 0.4, 1e-5, "0:00:10") + steps.format(1.05, 21)
    found = meanings(log)
    assert [(event.step, event.steps) for event in found if isinstance(event, Step)] == [
        (0, 0), (10, 20), (20, 20), (0, 20), (1, 20),
    ]  # fmt: skip
    assert [event.epoch for event in found if isinstance(event, EpochStarted)] == [1, 2]
    # Seconds a step times steps to come; of the first line nothing is known.
    assert [event.eta_s for event in found if isinstance(event, Step)] == [None, None, 0.0, 10.0, 95.0]


def test_the_heading_of_a_validation_ends_the_epoch_and_begins_none() -> None:
    heading = "Epoch 1/3\n=========================\n\nMean average_precision (in %): 50.0\n"
    log = BEGINS.format(0, 0.9, 1e-6, "0:00:00") + heading
    assert meanings(log)[2:] == [
        EpochEnded(1, None, (("loss", 0.9), ("lr", 1e-6))),
        Metric("mAP", near(0.5)),
    ]
    # Without an epoch that runs it is Keras's line before one.
    assert meanings("Epoch 1/3\n") == [EpochStarted(1, 3)]


TABLE_3 = """Epoch {n}/{N}
=========================

Validation cost: 0.000264
Mean average_precision (in %): {mean}

class name      average precision (in %)
------------  --------------------------
car                              {car}
person sitting                   {person}

Median Inference Time: 0.012500
"""
TABLE_5 = """Epoch {n}/{N}
=========================

Validation cost: 0.000264
Mean average_precision (in %): {mean}

+----------------+--------------------------+
|   class name   | average precision (in %) |
+----------------+--------------------------+
|      car       |    {car}     |
| person sitting |    {person}    |
+----------------+--------------------------+

Median Inference Time: 0.012500
"""


def training(table: str, *, rates: bool) -> str:
    """Return the log of a training of three epochs with validations after the first and the last."""
    rate = " learning rate: {}" if rates else "{:.0}"
    begins = "Epoch {}/3: loss: {}" + rate + " Time taken: 0:00:{} ETA: 0:01:00\n"
    step = (
        "INFO:tensorflow:epoch = {}, learning_rate = {}, loss = {}, step = {} (5.0 sec)\n"
        "INFO:tensorflow:Saving checkpoints for step-{}.\n"
    )
    matching = "Matching predictions to ground truth, class 1/2.: 100%|████| 8/8 [00:00<00:00, 90.1it/s]\n"
    return (
        f"{TAO_3}Found 8 samples in training set\n"
        + begins.format(0, 0.9, "1e-06", "00")
        + step.format(0.9, 1e-5, 0.5, 9, 10)
        + matching
        + table.format(n=1, N=3, mean="60.0000", car="70.0", person="50.0")
        + begins.format(1, 0.45, "1.1e-05", "12.5")
        + f"{TAO_3}Train Samples / sec: 12.345\n"
        + step.format(1.9, 2e-5, 0.4, 19, 20)
        + begins.format(2, 0.35, "2.1e-05", "11.5")
        + step.format(2.9, 3e-6, 0.3, 29, 30)
        + matching
        + table.format(n=3, N=3, mean="82.0000", car="90.0", person="74.0")
        + f"{TAO_3}Evaluation complete.\n"
        + "Time taken to run iva.detectnet_v2.scripts.train:main: 0:00:44.1.\n"
    )


@pytest.mark.parametrize(("table", "rates"), [(TABLE_3, False), (TABLE_5, True)])
def test_a_training_of_either_generation_is_understood(table: str, rates: bool) -> None:
    log = training(table, rates=rates)
    done = snapshot_of(log + "Execution status: PASS\n", JobState.SUCCEEDED)
    assert (done.epoch, done.epochs, done.fraction) == (3, 3, 1.0)
    assert [row["loss"] for row in done.history] == [0.45, 0.35, 0.3]
    assert [row.get("mAP") for row in done.history] == [near(0.6), None, near(0.82)]
    assert done.series["mAP"] == [(1.0, near(0.6)), (3.0, near(0.82))]
    assert done.series["validation_loss"] == [(1.0, 0.000264), (3.0, 0.000264)]
    assert done.per_class_ap == {"car": near(0.9), "person sitting": near(0.74)}
    assert done.series["loss"] == [
        (0.0, 0.9),
        (0.9, 0.5),
        (1.0, 0.45),
        (1.9, 0.4),
        (2.0, 0.35),
        (2.9, 0.3),
        (3.0, 0.3),
    ]
    assert (0.9, 1e-5) in done.series["lr"]
    assert done.metrics["ms_per_image"] == 12.5
    assert done.metrics["images_per_second"] == 12.345
    assert "ms_per_image" not in done.series, "a fact has no course"
    assert (done.errors, done.warnings) == ((), ())


def test_the_rest_is_estimated_from_the_epochs_before() -> None:
    log = training(TABLE_3, rates=True)
    cut = log[: log.index("Epoch 2/3: loss")]  # in the second epoch, at 9 of 10 steps, 0.5 s each
    running = snapshot_of(cut)
    assert (running.epoch, running.step, running.steps) == (2, 9, 10)
    assert running.fraction == near((1 + 0.9) / 3)
    assert running.eta_s == near(12.5 + 0.5)
    validating = snapshot_of(
        cut + "Matching predictions to ground truth, class 1/2.: 10%|█  | 1/8 [00:00<00:01]\r"
    )
    assert validating.activity.startswith("Matching")
    assert validating.fraction == near(2 / 3)
    ended = snapshot_of(cut + "Epoch 2/3\n===\n")
    assert (ended.fraction, ended.eta_s) == (near(2 / 3), near(12.5))


def test_a_failure_among_these_lines_is_found() -> None:
    log = (
        training(TABLE_5, rates=True)
        + "AssertionError: No files match pattern /w/tfrecords/*.\nExecution status: FAIL\n"
    )
    assert meanings(log)[-2:] == [
        Problem("error", "AssertionError: No files match pattern /w/tfrecords/*.", "traceback"),
        Finished(passed=False),
    ]
