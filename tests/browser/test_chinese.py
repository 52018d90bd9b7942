"""The panel on a Chinese page, and in a notebook that has chosen Chinese."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

from .conftest import act
from .jupyter import Notebook, Server

Shoot = Callable[[Page | Locator, str], None]
Open = Callable[..., Notebook]

#: What stays English on a Chinese panel: commands, paths, the log and its warnings, and the field's own words.
_STAYS = re.compile(
    r"\b(?:tao|ssd|train|job|loss|epoch|mAP|AP|lr|car|cyclist|pedestrian|tlt|onnx|MB|GB|KEY|CPU|GPU)\b", re.I
)


def english(panel: Locator) -> list[str]:
    """Return the English words that a person sees on a panel outside of commands, paths and the log."""
    said = panel.evaluate(
        """panel => {
            const copy = panel.cloneNode(true);
            const passed = "code, .tao-copy, .tao-log, .tao-notes, .tao-label, svg text, figcaption";
            copy.querySelectorAll(passed).forEach((each) => each.remove());
            const said = [];
            const texts = document.createTreeWalker(copy, NodeFilter.SHOW_TEXT);
            while (texts.nextNode()) said.push(texts.currentNode.data);
            for (const each of copy.querySelectorAll("*"))
              for (const name of ["title", "aria-label", "placeholder"]) said.push(each.getAttribute(name) ?? "");
            return said.join(" | ");
        }"""
    )
    return re.findall(r"\b[A-Za-z]{2,}\b", _STAYS.sub(" ", re.sub(r"[\w.$%-]*[/_$%=][\w./$%=-]*", " ", said)))


def test_a_chinese_page_turns_the_panel_chinese(
    lab: Server, open_notebook: Open, page: Page, shots: Shoot
) -> None:
    notebook = open_notebook(lab, "chinese_page.ipynb", act("train:5:0.9"))
    # What JupyterLab does when its language pack is chosen.
    page.evaluate("document.documentElement.lang = 'zh-CN'")
    notebook.run(1)
    panel = notebook.panel(1)
    expect(panel.locator(".tao-chip")).to_have_text("▶ 正在运行", timeout=20_000)
    expect(panel.get_by_role("button", name="停止")).to_be_visible()
    expect(panel.locator(".tao-words")).to_contain_text(
        re.compile(r"\d+% · epoch \d / 5 · .*剩余"), timeout=15_000
    )
    expect(panel.locator('[data-chart="precision"]')).to_be_visible(timeout=15_000)
    assert not english(panel)
    shots(panel, "zh-running")
    expect(panel.locator(".tao-chip")).to_have_text("✓ 成功", timeout=30_000)
    expect(panel).to_have_class(re.compile("tao-settled"))
    assert not english(panel)
    shots(panel, "zh-ended")
    card = notebook.save()["cells"][1]["outputs"][0]["data"]
    assert "✓ 成功" in "".join(card["text/html"])
    assert "✓ tao ssd train 成功" in "".join(card["text/plain"])


def test_a_choice_in_the_notebook_counts_more_than_the_page(
    lab: Server, open_notebook: Open, page: Page
) -> None:
    notebook = open_notebook(
        lab, "chosen_english.ipynb", "%tao_env --lang en", act("train:2:0.5"), "%tao ssd trian"
    )
    page.evaluate("document.documentElement.lang = 'zh-CN'")
    notebook.run(1)
    notebook.run(2)
    expect(notebook.panel(2).locator(".tao-chip")).to_have_text("✓ succeeded", timeout=30_000)
    notebook.run(3)
    expect(notebook.output(3)).to_contain_text("Did you mean train?", timeout=20_000)
