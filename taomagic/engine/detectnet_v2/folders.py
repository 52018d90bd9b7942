"""Folders of images and KITTI labels as validation data: what ``-i`` and ``-l`` name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from taomagic.engine.data.records import ImageFile, collect
from taomagic.engine.detectnet_v2.records import Frame, Frames, Objects
from taomagic.project.paths import PathMap
from taomagic.spec.settings import DatasetSettings, DataSource
from taomagic.spec.settings_detectnet_v2 import DetectNetDatasetSettings


def frames_of_folders(
    image_dir: str,
    label_dir: str,
    settings: DetectNetDatasetSettings,
    classes: Sequence[str],
    paths: PathMap,
) -> Frames:
    """Return the images of a folder that have a label file of the same name in another one.

    Parameters
    ----------
    image_dir, label_dir
        As the person wrote them.
    settings
        ``dataset_config``, for the class mapping.
    classes
        The network's, in the order of its channels.
    paths
        Translates the two.

    Raises
    ------
    DataProblem
        A folder or file is missing or damaged, or there is no image, or no object of a mapped class.
    """
    ids = {name: position for position, name in enumerate(classes, 1)}
    mapped = {source: target for source, target in settings.class_mapping.items() if target in ids}
    # The class in the labels is asked for, as a label filter may want it; the network's follows from it.
    sources = tuple(sorted(mapped))
    dataset = DatasetSettings((), (), {name: name for name in sources}, sources, include_difficult=True)
    found = collect([DataSource(None, label_dir, image_dir)], dataset, paths, purpose="validation")
    to_network = np.array([0, *(ids[mapped[name]] for name in sources)], np.int64)
    frames = []
    for item, labels in zip(found.encoded, found.labels, strict=True):
        assert isinstance(item, ImageFile)  # from folders, always
        names = tuple(sources[place - 1] for place in labels.classes)
        objects = Objects(labels.boxes, to_network[labels.classes], labels.difficult, names)
        frames.append(Frame(item.name, item.path, objects, 1.0))
    return Frames(frames, [len(frames)])
