"""Matching of all images at once against one detection at a time, and against COCO's tools where they agree."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import coco, cocoeval

from taomagic.engine.evaluation import matching
from taomagic.engine.evaluation.average_precision import evaluate_detections
from taomagic.engine.evaluation.matching import ImageDetections, ImageTruth, match_detections

NAMES = ("car", "cyclist", "pedestrian")


def slow_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def slow_outcomes(truths, detections, label, threshold):
    """Return (score, right) of the detections of a class that count, and the number of objects to find."""
    outcomes, wanted = [], 0
    for truth, found in zip(truths, detections, strict=True):
        objects = [i for i in range(len(truth.labels)) if truth.labels[i] == label]
        wanted += sum(not truth.difficult[i] for i in objects)
        taken = set()
        mine = [i for i in range(len(found.labels)) if found.labels[i] == label]
        for i in sorted(mine, key=lambda i: -found.scores[i]):
            best, best_overlap = None, -1.0
            for j in objects:
                overlap = slow_iou(found.boxes[i], truth.boxes[j])
                if j not in taken and overlap > best_overlap:
                    best, best_overlap = j, overlap
            if best is None or best_overlap < threshold:
                outcomes.append((found.scores[i], False))
                continue
            taken.add(best)
            if not truth.difficult[best]:
                outcomes.append((found.scores[i], True))
    return sorted(outcomes, key=lambda outcome: -outcome[0]), wanted


def slow_average_precision(outcomes, wanted, mode):
    if wanted == 0:
        return 0.0
    points, right = [], 0
    for number, (_, hit) in enumerate(outcomes, start=1):
        right += hit
        points.append((right / wanted, right / number))
    if mode == "SAMPLE":
        recalls = [level / 10 for level in range(11)]
        return sum(max((p for r, p in points if r >= t), default=0.0) for t in recalls) / 11
    area, before = 0.0, 0.0
    for i, (recall, _) in enumerate(points):
        area += (recall - before) * max(p for _, p in points[i:])
        before = recall
    return area


@st.composite
def boxes(draw, count):
    """Boxes on a coarse grid: many of them overlap, and many overlap equally."""
    side = st.integers(1, 4)
    place = st.integers(0, 4)
    corners = [(draw(place), draw(place), draw(side), draw(side)) for _ in range(count)]
    return np.array([(x, y, x + w, y + h) for x, y, w, h in corners], dtype=float).reshape(-1, 4)


@st.composite
def validation_sets(draw, difficult=True):
    """Some images with objects and detections of three classes; few different scores, so that many are equal."""
    truths, found = [], []
    for _ in range(draw(st.integers(0, 5))):
        objects, detections = draw(st.integers(0, 5)), draw(st.integers(0, 8))
        label = st.integers(1, len(NAMES))
        hard = [difficult and draw(st.booleans()) for _ in range(objects)]
        truths.append(
            ImageTruth(
                draw(boxes(objects)),
                np.array([draw(label) for _ in range(objects)], dtype=np.int64),
                np.array(hard, dtype=bool),
            )
        )
        scores = np.array([draw(st.integers(1, 9)) / 10 for _ in range(detections)])
        labels = np.array([draw(label) for _ in range(detections)], dtype=np.int64)
        found.append(ImageDetections(draw(boxes(detections)), scores, labels))
    return truths, found


@settings(max_examples=200, deadline=None)
@given(validation_sets(), st.sampled_from([0.2, 0.5, 0.75, 1.0]), st.sampled_from([1, 7, 1 << 15]))
def test_all_images_at_once_give_what_one_detection_at_a_time_gives(images, threshold, block):
    truths, found = images
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(matching, "_BLOCK_PAIRS", block)
        matches = match_detections(truths, found, len(NAMES), threshold)
    for label in range(1, len(NAMES) + 1):
        outcomes, wanted = slow_outcomes(truths, found, label, threshold)
        mine = matches.labels == label
        assert matches.scores[mine].tolist() == [score for score, _ in outcomes]
        assert matches.hits[mine].tolist() == [hit for _, hit in outcomes]
        assert matches.objects[label] == wanted
    assert (np.diff(matches.scores) <= 0).all()


@settings(max_examples=150, deadline=None)
@given(validation_sets(), st.sampled_from([0.3, 0.5]), st.sampled_from(["SAMPLE", "INTEGRATE"]))
def test_average_precision_equals_the_slow_definition(images, threshold, mode):
    truths, found = images
    result = evaluate_detections(truths, found, NAMES, iou_threshold=threshold, mode=mode)
    expected = []
    for label, name in enumerate(NAMES, start=1):
        outcomes, wanted = slow_outcomes(truths, found, label, threshold)
        expected.append(slow_average_precision(outcomes, wanted, mode))
        assert result.classes[name].average_precision == pytest.approx(expected[-1], abs=1e-12)
        assert result.classes[name].objects == wanted
    assert result.mean_average_precision == pytest.approx(np.mean(expected), abs=1e-12)


def random_images(rng, images):
    """Return images without difficult objects in which no detection overlaps two objects equally."""
    truths, found = [], []
    for _ in range(images):
        count = int(rng.integers(0, 8))
        corners = rng.uniform(0, 60, (count, 2))
        objects = np.concatenate([corners, corners + rng.uniform(8, 40, (count, 2))], axis=1)
        labels = rng.integers(1, len(NAMES) + 1, count)
        source = rng.integers(0, max(1, count), 20 if count else 0)
        moved = objects[source] + rng.normal(0, 3, (len(source), 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        truths.append(ImageTruth(objects, labels, np.zeros(count, dtype=bool)))
        # Two decimals: some scores are equal, within images and across them.
        scores = np.round(rng.uniform(0.01, 1, len(source)), 2)
        found.append(ImageDetections(moved, scores, rng.permutation(labels[source])))
    return truths, found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.5, 0.75])
def test_hits_and_precision_equal_those_of_pycocotools_where_the_definitions_agree(seed, threshold):
    # They agree on one overlap threshold, one range of areas and at most 100 detections of a class in an image,
    # without difficult objects (COCO prefers another object to an ignored one) and without a detection that overlaps
    # two objects equally (COCO takes the last, we the first). COCO samples the curve at 101 recalls.
    truths, found = random_images(np.random.default_rng(seed), 30)
    objects = [
        {"image_id": image, "category_id": int(label), "bbox": xywh(box), "area": 1.0, "iscrowd": 0}
        for image, one in enumerate(truths)
        for box, label in zip(one.boxes, one.labels, strict=True)
    ]
    annotations = {
        "info": {},
        "images": [{"id": image} for image in range(len(truths))],
        "categories": [{"id": number} for number in (1, 2, 3)],
        "annotations": [{**each, "id": number} for number, each in enumerate(objects, start=1)],
    }
    detections = [
        {"image_id": image, "category_id": int(label), "bbox": xywh(box), "score": float(score)}
        for image, one in enumerate(found)
        for box, score, label in zip(one.boxes, one.scores, one.labels, strict=True)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = annotations
        truth.createIndex()
        evaluator = cocoeval.COCOeval(truth, truth.loadRes(detections), "bbox")
        evaluator.params.iouThrs, evaluator.params.maxDets = np.array([threshold]), [100]
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.evaluate()
        evaluator.accumulate()

    matches = match_detections(truths, found, len(NAMES), threshold)
    assert matches.hits.any()
    assert not matches.hits.all()
    curves = evaluate_detections(truths, found, NAMES, iou_threshold=threshold, mode="SAMPLE")
    for label, name in enumerate(NAMES, start=1):
        theirs = [one for one in evaluator.evalImgs if one and one["category_id"] == label]
        scores = np.concatenate([one["dtScores"] for one in theirs])
        hits = np.concatenate([one["dtMatches"][0] > 0 for one in theirs])
        order = np.argsort(-scores, kind="stable")
        mine = matches.labels == label
        assert matches.scores[mine].tolist() == scores[order].tolist()
        assert matches.hits[mine].tolist() == hits[order].tolist()
        curve = curves.classes[name]
        envelope = np.append(np.maximum.accumulate(curve.precision[::-1])[::-1], 0.0)
        sampled = envelope[np.searchsorted(curve.recall, evaluator.params.recThrs)]
        assert sampled == pytest.approx(evaluator.eval["precision"][0, :, label - 1, 0, 0], abs=1e-12)


def xywh(box):
    return [float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]


def test_endless_boxes_of_a_diverged_network_find_nothing():
    truth = ImageTruth(np.array([[0.0, 0, 10, 10]]), np.array([1]), np.array([False]))
    wild = np.array([[-np.inf, -np.inf, np.inf, np.inf], [np.nan, 0, 10, 10], [-1e200, -1e200, 1e200, 1e200]])
    matches = match_detections(
        [truth], [ImageDetections(wild, np.array([0.9, 0.8, 0.7]), np.array([1, 1, 1]))], 1, 0.5
    )
    assert matches.hits.tolist() == [False, False, False]


def test_detections_of_other_images_than_the_objects_are_refused():
    truth = ImageTruth(np.empty((0, 4)), np.empty(0, np.int64), np.empty(0, bool))
    with pytest.raises(ValueError, match="1 images have objects listed, 0"):
        match_detections([truth], [], 1, 0.5)
