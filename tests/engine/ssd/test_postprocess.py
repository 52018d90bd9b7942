"""From raw predictions to detections, against the rules written out for one box at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.engine.ssd.postprocess import detect, select_detections
from taomagic.spec.settings import NMSSettings

SIZE = (48, 96)  # height, width


def nms_settings(confidence=0.1, iou=0.45, top_k=5):
    return NMSSettings(confidence, iou, top_k, infer_nms_score_bits=0)


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if not (width > 0 and height > 0):
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def slow_selection(probabilities, boxes, limits):
    """Return (anchor, class id) of the detections: the best of a class first, and what overlaps it is dropped."""
    chosen = []
    for label in range(1, probabilities.shape[1]):
        left = [a for a in range(len(boxes)) if probabilities[a, label] > limits.confidence_threshold]
        left.sort(key=lambda a, label=label: -probabilities[a, label])
        kept = []
        for a in left:
            if len(kept) < limits.top_k and all(
                overlap(boxes[k], boxes[a]) <= limits.clustering_iou_threshold for k in kept
            ):
                kept.append(a)
        chosen += [(a, label) for a in kept]
    chosen.sort(key=lambda place: -probabilities[place])
    return chosen[: limits.top_k]


@st.composite
def predictions(draw):
    """Boxes on a grid (overlaps that are exact) and probabilities of few values (many are equal)."""
    count, classes = draw(st.integers(0, 25)), draw(st.integers(2, 4))
    place, side = st.integers(0, 5), st.integers(1, 4)
    corners = [(draw(place), draw(place), draw(side), draw(side)) for _ in range(count)]
    boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in corners], np.float32).reshape(-1, 4)
    values = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.9])
    table = [[draw(values) for _ in range(classes)] for _ in range(count)]
    return np.array(table, np.float32).reshape(count, classes), boxes


@settings(max_examples=120, deadline=None)
@given(predictions(), st.sampled_from([0.2, 0.5]), st.sampled_from([0.25, 0.5]), st.integers(1, 8))
def test_what_is_kept_of_each_class_and_in_all_is_what_the_rules_keep(raw, confidence, iou, top_k):
    probabilities, boxes = raw
    limits = nms_settings(confidence, iou, top_k)
    found = select_detections(probabilities, boxes, limits)
    expected = slow_selection(probabilities, boxes, limits)
    assert found.labels.tolist() == [label for _, label in expected]
    assert found.scores.tolist() == [probabilities[place] for place in expected]
    assert found.boxes.tolist() == [boxes[a].tolist() for a, _ in expected]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_a_batch_is_decoded_and_selected_image_by_image(seed, images):
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(40, 2, generator=random) * 0.7
    anchors = torch.cat([corner, corner + 0.05 + 0.3 * torch.rand(40, 2, generator=random)], dim=1)
    scores = torch.randn(images, 40, 3, generator=random) * 2
    offsets = torch.randn(images, 40, 4, generator=random)
    variances = torch.tensor([0.1, 0.1, 0.2, 0.2])
    limits = nms_settings(top_k=10)
    found = detect(scores, offsets, anchors, variances, SIZE, limits)
    assert len(found) == images
    for image, detections in enumerate(found):
        probabilities = np.array([softmax(row) for row in scores[image].tolist()])
        boxes = [decoded(o, a) for o, a in zip(offsets[image].tolist(), anchors.tolist(), strict=True)]
        expected = slow_selection(probabilities, boxes, limits)
        assert detections.labels.tolist() == [label for _, label in expected]
        assert detections.scores.tolist() == pytest.approx([probabilities[p] for p in expected], abs=1e-5)
        for box, (anchor, _) in zip(detections.boxes, expected, strict=True):
            assert box.tolist() == pytest.approx(boxes[anchor], abs=1e-3)


def softmax(row):
    exponents = [math.exp(v - max(row)) for v in row]
    return [v / sum(exponents) for v in exponents]


def decoded(offset, anchor):
    """Undo the encoding of one box and return its corners in pixels."""
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x = (anchor[0] + anchor[2]) / 2 + offset[0] * 0.1 * width
    y = (anchor[1] + anchor[3]) / 2 + offset[1] * 0.1 * height
    w, h = math.exp(offset[2] * 0.2) * width, math.exp(offset[3] * 0.2) * height
    return [(x - w / 2) * SIZE[1], (y - h / 2) * SIZE[0], (x + w / 2) * SIZE[1], (y + h / 2) * SIZE[0]]


def test_more_boxes_than_are_compared_at_once_and_fewer_than_the_limit():
    # Copies of three boxes, 300 of each: one of each is left, however the candidates are cut into blocks.
    boxes = np.tile(np.array([[0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]], np.float32), (300, 1))
    scores = np.linspace(0.2, 0.8, len(boxes), dtype=np.float32)
    found = select_detections(np.stack([1 - scores, scores], axis=1), boxes, nms_settings(top_k=200))
    assert found.scores.tolist() == scores[::-1][:3].tolist()


def test_a_diverged_network_gives_no_detection_that_is_no_number_and_no_error():
    probabilities = np.array([[np.nan, np.nan], [0.1, 0.9], [0.2, 0.8]], np.float32)
    boxes = np.array([[0, 0, 9, 9], [-np.inf, 0, np.inf, 9], [np.nan, 0, 9, 9]], np.float32)
    found = select_detections(probabilities, boxes, nms_settings())
    assert found.scores.tolist() == probabilities[1:, 1].tolist()
    nothing = torch.full((1, 4, 3), float("nan"))
    anchors = torch.tensor([[0.0, 0.0, 0.5, 0.5]]).repeat(4, 1)
    variances = torch.tensor([0.1, 0.1, 0.2, 0.2])
    assert [
        len(d) for d in detect(nothing, torch.zeros(1, 4, 4), anchors, variances, SIZE, nms_settings())
    ] == [0]


def test_scores_below_a_threshold_are_left_out_and_the_threshold_itself_is_kept():
    probabilities = np.array([[0.7, 0.3], [0.8, 0.2]], np.float32)
    boxes = np.array([[0, 0, 9, 9], [20, 0, 29, 9]], np.float32)
    found = select_detections(probabilities, boxes, nms_settings(confidence=0.1))
    assert len(found) == 2
    assert len(found.at_least(0.3)) == 1
    assert len(select_detections(probabilities, boxes, nms_settings(confidence=0.2))) == 1
