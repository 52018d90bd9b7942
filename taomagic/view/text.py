"""A run as text: one line per epoch, messages and errors in between, a live bar where there is a terminal."""

from __future__ import annotations

import codecs
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TextIO

from taomagic.launcher import events
from taomagic.launcher.job import Job, Update
from taomagic.launcher.progress import Snapshot
from taomagic.launcher.result import Result
from taomagic.view import summary
from taomagic.view.fold import Folder
from taomagic.view.format import bar, clean, display_width, duration, number, without_prefix
from taomagic.view.texts import tr
from taomagic.view.waiting import watch

#: Seconds between two drawings of the live bar.
REDRAW_S = 0.2
_BAR_WIDTH = 24
_CLEAR = "\r\x1b[K"
# Lines that only frame what the epoch's line and the closing summary say.
_FRAMES = (
    "Start to calculate AP for each class",
    "Execution status: ",
    "Saving checkpoints for step-",
    "Evaluation complete.",
    "class name ",
)


def follow(job: Job, stream: TextIO, *, raw: bool = False, stop_on_interrupt: bool = True) -> Result:
    """Show a job as text until it has ended.

    Parameters
    ----------
    job
        A running or an ended job.
    stream
        Where to write. A terminal gets a live bar, anything else only whole lines.
    raw
        Print the log as it is, without folding.
    stop_on_interrupt
        See :func:`taomagic.view.waiting.watch`.

    Returns
    -------
    Result
        How the job ended; ``raise_for_state`` turns a failure into an exception.
    """
    view = RawView(job, stream) if raw else TextView(stream)
    return watch(job, view, stop_on_interrupt=stop_on_interrupt)


class TextView:
    """Writes a job to a terminal or a file.

    Parameters
    ----------
    stream
        Where to write.
    terminal
        Whether lines can be redrawn; asked from the stream if not given.
    explain
        Whether the closing summary says what went wrong; not where an exception does so right after it.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        terminal: bool | None = None,
        explain: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._terminal = bool(getattr(stream, "isatty", bool)()) if terminal is None else terminal
        self._explain = explain
        self._clock = clock
        self._folder = Folder()
        self._epoch: int | None = None
        self._saved: list[str] = []
        self._drawn = False
        self._next_draw = float("-inf")
        self._begun = False

    def show(self, update: Update) -> None:
        """Write the new lines, the finished epochs and the bar."""
        lines = [] if self._begun else [clean(update.snapshot.command)]
        self._begun = True
        for event, meaning in _with_meaning(update.events):
            lines += self._lines_of(event, meaning, update.snapshot)
        self._write(lines)
        if self._terminal and not update.snapshot.state.finished:
            self._draw(update.snapshot)

    def notice(self, text: str) -> None:
        """Write a sentence of ours."""
        self._write([tr(text)])

    def close(self, snapshot: Snapshot) -> None:
        """Write the last epoch and the closing summary."""
        closing = summary.closing_lines(snapshot, explain=self._explain)
        self._write([*self._folder.flush(), *self._end_epoch(snapshot), *closing])
        self._stream.flush()

    def _lines_of(
        self, line: events.Line, meaning: Sequence[events.Event], snapshot: Snapshot
    ) -> Iterable[str]:
        ended = False
        for event in meaning:
            match event:
                case events.EpochStarted(epoch=epoch):
                    done = self._end_epoch(snapshot)
                    self._epoch = epoch
                    return [*self._folder.flush(), *done]
                case events.EpochEnded():
                    ended = True  # its line is written when nothing more is measured in it
                case events.Saved(path=path) if self._epoch is not None:
                    self._saved.append(path.rpartition("/")[2])
                    return []
                case (
                    events.Step()
                    | events.Activity()
                    | events.Metric()
                    | events.Saved()
                    | events.Finished()
                    | events.Noise()
                ):
                    return []
                case events.Problem(severity=severity, text=text):
                    sign = "✗" if severity == "error" else "!"
                    return self._folder.feed(f"{sign} {tr(text)}")
                case events.Hint(text=text):
                    return [*self._folder.flush(), tr(f"  Hint: {text}")]
        return (
            []
            if ended or line.transient or _is_frame(line.text)
            else self._folder.feed(without_prefix(line.text))
        )

    def _end_epoch(self, snapshot: Snapshot) -> list[str]:
        """Return the line of the epoch that ran, once nothing more is measured in it."""
        row = next((row for row in reversed(snapshot.history) if row["epoch"] == self._epoch), None)
        saved, self._saved, self._epoch = self._saved, [], None
        if row is None:
            return []
        left = "" if snapshot.eta_s is None else f"{duration(snapshot.eta_s)} left"
        kept = f"saved {', '.join(dict.fromkeys(saved))}" if saved else ""
        return [summary.epoch_line(row, snapshot.epochs, left, kept)]

    def _write(self, lines: Iterable[str]) -> None:
        text = "".join(f"{line}\n" for line in lines)
        if not text and not self._drawn:
            return
        if self._drawn and text:
            text, self._drawn, self._next_draw = _CLEAR + text, False, float("-inf")
        self._stream.write(text)

    def _draw(self, snapshot: Snapshot) -> None:
        now = self._clock()
        if now < self._next_draw:
            return
        self._next_draw, self._drawn = now + REDRAW_S, True
        words = (
            summary.progress_words(snapshot) or f"{tr(snapshot.state)}, {tr(duration(snapshot.elapsed_s))}"
        )
        measured = [f"loss {number(snapshot.metrics['loss'], 'loss')}"] if "loss" in snapshot.metrics else []
        said = " · ".join([words, *measured])
        drawn = "" if snapshot.fraction is None else bar(snapshot.fraction, _BAR_WIDTH) + " "
        self._stream.write(_CLEAR + _fitting(drawn + said, shutil.get_terminal_size().columns - 1))
        self._stream.flush()


class RawView:
    """Copies the log as it is, and adds the closing summary.

    Parameters
    ----------
    job
        Whose log to copy.
    stream
        Where to.
    explain
        See :class:`TextView`.
    """

    def __init__(self, job: Job, stream: TextIO, *, explain: bool = True) -> None:
        self._path = job.log_path
        self._explain = explain
        self._stream = stream
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def show(self, update: Update) -> None:  # noqa: ARG002 - the log itself is shown, not what was read from it
        """Copy what has been written since the last call."""
        self._copy()

    def notice(self, text: str) -> None:
        """Write a sentence of ours on a line of its own."""
        self._stream.write(f"\n{tr(text)}\n")

    def close(self, snapshot: Snapshot) -> None:
        """Copy the rest and write the closing summary."""
        self._copy()
        self._stream.write("\n".join(["", *summary.closing_lines(snapshot, explain=self._explain), ""]))
        self._stream.flush()

    def _copy(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as log:
            log.seek(self._offset)
            while block := log.read(1 << 16):
                self._offset += len(block)
                self._stream.write(self._decoder.decode(block))
        self._stream.flush()


def _with_meaning(
    new: Sequence[events.Event],
) -> Iterable[tuple[events.Line, list[events.Event]]]:
    """Group each line with the events that follow it: they are what it means."""
    line: events.Line | None = None
    meaning: list[events.Event] = []
    for event in new:
        if not isinstance(event, events.Line):
            meaning.append(event)
            continue
        if line is not None:
            yield line, meaning
        line, meaning = event, []
    if line is not None:
        yield line, meaning


def _is_frame(text: str) -> bool:
    text = without_prefix(text).lstrip("| ")
    return text.startswith(_FRAMES) or (len(text) > 3 and not text.strip("*=-+| "))


def _fitting(text: str, columns: int) -> str:
    """Return as much of the text as fits into one line of the terminal: a wrapped bar can't be redrawn."""
    while display_width(text) > max(columns, 1):
        text = text[:-1]
    return text
