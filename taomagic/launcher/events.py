"""What a command prints -> events. Pure functions and one small state machine, no clock, no files.

The engine and NVIDIA's containers print the same lines, so this parser serves both. Bytes arrive in any
chunks: the same bytes give the same events however they were cut.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from taomagic.launcher.class_table import ClassTable
from taomagic.launcher.log_forms import RECORD_INSIDE, Telemetry, split_log, without_rank

#: Longest line kept, in characters. The rest of a longer one is dropped, and the line says so.
LINE_LIMIT = 8192

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
    """``Epoch 3/80``: 1-based epoch, and how many there are."""

    epoch: int
    epochs: int


@dataclass(frozen=True)
class Step:
    """A Keras progress bar inside an epoch.

    ``eta_s`` is there while the epoch runs, ``seconds`` (of the whole epoch) when it is done.
    """

    step: int
    steps: int
    eta_s: float | None
    seconds: float | None
    values: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Activity:
    """A tqdm bar outside the training steps, e.g. ``Producing predictions``."""

    label: str
    step: int
    steps: int
    eta_s: float | None


@dataclass(frozen=True)
class Metric:
    """A measured value: ``mAP``, ``validation_loss``, ``pruning_ratio``, or ``AP_<class>`` with ``class_name`` set."""

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

# CSI and OSC sequences, two-character escapes, and an escape cut off at the end of the text.
_ANSI = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_]|\[[0-?]*[ -/]*$|\][^\x07\x1b]*$|$)"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_EPOCH = re.compile(r"^Epoch (?P<epoch>\d{1,9})/(?P<epochs>\d{1,9})(?: \(quick mode\))?\s*$")
_EPOCH_DONE = re.compile(
    r"^Epoch (?P<epoch>\d{1,9})/(?P<epochs>\d{1,9}): loss: (?P<loss>\S+)(?: learning rate: (?P<lr>\S+))?"
    r"(?: Time taken: (?P<seconds>\S+))?"
)
_BAR = re.compile(r"^\s*(?P<step>\d{1,9})/(?P<steps>\d{1,9}) \[[=>.]*\](?P<rest>(?: - .*)?)$")
_BAR_VALUE = re.compile(r"^(?P<name>[A-Za-z_][\w ]*): (?P<value>\S+)$")
_TQDM = re.compile(
    r"^(?P<label>[^|]*?):?\s*\d{1,3}%\|[^|]*\| (?P<step>\d{1,9})/(?P<steps>\d{1,9}) \[(?P<times>[^\]]*)\]?"
)
_AP = re.compile(r"^(?P<name>\S.{0,200}?) +AP +(?P<value>\S+)$")
_MAP = re.compile(r"^\s+mAP +(?P<value>\S+)$")
_MAP_PERCENT = re.compile(r"^Mean average_precision \(in %\): (?P<value>\S+)$")
_VALIDATION_LOSS = re.compile(r"^Validation loss: (?P<value>\S+)$")
_RATIO = re.compile(r"Pruning ratio \(pruned model / original model\): (?P<value>\S+)$")
#: What `evaluate` says about the model besides its score: line start -> metric.
_MODEL_FACTS = {
    "parameters": re.compile(r"^Parameters: (?P<value>[\d,]+)$"),
    "model_mb": re.compile(r"^Model file: (?P<value>[\d.]+) MB$"),
    "ms_per_image": re.compile(r"^Median inference time: (?P<value>[\d.]+) ms per image\b"),
}
_CHECKPOINT = re.compile(r"^Epoch \d+: saving model to (?P<path>.+)$")
_SAVED = re.compile(r"^Saved: (?P<path>.+)$")
_RESUMED = re.compile(r"^Resuming from epoch (?P<epoch>\d{1,9})\b.*$")
_ESTIMATE = re.compile(r"^Estimated time: (?P<text>.+)$")
_STATUS = re.compile(r"^Execution status: (?P<status>PASS|FAIL)(?: \(.*\))?\s*$")
_PREFIXED = re.compile(r"^(?P<kind>ERROR|HINT|WARNING): (?P<text>.*)$")
_EXCEPTION = re.compile(
    r"^(?P<text>(?:\w+\.)*(?:\w*(?:Error|Exception)|KeyboardInterrupt|SystemExit)(?:: .*)?)$"
)
# Exceptions that only say that something else failed; what it was stands above them.
_CONSEQUENCE = re.compile(
    r"^(?:\w+\.)*(?:CalledProcessError|ChildFailedError|KeyboardInterrupt|SystemExit)\b"
)
_USAGE = re.compile(r"^[\w./ -]{1,80}: error: (?P<text>.+)$")
_WORDS = (
    "Epoch ", "Saved: ", "Validation loss", " AP ", " mAP ", "Mean average", "Pruning ratio", "Execution status",
    "ERROR:", "HINT:", "WARNING:", "Resuming ", "Estimated ", "Parameters: ", "Model file: ",
    "inference time: ", "Error", "Exception", "KeyboardInterrupt", "SystemExit", ": error: ",
)  # fmt: skip
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,9})?) ?(h|min|ms|m|s|us)(?![a-zA-Z/])")
_UNITS = {"h": 3600.0, "min": 60.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}


class LineReader:
    r"""Bytes in any chunks -> lines.

    ``\n`` and ``\r\n`` end a line; a lone ``\r`` ends a transient one. A transient line is reported at once,
    so a bar that stands still is seen; if ``\n`` follows directly, the same text is reported again as a final
    line.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending: list[str] = []
        self._length = 0
        self._returned: str | None = None  # the transient line that a directly following "\n" makes final

    def feed(self, data: bytes) -> Iterator[Line]:
        """Yield the lines that ``data`` completes."""
        yield from self._split(self._decoder.decode(data))

    def close(self) -> Iterator[Line]:
        """Yield what is left: a last line without its end."""
        yield from self._split(self._decoder.decode(b"", final=True))
        if self._length:
            yield self._take(transient=False)

    def _split(self, text: str) -> Iterator[Line]:
        if self._returned is None and "\r" not in text:
            yield from self._split_plain(text)
            return
        start = 0
        for match in re.finditer(r"[\r\n]", text):
            self._keep(text[start : match.start()])
            start = match.end()
            if match.group() == "\r":
                if self._returned is not None and not self._length:
                    continue  # a doubled "\r" changes nothing on the screen
                line = self._take(transient=True)
                self._returned = line.text
                yield line
            elif self._returned is not None and not self._length:
                text_of_bar, self._returned = self._returned, None
                yield _line(text_of_bar, transient=False)
            else:
                self._returned = None
                yield self._take(transient=False)
        self._keep(text[start:])

    def _split_plain(self, text: str) -> Iterator[Line]:
        """Do the same for text without bars, which is most of it, in half the time."""
        first, *others = text.split("\n")
        self._keep(first)
        if not others:
            return
        yield self._take(transient=False)
        for part in others[:-1]:
            if len(part) <= LINE_LIMIT:
                yield _line(clean(part), transient=False)
            else:
                self._keep(part)
                yield self._take(transient=False)
        self._keep(others[-1])

    def _keep(self, text: str) -> None:
        if text:
            room = LINE_LIMIT - self._length
            if room > 0:
                self._pending.append(text[:room])
            self._length += len(text)
            self._returned = None

    def _take(self, *, transient: bool) -> Line:
        text, cut = "".join(self._pending), self._length - LINE_LIMIT
        self._pending.clear()
        self._length = 0
        return _line(clean(text) + (f" … [{cut} characters more]" if cut > 0 else ""), transient=transient)


def clean(text: str) -> str:
    """Remove colours, cursor movements and control characters; tabs become blanks."""
    if text.isprintable():  # almost every line; the patterns cost ten times as much
        return text.rstrip()
    return _CONTROL.sub("", _ANSI.sub("", text)).replace("\t", "    ").rstrip()


def _line(text: str, *, transient: bool) -> Line:
    return Line(text, transient=transient, level=_level(text))


def _level(text: str) -> Level:
    if not text[:1].isdigit() and text[:1] not in "[ICEW":
        return ""  # almost every line
    logged = split_log(text)
    match = _PREFIXED.match(text) if logged is None else None
    word = logged[0] if logged else match["kind"] if match else ""
    if word in {"ERROR", "CRITICAL", "FATAL"}:
        return "ERROR"
    if word in {"WARNING", "WARN"}:
        return "WARNING"
    return "INFO" if word == "INFO" else ""


class EventReader:
    """Bytes in any chunks -> events, each :class:`Line` followed by what it means."""

    def __init__(self) -> None:
        self._lines = LineReader()
        self._telemetry = Telemetry()
        self._table = ClassTable()

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events that ``data`` completes."""
        return self._events(self._lines.feed(data))

    def close(self) -> Iterator[Event]:
        """Yield the events of a last line without its end."""
        return self._events(self._lines.close())

    def _events(self, lines: Iterator[Line]) -> Iterator[Event]:
        telemetry, table = self._telemetry, self._table
        for line in lines:
            if (
                not line.transient
                and (telemetry.open or "elemetry" in line.text)
                and telemetry.takes(line.text)
            ):
                yield replace(line, level="")
                yield Noise()
            else:
                yield line
                yield from meaning(line)
                if (table.open or "class name" in line.text) and (row := table.read(line.text)):
                    yield Metric(f"AP_{row[0]}", row[1], row[0])


def meaning(line: Line) -> Iterator[Event]:
    """Yield what one line says beyond its text."""
    progress = _progress(line.text)
    if progress is not None:
        yield progress
        # A bar that wasn't ended: the next record stands right behind it.
        if not line.transient and (behind := RECORD_INSIDE.search(line.text)):
            yield from meaning(_line(behind["rest"], transient=False))
        return
    if line.transient:
        return
    text = line.text
    logged = split_log(text) if line.level else None
    if logged:
        text = logged[1]
    elif text[:1] == "[":
        text = without_rank(text)
    if logged and line.level in {"ERROR", "WARNING"} and not _STATUS.match(text):
        yield Problem("error" if line.level == "ERROR" else "warning", text)
    # Most lines are plain text. Looking for the words first is much cheaper than trying every pattern.
    if _says_something(text):
        yield from _message(text)


def _says_something(text: str) -> bool:
    for word in _WORDS:  # noqa: SIM110 - twice as fast as any(), and it runs for each line
        if word in text:
            return True
    return False


def _progress(text: str) -> Event | None:
    if " [" in text and (match := _BAR.match(text)):
        return _bar(match)
    if "%|" in text and (match := _TQDM.match(text)):
        left = match["times"].partition("<")[2].partition(",")[0]
        return Activity(match["label"].strip(), int(match["step"]), int(match["steps"]), _clock(left))
    return None


def _message(text: str) -> Iterator[Event]:  # noqa: PLR0912 - one branch for each kind of line
    # A part of the text decides first whether a pattern can match at all: that is ten times as fast.
    if text.startswith("Epoch ") and (match := _EPOCH.match(text)):
        yield EpochStarted(int(match["epoch"]), int(match["epochs"]))
    elif ("sav" in text or "Saved" in text) and (match := _CHECKPOINT.match(text) or _SAVED.match(text)):
        yield Saved(match["path"].strip(), _kind(match["path"].strip()))
    elif text.startswith("Validation") and (match := _VALIDATION_LOSS.match(text)):
        yield from _metric("validation_loss", match["value"])
    elif "mAP " in text and (match := _MAP.match(text)):
        yield from _metric("mAP", match["value"])
    elif " AP " in text and (match := _AP.match(text)):
        yield from _metric(f"AP_{match['name']}", match["value"], match["name"])
    elif text.startswith("Mean average") and (match := _MAP_PERCENT.match(text)):
        yield from _metric("mAP", match["value"], scale=0.01)
    elif "Pruning ratio" in text and (match := _RATIO.search(text)):
        yield from _metric("pruning_ratio", match["value"])
    elif text[:1] in "PM" and (fact := _fact(text)):
        yield from _metric(fact[0], fact[1].replace(",", ""))
    elif text.startswith("Execution") and (match := _STATUS.match(text)):
        yield Finished(match["status"] == "PASS")
    elif text[:1] in "EHW" and (match := _PREFIXED.match(text)):
        if match["kind"] == "HINT":
            yield Hint(match["text"])
        else:
            yield Problem("error" if match["kind"] == "ERROR" else "warning", match["text"], "marked")
    elif text.startswith("Resuming") and (match := _RESUMED.match(text)):
        yield Resumed(int(match["epoch"]), text)
    elif text.startswith("Estimated") and (match := _ESTIMATE.match(text)):
        yield Estimated(duration(match["text"].partition("(")[0]), match["text"])
    elif "loss: " in text and (match := _EPOCH_DONE.match(text.replace("[", "").replace("]", ""))):
        yield from _epoch_done(match)
    elif ": error: " in text and (match := _USAGE.match(text)):
        yield Problem("error", match["text"], "traceback")
    elif match := _EXCEPTION.match(text):
        yield Problem("error", match["text"], "log" if _CONSEQUENCE.match(text) else "traceback")


def _fact(text: str) -> tuple[str, str] | None:
    """Return what a line says about the model itself, as name and number."""
    for name, pattern in _MODEL_FACTS.items():
        if match := pattern.match(text):
            return name, match["value"]
    return None


def _bar(match: re.Match[str]) -> Step:
    eta_s: float | None = None
    seconds: float | None = None
    values: list[tuple[str, float]] = []
    for number, part in enumerate(match["rest"].split(" - ")[1:]):
        if part.startswith("ETA: "):
            eta_s = _clock(part.removeprefix("ETA: ")) if ":" in part[5:] else duration(part)
        elif (named := _BAR_VALUE.match(part)) and (value := _number(named["value"])) is not None:
            values.append((named["name"], value))
        elif number == 0 and part[:1].isdigit():
            seconds = duration(part.partition(" ")[0])
    return Step(int(match["step"]), int(match["steps"]), eta_s, seconds, tuple(values))


def _epoch_done(match: re.Match[str]) -> Iterator[Event]:
    """Detectnet's one line for an epoch becomes the start and the full bar of that epoch."""
    loss = _number(match["loss"])
    if loss is None:
        return
    rate = _number((match["lr"] or "").rstrip("."))
    values = [("loss", loss)] + ([("lr", rate)] if rate is not None else [])
    yield EpochStarted(int(match["epoch"]), int(match["epochs"]))
    yield Step(1, 1, None, _clock(match["seconds"] or ""), tuple(values))


def _metric(name: str, text: str, class_name: str = "", scale: float = 1.0) -> Iterator[Event]:
    value = _number(text)
    if value is not None:
        yield Metric(name, value * scale, class_name)


def _number(text: str) -> float | None:
    # float() also takes "1_0" and "infinity"; neither is a measured value here.
    if not re.fullmatch(r"[+-]?(?:\d{1,40}\.?\d{0,40}(?:[eE][+-]?\d{1,4})?|nan)", text):
        return None
    return float(text)


def _kind(path: str) -> str:
    name = path.rstrip("/").rpartition("/")[2]
    return name.rpartition(".")[2].lower() if "." in name[1:] else ""


def _clock(text: str) -> float | None:
    """Return the seconds of ``01:02``, ``1:02:03``, ``0:00:12.5``; ``None`` for anything else."""
    if not re.fullmatch(r"\d{1,9}(?::\d{1,2}){1,2}(?:\.\d{1,9})?", text):
        return None
    seconds = 0.0
    for part in text.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds


def duration(text: str) -> float:
    """Return the seconds that ``1 h 3 min 10 s``, ``9s`` or ``351ms`` mean; 0 where nothing is recognised."""
    return sum(float(value) * _UNITS[unit] for value, unit in _DURATION.findall(text))
