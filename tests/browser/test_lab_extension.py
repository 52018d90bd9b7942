"""The launcher's cards and the sidebar of jobs, in a real JupyterLab."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from taomagic.launcher import records
from taomagic.launcher.command import Command
from taomagic.launcher.context import Context
from taomagic.launcher.job import Job, JobState
from taomagic.launcher.runners.process import ProcessRunner
from taomagic.project.mounts import MountMap
from taomagic.project.paths import CONTAINER_ROOT

from .jupyter import TOKEN, Server, serve, write_notebook

REPOSITORY = Path(__file__).parents[2]
BUILT = REPOSITORY / "build/labextension"
ENGINE = Path(__file__).with_name("lab_engine.py")
Open = Callable[..., Page]
Start = Callable[..., Job]
Shoot = Callable[[Page, str], None]


@contextmanager
def lab_with_extension(home: Path, **environ: str) -> Iterator[Server]:
    """A JupyterLab that finds the built extension, and the server's configuration, as if they were installed."""
    if not (BUILT / "package.json").is_file():
        reason = "The extension isn't built: make labextension (needs Node.js)."
        if os.environ.get("TAOMAGIC_REQUIRE_NODE"):
            pytest.fail(reason)
        pytest.skip(reason)
    places = {
        BUILT: home / "share/labextensions/taomagic",
        REPOSITORY / "taomagic/server/jupyter_server_config.json": home
        / "etc/jupyter_server_config.d/taomagic.json",
    }
    for source, target in places.items():
        target.parent.mkdir(parents=True)
        target.symlink_to(source)
    root = home / "work"
    root.mkdir()
    environ = {
        "HOME": str(home),
        "XDG_STATE_HOME": str(home / "state"),
        "JUPYTER_PATH": str(home / "share"),
        "JUPYTER_CONFIG_PATH": str(home / "etc"),
        "PYTHONPATH": str(REPOSITORY),
        **environ,
    }
    with serve("lab", root, environ) as server:
        yield server
    for project in records.remembered_projects(environ):
        for folder in records.job_folders(project):
            Job(folder).kill()


@pytest.fixture(scope="module")
def jobs_lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with lab_with_extension(tmp_path_factory.mktemp("lab")) as server:
        yield server


@pytest.fixture
def opened(browser: Browser) -> Iterator[Open]:
    """Opens a page of a JupyterLab; nothing that goes wrong in it stays unnoticed."""
    wrong: list[str] = []
    pages: list[Page] = []

    def opening(server: Server, path: str = "lab") -> Page:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        pages.append(page)
        page.set_default_timeout(20_000)
        # Lab itself leaves a request behind now and then when a page is closed.
        page.on("pageerror", lambda error: wrong.extend({str(error)} - {"Failed to fetch"}))
        page.goto(f"{server.url}{path}?reset&token={TOKEN}")
        page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
        return page

    yield opening
    for page in pages:
        page.close()
    assert wrong == []


@pytest.fixture
def start(jobs_lab: Server) -> Iterator[Start]:
    """Starts the stand-in for the engine in a project under the lab's root."""
    started = []

    def starting(epochs: int, project: str = "traffic", server: Server = jobs_lab) -> Job:
        folder = server.root / project
        folder.mkdir(exist_ok=True)
        environ = {**os.environ, "XDG_STATE_HOME": str(server.root.parent / "state")}
        context = Context(folder, folder, environ, MountMap(((str(folder), CONTAINER_ROOT),)))
        words = ("-e", "/workspace/tao-experiments/ssd/specs/train.txt", "-k", "SECRET12")
        runner = ProcessRunner([sys.executable, "-u", str(ENGINE), str(epochs)])
        job = runner.start(Command("run", "model", "ssd", "train", words), context)
        started.append(job)
        return job

    yield starting
    for job in started:
        job.kill()


def _sidebar(page: Page, name: str = "TAO jobs") -> Locator:
    """Open the sidebar, and return it."""
    sidebar = page.get_by_role("region", name=name)
    if not sidebar.is_visible():
        page.locator('.jp-SideBar .lm-TabBar-tab[data-id="taomagic-jobs"]').click()
    sidebar.wait_for()
    return sidebar


def test_a_card_creates_the_notebook_in_the_open_folder_and_opens_it(
    jobs_lab: Server, opened: Open, shots: Shoot
) -> None:
    (jobs_lab.root / "lesson").mkdir()
    (jobs_lab.root / "lesson/ssd.ipynb").write_text("{}")
    page = opened(jobs_lab, "lab/tree/lesson")
    page.locator(".jp-Launcher-sectionTitle", has_text="TAO").wait_for()
    shots(page, "lab-launcher")
    page.locator('.jp-LauncherCard[data-category="TAO"]', has_text="SSD notebook").click()
    tab = page.locator(".lm-DockPanel-tabBar .lm-TabBar-tabLabel", has_text="ssd1.ipynb")
    tab.wait_for()
    expect(page.locator(".jp-Notebook .jp-Cell").first).to_contain_text("From pictures to a detector")
    assert (jobs_lab.root / "lesson/ssd.ipynb").read_text() == "{}"
    assert (jobs_lab.root / "lesson/specs/ssd_train_resnet10_sample.txt").is_file()
    expect(page.locator(".jp-DirListing-content")).to_contain_text("ssd1.ipynb")
    page.wait_for_selector("#jp-main-statusbar >> text=/\\| Idle$/", timeout=60_000)
    shots(page, "lab-notebook")


def test_the_palette_creates_an_empty_notebook_that_works(jobs_lab: Server, opened: Open) -> None:
    (jobs_lab.root / "empty").mkdir()
    page = opened(jobs_lab, "lab/tree/empty")
    page.locator(".jp-Launcher").wait_for()
    page.keyboard.press("Control+Shift+c")
    page.locator(".lm-CommandPalette-input").fill("New TAO notebook")
    page.locator(".lm-CommandPalette-itemLabel", has_text=re.compile("^New TAO notebook$")).click()
    page.locator(".lm-TabBar-tabLabel", has_text="tao.ipynb").first.wait_for()
    page.wait_for_selector("#jp-main-statusbar >> text=/\\| Idle$/", timeout=60_000)
    page.locator(".jp-Notebook .jp-Cell").nth(1).locator(".jp-InputArea-editor").click()
    page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-Notebook .jp-Cell").nth(1).locator(".jp-Cell-outputArea")
    expect(output).to_contain_text("LOCAL_PROJECT_DIR", timeout=30_000)


CELL = f"""\
import os, sys
from taomagic.launcher.command import Command
from taomagic.launcher.context import Context
from taomagic.launcher.runners.process import ProcessRunner
runner = ProcessRunner([sys.executable, "-u", {str(ENGINE)!r}, "2000"])
job = runner.start(Command("run", "model", "ssd", "train", ("-k", "SECRET12")), Context.current())
print("kernel", os.getpid())
"""


def test_a_job_outlives_its_kernel_and_is_stopped_in_the_sidebar(jobs_lab: Server, opened: Open) -> None:
    project = jobs_lab.root / "outlive"
    project.mkdir()
    write_notebook(project / "run.ipynb", CELL)
    page = opened(jobs_lab, "lab/tree/outlive/run.ipynb")
    page.wait_for_selector("#jp-main-statusbar >> text=/\\| Idle$/", timeout=60_000)
    page.locator(".jp-Notebook .jp-Cell .jp-InputArea-editor").click()
    page.keyboard.press("Shift+Enter")
    output = page.locator(".jp-Notebook .jp-Cell").first.locator(".jp-Cell-outputArea")
    expect(output).to_contain_text("kernel", timeout=30_000)
    process = int(output.inner_text().split("kernel")[1].split()[0])
    (folder,) = records.job_folders(project)
    job = Job(folder)

    sidebar = _sidebar(page)
    row = sidebar.locator(f'[data-job="{job.id}"]')
    expect(row).to_have_attribute("data-state", "running")
    expect(row).to_contain_text("********")
    expect(sidebar).not_to_contain_text("SECRET12")
    tab = page.locator('.lm-TabBar-tab[data-id="taomagic-jobs"]')
    expect(tab).to_have_attribute("data-tao-running", "1")
    badge = (
        "(node) => { const { width, height } = getComputedStyle(node, '::before'); return [width, height]; }"
    )
    assert tab.evaluate(badge) == ["14px", "14px"]  # it leaves the icon free
    bar = row.get_by_role("progressbar")
    expect(bar).to_have_attribute("aria-valuetext", re.compile(r"epoch \d+ of 2000"))

    for session in jobs_lab.api("sessions"):
        if session["path"] == "outlive/run.ipynb":
            jobs_lab.api(f"sessions/{session['id']}", "DELETE")
    deadline = time.monotonic() + 20
    while psutil.pid_exists(process):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    before = bar.get_attribute("aria-valuetext")
    expect(bar).not_to_have_attribute("aria-valuetext", before or "")
    assert job.state is JobState.RUNNING

    # Another page finds it again.
    page.close()
    page = opened(jobs_lab)
    dialog = page.locator(".jp-Dialog")
    tab = page.locator('.lm-TabBar-tab[data-id="taomagic-jobs"]')
    sidebar = _sidebar(page)
    row = sidebar.locator(f'[data-job="{job.id}"]')
    row.get_by_role("button", name="Stop ssd train").click()
    dialog.get_by_role("button", name="Cancel").click()
    time.sleep(0.5)
    assert job.state is JobState.RUNNING
    row.get_by_role("button", name="Stop ssd train").click()
    dialog.get_by_role("button", name="Stop").click()
    expect(row).to_have_attribute("data-state", "stopped")
    assert job.state is JobState.STOPPED
    expect(row.get_by_role("button", name="Stop ssd train")).to_have_count(0)
    expect(tab).not_to_have_attribute("data-tao-running", re.compile("."))


def test_a_finished_job_shows_its_figures_files_and_log(
    jobs_lab: Server, opened: Open, start: Start, shots: Shoot
) -> None:
    job = start(3)
    job.wait(30)
    page = opened(jobs_lab)
    sidebar = _sidebar(page)
    row = sidebar.locator(f'[data-job="{job.id}"]')
    expect(row).to_have_attribute("data-state", "succeeded")
    expect(row).to_contain_text("mAP 0.6800")
    # By keyboard alone.
    title = row.get_by_role("button", name=re.compile("ssd train: succeeded"))
    title.focus()
    page.keyboard.press("Enter")
    expect(title).to_have_attribute("aria-expanded", "true")
    details = row.locator(".jp-TaoJobs-details")
    for text in ("AP by class", "car", "0.7100", "Exit code", job.id):
        expect(details).to_contain_text(text)
    shots(page, "lab-details")
    details.get_by_role("button", name="ssd_epoch_003.tlt").click()
    files = page.locator(".jp-DirListing-content")
    expect(files).to_contain_text("ssd_epoch_001.tlt")
    sidebar = _sidebar(page)
    row.get_by_role("button", name="Show the folder of ssd train").click()
    expect(files).not_to_contain_text("ssd_epoch_001.tlt")
    expect(page.locator(".jp-FileBrowser-crumbs")).to_contain_text("traffic")

    sidebar = _sidebar(page)
    row.get_by_role("button", name="Open the log of ssd train").click()
    log = page.get_by_role("log", name=re.compile("Log of ssd train"))
    expect(log).to_contain_text("Execution status: PASS")
    assert "Starting Training Loop" in log.inner_text()
    assert "ETA" not in log.inner_text()  # overwritten, as in a terminal
    shots(page, "lab-log")


def test_the_log_of_a_running_job_follows_and_lets_go_when_scrolled(
    jobs_lab: Server, opened: Open, start: Start
) -> None:
    job = start(2000)
    page = opened(jobs_lab)
    _sidebar(page).locator(f'[data-job="{job.id}"]').get_by_role("button", name=re.compile("log of")).click()
    log = page.get_by_role("log")
    follow = page.get_by_label("Follow")
    expect(follow).to_be_checked()
    page.wait_for_function("(log) => log.scrollHeight > log.clientHeight + 200", arg=log.element_handle())
    at_end = "(log) => log.scrollHeight - log.scrollTop - log.clientHeight < 24"
    page.wait_for_function(at_end, arg=log.element_handle())
    log.evaluate("log => { log.scrollTop = 0; }")
    expect(follow).not_to_be_checked()
    length = len(log.inner_text())
    page.wait_for_function("([log, n]) => log.innerText.length > n", arg=[log.element_handle(), length])
    assert log.evaluate("log => log.scrollTop") == 0
    follow.check()
    page.wait_for_function(at_end, arg=log.element_handle())
    job.stop()
    expect(page.locator(".jp-TaoLog-state")).to_have_text("ended")


def test_earlier_lines_of_a_long_log_come_on_demand(jobs_lab: Server, opened: Open, start: Start) -> None:
    job = start(1)
    job.wait(20)
    lines = "".join(f"第 {number} line of many\n" for number in range(20_000))
    job.log_path.write_text(lines + "Execution status: PASS\n", encoding="utf-8")
    page = opened(jobs_lab)
    _sidebar(page).locator(f'[data-job="{job.id}"]').get_by_role("button", name=re.compile("log of")).click()
    log = page.get_by_role("log")
    expect(log).to_contain_text("第 19999 line")
    assert "第 10000 line" not in log.inner_text()
    earlier = page.get_by_role("button", name="Show earlier lines")
    while earlier.is_visible():
        count = len(log.inner_text())
        earlier.click()
        page.wait_for_function("([log, n]) => log.innerText.length > n", arg=[log.element_handle(), count])
    assert log.inner_text().strip() == (lines + "Execution status: PASS").strip()


def test_dark_and_chinese(opened: Open, start: Start, shots: Shoot, tmp_path: Path) -> None:
    with lab_with_extension(tmp_path, TAO_LANG="zh_CN") as server:
        server.set("@jupyterlab/apputils-extension/themes", {"theme": "JupyterLab Dark"})
        finished = start(2, "交通", server)
        finished.wait(20)
        stopped = start(2000, "交通", server)
        stopped.kill()
        running = start(2000, "交通", server)
        page = opened(server)
        sidebar = _sidebar(page, "TAO 任务")
        expect(sidebar.locator(f'[data-job="{running.id}"]')).to_contain_text("正在运行")
        expect(sidebar.locator(f'[data-job="{stopped.id}"]')).to_contain_text("已停止")
        expect(sidebar.locator(f'[data-job="{finished.id}"]')).to_contain_text("成功")
        assert page.evaluate("document.body.dataset.jpThemeLight") == "false"
        colour = sidebar.evaluate("node => getComputedStyle(node).backgroundColor")
        assert max(map(int, re.findall(r"\d+", colour)[:3])) < 80
        page.locator(".jp-LauncherCard", has_text="SSD 笔记本").wait_for()
        expect(sidebar.locator(f'[data-job="{running.id}"]')).to_contain_text("轮")
        shots(page, "lab-dark-chinese")


def test_nothing_is_in_the_way_where_the_server_does_not_know_us(opened: Open, jobs_lab: Server) -> None:
    page = opened(jobs_lab)
    page.route("**/taomagic/api/**", lambda route: route.fulfill(status=404, body='{"message": "Not Found"}'))
    sidebar = _sidebar(page)
    sidebar.get_by_role("button", name="Refresh").click()
    expect(sidebar.get_by_role("alert")).to_contain_text("jupyter server extension enable taomagic.server")
