"""The panel in pages as people have them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from .conftest import TRAIN, act
from .jupyter import Notebook, Server

Shoot = Callable[[Page | Locator, str], None]
Open = Callable[..., Notebook]

RUNNING, SUCCEEDED, STOPPED = "▶ running", "✓ succeeded", "■ stopped"


def chip(panel: Locator, text: str, timeout_s: float = 20) -> None:
    expect(panel.locator(".tao-chip")).to_have_text(text, timeout=timeout_s * 1000)


#: Seconds from a click to the signal, on a machine that is busy with other things; benchmarks/panel.py measures them.
PROMPT_S = 1.5
#: Seconds from a notebook on the screen to its panel, likewise; JupyterLab waits three of them for a busy kernel.
RELOADED_S = 12


def signal_after(server: Server, clicked: float) -> float:
    """Seconds from a click to the signal that the engine got."""
    told = server.root / "acted.json"
    deadline = time.monotonic() + 20
    while not told.exists():
        assert time.monotonic() < deadline, "no signal came"
        time.sleep(0.01)
    time.sleep(0.05)
    at = float(json.loads(told.read_text())["at"])
    told.unlink()
    return at - clicked


def bundle(saved: dict[str, Any], cell: int, output: int = 0) -> dict[str, str]:
    found = saved["cells"][cell]["outputs"][output]["data"]
    return {mime: "".join(text) if isinstance(text, list) else text for mime, text in found.items()}


@pytest.mark.parametrize("app", ["lab", "notebook7"])
def test_a_training_is_watched_and_leaves_a_card(
    app: str, request: pytest.FixtureRequest, open_notebook: Open, page: Page, shots: Shoot
) -> None:
    server: Server = request.getfixturevalue(app)
    notebook = open_notebook(server, "watch.ipynb", act("train:8:0.8"))
    notebook.run(1)
    panel = notebook.panel(1)
    chip(panel, RUNNING)
    curve = panel.locator('[data-chart="precision"] polyline').first
    expect(curve).to_be_visible(timeout=15_000)
    early = curve.get_attribute("points") or ""
    page.wait_for_timeout(1800)
    shots(panel, f"{app}-running")
    assert len((curve.get_attribute("points") or "").split()) > len(early.split()), "the chart doesn't move"
    expect(panel.locator(".tao-words")).to_contain_text(re.compile(r"\d+% · epoch \d of 8 · .* left"))
    expect(panel.locator(".tao-tile")).to_contain_text(
        ["mAP", "loss", "val loss", "lr", "images per second", "memory"]
    )
    assert int(panel.get_by_role("progressbar").get_attribute("aria-valuenow") or 0) > 0

    chip(panel, SUCCEEDED)
    expect(panel).to_have_class(re.compile("tao-settled"))
    expect(panel.locator(".tao-best").first).to_be_visible()
    assert panel.locator(".tao-next code").all_inner_texts()[0] == (
        "%tao ssd evaluate -e $SPECS_DIR/ssd_train_resnet18_kitti.txt "
        "-m $USER_EXPERIMENT_DIR/experiment_dir_unpruned/weights/ssd_resnet18_epoch_008.tlt -k $KEY"
    )
    files = panel.locator(".tao-path code").all_inner_texts()
    assert files[0] == f"{server.root}/ssd/experiment_dir_unpruned/weights/ssd_resnet18_epoch_008.tlt"
    assert (
        files[1]
        == "/workspace/tao-experiments/ssd/experiment_dir_unpruned/weights/ssd_resnet18_epoch_008.tlt"
    )
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    panel.get_by_role("button", name="Copy the path: /workspace").click()
    assert page.evaluate("navigator.clipboard.readText()") == files[1]
    shots(panel, f"{app}-ended")

    saved = notebook.save()
    card = bundle(saved, 1)
    assert set(card) == {"text/html", "text/plain"}
    assert "✓ succeeded" in card["text/html"]
    assert "<script" not in card["text/html"]
    assert len(card["text/html"].encode()) <= 30_000
    assert (server.root / "watch.ipynb").stat().st_size < 200_000
    assert "secret-key" not in json.dumps(saved["cells"][1])


def test_a_training_of_detectnet_v2_reads_like_any_other_in_the_dark(
    lab: Server, open_notebook: Open, page: Page, shots: Shoot
) -> None:
    command = (
        "%tao detectnet_v2 train -e $SPECS_DIR/detectnet_v2_train.txt -r detectnet_v2/experiment_dir_unpruned"
    )
    notebook = open_notebook(lab, "grid.ipynb", act("grid:6:0.5", command))
    notebook.use_dark_theme()
    notebook.run(1)
    panel = notebook.panel(1)
    expect(panel.locator(".tao-words")).to_contain_text(
        re.compile(r"\d+% · epoch \d of 6 · .* left"), timeout=20_000
    )
    expect(panel.locator('[data-chart="precision"] polyline').first).to_be_visible(timeout=15_000)
    expect(panel.locator(".tao-tile")).to_contain_text(["mAP", "loss", "val loss", "lr"])
    shots(panel, "detectnet-running")
    chip(panel, SUCCEEDED)
    expect(panel).to_have_class(re.compile("tao-settled"))
    assert (
        " ".join(panel.locator(".tao-tile").first.inner_text().split()) == "mAP 0.6910 best 0.7354 in epoch 5"
    )
    expect(panel.locator(".tao-next code")).to_contain_text(["evaluate", "prune", "export"])
    assert panel.locator(".tao-path code").all_inner_texts()[-2].endswith("weights/resnet18_detector.tlt")
    shots(panel, "detectnet-ended")


def test_a_comparison_shows_its_figures_and_its_pictures_in_the_dark(
    lab: Server, open_notebook: Open, page: Page, shots: Shoot
) -> None:
    models = "model.tlt fp32.engine fp16.engine int8.engine qat.int8.engine"
    command = f"%tao deploy ssd compare -m {models} -e $SPECS_DIR/ssd.txt -r $USER_EXPERIMENT_DIR/compared"
    page.set_viewport_size({"width": 1280, "height": 2000})
    notebook = open_notebook(lab, "compare.ipynb", act("compare", command))
    notebook.use_dark_theme()
    notebook.run(1)
    panel = notebook.panel(1)
    chip(panel, SUCCEEDED)
    expect(panel).to_have_class(re.compile("tao-settled"))
    figures = panel.locator(".tao-figures")
    expect(figures.locator("thead th")).to_have_text(models.split())
    row = figures.get_by_role("row", name="mAP")
    expect(row.locator("td")).to_have_text(["★ 0.843", "★ 0.843", "★ 0.843", "0.831", "0.839"])
    expect(figures.get_by_role("row", name="median").locator("strong")).to_have_text("★ 14.2")
    expect(panel.get_by_label("Models compared")).to_contain_text("Recommended: qat.int8.engine")
    # A picture is asked for when it comes into view, and where the page stands depends on when it grew.
    panel.locator(".tao-picture").scroll_into_view_if_needed()
    picture = panel.locator(".tao-picture img")
    expect(picture).to_be_visible(timeout=20_000)
    assert picture.evaluate("image => image.naturalWidth") > 1400, "boxes and words can be read"
    shots(panel, "compare-panel")
    notebook.save()
    lab.api(f"kernels/{lab.kernel_of('compare.ipynb')}/restart", "POST")
    notebook.load()
    card = notebook.output(1).get_by_role("group", name=re.compile("TAO job"))
    expect(card.get_by_role("row", name="mAP")).to_contain_text("★ 0.843")
    expect(card.locator("img")).to_be_visible()
    shots(card, "compare-card")


def test_the_log_is_filtered_folded_and_searched_for_errors(
    lab: Server, open_notebook: Open, shots: Shoot
) -> None:
    (lab.root / "go").unlink(missing_ok=True)
    notebook = open_notebook(lab, "log.ipynb", act("mixed"))
    notebook.run(1)
    panel = notebook.panel(1)
    lines = panel.locator(".tao-log .tao-line:not(.tao-bar):visible")
    expect(panel.locator(".tao-log")).to_contain_text("000043.txt", timeout=20_000)
    expect(lines.first).to_have_text("reading image 0059 of 60×60")
    panel.get_by_role("button", name="Errors only").click()
    expect(lines).to_have_text([re.compile("ERROR: .*000042.txt"), re.compile("ERROR: .*000043.txt")])
    expect(panel.locator(".tao-count")).to_have_text("2 of 64 lines")
    shots(panel, "errors-only")
    panel.get_by_role("button", name="Errors only").click()
    panel.get_by_role("searchbox").fill("NEEDLE")
    expect(lines).to_have_text(["needle in the haystack"])
    expect(panel.locator("mark")).to_have_text("needle")
    panel.get_by_role("searchbox").press("Escape")
    panel.get_by_role("button", name="Fold repeats").click()
    expect(lines).to_have_count(64)
    with panel.page.expect_popup() as popup:
        panel.get_by_role("button", name="Open full log").click()
    expect(popup.value.locator("body")).to_contain_text("needle in the haystack")
    (lab.root / "go").touch()
    chip(panel, SUCCEEDED)


def test_the_stop_button_works_while_the_cell_waits(lab: Server, open_notebook: Open, shots: Shoot) -> None:
    notebook = open_notebook(lab, "stop.ipynb", act("train:80:1"), "print('NEXT')")
    notebook.run(1)
    notebook.run(2)
    panel = notebook.panel(1)
    chip(panel, RUNNING)
    panel.page.wait_for_timeout(1500)
    clicked = time.time()
    panel.get_by_role("button", name="Stop").click()
    assert signal_after(lab, clicked) < PROMPT_S
    chip(panel, STOPPED)
    expect(notebook.output(1)).to_contain_text("Stage interrupted: tao ssd train: stopped before its end.")
    assert notebook.output(2).inner_text() == "", "the next cell ran"
    assert panel.locator(".tao-next code").inner_text().startswith("%tao ssd train -e ")
    assert panel.locator(".tao-next code").inner_text().endswith("-k $KEY")
    shots(panel, "stopped")


@pytest.mark.parametrize("app", ["lab", "notebook7"])
def test_the_stop_button_works_while_the_cell_blocks_the_kernel(
    app: str, request: pytest.FixtureRequest, open_notebook: Open
) -> None:
    server: Server = request.getfixturevalue(app)
    cell = act("train:80:1", f"def run():\n    %tao {TRAIN}\nrun()")
    notebook = open_notebook(server, "blocked.ipynb", cell)
    notebook.run(1)
    panel = notebook.panel(1)
    chip(panel, RUNNING)
    expect(panel.locator(".tao-curve").first).to_be_visible(timeout=15_000)
    clicked = time.time()
    panel.get_by_role("button", name="Stop").click()
    assert signal_after(server, clicked) < PROMPT_S
    chip(panel, STOPPED)
    expect(notebook.output(1)).to_contain_text("Stage interrupted: tao ssd train: stopped before its end.")


def test_an_interrupt_stops_the_command(lab: Server, open_notebook: Open, page: Page) -> None:
    notebook = open_notebook(lab, "interrupt.ipynb", act("polite"))
    notebook.run(1)
    panel = notebook.panel(1)
    expect(panel.locator(".tao-log")).to_contain_text("holding on", timeout=20_000)
    clicked = time.time()
    page.get_by_role("button", name="Interrupt the kernel").click()
    assert signal_after(lab, clicked) < PROMPT_S
    chip(panel, STOPPED)
    expect(notebook.output(1)).to_contain_text("Stage interrupted: tao ssd train: stopped before its end.")


def test_a_page_that_is_reloaded_in_the_midst_of_a_run_is_live_again(
    lab: Server, open_notebook: Open, page: Page
) -> None:
    notebook = open_notebook(lab, "reload.ipynb", act("train:60:1"))
    notebook.run(1)
    chip(notebook.panel(1), RUNNING)
    page.wait_for_timeout(2500)
    notebook.save()
    notebook.load()
    loaded = time.monotonic()
    panel = notebook.panel(1)
    expect(panel.locator(".tao-curve").first).to_be_visible(timeout=20_000)
    assert time.monotonic() - loaded < RELOADED_S
    words = panel.locator(".tao-words")
    before = words.inner_text()
    expect(words).not_to_have_text(before, timeout=3000)
    expect(panel.locator(".tao-log")).to_contain_text("Starting Training Loop")
    clicked = time.time()
    panel.get_by_role("button", name="Stop").click()
    assert signal_after(lab, clicked) < PROMPT_S
    chip(panel, STOPPED)


def test_the_card_outlives_the_kernel(lab: Server, open_notebook: Open, page: Page, shots: Shoot) -> None:
    notebook = open_notebook(lab, "restart.ipynb", act("train:3:0.2"))
    notebook.run(1)
    chip(notebook.panel(1), SUCCEEDED)
    notebook.save()
    lab.api(f"kernels/{lab.kernel_of('restart.ipynb')}/restart", "POST")
    notebook.load()
    card = notebook.output(1).get_by_role("group", name=re.compile("TAO job"))
    expect(card).to_be_visible(timeout=15_000)
    expect(card).to_contain_text("✓ succeeded")
    expect(card.locator("img").first).to_be_visible()
    expect(notebook.panel(1)).to_have_count(0)
    expect(notebook.output(1)).not_to_contain_text("Error displaying widget")
    shots(card, "card")


def test_a_job_in_the_background_has_a_live_panel(lab: Server, open_notebook: Open) -> None:
    notebook = open_notebook(
        lab, "background.ipynb", act("train:80:1", f"%tao -o job --background {TRAIN}"), "job.id"
    )
    notebook.run(1)
    notebook.run(2)
    panel = notebook.panel(1)
    chip(panel, RUNNING)
    expect(notebook.output(2)).to_contain_text(panel.get_attribute("aria-label").removeprefix("TAO job "))  # type: ignore[union-attr]
    expect(panel.locator(".tao-curve").first).to_be_visible(timeout=15_000)
    panel.get_by_role("button", name="Stop").click()
    chip(panel, STOPPED)
    expect(panel).to_have_class(re.compile("tao-settled"))


def test_two_notebooks_run_at_once(lab: Server, open_notebook: Open, browser: Browser) -> None:
    one = open_notebook(lab, "one.ipynb", act("train:5:1.5"))
    other = browser.new_page()
    two = open_notebook(lab, "two.ipynb", act("train:4:1.5"), on=other)
    one.run(1)
    two.run(1)
    chip(one.panel(1), RUNNING)
    chip(two.panel(1), RUNNING)
    expect(one.panel(1).locator(".tao-words")).to_contain_text("of 5", timeout=10_000)
    expect(two.panel(1).locator(".tao-words")).to_contain_text("of 4", timeout=10_000)
    chip(one.panel(1), SUCCEEDED)
    chip(two.panel(1), SUCCEEDED)
    other.close()


def test_the_stages_of_a_cell_and_the_dark_theme(
    lab: Server, open_notebook: Open, page: Page, shots: Shoot
) -> None:
    cell = f"%%tao\n{TRAIN}\nssd evaluate -e $SPECS_DIR/ssd_train_resnet18_kitti.txt -m $USER_EXPERIMENT_DIR/m.tlt"
    notebook = open_notebook(lab, "dark.ipynb", 'import os; os.environ["TAO_ACT"] = "train:4:0.8"', cell)
    page.get_by_text("Settings", exact=True).first.click()
    page.get_by_text("Theme", exact=True).hover()
    page.get_by_text("JupyterLab Dark", exact=True).click()
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false")
    notebook.run(1)
    notebook.run(2)
    panel = notebook.panel(2).first
    chip(panel, RUNNING)
    stages = panel.get_by_role("list", name="Stages of this cell").get_by_role("listitem")
    expect(stages).to_have_text(["▶ ssd train (this one)", "○ ssd evaluate (to come)"])
    expect(stages.nth(0)).to_have_attribute("aria-current", "step")
    expect(panel.locator('[data-chart="precision"] polyline').first).to_be_visible(timeout=10_000)
    page.wait_for_timeout(800)
    shots(panel, "dark-running")
    ground, ink = panel.evaluate("e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]")
    assert contrast(ground, ink) > 7
    dim = panel.locator(".tao-facts").evaluate("e => getComputedStyle(e).color")
    assert contrast(ground, dim) > 4.5
    second = notebook.panel(2).nth(1)
    chip(second, RUNNING)
    expect(second.get_by_role("list", name="Stages of this cell").get_by_role("listitem")).to_have_text(
        ["✓ ssd train (done)", "▶ ssd evaluate (this one)"]
    )
    chip(second, SUCCEEDED)
    expect(second.locator(".tao-stages li").nth(1)).to_contain_text("✓ ssd evaluate")
    shots(page, "dark-ended")


def contrast(ground: str, ink: str) -> float:
    """The contrast of two CSS colours after WCAG 2.1; a translucent ink lies on the ground."""

    def numbers(colour: str) -> list[float]:
        found = [float(each) for each in re.findall(r"[\d.]+", colour)]
        return found if len(found) == 4 else [*found, 1.0]

    back, front = numbers(ground), numbers(ink)
    mixed = [f * front[3] + b * (1 - front[3]) for f, b in zip(front[:3], back[:3], strict=True)]

    def light(colour: list[float]) -> float:
        parts = [c / 255 for c in colour]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, deep = sorted((light(mixed), light(back[:3])), reverse=True)
    return (bright + 0.05) / (deep + 0.05)


def test_everything_can_be_done_and_heard_without_a_mouse(
    lab: Server, open_notebook: Open, page: Page
) -> None:
    notebook = open_notebook(lab, "keys.ipynb", act("train:3:0.3"))
    notebook.run(1)
    panel = notebook.panel(1)
    chip(panel, SUCCEEDED)
    expect(panel).to_have_class(re.compile("tao-settled"))
    expect(panel.locator("[role=status][aria-live=polite]").last).to_have_text("ssd train: succeeded")
    chart = panel.locator('[data-chart="loss"]')
    assert "val loss lowest" in (chart.locator(".tao-holder").get_attribute("aria-label") or "")
    chart.locator(".tao-holder").focus()
    page.keyboard.press("End")
    expect(chart.locator(".tao-readout")).to_contain_text("epoch 3: loss")
    page.keyboard.press("Home")
    expect(chart.locator(".tao-readout")).to_contain_text(re.compile(r"epoch 0\.\d+: loss"))
    assert chart.get_by_role("button", name="Log scale").count() == 0, "it helps only with values far apart"
    val = chart.get_by_role("button", name="val loss")
    val.focus()
    page.keyboard.press("Space")
    expect(val).to_have_attribute("aria-pressed", "false")
    expect(chart.locator("polyline")).to_have_count(1)
    dashes = panel.locator('[data-chart="precision"] polyline').evaluate_all(
        "all => all.map(e => e.getAttribute('stroke-dasharray'))"
    )
    assert len(set(dashes)) == len(dashes) == 4, "curves differ without colour"
    nameless = panel.locator("button, input, [tabindex]").evaluate_all(
        "all => all.filter(e => !(e.getAttribute('aria-label') || e.textContent.trim())).length"
    )
    assert nameless == 0


def test_losses_far_apart_can_be_read_on_a_log_scale(lab: Server, open_notebook: Open, shots: Shoot) -> None:
    notebook = open_notebook(lab, "wild.ipynb", act("wild"))
    notebook.run(1)
    panel = notebook.panel(1)
    chip(panel, SUCCEEDED)
    axis = panel.locator('[data-chart="loss"] svg text:not(.tao-value)')
    assert {"250", "500", "750"} <= set(axis.all_text_contents())
    panel.get_by_role("button", name="Log scale").click()
    assert {"10", "100", "1000"} <= set(axis.all_text_contents())
    shots(panel, "log-scale")
