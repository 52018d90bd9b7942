"""A run in words: the line of an epoch, the line of a state, and the summary at the end. All text, no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from taomagic.launcher.progress import Artefact, Snapshot
from taomagic.launcher.states import JobState
from taomagic.view.chart import best_point
from taomagic.view.fold import fold, shape
from taomagic.view.format import (
    STATE_SIGN,
    clean,
    display_width,
    duration,
    number,
    pad,
    short_name,
    without_prefix,
)
from taomagic.view.texts import tr

#: The most epochs listed in a saved notebook; of more, the first ones and the last ones are.
MAX_EPOCH_LINES = 400
#: The most values of one kind listed at the end.
MAX_ITEMS = 60

_WATCHED = ("loss", "lr", "validation_loss", "mAP")


def epoch_line(row: Mapping[str, Any], epochs: int | None, *extra: str) -> str:
    """Return one epoch on one line.

    Parameters
    ----------
    row
        An entry of :attr:`Snapshot.history`: ``epoch`` and what was measured.
    epochs
        How many epochs there are.
    extra
        More to say at the end: the ETA, a saved file.

    Examples
    --------
    >>> epoch_line({"epoch": 3, "loss": 4.95, "mAP": 0.25}, 80, "2 min 05 s left")
    'Epoch  3/80  loss 4.9500  mAP 0.2500  2 min 05 s left'
    """
    total = str(epochs) if epochs else "?"
    words = [f"Epoch {row['epoch']:>{len(total)}}/{total}"]
    # A NaN loss is news and is shown; a NaN metric only says that this epoch was not evaluated.
    words += [
        f"{tr(short_name(name))} {number(row[name], name)}"
        for name in _WATCHED
        if name in row and (name == "loss" or row[name] == row[name])
    ]
    return "  ".join([*words, *(tr(word) for word in extra if word)])


def epoch_lines(snapshot: Snapshot) -> list[str]:
    """Return one line per finished epoch, the middle of a very long training left out."""
    lines = [epoch_line(row, snapshot.epochs) for row in snapshot.history]
    if len(lines) > MAX_EPOCH_LINES:
        first = MAX_EPOCH_LINES // 4
        hidden = len(lines) - MAX_EPOCH_LINES
        lines[first : first + hidden] = [tr(f"… {hidden} epochs left out")]
    return lines


def progress_words(snapshot: Snapshot) -> str:
    """Return how far a job is: ``37% · epoch 3 of 8 · step 4 of 25 · 2 min 05 s left``, empty if nothing is known."""
    words: list[str] = []
    running = not snapshot.state.finished
    if running and snapshot.fraction is not None:
        words.append(f"{snapshot.fraction:.0%}")
    if snapshot.epochs:
        words.append(f"epoch {snapshot.epoch or 0} of {snapshot.epochs}")
    if running and snapshot.activity:
        words.append(clean(tr(clean(snapshot.activity)), width=60).rstrip(".。"))
    if running and snapshot.steps:
        words.append(f"{'' if snapshot.activity else 'step '}{snapshot.step} of {snapshot.steps}")
    if running and snapshot.eta_s is not None:
        words.append(f"{duration(snapshot.eta_s)} left")
    return tr(" · ".join(words))


def one_line(snapshot: Snapshot) -> str:
    """Return the state of a job on one line, true at the moment it is written."""
    said = [f"{STATE_SIGN[snapshot.state]} tao {snapshot.label}: {snapshot.state}"]
    progress = progress_words(snapshot)
    if progress:
        said.append(progress)
    said += [
        f"{tr(short_name(n))} {number(snapshot.metrics[n], n)}" for n in _WATCHED if n in snapshot.metrics
    ]
    return tr(" · ".join([*said, duration(snapshot.elapsed_s), f"job {snapshot.job_id}"]))


def watched_names(snapshot: Snapshot) -> list[str]:
    """Return the names of the numbers a person watches, most important first."""
    order = ("mAP", "loss", "validation_loss", "lr")
    known = {**snapshot.series, **snapshot.metrics}
    others = [name for name in snapshot.metrics if name not in order and not name.startswith("AP_")]
    return [name for name in order if name in known] + others


def latest_and_best(name: str, snapshot: Snapshot) -> tuple[str, str]:
    """Return the last value of a number, and, where another epoch had a better one, that one with its epoch."""
    points = snapshot.series.get(name, [])
    last = snapshot.metrics.get(name, points[-1][1] if points else float("nan"))
    best = best_point(name, points)
    if best is None or len(points) < 2 or short_name(name) == "lr":
        return number(last, name), ""
    if best.y == last:
        return number(last, name), tr("the best" if snapshot.state.finished else "the best so far")
    return number(last, name), tr(f"best {number(best.y, name)} in epoch {best.epoch}")


def notes(snapshot: Snapshot) -> list[str]:
    """Return the sentences worth showing: warnings, and an estimate only as long as it is one."""
    said = [
        note for note in snapshot.notes if not (snapshot.state.finished and note.startswith("Estimated time"))
    ]
    return [
        clean(tr(note), width=300) for note in (*said[-3:], *(f"! {each}" for each in snapshot.warnings[-5:]))
    ]


def grouped(artefacts: Sequence[Artefact]) -> list[tuple[Artefact, int]]:
    """Return the last file of each kind of name, and how many there are of it.

    A training writes a checkpoint per epoch: only the number in the name differs, and the last one is what counts.
    """
    groups: dict[str, tuple[Artefact, int]] = {}
    for artefact in artefacts:
        key = shape(artefact.container)
        _, count = groups.pop(key, (artefact, 0))
        groups[key] = (artefact, count + 1)
    return list(groups.values())


def kind_of(artefact: Artefact) -> str:
    """Return what kind of file it is: its suffix; without one it is a folder."""
    return artefact.kind or "folder"


def closing_lines(snapshot: Snapshot, *, explain: bool = True) -> list[str]:
    """Return the summary at the end: state, duration, metrics, files, and, if wanted, what went wrong."""
    verb = {JobState.STOPPED: "was stopped", JobState.LOST: "was lost"}.get(
        snapshot.state, str(snapshot.state)
    )
    time = "after" if snapshot.state is not JobState.SUCCEEDED else "in"
    lines = [
        tr(
            f"{STATE_SIGN[snapshot.state]} tao {snapshot.label} {verb} {time} {duration(snapshot.elapsed_s)}"
            f" (job {snapshot.job_id})"
        )
    ]
    names = [*watched_names(snapshot), *(name for name in snapshot.metrics if name.startswith("AP_"))][
        :MAX_ITEMS
    ]
    rows = [(clean(tr(short_name(name)), width=40), *latest_and_best(name, snapshot)) for name in names]
    width = max((display_width(name) for name, _, _ in rows), default=0)
    lines += [f"  {pad(name, width)}  {value:>9}  {note}".rstrip() for name, value, note in rows]
    files = grouped(snapshot.artefacts)[-MAX_ITEMS:]
    lines += [tr("  Files written:")] if files else []
    for artefact, count in files:
        host, container = clean(str(artefact.host), width=500), clean(artefact.container, width=500)
        earlier = tr(f"   and {count - 1} before it") if count > 1 else ""
        lines.append(f"    {host}{earlier}")
        lines += [tr(f"      in the container {container}")] if container != host else []
    return lines + problem_lines(snapshot) if explain else lines


def problem_lines(snapshot: Snapshot) -> list[str]:
    """Return cause, hint and log of a job that did not succeed; nothing for one that did."""
    if snapshot.state not in (JobState.FAILED, JobState.LOST):
        return []
    cause = snapshot.cause or (snapshot.errors[-1] if snapshot.errors else "")
    lines = [f"  Cause: {clean(cause, width=1000)}"] if cause else []
    lines += [f"  Hint: {clean(hint, width=1000)}" for hint in snapshot.hints[:1]]
    if snapshot.exit_code is not None:
        lines.append(f"  Exit code: {snapshot.exit_code}")
    lines += [f"  Full log: {snapshot.log_path}"] if snapshot.log_path else []
    return [tr(line) for line in lines]


def run_text(snapshot: Snapshot) -> str:
    """Return a whole run as text for a saved notebook: the command, one line per epoch, the summary."""
    body = [
        clean(snapshot.command, width=2000),
        *notes(snapshot),
        *epoch_lines(snapshot),
        *closing_lines(snapshot),
    ]
    return "\n".join(body)


def folded_tail(lines: Iterable[str], count: int, width: int) -> list[str]:
    """Return the last lines of a log, repeated ones collapsed to ``×N``, each at most ``width`` characters."""
    tail = []
    for folded in list(fold(lines))[-count:]:
        times = f"  ×{folded.count}" if folded.count > 1 else ""
        tail.append(clean(without_prefix(folded.text.rstrip()), width=width) + times)
    while tail and not tail[0]:
        tail.pop(0)
    return tail
