"""Which run filled a results folder, how far it came, and whether the same command may go on from there.

A training can end at any moment: a closed laptop, ``kill -9``, a full disk. The record beside the weights says what was
trained (fingerprints of spec, data and starting weights) and the last epoch whose checkpoint is complete. The same
command resumes there; any other command starts afresh and first sets aside what a finished run left.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from taomagic.engine.storage.atomic import atomic_write

logger = logging.getLogger(__name__)

RECORD_NAME = "training_run.json"
#: Where the weights of a finished run wait until the new run has finished too.
SET_ASIDE_NAME = "previous_run"

RunState = Literal["running", "interrupted", "failed", "finished"]


@dataclass
class RunRecord:
    """The record of one training.

    Attributes
    ----------
    results_dir
        Folder on this machine.
    fingerprint
        What has to be the same for a resume: name of the thing -> hash.
    state
        ``running`` also describes a run that was killed; ``failed`` one that must not be resumed (its loss was NaN).
    epoch
        Last epoch (1-based) with a complete checkpoint; 0 before the first.
    checkpoint
        That checkpoint, relative to ``results_dir``.
    history
        One row of metrics for each epoch up to ``epoch``, or later ones that are trained again after a resume.
    quick
        Whether it was in quick mode, so that nothing is lost with its weights.
    """

    results_dir: Path
    fingerprint: dict[str, str]
    state: RunState = "running"
    epoch: int = 0
    checkpoint: str = ""
    history: list[dict[str, float]] = field(default_factory=list)
    quick: bool = False

    @classmethod
    def read(cls, results_dir: Path) -> RunRecord | None:
        """Return the record of the run that filled ``results_dir``, or ``None``."""
        try:
            data = json.loads((results_dir / RECORD_NAME).read_text(encoding="utf-8"))
            return cls(results_dir=results_dir, **data)
        except (OSError, ValueError, TypeError):
            return None

    def write(self) -> None:
        """Replace the record on disk in one step."""
        data = asdict(self)
        del data["results_dir"]
        with atomic_write(self.results_dir / RECORD_NAME) as file:
            file.write(json.dumps(data, indent=1).encode())

    def difference(self, fingerprint: Mapping[str, str]) -> list[str]:
        """Return the names of what is not as it was in this run."""
        keys = sorted({*fingerprint, *self.fingerprint})
        return [key for key in keys if fingerprint.get(key) != self.fingerprint.get(key)]


def find_resumable(results_dir: Path, fingerprint: Mapping[str, str]) -> RunRecord | None:
    """Return the record of an interrupted run of the same command, or ``None`` and the reason in the log."""
    record = RunRecord.read(results_dir)
    if record is None or record.state == "finished" or record.epoch == 0:
        return None
    if record.state == "failed":
        logger.info("The earlier run in this folder failed and can't be resumed; starting afresh.")
        return None
    different = record.difference(fingerprint)
    if different:
        logger.info(
            "An earlier run in this folder was interrupted after epoch %d, but its %s differed; starting afresh.",
            record.epoch,
            " and ".join(different),
        )
        return None
    return record


def set_aside(results_dir: Path, patterns: tuple[str, ...], *, keep: Collection[Path] = ()) -> None:
    """Make room for a new run without losing a finished one.

    Files of a finished (or unknown) run that match ``patterns`` move to ``previous_run/``, where they stay until the
    new run has finished. What an unfinished run left is removed if a finished one already waits there, and what a quick
    one left in any case. Killed in between, the next call moves the rest.

    Parameters
    ----------
    results_dir
        On this machine.
    patterns
        Which files, relative to it.
    keep
        Resolved paths of files that stay where they are, because the new run needs them.
    """
    found = (path for pattern in patterns for path in results_dir.glob(pattern) if path.is_file())
    files = sorted(path for path in found if path.resolve() not in keep)
    if not files:
        return
    record = RunRecord.read(results_dir)
    aside = results_dir / SET_ASIDE_NAME
    was_quick = record is not None and record.quick
    if was_quick or (record is not None and record.state != "finished" and aside.exists()):
        for path in files:
            path.unlink()
        if was_quick:
            logger.info("Files of an earlier run in quick mode, removed: %d.", len(files))
        return
    for path in files:
        target = aside / path.relative_to(results_dir)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    logger.info(
        "Files of an earlier run, kept in %s until this run has finished: %d.", SET_ASIDE_NAME, len(files)
    )


def drop_set_aside(results_dir: Path) -> None:
    """Remove what :func:`set_aside` kept; called when the new run has finished."""
    shutil.rmtree(results_dir / SET_ASIDE_NAME, ignore_errors=True)
