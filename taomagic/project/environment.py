"""The path variables of NVIDIA's notebooks, derived from the notebook's folder.

This is family A: the nine variables of the detection and classification notebooks. Four lie on this machine,
three are their twins in the container, and everything follows from ``LOCAL_PROJECT_DIR``, the folder of the
notebook.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from taomagic.errors import EnvironmentProblem
from taomagic.project import nets, remembered
from taomagic.project.mounts import FILE_NAME, MountMap, home_folder, keep_foreign, read_mounts
from taomagic.project.paths import CONTAINER_ROOT

Side = Literal["host", "container", "both"]
Source = Literal["default", "user", "argument", "placeholder replaced"]

#: Host variable and its twin in the container, with what they hold.
TWINS = (
    ("project", "LOCAL_PROJECT_DIR", ""),
    ("data", "LOCAL_DATA_DIR", "DATA_DOWNLOAD_DIR"),
    ("experiment", "LOCAL_EXPERIMENT_DIR", "USER_EXPERIMENT_DIR"),
    ("specs", "LOCAL_SPECS_DIR", "SPECS_DIR"),
)

_HOST = frozenset(host for _, host, _ in TWINS)
_CONTAINER = frozenset(container for _, _, container in TWINS if container)


@dataclass(frozen=True)
class Variable:
    """One variable: its value, on which side it is valid, and where the value comes from.

    ``exists`` tells whether the folder is there: for a host path itself, for a container path the folder it
    is mapped to; ``None`` for what is no path. ``secret`` values are shown masked.
    """

    name: str
    value: str
    side: Side
    source: Source
    exists: bool | None = None
    secret: bool = False

    @property
    def shown(self) -> str:
        """The value, masked where it is secret."""
        return "********" if self.secret and self.value else self.value


@dataclass(frozen=True)
class Environment:
    """The variables, and the mount map that belongs to them.

    Parameters
    ----------
    net
        E.g. ``"ssd"``.
    project_dir
        Absolute host folder; ``LOCAL_PROJECT_DIR``.
    variables
        By name, in the order to show.
    mounts
        The map for this net alone, in NVIDIA's layout.
    notes
        What a person should know: folders that are missing, values that were replaced.
    """

    net: str
    project_dir: Path
    variables: Mapping[str, Variable]
    mounts: MountMap
    notes: tuple[str, ...] = field(default=())

    @property
    def mount_file(self) -> Path:
        """The project's own mount map."""
        return self.project_dir / FILE_NAME

    def values(self) -> dict[str, str]:
        """Return ``name -> value``. Holds the key: don't show it."""
        return {name: variable.value for name, variable in self.variables.items()}

    def apply(
        self,
        environ: MutableMapping[str, str] | None = None,
        namespace: MutableMapping[str, Any] | None = None,
    ) -> Environment:
        """Make it so: create the folders, write the maps, set the variables.

        Parameters
        ----------
        environ, namespace
            Where the variables are set; ``os.environ`` and nothing by default. ``LAUNCHER_MOUNTS`` is set in
            ``environ``.

        Returns
        -------
        Environment
            The same with what has changed: ``exists`` is up to date, ``notes`` say what was created and kept.

        Raises
        ------
        EnvironmentProblem
            A folder can't be created or a map can't be written; nothing has been set then.
        """
        environ = os.environ if environ is None else environ
        notes = [*self.notes, *self._create_folders()]
        project_map = self._known_before().merge(self.mounts)
        home_file = home_folder(environ) / FILE_NAME
        notes += keep_foreign(home_file)
        if home_file.resolve() != self.mount_file.resolve():
            # NVIDIA's launcher loses a source that is mounted twice, so its file holds this net's mounts
            # only.
            MountMap(self.mounts.mounts, project_map.envs, project_map.docker_options).write(home_file)
        project_map.write(self.mount_file)
        environ.update(self.values())
        environ["LAUNCHER_MOUNTS"] = str(self.mount_file)
        derived = {
            variable.name: variable.value
            for variable in self.variables.values()
            if variable.source in {"default", "placeholder replaced"}
        }
        environ[remembered.VARIABLE] = remembered.write(
            self.net, str(self.project_dir), derived, self.values()
        )
        if namespace is not None:
            namespace.update(self.values())
        paths = project_map.paths
        return Environment(
            self.net,
            self.project_dir,
            {name: _with_existence(variable, paths.to_host) for name, variable in self.variables.items()},
            self.mounts,
            tuple(notes),
        )

    def _create_folders(self) -> list[str]:
        created: list[str] = []
        for _, name, _ in TWINS:
            variable = self.variables[name]
            path = Path(variable.value)
            # A folder that the person named and that isn't there is more likely a slip than a wish.
            wanted = variable.source != "user" or path.is_relative_to(self.project_dir)
            if path.is_dir() or not wanted:
                continue
            try:
                path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise EnvironmentProblem(
                    f"{name} can't be created: {error.strerror}.",
                    where=str(path),
                    hint="Choose a folder that you may write with --project-dir.",
                ) from None
            created.append(f"Created {path}")
        return created

    def _known_before(self) -> MountMap:
        """Return what the project's map holds for other nets and from the person's own hand."""
        if not self.mount_file.is_file():
            return MountMap()
        before = read_mounts(self.mount_file)
        same_project = (str(self.project_dir), CONTAINER_ROOT) in before.mounts
        mounts = tuple(
            (source, destination)
            for source, destination in before.mounts
            # A copied project brings the map of the original along; its folders must not be used by mistake.
            if (same_project or not destination.startswith(CONTAINER_ROOT))
            and Path(source).expanduser().exists()
        )
        return MountMap(mounts, before.envs, before.docker_options)


def _with_existence(variable: Variable, to_host: Any) -> Variable:
    exists: bool | None = None
    if variable.name in _HOST:
        exists = Path(variable.value).is_dir()
    elif variable.name in _CONTAINER:
        exists = to_host(variable.value).is_dir()
    return Variable(variable.name, variable.value, variable.side, variable.source, exists, variable.secret)


def derive(
    net: str | None = None,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    namespace: Mapping[str, Any] | None = None,
    overrides: Mapping[str, str] | None = None,
    *,
    known: Collection[str] = nets.FAMILY_A,
) -> Environment:
    """Derive the variables. Reads the disk, changes nothing; see :meth:`Environment.apply`.

    Parameters
    ----------
    net
        The network; guessed from the notebook's name, its folder and its specs where it is ``None``.
    cwd
        The notebook's folder; ``os.getcwd()`` by default.
    environ, namespace
        Where the person may have set variables; ``os.environ`` and nothing by default. A value that an
        earlier call derived counts as not set, so another net or folder gives new values.
    overrides
        Values from arguments, by variable name, e.g. ``{"LOCAL_PROJECT_DIR": "…", "KEY": "…"}``.
    known
        Networks to choose from.

    Raises
    ------
    EnvironmentProblem
        No network is given and none can be guessed, it is unknown, or the folder can't be a project.
    """
    environ = os.environ if environ is None else environ
    here = Path.cwd() if cwd is None else cwd.absolute()
    before = remembered.read(environ)
    given = _Given(environ, namespace or {}, overrides or {}, before.get("values", {}), here)
    # A placeholder that the notebook has built other paths from (P/data, …) is one in those too.
    project_text, _ = given.find("LOCAL_PROJECT_DIR", "")
    project = Path(project_text or here)
    earlier = before.get("net") if before.get("folder") == str(project) else None
    name = nets.choose(net, known) if net else nets.guess(here, environ, namespace or {}, known) or earlier
    if name is None:
        raise EnvironmentProblem(
            f"Which network? The folder {here.name or here} doesn't tell.",
            hint="Name it: %tao_env ssd",
        )
    if project == Path(project.anchor):
        raise EnvironmentProblem(
            "The root folder can't be the project.",
            where=str(project),
            hint="Name one: %tao_env --project-dir ~/tao",
        )
    variables = _variables(name, project, here, environ, given)
    mounts = _mounts(variables)
    notes = [*given.notes, *_warnings(variables, project, environ)]
    return Environment(
        name,
        project,
        {key: _with_existence(variable, mounts.paths.to_host) for key, variable in variables.items()},
        mounts,
        tuple(notes),
    )


class _Given:
    """What the person has set, and what only looks like it."""

    def __init__(
        self,
        environ: Mapping[str, str],
        namespace: Mapping[str, Any],
        overrides: Mapping[str, str],
        derived: Mapping[str, str],
        here: Path,
    ) -> None:
        self._environ, self._namespace, self._overrides = environ, namespace, overrides
        self._derived, self._here = derived, here
        self._false_project = ""
        self.notes: list[str] = []

    def find(self, name: str, default: str) -> tuple[str, Source]:
        """Return the value of a variable and where it comes from."""
        if name in self._overrides:
            return self._absolute(name, self._overrides[name]), "argument"
        replaced = False
        # $NAME in a cell means the Python variable first, so it counts first here too.
        mine = self._namespace.get(name)
        if remembered.is_outdated(name, mine, self._environ):
            mine = None
        for value in (mine, self._environ.get(name)):
            if not isinstance(value, str | os.PathLike) or not str(value).strip():
                continue
            text = str(value).strip().strip("\"'")
            if text == self._derived.get(name):
                continue
            if self._is_placeholder(name, text):
                replaced = True
                continue
            return self._absolute(name, text), "user"
        return default, "placeholder replaced" if replaced else "default"

    def _is_placeholder(self, name: str, text: str) -> bool:
        false = nets.is_placeholder(text) or (
            name == "LOCAL_PROJECT_DIR"
            and text.rstrip("/") in nets.SHIPPED_PROJECTS
            and not Path(text).is_dir()
        )
        if false and name == "LOCAL_PROJECT_DIR":
            self._false_project = text.rstrip("/")
        built = bool(self._false_project) and text.startswith(self._false_project + "/")
        return false or (name in _HOST and built)

    def _absolute(self, name: str, text: str) -> str:
        if name not in _HOST:
            return text.rstrip("/") or text if name in _CONTAINER else text
        return os.path.normpath(self._here / Path(text).expanduser())


def _variables(
    net: str, project: Path, here: Path, environ: Mapping[str, str], given: _Given
) -> dict[str, Variable]:
    found: dict[str, Variable] = {}

    def put(name: str, side: Side, default: str, *, secret: bool = False) -> str:
        value, source = given.find(name, default)
        found[name] = Variable(name, value, side, source, secret=secret)
        return value

    notebook_root = environ.get("NOTEBOOK_ROOT", "")
    data = nets.data_folder(net)
    put("KEY", "both", nets.default_key(net), secret=True)
    put("NUM_GPUS", "both", "1")
    put("GPU_INDEX", "both", "0")
    put("LOCAL_PROJECT_DIR", "host", str(project))
    put("LOCAL_DATA_DIR", "host", str(project / data))
    put("LOCAL_EXPERIMENT_DIR", "host", str(project / net))
    put(
        "LOCAL_SPECS_DIR",
        "host",
        str((Path(notebook_root).expanduser() if notebook_root else here) / "specs"),
    )
    put("DATA_DOWNLOAD_DIR", "container", f"{CONTAINER_ROOT}/{data}")
    experiment = put("USER_EXPERIMENT_DIR", "container", f"{CONTAINER_ROOT}/{net}")
    put("SPECS_DIR", "container", f"{experiment}/specs")
    return found


def _mounts(variables: Mapping[str, Variable]) -> MountMap:
    project = variables["LOCAL_PROJECT_DIR"].value
    mounts = [(project, CONTAINER_ROOT), (variables["LOCAL_SPECS_DIR"].value, variables["SPECS_DIR"].value)]
    for _, host, container in TWINS[1:3]:
        pair = (variables[host].value, variables[container].value)
        # NVIDIA's data and results lie inside the project; elsewhere they need a mount of their own.
        if str(MountMap(tuple(mounts)).paths.to_host(pair[1])) != pair[0]:
            mounts.append(pair)
    options = {"user": f"{os.getuid()}:{os.getgid()}"} if hasattr(os, "getuid") else {}
    return MountMap(tuple(dict.fromkeys(mounts)), {}, options)


def _warnings(variables: Mapping[str, Variable], project: Path, environ: Mapping[str, str]) -> list[str]:
    notes = [
        f"{name} held a placeholder; it is now {variable.shown}"
        for name, variable in variables.items()
        if variable.source == "placeholder replaced"
    ]
    if project == home_folder(environ):
        notes.append(
            "The project is your whole home folder, and containers will see all of it. "
            "A folder of its own is better: %tao_env --project-dir ~/tao"
        )
    for name in sorted(_HOST):
        variable = variables[name]
        outside = variable.source == "user" and not Path(variable.value).is_relative_to(project)
        if outside and not Path(variable.value).is_dir():
            notes.append(f"{name} is set to {variable.value}, and there is no such folder.")
    return notes
