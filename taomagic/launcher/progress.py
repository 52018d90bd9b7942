"""Events -> :class:`Snapshot`: all that a view needs to know about a job at one moment."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from taomagic.launcher.events import (
    Activity,
    EpochEnded,
    EpochStarted,
    Estimated,
    Event,
    Finished,
    Hint,
    Line,
    Metric,
    Problem,
    Resumed,
    Saved,
    Step,
)
from taomagic.launcher.log_forms import without_noise
from taomagic.launcher.states import JobState

#: Lines of the log that a snapshot carries.
TAIL_LINES = 200
#: Points a series keeps; beyond twice as many, every second one is dropped.
SERIES_POINTS = 500
#: Different errors and warnings that a snapshot carries.
PROBLEMS = 20
#: Numbers that have no course worth drawing.
_FACTS = frozenset({"parameters", "model_mb", "ms_per_image", "images_per_second"})


@dataclass(frozen=True)
class Artefact:
    """A file that a command wrote: its path here and in the container; ``kind`` is the suffix without the dot."""

    host: Path
    container: str
    kind: str


@dataclass(frozen=True)
class Snapshot:
    """A job at one moment.

    Parameters
    ----------
    state, job_id, exit_code
        Of the job; ``exit_code`` is negative for a signal, ``None`` while it runs or where it is unknown.
    command
        The command as typed, the key masked.
    label
        The stage in two words, e.g. ``ssd train``.
    epoch, epochs
        1-based epoch now running (or last run), and how many there are; ``None`` for a stage without epochs.
    step, steps
        Of the epoch, or of the activity.
    activity
        What the steps count when it isn't training steps, e.g. ``Producing predictions``; else empty.
    eta_s, elapsed_s
        Seconds until the end of the whole stage (``None`` = unknown), and since its start.
    series
        Curves ``name -> [(x, y), …]``, x in epochs (fractional inside an epoch): ``loss``, ``lr``,
        ``validation_loss``, ``mAP``, ``AP_<class>``; at most 1000 points each.
    metrics
        Last value of each.
    per_class_ap
        Last average precision by class.
    lines
        The last 200 lines, final ones only; the first of them is line number ``dropped`` (0-based) of the
        log.
    bar
        The progress line that the next line will replace; empty where there is none.
    errors, warnings
        Different ones in order of appearance, at most 20. ``cause`` is the one to show first.
    hints
        What to do about it.
    artefacts
        What has been written so far.
    history
        One mapping per finished epoch: ``epoch``, ``loss``, and whatever was measured after it.
    notes
        Sentences worth showing: a resumed training, a time estimate.
    """

    state: JobState
    command: str
    job_id: str
    label: str
    exit_code: int | None = None
    epoch: int | None = None
    epochs: int | None = None
    step: int | None = None
    steps: int | None = None
    activity: str = ""
    eta_s: float | None = None
    elapsed_s: float = 0.0
    series: Mapping[str, list[tuple[float, float]]] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    per_class_ap: Mapping[str, float] = field(default_factory=dict)
    lines: tuple[str, ...] = ()
    dropped: int = 0
    bar: str = ""
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    cause: str = ""
    hints: tuple[str, ...] = ()
    artefacts: tuple[Artefact, ...] = ()
    history: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    log_path: Path | None = None

    @property
    def fraction(self) -> float | None:
        """How much of the stage is done, 0 to 1; ``None`` where nothing tells."""
        if self.state is JobState.SUCCEEDED:
            return 1.0
        inner = self.step / self.steps if self.step is not None and self.steps else 0.0
        if self.epoch is not None and self.epochs:
            # Predictions are made after the steps of an epoch, so they count as its end.
            return min(1.0, (self.epoch if self.activity else self.epoch - 1 + inner) / self.epochs)
        return min(1.0, inner) if self.steps else None


class Progress:
    """Gathers the events of one job.

    Parameters
    ----------
    to_host
        Where a path printed by the command lies on this machine.
    """

    def __init__(self, to_host: Callable[[str], Path] = Path) -> None:
        self._to_host = to_host
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._count = 0
        self._bar = ""
        self._epoch: int | None = None
        self._epochs: int | None = None
        self._step: Step | None = None
        self._activity: Activity | None = None
        self._epoch_began: float | None = None
        self._epoch_seconds: deque[float] = deque(maxlen=5)
        self._estimate_s: float | None = None
        self._series: dict[str, list[tuple[float, float]]] = {}
        self._metrics: dict[str, float] = {}
        self._per_class: dict[str, float] = {}
        self._history: dict[int, dict[str, Any]] = {}
        self._errors: dict[str, None] = {}
        self._warnings: dict[str, None] = {}
        self._cause = ("", 0)
        self._hints: dict[str, None] = {}
        self._artefacts: dict[str, Artefact] = {}
        self._notes: list[str] = []
        #: What ``Execution status:`` said; ``None`` before it is printed.
        self.passed: bool | None = None

    def add(self, event: Event, now: float = 0.0) -> None:  # noqa: PLR0912 - one branch for each kind of event
        """Take one event into account.

        Parameters
        ----------
        now
            Monotonic seconds when the event was read; used for the length of epochs (a replayed log has none,
            and the engine's own figure is used).
        """
        match event:
            case Line(text=text, transient=True):
                self._bar = text
            case Line(text=text):
                self._lines.append(text)
                self._count += 1
                self._bar = ""
            case EpochStarted(epoch=epoch, epochs=epochs):
                self._end_epoch(now)
                self._epoch, self._epochs = epoch, epochs or self._epochs
                self._epoch_began, self._step, self._activity = now, None, None
            case Step():
                self._take_step(event)
            case EpochEnded():
                self._take_end(event)
            case Activity():
                self._activity = event
            case Metric(name=name, value=value, class_name=class_name):
                self._measure(name, value)
                if class_name:
                    self._per_class[class_name] = value
            case Saved(path=path, kind=kind):
                self._artefacts.pop(path, None)
                self._artefacts[path] = Artefact(self._to_host(path), path, kind)
            case Resumed(text=text):
                self._notes.append(text)
            case Estimated(seconds=seconds, text=text):
                self._estimate_s = seconds or None
                self._notes.append(f"Estimated time: {text}")
            case Problem(severity="error", text=text, origin=origin):
                _remember(self._errors, text)
                rank = {"marked": 3, "traceback": 2, "log": 1}[origin]
                if rank >= self._cause[1]:
                    self._cause = (text, rank)
            case Problem(text=text):
                _remember(self._warnings, text)
            case Hint(text=text):
                _remember(self._hints, text)
            case Finished(passed=passed):
                self.passed = passed

    def measure_rate(self, epoch: float, value: float) -> None:
        """Take the learning rate of an epoch, which only ``status.json`` tells."""
        self._point("lr", epoch, value)
        self._history.setdefault(int(epoch), {"epoch": int(epoch)})["lr"] = value

    def find(self, files: Iterable[Saved]) -> None:
        """Take files into account that the command hasn't told of: they stand before those that it has."""
        told = {artefact.host for artefact in self._artefacts.values()}
        found = [Artefact(self._to_host(file.path), file.path, file.kind) for file in files]
        new = {artefact.container: artefact for artefact in found if artefact.host not in told}
        self._artefacts = {**new, **self._artefacts}

    def recent_text(self) -> str:
        """Return the last lines and the errors, to look for a known cause in."""
        return "\n".join((*without_noise(self._lines), *self._errors))

    def snapshot(
        self,
        *,
        state: JobState,
        command: str,
        job_id: str,
        label: str,
        exit_code: int | None,
        elapsed_s: float,
        log_path: Path | None = None,
        hints: tuple[str, ...] = (),
        cause: str = "",
    ) -> Snapshot:
        """Return what is known now; the keyword arguments are what only the job knows."""
        step, activity = self._step, self._activity
        counted = activity or step
        return Snapshot(
            state=state,
            command=command,
            job_id=job_id,
            label=label,
            exit_code=exit_code,
            epoch=self._epoch,
            epochs=self._epochs,
            step=counted.step if counted else None,
            steps=counted.steps if counted else None,
            activity=activity.label if activity else "",
            eta_s=None if state.finished else self._eta(elapsed_s),
            elapsed_s=elapsed_s,
            series={name: list(points) for name, points in self._series.items()},
            metrics=dict(self._metrics),
            per_class_ap=dict(self._per_class),
            lines=tuple(self._lines),
            dropped=self._count - len(self._lines),
            bar="" if state.finished else self._bar,
            errors=tuple(self._errors),
            warnings=tuple(self._warnings),
            cause=cause or self._cause[0] or self._own_words(state),
            hints=tuple(dict.fromkeys((*hints, *self._hints) if cause else (*self._hints, *hints))),
            artefacts=tuple(self._artefacts.values()),
            history=tuple(dict(self._history[epoch]) for epoch in sorted(self._history)),
            notes=tuple(self._notes),
            log_path=log_path,
        )

    def _own_words(self, state: JobState) -> str:
        """Return the cause of a failure that only the command's last line tells, perhaps beside an exit code of 0."""
        return (
            "the command says: Execution status: FAIL"
            if state is JobState.FAILED and self.passed is False
            else ""
        )

    def _take_step(self, step: Step) -> None:
        self._step, self._activity = step, None
        values = dict(step.values)
        if self._epoch is None:
            self._metrics.update(values)
            return
        x = self._epoch - 1 + (step.step / step.steps if step.steps else 0.0)
        for name, value in values.items():
            self._point(name, x, value)
            self._metrics[name] = value
        if step.seconds is not None:
            self._epoch_seconds.append(step.seconds)
            self._history.setdefault(self._epoch, {"epoch": self._epoch}).update(values)

    def _take_end(self, ended: EpochEnded) -> None:
        self._activity = None
        if self._step is not None and ended.epoch == self._epoch:
            self._step = replace(self._step, step=self._step.steps, eta_s=0.0)
        values = dict(ended.values)
        for name, value in values.items():
            points = self._series.get(name)
            if (
                not points or points[-1][0] <= ended.epoch
            ):  # a step of the next epoch may have been told before
                self._point(name, float(ended.epoch), value)
            self._metrics[name] = value
        self._history.setdefault(ended.epoch, {"epoch": ended.epoch}).update(values)
        if ended.seconds is not None:
            self._epoch_seconds.append(ended.seconds)

    def _end_epoch(self, now: float) -> None:
        """Correct the epoch's length, which the bar gives without validation and saving, by the clock."""
        if self._epoch_began is not None and self._epoch_seconds and now:
            self._epoch_seconds[-1] = max(self._epoch_seconds[-1], now - self._epoch_began)

    def _measure(self, name: str, value: float) -> None:
        self._metrics[name] = value
        if self._epoch is not None and name not in _FACTS:
            self._point(name, float(self._epoch), value)
            self._history.setdefault(self._epoch, {"epoch": self._epoch})[name] = value

    def _point(self, name: str, x: float, y: float) -> None:
        if math.isnan(y):
            return
        points = self._series.setdefault(name, [])
        if points and points[-1][0] == x:
            points[-1] = (x, y)
            return
        points.append((x, y))
        if len(points) > 2 * SERIES_POINTS:
            # The newest point stays, whatever the parity.
            points[:] = points[::2] if len(points) % 2 else [*points[:-1:2], points[-1]]

    def _eta(self, elapsed_s: float) -> float | None:
        if self._epoch is None or not self._epochs:
            if self._activity is not None:
                return self._activity.eta_s
            return max(0.0, self._estimate_s - elapsed_s) if self._estimate_s else None
        left = self._epochs - self._epoch
        now = self._step.eta_s if self._step is not None else None
        if self._epoch_seconds:
            one = sum(self._epoch_seconds) / len(self._epoch_seconds)
            if now is None:
                now = 0.0 if self._step is not None else one
            return left * one + now
        if self._step is not None and now is not None and 0 < self._step.step < self._step.steps:
            one = now * self._step.steps / (self._step.steps - self._step.step)
            return left * one + now
        return max(0.0, self._estimate_s - elapsed_s) if self._estimate_s else None


def _remember(found: dict[str, None], text: str) -> None:
    """Keep different texts in order, the newest ones at the end."""
    found.pop(text, None)
    found[text] = None
    if len(found) > PROBLEMS:
        found.pop(next(iter(found)))
