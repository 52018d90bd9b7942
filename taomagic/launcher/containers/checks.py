"""Everything that can be known to fail before a container starts: above all, host and container paths mixed up.

That mix-up is what people ask most about (forum threads with thousands of views): the path is right, there on the disk,
and "doesn't exist". The container says so after its image has been fetched and its framework loaded; here it takes a
moment, and the message has the path to write instead.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from taomagic.errors import EnvironmentProblem, SpecProblem, TaoError, UsageProblem
from taomagic.launcher.command import Command, reject_empty
from taomagic.launcher.containers.container import caller_id
from taomagic.launcher.context import Context
from taomagic.launcher.disk import low_space
from taomagic.launcher.preflight_places import near_names, shown_place
from taomagic.project.mounts import MountMap, find_mounts
from taomagic.project.paths import CONTAINER_ROOT, exists, is_folder, is_missing, is_notebook_place

_SPEC = frozenset({"-e", "--experiment_spec", "--experiment_spec_file"})
_DATASET_SPEC = frozenset({"-d", "--dataset_export_spec"})
_INPUT = frozenset({"-m", "--model", "-i", "--image_dir"})
_OUTPUT = frozenset(
    {"-r", "-o", "--log_file", "--engine_file", "results_dir", "output_dir", "output", "output_file"}
)
#: Folders of a system: what is there on this machine is in an image, too.
_SYSTEM = frozenset({"bin", "boot", "dev", "etc", "lib", "lib64", "proc", "sbin", "sys", "usr"})
#: Folders in which an image may hold files of its own, e.g. /workspace/examples.
_IN_IMAGES = _SYSTEM | {"opt", "root", "run", "tmp", "var", "workspace"}
#: An absolute path in a setting or a spec: quoted, or up to the next blank or bracket. Not the middle of an URL.
_PATH = re.compile(
    r"""(?P<quote>["'])(?P<quoted>~?/[^"']*)(?P=quote)|(?<![\w/.:~$}])(?P<bare>~?/[^\s,\[\]{}"']+)"""
)
_SPEC_SUFFIXES = frozenset({".txt", ".yaml", ".yml", ".json", ".cfg", ".prototxt"})
_LONGEST_SPEC = 1 << 20
#: More warnings about one spec help nobody.
_MOST_WARNINGS = 5


def check(command: Command, context: Context, *, local: bool) -> tuple[str, ...]:
    """Check a command before a container is created for it.

    Parameters
    ----------
    command
        With ``action == "run"``.
    context
        What it would be started with.
    local
        Whether the engine sees the files of this machine. Behind another one, only what the map says can be checked.

    Returns
    -------
    tuple of str
        Warnings: things that may be meant, or may go well.

    Raises
    ------
    UsageProblem
        An argument is empty, or a path of this machine where the container needs its own.
    EnvironmentProblem
        A mounted folder doesn't exist, or the results can't be written.
    SpecProblem
        The experiment file doesn't exist, or no mount shows it to the container.
    """
    reject_empty(command)
    return _Checks(command, context, local=local).run()


class _Checks:
    def __init__(self, command: Command, context: Context, *, local: bool) -> None:
        self._command, self._context, self._local = command.without_key(), context, local
        self._mounts = context.mounts.resolve(context.cwd, command.volumes)
        self._paths = self._mounts.paths
        self._warnings: list[str] = []

    def run(self) -> tuple[str, ...]:
        if self._local:
            self._sources()
        for _, destination in self._mounts.mounts:
            if "$" in destination:
                self._warn(f'The destination "{destination}" keeps its $: the mount map has no variables.')
        for flag, path in self._arguments():
            self._argument(flag, path)
        return tuple(dict.fromkeys(self._warnings))

    def _warn(self, text: str) -> None:
        self._warnings.append(text)

    def _sources(self) -> None:
        missing = self._mounts.missing_sources()
        if not missing:
            return
        volumes = MountMap().resolve(self._context.cwd, self._command.volumes).mounts
        in_map = set(missing) - {source for source, _ in volumes}
        file = find_mounts(self._context.environ) if in_map else None
        if any("$" in source for source in missing):
            hint = "Variables aren't expanded in the mount map: write the whole path."
        else:
            hint = f"Create it: mkdir -p {' '.join(shlex.quote(source) for source in missing)}"
            if any(
                source in missing and is_notebook_place(destination)
                for source, destination in self._mounts.mounts
            ):
                hint += ". Or run %tao_env in the project's folder: it creates the folders and writes the map anew."
        what = "folder is" if len(missing) == 1 else "folders are"
        raise EnvironmentProblem(
            f"The mounted {what} missing: {', '.join(missing)}.", where=str(file or "--volume"), hint=hint
        )

    def _arguments(self) -> Iterator[tuple[str, str]]:
        """Yield flag (or name of a setting, or nothing) and path, for each path in the command."""
        flag = ""
        for word in self._command.args:
            name, equals, value = word.partition("=")
            if word.startswith("-") and not equals:
                flag = word
            elif word.startswith("-"):
                yield from ((name, path) for path in [value] if path.startswith(("/", "~/")))
                flag = ""
            elif word.startswith(("/", "~/")) or flag in self._spec_flags:
                yield flag, word
            elif equals:
                yield from ((name, path) for path in _paths_in(value))

    @property
    def _spec_flags(self) -> frozenset[str]:
        if self._command.task in {"converter", "trtexec"} or self._command.runs_program:
            return frozenset()  # -e is the engine there, or anything
        return _SPEC | _DATASET_SPEC if self._command.subtask == "dataset_convert" else _SPEC

    def _argument(self, flag: str, path: str) -> None:
        if flag in self._spec_flags:
            self._spec(flag, path)
            return
        if self._is_mixed_up(path):
            raise self._mixed_up(flag, path)
        name = flag.lstrip("-").rpartition(".")[2]
        if flag in _OUTPUT or name in _OUTPUT:
            self._output(flag, path)
        elif self._is_seen(path):
            host = self._paths.to_host(path)
            if flag in _INPUT and self._local and is_missing(host):
                self._warn(f"{flag}: there is no {self._place(path)}. {near_names(host)}")
        elif self._is_here(path):
            self._warn(
                f"{path} is a path of this machine, and no mount shows it to the container. {self._shown_mounts()}"
            )
        elif not _may_be_in_image(path):
            self._warn(f"No mount of the map covers {path}. {self._shown_mounts()}")

    def _is_seen(self, path: str) -> bool:
        """Tell whether a path of the container lies in a mounted folder."""
        whole = PurePosixPath(os.path.normpath(path))
        return any(whole.is_relative_to(destination) for _, destination in self._mounts.mounts)

    def _is_here(self, path: str) -> bool:
        """Tell whether a path exists here that an image isn't likely to have, too."""
        return self._local and _first(path) not in _SYSTEM and exists(_on_host(path))

    def _in_container(self, path: str) -> str:
        """Return what a path of this machine is called in the container; empty where it has no name there."""
        host = _on_host(path)
        shown = self._paths.to_container(host)
        return shown if shown != host else ""

    def _is_mixed_up(self, path: str) -> bool:
        """Tell whether a path lies in a folder of this machine that has another name in the container."""
        if self._is_seen(path) or not self._in_container(path):
            return False
        host = PurePosixPath(_on_host(path))
        depth = max(
            len(PurePosixPath(source).parts) for source, _ in self._paths if host.is_relative_to(source)
        )
        if path.startswith("~"):
            return True
        if not _may_be_in_image(path):
            return depth > 1 or self._is_here(path)
        # Where somebody mounts / or /opt as a whole, /opt/x may well be meant in the image.
        return depth > 2 and _first(path) not in _SYSTEM

    def _mixed_up(self, flag: str, path: str) -> TaoError:
        shown = self._in_container(path)
        return UsageProblem(
            f"{path} is a path of this machine; in the container it is {shown}",
            where=flag,
            hint="Write the container's path. After %tao_env, $SPECS_DIR, $USER_EXPERIMENT_DIR and $DATA_DOWNLOAD_DIR "
            "begin such paths.",
        )

    def _spec(self, flag: str, path: str) -> None:
        if not path.startswith(("/", "~/")):
            here = self._context.cwd / path
            if self._local and exists(here):
                shown = self._in_container(str(here)) or "a path below a mount"
                self._warn(f"{path} begins in the image's own folder, not in this one. Better write {shown}.")
            return
        if self._is_mixed_up(path):
            raise self._mixed_up(flag, path)
        if self._is_seen(path):
            if self._local:
                self._spec_file(flag, path)
        elif self._is_here(path) or not _may_be_in_image(path) or path.startswith(f"{CONTAINER_ROOT}/"):
            raise SpecProblem(
                "No mount shows this file to the container.", path=path, hint=self._shown_mounts()
            )
        else:
            self._warn(
                f"No mount of the map covers {path}, so it must be in the image. {self._shown_mounts()}"
            )

    def _spec_file(self, flag: str, path: str) -> None:
        host = self._paths.to_host(path)
        if is_missing(host):
            raise SpecProblem("There is no such file.", path=self._place(path), hint=near_names(host))
        if is_folder(host):
            if flag in _SPEC:
                raise SpecProblem(
                    "This is a folder, not a spec.", path=self._place(path), hint=near_names(host / "x")
                )
            return
        if host.suffix in _SPEC_SUFFIXES:
            self._spec_paths(path, host)

    def _spec_paths(self, path: str, host: Path) -> None:
        """Warn of the paths in a spec that the container won't find."""
        try:
            if host.stat().st_size > _LONGEST_SPEC:
                return
            lines = host.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return  # the person may not read it here, which whoever runs the container might
        found: list[str] = []
        for number, line in enumerate(lines, 1):
            text = re.sub(r"(^|\s)#.*", "", line)
            for value in _paths_in(text):
                if self._is_mixed_up(value):
                    found.append(
                        f"{path}:{number}: {value} is a path of this machine; in the container it is "
                        f"{self._in_container(value)}"
                    )
                elif not self._is_seen(value) and self._is_here(value):
                    found.append(f"{path}:{number}: {value} is here, but no mount shows it to the container.")
        self._warnings += found[:_MOST_WARNINGS]
        if len(found) > _MOST_WARNINGS:
            self._warn(f"{path} has {len(found) - _MOST_WARNINGS} more paths of this machine.")

    def _output(self, flag: str, path: str) -> None:
        if not self._is_seen(path):
            self._warn(
                f"{flag or 'The output'}: {path} is in no mounted folder, so what is written there is lost with the "
                f"container. {self._shown_mounts()}"
            )
            return
        if not self._local:
            return
        existing = self._paths.to_host(path)
        while not exists(existing):
            existing = existing.parent
        # Whoever else writes there isn't bound by what we may.
        as_caller = self._mounts.docker_options.get("user", caller_id()) == caller_id()
        if as_caller and not os.access(existing, os.W_OK | (os.X_OK if is_folder(existing) else 0)):
            raise EnvironmentProblem(
                f"You may not write {existing}.",
                where=f"{flag} {path}",
                hint="Choose another folder, or, if a container wrote it as root: sudo chown -R $USER FOLDER",
            )
        if warning := low_space(existing):
            self._warn(warning)

    def _place(self, path: str) -> str:
        return shown_place(path, self._paths.to_host(path))

    def _shown_mounts(self) -> str:
        if not self._mounts.mounts:
            return "Nothing is mounted. Run %tao_env in a notebook, or add --volume FOLDER:/PATH."
        shown = [f"{destination} (here: {source})" for source, destination in self._mounts.mounts]
        return f"Mounted are {', '.join(shown[:6])}{' …' if len(shown) > 6 else ''}."


def _paths_in(text: str) -> list[str]:
    return [match["quoted"] or match["bare"] for match in _PATH.finditer(text)]


def _on_host(path: str) -> str:
    return os.path.normpath(os.path.expanduser(path))  # noqa: PTH111


def _first(path: str) -> str:
    """Return the first folder of an absolute path."""
    return path.strip("/").partition("/")[0]


def _may_be_in_image(path: str) -> bool:
    return _first(path) in _IN_IMAGES
