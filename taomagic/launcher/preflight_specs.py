"""The experiment file of a command, and the data and models that it names: checked before anything starts."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from glob import iglob
from typing import TYPE_CHECKING, Literal, NoReturn, cast

from taomagic.errors import DataProblem, ModelFileProblem, UsageProblem
from taomagic.launcher.preflight_places import Places
from taomagic.project.paths import is_container_path, is_missing

if TYPE_CHECKING:
    from taomagic.spec.dataset_export import DatasetExport
    from taomagic.spec.settings import DatasetSettings
    from taomagic.spec.settings_detectnet_v2 import DetectNetDatasetSettings
    from taomagic.spec.settings_detectnet_v2 import Purpose as DetectNetPurpose

#: Models that can't be read without a key.
ENCRYPTED = (".tlt", ".etlt")
#: Where DetectNet_v2's relative patterns begin, as in NVIDIA's loader.
_BASE_VARIABLE, _BASE = "DATA_BASE_PATH", "~/datasets"


def check_spec(arguments: argparse.Namespace, path: str, places: Places) -> None:
    """Check the experiment file of a command, and what it names.

    Parameters
    ----------
    arguments
        The command's, with ``task`` and ``subtask``.
    path
        The file, as written.
    places
        Where things are.

    Raises
    ------
    SpecProblem
        Something is wrong in the file; says where.
    DataProblem, ModelFileProblem
        What it names isn't there.
    UsageProblem
        A model that it names is encrypted, and no key is given.
    """
    if arguments.subtask == "dataset_convert":
        from taomagic.spec.dataset_export import read_dataset_export

        network = cast(Literal["ssd", "detectnet_v2"], arguments.task)
        _export_data(read_dataset_export(places.host(path), shown_as=path, network=network), path, places)
        return
    group, _, network = arguments.task.rpartition(" ")
    if group == "deploy":
        _deploy(network, arguments, path, places)
        return
    _NETWORKS[arguments.task](arguments, path, places)


def require_key(arguments: argparse.Namespace, model: str) -> None:
    """Raise :class:`UsageProblem` where a model is encrypted, and no key is given."""
    if model.endswith(ENCRYPTED) and not getattr(arguments, "key", ""):
        raise UsageProblem(
            f"{model.rpartition('/')[2]} is encrypted, and no key is given.",
            where=f"tao {arguments.task} {arguments.subtask}",
            hint="Add -k $KEY with the key that the model was, or shall be, saved with.",
        )


def _ssd(arguments: argparse.Namespace, path: str, places: Places) -> None:
    from taomagic.spec.arguments import evaluation_purpose
    from taomagic.spec.ssd import read_experiment

    purpose = cast(Literal["train", "evaluate", "judge", "inference", "export"], arguments.subtask)
    if purpose == "evaluate":
        purpose = evaluation_purpose(arguments)
    experiment = read_experiment(places.host(path), purpose=purpose, shown_as=path)
    if purpose not in {"train", "evaluate"}:
        return
    train = purpose == "train"
    if train and experiment.training is not None and not arguments.model:
        named = experiment.training.load_model
        if named is not None:
            _model(named.path, path, arguments, places)
    if experiment.dataset is not None:
        _ssd_data(experiment.dataset, path, places, train=train)


def _ssd_data(dataset: DatasetSettings, spec: str, places: Places, *, train: bool) -> None:
    sources = dataset.validation_data_sources
    if train:
        sources = (*dataset.data_sources, *sources)
    for source in sources:
        for folder in (source.image_directory_path, source.label_directory_path):
            if folder:
                places.data_folder(folder, spec)
        if source.tfrecords_path:
            host = places.host(source.tfrecords_path)
            if not any(iglob(f"{host.parent}/{host.name.rstrip('*')}*")):  # noqa: PTH207 - it is a pattern
                _no_records(source.tfrecords_path, spec, "ssd", places)


#: Sub-task of DetectNet_v2 -> what its experiment file is read for.
_DETECTNET_PURPOSES: Mapping[str, DetectNetPurpose] = {
    "train": "train",
    "show": "evaluate",
    "evaluate": "evaluate",
    "export": "export",
    "calibration_tensorfile": "calibration",
}


def _detectnet_v2(arguments: argparse.Namespace, path: str, places: Places) -> None:
    from taomagic.spec.arguments import evaluation_purpose
    from taomagic.spec.detectnet_v2 import read_experiment, read_inference

    if arguments.subtask == "inference":
        settings = read_inference(places.host(path), shown_as=path)
        model = settings.model or settings.engine or settings.etlt_model
        if settings.etlt_model and settings.engine and is_missing(places.host(settings.engine)):
            model = settings.model or settings.etlt_model  # what it would be built from is run as it is
        if model and not arguments.model:
            _model(model, path, arguments, places)
        return
    trains = arguments.subtask == "show" and arguments.use_training_set
    purpose = "train" if trains else _DETECTNET_PURPOSES[arguments.subtask]
    if arguments.subtask == "evaluate":
        purpose = evaluation_purpose(arguments)
    experiment = read_experiment(places.host(path), purpose=purpose, shown_as=path)
    if (
        arguments.subtask == "train"
        and experiment.model is not None
        and experiment.model.pretrained_model_file
    ):
        _model(experiment.model.pretrained_model_file, path, arguments, places)
    if purpose not in {"judge", "export"} and experiment.dataset is not None:
        _detectnet_data(experiment.dataset, path, places, train=purpose == "train")


def _detectnet_data(dataset: DetectNetDatasetSettings, spec: str, places: Places, *, train: bool) -> None:
    validation = dataset.validation_source
    sources = dataset.data_sources if train or validation is None else ()
    for source in (*sources, *(() if validation is None else (validation,))):
        places.data_folder(source.image_directory_path, spec)
        pattern = source.tfrecords_path
        if not pattern.startswith(("/", "~")):
            pattern = f"{places.context.environ.get(_BASE_VARIABLE) or _BASE}/{pattern}"
        found = iglob(str(places.host(os.path.expanduser(pattern))))  # noqa: PTH111, PTH207
        if not any(os.path.isfile(name) for name in found):  # noqa: PTH113
            _no_records(pattern, spec, "detectnet_v2", places)


def _deploy(network: str, arguments: argparse.Namespace, path: str, places: Places) -> None:
    """Read the spec of a command of the deploy group; model and images are named by flags."""
    from taomagic.spec.arguments import evaluation_purpose

    purpose: Literal["export", "evaluate", "judge"] = "evaluate"
    if arguments.subtask == "gen_trt_engine":
        purpose = "export"
    elif arguments.subtask == "evaluate":
        purpose = evaluation_purpose(arguments)
    if network == "ssd":
        from taomagic.spec import ssd

        ssd.read_experiment(places.host(path), purpose=purpose, shown_as=path)
        return
    from taomagic.spec import detectnet_v2

    if arguments.subtask == "inference":
        detectnet_v2.read_inference(places.host(path), shown_as=path)
    else:
        detectnet_v2.read_experiment(places.host(path), purpose=purpose, shown_as=path)


def _no_records(pattern: str, spec: str, task: str, places: Places) -> NoReturn:
    if not places.context.mounts.mounts and is_container_path(pattern):
        hint = places.near(pattern, places.host(pattern))
    else:
        hint = f"Make them first: tao {task} dataset_convert -d SPEC -o PREFIX"
    raise DataProblem(f"There are no TFRecords {places.shown(pattern)}.", where=spec, hint=hint)


def _model(path: str, spec: str, arguments: argparse.Namespace, places: Places) -> None:
    """Check a model that an experiment file names."""

    def problem(text: str, shown: str, hint: str) -> Exception:
        return ModelFileProblem(f"{text[:-1]}: {shown}", where=spec, hint=hint)

    places.file(path, "model", problem)
    require_key(arguments, path)


def _export_data(export: DatasetExport, spec: str, places: Places) -> None:
    if export.kitti is not None:
        root = export.kitti.root_directory_path
        beside = (export.kitti.point_clouds_dir, export.kitti.calibrations_dir)
        names: tuple[str, ...] = (
            export.kitti.image_dir_name,
            export.kitti.label_dir_name,
            *filter(None, beside),
        )
    elif export.coco is not None:
        root, names = export.coco.root_directory_path, export.coco.image_dir_names
    else:
        return
    for folder in (root, *(os.path.join(root, name) for name in names)):  # noqa: PTH118 - container paths
        places.data_folder(folder, spec)


_NETWORKS: Mapping[str, Callable[[argparse.Namespace, str, Places], None]] = {
    "ssd": _ssd,
    "detectnet_v2": _detectnet_v2,
}
