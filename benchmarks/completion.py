"""How long the Tab key takes: completion in a project with some hundred files and jobs.

    python benchmarks/completion.py [--repeats 20]

Asks IPython's completer as a front end does. For each place of the cursor: the first answer of a fresh process, then
median and slowest of the repeats, in milliseconds, by the wall clock and by this process's CPU time (which other work
on the machine doesn't lengthen). The promise is 20 ms.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PLACES = (
    "%tao ",
    "%tao ssd tr",
    "result = %tao ssd train ",
    "%tao ssd train -",
    "%tao ssd train -e ",
    "%tao ssd train -e $SPECS_DIR/ssd",
    "%tao ssd evaluate -m ",
    "%tao ssd evaluate -m $USER_EXPERIMENT_DIR/run_07/weights/",
    "%tao ssd train -r /workspace/tao-experiments/ssd/",
    "%tao ssd inference -i $DATA_DOWNLOAD_DIR/",
    "%%tao ssd train\n  -e $SPECS_DIR/",
    "!tao model ssd tr",
    "%tao attach ",
    "%tao stop ",
    "%tao_env ",
)


def make_project(folder: Path) -> Path:
    """Make a project of 20 trainings with 20 models each, 600 images, 30 specs and 100 jobs."""
    project = folder / "ssd"
    for run in range(20):
        weights = project / "ssd" / f"run_{run:02d}" / "weights"
        weights.mkdir(parents=True)
        for epoch in range(1, 21):
            (weights / f"ssd_resnet18_epoch_{epoch:03d}.tlt").touch()
    for part in ("image_2", "label_2"):
        images = project / "data" / "training" / part
        images.mkdir(parents=True)
        for number in range(300):
            (images / f"{number:06d}.txt").touch()
    (project / "specs").mkdir()
    for number in range(30):
        (project / "specs" / f"ssd_train_{number:02d}.txt").touch()
    for number in range(100):
        job = project / ".tao" / "jobs" / f"{number:010x}"
        job.mkdir(parents=True)
        (job / "job.json").write_text(json.dumps({"id": job.name}))
        if number % 10:
            (job / "exit.json").write_text("{}")
    return project


@contextlib.contextmanager
def shell_in(project: Path) -> Iterator[Any]:
    """Yield an IPython shell in the project, with the extension and its environment."""
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    import taomagic

    config = Config()
    config.HistoryManager.enabled = False
    before, here = dict(os.environ), Path.cwd()
    os.environ["HOME"] = str(project.parent)
    os.chdir(project)
    try:
        shell = InteractiveShell(config=config)
        with contextlib.redirect_stdout(io.StringIO()):
            taomagic.load_ipython_extension(shell)
            shell.run_line_magic("tao_env", "ssd")
        yield shell
        taomagic.unload_ipython_extension(shell)
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)


def ask(shell: Any, cell: str) -> tuple[int, float, float]:
    """Complete at the end of a cell; return the number of answers, and the milliseconds by wall and CPU clock."""
    from IPython.core.completer import provisionalcompleter

    wall, cpu = time.perf_counter(), time.process_time()
    with provisionalcompleter():
        answers = list(shell.Completer.completions(cell, len(cell)))
    return len(answers), (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    slowest = 0.0
    with tempfile.TemporaryDirectory() as folder, shell_in(make_project(Path(folder))) as shell:
        print(f"{'at the cursor':<62}{'answers':>8}{'first':>8}{'median':>8}{'slowest':>9}{'CPU median':>12}")
        for place in PLACES:
            count, first, _ = ask(shell, place)
            times = [ask(shell, place)[1:] for _ in range(repeats)]
            walls, cpus = zip(*times, strict=True)
            shown = place.replace("\n", "⏎")
            print(
                f"{shown:<62}{count:>8}{first:>8.1f}{statistics.median(walls):>8.1f}{max(walls):>9.1f}"
                f"{statistics.median(cpus):>12.1f}"
            )
            slowest = max(slowest, statistics.median(walls))
    print(f"slowest median: {slowest:.1f} ms (promise: 20 ms)")
    sys.exit(slowest > 20)


if __name__ == "__main__":
    main()
