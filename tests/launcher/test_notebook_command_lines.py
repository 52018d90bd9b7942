"""Every TAO command of the two notebooks, from the cell's text to the engine's arguments. Nothing is run."""

from __future__ import annotations

import argparse
import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from taomagic import hooks
from taomagic.engine.cli import module_of, parse_words
from taomagic.launcher import preflight
from taomagic.launcher.cells import Names, split_cell, split_words
from taomagic.launcher.command import Command, parse_command
from taomagic.launcher.context import Context
from taomagic.project.environment import Environment, derive
from taomagic.spec.arguments import parser

from .notebook_command_lines import ROWS, Row

PATHS = {
    "spec",
    "output",
    "model",
    "results_dir",
    "image_dir",
    "label_dir",
    "image_output_dir",
    "label_output_dir",
    "engine_file",
    "cal_cache_file",
    "cal_data_file",
    "cal_image_dir",
    "cal_json_file",
}


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TAOMAGIC_KEY", raising=False)


@cache
def environment_of(net: str, family: str) -> Environment:
    return derive(net, Path("/nb"), {"HOME": "/h", "LOCAL_PROJECT_DIR": "/proj"}, family=family)


def commands_of(cell: str, values: dict[str, str]) -> list[Command]:
    """The commands of a cell, through the same steps as in a notebook."""
    manager = TransformerManager()  # type: ignore[no-untyped-call]
    manager.token_transformers.append(hooks._shell_line(lambda: True))
    calls = [
        node.args
        for node in ast.walk(ast.parse(manager.transform_cell(cell)))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "run_line_magic"
    ]
    lines = [ast.literal_eval(line) for magic, line in calls if ast.literal_eval(magic) == "tao"]
    stages = [stage for line in lines for stage in split_cell(line)]
    return [parse_command(split_words(stage.text, Names({}, values), shell=stage.shell)) for stage in stages]


def host_path(shorthand: str, net: str) -> Path:
    """``U/x``: x in the experiment's folder on this machine, and so on."""
    start, _, rest = shorthand.partition("/")
    return {"S": Path("/nb/specs"), "U": Path("/proj") / net, "D": Path("/proj/data")}[start] / rest


@cache
def defaults(task: str, subtask: str) -> dict[str, object]:
    """The values of flags that aren't given, of the types that parsing gives them."""
    found: dict[str, object] = {}
    for action in parser(task, subtask)._actions:
        if action.default == argparse.SUPPRESS:
            continue
        typed = action.type if callable(action.type) and isinstance(action.default, str) else None
        found[action.dest] = typed(action.default) if typed else action.default
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.generation}: {row.words}")
def test_each_flag_of_a_notebooks_command_means_what_its_generation_meant(row: Row) -> None:
    environment = environment_of(row.net, row.family)
    values = {**environment.values(), "EPOCH": "080", "TRAIN_GPU_INDEX": "0 1"}
    [command] = commands_of(row.cell, values)
    assert command.label == row.words
    arguments = parse_words(list(command.words))
    assert f"{arguments.task} {arguments.subtask}".strip() == row.words
    paths, usual = environment.mounts.paths, defaults(arguments.task, arguments.subtask)
    found = {
        name: paths.to_host(str(value)) if name in PATHS else value
        for name, value in vars(arguments).items()
        if name not in {"task", "subtask"} and (name in row.sets or value != usual[name])
    }
    expected = {
        name: host_path(value, row.net) if name in PATHS else value for name, value in row.sets.items()
    }
    assert found == expected
    assert find_spec(module_of(arguments.task, arguments.subtask)) is not None


def test_preflight_looks_for_family_bs_paths_on_this_machine(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "home")}
    derive("ssd", tmp_path, environ, family="b").apply(environ)
    (tmp_path / "specs" / "convert.txt").write_text(
        'kitti_config {\n  root_directory_path: "/data/training"\n  image_dir_name: "image_2"\n'
        '  label_dir_name: "label_2"\n  image_extension: ".png"\n  partition_mode: "random"\n  num_partitions: 2\n'
        '  val_split: 14\n  num_shards: 2\n}\nimage_directory_path: "/data/training"\n'
    )
    for folder in ("image_2", "label_2"):
        (tmp_path / "data" / "training" / folder).mkdir(parents=True)
    context = Context.current(environ, tmp_path)
    words = ["ssd", "dataset_convert", "-d", "/specs/convert.txt", "-o", "/results/tfrecords/train"]
    assert preflight.check(parse_command(words), context) == ()
    (tmp_path / "data" / "training" / "label_2").rmdir()
    with pytest.raises(Exception, match="/data/training/label_2") as caught:
        preflight.check(parse_command(words), context)
    assert f"(here: {tmp_path}/data/training/label_2)" in str(caught.value)


@pytest.mark.parametrize("place", ["/specs", "/results", "/model"])
def test_family_bs_paths_without_a_map_point_to_tao_env(place: str, tmp_path: Path) -> None:
    if Path(place).exists():
        pytest.skip(f"this machine has a {place}")
    context = Context.current({"HOME": str(tmp_path)}, tmp_path)
    words = ["ssd", "prune", "-m", f"{place}/a.tlt", "-o", "b.tlt", "-k", "key"]
    with pytest.raises(Exception, match="no such model") as caught:
        preflight.check(parse_command(words), context)
    assert "%tao_env" in getattr(caught.value, "hint", "")
