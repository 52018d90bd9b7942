"""From what the network gives to objects, in NumPy alone. Lies in the folder beside ``run.py``; Python 3.6 or newer."""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]
    Integers = npt.NDArray[np.int64]
    Outputs = dict[str, npt.NDArray[Any]]
    Found = tuple[Integers, Floats, Floats]

#: Cells this near to a bound count as inside: sums and quotients in float32 aren't exact.
_TOLERANCE = 1e-6


def find(outputs: "Outputs", config: "dict[str, Any]") -> "Found":
    """Return the objects of the first image.

    Parameters
    ----------
    outputs
        Arrays by name, with a row for each image.
    config
        The content of ``config.json``.

    Returns
    -------
    tuple
        Numbers [D] in ``config["objects"]``, confidences [D], and corners [D, 4] as shares of the image.
    """
    return _of_ssd(outputs) if config["network"] == "ssd" else _of_detectnet(outputs, config)


def _of_ssd(outputs: "Outputs") -> "Found":
    """SSD suppresses overlapping boxes itself; what comes out are finished objects, best first."""
    if "NMS" in outputs:
        counts = outputs["NMS_1"]
        if counts.dtype.kind == "f":  # TensorRT's plugin writes the bits of an int32 and calls them float32
            counts = np.ascontiguousarray(counts, np.float32).view(np.int32)
        rows = outputs["NMS"].reshape(len(counts), -1, 7)[0, : int(counts.flat[0])]
        classes, scores, boxes = rows[:, 1], rows[:, 2], rows[:, 3:]
    else:
        count = int(outputs["num_detections"].flat[0])
        names = ("detection_classes", "detection_scores", "detection_boxes")
        classes, scores, boxes = (outputs[name][0, :count] for name in names)
    return classes.astype(int) - 1, scores.astype(np.float32), boxes.astype(np.float32)


def _of_detectnet(outputs: "Outputs", config: "dict[str, Any]") -> "Found":
    """DetectNet_v2 says for each cell how sure it is of a class, and where the sides of its box are."""
    coverage, sides = outputs["output_cov/Sigmoid"][0], outputs["output_bbox/BiasAdd"][0]
    height, width = config["input"]["height"], config["input"]["width"]
    numbers, scores, boxes = [], [], []
    for number, settings in enumerate(config["objects"]):
        channel = settings["channel"]
        row, column = np.nonzero(coverage[channel] > settings["coverage_threshold"])
        left, top, right, bottom = config["bbox"]["scale"] * sides[4 * channel : 4 * channel + 4, row, column]
        x = column * config["bbox"]["stride"] + config["bbox"]["offset"]
        y = row * config["bbox"]["stride"] + config["bbox"]["offset"]
        x1, y1 = np.clip(x - left, 0, width), np.clip(y - top, 0, height)
        x2 = np.maximum(np.minimum(x + right, width), x1)
        y2 = np.maximum(np.minimum(y + bottom, height), y1)
        cells = np.stack([x1, y1, x2, y2], axis=1).astype(np.float32)
        found, sure = _cluster(cells, coverage[channel, row, column].astype(np.float32), settings)
        tall = found[:, 3] - found[:, 1] > settings["minimum_height"]
        order = np.argsort(-sure[tall], kind="stable")
        numbers.append(np.full(len(order), number))
        scores.append(sure[tall][order])
        boxes.append(found[tall][order])
    size = np.array([width, height, width, height], np.float32)
    return np.concatenate(numbers), np.concatenate(scores), (np.concatenate(boxes) / size).astype(np.float32)


def _cluster(boxes: "Floats", weights: "Floats", settings: "dict[str, Any]") -> "tuple[Floats, Floats]":
    """Make one box of the many cells that speak of the same object."""
    if settings["algorithm"] == "NMS":
        return _suppress(boxes, weights, settings)
    labels = dbscan(boxes, weights, settings["eps"], settings["min_samples"])
    found, sure = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.float32)]
    for label in range(labels.max(initial=-1) + 1):
        members, mass = boxes[labels == label], weights[labels == label]
        if settings["algorithm"] == "HYBRID":
            members, mass = _suppress(members, mass, settings)
            found.append(members)
            sure.append(mass)
            continue
        score = np.float32(mass.mean() if settings["confidence_model"] == "mean_cov" else mass.sum())
        if score > settings["confidence_threshold"]:
            found.append((members * mass[:, None]).sum(axis=0, keepdims=True) / mass.sum())
            sure.append(np.array([score], np.float32))
    return np.concatenate(found), np.concatenate(sure)


def dbscan(boxes: "Floats", weights: "Floats", eps: float, min_samples: float) -> "Integers":
    """Group boxes that overlap: clusters from 0 in the order of their first cores, -1 for what belongs to none.

    A box is a core if the boxes with an IoU of at least 1 - ``eps``, itself among them, weigh ``min_samples`` or more.
    Cores that are neighbours share a cluster; another box joins the first cluster that has a core beside it.
    """
    labels = np.full(len(boxes), -1)
    near = [_neighbours(boxes, index, 1.0 - eps) for index in range(len(boxes))]
    core = np.array([weights[group].sum() >= min_samples * (1 - _TOLERANCE) for group in near], bool)
    count = 0
    for first in np.flatnonzero(core):
        if labels[first] >= 0:
            continue
        waiting = [first]
        labels[first] = count
        while waiting:
            group = near[waiting.pop()]
            fresh = group[labels[group] < 0]
            labels[fresh] = count
            waiting += list(fresh[core[fresh]])
        count += 1
    return labels


def _neighbours(boxes: "Floats", index: int, least: float) -> "Integers":
    """Return which boxes overlap one of them enough; itself does, whatever its size."""
    sides = np.minimum(boxes[index, 2:], boxes[:, 2:]) - np.maximum(boxes[index, :2], boxes[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    area = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    union = area + area[index] - shared
    near = shared >= least * (1 - _TOLERANCE) * union
    if least > 0:
        near &= (area > 0) & (area[index] > 0)
    near[index] = True
    return np.flatnonzero(near)


def _suppress(boxes: "Floats", scores: "Floats", settings: "dict[str, Any]") -> "tuple[Floats, Floats]":
    """Keep the surest of the boxes that overlap; areas are counted in whole pixels, ends included."""
    sure = scores > settings["nms_confidence"]
    boxes, scores = boxes[sure], scores[sure]
    order = np.argsort(-scores, kind="stable")
    boxes, scores = boxes[order], scores[order]
    area = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1)
    alive, kept = np.ones(len(boxes), bool), []
    for best in range(len(boxes)):
        if alive[best]:
            kept.append(best)
            sides = np.minimum(boxes[best, 2:], boxes[:, 2:]) - np.maximum(boxes[best, :2], boxes[:, :2]) + 1
            shared = np.maximum(sides, 0).prod(axis=1)
            alive &= shared / (area[best] + area - shared) <= settings["nms_iou"]
    return boxes[kept], scores[kept]
