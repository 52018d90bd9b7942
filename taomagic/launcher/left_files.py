"""The files that a finished command has left, found by its flags: NVIDIA's containers print few of their names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from taomagic.launcher.events import Saved
from taomagic.launcher.log_numbers import file_kind

if TYPE_CHECKING:
    from taomagic.launcher.job import Job

#: Sub-task -> the flags that name a file to write.
_OUTPUTS = {
    "prune": ("-o", "--output_file"),
    "export": ("-o", "--output_file"),
    "calibration_tensorfile": ("-o", "--output_path"),
    "gen_trt_engine": ("--engine_file",),
}
#: Where a training of DetectNet_v2 leaves models, below its results folder; the final one last.
_MODELS = (
    ("", re.compile(r"model\.(?:epoch|step)-\d+\.(?:tlt|hdf5)$")),
    ("weights", re.compile(r".+\.(?:tlt|hdf5)$")),
)
#: Seconds by which the clock of a file server may differ from ours.
_CLOCK_SKEW_S = 120.0


def left_files(job: Job) -> list[Saved]:
    """Return the files that a job has written, as far as its flags tell their places; the most important one last.

    Parameters
    ----------
    job
        One that has ended. Of files that a later command has written anew, nothing is said.
    """
    command = job.command
    if command.task != "detectnet_v2":
        return []  # the others of ours name each file
    began = job.started.timestamp() - _CLOCK_SKEW_S
    ended = job.started.timestamp() + job.seconds + _CLOCK_SKEW_S
    paths, base = job.paths, Path(str(job.record.get("cwd") or job.project))
    found = []
    for shown in _named(job):
        try:
            written = os.stat(base / paths.to_host(shown)).st_mtime  # noqa: PTH116
        except OSError:
            continue
        if began <= written <= ended:
            found.append(Saved(shown, file_kind(shown)))
    return found


def _named(job: Job) -> Iterator[str]:
    command = job.command
    if command.subtask in _OUTPUTS:
        if path := command.option(*_OUTPUTS[command.subtask]):
            yield path
        return
    results = command.option("-r", "--results_dir") if command.subtask == "train" else None
    if not results:
        return
    base = Path(str(job.record.get("cwd") or job.project))
    for folder, pattern in _MODELS:
        shown = f"{results.rstrip('/')}/{folder}".rstrip("/")
        try:
            names = os.listdir(base / job.paths.to_host(shown))  # noqa: PTH208
        except OSError:
            continue
        for name in sorted(filter(pattern.match, names), key=_by_numbers):
            yield f"{shown}/{name}"


def _by_numbers(name: str) -> list[tuple[int, str]]:
    """Return a key by which epoch 9 stands before epoch 10."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d{1,15})", name)]
