from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.launcher import control, records
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job, JobState
from taomagic.project.mounts import MountMap
from taomagic.project.paths import CONTAINER_ROOT

Start = Callable[..., Job]


def test_table_is_nvidias_with_some_columns_more(start: Start, context: Context) -> None:
    job = start("quiet:0", "-e", "x" * 120, key="SECRET12")
    job.wait(10)
    lines = control.table([job]).splitlines()
    assert lines[0] == lines[2] == lines[-1]
    assert lines[1].split() == [
        "container_id",
        "container_status",
        "command",
        "epoch",
        "eta",
        "age",
        "where",
        "project",
    ]
    assert lines[3].startswith(f"{job.id}    succeeded")
    assert "SECRET12" not in "\n".join(lines)
    assert len(lines) > 5


def test_ages_are_told_in_their_two_largest_units() -> None:
    told = [control.span(seconds) for seconds in (-1, 45.9, 190, 7500, 3 * 86_400 + 7200)]
    assert told == ["0s", "45s", "3m10s", "2h05m", "3d02h"]


def test_empty_table_has_a_header_only() -> None:
    assert len(control.table([]).splitlines()) == 4


def test_stop_all_stops_every_running_job(start: Start, context: Context) -> None:
    jobs = [start("polite"), start("polite")]
    for job in jobs:
        while "waiting" not in job.log_path.read_text():
            pass
    assert {job.id for job in control.stop_jobs(["--all"], context)} == {job.id for job in jobs}
    assert {job.state for job in jobs} == {JobState.STOPPED}


@pytest.mark.parametrize("words", [[], ["--all", "x"], ["--wrong"]])
def test_stop_needs_exactly_one_kind_of_name(words: list[str], context: Context) -> None:
    with pytest.raises(UsageProblem):
        control.stop_jobs(words, context)


def test_unknown_job_lists_the_latest(start: Start, context: Context) -> None:
    with pytest.raises(UsageProblem, match="no job") as caught:
        control.find_job("zz", context)
    assert "no jobs yet" in caught.value.hint
    job = start("quiet:0")
    with pytest.raises(UsageProblem) as caught:
        control.find_job("zz", context)
    assert job.id in caught.value.hint
    with pytest.raises(UsageProblem):
        control.find_job("", context)


def test_latest_job_prefers_a_running_one(start: Start, context: Context) -> None:
    with pytest.raises(UsageProblem, match="no jobs yet"):
        control.latest_job([], context, word="attach")
    running = start("polite")
    start("quiet:0").wait(10)
    assert control.latest_job([], context, word="attach").id == running.id
    assert control.latest_job([running.id[:7]], context, word="logs").id == running.id
    with pytest.raises(UsageProblem):
        control.latest_job(["a", "b"], context, word="logs")


def test_entry_of_a_deleted_project_is_forgotten(context: Context, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    records.remember_project(gone, context.environ)
    assert records.remembered_projects(context.environ) == []


def test_context_takes_the_map_at_home_and_the_project_it_mounts(project: Path) -> None:
    home = project.parent
    MountMap(((str(project), CONTAINER_ROOT),)).write(home / ".tao_mounts.json")
    inside = project / "deep"
    inside.mkdir()
    context = Context.current({"HOME": str(home)}, inside)
    assert context.project_dir == project
    assert context.host(f"{CONTAINER_ROOT}/x") == project / "x"
    assert context.host("x") == inside / "x"
    assert Context.current({"HOME": "/nowhere"}, inside).project_dir == inside


def test_project_of_the_environment_counts_with_its_map(project: Path) -> None:
    MountMap(((str(project), CONTAINER_ROOT),)).write(project / ".tao_mounts.json")
    environ = {
        "HOME": "/h",
        "LOCAL_PROJECT_DIR": str(project),
        "LAUNCHER_MOUNTS": str(project / ".tao_mounts.json"),
    }
    assert Context.current(environ, Path("/")).project_dir == project


def test_broken_map_keeps_nobody_from_stopping_a_job(project: Path) -> None:
    (project / "broken.json").write_text("{")
    environ = {"HOME": "/h", "LAUNCHER_MOUNTS": str(project / "broken.json")}
    assert Context.current(environ, project, need_mounts=False).project_dir == project
    with pytest.raises(EnvironmentProblem, match="isn't valid JSON"):
        Context.current(environ, project)
