"""Which path variables and mounts the notebook of a network has: the rules of three families.

NVIDIA's notebooks know three ways to say where things are. In family A every folder has two variables, one for each
side (``LOCAL_DATA_DIR`` here, ``DATA_DOWNLOAD_DIR`` in the container); in family B the container has short paths
(``/data``, ``/specs``, ``/results``) and the variables of this side begin with ``HOST_``; in family C, the Colab
edition, there is no container and no map. :mod:`taomagic.project.layout_table` says what a notebook has different from
its family's rule; a network without a row there follows the rule.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from taomagic.errors import EnvironmentProblem
from taomagic.project.layout_table import TABLE, Family, Folder, Row
from taomagic.project.paths import CONTAINER_ROOT

FAMILIES: tuple[Family, ...] = get_args(Family)

#: What each family is known by.
FAMILY_SIGNS: Mapping[Family, str] = {
    "a": "LOCAL_… and its twin in the container",
    "b": "HOST_…, and /data, /specs, /results in the container",
    "c": "no container (Colab)",
}
# What only the cells of one family assign.
_ASSIGNED: Mapping[Family, tuple[str, ...]] = {
    "c": ("TAO_DOCKER_DISABLE", "COLAB_NOTEBOOKS_PATH"),
    "b": ("HOST_DATA_DIR", "HOST_SPECS_DIR", "HOST_RESULTS_DIR", "HOST_MODEL_DIR"),
    "a": (
        "LOCAL_DATA_DIR",
        "LOCAL_EXPERIMENT_DIR",
        "LOCAL_SPECS_DIR",
        "USER_EXPERIMENT_DIR",
        "DATA_DOWNLOAD_DIR",
    ),
}

#: Every variable that shows a family.
SIGNS: tuple[str, ...] = tuple(name for names in _ASSIGNED.values() for name in names)


@dataclass(frozen=True)
class Layout:
    """The variables and the map of one notebook.

    Parameters
    ----------
    net
        The row's name, which is the network's or, where a network has several notebooks, the notebook's.
    family
        The rule that it follows.
    folders
        In the order to show and to mount.
    settings
        Variables that are no folders, with templates of their values: those of this machine's paths first.
    envs, options
        ``Envs`` and ``DockerOptions`` of the map; ``user`` is empty, for who runs the command.
    """

    net: str
    family: Family
    folders: tuple[Folder, ...]
    settings: Mapping[str, str]
    envs: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


#: Every name that a row is found by -> the row's name.
NAMES: Mapping[str, str] = {name: net for net, row in TABLE.items() for name in (net, *row.also)}


def family_name(wish: str) -> Family:
    """Return the family that is meant: ``a``, ``b`` or ``c``, in small letters or capitals.

    Raises
    ------
    EnvironmentProblem
        There is no such family.
    """
    for family in FAMILIES:
        if wish.strip().lower() == family:
            return family
    signs = "; ".join(f"{family}: {sign}" for family, sign in FAMILY_SIGNS.items())
    raise EnvironmentProblem(f'There is no path family "{wish}".', hint=f"Families: {signs}.")


def family_of(net: str) -> Family:
    """Return the family of a network's own notebook. What is new since TAO 4.0 is of family B."""
    return TABLE[NAMES[net]].family if net in NAMES else "b"


def assigned_family(net: str, assigned: Collection[str]) -> tuple[Family, str]:
    """Return the family that a notebook's cells show, and the variable that tells; ``""`` where none does.

    Parameters
    ----------
    net
        The network.
    assigned
        The variables that are set.
    """
    own = family_of(net)
    # Without a container there is no other way than family C. Where cells have assigned names of two families, the
    # network's own is the one they were written for.
    for family in ("c", own, "b", "a") if own != "c" else FAMILIES:
        for name in _ASSIGNED[family]:
            if name in assigned:
                return family, name
    return own, ""


def layout(net: str, family: Family, clues: Collection[str] = ()) -> Layout:
    """Return the layout of a network's notebook.

    Parameters
    ----------
    net
        The network, or a notebook by its name.
    family
        The family to follow; the row counts only in its own.
    clues
        Names of the notebook and of its folder, which tell several notebooks of a network apart.
    """
    name = NAMES.get(net, net)
    for variant, row in TABLE.items():
        if row.of == name and {variant, *row.also} & set(clues):
            name = variant
    row = TABLE.get(name, Row(family))
    key = row.key
    if row.family != family:
        row = Row(family)
    return _RULES[family](name, row, key)


def _settings(key: str, row: Row) -> dict[str, str]:
    return {"KEY": key, "NUM_GPUS": "1", "GPU_INDEX": "0", **row.constants}


def _project(destination: str) -> Folder:
    return Folder("project", "LOCAL_PROJECT_DIR", "{project}", "", destination)


def _family_a(net: str, row: Row, key: str) -> Layout:
    folder = row.folder or net
    folders = (
        _project(row.project_at),
        Folder(
            "data",
            "LOCAL_DATA_DIR",
            f"{{project}}/{row.data}",
            row.data_variable or "DATA_DOWNLOAD_DIR",
            f"{CONTAINER_ROOT}/{row.data}",
            row.data_mounted,
        ),
        Folder(
            "experiment",
            "LOCAL_EXPERIMENT_DIR",
            f"{{project}}/{folder}",
            "USER_EXPERIMENT_DIR",
            f"{CONTAINER_ROOT}/{folder}",
            mounted=False,
        ),
        Folder(
            "specs",
            "LOCAL_SPECS_DIR",
            "{notebook}/specs",
            "SPECS_DIR",
            row.specs_at or "{USER_EXPERIMENT_DIR}/specs",
        ),
        *row.more,
    )
    return Layout(net, "a", folders, _settings(key or "nvidia_tlt", row), row.envs, _options(row, ("user",)))


def _family_b(net: str, row: Row, key: str) -> Layout:
    folder = row.folder or net

    def place(below_project: str) -> str:
        below = below_project.replace("{net}", folder)
        return f"{{project}}/{below}" if below else "{project}"

    model = Folder("model", "HOST_MODEL_DIR", place(row.model), "MODEL_DIR", "/model")
    folders = (
        _project(row.project_at),
        Folder("data", "HOST_DATA_DIR", place(row.data), "DATA_DIR", row.data_at or "/data"),
        *((model,) if row.model else ()),
        Folder("specs", "HOST_SPECS_DIR", "{notebook}/specs", "SPECS_DIR", row.specs_at or "/specs"),
        Folder(
            "results",
            "HOST_RESULTS_DIR",
            place(row.results or "{net}/results"),
            "RESULTS_DIR",
            row.results_at,
        ),
        *row.more,
    )
    # Training with several workers exchanges batches in shared memory, and Docker gives 64 MB.
    memory = {"shm_size": row.shm_size, "ulimits": {"memlock": -1, "stack": 67108864}}
    options = {**memory, **_options(row, ("user", "host"))}
    # A network of family A keeps its key where somebody wants these paths for it.
    default_key = "nvidia_tlt" if family_of(net) == "a" else "nvidia_tao"
    return Layout(net, "b", folders, _settings(key or default_key, row), row.envs, options)


def _family_c(net: str, row: Row, key: str) -> Layout:
    folders = (
        _project(""),
        Folder("notebooks", "COLAB_NOTEBOOKS_PATH", "{repository}"),
        Folder("data", "DATA_DIR", "{project}/data"),
        Folder("experiment", "EXPERIMENT_DIR", f"{{project}}/{net}"),
        Folder("specs", "SPECS_DIR", "{notebook}/specs"),
    )
    return Layout(net, "c", folders, {**_settings(key or "nvidia_tlt", row), "TAO_DOCKER_DISABLE": "1"})


def _options(row: Row, default: tuple[str, ...]) -> dict[str, Any]:
    words = default if row.docker is None else row.docker
    return {**({"user": ""} if "user" in words else {}), **({"network": "host"} if "host" in words else {})}


_RULES = {"a": _family_a, "b": _family_b, "c": _family_c}
