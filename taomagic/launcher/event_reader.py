"""What a command prints -> events. Pure functions and small state machines, no clock, no files.

The engine and NVIDIA's containers print the same lines, so this parser serves both. Bytes arrive in any
chunks: the same bytes give the same events however they were cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from taomagic.launcher.detectnet_lines import DetectNetLines
from taomagic.launcher.events import (
    Activity,
    EpochStarted,
    Estimated,
    Event,
    Finished,
    Hint,
    Line,
    Metric,
    Noise,
    Problem,
    Resumed,
    Saved,
    Step,
)
from taomagic.launcher.lines import LineReader, line_of
from taomagic.launcher.log_forms import RECORD_INSIDE, Telemetry, split_log, without_rank
from taomagic.launcher.log_numbers import clock, duration, file_kind, number

_EPOCH = re.compile(r"^Epoch (?P<epoch>\d{1,9})/(?P<epochs>\d{1,9})(?: \(quick mode\))?\s*$")
_BAR = re.compile(r"^\s*(?P<step>\d{1,9})/(?P<steps>\d{1,9}) \[[=>.]*\](?P<rest>(?: - .*)?)$")
_BAR_VALUE = re.compile(r"^(?P<name>[A-Za-z_][\w ]*): (?P<value>\S+)$")
_TQDM = re.compile(
    r"^(?P<label>[^|]*?):?\s*\d{1,3}%\|[^|]*\| (?P<step>\d{1,9})/(?P<steps>\d{1,9}) \[(?P<times>[^\]]*)\]?"
)
_AP = re.compile(r"^(?P<name>\S.{0,200}?) +AP +(?P<value>\S+)$")
_MAP = re.compile(r"^\s+mAP +(?P<value>\S+)$")
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
# The forms of DetectNet_v2 among them.
_WORDS = (
    "Epoch ", "Saved: ", "Validation ", " AP ", " mAP ", "Mean average", "Pruning ratio", "Execution status",
    "ERROR:", "HINT:", "WARNING:", "Resuming ", "Estimated ", "Parameters: ", "Model file: ", "nference ",
    "Error", "Exception", "KeyboardInterrupt", "SystemExit", ": error: ",
    "step", "Samples / sec", "Matching predictions", "Writing partition", "class name",
)  # fmt: skip


class EventReader:
    """Bytes in any chunks -> events, each :class:`Line` followed by what it means."""

    def __init__(self) -> None:
        self._lines = LineReader()
        self._telemetry = Telemetry()
        self._detectnet = DetectNetLines()

    def feed(self, data: bytes) -> Iterator[Event]:
        """Yield the events that ``data`` completes."""
        return self._events(self._lines.feed(data))

    def close(self) -> Iterator[Event]:
        """Yield the events of a last line without its end."""
        return self._events(self._lines.close())

    def _events(self, lines: Iterator[Line]) -> Iterator[Event]:
        telemetry = self._telemetry
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
                yield from self._meaning(line)

    def _meaning(self, line: Line) -> Iterator[Event]:
        """Yield what one line says beyond its text."""
        progress = _progress(line.text)
        if progress is not None:
            yield progress
            # A bar that wasn't ended: the next record stands right behind it.
            if not line.transient and (behind := RECORD_INSIDE.search(line.text)):
                yield from self._meaning(line_of(behind["rest"], transient=False))
            return
        if line.transient:
            return
        level, text = line.level, line.text
        logged = split_log(text) if level else None
        if not logged and text[:1] == "[":
            text = without_rank(text)
            logged = split_log(text) if text != line.text else None
            level = line_of(text, transient=False).level if logged else level
        if logged:
            text = logged[1]
            if level in {"ERROR", "WARNING"} and not _STATUS.match(text):
                yield Problem("error" if level == "ERROR" else "warning", text)
        # Most lines are plain text. Looking for the words first is much cheaper than trying every pattern.
        detectnet = self._detectnet
        if detectnet.in_table or _says_something(text):
            if (match := _EPOCH.match(text)) and detectnet.validates(int(match["epoch"])):
                yield from detectnet.ended()
                return
            told = list(detectnet.read(text))
            yield from told or _message(text)


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
        return Activity(match["label"].strip(), int(match["step"]), int(match["steps"]), clock(left))
    return None


def _message(text: str) -> Iterator[Event]:  # noqa: PLR0912 - one branch for each kind of line
    # A part of the text decides first whether a pattern can match at all: that is ten times as fast.
    if text.startswith("Epoch ") and (match := _EPOCH.match(text)):
        yield EpochStarted(int(match["epoch"]), int(match["epochs"]))
    elif ("sav" in text or "Saved" in text) and (match := _CHECKPOINT.match(text) or _SAVED.match(text)):
        yield Saved(match["path"].strip(), file_kind(match["path"].strip()))
    elif text.startswith("Validation") and (match := _VALIDATION_LOSS.match(text)):
        yield from _metric("validation_loss", match["value"])
    elif "mAP " in text and (match := _MAP.match(text)):
        yield from _metric("mAP", match["value"])
    elif " AP " in text and (match := _AP.match(text)):
        yield from _metric(f"AP_{match['name']}", match["value"], match["name"])
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
    for index, part in enumerate(match["rest"].split(" - ")[1:]):
        if part.startswith("ETA: "):
            eta_s = clock(part.removeprefix("ETA: ")) if ":" in part[5:] else duration(part)
        elif (named := _BAR_VALUE.match(part)) and (value := number(named["value"])) is not None:
            values.append((named["name"], value))
        elif index == 0 and part[:1].isdigit():
            seconds = duration(part.partition(" ")[0])
    return Step(int(match["step"]), int(match["steps"]), eta_s, seconds, tuple(values))


def _metric(name: str, text: str, class_name: str = "") -> Iterator[Event]:
    value = number(text)
    if value is not None:
        yield Metric(name, value, class_name)
