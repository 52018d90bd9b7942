"""Where a job can be between its start and its end."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """Where a job is. ``LOST``: its supervisor died without a result (power cut, ``kill -9``)."""

    STARTING = "starting"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"

    @property
    def finished(self) -> bool:
        """Whether nothing more will come."""
        return self not in {JobState.STARTING, JobState.RUNNING}
