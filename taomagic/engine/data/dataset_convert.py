"""``dataset_convert``: images and KITTI or COCO labels become TFRecords, divided and named as TAO does it."""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taomagic.engine.data.box_sizes import BoxSizes
from taomagic.engine.data.images import read_bytes, size_of
from taomagic.engine.data.sources import CocoSource, Frame, KittiSource, Source
from taomagic.engine.data.tfrecord import FeatureValue, TFRecordWriter, encode_example, index_path
from taomagic.errors import DataProblem, SpecProblem, TaoError
from taomagic.project.paths import PathMap
from taomagic.spec.dataset_export import DatasetExport

logger = logging.getLogger(__name__)

_PROGRESS_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What a conversion wrote.

    Attributes
    ----------
    files
        The TFRecord files, in order; each has an index file beside it.
    num_images
        Number of images written.
    num_objects
        Number of objects per class of the records.
    box_sizes
        An even sample of (width, height) in pixels of the boxes written, per class of the records.
    skipped_classes
        Number of objects per (lower-cased) class that the mapping doesn't have.
    bad_boxes
        Number of objects left out because their box is empty or upside down.
    warnings_path
        The JSON file that lists those, ``None`` if there are none.
    """

    files: tuple[Path, ...]
    num_images: int
    num_objects: Mapping[str, int]
    box_sizes: Mapping[str, list[tuple[float, float]]]
    skipped_classes: Mapping[str, int]
    bad_boxes: int
    warnings_path: Path | None


def convert(
    export: DatasetExport,
    output_prefix: Path,
    *,
    paths: PathMap,
    class_names_file: Path | None = None,
    verbose: bool = False,
    log: logging.Logger = logger,
) -> ConversionReport:
    """Convert a data set to TFRecords.

    Files appear only when all of them are complete, in place of those of an earlier conversion with the same prefix.

    Parameters
    ----------
    export
        The data set export file.
    output_prefix
        Where the files go and how their names begin, on this machine.
    paths
        Translates the paths in the export file.
    class_names_file
        Class names, one a line; counts only where the export file has no ``target_class_mapping``.
    verbose
        Log every object that is left out.
    log
        Where the log lines go.

    Raises
    ------
    SpecProblem
        Neither the export file nor ``class_names_file`` names the classes.
    DataProblem
        An image, label or annotation is missing or damaged, there is nothing to train on, or the disk is full.
    """
    mapping, classes = _classes(export, class_names_file)
    if export.kitti is not None:
        source: Source = KittiSource(export.kitti, paths, log)
    elif export.coco is not None:
        source = CocoSource(export.coco, paths, log)
    else:
        raise SpecProblem("there is neither kitti_config nor coco_config", path=export.path)
    prefix = Path(os.path.abspath(output_prefix))  # noqa: PTH100 - resolve() would follow links
    with _disk_errors_named(prefix.parent):
        if not prefix.parent.is_dir():
            log.info("Creating output directory %s", paths.to_container(prefix.parent))
            prefix.parent.mkdir(parents=True)
        with tempfile.TemporaryDirectory(
            dir=prefix.parent, prefix=".converting-", ignore_cleanup_errors=True
        ) as folder:
            return _Conversion(mapping, classes, verbose, log).run(source, prefix, Path(folder), paths)


def _classes(export: DatasetExport, class_names_file: Path | None) -> tuple[Mapping[str, str], list[str]]:
    """Return the mapping from lower-cased source to target class, and the targets; the id is the position plus 1."""
    if export.class_mapping:
        return export.class_mapping, list(export.classes)
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
    return {name: name for name in names}, names


class _Conversion:
    """Counts and settings of one conversion."""

    def __init__(
        self, mapping: Mapping[str, str], classes: list[str], verbose: bool, log: logging.Logger
    ) -> None:
        self.mapping, self.verbose, self.log = mapping, verbose, log
        self.ids = {name: position for position, name in enumerate(classes, 1)}
        self.objects: Counter[str] = Counter()
        self.sizes = BoxSizes(len(classes))
        self.unmapped: Counter[str] = Counter()
        self.class_map: dict[str, str] = {}
        self.bad_boxes: dict[str, list[int]] = {}
        self.images = 0

    def run(self, source: Source, prefix: Path, workshop: Path, paths: PathMap) -> ConversionReport:
        """Write everything into the workshop, then move it to its place."""
        # TAO leaves out empty partitions and numbers the others from 0, but keeps the count in the name.
        partitions = [
            (keys, shards) for keys, shards in zip(source.partitions, source.shards, strict=True) if keys
        ]
        total = sum(len(keys) for keys, _ in partitions)
        if total == 0:
            raise DataProblem(
                "there is no image to convert", where=str(prefix), hint="check the data set export file"
            )
        clock = _Clock(total, self.log)
        names: list[str] = []
        for number, (keys, shards) in enumerate(partitions):
            before = self.objects.copy()
            fold = f"{prefix.name}-fold-{number:03d}-of-{len(source.partitions):03d}"
            for shard, part in enumerate(_sharded(keys, shards)):
                self.log.info("Writing partition %d, shard %d", number, shard)
                name = f"{fold}-shard-{shard:05d}-of-{shards:05d}" if shards else fold
                self._write(source, part, workshop / name, clock)
                names.append(name)
            self.log.info("%s", _table(self.objects - before))
        if not self.objects:
            found = ", ".join(self.unmapped) or "none at all"
            raise DataProblem(
                "not one object of the mapped classes was found",
                where=paths.to_container(prefix),
                hint=f"target_class_mapping has {', '.join(self.mapping)}; the labels have {found}",
            )
        self._close(prefix, workshop)
        files = self._move_in(prefix, workshop, names, paths)
        warnings = prefix.with_name(f"{prefix.name}_warning.json") if self.bad_boxes else None
        return ConversionReport(
            files=files,
            num_images=self.images,
            num_objects=dict(self.objects),
            box_sizes=self.sizes.sample(),
            skipped_classes=dict(self.unmapped),
            bad_boxes=len(self.bad_boxes),
            warnings_path=warnings,
        )

    def _write(self, source: Source, keys: list[Any], path: Path, clock: _Clock) -> None:
        """Write one shard and its index."""
        with TFRecordWriter(path) as writer:
            for key in keys:
                writer.write(encode_example(self._features(source.frame(key))))
                self.images += 1
                clock.tick(self.images)
        writer.write_index(index_path(path))

    def _features(self, frame: Frame) -> dict[str, FeatureValue]:
        """Return the features of one image; objects of other classes or with bad boxes are counted and left out."""
        encoded = read_bytes(frame.image, frame.shown_as)
        width, height = size_of(encoded, frame.shown_as)
        kept = []
        for thing, key in zip(frame.objects, frame.box_keys, strict=True):
            corners = [int(value) for value in thing.box]
            if not (corners[0] < corners[2] and corners[1] < corners[3]):
                self.bad_boxes[key] = corners
                if self.verbose:
                    self.log.info("Skipping an object with a bad box: %s %s", key, corners)
                continue
            target = self.mapping.get(thing.name.lower())
            if target is None:
                self.unmapped[thing.name.lower()] += 1
                if self.verbose:
                    self.log.info("Skipping the class %s in dataset", thing.name.lower())
                continue
            self.class_map[thing.name] = thing.name.lower()
            self.objects[target] += 1
            self.sizes.add(target, thing.box[2] - thing.box[0], thing.box[3] - thing.box[1])
            kept.append((float(self.ids[target]), thing))
        things = [thing for _, thing in kept]
        features: dict[str, FeatureValue] = {
            "frame/id": frame.identity.encode(),
            "frame/width": width,
            "frame/height": height,
            "frame/encoded": encoded,
            "target/object_class_id": [identity for identity, _ in kept],
            "target/truncation": [thing.truncation for thing in things],
            "target/occlusion": [thing.occlusion for thing in things],
            "target/observation_angle": [thing.alpha for thing in things],
            "target/world_bbox_rot_y": [thing.rotation_y for thing in things],
        }
        for position, (corner, scale) in enumerate(
            zip(("x1", "y1", "x2", "y2"), (width, height) * 2, strict=True)
        ):
            features[f"target/coordinates_{corner}"] = [thing.box[position] / scale for thing in things]
        for position, (side, axis) in enumerate(zip("hwl", "xyz", strict=True)):
            features[f"target/world_bbox_{side}"] = [thing.dimensions[position] for thing in things]
            features[f"target/world_bbox_{axis}"] = [thing.location[position] for thing in things]
        return features

    def _close(self, prefix: Path, workshop: Path) -> None:
        """Log the tables, and write the list of bad boxes."""
        self.log.info("Cumulative object statistics")
        self.log.info("%s", _table(self.objects))
        rows = "".join(f"\n{name.encode()!r}: {record.encode()!r}" for name, record in self.class_map.items())
        self.log.info("Class map. \nLabel in GT: Label in tfrecords file %s", rows)
        self.log.info(
            "For the dataset_config in the experiment_spec, please use labels in the tfrecords file, "
            "while writing the classmap.\n"
        )
        if self.unmapped:
            listed = ", ".join(f"{name} ({count})" for name, count in self.unmapped.most_common())
            self.log.warning("Left out, because target_class_mapping doesn't have these classes: %s", listed)
        if self.bad_boxes:
            self.log.warning(
                "Left out %d objects with an empty or upside-down box; they are listed in %s_warning.json",
                len(self.bad_boxes),
                prefix.name,
            )
            text = json.dumps(self.bad_boxes, indent=2)
            (workshop / f"{prefix.name}_warning.json").write_text(text, encoding="utf-8")

    def _move_in(self, prefix: Path, workshop: Path, names: list[str], paths: PathMap) -> tuple[Path, ...]:
        """Put the finished files in the place of those of an earlier conversion."""
        made = {path.name for path in workshop.iterdir()}
        shard = re.compile(
            rf"(idx-)?{re.escape(prefix.name)}(-fold-\d{{3}}-of-\d{{3}})?(-shard-\d{{5}}-of-\d{{5}})?"
            rf"|{re.escape(prefix.name)}_warning\.json"
        )
        stale = [
            p
            for p in prefix.parent.iterdir()
            if shard.fullmatch(p.name) and p.name not in made and p.is_file()
        ]
        for path in stale:
            path.unlink()
        if stale:
            self.log.info(
                "Removed %d files of an earlier conversion to %s", len(stale), paths.to_container(prefix)
            )
        for name in sorted(made):
            (workshop / name).replace(prefix.with_name(name))
        self.log.info("Tfrecords generation complete.")
        return tuple(prefix.with_name(name) for name in names)


class _Clock:
    """Logs how far a long conversion is."""

    def __init__(self, total: int, log: logging.Logger) -> None:
        self._total, self._log = total, log
        self._began = self._told = time.monotonic()

    def tick(self, done: int) -> None:
        """Log a line if the last one was some time ago."""
        now = time.monotonic()
        if now - self._told >= _PROGRESS_EVERY_S and done < self._total:
            left = (now - self._began) / done * (self._total - done)
            self._log.info("Converted %d of %d images, about %.0f s left", done, self._total, left)
            self._told = now


def _sharded(keys: list[Any], shards: int) -> list[list[Any]]:
    """Return equal parts, the last with the rest; with fewer keys than parts the others are empty, as in TAO."""
    count = max(shards, 1)
    size = len(keys) // count
    return [keys[i * size : (i + 1) * size if i < count - 1 else len(keys)] for i in range(count)]


def _table(objects: Mapping[str, int]) -> str:
    """Return the counts as TAO prints them."""
    rows = "".join(f"\n{name.encode()!r}: {count}" for name, count in objects.items())
    return f"\nWrote the following numbers of objects:{rows}\n"


@contextmanager
def _disk_errors_named(folder: Path) -> Iterator[None]:
    """Turn errors of the file system into one that says where."""
    try:
        yield
    except TaoError:
        raise
    except OSError as error:
        raise DataProblem(
            f"the TFRecords can't be written: {error.strerror or error}",
            where=str(folder),
            hint="make room on the disk or choose another folder with -o; nothing half-written is left",
        ) from error
