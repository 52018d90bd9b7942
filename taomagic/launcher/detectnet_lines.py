"""What DetectNet_v2 prints while it trains and evaluates; TensorFlow's hooks print it, not Keras's bars.

Epochs are counted from 0 where one begins, and from 1 above a validation::

    Epoch 2/120: loss: 0.00124 learning rate: 1.27e-05 Time taken: 0:01:13.5 ETA: 2:24:36
    INFO:tensorflow:epoch = 2.0458, learning_rate = 1.27e-05, loss = 0.00119, step = 5046 (5.164 sec)
    Epoch 3/120
    =========================
    Validation cost: 0.000264
    Mean average_precision (in %): 77.6394
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from taomagic.launcher.class_table import ClassTable
from taomagic.launcher.events import Activity, EpochEnded, EpochStarted, Event, Metric, Step
from taomagic.launcher.log_numbers import clock, number

_BEGINS = re.compile(
    r"^Epoch (?P<epoch>\d{1,9})/(?P<epochs>\d{1,9}): loss: (?P<loss>\S+)(?: learning rate: (?P<lr>\S+))?"
    r"(?: Time taken: (?P<seconds>\S+))?"
)
_STEP = re.compile(
    r"^epoch = (?P<epoch>[\d.eE+-]{1,40}),(?: learning_rate = (?P<lr>[^\s,]{1,40}),)? loss = (?P<loss>[^\s,]{1,40}), "
    r"step = (?P<step>\d{1,12})(?: \((?P<seconds>[\d.]{1,20}) sec\))?$"
)
_EVALUATING = re.compile(
    r"^step (?P<step>\d{1,9}) / (?P<steps>\d{1,9}), (?P<seconds>[\d.]{1,20})s/step$",
)
_MATCHING = re.compile(
    r"^(?P<label>Matching predictions to ground truth), class (?P<step>\d{1,9})/(?P<steps>\d{1,9})\.?$"
)
_WRITING = re.compile(r"^Writing partition (?P<partition>\d{1,9}), shard (?P<shard>\d{1,9})$")
#: Line -> metric, and what its number is multiplied by.
_VALUES = (
    (re.compile(r"^Validation cost: (?P<value>\S+)$"), "validation_loss", 1.0),
    (re.compile(r"^Mean average_precision \(in %\): (?P<value>\S+)$"), "mAP", 0.01),
    (re.compile(r"^Median Inference Time: (?P<value>\S+)$"), "ms_per_image", 1000.0),
    (re.compile(r"^(?:Train )?Samples / sec: (?P<value>\S+)$"), "images_per_second", 1.0),
)


class DetectNetLines:
    """Reads the lines of one command in their order."""

    def __init__(self) -> None:
        self._table = ClassTable()
        self._epoch = 0  # now running, from 1; 0 before the first
        self._epochs = 0
        self._steps = 0  # of an epoch; 0 while it isn't known
        self._last: tuple[tuple[str, float], ...] = ()
        self._step = 0  # since the training began
        self._seconds: float | None = None  # of the epoch before

    def read(self, text: str) -> Iterator[Event]:
        """Yield what a line says, without its record's head, in case it is one of these."""
        if self._table.open or "class name" in text:
            row = self._table.read(text)
            if row is not None:
                yield Metric(f"AP_{row[0]}", row[1], row[0])
                return
        if text.startswith("epoch = "):
            yield from self._takes_step(text)
        elif text.startswith("Epoch "):
            yield from self._begins(text.replace("[", "").replace("]", ""))
        elif match := _EVALUATING.match(text):
            step, steps, each = int(match["step"]), int(match["steps"]), number(match["seconds"])
            yield Activity(
                "Evaluating images", step, steps, None if each is None else max(0, steps - step) * each
            )
        elif match := _MATCHING.match(text):
            yield Activity(match["label"], int(match["step"]), int(match["steps"]), None)
        elif match := _WRITING.match(text):
            yield Activity(f"Writing partition {match['partition']}, shard {match['shard']}", 0, 0, None)
        else:
            for pattern, name, factor in _VALUES:
                if (match := pattern.match(text)) and (value := number(match["value"])) is not None:
                    yield Metric(name, value * factor)

    @property
    def in_table(self) -> bool:
        """Whether the next line may be a row of the table of classes, which no word would tell."""
        return self._table.open

    def validates(self, epoch: int) -> bool:
        """Tell whether ``Epoch 3/120``, alone on a line, is the heading of a validation rather than a beginning.

        It is where this epoch has been running; Keras prints the same before an epoch.
        """
        return 0 < epoch == self._epoch

    def ended(self) -> Iterator[Event]:
        """Yield that the running epoch has ended: its validation is announced."""
        yield EpochEnded(self._epoch, None, self._last)

    def _begins(self, text: str) -> Iterator[Event]:
        match = _BEGINS.match(text)
        loss = number(match["loss"]) if match else None
        if match is None or loss is None:
            return
        rate = number((match["lr"] or "").rstrip("."))
        values = (("loss", loss), *((("lr", rate),) if rate is not None else ()))
        done, self._epochs = int(match["epoch"]), int(match["epochs"])
        self._seconds = clock(match["seconds"] or "") or None
        if done:
            yield EpochEnded(done, self._seconds, values)
        if done < self._epochs:
            self._epoch, self._last = done + 1, values
            yield EpochStarted(self._epoch, self._epochs)
            yield Step(0, self._steps, self._seconds, None, values)

    def _takes_step(self, text: str) -> Iterator[Event]:
        match = _STEP.match(text)
        if match is None:
            return
        loss, epochs, step = number(match["loss"]), number(match["epoch"]), int(match["step"])
        if loss is None or epochs is None or not math.isfinite(epochs):
            return
        rate = number(match["lr"] or "")
        values = (("loss", loss), *((("lr", rate),) if rate is not None else ()))
        if epochs > 0 and step:
            self._steps = max(1, round(step / epochs))
        each = None
        if match["seconds"] and step > self._step > 0:
            each = (number(match["seconds"]) or 0.0) / (step - self._step)
        epoch = max(1, -(-step // self._steps)) if self._steps else 1
        if epoch != self._epoch:
            self._epoch = epoch
            yield EpochStarted(epoch, self._epochs)
        self._step, self._last = step, values
        inside = step - (epoch - 1) * self._steps
        left = None if each is None else (self._steps - inside) * each
        yield Step(inside if self._steps else 0, self._steps, left, None, values)
