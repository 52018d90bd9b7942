"""What is filled in while cells of NVIDIA's notebooks run, and which cells are theirs: on their syntax trees alone."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from taomagic.notebook.fillings import Fillings, filled, undefined_names
from taomagic.notebook.lazy import Waiting
from taomagic.notebook.own_map import Redirected
from taomagic.notebook.shell_guard import missing_address
from taomagic.project.nets import SHIPPED_PROJECTS, is_placeholder

HERE = Path("/nb")
#: As TAO 5.5's notebooks ship it.
SHIPPED = (
    "FIXME",
    "/path/to/local/tao-experiments",
    "/path/to/local/experiments",
    "/path/to/local/tlt-experiments",
    "/path/to/tao-experiments",
    "/path/to/your/tao-experiments",
    "YOUR_LOCAL_PROJECT_DIR_PATH",
    "YOUR_LOCAL_EXPERIMENT_DIR",
    "/data/tlt-experiments",
    "/workspace/tao-experiments/",
)


class Cells:
    """Runs cells as IPython does, with `%env` and nothing else."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {"get_ipython": lambda: self}
        self.environ: dict[str, str] = {}
        self.told: list[str] = []
        self.fillings = Fillings(self.namespace, undefined_names(HERE), HERE, self.told.append)

    def run_line_magic(self, name: str, line: str) -> None:
        assert name in {"env", "set_env"}
        key, _, value = line.partition("=" if "=" in line else " ")
        self.environ[key.strip()] = value.strip()

    def system(self, line: str) -> None:
        self.environ["ran"] = line

    def run(self, cell: str) -> None:
        tree = ast.parse(TransformerManager().transform_cell(cell))
        tree = ast.fix_missing_locations(self.fillings.visit(tree))
        os = type("os", (), {"environ": self.environ, "getenv": self.environ.get})
        exec(compile(tree, "cell", "exec"), self.namespace | {"os": os}, self.namespace)


@pytest.mark.parametrize("value", SHIPPED)
@pytest.mark.parametrize(
    "cell",
    [
        "%env LOCAL_PROJECT_DIR={}",
        "%set_env LOCAL_PROJECT_DIR {}",
        'os.environ["LOCAL_PROJECT_DIR"] = "{}"  # your own',
        "if True:\n    os.environ[\"LOCAL_PROJECT_DIR\"]='{}'",
        'os.environ.setdefault("LOCAL_PROJECT_DIR", "{}")',
        'os.environ.update(LOCAL_PROJECT_DIR="{}")',
        'os.environ.update({{"LOCAL_PROJECT_DIR": "{}"}})',
        'project = os.environ["LOCAL_PROJECT_DIR"] = "{}"',
        'LOCAL_PROJECT_DIR: str = "{}"\nos.environ["LOCAL_PROJECT_DIR"] = LOCAL_PROJECT_DIR',
        'os.environ["LOCAL_PROJECT_DIR"] = os.getenv("LOCAL_PROJECT_DIR", "{}")',
    ],
)
def test_every_project_that_notebooks_ship_with_becomes_the_notebooks_folder(cell: str, value: str) -> None:
    assert is_placeholder(value) or value.rstrip("/") in SHIPPED_PROJECTS
    cells = Cells()
    cells.run(cell.format(value))
    assert cells.environ["LOCAL_PROJECT_DIR"] == "/nb"
    assert cells.told == [
        f"LOCAL_PROJECT_DIR: {value} isn't here; the notebook's folder takes its place: /nb"
    ]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("LOCAL_DATA_DIR", "/path/to/local/tao-experiments/data", "/nb/data"),
        ("SAMPLES_DIR", "FIXME", "/nb"),
        ("HOST_DATA_DIR", "/path/to/local/tao-experiments/data/x", "/nb/data/x"),
        ("KEY", "YOUR_KEY", "YOUR_KEY"),
        ("USER_EXPERIMENT_DIR", "/workspace/tao-experiments/ssd", "/workspace/tao-experiments/ssd"),
        ("SPECS_DIR", "/workspace/tao-experiments/ssd/specs", "/workspace/tao-experiments/ssd/specs"),
        ("LOCAL_PROJECT_DIR", "/home/ada/tao", "/home/ada/tao"),
        ("LOCAL_PROJECT_DIR", "FIXMEUP", "FIXMEUP"),
    ],
)
def test_only_folders_of_this_machine_that_nobody_has_named_are_filled_in(
    name: str, value: str, expected: str
) -> None:
    assert filled(name, value, HERE) == expected


@pytest.mark.parametrize("project", ["/data/tlt-experiments", "/path/to/local/tao-experiments"])
def test_a_shipped_project_that_is_there_is_the_readers(
    monkeypatch: pytest.MonkeyPatch, project: str
) -> None:
    monkeypatch.setattr(Path, "is_dir", lambda path: str(path) == project)
    assert filled("LOCAL_PROJECT_DIR", project, HERE) == project
    assert filled("LOCAL_DATA_DIR", f"{project}/data", HERE) == f"{project}/data"


def test_missing_names_are_defined_where_a_cell_uses_them_and_nowhere_else() -> None:
    cells = Cells()
    cells.run("# FIXME later\nx = 'FIXME'\n!echo FIXME")
    assert "FIXME" not in cells.namespace
    cells.run("os.environ['LOCAL_PROJECT_DIR'] = FIXME\nos.environ['URL'] = KITTI_IMAGES_DOWNLOAD_URL")
    assert cells.environ == {"ran": "echo FIXME", "LOCAL_PROJECT_DIR": "/nb", "URL": ""}
    assert [each.split()[0] for each in cells.told] == ["FIXME", "KITTI_IMAGES_DOWNLOAD_URL"]
    assert "KITTI_LABELS_DOWNLOAD_URL" not in cells.namespace


@pytest.mark.parametrize("cell", ["FIXME = '/mine'\ny = FIXME", "from os import sep as FIXME\ny = FIXME"])
def test_the_cells_own_names_win(cell: str) -> None:
    cells = Cells()
    cells.run(cell)
    assert cells.namespace["y"] in {"/mine", "/"}
    assert not cells.told
    cells.run("z = FIXME")
    assert cells.namespace["z"] == cells.namespace["y"]


@pytest.mark.parametrize(
    "source",
    [
        "os.path.expanduser('~/.tao_mounts.json')",
        "os.path.join(os.path.expanduser('~'), '.tao_mounts.json')",
        "os.path.join(os.environ['HOME'], '.tlt_mounts.json')",
        "str(Path.home() / '.tao_mounts.json')",
        "str(Path.home().joinpath('.tao_mounts.json'))",
        "os.environ['HOME'] + '/.tao_mounts.json'",
        "f\"{os.environ['HOME']}/.tao_mounts.json\"",
    ],
)
def test_a_run_has_a_map_of_its_own_however_a_cell_spells_it(source: str) -> None:
    import os

    tree = ast.fix_missing_locations(Redirected(Path("/run/map.json")).visit(ast.parse(source, mode="eval")))
    assert eval(compile(tree, "cell", "eval"), {"os": os, "Path": Path}) == "/run/map.json"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("cat ~/.tao_mounts.json", "cat /run/map.json"),
        ("cp $HOME/.tao_mounts.json ${HOME}/.tlt_mounts.json", "cp /run/map.json /run/map.json"),
        ("cat project/.tao_mounts.json ~/.tao_mounts.json.bak", None),
    ],
)
def test_shell_lines_see_the_runs_map_too(line: str, expected: str | None) -> None:
    tree = Redirected(Path("/run/map.json")).visit(ast.parse(repr(line), mode="eval"))
    assert ast.literal_eval(tree) == (expected or line)


def test_the_projects_own_map_is_not_mistaken_for_the_home_map() -> None:
    source = "open(os.path.join(project, '.tao_mounts.json')).read()"
    tree = Redirected(Path("/run/map.json")).visit(ast.parse(source))
    assert ast.unparse(tree) == source


class Shell:
    """As much of an IPython as waiting for a cell takes."""

    def __init__(self) -> None:
        self.input_transformers_cleanup: list[Any] = []


@pytest.mark.parametrize(
    ("cell", "theirs"),
    [
        ("!tao ssd train -e a.txt", True),
        ("for x in y:\n    !tao model ssd train", True),
        ("lines = !tao-deploy ssd evaluate", True),
        ("!tlt detectnet_v2 train", True),
        ("%env LOCAL_PROJECT_DIR=/data", True),
        ('import os\nos.environ["HOST_DATA_DIR"] = "/data"', True),
        ("%env TAO_DOCKER_DISABLE=1", True),
        ('mounts_file = os.path.expanduser("~/.tao_mounts.json")', True),
        ("os.environ['URL_IMAGES'] = KITTI_IMAGES_DOWNLOAD_URL", True),
        ("%%bash\nset -e\ntao ssd train", True),
        ("x = FIXME", False),
        ("# FIXME\nprint('tao ssd train')", False),
        ("!echo tao; taos", False),
        ("%load_ext taomagic\n%tao_env ssd", False),
        ("%tao ssd train -e $SPECS_DIR/a.txt", False),
        ("!ls $LOCAL_PROJECT_DIR", False),
        ("%%bash\necho the tao of physics", False),
        ("DATA_DIR = '/data'", False),
    ],
)
def test_only_cells_of_nvidias_notebooks_wake_what_waits(
    cell: str, theirs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[str] = []
    monkeypatch.setattr("taomagic.notebook.lazy._prepare", lambda _, folder: prepared.append(folder))
    shell = Shell()
    hook = Waiting(shell)
    shell.input_transformers_cleanup.append(hook)
    lines = cell.splitlines(keepends=True)
    assert hook(lines) == lines
    assert bool(prepared) == theirs
    assert bool(shell.input_transformers_cleanup) != theirs


def test_a_cell_runs_though_preparing_for_it_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr("taomagic.notebook.lazy._prepare", fail)
    shell = Shell()
    shell.input_transformers_cleanup.append(Waiting(shell))
    assert shell.input_transformers_cleanup[0](["!tao info"]) == ["!tao info"]
    assert "can't prepare this notebook: no room" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('wget "$GONE" -O $HERE/a.zip', "GONE"),
        ("if [ ! -f a ]; then wget --no-check-certificate $GONE -O a; else echo there; fi", "GONE"),
        ("curl -L ${GONE} -o a", "GONE"),
        ("wget -O $GONE http://a/b", ""),
        ("wget http://a/$GONE", ""),
        ("wget $HERE -P $GONE", ""),
        ("echo wget $GONE", ""),
    ],
)
def test_a_download_without_an_address_is_noticed(line: str, name: str) -> None:
    assert missing_address(line, {"HERE": "/tmp"}.get)[1] == name
