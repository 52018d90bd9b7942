"""Matching and average precision of 5,000 images × 100 detections, beside faster-coco-eval and pycocotools.

    pip install -c constraints.txt -e '.[dev]'     # has both peers
    python benchmarks/average_precision.py [--images 5000] [--detections 100] [--repeats 5] [--without-pycocotools]

All three get one overlap threshold (0.5), one range of areas, one limit of detections, and no difficult objects, which
is where their definitions agree; that they come to the same is checked in the same run, by the 101-point average
precision of each class. The time of the peers is that of ``evaluate`` and ``accumulate``; building their index from
dictionaries is given apart, ours starts from arrays as the network gives them. None of them uses a second thread.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from taomagic.engine.evaluation.average_precision import Evaluation, evaluate_detections
from taomagic.engine.evaluation.matching import ImageDetections, ImageTruth

CLASSES = ("car", "cyclist", "pedestrian")
SIZE = 512.0


def scenes(images: int, detections: int, seed: int = 0) -> tuple[list[ImageTruth], list[ImageDetections]]:
    """Draw 0 to 14 objects an image, and detections as of a half-trained network: on objects, near them, elsewhere."""
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(images):
        count = int(rng.integers(0, 15))
        boxes = random_boxes(rng, count)
        labels = rng.integers(1, len(CLASSES) + 1, count)
        truths.append(ImageTruth(boxes, labels, np.zeros(count, dtype=bool)))
        near = int(detections * 0.6) if count else 0
        source = rng.integers(0, max(count, 1), near)
        sides = np.tile(boxes[source, 2:] - boxes[source, :2], 2)
        moved = np.rint(boxes[source] + rng.normal(0, 0.12, (near, 4)) * sides)
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        others = random_boxes(rng, detections - near)
        classes = np.concatenate([labels[source], rng.integers(1, len(CLASSES) + 1, detections - near)])
        scores = np.concatenate([rng.beta(2, 2, near), rng.beta(1, 5, detections - near)])
        best_first = np.argsort(-scores)
        found.append(
            ImageDetections(
                np.concatenate([moved, others])[best_first], scores[best_first], classes[best_first]
            )
        )
    return truths, found


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, SIZE * 0.8, (count, 2))
    return np.rint(np.concatenate([corner, corner + rng.uniform(8, SIZE * 0.3, (count, 2))], axis=1))


def as_coco(
    truths: Sequence[ImageTruth], detections: Sequence[ImageDetections]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the same objects and detections as COCO's dictionaries."""
    objects = [
        {"image_id": image, "category_id": int(label), "bbox": xywh(box), "area": area(box), "iscrowd": 0}
        for image, truth in enumerate(truths, start=1)
        for box, label in zip(truth.boxes, truth.labels, strict=True)
    ]
    for number, each in enumerate(objects, start=1):
        each["id"] = number
    found = [
        {"image_id": image, "category_id": int(label), "bbox": xywh(box), "score": float(score)}
        for image, one in enumerate(detections, start=1)
        for box, score, label in zip(one.boxes, one.scores, one.labels, strict=True)
    ]
    names = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
    pictures = [{"id": image} for image in range(1, len(truths) + 1)]
    return {"info": {}, "images": pictures, "annotations": objects, "categories": names}, found


def xywh(box: np.ndarray) -> list[float]:
    return [float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]


def area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def loaded(
    coco_class: Any, truths: Sequence[ImageTruth], detections: Sequence[ImageDetections]
) -> tuple[Any, Any, float]:
    """Return a peer's two indices, and the seconds it took to build them from dictionaries."""
    annotations, found = as_coco(truths, detections)
    with quietly():
        began = time.perf_counter()
        truth = coco_class()
        truth.dataset = annotations
        truth.createIndex()
        result = truth.loadRes(found)
        return truth, result, time.perf_counter() - began


def coco_evaluator(evaluator_class: Any, truth: Any, result: Any, limit: int) -> Any:
    """Return a peer's evaluator that does no more than ours."""
    evaluator = evaluator_class(truth, result, "bbox")
    evaluator.params.iouThrs = np.array([0.5])
    evaluator.params.areaRng = [[0, 1e10]]
    evaluator.params.areaRngLbl = ["all"]
    evaluator.params.maxDets = [limit]
    return evaluator


def run_coco(evaluator: Any) -> Any:
    with quietly():
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator


def quietly() -> contextlib.redirect_stdout[io.StringIO]:
    return contextlib.redirect_stdout(io.StringIO())


def precision_at_101(evaluation: Evaluation) -> np.ndarray:
    """Return COCO's average precision by class, worked out from our curves."""
    values = []
    for result in evaluation.classes.values():
        envelope = np.append(np.maximum.accumulate(result.precision[::-1])[::-1], 0.0)
        values.append(envelope[np.searchsorted(result.recall, np.linspace(0, 1, 101))].mean())
    return np.array(values)


def seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without-pycocotools", action="store_true", help="it takes most of the time")
    given = parser.parse_args()

    import faster_coco_eval

    truths, found = scenes(given.images, given.detections)
    print(
        f"{given.images} images × {given.detections} detections, {len(CLASSES)} classes, "
        f"{sum(len(t.labels) for t in truths)} objects, IoU 0.5"
    )

    def ours() -> Evaluation:
        return evaluate_detections(truths, found, CLASSES, iou_threshold=0.5, mode="INTEGRATE")

    evaluation = ours()
    expected = precision_at_101(evaluation)
    fast_truth, fast_result, fast_load = loaded(faster_coco_eval.COCO, truths, found)
    times: dict[str, list[float]] = {"taomagic": [], "faster-coco-eval": []}
    for _ in range(given.repeats):  # in turn, so that another load meets both
        times["taomagic"].append(seconds(ours))
        fast = coco_evaluator(faster_coco_eval.COCOeval_faster, fast_truth, fast_result, given.detections)
        times["faster-coco-eval"].append(seconds(lambda fast=fast: run_coco(fast)))
    check("faster-coco-eval", fast.eval["precision"], expected)
    loads = {"faster-coco-eval": fast_load}

    if not given.without_pycocotools:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        truth, result, loads["pycocotools"] = loaded(COCO, truths, found)
        slow = coco_evaluator(COCOeval, truth, result, given.detections)
        times["pycocotools"] = [seconds(lambda: run_coco(slow))]
        check("pycocotools", slow.eval["precision"], expected)

    median = {name: statistics.median(values) for name, values in times.items()}
    for name, value in median.items():
        load = f", and {loads[name]:.2f} s to build its index" if name in loads else ""
        print(f"{name:<18}{value:8.3f} s   {value / median['taomagic']:6.1f} × ours{load}")


def check(name: str, precision: np.ndarray, expected: np.ndarray) -> None:
    """Stop where a peer finds another average precision; its array is [threshold, recall, class, area, limit]."""
    theirs = np.asarray(precision)[0, :, :, 0, 0].mean(axis=0)
    assert np.allclose(theirs, expected, atol=1e-9), (name, theirs, expected)
    print(f"{name}: the same AP@101 of each class, {' '.join(f'{v:.6f}' for v in theirs)}")


if __name__ == "__main__":
    main()
