"""The panel in pages as people have them."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from .conftest import TRAIN, act
from .jupyter import Notebook, Server


def test_a_training_can_be_watched(
    lab: Server, open_notebook: Callable[..., Notebook], page: Page, shots: Callable[[Page, str], None]
) -> None:
    notebook = open_notebook(lab, "watch.ipynb", act("train:8:1.2"))
    notebook.run(1)
    panel = notebook.panel(1)
    expect(panel).to_be_visible(timeout=15_000)
    expect(panel.locator(".tao-chip")).to_have_text("▶ running")
    expect(panel.locator('[data-chart="precision"] polyline').first).to_be_visible(timeout=10_000)
    shots(page, "lab-running")
    expect(panel.locator(".tao-chip")).to_have_text("✓ succeeded", timeout=20_000)
    page.wait_for_timeout(1000)
    shots(page, "lab-ended")
    assert not page.errors
