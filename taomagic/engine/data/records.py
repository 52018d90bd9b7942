"""Find the images and labels that an experiment names: KITTI folders, or TFRecords with their index files."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from taomagic.engine.data import images, tfrecord
from taomagic.engine.data.augmentation import Labels
from taomagic.engine.data.images import Image
from taomagic.engine.data.kitti import read_training_labels
from taomagic.engine.data.labels import class_counts
from taomagic.engine.data.record_files import record_files
from taomagic.engine.data.sources import list_folder
from taomagic.errors import DataProblem
from taomagic.project.paths import PathMap
from taomagic.spec.settings import DatasetSettings, DataSource

logger = logging.getLogger(__name__)

_LISTED = 3


class Encoded(Protocol):
    """Where the encoded bytes of an image are."""

    @property
    def name(self) -> str:
        """Return the image's name as the person knows it."""
        ...

    def read(self) -> bytes:
        """Return the encoded image."""
        ...

    def size(self) -> tuple[int, int] | None:
        """Return width and height of the image as stored without reading it all, ``None`` where that fails."""
        ...


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image file."""

    name: str
    path: Path

    def read(self) -> bytes:
        """Return the encoded image."""
        return images.read_bytes(self.path, self.name)

    def size(self) -> tuple[int, int] | None:
        """Return width and height from the file's header."""
        return images.size_in_header(self.path)


@dataclass(frozen=True, slots=True)
class ImageInRecord:
    """An image inside a TFRecord file."""

    name: str
    path: Path
    shown_as: str
    offset: int
    width: int
    height: int

    def read(self) -> bytes:
        """Return the encoded image."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            record = tfrecord.read_record(file, self.shown_as)
        example = tfrecord.parse_example(record or b"", self.shown_as, self.offset)
        return example.features.feature["frame/encoded"].bytes_list.value[0]

    def size(self) -> tuple[int, int] | None:
        """Return width and height as recorded."""
        return self.width, self.height


@dataclass(slots=True)
class Collection:
    """Images with their labels.

    Attributes
    ----------
    encoded
        Where each image is.
    labels
        Its boxes, in pixels of the image as stored.
    from_tfrecords
        Which of the two pipelines applies.
    """

    from_tfrecords: bool
    encoded: list[Encoded] = field(default_factory=list)
    labels: list[Labels] = field(default_factory=list)

    def decode(self, index: int) -> Image:
        """Return an image as stored, RGB, uint8."""
        item = self.encoded[index]
        return images.decode(item.read(), item.name)

    def class_counts(self, classes: Sequence[str]) -> dict[str, int]:
        """Return the number of objects per class."""
        return class_counts((labels.classes for labels in self.labels), classes)

    def fingerprint(self) -> str:
        """Return a hash of names, labels and encoded images: equal data, wherever they lie, have equal fingerprints.

        Raises
        ------
        DataProblem
            An image is missing, empty, cut off or none at all: better now than in the middle of a training.
        """
        digest = hashlib.blake2b(digest_size=20)
        for item, labels in zip(self.encoded, self.labels, strict=True):
            content = item.read()
            images.size_of(content, item.name)
            digest.update(f"{Path(item.name).stem}\0{len(content)}\0{len(labels.boxes)}\0".encode())
            for array in (labels.boxes, labels.classes, labels.difficult):
                digest.update(np.ascontiguousarray(array).tobytes())
            digest.update(content)
        return digest.hexdigest()


def collect(
    sources: Sequence[DataSource], dataset: DatasetSettings, paths: PathMap, *, purpose: str
) -> Collection:
    """Return all images and labels of some data sources.

    Parameters
    ----------
    sources
        Where to look. TFRecords are used for all of them if the first one names some, as in TAO.
    dataset
        The classes.
    paths
        Translates the paths as written.
    purpose
        ``training`` or ``validation``, for messages.

    Raises
    ------
    DataProblem
        A folder, file or index is missing or damaged, or there is no image, or no object of a mapped class.
    """
    ids = {name: position for position, name in enumerate(dataset.classes, 1)}
    class_ids = {source.lower(): ids[target] for source, target in dataset.class_mapping.items()}
    found = Collection(from_tfrecords=bool(sources and sources[0].tfrecords_path))
    notes = _Notes(purpose)
    for source in sources:
        if found.from_tfrecords:
            _add_tfrecords(found, source.tfrecords_path or "", len(dataset.classes), paths, notes)
        elif source.image_directory_path and source.label_directory_path:
            _add_folders(
                found, source.image_directory_path, source.label_directory_path, class_ids, paths, notes
            )
    notes.log()
    where = ", ".join(filter(None, (s.tfrecords_path or s.image_directory_path for s in sources)))
    if not found.encoded:
        raise DataProblem(
            f"there is no {purpose} image", where=where, hint="check the data sources in dataset_config"
        )
    if not any(len(labels.boxes) for labels in found.labels):
        seen = ", ".join(notes.unknown) or "no objects"
        raise DataProblem(
            f"the {purpose} labels have no object of a mapped class",
            where=where,
            hint=f"target_class_mapping has {', '.join(class_ids)}; the labels have {seen}",
        )
    return found


@dataclass(slots=True)
class _Notes:
    """What was left out, logged once."""

    purpose: str
    unknown: Counter[str] = field(default_factory=Counter)
    short_rows: int = 0
    bad_boxes: int = 0
    unlabelled: list[str] = field(default_factory=list)

    def check(self, labels: Labels) -> Labels:
        """Return the labels without boxes that are empty or upside down, which would make the loss infinite."""
        good = (labels.boxes[:, 2:] > labels.boxes[:, :2]).all(axis=1)
        self.bad_boxes += int((~good).sum())
        return labels if good.all() else labels.keep(good)

    def log(self) -> None:
        """Log one line for each kind of thing left out."""
        if self.unlabelled:
            names = ", ".join(self.unlabelled[:_LISTED]) + (" …" if len(self.unlabelled) > _LISTED else "")
            logger.warning(
                "Left out %d %s images without a label file: %s", len(self.unlabelled), self.purpose, names
            )
        if self.unknown:
            listed = ", ".join(f"{name} ({count})" for name, count in self.unknown.most_common())
            logger.info(
                "Classes in the %s labels that target_class_mapping doesn't have: %s", self.purpose, listed
            )
        if self.short_rows:
            logger.warning(
                "Left out %d %s label rows with fewer than 9 fields", self.short_rows, self.purpose
            )
        if self.bad_boxes:
            logger.warning(
                "Left out %d %s objects with an empty or upside-down box", self.bad_boxes, self.purpose
            )


def _add_folders(
    found: Collection,
    image_folder: str,
    label_folder: str,
    class_ids: Mapping[str, int],
    paths: PathMap,
    notes: _Notes,
) -> None:
    """Add the images of a folder that have a label file of the same name."""
    images_here, labels_here = paths.to_host(image_folder), paths.to_host(label_folder)
    label_names = set(list_folder(labels_here, label_folder))
    for name in list_folder(images_here, image_folder):
        stem, suffix = Path(name).stem, Path(name).suffix
        if suffix.lower() not in images.SUFFIXES:
            continue
        shown = f"{image_folder.rstrip('/')}/{name}"
        if f"{stem}.txt" not in label_names:
            notes.unlabelled.append(shown)
            continue
        label_shown = f"{label_folder.rstrip('/')}/{stem}.txt"
        read = read_training_labels(labels_here / f"{stem}.txt", class_ids, shown_as=label_shown)
        notes.short_rows += read.short_rows
        notes.unknown.update(read.unknown)
        found.encoded.append(ImageFile(shown, images_here / name))
        found.labels.append(notes.check(Labels(read.boxes, read.classes, read.difficult)))


def _add_tfrecords(found: Collection, pattern: str, classes: int, paths: PathMap, notes: _Notes) -> None:
    """Add the records of all files that a pattern matches."""
    for path, shown in record_files(pattern, paths):
        index = tfrecord.read_index(path, shown_as=shown)
        here = []
        for offset, record in tfrecord.read_records(path, shown_as=shown):
            here.append((offset, tfrecord.FRAME_BYTES + len(record)))
            example = tfrecord.parse_example(record, shown, offset)
            name, size, labels = _read_example(example, classes, shown, offset)
            found.encoded.append(ImageInRecord(name, path, shown, offset, *size))
            found.labels.append(notes.check(labels))
        if here != index:
            raise DataProblem(
                f"the index file {tfrecord.index_path(path).name} doesn't belong to this TFRecord file",
                where=shown,
                hint="run dataset_convert again; it writes both",
            )


def _read_example(
    example: tfrecord.Example, classes: int, shown: str, offset: int
) -> tuple[str, tuple[int, int], Labels]:
    """Return name, (width, height) and labels of a record."""
    features = example.features.feature
    where = f"{shown}, byte {offset}"
    try:
        name = features["frame/id"].bytes_list.value[0].decode()
        width = features["frame/width"].int64_list.value[0]
        height = features["frame/height"].int64_list.value[0]
        features["frame/encoded"].bytes_list.value[0]
    except (IndexError, UnicodeDecodeError):
        raise DataProblem(
            "a record has no frame/id, frame/width, frame/height or frame/encoded",
            where=where,
            hint="TFRecords for SSD are written by ssd dataset_convert; other networks' records differ",
        ) from None
    corners = [
        features[f"target/coordinates_{corner}"].float_list.value for corner in ("x1", "y1", "x2", "y2")
    ]
    identities = np.array(features["target/object_class_id"].float_list.value, np.int64)
    occlusion = features["target/occlusion"]
    occluded = np.array([*occlusion.int64_list.value, *occlusion.float_list.value], np.float64) != 0
    if {len(values) for values in corners} | {len(occluded)} != {len(identities)}:
        raise DataProblem(
            "the lists of a record's objects differ in length", where=where, hint="convert again"
        )
    if identities.size and not 1 <= identities.min() <= identities.max() <= classes:
        raise DataProblem(
            f"a record has the class id {identities.max()}, but target_class_mapping has {classes} classes",
            where=where,
            hint="use the same target_class_mapping for dataset_convert and train",
        )
    boxes = np.array(corners, np.float32).T.reshape(-1, 4) * np.array(
        [width, height, width, height], np.float32
    )
    return name, (width, height), Labels(boxes.astype(np.float32), identities, occluded)
