"""Every notebook of TAO 5.5: the variables that it sets and the map that it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from taomagic.errors import EnvironmentProblem
from taomagic.launcher import catalog
from taomagic.launcher.context import Context
from taomagic.project import environment as environment_module
from taomagic.project import nets
from taomagic.project.environment import Environment, derive
from taomagic.project.layout_table import FOLDER_KINDS, TABLE
from taomagic.project.layouts import NAMES
from taomagic.project.mounts import read_mounts
from taomagic.project.nets import is_placeholder
from taomagic.project.paths import CONTAINER_ROOT

# What the notebooks have set when they write their map, for the notebook in /nb, the project /proj, the user 1000:1000.
NOTEBOOKS: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "notebooks_of_tao_5_5.json").read_text()
)
WITH_MAP = [each for each in NOTEBOOKS if each["mounts_json"] is not None]

#: Their project folders; the last one is TAO 7.0's.
SHIPPED = sorted(
    {each["LOCAL_PROJECT_DIR_as_shipped"] for each in NOTEBOOKS} | {"/raid/path/to/local/tao-experiments"}
)
#: Set by %tao_env in each notebook, since commands of one generation or another use them.
SETTINGS = {"KEY", "NUM_GPUS", "GPU_INDEX"}
#: Family B's names in the container. The notebooks set them as well, in a later cell.
LATER = {"DATA_DIR", "SPECS_DIR", "RESULTS_DIR", "MODEL_DIR"}
#: What only the person knows, and the notebooks ship with a placeholder for.
ONLY_THE_PERSON_KNOWS = {
    "SAMPLES_DIR": "where the person has put the sample notebooks",
    "PROJECT_DIR": "where the person has put the sample notebooks",
}


@pytest.fixture(autouse=True)
def _user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment_module, "_caller", lambda: "1000:1000")


def environ_of(notebook: dict[str, Any]) -> dict[str, str]:
    return {"HOME": "/home/u", "JPY_SESSION_NAME": f"/nb/{Path(notebook['notebook']).name}"}


def folder_name(notebook: dict[str, Any]) -> str:
    """The network, as NVIDIA names the folder of its notebook."""
    folders = Path(notebook["notebook"]).parts[:-1]
    return folders[1] if folders[0] == "foundational_model_finetuning" else folders[0]


def mounts_of(content: dict[str, Any]) -> list[tuple[str, str]]:
    # The order of mounts means nothing to a container.
    return sorted((mount["source"], mount["destination"]) for mount in content["Mounts"])


def check(environment: Environment, notebook: dict[str, Any]) -> None:
    values = environment.values()
    theirs = {name: value.strip('"') for name, value in notebook["env_at_mapping_cell"].items()}
    # The harness replaced the placeholder FIXME by /proj where a cell uses it as a Python name.
    given = {name for name, value in theirs.items() if is_placeholder(value)}
    assert given <= set(ONLY_THE_PERSON_KNOWS)
    assert {name: values.get(name) for name in theirs if name not in given} == {
        name: value for name, value in theirs.items() if name not in given
    }
    more = SETTINGS | (LATER if environment.family == "b" else set())
    assert set(values) - set(theirs) <= more
    content = environment.mounts.to_json()
    assert mounts_of(content) == mounts_of(notebook["mounts_json"])
    assert {**content, "Mounts": []} == {**notebook["mounts_json"], "Mounts": []}


@pytest.mark.parametrize("notebook", WITH_MAP, ids=lambda notebook: notebook["notebook"])
def test_variables_and_map_are_those_of_nvidias_notebook(notebook: dict[str, Any]) -> None:
    net, environ = folder_name(notebook), environ_of(notebook)
    environment = derive(net, Path("/nb"), environ, None, {"LOCAL_PROJECT_DIR": "/proj"})
    check(environment, notebook)
    assert environment.family == ("a" if notebook["map_variable"] == "drive_map" else "b")
    # The notebook's own name does as well, where it isn't that of several.
    if (name := Path(notebook["notebook"]).stem) not in {"classification", "efficientdet"}:
        named = derive(name, Path("/nb"), {"HOME": "/home/u"}, None, {"LOCAL_PROJECT_DIR": "/proj"})
        assert (named.values(), named.mounts) == (environment.values(), environment.mounts)
    # In NVIDIA's own folders the network needn't be named.
    folder = Path("/samples", notebook["notebook"]).parent
    guessed = derive(None, folder, {**environ, "NOTEBOOK_ROOT": "/nb"}, None, {"LOCAL_PROJECT_DIR": "/proj"})
    assert guessed.mounts == environment.mounts
    assert guessed.values() == environment.values()


@pytest.mark.parametrize("notebook", WITH_MAP, ids=lambda notebook: notebook["notebook"])
def test_what_the_cells_have_set_is_kept_and_shows_the_family(notebook: dict[str, Any]) -> None:
    """After the cells of an unmodified notebook: of the same family and with other values than ours."""
    cells = {
        name: value.replace("/proj", "/mine").replace("/nb/", "/elsewhere/")
        for name, value in notebook["env_at_mapping_cell"].items()
    }
    environ = {**environ_of(notebook), **cells}
    environment = derive(folder_name(notebook), Path("/nb"), environ)
    assert environment.family == ("a" if notebook["map_variable"] == "drive_map" else "b")
    values = environment.values()
    for name, value in cells.items():
        if name in values and not is_placeholder(value):
            assert values[name] == value.strip('"')
            assert environment.variables[name].source == "user"
    theirs = [
        (source.replace("/proj", "/mine").replace("/nb/", "/elsewhere/"), destination)
        for source, destination in mounts_of(notebook["mounts_json"])
    ]
    assert sorted(environment.mounts.mounts) == sorted(theirs)


def test_the_notebook_without_a_map_leaves_only_the_project_to_us() -> None:
    [notebook] = [each for each in NOTEBOOKS if each["mounts_json"] is None]
    assert notebook["notebook"] == "aws_s3_mounting/aws_s3_mounting.ipynb"
    # It mounts a bucket: the address, the password file, the name and the place are the person's to say.
    left_out = {"S3FS_PWD", "S3_URL", "S3_DATA_MOUNT", "MOUNTPOINT"}
    assert set(notebook["env_at_mapping_cell"]) - left_out == {"LOCAL_PROJECT_DIR"}
    values = derive("ssd", Path("/nb"), environ_of(notebook), None, {"LOCAL_PROJECT_DIR": "/proj"}).values()
    assert values["LOCAL_PROJECT_DIR"] == notebook["env_at_mapping_cell"]["LOCAL_PROJECT_DIR"]


@pytest.mark.parametrize("shipped", SHIPPED)
@pytest.mark.parametrize("net", ["ssd", "dino"])
def test_the_project_folders_that_notebooks_ship_with_count_as_not_set(
    tmp_path: Path, shipped: str, net: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nets, "is_folder", lambda _path: False)  # this machine may have /data/tlt-experiments
    built = "LOCAL_DATA_DIR" if net == "ssd" else "HOST_DATA_DIR"
    environ = {"HOME": "/home/u", "LOCAL_PROJECT_DIR": shipped, built: f"{shipped.rstrip('/')}/data"}
    variables = derive(net, tmp_path, environ).variables
    assert variables["LOCAL_PROJECT_DIR"].value == str(tmp_path)
    assert variables["LOCAL_PROJECT_DIR"].source == "placeholder replaced"
    assert variables[built].value == str(tmp_path / "data")


@pytest.mark.parametrize("net", ["rtdetr", "oneformer", "depth_net", "mae"])
def test_a_network_of_a_later_release_follows_the_rule_of_family_b(net: str) -> None:
    environment = derive(net, Path("/nb"), {"HOME": "/h"}, known=catalog.networks())
    assert environment.values() == {
        "KEY": "nvidia_tao",
        "NUM_GPUS": "1",
        "GPU_INDEX": "0",
        "LOCAL_PROJECT_DIR": "/nb",
        "HOST_DATA_DIR": "/nb/data",
        "HOST_SPECS_DIR": "/nb/specs",
        "HOST_RESULTS_DIR": f"/nb/{net}/results",
        "DATA_DIR": "/data",
        "SPECS_DIR": "/specs",
        "RESULTS_DIR": "/results",
    }
    assert environment.mounts.to_json() == {
        "Mounts": [
            {"source": "/nb", "destination": CONTAINER_ROOT},
            {"source": "/nb/data", "destination": "/data"},
            {"source": "/nb/specs", "destination": "/specs"},
            {"source": f"/nb/{net}/results", "destination": "/results"},
        ],
        "DockerOptions": {
            "shm_size": "16G",
            "ulimits": {"memlock": -1, "stack": 67108864},
            "user": "1000:1000",
            "network": "host",
        },
    }


LATER_NOTEBOOKS: dict[str, tuple[dict[str, str], dict[str, str], dict[str, object]]] = {
    "sparse4d": (
        {"HOST_MODEL_DIR": "/proj/data/sparse4d/model"},
        {
            CONTAINER_ROOT: "/proj",
            "/data": "/proj/data",
            "/model": "/proj/data/sparse4d/model",
            "/specs": "/nb/specs",
            "/results": "/proj/sparse4d/results",
        },
        {"network": "host"},
    ),
    "stylegan_xl": (
        {"LOCAL_CACHE_DIR": "/home/u/.cache"},
        {
            CONTAINER_ROOT: "/proj",
            "/data": "/proj/stylegan_xl/data",
            "/specs": "/nb/specs",
            "/results": "/proj/stylegan_xl/results",
            "/.cache": "/home/u/.cache",
        },
        {"network": "host"},
    ),
    "cosmos-embed1": (
        {"HOST_MODEL_DIR": "/proj/cosmos_embed1"},
        {
            CONTAINER_ROOT: "/proj",
            "/data": "/proj/data/msrvtt",
            "/model": "/proj/cosmos_embed1",
            "/specs": "/nb/specs",
            "/results": "/proj/cosmos_embed1/results",
        },
        {"shm_size": "64G", "network": "host"},
    ),
    "clip": (
        {"KEY": "nvidia_tao", "DATA_DIR": "/data"},
        {
            CONTAINER_ROOT: "/proj",
            "/data": "/proj/data/clip",
            "/specs": "/nb/specs",
            "/results": "/proj/clip_results",
        },
        {},
    ),
    "nvdinov2": (
        {"HOST_MODEL_DIR": "/proj/model", "SPECS_DIR": "/tao-pt/tao-experiments/specs"},
        {
            "/tao-pt/tao-experiments": "/proj",
            "/tao-pt/tao-experiments/data": "/proj/data",
            "/tao-pt/tao-experiments/specs": "/nb/specs",
            "/tao-pt/tao-experiments/results": "/proj/results",
        },
        {},
    ),
}


@pytest.mark.parametrize("net", LATER_NOTEBOOKS)
def test_notebooks_of_tao_6_and_7_that_deviate(net: str) -> None:
    variables, mounts, options = LATER_NOTEBOOKS[net]
    environment = derive(net, Path("/nb"), {"HOME": "/home/u"}, None, {"LOCAL_PROJECT_DIR": "/proj"})
    assert variables.items() <= environment.values().items()
    assert {destination: source for source, destination in environment.mounts.mounts} == mounts
    limits = {"memlock": -1, "stack": 67108864}
    assert environment.mounts.docker_options == {"shm_size": "16G", "ulimits": limits, **options}


def test_a_map_without_the_usual_root_is_known_as_ours(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "home")}
    for folder in ("first", "copy"):
        (tmp_path / folder).mkdir()
    for net in ("nvdinov2", "ssd", "nvdinov2"):
        derive(net, tmp_path / "first", environ).apply(environ)
    assert not list((tmp_path / "home").glob(".tao_mounts.json.bak*"))
    (tmp_path / "copy" / ".tao_mounts.json").write_bytes(
        (tmp_path / "first" / ".tao_mounts.json").read_bytes()
    )
    derive("ssd", tmp_path / "copy", {"HOME": environ["HOME"]}).apply({"HOME": environ["HOME"]})
    mounts = read_mounts(tmp_path / "copy" / ".tao_mounts.json").mounts
    assert all(Path(source).is_relative_to(tmp_path / "copy") for source, _ in mounts)


def test_a_network_that_nobody_knows_needs_its_family() -> None:
    with pytest.raises(EnvironmentProblem, match="no network") as caught:
        derive("quantum_net", Path("/nb"), {"HOME": "/h"})
    assert "--family b" in caught.value.hint
    environment = derive("Quantum-Net", Path("/nb"), {"HOME": "/h"}, family="B")
    assert environment.values()["HOST_RESULTS_DIR"] == "/nb/quantum_net/results"


@pytest.mark.parametrize("net", ["a b", "../x", "", "9", "网"])
def test_what_cannot_be_a_folder_is_no_network(net: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem):
        derive(net, tmp_path / "p" / "q", {"HOME": "/h"}, family="b")


def test_a_family_that_does_not_exist_names_those_that_do() -> None:
    with pytest.raises(EnvironmentProblem, match='no path family "d"') as caught:
        derive("ssd", Path("/nb"), {"HOME": "/h"}, family="d")
    assert "HOST_" in caught.value.hint
    assert "Colab" in caught.value.hint


def test_a_family_that_is_named_counts_more_than_what_is_set(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "LOCAL_DATA_DIR": str(tmp_path / "mine")}
    environment = derive("ssd", tmp_path, environ, family="b")
    assert environment.values()["HOST_DATA_DIR"] == str(tmp_path / "data")
    assert environment.values()["KEY"] == "nvidia_tlt"
    assert (str(tmp_path / "ssd" / "results"), "/results") in environment.mounts.mounts
    assert any("own notebook for ssd is of path family a" in note for note in environment.notes)
    # … and the data argument means the data folder, whatever its variable is called.
    moved = derive("ssd", tmp_path, environ, None, {"LOCAL_DATA_DIR": "/big"}, family="b")
    assert ("/big", "/data") in moved.mounts.mounts


@pytest.mark.parametrize(
    ("net", "assigned", "family"),
    [
        ("ssd", {}, "a"),
        ("dino", {}, "b"),
        ("ssd", {"HOST_DATA_DIR": "/d"}, "b"),
        ("dino", {"USER_EXPERIMENT_DIR": f"{CONTAINER_ROOT}/dino"}, "a"),
        ("ssd", {"HOST_DATA_DIR": "/d", "LOCAL_DATA_DIR": "/d"}, "a"),
        ("dino", {"HOST_DATA_DIR": "/d", "LOCAL_DATA_DIR": "/d"}, "b"),
        ("ssd", {"TAO_DOCKER_DISABLE": "1"}, "c"),
        ("ssd", {"TAO_DOCKER_DISABLE": "0"}, "a"),
        ("ssd", {"COLAB_NOTEBOOKS_PATH": "/repo", "LOCAL_PROJECT_DIR": "/ngc_content/"}, "c"),
    ],
)
def test_the_cells_in_front_show_the_family(net: str, assigned: dict[str, str], family: str) -> None:
    environment = derive(net, Path("/nb"), {"HOME": "/h", **assigned})
    assert environment.family == family
    named = [note for note in environment.notes if note.startswith("Path family")]
    assert bool(named) == (family != "a" or net == "dino")


def test_colab_has_no_map_and_paths_are_those_of_this_computer(tmp_path: Path) -> None:
    notebook = tmp_path / "nvidia-tao" / "tensorflow" / "ssd"
    (notebook / "specs").mkdir(parents=True)
    environ = {"HOME": str(tmp_path)}
    environment = derive(None, notebook, environ, family="c").apply(environ)
    assert environment.values() == {
        "KEY": "nvidia_tlt",
        "NUM_GPUS": "1",
        "GPU_INDEX": "0",
        "TAO_DOCKER_DISABLE": "1",
        "LOCAL_PROJECT_DIR": str(notebook),
        "COLAB_NOTEBOOKS_PATH": str(tmp_path / "nvidia-tao"),
        "DATA_DIR": str(notebook / "data"),
        "EXPERIMENT_DIR": str(notebook / "ssd"),
        "SPECS_DIR": str(notebook / "specs"),
    }
    assert "LAUNCHER_MOUNTS" not in environ
    assert not list(tmp_path.rglob(".tao_mounts.json"))
    assert all((Path(environ[name])).is_dir() for name in ("DATA_DIR", "EXPERIMENT_DIR"))
    context = Context.current(environ, tmp_path)
    assert not context.mounts.mounts
    assert context.project_dir == notebook
    assert context.host(f"{environ['DATA_DIR']}/x") == notebook / "data" / "x"


def test_what_colabs_cells_have_set_is_kept(tmp_path: Path) -> None:
    cells = {
        "TAO_DOCKER_DISABLE": "1",
        "COLAB_NOTEBOOKS_PATH": str(tmp_path),
        "EXPERIMENT_DIR": "/results/ssd",
        "DATA_DIR": "/content/drive/MyDrive/kitti_data/",
        "SPECS_DIR": f"{tmp_path}/tensorflow/ssd/specs",
    }
    values = derive("ssd", tmp_path, {"HOME": "/h", **cells}).values()
    assert {name: values[name] for name in cells} == {
        **cells,
        "DATA_DIR": "/content/drive/MyDrive/kitti_data",
    }


def test_another_family_takes_the_variables_of_the_one_before_away(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "home")}
    namespace: dict[str, object] = {}
    derive("ssd", tmp_path, environ, namespace, family="c").apply(environ, namespace)
    environ["EXPERIMENT_DIR"] = "/mine"
    derive("ssd", tmp_path, environ, namespace, family="b").apply(environ, namespace)
    assert "TAO_DOCKER_DISABLE" not in environ
    assert "TAO_DOCKER_DISABLE" not in namespace
    assert environ["EXPERIMENT_DIR"] == "/mine"
    assert Context.current(environ, tmp_path).host("/data/x") == tmp_path / "data" / "x"
    derive("ssd", tmp_path, environ, namespace, family="a").apply(environ, namespace)
    assert not {"HOST_DATA_DIR", "RESULTS_DIR"} & set(environ)
    assert environ["SPECS_DIR"] == namespace["SPECS_DIR"] == f"{CONTAINER_ROOT}/ssd/specs"


def test_a_family_that_was_named_is_kept_to(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "home")}
    derive("ssd", tmp_path, environ, family="b").apply(environ)
    again = derive(None, tmp_path, environ)
    assert (again.net, again.family) == ("ssd", "b")
    again.apply(environ)
    assert derive(None, tmp_path, environ).family == "b"
    assert derive("dssd", tmp_path, environ).family == "a"


def test_maps_of_two_families_live_in_one_project(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "home")}
    project = tmp_path / "project"
    derive("ssd", project, environ, None, {"LOCAL_PROJECT_DIR": str(project)}).apply(environ)
    derive("dino", project, environ, None, {"LOCAL_PROJECT_DIR": str(project)}).apply(environ)
    both = read_mounts(project / ".tao_mounts.json")
    assert (str(project / "specs"), f"{CONTAINER_ROOT}/ssd/specs") in both.mounts
    assert (str(project / "dino" / "results"), "/results") in both.mounts
    assert both.docker_options["shm_size"] == "16G"
    notes = derive("ssd", project, environ).apply(environ).notes
    assert "Kept in the mount map, from before: shm_size, ulimits, network" in notes


def test_copied_project_forgets_family_bs_folders_too(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "home")}
    first, copy = tmp_path / "first", tmp_path / "copy"
    for folder in (first, copy):
        folder.mkdir()
    derive("dino", first, environ).apply(environ)
    (copy / ".tao_mounts.json").write_bytes((first / ".tao_mounts.json").read_bytes())
    derive("ssd", copy, {"HOME": environ["HOME"]}).apply({"HOME": environ["HOME"]})
    mounts = read_mounts(copy / ".tao_mounts.json").mounts
    assert all(Path(source).is_relative_to(copy) for source, _ in mounts)


def test_a_cache_outside_the_project_is_created_and_mounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    environ = {"HOME": str(tmp_path / "home")}
    derive("grounding_dino", tmp_path / "project", environ).apply(environ)
    assert (tmp_path / "home" / ".cache").is_dir()
    assert not Context.current(environ, tmp_path).mounts.missing_sources()


def test_names_lead_to_one_row_each() -> None:
    assert all(name == nets.canonical(name) for name in catalog.networks())
    names = [name for net, row in TABLE.items() for name in (net, *row.also)]
    assert len(names) == len(set(names)) == len(NAMES)
    for net, row in TABLE.items():
        assert row.of == "" or TABLE[row.of].of == ""
        assert row.of == "" or row.family == TABLE[row.of].family
        environment = derive(net, Path("/nb"), {"HOME": "/h"})
        assert environment.net == net
        assert {folder.what for folder in environment.folders} <= set(FOLDER_KINDS)
