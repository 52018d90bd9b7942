"""Matching and encoding against the rules written out in plain Python, one anchor and one object at a time."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from taomagic.engine.ssd.targets import BACKGROUND, NEUTRAL, match

VARIANCES = (0.1, 0.1, 0.2, 0.2)
#: Objects and anchors lie on a grid of 1/8, so that overlaps are exact and many are equal.
GRID = 8


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def encoded(box, anchor):
    (ax, ay), (aw, ah) = centre(anchor), size(anchor)
    (gx, gy), (gw, gh) = centre(box), size(box)
    v = VARIANCES
    return [
        (gx - ax) / (aw * v[0]),
        (gy - ay) / (ah * v[1]),
        math.log(gw / aw) / v[2],
        math.log(gh / ah) / v[3],
    ]


def centre(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def size(box):
    return box[2] - box[0], box[3] - box[1]


def slow_match(anchors, boxes, labels, pos, neg):
    """Return the class of every anchor of one image, and the object that it has to find (None: none)."""
    table = {(g, a): overlap(box, anchor) for g, box in enumerate(boxes) for a, anchor in enumerate(anchors)}
    owner = [None] * len(anchors)
    # Bipartite: the best pair of all, again and again; its object and its anchor are out of the game then.
    pairs = dict(table)
    while pairs:
        best = max(pairs, key=lambda pair: (pairs[pair], -pair[0], -pair[1]))
        if pairs[best] == 0.0:
            break
        owner[best[1]] = best[0]
        pairs = {(g, a): value for (g, a), value in pairs.items() if g != best[0] and a != best[1]}
    # Every anchor left takes its best object if near enough, or keeps out of it if not far enough.
    classes = [BACKGROUND] * len(anchors)
    for a in range(len(anchors)):
        if owner[a] is None and boxes:
            best = max(range(len(boxes)), key=lambda g, a=a: (table[g, a], -g))
            if table[best, a] >= pos:
                owner[a] = best
            elif table[best, a] >= neg:
                classes[a] = NEUTRAL
        if owner[a] is not None:
            classes[a] = labels[owner[a]]
    return classes, owner


@st.composite
def box_lists(draw, least, most):
    place, side = st.integers(0, GRID - 1), st.integers(1, GRID)
    corners = draw(st.lists(st.tuples(place, place, side, side), min_size=least, max_size=most))
    return [(x / GRID, y / GRID, min(x + w, GRID) / GRID, min(y + h, GRID) / GRID) for x, y, w, h in corners]


@st.composite
def batches(draw):
    """Anchors, and for some images their objects and class ids."""
    images = draw(st.lists(box_lists(0, 5), min_size=1, max_size=3))
    labels = [[draw(st.integers(1, 3)) for _ in boxes] for boxes in images]
    return draw(box_lists(1, 14)), images, labels


def padded(images, labels):
    """Return the images' objects as tensors, float64, with empty rows where an image has fewer than another."""
    most = max(map(len, images))
    boxes = torch.zeros(len(images), most, 4, dtype=torch.float64)
    ids = torch.zeros(len(images), most, dtype=torch.int64)
    for i, (image, of_image) in enumerate(zip(images, labels, strict=True)):
        if image:
            boxes[i, : len(image)] = torch.tensor(image, dtype=torch.float64)
            ids[i, : len(image)] = torch.tensor(of_image)
    return boxes, ids


# Among the limits are overlaps that occur on the grid, so that "or more" is seen.
@settings(max_examples=120, deadline=None)
@given(batches(), st.sampled_from([(0.5, 0.5), (0.5, 0.25), (1 / 3, 1 / 3), (0.75, 0.5)]))
def test_classes_and_offsets_of_a_batch_are_those_of_the_rules(batch, limits):
    anchors, images, labels = batch
    boxes, ids = padded(images, labels)
    targets = match(
        torch.tensor(anchors, dtype=torch.float64),
        boxes,
        ids,
        torch.tensor(VARIANCES, dtype=torch.float64),
        pos_iou_thresh=limits[0],
        neg_iou_thresh=limits[1],
    )
    for i, (image, of_image) in enumerate(zip(images, labels, strict=True)):
        classes, owner = slow_match(anchors, image, of_image, *limits)
        assert targets.classes[i].tolist() == classes
        for a, anchor in enumerate(anchors):
            expected = [0.0] * 4 if owner[a] is None else encoded(image[owner[a]], anchor)
            assert targets.offsets[i, a].tolist() == pytest.approx(expected, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(batches(), st.randoms(use_true_random=False))
def test_padding_and_the_place_in_the_batch_change_nothing(batch, random):
    anchors, images, labels = batch
    order = list(range(len(images)))
    random.shuffle(order)
    together = run(anchors, images, labels, extra=2)
    shuffled = run(anchors, [images[i] for i in order], [labels[i] for i in order])
    for place, i in enumerate(order):
        assert torch.equal(together.classes[i], shuffled.classes[place])
        assert torch.equal(together.offsets[i], shuffled.offsets[place])


def run(anchors, images, labels, extra=0):
    boxes, ids = padded(images, labels)
    boxes = torch.nn.functional.pad(boxes, (0, 0, 0, extra))
    ids = torch.nn.functional.pad(ids, (0, extra))
    variances = torch.tensor(VARIANCES, dtype=torch.float64)
    kind = torch.float64
    return match(
        torch.tensor(anchors, dtype=kind), boxes, ids, variances, pos_iou_thresh=0.5, neg_iou_thresh=0.4
    )


def test_an_object_whose_favourite_was_given_away_takes_its_second_choice():
    # Both objects like anchor 0 best, the first one more; the second gets anchor 1 at an overlap below the limit.
    anchors = [(0.0, 0.0, 0.5, 0.5), (0.25, 0.0, 1.0, 0.5)]
    images = [[(0.0, 0.0, 0.5, 0.5), (0.0, 0.0, 0.5, 0.375)]]
    assert slow_match(anchors, images[0], [1, 2], 0.5, 0.5)[1] == [0, 1]
    assert run(anchors, images, [[1, 2]]).classes.tolist() == [[1, 2]]


def test_an_object_that_overlaps_no_anchor_takes_none():
    # TAO's own matching gives such an object the first anchor, and takes the first object its own; that is a mistake.
    anchors = [(0.0, 0.0, 0.25, 0.25), (0.25, 0.25, 0.5, 0.5)]
    images = [[(0.0, 0.0, 0.25, 0.25), (0.75, 0.75, 1.0, 1.0)]]
    assert run(anchors, images, [[1, 2]]).classes.tolist() == [[1, BACKGROUND]]
