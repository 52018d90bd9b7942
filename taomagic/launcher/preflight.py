"""Everything that can be known to fail before anything starts: arguments, files, spec, data, key, packages, disk.

A mistake found here costs a second; the same mistake found by the engine costs the time to load it, and in a container
the time to fetch and start that too.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from taomagic.errors import DataProblem, EnvironmentProblem, ModelFileProblem, SpecProblem, UsageProblem
from taomagic.launcher import backends
from taomagic.launcher.command import Command, reject_empty
from taomagic.launcher.context import Context
from taomagic.launcher.disk import low_space
from taomagic.launcher.preflight_places import Places
from taomagic.launcher.preflight_specs import check_spec, require_key
from taomagic.project.paths import exists, is_container_path, is_folder

_ENGINE = ("torch", "numpy", "cv2", "safetensors", "h5py", "cryptography")
_EXPORT = ("onnx", "onnxruntime")


def check(command: Command, context: Context) -> tuple[str, ...]:
    """Check a command before the embedded engine is started with it.

    Parameters
    ----------
    command
        With ``action == "run"``.
    context
        What it would be started with.

    Returns
    -------
    tuple of str
        Warnings: things that may be meant, or may go well.

    Raises
    ------
    UsageProblem
        An argument is wrong, missing or empty.
    EnvironmentProblem
        The engine doesn't know the command, a package is missing, or a folder can't be written.
    SpecProblem, DataProblem, ModelFileProblem
        A file is missing or wrong.
    """
    reject_empty(command)
    _runs_here(command)
    _packages(command)
    from taomagic.spec.arguments import parse_arguments

    words = [*filter(None, (command.subtask,)), *command.args]
    arguments = parse_arguments(command.engine_task, words, prog=f"tao {command.engine_task}")
    return _Checks(command, context, arguments).run()


def _runs_here(command: Command) -> None:
    if not backends.engine_runs(command):
        raise EnvironmentProblem(
            f"The embedded engine can't run {command.label}.",
            where=f"tao {command.label}",
            hint=f"It runs: {backends.shown_engine_tasks()}. Other tasks run in containers: --backend docker",
        )


def _packages(command: Command) -> None:
    exports = command.subtask == "export" or command.group == "deploy" or command.task == "converter"
    needed = _ENGINE + (_EXPORT if exports else ())
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise EnvironmentProblem(
            f"The embedded engine needs packages that aren't installed: {', '.join(missing)}.",
            hint="Install them: pip install 'taomagic[engine]'",
        )


class _Checks:
    def __init__(self, command: Command, context: Context, arguments: argparse.Namespace) -> None:
        self._command, self._context, self._arguments = command, context, arguments
        self._places = Places(context)
        self._warnings: list[str] = []

    def run(self) -> tuple[str, ...]:
        self._inputs()
        self._key()
        if spec := self._value("spec"):
            check_spec(self._arguments, spec, self._places)
        self._outputs()
        return tuple(self._warnings)

    def _value(self, name: str) -> str:
        value = getattr(self._arguments, name, None)
        return value if isinstance(value, str) else ""

    def _inputs(self) -> None:
        for name, what in (("spec", "experiment file"), ("class_names_file", "file of class names")):
            if path := self._value(name):
                self._places.file(
                    path, what, lambda text, shown, hint: SpecProblem(text, path=shown, hint=hint)
                )
        for path in filter(None, (self._value("model"), *self._models())):
            self._places.file(
                path, "model", lambda text, shown, hint: ModelFileProblem(text, where=shown, hint=hint)
            )
        if (path := self._value("image_dir")) and self._command.subtask == "inference":
            host = self._context.host(path)
            if not exists(host):
                raise DataProblem(
                    f"{self._places.shown(path)} doesn't exist.",
                    where="-i",
                    hint=self._places.near(path, host, folders=True),
                )
            if is_folder(host) and os.access(host, os.R_OK) and not any(host.iterdir()):
                raise DataProblem(
                    f"{self._places.shown(path)} is empty.", where="-i", hint="Put images into it."
                )

    def _key(self) -> None:
        for path in (self._value("model"), self._value("output"), *self._models()):
            require_key(self._arguments, path)

    def _models(self) -> Sequence[str]:
        """Return the models of a command that takes several."""
        return getattr(self._arguments, "models", ())

    def _outputs(self) -> None:
        places: list[tuple[str, Path]] = []
        for name in ("results_dir", "image_output_dir", "label_output_dir"):
            if path := self._value(name):
                places.append((path, self._context.host(path)))
        for name in ("output", "log_file"):
            if path := self._value(name):
                places.append((path, self._context.host(path).parent))
        for shown, folder in places:
            self._writable(shown, folder)
        if places:
            self._space(places[0][1])

    def _writable(self, shown: str, folder: Path) -> None:
        existing = folder
        while not exists(existing):
            existing = existing.parent
        if existing == Path(existing.anchor) and folder != existing:
            # Nobody keeps results right below the root folder; an unset variable in front of the path ends up there.
            hint = "A variable in front of it is probably empty. Run %tao_env, or write the whole path."
            if is_container_path(f"{shown}/"):
                hint = (
                    self._places.near(f"{shown}/", folder)
                    if self._context.mounts.mounts
                    else "Run %tao_env first."
                )
            raise UsageProblem(f"The folder of {self._places.shown(shown)} doesn't exist.", hint=hint)
        if not is_folder(existing):
            raise EnvironmentProblem(
                f"{existing} is a file, not a folder.", where=shown, hint="Choose another name."
            )
        if not os.access(existing, os.W_OK | os.X_OK):
            raise EnvironmentProblem(
                f"You may not write {existing}.",
                where=shown,
                hint="Choose another folder, or, if a container wrote it as root: sudo chown -R $USER FOLDER",
            )

    def _space(self, folder: Path) -> None:
        while not exists(folder):
            folder = folder.parent
        if warning := low_space(folder):
            self._warnings.append(warning)
