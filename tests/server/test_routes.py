"""The routes of the server extension, asked over HTTP behind a base URL."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from taomagic.launcher.job import JobState
from tests.server.conftest import TOKEN, Server, Start, running_server

ROUTES = [
    ("GET", "taomagic/api/notebooks"),
    ("POST", "taomagic/api/notebooks"),
    ("GET", "taomagic/api/jobs"),
    ("GET", "taomagic/api/jobs/0123456789"),
    ("GET", "taomagic/api/jobs/0123456789/log"),
    ("POST", "taomagic/api/jobs/0123456789/stop"),
]


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("token", [None, "wrong"])
def test_nobody_is_answered_without_the_token(
    server: Server, method: str, path: str, token: str | None
) -> None:
    answer = server.ask(path, method, {} if method == "POST" else None, token=token)
    assert answer.status == 403
    assert "jobs" not in answer.body


def _login(server: Server) -> tuple[dict[str, str], str]:
    """Return the headers of a page that is logged in by its cookie, and its XSRF token."""
    cookies: dict[str, str] = {}
    for page in (
        "login",
        f"login?token={TOKEN}",
    ):  # the form brings the XSRF cookie, the token the one of the person
        answer = server.ask(page, token=None)
        lines = answer.headers.get_all("Set-Cookie") or []
        cookies |= dict(line.split(";")[0].split("=", 1) for line in lines)
    origin = f"http://127.0.0.1:{server.port}"
    return {
        "Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items()),
        "Origin": origin,
        "Referer": f"{origin}/user/lin/lab",
    }, cookies["_xsrf"]


def test_a_cookie_alone_can_read_but_not_change_anything(server: Server, start: Start) -> None:
    job = start("polite")
    headers, xsrf = _login(server)
    assert server.ask("taomagic/api/jobs", headers=headers, token=None).status == 200
    stop = f"taomagic/api/jobs/{job.id}/stop"
    assert server.ask(stop, "POST", headers=headers, token=None).status == 403
    assert server.ask(stop, "POST", headers={**headers, "X-XSRFToken": "wrong"}, token=None).status == 403
    wish = {"kind": "empty", "folder": "", "language": "en"}
    assert server.ask("taomagic/api/notebooks", "POST", wish, headers, token=None).status == 403
    assert not list(server.root.glob("tao*.ipynb"))
    time.sleep(0.3)
    assert job.state is JobState.RUNNING
    assert server.ask(stop, "POST", headers={**headers, "X-XSRFToken": xsrf}, token=None).status == 202
    assert job.ends_within(10)


def test_another_site_cannot_read(server: Server) -> None:
    headers, _ = _login(server)
    headers |= {"Origin": "http://evil.example", "Referer": "http://evil.example/"}
    assert server.ask("taomagic/api/jobs", headers=headers, token=None).status in {403, 404}


def test_an_authoriser_is_asked(root: Path, home: Path, start: Start) -> None:
    """As on a server that is shared: some people may look on only."""
    (home / "readers.py").write_text(
        "from jupyter_server.auth.authorizer import Authorizer\n"
        "class Readers(Authorizer):\n"
        "    def is_authorized(self, handler, user, action, resource):\n"
        "        return action == 'read' and resource != 'secret'\n"
    )
    job = start("polite")
    option = "--ServerApp.authorizer_class=readers.Readers"
    with running_server(root, home, option) as server:
        assert server.ask("taomagic/api/jobs").status == 200
        assert server.ask(f"taomagic/api/jobs/{job.id}/stop", "POST").status == 403
    assert job.state is JobState.RUNNING


def _listed(server: Server) -> dict[str, dict[str, object]]:
    for _ in range(50):
        body = server.ask("taomagic/api/jobs").body
        if body["complete"]:
            return {job["id"]: job for job in body["jobs"]}
        time.sleep(0.1)
    raise AssertionError("the logs were not read")


def test_a_running_job_is_listed_stopped_and_listed_as_stopped(server: Server, start: Start) -> None:
    job = start("polite", key="SECRET12")
    listed = _listed(server)[job.id]
    assert (listed["state"], listed["label"], listed["project"]) == ("running", "ssd train", "my project")
    assert "SECRET12" not in json.dumps(listed)
    assert "********" in str(listed["command"])
    answer = server.ask(f"taomagic/api/jobs/{job.id}/stop", "POST")
    assert (answer.status, answer.body["id"]) == (202, job.id)
    assert job.ends_within(10)
    assert _listed(server)[job.id]["state"] == "stopped"
    # Once more: nothing happens.
    assert server.ask(f"taomagic/api/jobs/{job.id}/stop", "POST").body["state"] == "stopped"


def test_a_finished_training_tells_its_figures(server: Server, start: Start) -> None:
    job = start("train")
    job.wait(20)
    listed = _listed(server)[job.id]
    assert (listed["state"], listed["epoch"], listed["epochs"], listed["fraction"]) == (
        "succeeded",
        3,
        3,
        1.0,
    )
    assert listed["map"] == pytest.approx(0.7)
    details = server.ask(f"taomagic/api/jobs/{job.id}").body
    assert sorted(details["metrics"]) == ["loss", "mAP", "validation_loss"]
    assert details["per_class_ap"] == {"car": pytest.approx(0.8)}
    assert details["exit_code"] == 0
    assert [file["name"] for file in details["artefacts"]] == [
        f"ssd_resnet18_epoch_00{epoch}.tlt" for epoch in (1, 2, 3)
    ]
    # They were never written, so there is nothing to open.
    assert {file["path"] for file in details["artefacts"]} == {None}


def test_a_failed_job_tells_the_cause_and_what_to_do(server: Server, start: Start) -> None:
    job = start("exit:3")
    job.wait(20)
    details = server.ask(f"taomagic/api/jobs/{job.id}").body
    assert (details["state"], details["exit_code"]) == ("failed", 3)
    assert details["problem"] == "the spec is wrong"
    assert "mend it" in details["hints"]


def test_a_chinese_page_is_told_in_chinese(server: Server) -> None:
    answer = server.ask("taomagic/api/jobs/0123456789?lang=zh")
    assert answer.status == 404
    assert "没有任务“0123456789”。它可能已被清理。" in str(answer.body)
    assert 'There is no job "0123456789".' in str(server.ask("taomagic/api/jobs/0123456789").body)


def test_a_log_is_read_page_by_page(server: Server, start: Start) -> None:
    job = start("count:3000:0")
    job.wait(20)
    path = f"taomagic/api/jobs/{job.id}/log"
    end = server.ask(f"{path}?limit=100").body
    assert end["finished"]
    assert end["end"] == end["size"] == job.log_path.stat().st_size
    assert end["text"].startswith("line 2")  # a whole line
    assert end["text"].endswith("Execution status: PASS\n")
    text, offset = "", 0
    while True:
        piece = server.ask(f"{path}?offset={offset}&limit=5000").body
        if piece["end"] == offset:
            break
        assert piece["start"] == offset
        text, offset = text + piece["text"], piece["end"]
    assert text == job.log_path.read_text()


def test_no_answer_holds_more_than_a_quarter_of_a_megabyte(server: Server, start: Start) -> None:
    job = start("count:40000:0")
    job.wait(60)
    assert job.log_path.stat().st_size > 300_000
    piece = server.ask(f"taomagic/api/jobs/{job.id}/log?offset=0&limit=999999999").body
    assert piece["end"] == 256 << 10


@pytest.mark.parametrize("query", ["offset=-1", "offset=x", "limit=1e9", "offset=", "offset=٣"])
def test_a_log_wants_numbers(server: Server, start: Start, query: str) -> None:
    job = start("quiet:0")
    assert server.ask(f"taomagic/api/jobs/{job.id}/log?" + query.replace("٣", "%D9%A3")).status == 400


@pytest.mark.parametrize(
    "job_id",
    ["0123456789", "012345678", "0123456789a", "0123456 89", "..%2F..%2Fetc", "%2e%2e", "0123456789%0a"],
)
@pytest.mark.parametrize("rest", ["", "/log"])
def test_there_is_nothing_under_a_wrong_id(server: Server, job_id: str, rest: str) -> None:
    assert server.ask(f"taomagic/api/jobs/{job_id.replace(' ', '%20')}{rest}").status == 404


def test_jobs_elsewhere_and_behind_links_are_not_shown(
    server: Server, root: Path, home: Path, start: Start, tmp_path: Path
) -> None:
    outside = start("quiet:0", project=tmp_path / "elsewhere")
    linked_log = start("quiet:0")
    linked_folder = start("quiet:0")
    plain = start("quiet:0")
    for job in (outside, linked_log, linked_folder, plain):
        job.wait(20)
    (home / "secret.txt").write_text("nobody's business")
    linked_log.log_path.unlink()
    linked_log.log_path.symlink_to(home / "secret.txt")
    moved = tmp_path / "moved"
    linked_folder.directory.rename(moved)
    linked_folder.directory.symlink_to(moved)
    (root / "link").symlink_to(tmp_path / "elsewhere")
    listed = _listed(server)
    assert plain.id in listed
    for job in (outside, linked_log, linked_folder):
        assert job.id not in listed
        for rest in ("", "/log"):
            assert server.ask(f"taomagic/api/jobs/{job.id}{rest}").status == 404


def test_notebooks_are_offered_and_created_under_free_names(server: Server, root: Path) -> None:
    offered = server.ask("taomagic/api/notebooks").body
    assert offered["kinds"] == ["detectnet_v2", "ssd", "empty"]
    folder = root / "lesson 1"
    folder.mkdir()
    wish = {"kind": "ssd", "folder": "lesson 1", "language": "en"}
    first = server.ask("taomagic/api/notebooks", "POST", wish)
    assert (first.status, first.body["path"]) == (201, "lesson 1/ssd.ipynb")
    assert "lesson 1/specs/ssd_train_resnet10_sample.txt" in first.body["specs"]
    (folder / "ssd.ipynb").write_text("my work")
    (folder / "specs/ssd_train_resnet10_sample.txt").write_text("my spec")
    second = server.ask("taomagic/api/notebooks", "POST", wish)
    assert (second.body["path"], second.body["specs"]) == ("lesson 1/ssd1.ipynb", [])
    assert (folder / "ssd.ipynb").read_text() == "my work"
    assert (folder / "specs/ssd_train_resnet10_sample.txt").read_text() == "my spec"
    # Jupyter's own contents service can open it.
    opened = server.ask("api/contents/lesson%201/ssd1.ipynb")
    assert opened.body["content"]["nbformat"] == 4


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_empty_notebook_loads_the_extension(server: Server, root: Path, language: str) -> None:
    (root / language).mkdir()
    wish = {"kind": "empty", "folder": language, "language": language}
    made = server.ask("taomagic/api/notebooks", "POST", wish)
    assert made.body == {"path": f"{language}/tao.ipynb", "specs": []}
    cells = server.ask(f"api/contents/{language}/tao.ipynb").body["content"]["cells"]
    assert cells[1]["source"] == "%load_ext taomagic\n%tao_env ssd"
    assert ("笔记本" in cells[0]["source"]) is (language == "zh")


@pytest.mark.parametrize(
    "folder", ["..", "../..", "a/../..", "/etc", "nowhere", ".hidden", "out", "out/deeper", "file.txt", "\0"]
)
def test_a_folder_elsewhere_is_refused(
    server: Server, root: Path, home: Path, tmp_path: Path, folder: str
) -> None:
    (root / ".hidden").mkdir(exist_ok=True)
    (root / "a").mkdir(exist_ok=True)
    (root / "file.txt").write_text("")
    (tmp_path / "deeper").mkdir()
    (root / "out").symlink_to(tmp_path)
    try:
        wish = {"kind": "ssd", "folder": folder, "language": "en"}
        answer = server.ask("taomagic/api/notebooks", "POST", wish)
    finally:
        (root / "out").unlink()
    assert answer.status == 404
    assert str(tmp_path) not in json.dumps(answer.body)
    assert not list(tmp_path.rglob("*.ipynb"))
    assert not list(home.glob("*.ipynb"))


@pytest.mark.parametrize(
    ("wish", "status"),
    [
        ({"kind": "ssd", "folder": ""}, 400),
        ({"kind": "ssd", "folder": 3, "language": "en"}, 400),
        ({"kind": "ssd", "folder": "", "language": "xx"}, 400),
        ({"kind": "../ssd", "folder": "", "language": "en"}, 404),
        (["kind"], 400),
        (None, 400),
    ],
)
def test_a_wrong_wish_is_refused(server: Server, root: Path, wish: object, status: int) -> None:
    answer = server.ask("taomagic/api/notebooks", "POST", wish)
    assert answer.status == status
    assert answer.body["message"]
    assert not list(root.glob("*.ipynb"))


def test_a_page_that_is_left_open_does_not_keep_the_server_awake(server: Server, start: Start) -> None:
    """A hub shuts idle servers down; it would never do so if our polling counted as activity."""
    start("quiet:0").wait(20)
    for job in _listed(server).values():
        assert job["state"] != "running"
    before = server.ask("api/status?no_track_activity=1").body["last_activity"]
    time.sleep(0.05)
    _listed(server)
    assert server.ask("api/status?no_track_activity=1").body["last_activity"] == before
    start("polite")
    time.sleep(0.05)
    _listed(server)
    assert server.ask("api/status?no_track_activity=1").body["last_activity"] > before
