"""DetectNet_v2's data: TFRecords that hold the labels and the names of images, which lie in a folder beside them.

Source: sections 1.2 and 2 of the reference. The files are those of ``detectnet_v2 dataset_convert``, boxes in pixels.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from taomagic.engine.data import images, tfrecord
from taomagic.engine.data.images import Image
from taomagic.errors import DataProblem
from taomagic.project.paths import PathMap
from taomagic.spec.settings_detectnet_v2 import DetectNetDatasetSettings, DetectNetSource

logger = logging.getLogger(__name__)

#: Name -> feature of a record.
_Features = Mapping[str, Any]

#: Where relative patterns begin, as in NVIDIA's loader.
BASE_VARIABLE = "DATA_BASE_PATH"
_DEFAULT_BASE = "~/datasets"


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects of one image.

    Attributes
    ----------
    boxes
        [n, 4] float32 corners in pixels.
    classes
        [n] int64 ids from 1, in the order of the network's channels.
    occluded
        [n] bool.
    source_classes
        What the labels call them.
    """

    boxes: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    occluded: npt.NDArray[np.bool_]
    source_classes: tuple[str, ...]

    def keep(self, chosen: npt.NDArray[np.bool_]) -> Objects:
        """Return the chosen objects."""
        names = tuple(name for name, kept in zip(self.source_classes, chosen, strict=True) if kept)
        return Objects(self.boxes[chosen], self.classes[chosen], self.occluded[chosen], names)

    def moved(self, boxes: npt.NDArray[np.float32]) -> Objects:
        """Return the same objects with other boxes."""
        return Objects(boxes, self.classes, self.occluded, self.source_classes)


@dataclass(frozen=True, slots=True)
class Frame:
    """An image with its objects, and the weight of the source that it is from."""

    name: str  #: the image's path as the person knows it
    path: Path
    objects: Objects
    weight: float

    def decode(self) -> Image:
        """Return the image, RGB, uint8.

        Raises
        ------
        DataProblem
            It is missing or damaged; says which.
        """
        return images.decode(images.read_bytes(self.path, self.name), self.name)


@dataclass(slots=True)
class Frames:
    """The images of one or several sources.

    Attributes
    ----------
    frames
        In the order of the sources, their files and their records.
    sources
        How many of them each source has.
    """

    frames: list[Frame] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)

    def fingerprint(self) -> str:
        """Return a hash of names, objects and image files' sizes and times; it changes with the data."""
        digest = hashlib.blake2b(digest_size=20)
        for frame in self.frames:
            digest.update(f"{frame.path.name}\0{frame.weight}\0".encode())
            for array in (frame.objects.boxes, frame.objects.classes):
                digest.update(np.ascontiguousarray(array).tobytes())
            try:
                stat = frame.path.stat()
            except OSError:
                continue  # it is named when it is read
            digest.update(f"{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        return digest.hexdigest()


def collect(
    settings: DetectNetDatasetSettings, classes: Sequence[str], paths: PathMap, *, validation: bool
) -> Frames:
    """Return the training or the validation images.

    Parameters
    ----------
    settings
        ``dataset_config``. With ``validation_fold``, the files of that fold are for validation and all others for
        training; with ``validation_data_source``, that source is, and without either nothing is.
    classes
        The network's, in the order of its channels.
    paths
        Translates the paths as written.
    validation
        Which of the two.

    Raises
    ------
    DataProblem
        A file is missing or damaged, or there is no image or no object of the classes.
    """
    purpose = "validation" if validation else "training"
    sources: Sequence[DetectNetSource] = settings.data_sources
    fold = settings.validation_fold
    if validation and settings.validation_source is not None:
        sources, fold = (settings.validation_source,), None
    elif validation and fold is None:
        return Frames()
    reader = _Reader(settings, classes, paths)
    found = Frames()
    for source in sources:
        files = _record_files(source.tfrecords_path, paths)
        if fold is not None:
            # Only file names tell folds apart.
            part = f"fold-{fold:03d}-of-"
            files = [entry for entry in files if (part in entry[0].name) == validation]
        before = len(found.frames)
        for path, shown in files:
            found.frames += reader.read(path, shown, source)
        found.sources.append(len(found.frames) - before)
    reader.report(purpose)
    where = ", ".join(source.tfrecords_path for source in sources)
    if not found.frames:
        hint = (
            f"No file name has fold-{fold:03d}-of-; convert with val_split above 0, or name another validation_fold."
            if fold is not None and validation
            else "Run dataset_convert again, or look at the pattern."
        )
        raise DataProblem(f"there is no {purpose} image", where=where, hint=hint)
    if not any(len(frame.objects.boxes) for frame in found.frames):
        seen = ", ".join(reader.unmapped) or "no objects"
        raise DataProblem(
            f"the {purpose} records have no object of a mapped class",
            where=where,
            hint=f"target_class_mapping has {', '.join(settings.class_mapping)}; the records have {seen}",
        )
    return found


class _Reader:
    """Reads records, and counts what it leaves out."""

    def __init__(self, settings: DetectNetDatasetSettings, classes: Sequence[str], paths: PathMap) -> None:
        ids = {name: position for position, name in enumerate(classes, 1)}
        self._ids = {
            source: ids[target] for source, target in settings.class_mapping.items() if target in ids
        }
        self._extension = settings.image_extension
        self._paths = paths
        self.unmapped: Counter[str] = Counter()

    def read(self, path: Path, shown: str, source: DetectNetSource) -> list[Frame]:
        """Return the frames of a file."""
        frames = []
        for offset, record in tfrecord.read_records(path, shown_as=shown):
            features = tfrecord.parse_example(record, shown, offset).features.feature
            where = f"{shown}, byte {offset}"
            try:
                identity = features["frame/id"].bytes_list.value[0].decode()
            except (IndexError, UnicodeDecodeError):
                raise DataProblem(
                    "a record has no frame/id", where=where, hint="Run detectnet_v2 dataset_convert again."
                ) from None
            name = f"{source.image_directory_path.rstrip('/')}/{identity}.{self._extension}"
            objects = self._objects(features, where)
            frames.append(Frame(name, self._paths.to_host(name), objects, source.weight))
        return frames

    def report(self, purpose: str) -> None:
        """Log which classes were left out."""
        if self.unmapped:
            listed = ", ".join(f"{name} ({count})" for name, count in self.unmapped.most_common())
            logger.info("Classes in the %s records that the network doesn't have: %s", purpose, listed)

    def _objects(self, features: _Features, where: str) -> Objects:
        names = [
            value.decode(errors="replace").lower()
            for value in features["target/object_class"].bytes_list.value
        ]
        boxes = _boxes(features, len(names), where)
        occlusion = features["target/occlusion"]
        occluded = [*occlusion.int64_list.value, *occlusion.float_list.value] or [0] * len(names)
        if len(occluded) != len(names):
            raise DataProblem(
                "the lists of a record's objects differ in length",
                where=where,
                hint="Run dataset_convert again.",
            )
        if not names and len(features["target/object_class_id"].float_list.value):
            raise DataProblem(
                "these records name classes by numbers, as SSD's do",
                where=where,
                hint="Convert the data with detectnet_v2 dataset_convert.",
            )
        mapped = np.array([self._ids.get(name, 0) for name in names], np.int64)
        for name, identity in zip(names, mapped, strict=True):
            if identity == 0 and name != "dontcare":
                self.unmapped[name] += 1
        objects = Objects(boxes, mapped, np.array(occluded, np.float64) > 0, tuple(names))
        good = (mapped > 0) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        return objects.keep(good)


def _boxes(features: _Features, count: int, where: str) -> npt.NDArray[np.float32]:
    """Return [count, 4] corners; of records with polygons, the boxes around these."""
    corners = [
        features[f"target/coordinates_{corner}"].float_list.value for corner in ("x1", "y1", "x2", "y2")
    ]
    if {len(values) for values in corners} == {count}:
        boxes = np.array(corners, np.float32).T.reshape(-1, 4)
        if np.isfinite(boxes).all():
            return boxes
    x, y = (np.array(features[f"target/coordinates/{axis}"].float_list.value) for axis in "xy")
    of = np.array(features["target/coordinates/index"].int64_list.value, np.int64)
    if count and len(x) == len(y) == len(of) and set(of.tolist()) == set(range(count)):
        around = [
            (x[of == i].min(), y[of == i].min(), x[of == i].max(), y[of == i].max()) for i in range(count)
        ]
        return np.array(around, np.float32)
    raise DataProblem(
        "a record's objects have no usable boxes", where=where, hint="Run detectnet_v2 dataset_convert again."
    )


def _record_files(pattern: str, paths: PathMap) -> list[tuple[Path, str]]:
    """Return the files that a pattern matches, sorted, here and as the person knows them."""
    if not pattern.startswith(("/", "~")):
        pattern = f"{os.environ.get(BASE_VARIABLE) or _DEFAULT_BASE}/{pattern}"
    here = paths.to_host(str(Path(pattern).expanduser()))
    matches = sorted(Path(name) for name in glob(str(here)))  # noqa: PTH207 - the pattern is absolute
    kept = [
        path
        for path in matches
        if path.is_file()
        and not path.name.startswith(("idx-", "."))
        and path.suffix not in (".json", ".txt", ".log")
    ]
    if not kept:
        # NVIDIA's words, which people look for.
        raise DataProblem(
            f"No files match pattern {pattern}", where=pattern, hint="Run dataset_convert first."
        )
    return [(path, paths.to_container(path)) for path in kept]
