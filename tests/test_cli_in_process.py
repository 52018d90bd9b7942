"""``tao --in-process`` in a terminal: the debugger has the keyboard, errors have their frames."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from taomagic.cli import own_options, tao
from taomagic.engine.ssd import weights
from taomagic.engine.ssd.anchors import AnchorSettings
from taomagic.engine.ssd.model import SSD, Architecture

KEY = "terminal-secret"
#: Breaks into the command where it begins; then it runs as ever.
SCRIPT = """\
import sys
from taomagic.cli import tao
from taomagic.engine.ssd import prune
whole = prune.run
def run(args, paths):
    {what}
    return whole(args, paths)
prune.run = run
sys.exit(tao(sys.argv[1:]))
"""
PRUNE = ("--in-process", "ssd", "prune", "-m", "whole.tlt", "-o", "small.tlt", "-pth", "0.25", "-k", KEY)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a model to prune."""
    anchors = AnchorSettings(
        aspect_ratios=((1.0,),) * 6,
        scales=(0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95),
        two_boxes_for_ar1=False,
        clip_boxes=False,
        variances=(0.1, 0.1, 0.2, 0.2),
    )
    model = SSD(Architecture("resnet", 10, 0.125, (3, 64, 64), ("car",), anchors))
    weights.save(tmp_path / "whole.tlt", model, KEY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("LAUNCHER_MOUNTS", "LOCAL_PROJECT_DIR", "TAOMAGIC_BACKEND", "TAOMAGIC_KEY", "KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def run(folder: Path, what: str, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[1]
    return subprocess.run(
        [sys.executable, "-c", SCRIPT.format(what=what), *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        input=typed,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_breakpoint_asks_in_the_terminal_and_the_command_goes_on(folder: Path) -> None:
    done = run(folder, "breakpoint()", *PRUNE, typed="p args.threshold, args.key\nc\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "(0.25, '********')" in done.stdout
    assert "Execution status: PASS" in done.stdout
    assert KEY not in done.stdout + done.stderr
    assert (folder / "small.tlt").exists()


def test_an_error_is_told_with_its_frames_and_an_exit_code(folder: Path) -> None:
    done = run(folder, "raise ZeroDivisionError('here')", *PRUNE)
    assert done.returncode == 1
    assert "ZeroDivisionError: here" in done.stderr
    assert ", in run" in done.stderr
    assert KEY not in done.stdout + done.stderr
    (record,) = (folder / ".tao/jobs").iterdir()
    assert (record / "log.txt").read_text().endswith("Execution status: FAIL\n")
    assert '"exit_code": 1' in (record / "exit.json").read_text()


def test_quitting_the_debugger_is_an_interruption(folder: Path) -> None:
    done = run(folder, "breakpoint()", *PRUNE, typed="q\n")
    assert done.returncode == 130
    assert "the debugger was quit" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "small.tlt").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--background", *PRUNE), "--background"),
        (("--backend", "docker", *PRUNE), "--backend docker"),
        (("--in-process", "list"), "means nothing for list"),
        (("--in-process", "yolo_v4", "train", "-e", "x"), "--in-process means the embedded engine"),
    ],
)
def test_what_does_not_go_together_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert tao(list(words)) in {1, 2}
    told = capsys.readouterr().err
    assert message in told
    assert "Hint: " in told
    assert "Traceback" not in told
    assert not (folder / "small.tlt").exists()


def test_the_option_stands_anywhere_but_in_a_program() -> None:
    assert own_options(["ssd", "train", "--in-process"]) == ({"in-process": "yes"}, ["ssd", "train"])
    words = ["ssd", "run", "program", "--in-process"]
    assert own_options(words) == ({}, words)
