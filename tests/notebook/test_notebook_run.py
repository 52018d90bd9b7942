"""`tao notebook run`: what counts as a failure, what is stopped, what is left untouched."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from taomagic.cli import tao
from taomagic.launcher.command import parse_command
from taomagic.notebook import running
from taomagic.notebook.artefacts import missing
from taomagic.notebook.judging import STATUS_MIME, judge, title_of
from taomagic.notebook.shell_guard import refusal
from taomagic.project.mounts import home_map


def written(path: Path, *sources: str) -> Path:
    cells = [new_markdown_cell("A heading"), *map(new_code_cell, sources)]
    nbformat.write(new_notebook(cells=cells), path)
    return path


def stream(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": text}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ls: cannot access 'x': No such file or directory\n", "cannot access"),
        ("all well\r\n\x1b[31mERROR: no matching distribution\x1b[0m\r\n", "ERROR: no matching"),
        ("sh: 1: ngc: not found\n", "ngc: not found"),
        ("Label zip corrupt, redownload!\n", "corrupt"),
        ("Execution status: FAIL\n", "FAIL"),
    ],
)
def test_a_line_that_tells_of_an_error_is_a_failure(text: str, found: str) -> None:
    (problem,) = judge([stream(text)])
    assert problem.startswith("In the output: ")
    assert found in problem
    assert "\x1b" not in problem


@pytest.mark.parametrize(
    "text",
    ["0 errors\n", "Epoch 1/120: loss: 0.1\n", "error rate: 3 %\n", "images OK\n", "no file is missing\n"],
)
def test_ordinary_lines_are_none(text: str) -> None:
    assert judge([stream(text)]) == []


def test_the_end_of_a_line_counts_not_only_what_it_printed() -> None:
    status = {"kind": "shell", "what": "false", "exit": 1, "seconds": 0.0}
    job = {"kind": "job", "what": "tao ssd prune", "state": "succeeded", "missing": ["/out/pruned.hdf5"]}
    outputs = [{"output_type": "display_data", "data": {STATUS_MIME: each}} for each in (status, job)]
    assert judge(outputs) == ["Exit code 1: false", "tao ssd prune left no /out/pruned.hdf5"]


def test_a_cell_is_called_after_its_command() -> None:
    assert title_of("import os\n!tao ssd train -e a.txt \\\n    -r out") == "!tao ssd train -e a.txt -r out"
    assert title_of("# only a comment\nprint(1)") == "print(1)"


@pytest.mark.parametrize(
    ("line", "path"),
    [
        ("rm -rf $GONE/tfrecords/*", "/tfrecords/*"),
        ("mkdir -p ${GONE}/a && ls", "/a"),
        ('rm -rf "$GONE/a b"', "/a"),
        ('ls "$GONE"/x', "/x"),
        ("cp a --to=$GONE/x", "/x"),
        ("ls $GONE$NONE/x", "/x"),
        ("echo a>$GONE/x", "/x"),
        ("rm -rf {EMPTY}/x", "/x"),
        ("rm -rf /$GONE/*", "/*"),
        ("ls .; rm -rf $GONE/source", "/source"),
        ("rm -rf /$GONE", "/"),
        ('rm -rf "/${GONE}"/ b', "/"),
        ("echo \"it's\" $GONE/x '", "/x"),
        ("set -e  # don't\nrm -rf $GONE/x\n", "/x"),
    ],
)
def test_a_line_on_an_unset_variable_is_refused(line: str, path: str) -> None:
    assert refusal(line, {"HERE": "/tmp", "EMPTY": ""}.get).endswith(f"would work on {path}.")


@pytest.mark.parametrize("line", ["cd $GONE && rm -rf *", 'mkdir x; cd "${GONE}"; ls', "(cd $GONE)"])
def test_a_line_that_would_go_home_is_refused(line: str) -> None:
    assert refusal(line, {}.get) == "$GONE is unset, so that this line would work in your home folder."


@pytest.mark.parametrize(
    "line",
    [
        "rm -rf $HERE/tfrecords/*",
        "rm -rf $HERE$GONE/x",
        "rm -rf /tmp/$GONE/x",
        "wget http://$GONE/x",
        "rm /$GONE.txt",
        "rm -rf relative$GONE/x",
        "echo '$GONE/x'",
        r"echo \$GONE/x",
        "GONE=/tmp; ls $GONE/x",
        "for GONE in a b; do ls $GONE/x; done",
        "echo $GONE",
        "ls /tmp",
        "cd $HERE && ls",
        "cd && ls",
        "ls {a}/x ${GONE:-/tmp}/x $1/x",
        "# rm -rf $GONE/x",
        "while read a GONE; do ls $GONE/x; done < list",
        "export GONE=/tmp\nls $GONE/x",
        'if [ -n "$GONE" ]; then ls $GONE/x; fi',
        "[[ -v GONE ]] && ls $GONE/x",
        "printf -v GONE /tmp; ls $GONE/x",
        ": ${GONE:=/tmp}; ls $GONE/x",
        "select GONE in a; do ls $GONE/x; done",
        "source env.sh\nls $GONE/x",
        "cd /tmp; . ./env.sh && ls $GONE/x",
        "ls $PWD/x",
        "awk '{print $GONE/2}' file",
    ],
)
def test_other_lines_may_run(line: str) -> None:
    assert refusal(line, {"HERE": "/tmp"}.get) == ""


@pytest.mark.parametrize(
    "line",
    [
        "rm -rf $DATA/tfrecords/*",
        "mkdir -p $DATA/tfrecords && rm -rf $DATA/tfrecords/*",
        "if test $? -eq 0; then echo OK; else rm -f ${DATA}/a.zip; fi",
        'rm -rf "$HERE" $DATA',
        "sudo rm {DATA}",
    ],
)
def test_a_removal_that_a_blank_in_the_path_would_split_is_refused(line: str) -> None:
    values = {"DATA": "/home/me/TAO copy/data", "HERE": "/tmp"}
    why = refusal(line, values.get)
    assert why.startswith("$DATA has a blank in it, so that this line would delete /home/me/TAO. ")


@pytest.mark.parametrize("line", ['rm -rf "$DATA/tfrecords"', "rm -rf $HERE/x", "ls $DATA", "rm x; ls $DATA"])
def test_a_removal_that_no_blank_splits_may_run(line: str) -> None:
    assert refusal(line, {"DATA": "/home/me/TAO copy/data", "HERE": "/tmp"}.get) == ""


@pytest.mark.parametrize(
    ("words", "files", "gone"),
    [
        ("ssd prune -m a -o OUT/p.hdf5", [], ["OUT/p.hdf5"]),
        ("ssd prune -m a -o OUT/p.hdf5", ["p.hdf5"], []),
        ("detectnet_v2 train -e s -r OUT -n d", ["weights/d.hdf5"], ["OUT/status.json"]),
        (
            "detectnet_v2 train -e s -r OUT -n d",
            ["weights/e.hdf5", "status.json"],
            ["OUT/weights/d.[th][ld][tf]*"],
        ),
        ("ssd train -e s -r OUT", ["weights/ssd_resnet18_epoch_001.tlt", "status.json"], []),
        ("ssd dataset_convert -d s -o OUT/kitti", ["kitti-fold-000-of-002-shard-00000-of-00010"], []),
        ("detectnet_v2 inference -e s -r OUT -i d", [], ["OUT/images_annotated/*"]),
        (
            "detectnet_v2 export -m a -e s -o OUT/d.onnx --gen_ds_config",
            ["d.onnx"],
            ["OUT/nvinfer_config.txt"],
        ),
        ("deploy detectnet_v2 evaluate -m a -e s -i d -l l -r OUT", [], ["OUT/results.json"]),
        ("converter -k key -d 3,384,1248 -e OUT/e.trt m.etlt", [], ["OUT/e.trt"]),
        ("detectnet_v2 calibration_tensorfile -e s -m 10 -o OUT/c.tensor", [], ["OUT/c.tensor"]),
        ("yolo_v4 prune -o OUT/p.hdf5", [], []),
    ],
)
def test_a_command_that_left_out_a_file_is_found(
    tmp_path: Path, words: str, files: list[str], gone: list[str]
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    command = parse_command(words.split())

    def host(path: str) -> Path:
        return Path(path.replace("OUT", str(tmp_path)))

    assert missing(command, host, began=0.0) == gone


def test_an_old_file_is_not_what_the_command_wrote(tmp_path: Path) -> None:
    model = tmp_path / "p.hdf5"
    model.write_text("x")
    os.utime(model, (1_000_000, 1_000_000))
    command = parse_command(["ssd", "prune", "-m", "a", "-o", str(model)])
    assert missing(command, Path, began=2_000_000.0) == [str(model)]


@pytest.fixture
def executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, Path]:
    """One run of a notebook with everything in it that nbclient alone would call a success."""
    home = tmp_path / "home"
    (home / ".ipython" / "profile_default" / "startup").mkdir(parents=True)
    (home / ".ipython" / "profile_default" / "startup" / "own.py").write_text("print(undefined_name)")
    (home / ".tao_mounts.json").write_text("the person's")
    monkeypatch.setenv("HOME", str(home))
    for name in ("IPYTHONDIR", "LOCAL_PROJECT_DIR", "LAUNCHER_MOUNTS", "UNSET"):
        monkeypatch.delenv(name, raising=False)
    notebook = written(
        tmp_path / "a.ipynb",
        "import os\nprint(FIXME == os.getcwd())",
        """\
with open(os.path.expanduser("~/.tao_mounts.json"), "w") as file:
    file.write('{"Mounts": []}')
!echo fine; cat ~/.tao_mounts.json""",
        "!exit 3",
        "!ls missing",
        "!touch should_not_be_$UNSET/x; rm -rf $UNSET/tfrecords/*",
        "%%bash\ntouch should_not_be\nrm -rf $UNSET/x",
        "%env LOCAL_PROJECT_DIR=/data/tlt-experiments\nprint(os.environ['LOCAL_PROJECT_DIR'] == FIXME)",
        "!tlt --version\n!tao ssd train -e missing.txt -r out",
        "1 / 0",
        "found = !ls missing; exit 4\nprint(len(found))",
        "!tao lisst | cat\n!tao ssd trian -k secret || true",
        "%%bash\ntao --version | head -1\nif false; then tao nonsense; fi",
        "print('behind')",
    )
    before = notebook.read_bytes()
    code = tao(["notebook", "run", str(notebook), "--keep-going", "--quick"])
    assert notebook.read_bytes() == before
    return code, capsys.readouterr().out, tmp_path


def test_every_kind_of_failure_is_told_and_the_run_goes_on(executed: tuple[int, str, Path]) -> None:
    code, out, folder = executed
    assert code == 1
    notebook = json.loads((folder / "a.executed.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    states = [cell["metadata"]["taomagic"]["state"] for cell in cells]
    assert states == ["ok", "ok", *["failed"] * 4, "ok", *["failed"] * 4, "ok", "ok"]
    assert STATUS_MIME not in json.dumps(notebook)
    texts = ["".join("".join(o.get("text", "")) for o in cell["outputs"]) for cell in cells]
    assert texts[0] == f"FIXME isn't defined in this notebook; it is now {folder}.\nTrue\n"
    assert texts[1].replace("\r", "") == 'fine\n{"Mounts": []}'
    assert (folder / "home" / ".tao_mounts.json").read_text() == "the person's"
    assert texts[6].startswith("LOCAL_PROJECT_DIR: /data/tlt-experiments isn't here")
    assert texts[6].endswith("True\n")
    assert not list(folder.glob("should_not_be*"))
    for told in (
        "[13/13] print('behind')",
        "Exit code 3: exit 3",
        "Exit code 4: ls missing; exit 4",
        "Exit code 2: tao lisst\n",
        "Exit code 2: tao ssd trian\n",
        "$UNSET is unset, so that this line would work on /tfrecords/*.",
        "$UNSET is unset, so that this line would work on /x.",
        "SpecProblem: missing.txt",
        "ZeroDivisionError: division by zero",
        "5 of 13 cells went well, 8 failed, 0 didn't run",
        "QUICK RUN",
    ):
        assert told in out, told
    assert "undefined_name" not in out


def test_a_run_ends_at_an_exception_as_run_all_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = written(tmp_path / "b.ipynb", "!exit 1", "1 / 0", "print(3)")
    code = tao(["notebook", "run", str(notebook), "--out", str(tmp_path / "c.ipynb")])
    out = capsys.readouterr().out
    assert code == 1
    assert "0 of 3 cells went well, 2 failed, 1 didn't run" in out
    assert (tmp_path / "c.ipynb").is_file()
    assert not (tmp_path / "b.executed.ipynb").exists()


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["notebook"], 2, "needs a word: run"),
        (["notebook", "rnu", "a.ipynb"], 2, "doesn't know rnu"),
        (["notebook", "run"], 2, "required: NOTEBOOK"),
        (["notebook", "run", "missing.ipynb"], 1, "can't be read: No such file"),
        (["notebook", "run", "text.ipynb"], 1, "This is no Jupyter notebook"),
        (["notebook", "run", "text.ipynb", "--backend", "dokcer"], 2, "Did you mean docker?"),
        (["notebook", "run", "text.ipynb", "--out", "text.ipynb"], 2, "--out is the notebook itself"),
        (["notebook", "run", "empty.ipynb"], 1, "No cell of this notebook has code"),
        (["notebook", "run", "prose.ipynb"], 1, "No cell of this notebook has code"),
        (
            ["notebook", "run", "code.ipynb", "--backend", "docker"],
            1,
            "No Docker engine runs on this machine",
        ),
        (
            ["notebook", "run", "code.ipynb", "--backend", "docker", "--in-process"],
            2,
            "--in-process and --backend docker exclude each other",
        ),
    ],
)
def test_mistakes_with_notebooks_are_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    code: int,
    text: str,
) -> None:
    (tmp_path / "text.ipynb").write_text("no notebook")
    nbformat.write(new_notebook(), tmp_path / "empty.ipynb")
    written(tmp_path / "prose.ipynb", " ")
    written(tmp_path / "code.ipynb", "print(1)")
    monkeypatch.chdir(tmp_path)
    assert tao(words) == code
    told = capsys.readouterr()
    assert text in told.err
    assert not told.out
    assert not list(tmp_path.glob("*.executed.ipynb"))


def test_a_notebook_with_line_ends_of_windows_is_read_as_any_other(tmp_path: Path) -> None:
    notebook = written(tmp_path / "a.ipynb", "!echo \\\r\n  --flag\r\n")
    assert running.text_of(running.read(notebook)) == "!echo \\\n  --flag\n"


def test_a_kernel_that_does_not_start_is_one_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no room for a kernel >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    notebook = written(tmp_path / "a.ipynb", "print(1)")
    assert tao(["notebook", "run", str(notebook)]) == 1
    told = capsys.readouterr()
    assert f"{python}: The notebook's kernel didn't start: no room for a kernel" in told.err
    assert "Traceback" not in told.err


def test_no_cell_runs_unguarded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """IPython goes on after a startup file that failed, and nothing would then keep `rm -rf $UNSET/` from running."""
    monkeypatch.setattr(
        running, "_STARTUP", "{names} {in_process} {stand_ins} {failures} {ready}\nimport no_such_module\n"
    )
    notebook = written(tmp_path / "a.ipynb", "!touch ran")
    assert tao(["notebook", "run", str(notebook)]) == 1
    assert "The notebook's kernel isn't ready to guard its cells" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_a_kernel_that_dies_ends_the_run_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notebook = written(tmp_path / "a.ipynb", "import os\nos.kill(os.getpid(), 9)", "print(2)")
    assert tao(["notebook", "run", str(notebook), "--keep-going"]) == 1
    out = capsys.readouterr().out
    assert "The kernel died." in out
    assert "0 of 2 cells went well, 1 failed, 1 didn't run" in out


def test_an_interrupt_ends_the_cell_its_command_and_the_run(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".tao_mounts.json").write_text("the person's")
    write = """\
import os
with open(os.path.expanduser("~/.tao_mounts.json"), "w") as file:
    file.write('{"Mounts": []}')
"""
    engine = Path(__file__).parents[1] / "browser" / "lab_engine.py"
    acting = f"""\
import sys
import taomagic.launcher.preflight
taomagic.launcher.preflight.check = lambda *_: ()
from taomagic.launcher.runners.process import ProcessRunner
runner = ProcessRunner([sys.executable, "-u", {str(engine)!r}, "9000"])
get_ipython().magics_manager.registry["TaoMagics"].runner = runner
"""
    slow = "print('from the cell')\n!tao ssd train -e a.txt -r out -k key"
    notebook = written(tmp_path / "a.ipynb", write + acting, slow, "print('behind')")
    run = subprocess.Popen(
        [sys.executable, "-m", "taomagic", "notebook", "run", str(notebook)],
        env={**os.environ, "HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("ssd/weights/*")):
            assert run.poll() is None, run.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        # As a terminal does it: to all that it has started, and not to the kernel, which is in a session of its own.
        os.killpg(run.pid, signal.SIGINT)
        out = run.communicate(timeout=60)[0]
    finally:
        if run.poll() is None:
            run.kill()
    assert run.returncode == 130, out
    assert "1 of 3 cells went well, 1 failed, 1 didn't run" in out
    assert "└ Interrupted." in out
    assert "Traceback" not in out
    executed = json.loads((tmp_path / "a.executed.ipynb").read_text())
    assert "from the cell" in json.dumps(executed["cells"][2]["outputs"])
    (log,) = tmp_path.glob(".tao/jobs/*/log.txt")
    engine_pid = int(re.search(r"Training Loop, process (\d+)", log.read_text())[1])
    with pytest.raises(ProcessLookupError):
        os.kill(engine_pid, 0)
    assert (home / ".tao_mounts.json").read_text() == "the person's"


def test_each_of_two_runs_has_its_own_map_that_begins_as_the_persons(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".tao_mounts.json").write_text("the person's")
    monkeypatch.setenv("HOME", str(tmp_path))
    maps = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        _, environment = running._kernel(running.Wishes(tmp_path / name, {}, {}))
        maps.append(home_map(environment))
        # A run that a cell of another run starts begins as that one is.
        monkeypatch.setenv("TAOMAGIC_HOME_MAP", str(maps[-1]))
    assert maps[0] != maps[1]
    assert [file.read_text() for file in maps] == ["the person's"] * 2


def test_missing_packages_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "nbclient" else real(name, *more)
    )
    assert tao(["notebook", "run", str(tmp_path / "a.ipynb")]) == 1
    assert "nbclient must be installed" in capsys.readouterr().err
