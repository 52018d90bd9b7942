"""What the live panel costs and how fast it is, in headless Chromium with a real JupyterLab.

::

    python benchmarks/panel.py              # all of it, about four minutes
    python benchmarks/panel.py log stop     # some of it

``log``     100,000 lines at 20,000 a second: delay of the last line, longest freeze of the page, growth of the kernel
``stop``    from the click on Stop to the engine's signal, in a cell that awaits and in one that blocks the kernel
``reload``  from the start of a reload, in the midst of a run, to a panel that moves
``cost``    processor time of the kernel while it shows a training, for the panel and for text
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Locator, sync_playwright

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.browser.conftest import FIRST_CELL, SPEC, TRAIN, act
from tests.browser.jupyter import CHROMIUM, CHROMIUM_ARGS, Notebook, Server, serve, write_notebook

HEARTBEAT = """() => { const beat = window.beat = { longest: 0, last: performance.now() };
  setInterval(() => { const now = performance.now(); beat.longest = Math.max(beat.longest, now - beat.last - 20);
    beat.last = now; }, 20); }"""
LAST_LINE = """() => [...document.querySelectorAll('.tao-panel .tao-log')].some(
  log => log.textContent.slice(-400).includes('END-OF-LOG'))"""


class Bench:
    """A server, and notebooks in fresh pages."""

    def __init__(self, server: Server, browser: Browser) -> None:
        self.server, self.browser = server, browser

    @contextmanager
    def notebook(self, *cells: str) -> Iterator[Notebook]:
        """Open a notebook and warm its kernel: everything that a panel needs has been imported and shown once."""
        page = self.browser.new_page(viewport={"width": 1280, "height": 1000})
        write_notebook(self.server.root / "bench.ipynb", FIRST_CELL, act("train:2:0.2"), *cells)
        notebook = Notebook(page, self.server, "bench.ipynb").open()
        try:
            for index in (0, 1):
                notebook.run(index)
            chip(notebook.panel(1), "✓ succeeded")
            yield notebook
        finally:
            page.close()
            self.server.close_sessions()

    def kernel(self) -> psutil.Process:
        """Return the kernel's process."""
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if "ipykernel_launcher" in words and str(self.server.root) in " ".join(words):
                return process
        raise RuntimeError("There is no kernel.")

    def told(self, name: str, field: str | None = None) -> float:
        """Wait for a time that the acting engine writes down, and return it."""
        path = self.server.root / name
        while not path.exists():
            time.sleep(0.005)
        time.sleep(0.05)
        value = json.loads(path.read_text())
        path.unlink()
        return float(value[field] if field else value)


def chip(panel: Locator, text: str) -> None:
    panel.locator(".tao-chip", has_text=text).wait_for(timeout=60_000)


def cpu_seconds(process: psutil.Process) -> float:
    """Return the processor time that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def measure_log(bench: Bench, lines: int = 100_000, rate: int = 20_000) -> None:
    with bench.notebook(act(f"noise:{lines}:{rate}")) as notebook:
        page, kernel = notebook.page, bench.kernel()
        page.wait_for_timeout(1500)
        page.evaluate(HEARTBEAT)
        before, used = kernel.memory_info().rss, cpu_seconds(kernel)
        notebook.run(2)
        page.wait_for_function(LAST_LINE, timeout=120_000, polling=20)
        seen = time.time()
        delay = seen - bench.told("noise_ended.json")
        chip(notebook.panel(2), "✓ succeeded")
        page.wait_for_timeout(1000)
        used = cpu_seconds(kernel) - used
        growth = (kernel.memory_info().rss - before) / 2**20
        freeze = page.evaluate("() => window.beat.longest") / 1000
        notebook.save()
        size = (bench.server.root / "bench.ipynb").stat().st_size / 1000
        print(
            f"log: {lines:,} lines at {rate:,}/s: last line after {delay:.2f} s, longest freeze {freeze:.2f} s, "
            f"kernel used {used:.1f} s of a core and grew by {growth:.1f} MB, notebook {size:.0f} kB"
        )


def measure_stop(bench: Bench, repeats: int = 3) -> None:
    blocked = f"def run():\n    %tao {TRAIN}\nrun()"
    for name, cell in (("awaiting cell", act("train:80:1")), ("blocking cell", act("train:80:1", blocked))):
        seconds = []
        for _ in range(repeats):
            with bench.notebook(cell) as notebook:
                notebook.run(2)
                panel = notebook.panel(2)
                panel.locator(".tao-curve").first.wait_for(timeout=30_000)
                notebook.page.wait_for_timeout(500)
                # The time in the page: the click itself, not what drives the page.
                clicked = panel.locator(".tao-stop").evaluate(
                    "e => { const at = Date.now(); e.click(); return at; }"
                )
                seconds.append(bench.told("acted.json", "at") - clicked / 1000)
        print(f"stop: {name}: signal after {statistics.median(seconds):.2f} s (worst {max(seconds):.2f} s)")


def measure_reload(bench: Bench, repeats: int = 3) -> None:
    whole, panels = [], []
    for _ in range(repeats):
        with bench.notebook(act("train:80:1")) as notebook:
            notebook.run(2)
            panel = notebook.panel(2)
            panel.locator(".tao-curve").first.wait_for(timeout=30_000)
            notebook.save()
            began = time.monotonic()
            notebook.load()
            loaded = time.monotonic()
            words = panel.locator(".tao-words")
            words.wait_for(timeout=30_000)
            first = words.inner_text()
            while words.inner_text() == first:
                time.sleep(0.02)
            ended = time.monotonic()
            whole.append(ended - began)
            panels.append(ended - loaded)
            panel.locator(".tao-stop").click()
            chip(panel, "■ stopped")
    print(
        f"reload: panel moves {statistics.median(whole):.1f} s after the reload (worst {max(whole):.1f} s), "
        f"{statistics.median(panels):.1f} s after the notebook is on the screen"
    )


def measure_cost(bench: Bench, epochs: int = 10) -> None:
    shares = {}
    for name in ("text", "panel"):
        choose = f'import os; os.environ["TAO_PANEL"] = "{name}"\n'
        with bench.notebook(choose + act(f"train:{epochs}:2")) as notebook:
            kernel = bench.kernel()
            before = cpu_seconds(kernel)
            began = time.monotonic()
            notebook.run(2)
            if name == "panel":
                chip(notebook.panel(2), "✓ succeeded")
            else:
                notebook.output(2).get_by_text("✓ tao ssd train").first.wait_for(timeout=60_000)
            seconds = time.monotonic() - began
            shares[name] = (cpu_seconds(kernel) - before) / seconds
    cores = os.cpu_count() or 1
    print(
        f"cost: the kernel uses {100 * shares['panel']:.1f} % of a core with the panel, "
        f"{100 * shares['text']:.1f} % with text: the panel takes "
        f"{100 * (shares['panel'] - shares['text']) / cores:.2f} % of {cores} cores"
    )


MEASURES: dict[str, Callable[[Bench], None]] = {
    "log": measure_log,
    "stop": measure_stop,
    "reload": measure_reload,
    "cost": measure_cost,
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", choices=[*MEASURES, []], help="all of it by default")
    wanted = parser.parse_args().what or list(MEASURES)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        root = Path(folder)
        (root / "home").mkdir()
        (root / "specs").mkdir()
        (root / "specs" / "ssd_train_resnet18_kitti.txt").write_text(SPEC)
        environ = {"HOME": str(root / "home"), "PYTHONPATH": str(Path(__file__).parents[1])}
        with serve("lab", root, environ) as server:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
            for name in wanted:
                MEASURES[name](Bench(server, browser))
            browser.close()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
