"""What ``dataset_convert`` converts: images with their labels, in TAO's partitions and order."""

from __future__ import annotations

import json
import logging
import os
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from taomagic.engine.data.calibration import read_calibration
from taomagic.engine.data.kitti import DONTCARE, Objects, read_labels
from taomagic.engine.data.tfrecord import FeatureValue
from taomagic.errors import DataProblem, SpecProblem
from taomagic.project.paths import PathMap
from taomagic.spec.dataset_export import CocoExport, KittiExport

#: TAO's fixed seed; the order of the records depends on it.
SHUFFLE_SEED = 42
#: A KITTI point cloud has four numbers a point: x, y, z and how bright it is.
_CLOUD_CHANNELS = 4
#: No pixel lies beyond this.
_LARGEST_BOX = 2.0**31


@dataclass(frozen=True, slots=True)
class Frame:
    """One image to convert.

    Attributes
    ----------
    identity
        ``frame/id``: image folder and name without ending.
    image, shown_as
        The file on this machine, and its name in messages.
    objects
        Its labels.
    key_prefix
        Before an object's key, this makes the name under which a bad box is recorded.
    labelled_size
        Width and height of the image that the boxes belong to, where the labels say so.
    beside
        What else is to be recorded: the point cloud's name, the calibration.
    """

    identity: str
    image: str
    shown_as: str
    objects: Objects
    key_prefix: str
    labelled_size: tuple[int, int] | None = None
    beside: Mapping[str, FeatureValue] = field(default_factory=dict)


class Source(Protocol):
    """A data set divided into partitions.

    Attributes
    ----------
    partitions
        Keys of the frames per partition, in the order in which they are written.
    shards
        Number of files per partition; 0 means one, without a shard in its name.
    validation_first
        Whether the first partition was held out for validation.
    """

    partitions: list[list[Any]]
    shards: list[int]
    validation_first: bool

    def frame(self, key: Any) -> Frame:
        """Return the frame of a key; raises DataProblem for missing or damaged labels."""
        ...


class Folder:
    """The root folder of a data set: names on this machine, and as the person wrote them.

    A relative root lies in ``$DATA_BASE_PATH``, or ``~/datasets``, as with TAO.
    """

    def __init__(self, written: str, paths: PathMap) -> None:
        if not written.startswith(("/", "~")):
            written = os.path.join(os.environ.get("DATA_BASE_PATH", "~/datasets"), written)  # noqa: PTH118
        self._written = written
        self._paths = paths
        #: The folder on this machine, as text: for thousands of files, joining text is far quicker than paths.
        self._host = str(paths.to_host(written))

    def shown(self, *names: str) -> str:
        """Return the path of something in the folder as the person knows it."""
        return os.path.join(self._written, *names)  # noqa: PTH118 - a container path, as text

    def here(self, *names: str) -> Path:
        """Return it on this machine."""
        return self._paths.to_host(self.shown(*names))

    def file(self, name: str) -> tuple[str, str]:
        """Return the path of a file in the folder: on this machine, and as the person knows it."""
        return f"{self._host}/{name}", f"{self._written.rstrip('/')}/{name}"

    def inside(self, name: str) -> Folder:
        """Return a folder in the folder."""
        return Folder(self.shown(name), self._paths)


def list_folder(path: Path, shown: str) -> list[str]:
    """Return the sorted names in a folder.

    Raises
    ------
    DataProblem
        The folder doesn't exist or can't be read.
    """
    try:
        return sorted(entry.name for entry in path.iterdir())
    except FileNotFoundError:
        raise DataProblem(
            "the folder doesn't exist", where=shown, hint=f"on this machine it would be {path}"
        ) from None
    except OSError as error:
        raise DataProblem(f"the folder can't be read: {error.strerror}", where=shown) from error


class KittiSource:
    """A folder of images and one of KITTI label files."""

    def __init__(self, config: KittiExport, paths: PathMap, log: logging.Logger) -> None:
        self._config = config
        self._root = Folder(config.root_directory_path, paths)
        self._images = self._root.inside(config.image_dir_name)
        self._labels = self._root.inside(config.label_dir_name)
        self._clouds = self._root.inside(config.point_clouds_dir) if config.point_clouds_dir else None
        self._calibrations = self._root.inside(config.calibrations_dir) if config.calibrations_dir else None
        if config.partition_mode == "random":
            self.partitions = self._random_partitions(log)
        else:
            self.partitions = self._sequence_partitions(log)
        self.shards = [config.num_shards] * len(self.partitions)
        self.validation_first = config.partition_mode == "random" and bool(self.partitions[0])

    def _random_partitions(self, log: logging.Logger) -> list[list[Any]]:
        """Return validation and training frames: the first of the sorted names, and the rest, each shuffled twice."""
        config = self._config
        names = list_folder(self._root.here(config.image_dir_name), self._root.shown(config.image_dir_name))
        stems = [
            name[: -len(config.image_extension)] for name in names if name.endswith(config.image_extension)
        ]
        if not stems:
            raise DataProblem(
                f"there is no image that ends in {config.image_extension}",
                where=self._root.shown(config.image_dir_name),
                hint="check image_dir_name and image_extension (upper and lower case differ)",
            )
        # The field has 32 bits: 33.3 is 33.29999924 to TAO, and one image of a thousand depends on it.
        held_out = int(float(np.float32(config.val_split)) / 100.0 * len(stems))
        partitions = [stems[:held_out], stems[held_out:]]
        # TAO shuffles once in the partitioner and once more in its base class, with one generator.
        shuffler = random.Random(SHUFFLE_SEED)
        for _ in range(2):
            for partition in partitions:
                shuffler.shuffle(partition)
        log.info("Num images in\nTrain: %d\tVal: %d", len(partitions[1]), len(partitions[0]))
        if config.val_split == 0:
            log.info("Skipped validation data...")
        else:
            log.info(
                "Validation data in partition 0. Hence, while choosing the validation"
                "set during training choose validation_fold 0."
            )
        return partitions

    def _sequence_partitions(self, log: logging.Logger) -> list[list[Any]]:
        """Return the frames of whole sequences, the longest dealt out first, each partition shuffled once."""
        config = self._config
        name = config.kitti_sequence_to_frames_file or ""
        sequences = _read_json(self._root.here(name), self._root.shown(name))
        if not isinstance(sequences, dict) or not all(
            isinstance(frames, list) and all(isinstance(frame, str | int) for frame in frames)
            for frames in sequences.values()
        ):
            raise DataProblem(
                "the sequence file isn't a JSON object of lists",
                where=self._root.shown(name),
                hint='{"0001": ["000000", …]}',
            )
        if config.num_partitions > 1:
            partitions: list[list[Any]] = [[] for _ in range(config.num_partitions)]
            by_length = sorted(sequences.items(), key=lambda item: (-len(item[1]), item[0]))
            for position, (_, frames) in enumerate(by_length):
                partitions[position % config.num_partitions].extend(map(str, frames))
            # TAO numbers them from the back, so that fold 0 has the last sequence dealt.
            partitions.reverse()
        else:
            partitions = [[str(frame) for frames in sequences.values() for frame in frames]]
        shuffler = random.Random(SHUFFLE_SEED)
        for partition in partitions:
            shuffler.shuffle(partition)
        log.info("Total number of images: %d", sum(map(len, partitions)))
        return partitions

    def _beside(self, key: str) -> dict[str, FeatureValue]:
        """Return the name of an image's point cloud, and its calibration, where the file asks for them."""
        features: dict[str, FeatureValue] = {}
        if self._clouds is not None:
            cloud, shown = self._clouds.file(f"{key}.bin")
            if not os.path.isfile(cloud):  # noqa: PTH113 - text, as for all files here
                raise DataProblem(
                    "the point cloud doesn't exist",
                    where=shown,
                    hint="Every image needs one of the same name; without point_clouds_dir none is looked for.",
                )
            features["point_cloud/id"] = f"{self._config.point_clouds_dir}/{key}".encode()
            features["point_cloud/num_input_channels"] = _CLOUD_CHANNELS
        if self._calibrations is not None:
            calibration, shown = self._calibrations.file(f"{key}.txt")
            to_camera, to_image = read_calibration(calibration, shown_as=shown)
            features["calibration/T_lidar_to_camera"] = to_camera.ravel().tolist()
            features["calibration/P_lidar_to_image"] = to_image.ravel().tolist()
        return features

    def frame(self, key: Any) -> Frame:
        """Return the frame of a file name without ending."""
        config = self._config
        image, shown = self._images.file(f"{key}{config.image_extension}")
        labels, labels_shown = self._labels.file(f"{key}.txt")
        objects = read_labels(labels, shown_as=labels_shown)
        return Frame(
            f"{config.image_dir_name}/{key}",
            image,
            shown,
            objects,
            f"{labels_shown}_",
            beside=self._beside(key),
        )


class CocoSource:
    """An annotation file and an image folder per partition; frames keep the order of the file."""

    def __init__(self, config: CocoExport, paths: PathMap, log: logging.Logger) -> None:
        self._root = Folder(config.root_directory_path, paths)
        self._image_dirs = config.image_dir_names
        self._folders = [self._root.inside(name) for name in config.image_dir_names]
        self._images: list[dict[Any, dict[str, Any]]] = []
        self._annotations: list[dict[Any, list[dict[str, Any]]]] = []
        self._files = [self._root.shown(name) for name in config.annotation_files]
        categories: dict[Any, str] | None = None
        for name, shown in zip(config.annotation_files, self._files, strict=True):
            content = _read_json(self._root.here(name), shown)
            for block in ("images", "annotations", "categories"):
                if not isinstance(content, dict) or not content.get(block):
                    raise DataProblem(
                        f"the annotation file has no {block}",
                        where=shown,
                        hint="it must be COCO's detection JSON",
                    )
            try:
                found: dict[Any, str] = {}
                for category in content["categories"]:
                    name_found = str(category["name"]).replace(" ", "").lower()
                    if found.setdefault(category["id"], name_found) != name_found:
                        raise DataProblem(
                            "two categories of the annotation file have the same id",
                            where=shown,
                            hint="give every category an id of its own",
                        )
                images = {image["id"]: image for image in content["images"]}
                grouped: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
                for annotation in content["annotations"]:
                    grouped[annotation["image_id"]].append(annotation)
            except KeyError as error:
                raise DataProblem(
                    f"an entry of the annotation file lacks {error}",
                    where=shown,
                    hint="it must be COCO's detection JSON",
                ) from error
            except TypeError as error:
                raise DataProblem(
                    f"an entry of the annotation file is of the wrong kind ({error})",
                    where=shown,
                    hint="images, annotations and categories are lists of objects; ids are numbers or texts",
                ) from error
            if len(images) < len(content["images"]):
                raise DataProblem(
                    "two images of the annotation file have the same id",
                    where=shown,
                    hint="give every image an id of its own",
                )
            if strays := sum(len(grouped[identity]) for identity in grouped.keys() - images.keys()):
                log.warning("%s: annotations of images that it doesn't list, left out: %d", shown, strays)
            if categories is not None and found != categories:
                raise SpecProblem(
                    "the annotation files don't have the same categories",
                    path=shown,
                    hint="use one list of categories",
                )
            categories = found
            self._images.append(images)
            self._annotations.append(dict(grouped))
        self._categories = categories or {}
        every = (one for of_file in self._annotations for each in of_file.values() for one in each)
        if crowds := sum(bool(one.get("iscrowd")) for one in every):
            log.info("Crowds (iscrowd) that are recorded as %s, and not as objects: %d", DONTCARE, crowds)
        self.partitions: list[list[Any]] = [
            [(fold, identity) for identity in images] for fold, images in enumerate(self._images)
        ]
        self.shards = list(config.num_shards)
        self.validation_first = False
        log.info("Total number of images: %d", sum(map(len, self.partitions)))

    def frame(self, key: Any) -> Frame:
        """Return the frame of (partition, image id)."""
        fold, identity = key
        where = self._files[fold]
        try:
            name = str(self._images[fold][identity]["file_name"])
            annotations = self._annotations[fold].get(identity, [])
            objects = self._objects(annotations)
            size = self._size(self._images[fold][identity])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataProblem(
                f"image {identity} or one of its annotations is incomplete ({error})",
                where=where,
                hint="it must be COCO's detection JSON",
            ) from error
        folder = self._image_dirs[fold]
        stem = os.path.splitext(name)[0]  # noqa: PTH122 - the name may contain folders
        image, shown = self._folders[fold].file(name)
        return Frame(f"{folder}/{stem}", image, shown, objects, "", size)

    @staticmethod
    def _size(image: dict[str, Any]) -> tuple[int, int] | None:
        """Return an image's width and height, which its boxes belong to; ``None`` if the file doesn't have them."""
        if "width" not in image or "height" not in image:
            return None
        width, height = int(image["width"]), int(image["height"])
        if width < 1 or height < 1:
            raise ValueError(f"width {width}, height {height}")
        return width, height

    def _objects(self, annotations: Sequence[dict[str, Any]]) -> Objects:
        """Return annotations as KITTI objects; what COCO doesn't have is 0.

        A box around a crowd (``iscrowd``) is no object: COCO's own evaluation counts what is found there neither as
        right nor as wrong. KITTI calls such a place ``DontCare``.
        """
        corners = []
        for annotation in annotations:
            x, y, width, height = (float(value) for value in annotation["bbox"])
            if not sum(map(abs, (x, y, width, height))) < _LARGEST_BOX:  # false for NaN too
                raise ValueError(f"bbox {annotation['bbox']}")
            corners.append((x, y, x + width, y + height))
        if not corners:
            return Objects()
        names = []
        for annotation in annotations:
            if (category := annotation["category_id"]) not in self._categories:
                raise ValueError(f"category_id {category} isn't among the categories")
            names.append(DONTCARE if int(annotation.get("iscrowd") or 0) else self._categories[category])
        zeros = [0.0] * len(names)
        keys = [annotation["id"] for annotation in annotations]
        return Objects._make([names, *[zeros] * 3, *zip(*corners, strict=True), *[zeros] * 7, keys])


def _read_json(path: Path, shown: str) -> Any:
    """Return the content of a JSON file."""
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # Windows puts a mark before the text
    except FileNotFoundError:
        raise DataProblem(
            "the file doesn't exist", where=shown, hint=f"on this machine it would be {path}"
        ) from None
    except (OSError, ValueError) as error:
        raise DataProblem(f"the file isn't readable JSON: {error}", where=shown) from error
