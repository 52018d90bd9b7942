"""`tao setup notebooks`, `%tao_env --for-nvidia-notebooks`: NVIDIA's notebooks run as they are, and others as ever."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

from taomagic.cli import tao
from taomagic.notebook.setup_command import FILE_NAME

VARIABLES = ("LOCAL_PROJECT_DIR", "LOCAL_DATA_DIR", "LAUNCHER_MOUNTS", "TAOMAGIC_DERIVED")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("IPYTHONDIR", str(home / ".ipython"))
    for name in (*VARIABLES, "TAOMAGIC_HOME_MAP", "UNSET"):
        monkeypatch.delenv(name, raising=False)
    return home


def startup(home: Path, profile: str = "default") -> Path:
    return home / ".ipython" / f"profile_{profile}" / "startup" / FILE_NAME


Capture = pytest.CaptureFixture[str]


def files(folder: Path) -> dict[str, bytes]:
    return {str(each.relative_to(folder)): each.read_bytes() for each in folder.rglob("*") if each.is_file()}


def test_setting_up_writes_one_file_says_so_and_is_undone(home: Path, capsys: Capture) -> None:
    assert tao(["setup", "notebooks"]) == 0
    said = capsys.readouterr().out
    assert f"Wrote {startup(home)}" in said
    assert "tao setup notebooks --undo" in said
    before = files(home)
    assert list(before) == [str(startup(home).relative_to(home))]
    assert tao(["setup", "notebooks"]) == 0
    assert "set up already" in capsys.readouterr().out
    assert files(home) == before
    assert tao(["setup", "notebooks", "--undo"]) == 0
    assert f"Took away {startup(home)}" in capsys.readouterr().out
    # IPython makes its own folder when it is asked where that is.
    assert list(home.rglob("*")) == [home / ".ipython"]
    assert tao(["setup", "notebooks", "--undo"]) == 0
    assert "Nothing is set up" in capsys.readouterr().out


def test_undoing_leaves_what_others_have_put_there(home: Path) -> None:
    other = startup(home).with_name("00-own.py")
    other.parent.mkdir(parents=True)
    other.write_text("x = 1")
    assert tao(["setup", "notebooks"]) == 0
    assert tao(["setup", "notebooks", "--undo"]) == 0
    assert files(home) == {str(other.relative_to(home)): b"x = 1"}


@pytest.mark.parametrize("option", [[], ["--undo"]])
def test_a_file_that_somebody_has_changed_stays(home: Path, capsys: Capture, option: list[str]) -> None:
    assert tao(["setup", "notebooks"]) == 0
    text = startup(home).read_text() + "print('mine')\n"
    startup(home).write_text(text)
    assert tao(["setup", "notebooks", *option]) == 1
    assert "changed by somebody; it stays" in capsys.readouterr().err
    assert startup(home).read_text() == text


def test_a_file_of_an_older_version_is_renewed(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("taomagic.notebook.setup_command._BODY", "# old\n")
        assert tao(["setup", "notebooks"]) == 0
    assert tao(["setup", "notebooks"]) == 0
    assert "lazy import watch" in startup(home).read_text()
    assert tao(["setup", "notebooks", "--undo"]) == 0
    assert list(home.rglob("*")) == [home / ".ipython"]


def test_another_profile_must_be_there(home: Path, capsys: Capture) -> None:
    (home / ".ipython" / "profile_vision").mkdir(parents=True)
    assert tao(["setup", "notebooks", "--profile", "visoin"]) == 1
    assert "Did you mean vision?" in capsys.readouterr().err
    assert tao(["setup", "notebooks", "--profile", "vision"]) == 0
    assert startup(home, "vision").is_file()
    assert "--undo --profile vision" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["setup"], "needs a word: notebooks"),
        (["setup", "notebook"], "Did you mean notebooks?"),
        (["setup", "notebooks", "--undoo"], "unrecognized arguments: --undoo"),
    ],
)
def test_mistakes_are_told(home: Path, capsys: Capture, words: list[str], text: str) -> None:
    assert tao(words) == 2
    assert text in capsys.readouterr().err
    assert not files(home)


def test_a_profile_that_cannot_be_written_is_told(home: Path, capsys: Capture) -> None:
    folder = startup(home).parent
    folder.parent.mkdir(parents=True)
    folder.write_text("a file")
    assert tao(["setup", "notebooks"]) == 1
    assert "can't be written" in capsys.readouterr().err


def test_a_temporary_folder_of_ipython_is_no_place(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(home / "missing" / "ipython"))
    assert tao(["setup", "notebooks"]) == 1
    assert "IPython has no folder for its profiles" in capsys.readouterr().err
    assert not files(home)


#: As NVIDIA's notebooks have it, and cells that show what came of it.
THEIRS = (
    "import sys\nprint('taomagic.magics' in sys.modules, 'FIXME' in globals())",
    """\
import os
os.environ["LOCAL_PROJECT_DIR"] = FIXME
os.environ["LOCAL_DATA_DIR"] = os.path.join(os.getenv("LOCAL_PROJECT_DIR", os.getcwd()), "data")
%env SPECS_DIR=/workspace/tao-experiments/ssd/specs
!echo $LOCAL_DATA_DIR; which tao tao-deploy tlt | wc -l""",
    """\
import json
mounts_file = os.path.expanduser("~/.tao_mounts.json")
drive_map = {"Mounts": [{"source": os.environ["LOCAL_PROJECT_DIR"], "destination": "/workspace/tao-experiments"}]}
""",
    """\
with open(mounts_file, "w") as mfile:
    json.dump(drive_map, mfile, indent=4)""",
    """\
os.environ["URL_IMAGES"] = KITTI_IMAGES_DOWNLOAD_URL
!wget $URL_IMAGES -O $LOCAL_DATA_DIR/data_object_image_2.zip""",
    "!touch should_not_be_$UNSET/x; rm -rf $UNSET/tfrecords/*",
    "found = !ls $UNSET/x\nprint(found)\n!!ls $UNSET/x",
    "%sx ls $UNSET/x",
    "%%bash\ntouch should_not_be\nls $UNSET/x",
    "%%script sh\ntouch should_not_be\nls $UNSET/x",
    "%%script python\nprint('$UNSET/x')",
    "def shown(name):\n    !echo hello $name\nshown('local')",
    "!tao model ssd train -e missing.txt -r out",
    "print(os.environ['LAUNCHER_MOUNTS'])",
    """\
with open(os.path.join(os.path.expanduser("~"), ".tao_" + "mounts.json"), "w") as other:
    _ = other.write("another notebook's")""",
    "!cat ~/.tao_mounts.json",
    "print(json.load(open(os.environ['LAUNCHER_MOUNTS']))['Mounts'][0]['source'], end='')",
)


def executed(folder: Path, *sources: str) -> list[tuple[str, list[Any]]]:
    """Run a notebook in the kernel that a person has, and return the text and the outputs of each cell."""
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    nbformat.write(notebook, folder / "theirs.ipynb")
    NotebookClient(
        notebook, timeout=60, allow_errors=True, resources={"metadata": {"path": str(folder)}}
    ).execute()
    return [
        ("".join(o.get("text", "") or o.get("evalue", "") for o in cell.outputs), cell.outputs)
        for cell in notebook.cells
    ]


def test_a_notebook_of_nvidias_runs_as_it_is_once_that_is_set_up(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tao(["setup", "notebooks"]) == 0
    folder = tmp_path / "ssd"
    folder.mkdir()
    monkeypatch.setenv("JPY_SESSION_NAME", str(folder / "theirs.ipynb"))
    cells = executed(folder, *THEIRS)
    texts = [text for text, _ in cells]
    assert texts[0] == "False False\n"
    assert "this looks like a notebook of NVIDIA's" in texts[1]
    assert f"FIXME isn't defined in this notebook; it is now {folder}." in texts[1]
    assert texts[1].replace("\r", "").endswith(f"{folder}/data\n3\n")
    copy = folder / ".tao" / "maps" / "theirs.json"
    assert str(copy) in texts[3]
    assert "https://www.cvlibs.net/datasets/kitti" in texts[4]
    assert "tao notebook run NOTEBOOK --sample-data" in texts[4]
    for text in (texts[5], *texts[6:10]):
        assert "Stopped before it ran: $UNSET is unset, so that this line would work on" in text
    assert texts[6].count("Stopped before it ran") == 2
    assert not list(folder.glob("should_not_be*"))
    assert texts[10] == "$UNSET/x\n"
    assert texts[11].replace("\r", "") == "hello local\n"
    # A command is the extension's, whose mistakes end Run All.
    assert cells[12][1][-1]["ename"] == "SpecProblem"
    assert str(copy) in texts[13]
    # What another notebook writes to the home folder doesn't matter to this one.
    assert texts[15:] == ["another notebook's", str(folder)]
    assert (home / ".tao_mounts.json").read_text() == "another notebook's"


def test_other_notebooks_are_what_they_were(home: Path, tmp_path: Path) -> None:
    assert tao(["setup", "notebooks"]) == 0
    cells = executed(
        tmp_path,
        "x = FIXME",
        "before = set(globals())\nimport sys\nprint([m for m in sys.modules if m.startswith('taomagic')])",
        "print([name for name in globals() if 'tao' in name])\n!echo $UNSET/x",
    )
    assert "name 'FIXME' is not defined" in cells[0][0]
    assert cells[1][0] == "['taomagic', 'taomagic.notebook', 'taomagic.notebook.lazy']\n"
    assert cells[2][0].replace("\r", "") == "[]\n/x\n"
    assert not (tmp_path / ".tao").exists()


@pytest.fixture
def shell(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    import taomagic

    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    # What `%tao_env` sets ends with the test.
    before = dict(os.environ)
    config = Config()
    config.HistoryManager.enabled = False
    shell = InteractiveShell(config=config)
    taomagic.load_ipython_extension(shell)
    yield shell
    os.environ.clear()
    os.environ.update(before)


def test_one_kernel_is_prepared_at_once_and_what_cells_set_wins(
    shell: Any, tmp_path: Path, capfd: Capture
) -> None:
    def run(cell: str) -> str:
        shell.run_cell(cell)
        return capfd.readouterr().out

    run("%tao_env ssd")
    assert "LOCAL_DATA_DIR" in shell.user_ns
    said = run("%tao_env ssd --for-nvidia-notebooks")
    assert "runs NVIDIA's notebooks as they are" in said
    assert "LOCAL_DATA_DIR" not in shell.user_ns
    assert os.environ["LOCAL_DATA_DIR"] == str(tmp_path / "project" / "data")
    assert "/own/data" in run("%env LOCAL_DATA_DIR=/own/data\n!echo $LOCAL_DATA_DIR")
    own = {"Mounts": [{"source": str(tmp_path), "destination": "/workspace/tao-experiments"}]}
    said = run(
        f"import os, json\nwith open(os.path.expanduser('~/.tao_mounts.json'), 'w') as f:\n    json.dump({own!r}, f)"
    )
    assert "goes on with its own copy" in said
    assert json.loads(Path(os.environ["LAUNCHER_MOUNTS"]).read_text()) == own
    transformers = len(shell.ast_transformers)
    run("%tao_env ssd --for-nvidia-notebooks")
    assert len(shell.ast_transformers) == transformers


def test_showing_prepares_nothing(shell: Any, capfd: Capture) -> None:
    before: Callable[..., Any] = shell.system
    shell.run_cell("%tao_env ssd --for-nvidia-notebooks --show")
    assert shell.system == before
    assert not shell.ast_transformers
