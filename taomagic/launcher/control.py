"""The control words: ``list``, ``stop``, ``attach``, ``logs``. What they find and do; showing is left to the caller."""

from __future__ import annotations

import argparse
import os
import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.launcher import records
from taomagic.launcher.catalog import nearest
from taomagic.launcher.containers.container import JOB_LABEL, PROJECT_LABEL
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job

#: Finished jobs that a list shows.
RECENT = 20
#: Seconds that an engine may take to say which containers there are.
ENGINE_S = 5.0


def all_jobs(context: Context, *, everywhere: bool = True) -> list[Job]:
    """Return the jobs of this project, and those of the other projects on record if ``everywhere``; newest first."""
    projects = [context.project_dir]
    if everywhere:
        projects += records.remembered_projects(context.environ)
        projects += [Path(labels.get(PROJECT_LABEL, "")) for labels in _container_labels(context)]
    found: dict[str, Job] = {}
    for project in dict.fromkeys(path.resolve() for path in projects if path.is_absolute()):
        for folder in records.job_folders(project):
            if not _is_mine(folder):
                continue
            try:
                found.setdefault(folder.name, Job(folder))
            except (EnvironmentProblem, ValueError, KeyError, TypeError):
                continue  # half a record, or a stranger's file: not a job
    return sorted(found.values(), key=lambda job: job.started, reverse=True)


def _is_mine(folder: Path) -> bool:
    """Tell whether a job is the caller's: on a shared engine, `tao stop --all` must not end other people's."""
    try:
        return not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()
    except OSError:
        return False


def _container_labels(context: Context, **query: object) -> list[Mapping[str, str]]:
    """Return the labels of the containers that are jobs; none where no engine answers."""
    from taomagic.launcher.containers.api import EngineProblem
    from taomagic.launcher.containers.engine import connect

    try:
        filters = {"label": [JOB_LABEL], **query}
        found = connect(context.environ).get("/containers/json", all=True, filters=filters, timeout=ENGINE_S)
    except (EngineProblem, EnvironmentProblem):
        return []  # an engine that is away must not keep anyone from the other jobs
    return [container.get("Labels") or {} for container in found]


def listed_jobs(context: Context) -> list[Job]:
    """Return what ``tao list`` shows: all running jobs, then the latest finished ones of this project."""
    running: list[Job] = []
    finished: list[Job] = []
    here = context.project_dir.resolve()
    for job in all_jobs(context):
        if not job.state.finished:
            running.append(job)
        # Where the record lies, not what it says: a project may have been moved since.
        elif job.directory.resolve().parents[2] == here and len(finished) < RECENT:
            finished.append(job)
    return running + finished


def find_job(job_id: str, context: Context) -> Job:
    """Return the job with this id, or with an id that begins so; the container's own id or name will do, too.

    Raises
    ------
    UsageProblem
        There is none, or there are several.
    """
    jobs = all_jobs(context)
    found = [job for job in jobs if job.id == job_id] or [
        job for job in jobs if job_id and job.id.startswith(job_id)
    ]
    if len(found) == 1:
        return found[0]
    if not found and job_id:
        labelled = [
            labels.get(JOB_LABEL, "")
            for query in ({"id": [job_id]}, {"name": [f"^/?{job_id}$"]})
            for labels in _container_labels(context, **query)
        ]
        found = [job for job in jobs if job.id in labelled]
        if len(found) == 1:
            return found[0]
    if found:
        raise UsageProblem(
            f'Several jobs begin with "{job_id}".', hint=f"{', '.join(job.id for job in found)}."
        )
    recent = ", ".join(f"{job.id} ({job.command.label}, {job.state})" for job in jobs[:5])
    raise UsageProblem(
        f'There is no job "{job_id}".',
        hint=f"{nearest(job_id, [job.id for job in jobs])}The latest ones: {recent}."
        if jobs
        else "There are no jobs yet.",
    )


def latest_job(args: Sequence[str], context: Context, *, word: str) -> Job:
    """Return the job that ``attach`` or ``logs`` means: the one that is named, else the latest of this project.

    Raises
    ------
    UsageProblem
        More than one is named, or there is none.
    """
    if len(args) > 1:
        raise UsageProblem(f"`tao {word}` takes one job.", hint=f"tao {word} ID")
    if args:
        return find_job(args[0], context)
    jobs = all_jobs(context, everywhere=False)
    running = [job for job in jobs if not job.state.finished]
    if not jobs:
        raise UsageProblem(
            "This project has no jobs yet.", hint=f"tao {word} ID shows a job of another project."
        )
    return (running or jobs)[0]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageProblem(message, where=self.prog, hint="tao stop ID…, or tao stop --all")


def stop_jobs(args: Sequence[str], context: Context, *, grace_s: float = 10.0) -> list[Job]:
    """Carry out ``tao stop``: ``--container_id ID…``, ``--all``, or the ids alone.

    Parameters
    ----------
    args
        The words behind ``stop``.
    context
        Where we are.
    grace_s
        Seconds that each command gets to end by itself.

    Returns
    -------
    list of Job
        Those that were running and have been stopped.

    Raises
    ------
    UsageProblem
        Nothing is named, or there is no such job.
    """
    parser = _Parser(prog="tao stop", add_help=False)
    parser.add_argument("ids", nargs="*")
    parser.add_argument("--container_id", "--container-id", nargs="+", default=[])
    parser.add_argument("--all", action="store_true")
    parsed = parser.parse_args(list(args))
    named = [*parsed.ids, *parsed.container_id]
    if bool(named) == parsed.all:
        raise UsageProblem(
            "What shall be stopped?", hint="tao stop ID…, or tao stop --all; `tao list` shows the ids."
        )
    jobs = [find_job(job_id, context) for job_id in named] if named else all_jobs(context)
    running = [job for job in jobs if not job.state.finished]
    for job in running:
        job.request_stop()
    for job in running:
        if not job.ends_within(grace_s):
            job.kill()
    return running


def table(jobs: Iterable[Job]) -> str:
    """Return the jobs as NVIDIA's launcher lists containers, with some columns more."""
    header = ("container_id", "container_status", "command", "epoch", "eta", "age", "where", "project")
    rows: list[tuple[str, ...]] = []
    for job in jobs:
        # A long command continues below itself, as with NVIDIA's launcher.
        first, *more = textwrap.wrap(job.shown, 100) or [""]
        rows.append((job.id, str(job.state), first, *_how_far(job), job.where, str(job.project)))
        rows += [("", "", line, *[""] * 5) for line in more]
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    rule = "  ".join("=" * width for width in widths)

    def line(row: Sequence[str]) -> str:
        return "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()

    return "\n".join([rule, line(header), rule, *map(line, rows), rule])


def _how_far(job: Job) -> tuple[str, str, str]:
    """Return epoch, time left and age. The log of an ended job isn't read: there may be twenty of them."""
    age = span(time.time() - job.started.timestamp())
    if job.state.finished:
        return "", "", age
    now = job.glance()
    epoch = f"{now.epoch}/{now.epochs}" if now.epoch and now.epochs else ""
    return epoch, "" if now.eta_s is None else span(now.eta_s), age


def span(seconds: float) -> str:
    """Return a time in its two largest units: ``45s``, ``3m10s``, ``2h05m``, ``4d03h``."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02d}h"
