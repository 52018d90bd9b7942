"""Everything that can be known to fail before anything starts: arguments, files, spec, data, key, packages, disk.

A mistake found here costs a second; the same mistake found by the engine costs the time to load it, and in a container
the time to fetch and start that too.
"""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from taomagic.errors import DataProblem, EnvironmentProblem, ModelFileProblem, SpecProblem, UsageProblem
from taomagic.launcher import backends
from taomagic.launcher.command import Command, reject_empty
from taomagic.launcher.context import Context
from taomagic.launcher.disk import low_space
from taomagic.project.paths import CONTAINER_ROOT, exists, is_folder, is_missing

if TYPE_CHECKING:
    from taomagic.spec.dataset_export import DatasetExport
    from taomagic.spec.settings import SSDExperiment

_ENGINE = ("torch", "numpy", "cv2", "safetensors", "h5py", "cryptography")
_EXPORT = ("onnx", "onnxruntime")
_ENCRYPTED = (".tlt", ".etlt")


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

    words = [command.subtask, *command.args]
    arguments = parse_arguments(command.task, words, prog=f"tao {command.task}")
    return _Checks(command, context, arguments).run()


def _runs_here(command: Command) -> None:
    if not backends.engine_runs(command):
        raise EnvironmentProblem(
            f"The embedded engine can't run {command.label}.",
            where=f"tao {command.label}",
            hint=f"It runs: {backends.shown_engine_tasks()}. Other tasks run in containers: --backend docker",
        )


def _packages(command: Command) -> None:
    needed = _ENGINE + (_EXPORT if command.subtask == "export" else ())
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise EnvironmentProblem(
            f"The embedded engine needs packages that aren't installed: {', '.join(missing)}.",
            hint="Install them: pip install 'taomagic[engine]'",
        )


class _Checks:
    def __init__(self, command: Command, context: Context, arguments: argparse.Namespace) -> None:
        self._command, self._context, self._arguments = command, context, arguments
        self._warnings: list[str] = []

    def run(self) -> tuple[str, ...]:
        self._inputs()
        self._key()
        spec = self._value("spec")
        if spec:
            self._spec(spec)
        self._outputs()
        return tuple(self._warnings)

    def _value(self, name: str) -> str:
        value = getattr(self._arguments, name, None)
        return value if isinstance(value, str) else ""

    def _inputs(self) -> None:
        for name, what in (("spec", "experiment file"), ("class_names_file", "file of class names")):
            if path := self._value(name):
                self._file(path, what, lambda text, shown, hint: SpecProblem(text, path=shown, hint=hint))
        if path := self._value("model"):
            self._file(
                path, "model", lambda text, shown, hint: ModelFileProblem(text, where=shown, hint=hint)
            )
        if (path := self._value("image_dir")) and self._command.subtask == "inference":
            host = self._context.host(path)
            if not exists(host):
                raise DataProblem(
                    f"{self._place(path)} doesn't exist.",
                    where="-i",
                    hint=self._near(path, host, folders=True),
                )
            if is_folder(host) and os.access(host, os.R_OK) and not any(host.iterdir()):
                raise DataProblem(f"{self._place(path)} is empty.", where="-i", hint="Put images into it.")

    def _file(self, path: str, what: str, problem: Callable[[str, str, str], Exception]) -> None:
        host = self._context.host(path)
        if os.path.isfile(host):  # noqa: PTH113
            return
        if is_folder(host):
            raise problem(f"This is a folder, not a {what}.", self._place(path), self._near(path, host / "x"))
        if not is_missing(host):
            raise problem(f"You may not read this {what}.", self._place(path), "Ask its owner, or copy it.")
        raise problem(f"There is no such {what}.", self._place(path), self._near(path, host))

    def _place(self, path: str) -> str:
        """Return a path as written, with its place on this machine where that differs."""
        host = str(self._context.host(path))
        return path if host == path else f"{path} (here: {host})"

    def _near(self, path: str, host: Path, *, folders: bool = False) -> str:
        """Return a hint: names alike in the folder, or where the path stops existing."""
        if path.startswith(f"{CONTAINER_ROOT}/") and not self._context.mounts.mounts:
            return "This is a path in a container, and no mount map is set. Run %tao_env in a notebook."
        parent = host.parent
        if not is_folder(parent):
            while not is_folder(parent):
                parent = parent.parent
            return f"The path exists up to {parent}."
        try:
            names = sorted(entry.name for entry in parent.iterdir() if is_folder(entry) == folders)
        except OSError:
            return f"You may not look into {parent}."
        near = difflib.get_close_matches(host.name, names, n=3, cutoff=0.5)
        if near:
            return f"Did you mean {' or '.join(near)}?"
        kind = "folders" if folders else "files"
        return f"{parent} has these {kind}: {', '.join(names[:10])}." if names else f"{parent} has no {kind}."

    def _key(self) -> None:
        if self._value("key"):
            return
        for name in ("model", "output"):
            path = self._value(name)
            if path.endswith(_ENCRYPTED):
                raise UsageProblem(
                    f"{Path(path).name} is encrypted, and no key is given.",
                    where=f"tao {self._command.label}",
                    hint="Add -k $KEY with the key that the model was, or shall be, saved with.",
                )

    def _spec(self, path: str) -> None:
        host = self._context.host(path)
        if self._command.subtask == "dataset_convert":
            from taomagic.spec.dataset_export import read_dataset_export

            self._export_data(read_dataset_export(host, shown_as=path), path)
            return
        from taomagic.spec.ssd import read_experiment

        purpose = cast(Literal["train", "evaluate", "inference", "export"], self._command.subtask)
        experiment = read_experiment(host, purpose=purpose, shown_as=path)
        if purpose in {"train", "evaluate"}:
            self._experiment_data(experiment, path, train=purpose == "train")

    def _export_data(self, export: DatasetExport, spec: str) -> None:
        if export.kitti is not None:
            root = export.kitti.root_directory_path
            names: tuple[str, ...] = (export.kitti.image_dir_name, export.kitti.label_dir_name)
        elif export.coco is not None:
            root, names = export.coco.root_directory_path, export.coco.image_dir_names
        else:
            return
        self._folders((root, *(os.path.join(root, name) for name in names)), spec)  # noqa: PTH118 - container paths

    def _experiment_data(self, experiment: SSDExperiment, spec: str, *, train: bool) -> None:
        if experiment.dataset is None:
            return
        sources = experiment.dataset.validation_data_sources
        if train:
            sources = (*experiment.dataset.data_sources, *sources)
        for source in sources:
            folders = (source.image_directory_path, source.label_directory_path)
            self._folders((folder for folder in folders if folder), spec)
            if source.tfrecords_path:
                self._records(source.tfrecords_path, spec)

    def _folders(self, paths: Iterable[str], spec: str) -> None:
        for path in paths:
            host = self._context.host(path)
            if not is_folder(host):
                raise DataProblem(
                    f"The data folder {self._place(path)} doesn't exist.",
                    where=spec,
                    hint=self._near(path, host, folders=True),
                )

    def _records(self, pattern: str, spec: str) -> None:
        host = self._context.host(pattern)
        if is_folder(host.parent) and any(host.parent.glob(f"{host.name.rstrip('*') or ''}*")):
            return
        raise DataProblem(
            f"There are no TFRecords {self._place(pattern)}.",
            where=spec,
            hint="Make them first: tao ssd dataset_convert -d SPEC -o PREFIX",
        )

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
            if shown.startswith(CONTAINER_ROOT):
                hint = (
                    self._near(f"{shown}/", folder) if self._context.mounts.mounts else "Run %tao_env first."
                )
            raise UsageProblem(f"The folder of {self._place(shown)} doesn't exist.", hint=hint)
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
