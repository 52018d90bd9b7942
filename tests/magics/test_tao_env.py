from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell

import taomagic
from taomagic.errors import EnvironmentProblem, SpecProblem, TaoError, UsageProblem
from taomagic.project.environment import derive
from taomagic.view.tables import environment_table


def test_the_variables_are_set_in_the_environment_and_in_the_namespace(
    shell: InteractiveShell, project: Path
) -> None:
    assert os.environ["LOCAL_PROJECT_DIR"] == shell.user_ns["LOCAL_PROJECT_DIR"] == str(project)
    assert os.environ["USER_EXPERIMENT_DIR"] == "/workspace/tao-experiments/ssd"
    mounts = json.loads((project / ".tao_mounts.json").read_text())["Mounts"]
    assert {"source": str(project), "destination": "/workspace/tao-experiments"} in mounts


def test_the_table_shows_both_sides_what_exists_and_where_values_come_from(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    capsys.readouterr()
    shell.run_line_magic("tao_env", "ssd --show --data-dir elsewhere")
    table = capsys.readouterr().out
    row = next(line for line in table.splitlines() if line.strip().startswith(str(project / "elsewhere")))
    assert "/workspace/tao-experiments/data" in row
    assert "✗ no" in table
    assert "✓ yes" in table
    assert "argument" in table
    assert "secret-key" not in table


def test_the_html_table_is_escaped_and_tells_existence_in_words(project: Path) -> None:
    html = environment_table(
        derive("ssd", project, {"HOME": "/h", "LOCAL_DATA_DIR": "/d/<b>&"})
    )._repr_html_()
    assert "&lt;b&gt;&amp;" in html
    assert "<b>" not in html
    assert "✗ no" in html
    assert "USER_EXPERIMENT_DIR" in html
    assert "<script" not in html


def test_show_changes_nothing(shell: InteractiveShell, project: Path) -> None:
    before = dict(os.environ)
    shell.run_line_magic("tao_env", "detectnet_v2 --show --project-dir other")
    assert dict(os.environ) == before
    assert not (project / "other").exists()


def test_gpus_and_backend_are_kept(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    shell.run_line_magic("tao_env", "ssd --gpus 2 --backend process")
    assert "Commands run on: process" in capsys.readouterr().out
    assert shell.user_ns["NUM_GPUS"] == "2"
    assert os.environ["TAOMAGIC_BACKEND"] == "process"


def test_a_notebook_of_family_b_and_one_of_colab(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    capsys.readouterr()
    shell.run_line_magic("tao_env", "rtdetr")
    shown = capsys.readouterr().out
    assert "HOST_RESULTS_DIR" in shown
    assert "Path family b" in shown
    assert os.environ["RESULTS_DIR"] == shell.user_ns["RESULTS_DIR"] == "/results"
    assert "USER_EXPERIMENT_DIR" not in os.environ
    shell.run_line_magic("tao_env", "ssd --family c --data-dir elsewhere")
    assert "Mount map: none" in capsys.readouterr().out
    assert os.environ["DATA_DIR"] == str(project / "elsewhere")
    assert os.environ["TAO_DOCKER_DISABLE"] == "1"
    assert "LAUNCHER_MOUNTS" not in os.environ
    shell.run_line_magic("tao_env", "ssd --family a")
    assert "TAO_DOCKER_DISABLE" not in os.environ
    assert os.environ["KEY"] == "secret-key"


def test_a_key_alone_is_asked_for_without_echo(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "typed")
    shell.run_line_magic("tao_env", "ssd --key")
    assert os.environ["KEY"] == "typed"


def test_a_key_that_can_not_be_asked_for_is_an_error_with_a_way_out(
    shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("getpass.getpass", refuse)
    with pytest.raises(EnvironmentProblem, match="key") as caught:
        shell.run_line_magic("tao_env", "ssd --key")
    assert "%env KEY" in caught.value.hint


def test_a_spec_cell_is_checked_written_and_compared(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], project: Path
) -> None:
    capsys.readouterr()
    shell.run_cell_magic("tao_spec", "my.txt", "random_seed: 42\n")
    assert (project / "specs" / "my.txt").read_text() == "random_seed: 42\n"
    assert "In commands: /workspace/tao-experiments/ssd/specs/my.txt" in capsys.readouterr().out
    shell.run_cell_magic("tao_spec", "my.txt", "random_seed: 43\n")
    assert "-random_seed: 42\n+random_seed: 43" in capsys.readouterr().out


def test_a_wrong_spec_is_told_with_its_line_and_not_written(shell: InteractiveShell, project: Path) -> None:
    shell.run_cell_magic("tao_spec", "my.txt", "random_seed: 42\n")
    with pytest.raises(SpecProblem) as caught:
        shell.run_cell_magic(
            "tao_spec", "my.txt", "random_seed: 42\ntraining_config {\n  batch_size_per_gpus: 4\n}\n"
        )
    assert caught.value.line == 3
    assert "batch_size_per_gpu" in caught.value.hint
    assert (project / "specs" / "my.txt").read_text() == "random_seed: 42\n"


def test_a_spec_stays_in_its_folder(shell: InteractiveShell) -> None:
    with pytest.raises(UsageProblem, match="isn't a file in"):
        shell.run_cell_magic("tao_spec", "../x.txt", "random_seed: 42\n")


def test_loading_twice_and_unloading_twice_is_harmless(shell: InteractiveShell) -> None:
    taomagic.load_ipython_extension(shell)
    taomagic.load_ipython_extension(shell)
    assert len([each for each in shell.configurables if type(each).__name__ == "TaoMagics"]) == 1
    taomagic.unload_ipython_extension(shell)
    taomagic.unload_ipython_extension(shell)
    assert shell.find_line_magic("tao") is None
    assert shell.find_cell_magic("tao_spec") is None
    assert "TaoMagics" not in shell.magics_manager.registry


def test_config_shows_and_sets_the_options(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_line_magic("config", "TaoMagics.raw = True")
    assert shell.magics_manager.registry["TaoMagics"].raw is True


def test_config_tells_what_each_option_means(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    shell.run_line_magic("config", "TaoMagics")
    shown = capsys.readouterr().out
    for name in ("backend", "lang", "panel", "raw", "shell_lines"):
        assert f"TaoMagics.{name}=" in shown
    assert "TAOMAGIC_SHELL_LINES=0" in shown


def test_language_and_panel_are_handed_on(shell: InteractiveShell) -> None:
    shell.run_line_magic("tao_env", "ssd --lang zh-CN")
    assert os.environ["TAO_LANG"] == "zh"
    assert shell.magics_manager.registry["TaoMagics"].lang == "zh"
    shell.run_line_magic("config", "TaoMagics.lang = ''")
    assert "TAO_LANG" not in os.environ
    shell.run_line_magic("config", "TaoMagics.panel = 'text'")
    assert os.environ["TAO_PANEL"] == "text"


def test_the_release_is_kept_and_shown(shell: InteractiveShell, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    shell.run_line_magic("tao_env", "ssd --release 4.0.0 --show")
    assert "TAO release: 4.0.0" in capsys.readouterr().out
    assert "TAOMAGIC_RELEASE" not in os.environ
    shell.run_line_magic("tao_env", "ssd --release v4.0.0")
    shell.run_line_magic("tao", "info")
    assert "toolkit_version: 4.0.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("sdd", "sdd", "Did you mean ssd?"),
        ("--bakend docker", "--bakend", "Did you mean --backend?"),
        ("--backend dockr", "dockr", "Did you mean docker?"),
        ("--lang fr", "fr", "en, zh"),
        ("--release 9.9", "9.9", "Releases: "),
        ("--family d", "d", "a: LOCAL_"),
        ("nosuchnet", "nosuchnet", "--family b"),
        ("--gpus many", "--gpus", "%tao_env? tells more"),
        ("ssd more", "more", "%tao_env? tells more"),
    ],
)
def test_slips_are_told_with_what_was_meant(
    line: str, message: str, hint: str, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    before = dict(os.environ)
    run = shell.run_cell(f"%tao_env {line}")
    assert isinstance(run.error_in_exec, TaoError)
    assert message in str(run.error_in_exec)
    assert hint in run.error_in_exec.hint
    assert "Traceback" not in capsys.readouterr().out
    assert dict(os.environ) == before


def test_a_mistyped_flag_does_not_tell_the_key_behind_it(shell: InteractiveShell) -> None:
    with pytest.raises(UsageProblem) as caught:
        shell.run_line_magic("tao_env", "ssd --kye=secret1 --kee secret2")
    assert "secret" not in str(caught.value)


def test_the_arguments_are_listed_on_request(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    shell.run_line_magic("tao_env", "--help")
    assert "--release" in capsys.readouterr().out
    shell.run_cell_magic("tao_spec", "-h", "x")
    assert "LOCAL_SPECS_DIR" in capsys.readouterr().out
