"""JupyterLab and Notebook 7 as people have them, on a free port, and a page of theirs in headless Chromium."""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, Page

from tests.jupyter_process import free_port, jupyter

CHROMIUM = os.environ.get("TAOMAGIC_CHROMIUM", "/usr/bin/chromium")
CHROMIUM_ARGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
TOKEN = "e2e"
#: Behind a base URL, as on a JupyterHub.
BASE = "/user/ada/"
FOLDERS = (
    "JUPYTER_CONFIG_DIR",
    "JUPYTER_RUNTIME_DIR",
    "JUPYTERLAB_SETTINGS_DIR",
    "JUPYTERLAB_WORKSPACES_DIR",
    "IPYTHONDIR",
)


def write_notebook(path: Path, *sources: str) -> None:
    cells = [
        {
            "cell_type": "code",
            "id": f"c{i}",
            "execution_count": None,
            "metadata": {},
            "outputs": [],
            "source": each,
        }
        for i, each in enumerate(sources)
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(notebook))


class Server:
    """A running server.

    Parameters
    ----------
    app
        ``lab`` or ``notebook``.
    root
        The folder that it serves.
    """

    def __init__(self, app: str, root: Path, url: str) -> None:
        self.app, self.root, self.url = app, root, url

    def api(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(f"{self.url}api/{path}", method=method)
        request.add_header("Authorization", f"token {TOKEN}")
        with urllib.request.urlopen(request, timeout=20) as reply:
            return json.loads(reply.read() or "null")

    def set(self, plugin: str, value: dict[str, Any]) -> None:
        """Write a setting of the page."""
        path = self.root / f".e2e/jupyterlab_settings_dir/{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value))

    def kernel_of(self, notebook: str) -> str:
        return next(each["kernel"]["id"] for each in self.api("sessions") if each["path"] == notebook)

    def close_sessions(self) -> None:
        for session in self.api("sessions"):
            with contextlib.suppress(OSError):
                self.api(f"sessions/{session['id']}", "DELETE")


@contextmanager
def serve(app: str, root: Path, environ: dict[str, str] | None = None) -> Iterator[Server]:
    """A server that lives as long as the block, with settings of its own."""
    port = free_port()
    server = Server(app, root, f"http://127.0.0.1:{port}{BASE}")
    server.set(
        "@jupyterlab/apputils-extension/notification", {"fetchNews": "false", "checkForUpdates": False}
    )
    server.set("@jupyterlab/apputils-extension/themes", {"theme": "JupyterLab Light"})
    isolated = {name: str(root / ".e2e" / name.lower()) for name in FOLDERS}
    with jupyter(
        {"lab": "jupyterlab", "notebook": "notebook"}[app],
        "--LabApp.extension_manager=readonly",
        "--ServerApp.terminals_enabled=False",
        port=port,
        root=root,
        base=BASE,
        token=TOKEN,
        log=root / f"{app}.log",
        env={**os.environ, **(environ or {}), **isolated},
    ):
        yield server


class Notebook:
    """A notebook in a page.

    Parameters
    ----------
    page
        The page.
    server
        Whose notebook it is.
    name
        The notebook's file.
    """

    def __init__(self, page: Page, server: Server, name: str) -> None:
        self.page, self.server, self.name = page, server, name

    def open(self) -> Notebook:
        """Open it and wait until its kernel can be used."""
        self.load()
        deadline = time.monotonic() + 60
        while not self._kernel_is_idle():
            if time.monotonic() > deadline:
                raise TimeoutError(f"The kernel of {self.name} isn't ready.")
            time.sleep(0.1)
        if self.server.app == "lab":
            # The toolbar's indicator says idle before there is a kernel.
            self.page.wait_for_selector("#jp-main-statusbar >> text=/\\| (Idle|空闲)$/", timeout=60_000)
        else:
            self.page.wait_for_timeout(500)
        return self

    def load(self) -> None:
        """Load the page, without waiting for a kernel."""
        place = f"lab/tree/{self.name}?reset&" if self.server.app == "lab" else f"notebooks/{self.name}?"
        self.page.goto(f"{self.server.url}{place}token={TOKEN}")
        if self.server.app == "lab":
            self.page.wait_for_selector("#jupyterlab-splash", state="detached", timeout=60_000)
        self.page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)

    def _kernel_is_idle(self) -> bool:
        sessions = [each for each in self.server.api("sessions") if each["path"] == self.name]
        return bool(sessions) and sessions[0]["kernel"]["execution_state"] == "idle"

    def run(self, index: int) -> None:
        self.page.locator(".jp-Notebook .jp-Cell").nth(index).locator(".jp-InputArea-editor").click()
        self.page.keyboard.press("Shift+Enter")

    def use_dark_theme(self) -> None:
        """Choose JupyterLab's dark theme in its menu."""
        self.page.get_by_text("Settings", exact=True).first.click()
        self.page.get_by_text("Theme", exact=True).hover()
        self.page.get_by_text("JupyterLab Dark", exact=True).click()

    def output(self, index: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index).locator(".jp-Cell-outputArea")

    def panel(self, index: int) -> Locator:
        return self.output(index).locator(".tao-panel")

    def save(self) -> dict[str, Any]:
        """Save the notebook and return what is in the file."""
        path = self.server.root / self.name
        before = path.stat().st_mtime_ns
        self.page.keyboard.press("Escape")
        self.page.keyboard.press("Control+s")
        deadline = time.monotonic() + 20
        while path.stat().st_mtime_ns == before:
            if time.monotonic() > deadline:
                raise TimeoutError("The notebook isn't saved.")
            self.page.wait_for_timeout(100)
        self.page.wait_for_timeout(300)
        content: dict[str, Any] = json.loads(path.read_text())
        return content
