"""What can be told of a running command: one class for each kind of event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["", "INFO", "WARNING", "ERROR"]


@dataclass(frozen=True)
class Line:
    """One line of output, without colours.

    ``transient`` lines ended in a carriage return: the next line takes their place on the screen.
    """

    text: str
    transient: bool = False
    level: Level = ""


@dataclass(frozen=True)
class EpochStarted:
    """``Epoch 3/80``: 1-based epoch, and how many there are (0: not told)."""

    epoch: int
    epochs: int


@dataclass(frozen=True)
class Step:
    """How far an epoch is: a Keras progress bar, or DetectNet_v2's line of every five seconds.

    ``eta_s`` is there while the epoch runs, ``seconds`` (of the whole epoch) when it is done. ``steps`` is 0 where
    nothing has told how many there are.
    """

    step: int
    steps: int
    eta_s: float | None
    seconds: float | None
    values: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class EpochEnded:
    """DetectNet_v2 tells an epoch's loss and length when the next one has begun, and of the last one neither."""

    epoch: int
    seconds: float | None
    values: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Activity:
    """Work outside the training steps, e.g. a tqdm bar ``Producing predictions``; ``steps`` is 0 where none is told."""

    label: str
    step: int
    steps: int
    eta_s: float | None


@dataclass(frozen=True)
class Metric:
    """A measured value: ``mAP``, ``validation_loss``, ``pruning_ratio``, or ``AP_<class>`` with ``class_name`` set.

    Precisions lie between 0 and 1, whatever the command prints.
    """

    name: str
    value: float
    class_name: str = ""


@dataclass(frozen=True)
class Saved:
    """A file was written; ``path`` as printed, so a container path. ``kind`` is its suffix without the dot."""

    path: str
    kind: str


@dataclass(frozen=True)
class Resumed:
    """The training continues an interrupted one, after ``epoch``."""

    epoch: int
    text: str


@dataclass(frozen=True)
class Estimated:
    """The engine's estimate of the whole training before its first step."""

    seconds: float
    text: str


@dataclass(frozen=True)
class Problem:
    """An error or a warning, without the prefix that marked it.

    ``origin``: ``"marked"`` by ``ERROR:`` at the line's start (the engine's own summary), from a ``"log"``
    record (or an exception that only reports that another process failed), or the last line of a Python
    ``"traceback"``.
    """

    severity: Literal["error", "warning"]
    text: str
    origin: Literal["marked", "log", "traceback"] = "log"


@dataclass(frozen=True)
class Hint:
    """What the engine recommends to do about its last error."""

    text: str


@dataclass(frozen=True)
class Finished:
    """``Execution status: PASS`` or ``FAIL``."""

    passed: bool


@dataclass(frozen=True)
class Noise:
    """The line before says nothing about the command: NVIDIA's telemetry, which works or not beside it."""


Event = (
    Line
    | EpochStarted
    | Step
    | EpochEnded
    | Activity
    | Metric
    | Saved
    | Resumed
    | Estimated
    | Problem
    | Hint
    | Finished
    | Noise
)
