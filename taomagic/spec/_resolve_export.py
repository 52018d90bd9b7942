"""From the text of a data set export file to :class:`~taomagic.spec.dataset_export.DatasetExport`."""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Final, Literal, cast

from taomagic.spec import ssd_pb2
from taomagic.spec._resolve_dataset import class_mapping
from taomagic.spec.dataset_export import (
    CocoExport,
    DatasetExport,
    KittiExport,
    Network,
    SampleModifierSettings,
)
from taomagic.spec.parse import SpecFile, read_spec
from taomagic.spec.validate import PREFIX, as_written, broken, check_ranges, missing

_Spec = SpecFile[ssd_pb2.DatasetExportConfig]

_DEFAULT_SHARDS: Final = 10
_DEFAULT_VAL_SPLIT: Final = 20.0
_IMAGE_EXTENSIONS: Final = (".png", ".jpg", ".jpeg")
_PARTITION_MODES: Final = ("random", "sequence")


def resolve_export(path: Path, *, shown_as: str | None = None, network: Network = "ssd") -> DatasetExport:
    """Read, check and resolve a data set export file."""
    spec = read_spec(path, ssd_pb2.DatasetExportConfig, shown_as=shown_as)
    message = spec.message
    kind = message.WhichOneof("convert_config_type")
    if kind is None:
        hint = "Add kitti_config { … } for KITTI labels or coco_config { … } for COCO annotations."
        raise missing(spec, "kitti_config or coco_config", hint=hint)
    maps_classes = network == "ssd"
    if maps_classes:
        _refuse_unsupported(spec)
    check_ranges(spec)
    mapping = class_mapping(spec, "target_class_mapping", message.target_class_mapping)
    notes = _notes(message, getattr(message, kind).root_directory_path)
    if mapping and not maps_classes:
        notes += (
            "target_class_mapping has no effect here: the records keep the labels' names, which dataset_config of the "
            "experiment file maps",
        )
        mapping = {}
    return DatasetExport(
        path=spec.path,
        text=spec.text,
        kitti=_kitti(spec) if kind == "kitti_config" else None,
        coco=_coco(spec) if kind == "coco_config" else None,
        class_mapping=mapping,
        classes=tuple(sorted(set(mapping.values()))),
        sample_modifier=_sample_modifier(spec, set(mapping.values())),
        notes=notes,
    )


def _notes(message: ssd_pb2.DatasetExportConfig, root: str) -> tuple[str, ...]:
    """Return what the file says without effect."""
    notes = []
    config, in_order = message.kitti_config, message.kitti_config.partition_mode == "sequence"
    for name in ("val_split",) if in_order else ("kitti_sequence_to_frames_file",):
        if config.HasField(name):
            mode = "sequence" if in_order else "random"
            notes.append(f"kitti_config.{name} has no effect with partition_mode: {mode}")
    # NVIDIA's own examples repeat the root here, so that is not worth a word.
    if message.image_directory_path and posixpath.normpath(
        message.image_directory_path
    ) != posixpath.normpath(root):
        notes.append(
            f"image_directory_path has no effect; images are read from the root_directory_path {root}"
        )
    return tuple(notes)


def _refuse_unsupported(spec: _Spec) -> None:
    for name in ("point_clouds_dir", "calibrations_dir"):
        if getattr(spec.message.kitti_config, name):
            raise spec.problem(
                f"{name} is not supported: SSD reads images and labels only",
                field=f"kitti_config.{name}",
                hint="Remove it.",
            )


def _sample_modifier(spec: _Spec, classes: set[str]) -> SampleModifierSettings | None:
    """Return ``sample_modifier_config``; every class that it names must be one that can be counted."""
    if not spec.message.HasField("sample_modifier_config"):
        return None
    config = spec.message.sample_modifier_config
    block = "sample_modifier_config"
    mapping = class_mapping(
        spec, f"{block}.source_to_target_class_mapping", config.source_to_target_class_mapping
    )
    known = set(mapping.values()) or classes
    lists = {
        name: tuple(text.lower() for text in getattr(config, name))
        for name in ("filter_samples_containing_only", "dominant_target_classes")
    }
    imbalance = {
        name.lower(): as_written(ratio) for name, ratio in config.minimum_target_class_imbalance.items()
    }
    for field, names in (*lists.items(), ("minimum_target_class_imbalance", tuple(imbalance))):
        # Without any mapping the classes come from -c or from the labels, and aren't known here.
        for name in names if known else ():
            if name not in known:
                raise broken(spec, f"{block}.{field}", name, f"one of {', '.join(sorted(known))}")
    for name, ratio in imbalance.items():
        if not 0 <= ratio < float("inf"):
            raise broken(spec, f"{block}.minimum_target_class_imbalance", f"{name}: {ratio}", ">= 0")
    if config.num_duplicates and not lists["dominant_target_classes"]:
        raise missing(
            spec,
            f"{block}.dominant_target_classes",
            hint="num_duplicates repeats images in which other classes outnumber these.",
        )
    return SampleModifierSettings(
        filter_containing_only=lists["filter_samples_containing_only"],
        dominant_classes=lists["dominant_target_classes"],
        minimum_imbalance=imbalance,
        num_duplicates=config.num_duplicates,
        max_training_samples=config.max_training_samples,
        class_mapping=mapping,
    )


def _kitti(spec: _Spec) -> KittiExport:
    config = spec.message.kitti_config
    for name, example in (
        ("root_directory_path", "/workspace/tao-experiments/data/"),
        ("image_dir_name", "training/image_2"),
        ("label_dir_name", "training/label_2"),
    ):
        if not getattr(config, name):
            raise missing(spec, f"kitti_config.{name}", hint=f'For example {name}: "{example}"')
    mode = config.partition_mode or "random"
    if mode not in _PARTITION_MODES:
        raise broken(spec, "kitti_config.partition_mode", mode, f"one of {', '.join(_PARTITION_MODES)}")
    partitions = config.num_partitions if config.HasField("num_partitions") else 2
    if mode == "random" and partitions != 2:
        hint = "Random mode makes a validation and a training fold; val_split: 0 leaves the first one empty."
        raise broken(spec, "kitti_config.num_partitions", partitions, "2 in random mode", hint=hint)
    if partitions < 1:
        raise broken(spec, "kitti_config.num_partitions", partitions, ">= 1")
    if mode == "sequence" and not config.kitti_sequence_to_frames_file:
        hint = "Sequence mode needs a JSON file that maps each sequence to its frames."
        raise missing(spec, "kitti_config.kitti_sequence_to_frames_file", hint=hint)
    return KittiExport(
        root_directory_path=config.root_directory_path,
        image_dir_name=config.image_dir_name,
        label_dir_name=config.label_dir_name,
        image_extension=_image_extension(spec),
        partition_mode=cast(Literal["random", "sequence"], mode),
        num_partitions=partitions,
        val_split=as_written(config.val_split) if config.HasField("val_split") else _DEFAULT_VAL_SPLIT,
        num_shards=config.num_shards if config.HasField("num_shards") else _DEFAULT_SHARDS,
        kitti_sequence_to_frames_file=config.kitti_sequence_to_frames_file or None,
        point_clouds_dir=config.point_clouds_dir or None,
        calibrations_dir=config.calibrations_dir or None,
    )


def _image_extension(spec: _Spec) -> str:
    extension = spec.message.kitti_config.image_extension or ".png"
    if extension.lower() not in _IMAGE_EXTENSIONS:
        allowed = f"one of {', '.join(_IMAGE_EXTENSIONS)}"
        raise broken(spec, "kitti_config.image_extension", extension, allowed, hint="The dot belongs to it.")
    return extension


def _coco(spec: _Spec) -> CocoExport:
    config = spec.message.coco_config
    if not config.root_directory_path:
        hint = 'For example root_directory_path: "/workspace/tao-experiments/data/coco"'
        raise missing(spec, "coco_config.root_directory_path", hint=hint)
    partitions = config.num_partitions if config.HasField("num_partitions") else 2
    if partitions < 1:
        raise broken(spec, "coco_config.num_partitions", partitions, ">= 1")
    images, aliased = tuple(config.img_dir_names), tuple(config.image_dir_names)
    if images and aliased and images != aliased:
        allowed = f"the same as img_dir_names ({', '.join(images)})"
        hint = "They are two names of one field; keep img_dir_names."
        raise broken(spec, "coco_config.image_dir_names", ", ".join(aliased), allowed, hint=hint)
    images = images or aliased
    annotations = tuple(config.annotation_files)
    name = "image_dir_names" if aliased else "img_dir_names"
    for field, values in ((name, images), ("annotation_files", annotations)):
        if len(values) != partitions:
            raise _wrong_length(spec, field, len(values), f"num_partitions ({partitions})")
    shards = tuple(config.num_shards) or (_DEFAULT_SHARDS,)
    if len(shards) == 1:
        shards *= partitions
    elif len(shards) != partitions:
        raise _wrong_length(spec, "num_shards", len(shards), f"1 or num_partitions ({partitions})")
    return CocoExport(config.root_directory_path, images, annotations, partitions, shards)


def _wrong_length(spec: _Spec, name: str, length: int, allowed: str) -> Exception:
    field = f"coco_config.{name}"
    message = f"{PREFIX}The length of {name} should be {allowed}, but {field} has {length}"
    return spec.problem(message, field=field, hint="Give one for each fold, validation first.")
