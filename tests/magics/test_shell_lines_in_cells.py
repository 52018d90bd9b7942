"""`!tao …` lines in cells, as notebooks written for NVIDIA's launcher have them."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

import taomagic
from taomagic.errors import EnvironmentProblem, StageFailed, UsageProblem
from taomagic.launcher.result import Result

from .conftest import new_project

PRUNE = "ssd prune -m $USER_EXPERIMENT_DIR/{}.hdf5 -o $USER_EXPERIMENT_DIR/out.hdf5 -k $KEY"
CALL = "get_ipython().run_line_magic('tao', {!r})\n"


@pytest.fixture
def transform(shell: InteractiveShell) -> Callable[[str], str]:
    return shell.input_transformer_manager.transform_cell


def test_a_line_becomes_a_magic_and_a_continued_one_keeps_its_lines(
    transform: Callable[[str], str],
) -> None:
    assert transform("!tao ssd train -e x") == CALL.format("!tao ssd train -e x")
    cell = "a = 1\n!tao ssd train \\\n    -e x \\ \n    -r y\\\n    -k z\nb = 2\n"
    assert transform(cell).splitlines() == [
        "a = 1",
        CALL.format("!tao ssd train      -e x      -r y     -k z").rstrip(),
        "",
        "",
        "",
        "b = 2",
    ]


def test_lines_in_blocks_stay_in_their_blocks(transform: Callable[[str], str]) -> None:
    cell = (
        "for m in models:\n    if m:\n        !tao ssd evaluate -m {m} \\\n            -e x\n    print(m)\n"
    )
    lines = transform(cell).splitlines()
    assert lines[2] == "        " + CALL.format("!tao ssd evaluate -m {m}              -e x").rstrip()
    assert lines[4] == "    print(m)"
    compile("\n".join(lines), "<cell>", "exec")


@pytest.mark.parametrize(
    "cell",
    [
        "x = !tao list\n",
        "!!tao list\n",
        "%%bash\n!tao list\ntao list\n",
        'text = """\n!tao ssd train -e x\n"""\n',
        "# !tao list\n",
        "f(\n!tao\n)\n",
        "!tao ssd train -e x | tee log.txt\n",
        "!tao ssd train -e x \\\n  -r y > log.txt\nprint(1)\n",
        "!taoist\n",
        "!ls\n",
        "!!tao",
    ],
)
def test_what_is_no_tao_line_of_its_own_stays_as_ipython_reads_it(
    cell: str, transform: Callable[[str], str]
) -> None:
    assert transform(cell) == TransformerManager().transform_cell(cell)


def test_what_has_been_read_once_is_not_read_again(transform: Callable[[str], str]) -> None:
    once = transform("!echo it's\nif 1:\n    !tao list\n!tao ssd train -e '{x}' \\\n -r y\n")
    assert transform(once) == once
    assert once.count("'tao'") == 2


def test_magics_that_run_cells_read_the_lines_in_them(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_cell("%%capture\n!tao info")
    assert not capsys.readouterr().out
    shell.run_cell("%%time\n!tao info")
    assert "Configuration of the TAO Toolkit Instance" in capsys.readouterr().out


# What cells are made of, whole and broken.
STATEMENTS = [
    "for x in y:",
    "    pass",
    "x = 1",
    "def f():",
    "  return (",
    ")",
    "[",
    "]",
    "{",
    "}",
    "\\",
    "if x: \\",
]
SPECIAL = [
    "!ls -l",
    "!echo it's",
    "%time 1",
    "x = !ls",
    "!ls \\",
    "%%bash",
    "x?",
    "%tao_env ssd",
    "!ta",
    "!tlt-train",
]
TEXTS = ["'''", '"""', "# tao", "tao = 3", "print('!tao')", "tao", "x = '%tao'", "汉字 = 1", "", " "]
PIECES = st.sampled_from([*STATEMENTS, *SPECIAL, *TEXTS])


@pytest.fixture(scope="module")
def plain_shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InteractiveShell]:
    with new_project(tmp_path_factory.mktemp("plain")):
        config = Config()
        config.HistoryManager.enabled = False
        shell = InteractiveShell(config=config)
        taomagic.load_ipython_extension(shell)
        yield shell
        taomagic.unload_ipython_extension(shell)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(pieces=["  return (", ")", ")", "!tlt-train"], between="\n    ")
@example(pieces=["  return (", ")", ")", "!tao info"], between="\n    ")
@given(pieces=st.lists(PIECES, max_size=8), between=st.sampled_from(["\n", "\n    ", "\n\n"]))
def test_cells_without_such_lines_come_out_as_without_us(
    pieces: list[str], between: str, plain_shell: InteractiveShell
) -> None:
    cell = between.join(pieces)

    def outcome(manager: TransformerManager) -> str:
        try:
            return manager.transform_cell(cell)
        except (SyntaxError, IndexError, RuntimeError) as error:  # IPython's own, on both sides alike
            return repr(error)

    assert outcome(plain_shell.input_transformer_manager) == outcome(TransformerManager())


def test_a_line_shows_its_command_and_a_failure_ends_the_cell(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shell.run_cell(f"!tao {PRUNE.format('train-2')}\ndone = True")
    assert run.success
    assert shell.user_ns["done"]
    assert "✓ tao ssd prune succeeded" in capsys.readouterr().out
    run = shell.run_cell(f"!tao {PRUNE.format('fail-3')}\nnever = True")
    assert isinstance(run.error_in_exec, StageFailed)
    assert "never" not in shell.user_ns


def test_python_names_in_loops_and_functions_count_before_the_environments(shell: InteractiveShell) -> None:
    shell.run_cell(
        "def prune(name, flags='-pth 0.5 -eq union'):\n"
        "    !tao ssd prune -m $USER_EXPERIMENT_DIR/{name}.hdf5 \\\n"
        "        -o $USER_EXPERIMENT_DIR/{name}-out.hdf5 $flags\n"
        "results = []\n"
        "for name in ('ok', 'train-2'):\n"
        "    prune(name)\n"
        "    r = %tao -o kept ssd prune -m $$x -o $USER_EXPERIMENT_DIR/{name}.hdf5\n"
    )
    shell.run_line_magic("tao", "list")
    jobs = sorted((path.stat().st_mtime, path.read_text()) for path in Path(".tao/jobs").glob("*/job.json"))
    assert ["ok-out.hdf5 -pth 0.5 -eq union" in jobs[0][1], len(jobs)] == [True, 1]


def test_the_environments_value_is_had_with_two_dollars(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL", "ok")
    shell.user_ns["MODEL"] = "nothing"
    run = shell.run_cell("!tao ssd prune -m $USER_EXPERIMENT_DIR/$$MODEL.hdf5 -o $USER_EXPERIMENT_DIR/o.hdf5")
    assert isinstance(run.result, Result)
    assert run.result.ok


def test_an_unset_variable_is_named_and_nothing_starts(shell: InteractiveShell) -> None:
    run = shell.run_cell("!tao ssd prune -m $NOT_SET/x.hdf5 -o y.hdf5")
    assert isinstance(run.error_in_exec, EnvironmentProblem)
    assert not list(Path(".tao").glob("jobs/*"))


def test_a_traceback_below_a_continued_line_shows_the_right_line(shell: InteractiveShell) -> None:
    run = shell.run_cell("!tao \\\n info\nx = 1\n1 / 0\n")
    assert isinstance(run.error_in_exec, ZeroDivisionError)
    assert traceback.extract_tb(run.error_in_exec.__traceback__)[-1].lineno == 4


def test_own_options_stand_where_the_shells_command_takes_them(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    run = shell.run_cell(f"!tao --raw {PRUNE.format('train-2')} --backend process")
    assert run.success, run.error_in_exec
    assert "250ms/step" in capsys.readouterr().out
    run = shell.run_cell(f"!tao {PRUNE.format('polite')} --background")
    assert not run.result.state.finished
    shell.run_cell(f"!tao stop {run.result.id}")
    assert run.result.state.finished
    run = shell.run_cell("!tao --release 4.0.0 info")
    assert "toolkit_version: 4.0.0" in capsys.readouterr().out
    assert "TAOMAGIC_RELEASE" not in os.environ
    run = shell.run_cell(f"!tao {PRUNE.format('ok')} --backend nowhere")
    assert isinstance(run.error_in_exec, UsageProblem)


def test_a_line_that_needs_a_shell_runs_the_command_in_one(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert shell.run_cell("!tao info | grep toolkit_version > version.txt").success
    assert Path("version.txt").read_text().startswith("toolkit_version:")


def test_the_reading_of_lines_can_be_turned_off(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch, transform: Callable[[str], str]
) -> None:
    native = "get_ipython().system('tao list')\n"
    monkeypatch.setenv("TAOMAGIC_SHELL_LINES", "0")
    taomagic.load_ipython_extension(shell)
    assert transform("!tao list") == native
    shell.run_line_magic("config", "TaoMagics.shell_lines = True")
    assert transform("!tao list") == CALL.format("!tao list")
    shell.run_line_magic("config", "TaoMagics.shell_lines = False")
    assert transform("!tao list") == native
    shell.run_line_magic("config", "TaoMagics.shell_lines = True")
    taomagic.unload_ipython_extension(shell)
    assert transform("!tao list") == native


def test_a_cell_magic_of_one_line_is_understood(shell: InteractiveShell) -> None:
    run = shell.run_cell(f"%%tao {PRUNE.format('ok')}")
    assert run.success
    assert run.result.ok


def test_percent_where_two_were_meant_is_understood(shell: InteractiveShell) -> None:
    run = shell.run_cell(
        "r = %tao ssd prune\n  -m $USER_EXPERIMENT_DIR/ok.hdf5\n  -o $USER_EXPERIMENT_DIR/o.hdf5\nx = r.ok"
    )
    assert run.success
    assert shell.user_ns["x"] is True
