"""What is shown of a job when it has ended: the card that stays, with its pictures and the next commands."""

from __future__ import annotations

from dataclasses import dataclass

from taomagic.launcher.job import Job
from taomagic.launcher.progress import Snapshot
from taomagic.view import next_steps, static
from taomagic.view.draw_types import Drawing, Figures
from taomagic.view.texts import tr


@dataclass(frozen=True)
class Closing:
    """The end of a job.

    Parameters
    ----------
    bundle
        The card, by MIME type.
    drawings
        All pictures, also those that didn't fit on the card.
    steps
        What makes sense next, as ``(what it does, command)``.
    figures
        What was measured, side by side.
    """

    bundle: dict[str, str]
    drawings: tuple[Drawing, ...] = ()
    steps: tuple[tuple[str, str], ...] = ()
    figures: tuple[Figures, ...] = ()


def closing(job: Job, snapshot: Snapshot) -> Closing:
    """Return what is shown at the end; of a job that goes on without being watched, only how it stands.

    Parameters
    ----------
    job
        The job.
    snapshot
        The last one of it.
    """
    if not snapshot.state.finished:
        return Closing(static.bundle(snapshot))
    from taomagic.view.drawings import drawings_of
    from taomagic.view.figures import figures_of

    result = job.result(snapshot)
    drawings = tuple(drawings_of(job, result))
    figures = tuple(figures_of(job, result))
    steps = tuple((tr(title), command) for title, command in next_steps.after(job, snapshot))
    bundle = static.bundle(snapshot, drawings=drawings, steps=steps, figures=figures)
    return Closing(bundle, drawings, steps, figures)
