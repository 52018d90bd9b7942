"""What the records of each family of networks say of an image and its objects.

SSD's records hold the picture itself, and its classes by number; DetectNet_v2's name the picture, which stays where it
is, and hold every object under the name that the labels give it. Everything else is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from taomagic.engine.data.decoding import read_bytes, size_of, size_of_file
from taomagic.engine.data.kitti import Objects
from taomagic.engine.data.sources import Frame
from taomagic.engine.data.tfrecord import ByteStrings, FeatureValue
from taomagic.errors import DataProblem, SpecProblem
from taomagic.spec.dataset_export import DatasetExport

#: Width and height in pixels.
Size = tuple[int, int]
Features = dict[str, FeatureValue]

#: Classes that share the room for box sizes, where their number isn't known beforehand; KITTI has eight.
_USUAL_CLASSES = 8


class RecordForm(Protocol):
    """How images and objects are recorded.

    Attributes
    ----------
    indexed
        Whether an index file belongs beside each file of records.
    classes
        About how many classes of objects there are.
    """

    @property
    def indexed(self) -> bool: ...  # noqa: D102 - described above

    @property
    def classes(self) -> int: ...  # noqa: D102

    def target(self, source: str) -> str | None:
        """Return the class in the records of a lower-cased class in the labels, ``None`` to leave objects out."""
        ...

    def image(self, frame: Frame) -> tuple[Size, Features]:
        """Return an image's size as stored, and what is recorded of the picture beside its size.

        Raises
        ------
        DataProblem
            It is missing or damaged; says which.
        """
        ...

    def objects(self, objects: Objects, targets: Sequence[str], labelled: Size, stored: Size) -> Features:
        """Return classes and boxes.

        Parameters
        ----------
        objects
            Those that are recorded.
        targets
            Class of each in the records.
        labelled, stored
            Size of the image that the boxes belong to, and of the one that is there.
        """
        ...

    def nothing(self, found: Sequence[str]) -> tuple[str, str]:
        """Return message and hint for a data set that has no object to record, only those of other classes."""
        ...


class PictureRecords:
    """Records with the encoded picture, boxes as shares of it, and the mapped classes by number from 1.

    Parameters
    ----------
    mapping
        Lower-cased class in the labels -> class; others are left out.
    classes
        The classes in the order of their numbers.
    """

    indexed = True

    def __init__(self, mapping: Mapping[str, str], classes: Sequence[str]) -> None:
        self._mapping = mapping
        self._ids = {name: float(position) for position, name in enumerate(classes, 1)}

    @classmethod
    def of(cls, export: DatasetExport, class_names_file: Path | None = None) -> PictureRecords:
        """Return the form for the classes of an export file, or where it has none, of a file with one name a line.

        Raises
        ------
        SpecProblem
            Neither names the classes.
        DataProblem
            The class names file can't be read, or is empty.
        """
        if export.class_mapping:
            return cls(export.class_mapping, export.classes)
        if class_names_file is None:
            raise SpecProblem(
                "no classes are named",
                path=export.path,
                hint='add target_class_mapping { key: "car" value: "car" }, or give a file with -c/--class_names_file',
            )
        try:
            lines = class_names_file.read_text(encoding="utf-8").lower().split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataProblem("the class names file can't be read", where=str(class_names_file)) from error
        names = sorted({line.strip() for line in lines} - {""})
        if not names:
            raise DataProblem(
                "the class names file names no class", where=str(class_names_file), hint="one name a line"
            )
        return cls({name: name for name in names}, names)

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return len(self._ids)

    def target(self, source: str) -> str | None:
        """Return the class that the mapping has for one of the labels."""
        return self._mapping.get(source)

    def image(self, frame: Frame) -> tuple[Size, Features]:
        """Return an image's size, and its encoded bytes."""
        encoded = read_bytes(frame.image, frame.shown_as)
        return size_of(encoded, frame.shown_as), {"frame/encoded": encoded}

    def objects(
        self,
        objects: Objects,
        targets: Sequence[str],
        labelled: Size,
        stored: Size,  # noqa: ARG002 - shares of the image don't depend on it
    ) -> Features:
        """Return boxes divided by width and height, and the numbers of the classes."""
        width, height = labelled
        return {
            "target/coordinates_x1": [x / width for x in objects.x1],
            "target/coordinates_x2": [x / width for x in objects.x2],
            "target/coordinates_y1": [y / height for y in objects.y1],
            "target/coordinates_y2": [y / height for y in objects.y2],
            "target/object_class_id": [self._ids[target] for target in targets],
        }

    def nothing(self, found: Sequence[str]) -> tuple[str, str]:
        """Return message and hint."""
        return (
            "not one object of the mapped classes was found",
            f"target_class_mapping has {', '.join(self._mapping)}; the labels have {', '.join(found) or 'none at all'}",
        )


class LabelRecords:
    """Records with every object, ``dontcare`` too, under its lower-cased name and with its box in pixels."""

    indexed = False
    classes = _USUAL_CLASSES

    def target(self, source: str) -> str | None:
        """Return the class itself."""
        return source

    def image(self, frame: Frame) -> tuple[Size, Features]:
        """Return an image's size; the picture isn't recorded, but looked at whether it is all there."""
        return size_of_file(frame.image, frame.shown_as), {}

    def objects(self, objects: Objects, targets: Sequence[str], labelled: Size, stored: Size) -> Features:
        """Return boxes in pixels of the stored image, and the names of the classes."""
        x, y = stored[0] / labelled[0], stored[1] / labelled[1]
        return {
            "target/coordinates_x1": [value * x for value in objects.x1],
            "target/coordinates_x2": [value * x for value in objects.x2],
            "target/coordinates_y1": [value * y for value in objects.y1],
            "target/coordinates_y2": [value * y for value in objects.y2],
            "target/object_class": ByteStrings(target.encode() for target in targets),
        }

    def nothing(self, found: Sequence[str]) -> tuple[str, str]:  # noqa: ARG002 - no class is left out
        """Return message and hint."""
        return (
            "not one object with a usable box was found",
            "Look at the label files: each row is a class, 3 numbers, the 4 of the box, and 7 more.",
        )
