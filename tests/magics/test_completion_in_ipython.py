"""The Tab key, asked as a front end asks."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from IPython.core.completer import provisionalcompleter, rectify_completions
from IPython.core.interactiveshell import InteractiveShell

import taomagic
from taomagic.launcher.completion import ENV_FLAGS


def answers(shell: InteractiveShell, cell: str) -> list[str]:
    """Return the cell with each completion put in."""
    with provisionalcompleter():
        found = list(rectify_completions(cell, shell.Completer.completions(cell, len(cell))))
    return [cell[: each.start] + each.text + cell[each.end :] for each in found]


@pytest.mark.parametrize("jedi", [True, False])
def test_our_answers_stand_alone_and_in_our_order(shell: InteractiveShell, jedi: bool) -> None:
    shell.Completer.use_jedi = jedi
    shell.user_ns["train"] = 1
    assert answers(shell, "r = %tao ssd tr") == ["r = %tao ssd train"]
    Path("specs/ssd_train.txt").touch()
    assert answers(shell, "%%tao ssd train\n  -e $SPECS_DIR/") == [
        "%%tao ssd train\n  -e $SPECS_DIR/ssd_train.txt"
    ]
    models = answers(shell, "!tao ssd evaluate -m $USER_EXPERIMENT_DIR/train-")
    assert sorted(models) == [
        f"!tao ssd evaluate -m $USER_EXPERIMENT_DIR/train-{n}.hdf5" for n in ("2", "3", "400")
    ]
    assert answers(shell, "%tao ssd train -")[0] == "%tao ssd train -e"


def test_other_completions_are_left_alone(shell: InteractiveShell) -> None:
    shell.Completer.use_jedi = False
    shell.user_ns["taonomy"] = 1
    assert "taonomy" in answers(shell, "taono")
    assert "%tao_env" in answers(shell, "%tao_e")


def test_the_cursor_may_stand_in_the_middle_of_a_cell(shell: InteractiveShell) -> None:
    cell = "%%tao\nssd tr\nssd evaluate -m x\n"
    with provisionalcompleter():
        found = list(shell.Completer.completions(cell, cell.index("tr") + 2))
    assert [each.text for each in found] == ["train"]


def test_nothing_is_left_after_unloading(shell: InteractiveShell) -> None:
    taomagic.load_ipython_extension(shell)
    assert len([each for each in shell.Completer.custom_matchers if "tao" in each.matcher_identifier]) == 1
    taomagic.unload_ipython_extension(shell)
    assert not shell.Completer.custom_matchers
    assert answers(shell, "%tao ssd tra") == []


def test_a_broken_mount_map_takes_nothing_but_its_paths(shell: InteractiveShell) -> None:
    Path(".tao_mounts.json").write_text("{")
    assert answers(shell, "%tao ssd tr") == ["%tao ssd train"]


def test_all_arguments_of_the_environment_are_known(shell: InteractiveShell) -> None:
    parser: argparse.ArgumentParser = shell.magics_manager.registry["TaoMagics"].tao_env.parser
    flags = [option for action in parser._actions for option in action.option_strings]
    assert sorted(flags) == sorted(ENV_FLAGS)
