"""``dataset_convert``: images and KITTI or COCO labels become TFRecords, divided and named as TAO does it."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Any

from taomagic.engine.console import duration
from taomagic.engine.data.box_sizes import BoxSizes
from taomagic.engine.data.kitti import DONTCARE
from taomagic.engine.data.record_forms import RecordForm
from taomagic.engine.data.sample_modifier import SampleModifier
from taomagic.engine.data.sources import CocoSource, Frame, KittiSource, Source
from taomagic.engine.data.tfrecord import FeatureValue, Integers, TFRecordWriter, example_parts, index_path
from taomagic.engine.data.workshop import workshop
from taomagic.errors import DataProblem, SpecProblem, TaoError
from taomagic.project.paths import PathMap
from taomagic.spec.dataset_export import DatasetExport, SampleModifierSettings

logger = logging.getLogger(__name__)

_PROGRESS_EVERY_S = 2.0


@dataclass(frozen=True, slots=True)
class ConversionReport:
    """What a conversion wrote.

    Attributes
    ----------
    files
        The TFRecord files, in order; where the form of the records has indexes, each has one beside it.
    num_images
        Number of images written, copies included.
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
    form: RecordForm,
    validation_fold: int | None = None,
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
    form
        What the records say of images and objects; each family of networks has its own.
    validation_fold
        The fold, by its number in the files' names, that ``sample_modifier_config`` leaves as it is. By default the
        one that ``val_split`` held out; where there is none, all folds are modified, as in TAO.
    verbose
        Log every object that is left out.
    log
        Where the log lines go.

    Raises
    ------
    SpecProblem
        The annotation files don't go together.
    DataProblem
        An image, label or annotation is missing or damaged, there is nothing to train on, or the disk is full.
    """
    if export.kitti is None and export.coco is None:
        raise SpecProblem("there is neither kitti_config nor coco_config", path=export.path)
    log.info("Instantiating a %s converter", "kitti" if export.kitti is not None else "coco")
    prefix = Path(os.path.abspath(output_prefix))  # noqa: PTH100 - resolve() would follow links
    with _disk_errors_named(prefix.parent):
        if not prefix.parent.is_dir():
            log.info("Creating output directory %s", paths.to_container(prefix.parent))
            prefix.parent.mkdir(parents=True)
        if export.kitti is not None:
            source: Source = KittiSource(export.kitti, paths, log)
        elif export.coco is not None:
            source = CocoSource(export.coco, paths, log)
        with workshop(prefix.parent, ".converting-") as folder:
            conversion = _Conversion(form, verbose, log)
            if validation_fold is None and source.validation_first:
                validation_fold = 0
            return conversion.run(source, prefix, folder, paths, export.sample_modifier, validation_fold)


class _Conversion:
    """Counts and settings of one conversion."""

    def __init__(self, form: RecordForm, verbose: bool, log: logging.Logger) -> None:
        self.form, self.verbose, self.log = form, verbose, log
        self.objects: Counter[str] = Counter()
        self.sizes = BoxSizes(form.classes)
        self.endings: Counter[str] = Counter()
        self.unmapped: Counter[str] = Counter()
        self.class_map: dict[str, str] = {}
        self.bad_boxes: dict[str, list[int]] = {}
        # The image of each of them: ids of COCO's annotations count within their file.
        self.bad_boxes_of: dict[str, str] = {}
        self.images = self.other_sizes = 0
        self.modifier: SampleModifier | None = None

    def run(
        self,
        source: Source,
        prefix: Path,
        workshop: Path,
        paths: PathMap,
        settings: SampleModifierSettings | None,
        validation_fold: int | None,
    ) -> ConversionReport:
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
        if settings is not None:
            self.modifier = SampleModifier(settings, len(partitions), validation_fold)
        clock = _Clock(total, self.log)
        names: list[str] = []
        for number, (keys, shards) in enumerate(partitions):
            before = self.objects.copy()
            fold = f"{prefix.name}-fold-{number:03d}-of-{len(source.partitions):03d}"
            for shard, part in enumerate(_sharded(keys, shards)):
                self.log.info("Writing partition %d, shard %d", number, shard)
                name = f"{fold}-shard-{shard:05d}-of-{shards:05d}" if shards else fold
                self._write(source, part, workshop / name, number, clock)
                names.append(name)
            self.log.info("%s", _table(self.objects - before))
        if not self.objects:
            message, hint = self.form.nothing(list(self.unmapped))
            raise DataProblem(message, where=paths.to_container(prefix), hint=hint)
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

    def _write(self, source: Source, keys: list[Any], path: Path, fold: int, clock: _Clock) -> None:
        """Write one shard and its index."""
        with TFRecordWriter(path) as writer:
            for key in keys:
                features, sources, targets = self._features(source.frame(key))
                times = self.modifier.times(fold, sources, targets) if self.modifier is not None else 1
                if times:
                    record = example_parts(features)
                    for _ in range(times):
                        writer.write(*record)
                        self.images += 1
                        for target in targets:
                            self.objects[target] += 1
                clock.tick()
        if self.form.indexed:
            writer.write_index(index_path(path))

    def _features(self, frame: Frame) -> tuple[dict[str, FeatureValue], list[str], list[str]]:
        """Return the features of an image, and its objects' classes in the labels and in the records.

        Objects that aren't kept are noted.
        """
        stored, picture = self.form.image(frame)
        things = frame.objects
        sources = [name.lower() for name in things.names]
        targets = [self.form.target(name) for name in sources]
        good = [
            int(x1) < int(x2) and int(y1) < int(y2)
            for x1, y1, x2, y2 in zip(things.x1, things.y1, things.x2, things.y2, strict=True)
        ]
        if not all(good) or None in targets:
            kept = [fine and target is not None for fine, target in zip(good, targets, strict=True)]
            self._note_left_out(frame, good, sources, targets)
            things, sources = things.keep(kept), list(compress(sources, kept))
            targets = list(compress(targets, kept))
        wanted = [target for target in targets if target is not None]  # all of them, for the type checker
        for name, source, target, *box in zip(
            things.names, sources, wanted, things.x1, things.y1, things.x2, things.y2, strict=True
        ):
            self.class_map[name] = source
            if source != DONTCARE:
                self.sizes.add(target, box[2] - box[0], box[3] - box[1])
        labelled = frame.labelled_size or stored
        self.other_sizes += labelled != stored
        self.endings[os.path.splitext(frame.image)[1]] += 1  # noqa: PTH122 - text is quicker
        return (
            {
                "frame/height": stored[1],
                "frame/id": frame.identity.encode(),
                "frame/width": stored[0],
                **picture,
                **self.form.objects(things, wanted, labelled, stored),
                "target/observation_angle": things.alpha,
                "target/occlusion": Integers(map(int, things.occlusion)),
                "target/truncation": things.truncation,
                "target/world_bbox_h": things.height,
                "target/world_bbox_l": things.length,
                "target/world_bbox_rot_y": things.rotation_y,
                "target/world_bbox_w": things.width,
                "target/world_bbox_x": things.x,
                "target/world_bbox_y": things.y,
                "target/world_bbox_z": things.z,
                **frame.beside,
            },
            sources,
            wanted,
        )

    def _note_left_out(
        self, frame: Frame, good: list[bool], sources: list[str], targets: list[str | None]
    ) -> None:
        """Record objects whose box is empty or upside down, and count those of other classes."""
        things = frame.objects
        for position, (fine, target) in enumerate(zip(good, targets, strict=True)):
            if not fine:
                columns = (things.x1, things.y1, things.x2, things.y2)
                corners = [int(column[position]) for column in columns]
                key = f"{frame.key_prefix}{things.keys[position]}"
                if self.bad_boxes_of.setdefault(key, frame.shown_as) != frame.shown_as:
                    key = f"{frame.shown_as}_{key}"
                self.bad_boxes[key] = corners
                if self.verbose:
                    self.log.info("Skipping an object with a bad box: %s %s", key, corners)
            elif target is None:
                self.unmapped[sources[position]] += 1
                if self.verbose:
                    self.log.info("Skipping the class %s in dataset", sources[position])

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
        if self.modifier is not None:
            self.log.info(
                "sample_modifier_config: %d images left out for their classes, %d beyond max_training_samples; "
                "%d copies added",
                self.modifier.filtered,
                self.modifier.beyond,
                self.modifier.copies,
            )
            if unseen := self.modifier.unseen():
                self.log.warning(
                    "sample_modifier_config names classes that no image has: %s", ", ".join(unseen)
                )
        if not self.form.indexed and len(self.endings) > 1:
            self.log.warning(
                "The images' names end differently (%s), but image_extension in dataset_config of the experiment "
                "file is one for all",
                ", ".join(
                    f"{ending or 'in nothing'}: {count}" for ending, count in self.endings.most_common()
                ),
            )
        if self.other_sizes:
            self.log.warning(
                "Images of another size than their annotation file says, with which their boxes are scaled: %d",
                self.other_sizes,
            )
        if self.bad_boxes:
            self.log.warning(
                "Objects left out for an empty or upside-down box, listed in %s_warning.json: %d",
                prefix.name,
                len(self.bad_boxes),
            )
            text = json.dumps(self.bad_boxes, indent=2)
            (workshop / f"{prefix.name}_warning.json").write_text(text, encoding="utf-8")

    def _move_in(self, prefix: Path, workshop: Path, names: list[str], paths: PathMap) -> tuple[Path, ...]:
        """Put the finished files in the place of those of an earlier conversion."""
        made = {path.name for path in workshop.iterdir()}
        # The bare prefix is no name of ours: a file of that name is somebody's.
        fold, part = r"-fold-\d{3}-of-\d{3}", r"-shard-\d{5}-of-\d{5}"
        name = re.escape(prefix.name)
        shard = re.compile(rf"(idx-)?{name}({fold}({part})?|{part})|{name}_warning\.json")
        stale = [
            p
            for p in prefix.parent.iterdir()
            if shard.fullmatch(p.name) and p.name not in made and p.is_file()
        ]
        for path in stale:
            path.unlink()
        if stale:
            self.log.info(
                "Files of an earlier conversion to %s, removed: %d", paths.to_container(prefix), len(stale)
            )
        for file in sorted(made):
            (workshop / file).replace(prefix.with_name(file))
        self.log.info("Tfrecords generation complete.")
        return tuple(prefix.with_name(name) for name in names)


class _Clock:
    """Logs how far a long conversion is."""

    def __init__(self, total: int, log: logging.Logger) -> None:
        self._total, self._log, self._done = total, log, 0
        self._began = self._told = time.monotonic()

    def tick(self) -> None:
        """Count an image; log a line if the last one was some time ago."""
        self._done += 1
        now = time.monotonic()
        if now - self._told >= _PROGRESS_EVERY_S and self._done < self._total:
            left = (now - self._began) / self._done * (self._total - self._done)
            self._log.info(
                "Converted %d of %d images, about %s left", self._done, self._total, duration(left)
            )
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
