"""The file of ``dataset_convert -d``: which images and labels become TFRecords, and how they are divided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

#: Networks that convert data sets.
Network = Literal["ssd", "detectnet_v2"]

__all__ = [
    "CocoExport",
    "DatasetExport",
    "KittiExport",
    "Network",
    "SampleModifierSettings",
    "read_dataset_export",
]


@dataclass(frozen=True, slots=True)
class KittiExport:
    """``kitti_config``: folders of images and of KITTI label files.

    Directory names are relative to ``root_directory_path``, which is a container path as written.
    """

    root_directory_path: str
    image_dir_name: str
    label_dir_name: str
    image_extension: str  #: with its dot
    partition_mode: Literal["random", "sequence"]
    num_partitions: int
    val_split: float  #: per cent of the images that go to fold 0; random mode only
    num_shards: int  #: files for each fold; 0 = one, without a shard in its name
    kitti_sequence_to_frames_file: str | None  #: relative to the root; sequence mode only
    point_clouds_dir: str | None = (
        None  #: of DetectNet_v2's records, which name point clouds and hold calibrations
    )
    calibrations_dir: str | None = None


@dataclass(frozen=True, slots=True)
class CocoExport:
    """``coco_config``: one folder of images and one annotation file for each fold."""

    root_directory_path: str
    image_dir_names: tuple[str, ...]
    annotation_files: tuple[str, ...]
    num_partitions: int
    num_shards: tuple[int, ...]  #: one number for each fold, as in KittiExport


@dataclass(frozen=True, slots=True)
class SampleModifierSettings:
    """``sample_modifier_config``: which training images are left out, and which are written several times.

    All class names are lower-cased.
    """

    filter_containing_only: tuple[
        str, ...
    ]  #: images whose objects are all of one of these classes are left out
    dominant_classes: tuple[str, ...]  #: classes that are frequent anyway
    minimum_imbalance: Mapping[
        str, float
    ]  #: class -> ratio to a dominant class above which an image is repeated
    num_duplicates: int  #: copies of such an image, beside itself
    max_training_samples: int  #: of all training folds together; 0 = no limit
    class_mapping: Mapping[
        str, str
    ]  #: class in the labels -> class that is counted; empty = those of the records


@dataclass(frozen=True, slots=True)
class DatasetExport:
    """A data set export file; exactly one of ``kitti`` and ``coco`` is set.

    Parameters
    ----------
    path, text
        The file as the person named it, and what it says.
    class_mapping
        Lower-cased class in the labels -> lower-cased class of the records. Empty if the file has none, in
        which case ``ssd dataset_convert -c`` must name the classes, and always for DetectNet_v2, whose records keep
        the names in the labels.
    classes
        The sorted targets; the id in the records is the index plus 1.
    notes
        What a reader of the file should know: fields without effect.
    """

    path: str
    text: str
    kitti: KittiExport | None
    coco: CocoExport | None
    class_mapping: Mapping[str, str]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()
    sample_modifier: SampleModifierSettings | None = (
        None  #: ``None`` if the file has no ``sample_modifier_config``
    )


def read_dataset_export(
    path: Path, *, shown_as: str | None = None, network: Network = "ssd"
) -> DatasetExport:
    """Read and check a data set export file.

    Parameters
    ----------
    path
        The file on this machine.
    shown_as
        The name to use in messages, usually the path as the person wrote it.
    network
        Whose ``dataset_convert`` it is for; DetectNet_v2's maps no classes, and knows point clouds and calibrations.

    Returns
    -------
    DatasetExport
        With all defaults filled in.

    Raises
    ------
    SpecProblem
        If the file can't be read or breaks a rule.
    """
    from taomagic.spec._resolve_export import resolve_export

    return resolve_export(path, shown_as=shown_as, network=network)
