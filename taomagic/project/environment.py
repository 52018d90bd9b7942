"""The path variables of NVIDIA's notebooks, derived from the notebook's folder.

Which variables there are and what is mounted where, :mod:`taomagic.project.layouts` says for each network; everything
follows from the project, which is the folder of the notebook. Here it becomes values, a mount map and folders.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from taomagic.errors import EnvironmentProblem
from taomagic.project import layouts, nets, remembered
from taomagic.project.given import Given, Side, Source
from taomagic.project.layout_table import Family, Folder
from taomagic.project.layouts import Layout
from taomagic.project.mounts import FILE_NAME, MountMap, home_folder, home_map, keep_foreign, read_mounts
from taomagic.project.paths import CONTAINER_ROOT, OTHER_ROOT


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
        E.g. ``"ssd"``; of a network with several notebooks it may be the notebook's name.
    family
        How the notebook says where things are; see :mod:`taomagic.project.layouts`.
    folders
        Host and container side of each folder, with their places, in the order to show.
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
    family: Family
    folders: tuple[Folder, ...]
    project_dir: Path
    variables: Mapping[str, Variable]
    mounts: MountMap
    notes: tuple[str, ...] = field(default=())
    #: Whether somebody has asked for the family; the next ``%tao_env`` keeps to it then.
    family_chosen: bool = False

    @property
    def mount_file(self) -> Path:
        """The project's own mount map."""
        return self.project_dir / FILE_NAME

    @property
    def has_map(self) -> bool:
        """Whether there is a mount map: without a container (family C) there is nothing to mount."""
        return self.family != "c"

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
            ``environ``. What an earlier call has derived and this one doesn't have is removed.

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
        paths = self.mounts.paths
        if self.has_map:
            project_map = self._known_before().merge(self.mounts)
            notes += self._write_maps(project_map, environ)
            paths = project_map.paths
        self._forget_derived(environ, namespace)
        environ.update(self.values())
        if self.has_map:
            environ["LAUNCHER_MOUNTS"] = str(self.mount_file)
        derived = {
            variable.name: variable.value
            for variable in self.variables.values()
            if variable.source in {"default", "placeholder replaced"}
        }
        environ[remembered.VARIABLE] = remembered.write(
            self.net,
            str(self.project_dir),
            derived,
            self.values(),
            family=self.family if self.family_chosen else "",
        )
        if namespace is not None:
            namespace.update(self.values())
        return replace(
            self,
            variables={name: _with_existence(each, paths.to_host) for name, each in self.variables.items()},
            notes=tuple(notes),
        )

    def _write_maps(self, project_map: MountMap, environ: Mapping[str, str]) -> list[str]:
        """Write the project's map and NVIDIA's, and return what there is to say about them."""
        home_file = home_map(environ)
        notes = keep_foreign(home_file)
        if home_file.resolve() != self.mount_file.resolve():
            # NVIDIA's launcher loses a source that is mounted twice, so its file holds this net's mounts
            # only.
            MountMap(self.mounts.mounts, project_map.envs, project_map.docker_options).write(home_file)
        project_map.write(self.mount_file)
        more = [
            *(f"{name}={value}" for name, value in project_map.envs.items() if name not in self.mounts.envs),
            *(name for name in project_map.docker_options if name not in self.mounts.docker_options),
        ]
        if more:
            notes.append(f"Kept in the mount map, from before: {', '.join(more)}")
        return notes

    def _forget_derived(
        self, environ: MutableMapping[str, str], namespace: MutableMapping[str, Any] | None
    ) -> None:
        """Remove what an earlier call has set and nobody has changed since: another family has other variables."""
        before = remembered.read(environ).get("values", {})
        for name, value in before.items():
            if name in self.variables:
                continue
            for place in (environ, namespace):
                if place is not None and place.get(name) == value:
                    del place[name]
        if not self.has_map and environ.get("LAUNCHER_MOUNTS") == str(self.mount_file):
            del environ["LAUNCHER_MOUNTS"]

    def _create_folders(self) -> list[str]:
        created: list[str] = []
        for folder in self.folders:
            path = Path(folder.source).expanduser()
            name = folder.host or f"The folder for {folder.destination}"
            # A folder that the person named and that isn't there is more likely a slip than a wish.
            chosen = folder.host in self.variables and self.variables[folder.host].source == "user"
            if path.is_dir() or (chosen and not path.is_relative_to(self.project_dir)):
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
        places = (CONTAINER_ROOT, OTHER_ROOT)
        projects = {source for source, destination in before.mounts if destination in places}
        # A copied project brings the map of the original along; its folders must not be used by mistake.
        others = [Path(source).expanduser() for source in projects - {str(self.project_dir)}]
        mounts = tuple(
            (source, destination)
            for source, destination in before.mounts
            if not (others and destination.startswith(places))
            and not any(Path(source).expanduser().is_relative_to(other) for other in others)
            and Path(source).expanduser().exists()
        )
        return MountMap(mounts, before.envs, before.docker_options)


def _with_existence(variable: Variable, to_host: Any) -> Variable:
    exists: bool | None = None
    if variable.side == "host":
        exists = Path(variable.value).is_dir()
    elif variable.side == "container":
        exists = to_host(variable.value).is_dir()
    return replace(variable, exists=exists)


def derive(
    net: str | None = None,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    namespace: Mapping[str, Any] | None = None,
    overrides: Mapping[str, str] | None = None,
    *,
    family: str | None = None,
    known: Collection[str] = layouts.NAMES,
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
        Values from arguments, by variable name, e.g. ``{"LOCAL_PROJECT_DIR": "…", "KEY": "…"}``. ``LOCAL_DATA_DIR``
        means the data folder, whatever its variable is called.
    family
        ``a``, ``b`` or ``c``; by default what the cells in front have assigned shows, or the network's own.
    known
        Networks to choose from. Of a family that is named, others may be, too.

    Raises
    ------
    EnvironmentProblem
        No network is given and none can be guessed, it or the family is unknown, or the folder can't be a project.
    """
    environ = os.environ if environ is None else environ
    wish = layouts.family_name(family) if family else None
    here = Path.cwd() if cwd is None else cwd.absolute()
    before = remembered.read(environ)
    given = Given(environ, namespace or {}, overrides or {}, before.get("values", {}), here)
    # A placeholder that the notebook has built other paths from (P/data, …) is one in those too.
    project_text, _ = given.find("LOCAL_PROJECT_DIR", "host", "")
    project = Path(project_text or here)
    earlier = before.get("net") if before.get("folder") == str(project) else None
    clues = tuple(nets.clues(here, environ, namespace or {}))
    name = _named(net, known, wish) if net else nets.guess(clues, known) or earlier
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
    if wish is None and earlier == name and before.get("family") in layouts.FAMILIES:
        wish = before["family"]
    shown, sign = layouts.assigned_family(name, [each for each in layouts.SIGNS if given.is_assigned(each)])
    layout = layouts.layout(name, wish or shown, clues=[nets.canonical(clue) for clue in clues])
    variables, folders = _resolve(layout, project, here, environ, given)
    mounts = _mounts(layout, folders, variables)
    return Environment(
        layout.net,
        layout.family,
        folders,
        project,
        {key: _with_existence(variable, mounts.paths.to_host) for key, variable in variables.items()},
        mounts,
        (*_family_notes(name, layout.family, "" if wish else sign), *_warnings(variables, project, environ)),
        family_chosen=wish is not None,
    )


def _named(net: str, known: Collection[str], family: Family | None) -> str:
    # Whoever names the family of a network of a later release doesn't need us to know it.
    if family is not None and re.fullmatch(r"[A-Za-z][\w-]*", net, re.ASCII) and not nets.find(net, known):
        return nets.canonical(net)
    return nets.choose(net, known)


def _resolve(
    layout: Layout, project: Path, here: Path, environ: Mapping[str, str], given: Given
) -> tuple[dict[str, Variable], tuple[Folder, ...]]:
    """Return the variables with their values, and the folders with their places in place of templates."""
    found: dict[str, Variable] = {}
    notebook_root = environ.get("NOTEBOOK_ROOT", "")
    places = {
        "project": str(project),
        "notebook": str(Path(notebook_root).expanduser() if notebook_root else here),
        "home": str(home_folder(environ)),
        "repository": str(_repository(here)),
    }
    given.rename({"LOCAL_DATA_DIR": next(each.host for each in layout.folders if each.what == "data")})

    def put(name: str, side: Side, template: str) -> str:
        default = template.format_map(places)
        if not name:
            return default
        value, source = given.find(name, side, default)
        found[name] = Variable(name, value, side, source, secret=name == "KEY")
        places[name] = value
        return value

    for name, template in layout.settings.items():
        put(name, "host" if template.startswith("{project}") else "both", template)
    folders = [replace(each, source=put(each.host, "host", each.source)) for each in layout.folders]
    folders = [
        replace(each, destination=put(each.container, "container", each.destination)) for each in folders
    ]
    return found, tuple(folders)


def _repository(here: Path) -> Path:
    """Return the folder of the Colab edition that the notebook lies in: its notebooks are in FRAMEWORK/NET."""
    for folder in (here, *here.parents):
        if folder.name in {"tensorflow", "pytorch"}:
            return folder.parent
    return here


def _mounts(layout: Layout, folders: tuple[Folder, ...], variables: Mapping[str, Variable]) -> MountMap:
    if layout.family == "c":
        return MountMap()
    mounts = [(each.source, each.destination) for each in folders if each.mounted]
    for each in folders:
        # NVIDIA's data and results lie inside the project; elsewhere they need a mount of their own.
        if str(MountMap(tuple(mounts)).paths.to_host(each.destination)) != str(
            Path(each.source).expanduser()
        ):
            mounts.append((each.source, each.destination))
    values = {name: variable.value for name, variable in variables.items()}
    envs = {name: template.format_map(values) for name, template in layout.envs.items()}
    options = {name: value or _caller() for name, value in layout.options.items()}
    return MountMap(
        tuple(dict.fromkeys(mounts)), envs, {name: value for name, value in options.items() if value}
    )


def _caller() -> str:
    """Return ``UID:GID`` of whoever runs this; nothing where a system has no such numbers."""
    return f"{os.getuid()}:{os.getgid()}" if hasattr(os, "getuid") else ""


def _family_notes(net: str, family: Family, sign: str) -> Iterator[str]:
    own = layouts.family_of(net)
    if sign and family != own:
        yield (
            f"Path family {family} ({layouts.FAMILY_SIGNS[family]}), because {sign} is set. "
            f"Another one: --family {own}"
        )
        return
    if family != "a":
        yield f"Path family {family}: {layouts.FAMILY_SIGNS[family]}"
    if family != own and net in layouts.NAMES:
        yield f"NVIDIA's own notebook for {net} is of path family {own} ({layouts.FAMILY_SIGNS[own]})."


def _warnings(variables: Mapping[str, Variable], project: Path, environ: Mapping[str, str]) -> Iterator[str]:
    for name, variable in variables.items():
        if variable.source == "placeholder replaced":
            yield f"{name} held a placeholder; it is now {variable.shown}"
    if project == home_folder(environ):
        yield (
            "The project is your whole home folder, and containers will see all of it. "
            "A folder of its own is better: %tao_env --project-dir ~/tao"
        )
    for name in sorted(variables):
        variable = variables[name]
        outside = variable.source == "user" and not Path(variable.value).is_relative_to(project)
        if variable.side == "host" and outside and not Path(variable.value).is_dir():
            yield f"{name} is set to {variable.value}, and there is no such folder."
