"""How a job ended, and what it left: what a cell returns, and the exception that it raises."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taomagic.errors import StageFailed, StageInterrupted
from taomagic.launcher import processes
from taomagic.launcher.progress import Artefact
from taomagic.launcher.states import JobState

_REASONS = {
    JobState.SUCCEEDED: "",
    JobState.STOPPED: "stopped before its end.",
    JobState.LOST: "the process that watched over this command is gone, and left no result.",
}


@dataclass
class Result:
    """How a job ended, and what it left.

    Parameters
    ----------
    job_id, command, state, exit_code, log_path
        Of the job; the key in ``command`` is masked, ``exit_code`` is negative for a signal.
    metrics, per_class_ap
        The last value of each.
    history
        One dictionary per epoch: ``epoch``, ``loss``, ``lr``, ``validation_loss``, ``mAP``, ``AP_<class>`` as
        far as printed.
    artefacts
        The files written, in order.
    seconds
        From start to end.
    """

    job_id: str
    command: str
    label: str
    state: JobState
    exit_code: int | None
    seconds: float
    log_path: Path
    metrics: dict[str, float] = field(default_factory=dict)
    per_class_ap: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    artefacts: list[Artefact] = field(default_factory=list)
    cause: str = ""
    hints: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()

    def __repr__(self) -> str:
        measured = "".join(f", {name}={value:g}" for name, value in self.metrics.items() if name == "mAP")
        return f"<Result {self.label}: {self.state}{measured}, {self.seconds:.1f} s, job {self.job_id}>"

    @property
    def ok(self) -> bool:
        """Whether the command succeeded."""
        return self.state is JobState.SUCCEEDED

    def raise_for_state(self) -> None:
        """Raise what the state means; do nothing after a success.

        Raises
        ------
        StageInterrupted
            The job was stopped.
        StageFailed
            The job failed or was lost.
        """
        if self.ok:
            return
        kind = StageInterrupted if self.state is JobState.STOPPED else StageFailed
        raise kind(
            self.reason,
            exit_code=self.exit_code,
            log_path=self.log_path,
            tail=self.tail,
            hint=self.hints[0] if self.hints else "",
            where=f"tao {self.label}",
        )

    @property
    def reason(self) -> str:
        """Why it didn't succeed, in one sentence; empty after a success."""
        if self.state in _REASONS:
            return _REASONS[self.state]
        if self.cause:
            return self.cause
        if self.exit_code is not None and self.exit_code < 0:
            return f"ended by {processes.signal_name(-self.exit_code)}."
        if self.exit_code == 0:
            return "it reported `Execution status: FAIL`, though its exit code is 0."
        return f"ended with exit code {self.exit_code}."
