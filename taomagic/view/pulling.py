"""The pull of an image as a person sees it: a live line with the layers under way, a redrawn output, or plain lines."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from taomagic.launcher.containers.images import gigabytes
from taomagic.launcher.containers.pulling import Layer, PullProgress
from taomagic.launcher.states import JobState
from taomagic.view import markup
from taomagic.view.ask import ask_secret
from taomagic.view.format import bar, clean, display_width, duration
from taomagic.view.live import in_notebook
from taomagic.view.markup import Markup, tag
from taomagic.view.texts import tr

if TYPE_CHECKING:
    from taomagic.launcher.launch import PullView

#: Seconds between two drawings in a terminal or on a page.
REDRAW_S = 0.2
#: Seconds between two lines where lines can't be redrawn.
LINE_S = 5.0
#: Layers shown at once: the engine downloads three and unpacks one.
LAYERS = 6
_BAR_WIDTH = 18
_COLOURS = {"done": JobState.SUCCEEDED, "failed": JobState.FAILED, "stopped": JobState.STOPPED}


def choose_pull_view(shell: Any = None, stream: TextIO | None = None) -> PullView:
    """Return the view that suits where we run.

    Parameters
    ----------
    shell
        The InteractiveShell, in a notebook or IPython.
    stream
        Where text goes; standard output by default.
    """
    if in_notebook(shell):
        return LivePullView()
    return TextPullView(stream or sys.stdout)


def summary(progress: PullProgress) -> str:
    """Return a pull in one line."""
    image, done = clean(progress.image), gigabytes(progress.done_bytes)
    if progress.state == "done":
        rest = f"{done} in {duration(progress.elapsed_s)}" if progress.done_bytes else "all layers were here"
        return f"Pulled {image}: {rest}"
    if progress.state == "failed":
        return f"The pull of {image} has failed after {done}."
    if progress.state == "stopped":
        return f"The pull of {image} was stopped after {done}."
    if progress.state == "asking":
        return f"Pulling {image}: asking the registry"
    return f"Pulling {image}: {' · '.join(_facts(progress))}"


def _facts(progress: PullProgress) -> list[str]:
    done, total = gigabytes(progress.done_bytes), gigabytes(progress.total_bytes)
    count = f"{progress.layers_done} of {len(progress.layers)} layers"
    if progress.complete:
        facts = [f"{done} of {total}", count]
        if progress.done_bytes >= progress.total_bytes:
            return [*facts, "unpacking"]
    else:
        facts = [f"{done} of at least {total}", count]
    if progress.rate is not None:
        facts.append(f"{gigabytes(progress.rate)}/s")
    if progress.eta_s is not None:
        facts.append(f"{duration(progress.eta_s)} left")
    if "Retrying" in progress.message:
        facts.append(f"a download broke off: {clean(progress.message)}")
    return facts


def _words(progress: PullProgress) -> str:
    """Return a pull under way in one short line, below the image's name."""
    return "Asking the registry" if progress.state == "asking" else " · ".join(_facts(progress))


def layer_words(layer: Layer) -> str:
    """Return what happens to a layer."""
    if layer.state == "downloading":
        whole = f" of {gigabytes(layer.total)}" if layer.total is not None else ""
        return f"downloading {gigabytes(layer.done)}{whole}"
    if layer.state == "unpacking":
        part = f" {layer.unpacked:.0%}" if layer.unpacked is not None else ""
        return f"unpacking{part}"
    return {"waiting": "waiting", "downloaded": "downloaded", "done": "ready", "here": "was here"}[
        layer.state
    ]


def _layer_fraction(layer: Layer) -> float | None:
    if layer.state == "unpacking":
        return layer.unpacked
    return layer.done / layer.total if layer.total else None


def _active(progress: PullProgress) -> list[Layer]:
    return [layer for layer in progress.layers if layer.state in {"downloading", "unpacking"}][:LAYERS]


def _introduction(progress: PullProgress) -> list[str]:
    """Return what is said once, before the first byte."""
    size = f" It is a download of {gigabytes(progress.total_bytes)}." if progress.complete else ""
    return [
        f"The image {clean(progress.image)} isn't here yet and is pulled now, once.{size} It may be interrupted.",
        *(f"! {note}" for note in progress.notes),
    ]


class TextPullView:
    """Writes a pull to a terminal or a file.

    Parameters
    ----------
    stream
        Where to write.
    terminal
        Whether lines can be redrawn; asked from the stream if not given.
    clock
        Monotonic seconds.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        terminal: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._terminal = bool(getattr(stream, "isatty", bool)()) if terminal is None else terminal
        self._clock = clock
        self._next = float("-inf")
        self._introduced = False
        self._drawn = 0  # lines that the next drawing replaces

    def __call__(self, progress: PullProgress) -> None:
        """Write or redraw, unless that has just been done."""
        if progress.state == "asking" and not self._terminal:
            return
        if not self._introduced and progress.state == "pulling":
            self._introduced = True
            self._write(_introduction(progress))
            self._next = float("-inf")
        now = self._clock()
        if progress.finished:
            # What has failed is told by the exception that follows.
            self._write([summary(progress)] if progress.state == "done" else [])
        elif now >= self._next:
            self._next = now + (REDRAW_S if self._terminal else LINE_S)
            self._draw(progress) if self._terminal else self._write([_words(progress)])
        self._stream.flush()

    def ask(self, prompt: str) -> str:
        """Ask for a secret below what has been written."""
        self._write([])
        return ask_secret(prompt)

    def _write(self, lines: Sequence[str]) -> None:
        self._stream.write(self._clear() + "".join(f"{tr(line)}\n" for line in lines))
        self._drawn = 0
        self._stream.flush()

    def _draw(self, progress: PullProgress) -> None:
        size = shutil.get_terminal_size()
        drawn = "" if progress.fraction is None else bar(progress.fraction, _BAR_WIDTH) + " "
        lines = [drawn + tr(_words(progress))]
        if size.lines > LAYERS + 3:  # more than fits can't be redrawn
            for layer in _active(progress):
                fraction = _layer_fraction(layer)
                part = bar(fraction, _BAR_WIDTH) if fraction is not None else " " * _BAR_WIDTH
                lines.append(f"{part} {clean(layer.id)} {tr(layer_words(layer))}")
        lines = [_fitting(line, size.columns - 1) for line in lines]
        self._stream.write(self._clear() + "\n".join(lines))
        self._drawn = len(lines)

    def _clear(self) -> str:
        if not self._drawn:
            return ""
        up = f"\x1b[{self._drawn - 1}A" if self._drawn > 1 else ""
        return f"\r{up}\x1b[J"


class LivePullView:
    """Shows a pull in one output of a notebook's cell, which is redrawn.

    Parameters
    ----------
    clock
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = float("-inf")
        self._handle: Any = None

    def __call__(self, progress: PullProgress) -> None:
        """Redraw, unless the page has just been redrawn."""
        now = self._clock()
        if now < self._next and not progress.finished:
            return
        self._next = now + REDRAW_S
        bundle = {"text/html": str(pull_html(progress)), "text/plain": tr(summary(progress))}
        if self._handle is None:
            from IPython.display import display

            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)

    def ask(self, prompt: str) -> str:
        """Ask for a secret in the page's field for passwords."""
        return ask_secret(prompt)


def pull_html(progress: PullProgress) -> Markup:
    """Return a pull as a card; at its end as one line in a card."""
    state = _COLOURS.get(progress.state, JobState.RUNNING)
    if progress.finished:
        # The saved notebook keeps one line.
        style = f"color:{markup.MUTED};overflow-wrap:anywhere"
        return markup.card(tag("div", summary(progress), style=style), label="Image")
    rows = [(markup.code(layer.id), tr(layer_words(layer))) for layer in _active(progress)]
    notes = [f"! {note}" for note in progress.notes]
    parts = [
        tag("div", tag("strong", "Pulling the image"), markup.BLANK, markup.code(progress.image)),
        markup.progress_bar(
            progress.fraction,
            _words(progress),
            markup.STATE_COLOUR[state],
        ),
        *(tag("div", note, style="font-weight:600") for note in notes),
        markup.table(("layer", ""), rows, tight=(0, 1)) if rows else Markup(""),
        tag(
            "div",
            "This happens once for each image. It may be interrupted (■).",
            style=f"color:{markup.MUTED};margin-top:6px",
        ),
    ]
    return markup.card(*parts, label="Image")


def _fitting(text: str, columns: int) -> str:
    while display_width(text) > max(columns, 1):
        text = text[:-1]
    return text
