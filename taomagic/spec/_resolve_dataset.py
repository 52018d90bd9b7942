"""From ``dataset_config`` to :class:`~taomagic.spec.settings.DatasetSettings`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taomagic.spec import ssd_pb2
from taomagic.spec.parse import SpecFile
from taomagic.spec.settings import DatasetSettings, DataSource, Purpose
from taomagic.spec.validate import missing

_Spec = SpecFile[ssd_pb2.Experiment]


def resolve_dataset(spec: _Spec, purpose: Purpose, notes: list[str]) -> DatasetSettings:
    """Return the data set's settings; what the purpose needs must be there. Notes for the reader are appended."""
    config = spec.message.dataset_config
    mapping = class_mapping(spec, "dataset_config.target_class_mapping", config.target_class_mapping)
    if not mapping:
        hint = 'For example target_class_mapping { key: "car" value: "car" }'
        raise missing(spec, "dataset_config.target_class_mapping", hint=hint)
    for name in ("data_sources", "validation_data_sources"):
        for index, message in enumerate(getattr(config, name)):
            if message.root_path:
                notes.append(
                    f"dataset_config.{name}[{index}].root_path has no effect; paths are used as written"
                )
    sources = tuple(map(_source, config.data_sources))
    if purpose == "train":
        _check_training_sources(spec, sources)
        _note_unread_folders(sources, notes)
    return DatasetSettings(
        data_sources=sources,
        validation_data_sources=_validation_sources(spec, purpose, notes),
        class_mapping=mapping,
        classes=tuple(sorted(set(mapping.values()))),
        # Unset keeps all objects, as in NVIDIA's containers, where the field has no effect; false is honoured.
        include_difficult=config.include_difficult_in_training
        or not config.HasField("include_difficult_in_training"),
    )


def class_mapping(spec: SpecFile[Any], field: str, entries: Mapping[str, str]) -> dict[str, str]:
    """Return a class mapping in lower case, as the loaders compare names.

    Raises
    ------
    SpecProblem
        If a name is empty, or two spellings of a class go to different targets.
    """
    mapping: dict[str, str] = {}
    for source, target in sorted(entries.items()):
        if not source.strip() or not target.strip():
            raise spec.problem(
                "a class in target_class_mapping has no name", field=field, hint="Give key and value."
            )
        key, value = source.lower(), target.lower()
        if mapping.setdefault(key, value) != value:
            what = f"target_class_mapping sends {key!r} both to {mapping[key]!r} and to {value!r}"
            raise spec.problem(
                what, field=field, hint="Upper and lower case make no difference; keep one of them."
            )
    return mapping


def _source(source: ssd_pb2.DataSource) -> DataSource:
    return DataSource(
        tfrecords_path=source.tfrecords_path or None,
        label_directory_path=source.label_directory_path or None,
        image_directory_path=source.image_directory_path or None,
    )


def _check_training_sources(spec: _Spec, sources: tuple[DataSource, ...]) -> None:
    """Raise SpecProblem unless all sources are TFRecords, or all have folders of images and labels."""
    field = "dataset_config.data_sources"
    if not sources:
        hint = "Add data_sources { tfrecords_path: … }, or one with label_directory_path and image_directory_path."
        raise missing(spec, field, hint=hint)
    from_records = sources[0].tfrecords_path is not None
    for index, source in enumerate(sources):
        place = f"{field}[{index}]"
        if from_records and source.tfrecords_path is None:
            hint = "The first source has tfrecords_path, so all must; folders and TFRecords can't be mixed."
            raise missing(spec, f"{place}.tfrecords_path", hint=hint)
        if not from_records and source.tfrecords_path is not None:
            hint = "The first source has folders, so all must; folders and TFRecords can't be mixed."
            raise spec.problem(
                "tfrecords_path stands beside folders", field=f"{place}.tfrecords_path", hint=hint
            )
        for name in () if from_records else ("label_directory_path", "image_directory_path"):
            if getattr(source, name) is None:
                hint = "Give both folders, labels and images, or tfrecords_path."
                raise missing(spec, f"{place}.{name}", hint=hint)


def _note_unread_folders(sources: tuple[DataSource, ...], notes: list[str]) -> None:
    """Say that folders beside TFRecords are not read: the records hold the images."""
    for index, source in enumerate(sources):
        unread = [
            n for n in ("label_directory_path", "image_directory_path") if getattr(source, n) is not None
        ]
        if source.tfrecords_path is not None and unread:
            where = f"dataset_config.data_sources[{index}]"
            verb = "has" if len(unread) == 1 else "have"
            notes.append(f"{where}: {' and '.join(unread)} {verb} no effect beside tfrecords_path")


def _validation_sources(spec: _Spec, purpose: Purpose, notes: list[str]) -> tuple[DataSource, ...]:
    """Return the validation sources with both folders. Training goes on without the others, evaluation can't."""
    field = "dataset_config.validation_data_sources"
    complete = []
    for index, message in enumerate(spec.message.dataset_config.validation_data_sources):
        source = _source(message)
        absent = [n for n in ("label_directory_path", "image_directory_path") if getattr(source, n) is None]
        if not absent:
            complete.append(source)
            if source.tfrecords_path is not None:
                notes.append(f"{field}[{index}]: tfrecords_path has no effect, validation reads the folders")
        elif purpose == "evaluate":
            hint = "Validation reads folders of images and KITTI labels, not TFRecords."
            raise missing(spec, f"{field}[{index}].{absent[0]}", hint=hint)
        else:
            notes.append(f"{field}[{index}] is left out: it has no {' and no '.join(absent)}")
    if purpose == "evaluate" and not complete:
        hint = "Add validation_data_sources { label_directory_path: … image_directory_path: … }."
        raise missing(spec, field, hint=hint)
    if purpose == "train" and not complete:
        notes.append("no validation data: training runs without average precision and validation loss")
    return tuple(complete)
