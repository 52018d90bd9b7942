"""What the sidebar is told about jobs, without a server around it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from taomagic.errors import EnvironmentProblem, UsageProblem
from taomagic.launcher.job import Job
from taomagic.server import notebooks
from taomagic.server import shelf as shelf_module
from taomagic.server.log import read_piece
from taomagic.server.places import Root
from taomagic.server.shelf import JobShelf
from tests.server.conftest import Start


@pytest.fixture
def shelf(root: Path, start: Start) -> Iterator[JobShelf]:
    shelf = JobShelf(Root(root), dict(os.environ))
    yield shelf
    shelf.close()


def _listed(shelf: JobShelf) -> dict[str, dict[str, object]]:
    return {job["id"]: job for job in shelf.listing()["jobs"]}


def test_a_stubborn_job_is_killed_without_keeping_anyone_waiting(
    shelf: JobShelf, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Job.stop
    monkeypatch.setattr(Job, "stop", lambda job: stop(job, grace_s=0.5))
    job = start("stubborn")
    while "waiting" not in job.log_path.read_text():
        time.sleep(0.01)
    began = time.monotonic()
    assert shelf.stop(job.id)["stopping"]
    assert time.monotonic() - began < 0.4
    assert _listed(shelf)[job.id]["stopping"]
    assert job.ends_within(10)
    assert not _listed(shelf)[job.id]["stopping"]


def test_a_job_that_cannot_be_stopped_says_why(
    shelf: JobShelf, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start("polite")

    def refuse(_: Job) -> None:
        raise EnvironmentProblem("The Docker engine doesn't answer.")

    monkeypatch.setattr(Job, "stop", refuse)
    shelf.stop(job.id)
    deadline = time.monotonic() + 10
    while (listed := _listed(shelf)[job.id])["stopping"]:
        assert time.monotonic() < deadline
    assert (listed["state"], listed["stop_problem"]) == ("running", "The Docker engine doesn't answer.")


def test_a_long_log_keeps_no_answer_waiting(
    shelf: JobShelf, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start("train")
    job.wait(20)
    snapshot = Job.snapshot
    monkeypatch.setattr(shelf_module, "PATIENCE_S", 0.05)
    monkeypatch.setattr(Job, "snapshot", lambda self: (time.sleep(1.0), snapshot(self))[1])
    began = time.monotonic()
    first = shelf.listing()
    assert time.monotonic() - began < 0.8
    assert not first["complete"]
    assert {entry["id"]: entry["map"] for entry in first["jobs"]}[job.id] is None
    deadline = time.monotonic() + 60
    while _listed(shelf)[job.id]["map"] is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_the_latest_are_listed_and_the_others_counted(
    shelf: JobShelf, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf_module, "RECENT", 2)
    for _ in range(3):
        start("quiet:0").wait(20)
    running = start("polite")
    listing = shelf.listing()
    assert len(listing["jobs"]) == 3
    assert listing["jobs"][0]["id"] == running.id
    assert listing["older"] >= 1
    ages = [job["age"] for job in listing["jobs"]]
    assert ages == sorted(ages)


def test_a_copied_project_does_not_hide_the_job_of_the_original(
    shelf: JobShelf, root: Path, start: Start
) -> None:
    job = start("polite")
    copy = root / "a copy"  # comes before the original in the alphabet
    shutil.copytree(job.project, copy)
    other = start("quiet:0", project=copy)
    other.wait(20)
    listed = _listed(shelf)
    assert listed[job.id]["state"] == "running"
    assert listed[other.id]["project"] == "a copy"
    shutil.rmtree(copy)


def test_half_a_record_is_no_job(shelf: JobShelf, start: Start) -> None:
    job = start("quiet:0")
    job.wait(20)
    broken = job.directory.parent / "00000000aa"
    broken.mkdir()
    (broken / "job.json").write_text('{"id": "00000000aa"}')
    assert job.id in _listed(shelf)
    assert "00000000aa" not in _listed(shelf)
    shutil.rmtree(broken)


def test_a_character_that_is_not_written_yet_waits_for_its_rest(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    text = "训练".encode()
    log.write_bytes(text[:4])
    piece = read_piece(log, 0)
    assert (piece.text, piece.end, piece.size) == ("训", 3, 4)
    assert read_piece(log, 0, whole=True).text == "训\ufffd"
    log.write_bytes(text)
    assert read_piece(log, piece.end).text == "练"


def test_there_may_be_no_log_yet_or_a_shorter_one(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    assert read_piece(log).text == ""
    log.write_text("a\n")
    assert read_piece(log, 100) == read_piece(log, 2)
    os.mkfifo(tmp_path / "pipe")
    assert read_piece(tmp_path / "pipe").size == 0


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_new_notebook_never_takes_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:  # as on a memory card

        def refuse(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "tao.ipynb").write_text("mine")
    (tmp_path / "tao1.ipynb").symlink_to("nowhere")  # taken, although there is no file
    made = notebooks.create(Root(tmp_path), "empty", "")
    assert made.notebook.name == "tao2.ipynb"
    assert '"nbformat": 4' in made.notebook.read_text()
    assert (tmp_path / "tao.ipynb").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tao.ipynb", "tao1.ipynb", "tao2.ipynb"]


def test_specs_are_not_written_through_a_link_that_leads_out(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root/specs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageProblem, match="leads elsewhere"):
        notebooks.create(Root(tmp_path / "root"), "ssd", "")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_starting_server_loads_neither_torch_nor_a_container_client() -> None:
    script = (
        "import sys, types\n"
        "import jupyter_server.serverapp\n"
        "before = set(sys.modules)\n"
        "import taomagic.server.handlers\n"
        "new = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new & {'torch', 'docker', 'numpy', 'cv2', 'PIL', 'IPython', 'ipywidgets', 'anywidget'}))\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
