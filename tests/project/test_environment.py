from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from taomagic.errors import EnvironmentProblem
from taomagic.launcher.cells import Names
from taomagic.project import nets, remembered
from taomagic.project.environment import Environment, derive
from taomagic.project.mounts import read_mounts
from taomagic.project.paths import CONTAINER_ROOT


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "课 one" / "ssd"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home")}


def test_values_are_those_of_nvidias_notebook(notebook: Path, environ: dict[str, str]) -> None:
    values = derive(None, notebook, environ).values()
    assert values == {
        "KEY": "nvidia_tlt",
        "NUM_GPUS": "1",
        "GPU_INDEX": "0",
        "LOCAL_PROJECT_DIR": str(notebook),
        "LOCAL_DATA_DIR": str(notebook / "data"),
        "LOCAL_EXPERIMENT_DIR": str(notebook / "ssd"),
        "LOCAL_SPECS_DIR": str(notebook / "specs"),
        "DATA_DOWNLOAD_DIR": f"{CONTAINER_ROOT}/data",
        "USER_EXPERIMENT_DIR": f"{CONTAINER_ROOT}/ssd",
        "SPECS_DIR": f"{CONTAINER_ROOT}/ssd/specs",
    }
    assert derive("detectnet_v2", notebook, environ).values()["KEY"] == "tlt_encode"


@pytest.mark.parametrize(
    "text",
    ["FIXME", "fixme", "/path/to/local/tao-experiments", "/path/to/your/tao-experiments", "YOUR_LOCAL_PROJECT_DIR_PATH",
     "YOUR_KEY", "/path/to/tao-experiments", "/data/tlt-experiments", "YOUR_LOCAL_EXPERIMENT_DIR", "<your folder>", "",
     "/workspace/tao-experiments/"],
)  # fmt: skip
def test_placeholders_count_as_not_set(
    notebook: Path, environ: dict[str, str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nets, "is_folder", lambda _path: False)  # this machine may have /data/tlt-experiments
    built = f"{text.rstrip('/')}/data" if text else ""
    environ |= {"LOCAL_PROJECT_DIR": text, "LOCAL_DATA_DIR": built}
    variables = derive("ssd", notebook, environ).variables
    assert variables["LOCAL_PROJECT_DIR"].value == str(notebook)
    assert variables["LOCAL_PROJECT_DIR"].source == ("placeholder replaced" if text else "default")
    assert variables["LOCAL_DATA_DIR"].value == str(notebook / "data")


def test_shipped_project_folder_counts_where_it_exists(
    notebook: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nets, "SHIPPED_PROJECTS", frozenset({str(notebook.parent)}))
    environ["LOCAL_PROJECT_DIR"] = str(notebook.parent)
    assert derive("ssd", notebook, environ).project_dir == notebook.parent


def test_what_the_person_set_is_kept_and_said(notebook: Path, environ: dict[str, str]) -> None:
    environ |= {"KEY": "mine", "LOCAL_PROJECT_DIR": "..", "LOCAL_DATA_DIR": "~/big data"}
    variables = derive("ssd", notebook, environ, {"NUM_GPUS": "2"}, {"LOCAL_SPECS_DIR": "other"}).variables
    assert (variables["KEY"].value, variables["KEY"].source, variables["KEY"].shown) == (
        "mine",
        "user",
        "********",
    )
    assert variables["LOCAL_PROJECT_DIR"].value == str(notebook.parent)
    assert (variables["NUM_GPUS"].value, variables["NUM_GPUS"].source) == ("2", "user")
    assert (variables["LOCAL_SPECS_DIR"].value, variables["LOCAL_SPECS_DIR"].source) == (
        str(notebook / "other"),
        "argument",
    )
    assert variables["LOCAL_EXPERIMENT_DIR"].source == "default"


def test_files_belong_to_who_runs_the_command(notebook: Path, environ: dict[str, str]) -> None:
    options = derive("ssd", notebook, environ).mounts.docker_options
    assert options == {"user": f"{os.getuid()}:{os.getgid()}"}


def test_data_outside_the_project_gets_a_mount(
    notebook: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    data = tmp_path / "big"
    data.mkdir()
    environment = derive("ssd", notebook, environ, None, {"LOCAL_DATA_DIR": str(data)})
    assert (str(data), f"{CONTAINER_ROOT}/data") in environment.mounts.mounts
    assert environment.variables["DATA_DOWNLOAD_DIR"].exists


def test_another_net_gives_new_values_but_keeps_the_persons(notebook: Path, environ: dict[str, str]) -> None:
    namespace: dict[str, object] = {}
    environ["KEY"] = "mine"
    derive("ssd", notebook, environ, namespace).apply(environ, namespace)
    assert environ["SPECS_DIR"] == namespace["SPECS_DIR"] == f"{CONTAINER_ROOT}/ssd/specs"
    environ["LOCAL_DATA_DIR"] = str(notebook / "mydata")
    again = derive("detectnet_v2", notebook, environ, namespace)
    values = again.values()
    assert values["SPECS_DIR"] == f"{CONTAINER_ROOT}/detectnet_v2/specs"
    assert values["LOCAL_DATA_DIR"] == str(notebook / "mydata")
    assert values["KEY"] == "mine"


def test_net_given_once_is_remembered(tmp_path: Path, environ: dict[str, str]) -> None:
    folder = tmp_path / "home" / "work"
    folder.mkdir(parents=True)
    derive("dssd", folder, environ).apply(environ)
    assert derive(None, folder, environ).net == "dssd"


def test_apply_writes_both_maps_creates_folders_and_says_so(notebook: Path, environ: dict[str, str]) -> None:
    environment = derive(None, notebook, environ).apply(environ)
    assert environ["LAUNCHER_MOUNTS"] == str(notebook / ".tao_mounts.json")
    own = (notebook / ".tao_mounts.json").read_text()
    assert own == json.dumps(environment.mounts.to_json(), indent=4)
    assert (Path(environ["HOME"]) / ".tao_mounts.json").read_text() == own
    assert {f"Created {notebook / name}" for name in ("data", "ssd", "specs")} <= set(environment.notes)
    assert all(variable.exists is not False for variable in environment.variables.values())
    assert not any(
        note.startswith("Created") for note in derive(None, notebook, environ).apply(environ).notes
    )


def test_missing_folder_that_the_person_named_is_not_created(notebook: Path, environ: dict[str, str]) -> None:
    environ["LOCAL_DATA_DIR"] = "/no/such/data"
    environment = derive("ssd", notebook, environ).apply(environ)
    assert environment.variables["LOCAL_DATA_DIR"].exists is False
    assert any("LOCAL_DATA_DIR is set to /no/such/data" in note for note in environment.notes)


def test_two_nets_in_one_folder_keep_both_specs_mounts(notebook: Path, environ: dict[str, str]) -> None:
    derive("ssd", notebook, environ).apply(environ)
    derive("dssd", notebook, environ).apply(environ)
    mounts = read_mounts(notebook / ".tao_mounts.json").mounts
    assert {(str(notebook / "specs"), f"{CONTAINER_ROOT}/{net}/specs") for net in ("ssd", "dssd")} <= set(
        mounts
    )
    at_home = read_mounts(Path(environ["HOME"]) / ".tao_mounts.json").mounts
    assert len({source for source, _ in at_home}) == len(at_home)


def test_copied_project_forgets_the_folders_of_the_original(notebook: Path, environ: dict[str, str]) -> None:
    derive("dssd", notebook, environ).apply(environ)
    copy = notebook.parent / "copy"
    copy.mkdir()
    (copy / ".tao_mounts.json").write_bytes((notebook / ".tao_mounts.json").read_bytes())
    derive("ssd", copy, environ).apply(environ)
    assert all(
        Path(source).is_relative_to(copy) for source, _ in read_mounts(copy / ".tao_mounts.json").mounts
    )


def test_options_in_the_projects_map_are_kept(notebook: Path, environ: dict[str, str]) -> None:
    derive("ssd", notebook, environ).apply(environ)
    file = notebook / ".tao_mounts.json"
    content = json.loads(file.read_text())
    content["DockerOptions"]["shm_size"] = "16G"
    file.write_text(json.dumps(content))
    derive("ssd", notebook, environ).apply(environ)
    assert read_mounts(file).docker_options["shm_size"] == "16G"


def test_foreign_map_at_home_is_kept_once(notebook: Path, environ: dict[str, str]) -> None:
    at_home = Path(environ["HOME"]) / ".tao_mounts.json"
    at_home.write_text('{"Mounts": []}')
    notes = derive("ssd", notebook, environ).apply(environ).notes
    assert any(".tao_mounts.json.bak" in note for note in notes)
    assert at_home.with_name(".tao_mounts.json.bak").read_text() == '{"Mounts": []}'
    derive("dssd", notebook, environ).apply(environ)
    other = notebook.parent / "retinanet"
    other.mkdir()
    derive(None, other, environ).apply(environ)
    assert [path.name for path in at_home.parent.glob(".tao_mounts.json.bak*")] == [".tao_mounts.json.bak"]


@pytest.mark.parametrize(
    ("folder", "files", "environ_extra", "net"),
    [
        ("ssd", [], {}, "ssd"),
        ("my-ssd-notebook", [], {}, "ssd"),
        ("YOLO_v4_tiny", [], {}, "yolo_v4_tiny"),
        ("maskrcnn", [], {}, "mask_rcnn"),
        ("dssd/run", [], {}, "dssd"),
        ("work", [], {"JPY_SESSION_NAME": "/x/faster_rcnn.ipynb"}, "faster_rcnn"),
        ("work", ["retinanet.ipynb"], {}, "retinanet"),
        ("work", ["specs/ssd_train_resnet18_kitti.txt"], {}, "ssd"),
    ],
)
def test_net_is_guessed(
    tmp_path: Path, folder: str, files: list[str], environ_extra: dict[str, str], net: str
) -> None:
    cwd = tmp_path / "x" / folder
    cwd.mkdir(parents=True)
    for name in files:
        (cwd / name).parent.mkdir(exist_ok=True)
        (cwd / name).touch()
    assert derive(None, cwd, {"HOME": "/h", **environ_extra}).net == net


def test_unguessable_net_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "work" / "a").mkdir(parents=True)
    with pytest.raises(EnvironmentProblem, match="Which network"):
        derive(None, tmp_path / "work" / "a", {"HOME": "/h"})


def test_unknown_net_names_the_nearest() -> None:
    with pytest.raises(EnvironmentProblem) as caught:
        derive("detectnet", Path("/nb"), {"HOME": "/h"})
    assert "Did you mean detectnet_v2?" in caught.value.hint


def test_root_folder_is_refused() -> None:
    with pytest.raises(EnvironmentProblem, match="root folder"):
        derive("ssd", Path("/"), {"HOME": "/h"})


def test_home_folder_is_warned_about_and_its_map_written_once(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    environment = derive("ssd", tmp_path, environ).apply(environ)
    assert any("whole home folder" in note for note in environment.notes)
    derive("ssd", tmp_path, environ).apply(environ)
    assert not list(tmp_path.glob(".tao_mounts.json.bak*"))


def test_folder_that_cannot_be_created_is_an_error_and_sets_nothing(
    notebook: Path, environ: dict[str, str]
) -> None:
    (notebook / "data").write_text("in the way")
    with pytest.raises(EnvironmentProblem, match="LOCAL_DATA_DIR can't be created"):
        derive("ssd", notebook, environ).apply(environ)
    assert "LAUNCHER_MOUNTS" not in environ


def test_show_changes_nothing(notebook: Path, environ: dict[str, str]) -> None:
    environment = derive("ssd", notebook, environ)
    assert isinstance(environment, Environment)
    assert list(notebook.iterdir()) == []
    assert set(environ) == {"HOME"}


def test_change_of_the_environment_after_tao_env_counts(notebook: Path, environ: dict[str, str]) -> None:
    namespace: dict[str, object] = {}
    environ["KEY"] = "first"
    derive("ssd", notebook, environ, namespace).apply(environ, namespace)
    environ["KEY"] = "second"  # %env KEY=second leaves the Python variable as it was
    assert Names(namespace, environ).lookup("KEY") == "second"
    assert Names(namespace, environ).evaluate("KEY") == "second"
    assert derive("ssd", notebook, environ, namespace).values()["KEY"] == "second"
    namespace["KEY"] = "third"
    assert Names(namespace, environ).lookup("KEY") == "third"
    assert derive("ssd", notebook, environ, namespace).values()["KEY"] == "third"


def test_key_is_not_in_what_is_remembered(notebook: Path, environ: dict[str, str]) -> None:
    derive("ssd", notebook, environ, None, {"KEY": "SECRET77"}).apply(environ)
    assert "SECRET77" not in environ[remembered.VARIABLE]


def test_damaged_memory_is_ignored(notebook: Path, environ: dict[str, str]) -> None:
    for text in ("{", "[]", '{"values": 3}'):
        environ[remembered.VARIABLE] = text
        assert derive("ssd", notebook, environ).net == "ssd"
