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
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from taomagic.engine.data import images, tfrecord
from taomagic.engine.data.images import Image
from taomagic.engine.data.labels import Labels, class_counts
from taomagic.engine.data.record_files import record_files
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
class Objects(Labels):
    """The objects of one image; occluded ones count as difficult.

    Attributes
    ----------
    source_classes
        What the labels call them.
    """

    source_classes: tuple[str, ...]

    def keep(self, chosen: npt.NDArray[np.bool_] | np.bool_) -> Objects:
        """Return the chosen objects."""
        names = tuple(compress(self.source_classes, np.broadcast_to(chosen, len(self.source_classes))))
        return Objects(self.boxes[chosen], self.classes[chosen], self.difficult[chosen], names)

    def moved(self, boxes: npt.NDArray[np.floating]) -> Objects:
        """Return the same objects with other boxes."""
        return Objects(
            boxes.astype(np.float32, copy=False), self.classes, self.difficult, self.source_classes
        )


@dataclass(frozen=True, slots=True)
class Frame:
    """An image with its objects.

    Attributes
    ----------
    name, path
        The image as the person knows it, and on this machine.
    objects
        Its objects, boxes in its pixels.
    weight
        Of the source that it is from.
    size
        Width and height that the boxes belong to, where the record has them.
    """

    name: str
    path: Path
    objects: Objects
    weight: float
    size: tuple[int, int] | None = None

    def decode(self) -> Image:
        """Return the image, RGB, uint8.

        Raises
        ------
        DataProblem
            It is missing, damaged, or of another size than its boxes belong to; says which.
        """
        image = images.decode(images.read_bytes(self.path, self.name), self.name)
        height, width = image.shape[:2]
        if self.size is not None and self.size != (width, height):
            raise DataProblem(
                f"the image is {width}×{height}, but its boxes were recorded for {self.size[0]}×{self.size[1]}",
                where=self.name,
                hint="Scale the labels with the images, and run dataset_convert again.",
            )
        return image


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

    def class_counts(self, classes: Sequence[str]) -> dict[str, int]:
        """Return the number of objects per class."""
        return class_counts((frame.objects.classes for frame in self.frames), classes)

    def largest(self) -> tuple[int, int]:
        """Return the largest width and the largest height of all images, (0, 0) where none is known."""
        sizes = [frame.size or images.size_in_header(frame.path) or (0, 0) for frame in self.frames]
        return max((width for width, _ in sizes), default=0), max((height for _, height in sizes), default=0)

    def fingerprint(self) -> str:
        """Return a hash of names, objects and sizes of image files: equal data, wherever they lie, have equal ones.

        Raises
        ------
        DataProblem
            An image is missing, empty, cut off or none at all: better now than in the middle of a training.
        """
        digest = hashlib.blake2b(digest_size=20)
        for frame in self.frames:
            digest.update(f"{frame.path.name}\0{frame.weight}\0{len(frame.objects.boxes)}\0".encode())
            for array in (frame.objects.boxes, frame.objects.classes):
                digest.update(np.ascontiguousarray(array).tobytes())
            images.size_of_file(frame.path, frame.name)
            digest.update(f"{frame.path.stat().st_size}\0".encode())
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
        pattern = _absolute(source.tfrecords_path)
        # NVIDIA's words, which people look for.
        files = record_files(pattern, paths, message=f"No files match pattern {pattern}")
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
        hint = "Run dataset_convert again, or look at the pattern."
        if fold is not None:
            whose = "No file name has" if validation else "Every file name has"
            hint = f"{whose} fold-{fold:03d}-of-; convert with val_split above 0, or name another validation_fold."
        raise DataProblem(f"there is no {purpose} image", where=where, hint=hint)
    if not any(len(frame.objects.boxes) for frame in found.frames):
        seen = ", ".join(reader.unmapped) or "no objects"
        raise DataProblem(
            f"the {purpose} records have no object of a mapped class",
            where=where,
            hint=f"target_class_mapping has {', '.join(settings.class_mapping)}; the records have {seen}",
        )
    _check_images(found.frames, settings.image_extension, purpose)
    return found


def _absolute(pattern: str) -> str:
    """Return where a relative pattern begins, as in NVIDIA's loader."""
    if pattern.startswith(("/", "~")):
        return str(Path(pattern).expanduser())
    return str(Path(f"{os.environ.get(BASE_VARIABLE) or _DEFAULT_BASE}/{pattern}").expanduser())


def _check_images(frames: Sequence[Frame], extension: str, purpose: str) -> None:
    """Raise for the first image that isn't there, with what its folder has instead.

    An hour into a training would be late to learn that one is missing.
    """
    missing = [frame for frame in frames if not os.path.isfile(frame.path)]  # noqa: PTH113 - for thousands of files
    if not missing:
        return
    first = missing[0]
    raise DataProblem(
        f"{len(missing)} of {len(frames)} {purpose} images aren't there; this is the first",
        where=first.name,
        hint=_where_it_may_be(first, extension),
    )


def _where_it_may_be(frame: Frame, extension: str) -> str:
    """Return what may be wrong with the path of an image that isn't there."""
    for suffix in images.SUFFIXES:
        for other in (suffix, suffix.upper()):
            if other != f".{extension}" and frame.path.with_suffix(other).is_file():
                return f'There is {frame.path.stem}{other}; set image_extension: "{other[1:]}" in dataset_config.'
    folder = frame.path.parent
    if folder.name == folder.parent.name and (folder.parent / frame.path.name).is_file():
        shown = str(Path(frame.name).parent.parent.parent)
        return f'The records say {folder.name}/ already; set image_directory_path: "{shown}".'
    if not folder.is_dir():
        return (
            "There is no such folder. It is image_directory_path, then what the record says, with its own folder; "
            "image_directory_path is usually the root_directory_path of dataset_convert."
        )
    return "Bring the images back, or run dataset_convert again for those that are there."


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
            width, height = (features[f"frame/{side}"].int64_list.value for side in ("width", "height"))
            size = (width[0], height[0]) if width and height else None
            frames.append(Frame(name, self._paths.to_host(name), objects, source.weight, size))
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
        return objects.keep((mapped > 0) & np.asarray((boxes[:, 2:] > boxes[:, :2]).all(axis=1)))


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
